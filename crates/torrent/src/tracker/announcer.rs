//! When to ask which tracker of a torrent ([BEP 12]).
//!
//! Each tier is asked by itself, at its own intervals. Within a tier the trackers stand in for each
//! other: the first that works is asked, and moves to the front. Events are told exactly once: `started`
//! to each tier when we begin, `completed` if the download ended while we ran, `stopped` to those that
//! know of us.
//!
//! [BEP 12]: https://www.bittorrent.org/beps/bep_0012.html

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::tier::{Tier, Tracker};
use super::{AnnounceEvent, AnnounceReply, ScrapeEntry, TrackerFault};
use crate::Rng;

/// One torrent's trackers.
#[derive(Debug)]
pub struct Announcer {
    tiers: Vec<Tier>,
    is_running: bool,
    next_id: u64,
    outputs: VecDeque<AnnouncerOutput>,
    rng: Rng,
}

/// A question to a tracker, until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncerOutput {
    /// Announce; then [`Announcer::handle_reply`]. How much has been sent and received is for the caller
    /// to add.
    Announce {
        /// To be given back with the answer.
        id: RequestId,
        /// The tracker.
        url: String,
        /// What to tell it.
        event: AnnounceEvent,
        /// What it asked us to repeat.
        tracker_id: Option<Vec<u8>>,
        /// How many addresses to ask for.
        numwant: Option<u32>,
    },
    /// Ask how many peers there are; then [`Announcer::handle_scrape`].
    Scrape {
        /// The tracker.
        url: String,
    },
    /// These peers were named.
    Peers(Vec<SocketAddr>),
}

/// How a tracker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerState {
    /// It has not been asked.
    Unasked,
    /// It is being asked.
    Asking,
    /// It answered the last time.
    Working,
    /// It did not.
    Failing,
}

/// A tracker as people see it.
#[derive(Clone, Debug)]
pub struct TrackerStatus {
    /// Where it is.
    pub url: String,
    /// Which tier it is of, counted from 0.
    pub tier: usize,
    /// How it does.
    pub state: TrackerState,
    /// Why it fails, if it does.
    pub last_error: Option<String>,
    /// What it wants people to know.
    pub warning: Option<String>,
    /// Peers that have everything, by its count.
    pub seeds: Option<u32>,
    /// Peers that do not.
    pub leechers: Option<u32>,
    /// It is being asked for these counts.
    pub is_scraping: bool,
    /// When it will be asked next.
    pub next_announce: Option<Instant>,
}

impl Announcer {
    /// Trackers in tiers. Each tier is shuffled once, to share the load.
    pub fn new(tiers: Vec<Vec<String>>, mut rng: Rng) -> Self {
        let tiers = tiers.into_iter().filter_map(|urls| Tier::new(urls, &mut rng)).collect();
        Self { tiers, is_running: false, next_id: 0, outputs: VecDeque::new(), rng }
    }

    /// One more tier, the last.
    pub fn add_tier(&mut self, now: Instant, urls: Vec<String>) {
        if let Some(tier) = Tier::new(urls, &mut self.rng) {
            let next_at = self.is_running.then_some(now);
            self.tiers.push(Tier { next_at, ..tier });
        }
    }

    /// Only the first `count` tiers stay. The others are told that we end, if they may know of us, and nothing more.
    pub fn keep_tiers(&mut self, count: usize) {
        for mut tier in self.tiers.split_off(count.min(self.tiers.len())) {
            if tier.knows_us || tier.asking.is_some() {
                tier.owes_completed = false;
                let id = RequestId(self.next_id);
                self.next_id += 1;
                self.outputs.extend(tier.ask(id, false));
            }
        }
    }

    /// We begin: every tier is told.
    pub fn start(&mut self, now: Instant) {
        self.is_running = true;
        for tier in &mut self.tiers {
            tier.owes_stopped = false;
            tier.next_at = Some(now);
        }
    }

    /// We end: every tier that knows of us is told.
    pub fn stop(&mut self, now: Instant) {
        self.is_running = false;
        for tier in &mut self.tiers {
            tier.owes_stopped = tier.knows_us
                || tier.asking.is_some_and(|(_, _, event)| event == AnnounceEvent::Started);
            tier.next_at = (tier.owes_stopped && tier.asking.is_none()).then_some(now);
        }
    }

    /// Whether it was started, and not stopped since.
    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Everything has arrived. Say it only if it was not all there from the start.
    pub fn completed(&mut self, now: Instant) {
        if !self.is_running {
            return;
        }
        for tier in &mut self.tiers {
            tier.owes_completed = true;
            if tier.asking.is_none() {
                tier.next_at = Some(now);
            }
        }
    }

    /// A person, or a want of peers, asks for an announce now; not before the tracker allows it. One
    /// that fails, or was not asked yet, is asked when its turn comes.
    pub fn announce_now(&mut self, now: Instant) {
        for tier in self.tiers.iter_mut().filter(|tier| tier.asking.is_none()) {
            let tracker = &tier.trackers[tier.current];
            if tracker.state != TrackerState::Working {
                continue;
            }
            let earliest = tracker.not_before.map_or(now, |at| at.max(now));
            tier.next_at = tier.next_at.map(|at| at.min(earliest));
        }
    }

