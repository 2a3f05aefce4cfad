//! Trackers that stand in for each other: whose turn it is, when, and what it is told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::announcer::{AnnouncerOutput, RequestId};
use super::{AnnounceEvent, AnnounceReply, TrackerFault, TrackerState};
use crate::Rng;

/// One tier of a torrent's trackers.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) trackers: Vec<Tracker>,
    /// Which of them is to be asked.
    pub(super) current: usize,
    /// When; `None` if an answer is awaited, or all is said.
    pub(super) next_at: Option<Instant>,
    pub(super) asking: Option<(RequestId, usize, AnnounceEvent)>,
    /// It has been told that we began, and not that we ended.
    pub(super) knows_us: bool,
    /// What it is being told of us is no longer so.
    pub(super) has_moved: bool,
    pub(super) owes_completed: bool,
    pub(super) owes_stopped: bool,
}

#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    pub(super) state: TrackerState,
    pub(super) failures: u32,
    pub(super) last_error: Option<String>,
    pub(super) warning: Option<String>,
    pub(super) counts: (Option<u32>, Option<u32>),
    tracker_id: Option<Vec<u8>>,
    /// It wants to be left in peace until then.
    pub(super) not_before: Option<Instant>,
    pub(super) is_hopeless: bool,
    pub(super) is_scraping: bool,
}

impl Tier {
    /// `None` without a tracker.
    pub(super) fn new(mut urls: Vec<String>, rng: &mut Rng) -> Option<Self> {
        rng.shuffle(&mut urls);
        let trackers: Vec<Tracker> = urls.into_iter().map(Tracker::new).collect();
        (!trackers.is_empty()).then_some(Self {
            trackers,
            current: 0,
            next_at: None,
            asking: None,
            knows_us: false,
            has_moved: false,
            owes_completed: false,
            owes_stopped: false,
        })
    }

    /// What it is asked next, unless none of its trackers can be.
    pub(super) fn ask(&mut self, id: RequestId, is_running: bool) -> Option<AnnouncerOutput> {
        let event = if self.knows_us && self.owes_completed {
            AnnounceEvent::Completed
        } else if !is_running {
            AnnounceEvent::Stopped
        } else if !self.knows_us {
            AnnounceEvent::Started
        } else {
            AnnounceEvent::None
        };
        self.next_at = None;
        if self.trackers.iter().all(|tracker| tracker.is_hopeless) {
            self.owes_stopped = false;
            return None;
        }
        while self.trackers[self.current].is_hopeless {
            self.current = (self.current + 1) % self.trackers.len();
        }
        let tracker = &self.trackers[self.current];
        self.asking = Some((id, self.current, event));
        Some(AnnouncerOutput::Announce {
            id,
            url: tracker.url.clone(),
            event,
            tracker_id: tracker.tracker_id.clone(),
            numwant: (event == AnnounceEvent::Stopped).then_some(0),
        })
    }

    /// Returns the peers that were named.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        at: usize,
        event: AnnounceEvent,
        reply: AnnounceReply,
        jitter: f64,
    ) -> Vec<SocketAddr> {
        // BEP 12: what works moves to the front.
        let tracker = self.trackers.remove(at);
        self.trackers.insert(0, tracker);
        self.current = 0;
        let tracker = &mut self.trackers[0];
        (tracker.state, tracker.failures, tracker.last_error) = (TrackerState::Working, 0, None);
        tracker.warning = reply.warning;
        tracker.counts =
            (reply.complete.or(tracker.counts.0), reply.incomplete.or(tracker.counts.1));
        tracker.tracker_id = reply.tracker_id.or_else(|| tracker.tracker_id.take());
        let shortest = reply.min_interval.unwrap_or_default();
        tracker.not_before = Some(now + shortest.clamp(INTERVAL_MIN, INTERVAL_MAX));
        let interval = reply.interval.max(shortest).clamp(INTERVAL_MIN, INTERVAL_MAX);
        self.next_at = Some(now + interval.mul_f64(jitter));
        match event {
            AnnounceEvent::Started => self.knows_us = true,
            AnnounceEvent::Completed => self.owes_completed = false,
            AnnounceEvent::Stopped => (self.knows_us, self.owes_stopped) = (false, false),
            AnnounceEvent::None | AnnounceEvent::Paused => {}
        }
        if self.owes_completed {
            self.next_at = Some(now);
        }
        reply.peers
    }

    /// A tracker did not answer, or said no: the next one's turn, or a wait.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        at: usize,
        event: AnnounceEvent,
        fault: &TrackerFault,
    ) {
        let tracker = &mut self.trackers[at];
        tracker.state = TrackerState::Failing;
        tracker.failures = tracker.failures.saturating_add(1);
        tracker.last_error = Some(fault.to_string());
        tracker.is_hopeless = *fault == TrackerFault::UnsupportedScheme;
        self.current = (at + 1) % self.trackers.len();
        if event == AnnounceEvent::Stopped {
            // We tried.
            (self.knows_us, self.owes_stopped) = (false, false);
            return;
        }
        // The next of the tier at once; when all have failed, later and later.
        let fewest = self
            .trackers
            .iter()
            .filter(|tracker| !tracker.is_hopeless)
            .map(|tracker| tracker.failures)
            .min();
        let Some(fewest) = fewest else { return };
        let is_round_over = fewest >= self.trackers[at].failures;
        let wait = match fewest.checked_sub(1) {
            Some(doublings) if is_round_over => BACKOFF_FIRST
                .saturating_mul(2_u32.saturating_pow(doublings.min(10)))
                .min(BACKOFF_MAX),
            _ => Duration::ZERO,
        };
        self.next_at = Some(now + wait);
    }
}

impl Tracker {
    const fn new(url: String) -> Self {
        Self {
            url,
            state: TrackerState::Unasked,
            failures: 0,
            last_error: None,
            warning: None,
            counts: (None, None),
            tracker_id: None,
            not_before: None,
            is_hopeless: false,
            is_scraping: false,
        }
    }
}

const INTERVAL_MIN: Duration = Duration::from_secs(60);
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