    /// We are to be found elsewhere now: whoever knows of us is told at once, whatever time it asked for, and
    /// who is being asked, when it has answered.
    pub fn moved(&mut self, now: Instant) {
        for tier in self.tiers.iter_mut() {
            tier.has_moved = tier.asking.is_some();
            if tier.knows_us && tier.asking.is_none() {
                tier.next_at = tier.next_at.map(|_| now);
            }
        }
    }

    /// Whether an answer is awaited, or something is still to be said.
    pub fn is_busy(&self) -> bool {
        self.tiers.iter().any(|tier| tier.asking.is_some() || tier.owes_stopped)
    }

    /// The answer to an announce.
    pub fn handle_reply(
        &mut self,
        now: Instant,
        id: RequestId,
        reply: Result<AnnounceReply, TrackerFault>,
    ) {
        let is_it = |tier: &&mut Tier| tier.asking.is_some_and(|(asked, _, _)| asked == id);
        let Some(tier) = self.tiers.iter_mut().find(is_it) else { return };
        let Some((_, at, event)) = tier.asking.take() else { return };
        match reply {
            Ok(reply) => {
                let jitter = 0.95 + self.rng.below(1000) as f64 / 10_000.0;
                let is_uncounted = reply.complete.is_none() && self.is_running;
                let peers = tier.answered(now, at, event, reply, jitter);
                if self.is_running && !peers.is_empty() {
                    self.outputs.push_back(AnnouncerOutput::Peers(peers));
                }
                let tracker = &mut tier.trackers[tier.current];
                if is_uncounted && !std::mem::replace(&mut tracker.is_scraping, true) {
                    self.outputs.push_back(AnnouncerOutput::Scrape { url: tracker.url.clone() });
                }
            }
            Err(fault) => tier.failed(now, at, event, &fault),
        }
        let has_moved = std::mem::take(&mut tier.has_moved);
        if self.is_running && (event == AnnounceEvent::Stopped || has_moved) {
            // We went on before the tracker had taken our leave, or moved: it has to hear of us again.
            tier.next_at = Some(now);
        }
        if !self.is_running {
            // One try is enough.
            tier.owes_completed &= event != AnnounceEvent::Completed;
            // What was under way when we stopped may have told it of us.
            tier.owes_stopped = tier.knows_us && event != AnnounceEvent::Stopped;
            tier.knows_us &= tier.owes_stopped;
            tier.next_at = tier.owes_stopped.then_some(now);
        }
    }

    /// Someone wants to know how many peers there are: asks every tracker that we do not wait for.
    pub fn scrape(&mut self) {
        let trackers = self.tiers.iter_mut().flat_map(|tier| &mut tier.trackers);
        for tracker in trackers.filter(|tracker| !tracker.is_hopeless && !tracker.is_scraping) {
            tracker.is_scraping = true;
            self.outputs.push_back(AnnouncerOutput::Scrape { url: tracker.url.clone() });
        }
    }

    /// The answer to a scrape, of the tracker at `url`. That it fails says nothing of announces: many
    /// trackers do not count.
    pub fn handle_scrape(&mut self, url: &str, answer: Result<ScrapeEntry, TrackerFault>) {
        let trackers = self.tiers.iter_mut().flat_map(|tier| &mut tier.trackers);
        for tracker in trackers.filter(|tracker| tracker.url == url) {
            tracker.is_scraping = false;
            match &answer {
                Ok(counts) => tracker.counts = (Some(counts.complete), Some(counts.incomplete)),
                Err(fault) if tracker.state == TrackerState::Unasked => {
                    tracker.last_error = Some(fault.to_string());
                }
                Err(_) => {}
            }
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self, now: Instant) -> Option<AnnouncerOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        for tier in &mut self.tiers {
            if tier.asking.is_none() && tier.next_at.is_some_and(|at| now >= at) {
                let id = RequestId(self.next_id);
                self.next_id += 1;
                if let Some(output) = tier.ask(id, self.is_running) {
                    return Some(output);
                }
            }
        }
        None
    }

    /// When to call [`poll_output`](Self::poll_output) again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tiers.iter().filter(|tier| tier.asking.is_none()).filter_map(|tier| tier.next_at).min()
    }

    /// Every tracker, for people to look at.
    pub fn status(&self) -> Vec<TrackerStatus> {
        let tier = |(index, tier): (usize, &Tier)| {
            let status = |(at, tracker): (usize, &Tracker)| TrackerStatus {
                url: tracker.url.clone(),
                tier: index,
                state: match tier.asking {
                    Some((_, asked, _))
                        if asked == at && tracker.state != TrackerState::Working =>
                    {
                        TrackerState::Asking
                    }
                    _ => tracker.state,
                },
                last_error: tracker.last_error.clone(),
                warning: tracker.warning.clone(),
                seeds: tracker.counts.0,
                leechers: tracker.counts.1,
                is_scraping: tracker.is_scraping,
                next_announce: tier.next_at.filter(|_| at == tier.current),
            };
            tier.trackers.iter().enumerate().map(status).collect::<Vec<_>>()
        };
        self.tiers.iter().enumerate().flat_map(tier).collect()
    }

    /// How often a tracker has failed since it last answered.
    pub fn failures(&self, url: &str) -> u32 {
        let mut trackers = self.tiers.iter().flat_map(|tier| &tier.trackers);
        trackers.find(|tracker| tracker.url == url).map_or(0, |tracker| tracker.failures)
    }
}
