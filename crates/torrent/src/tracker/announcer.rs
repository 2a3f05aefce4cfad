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
use std::time::{Duration, Instant};

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

#[derive(Debug)]
struct Tier {
    trackers: Vec<Tracker>,
    /// Which of them is to be asked.
    current: usize,
    /// When; `None` if an answer is awaited, or all is said.
    next_at: Option<Instant>,
    asking: Option<(RequestId, usize, AnnounceEvent)>,
    /// It has been told that we began, and not that we ended.
    knows_us: bool,
    /// What it is being told of us is no longer so.
    has_moved: bool,
    owes_completed: bool,
    owes_stopped: bool,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    state: TrackerState,
    failures: u32,
    last_error: Option<String>,
    warning: Option<String>,
    counts: (Option<u32>, Option<u32>),
    tracker_id: Option<Vec<u8>>,
    /// It wants to be left in peace until then.
    not_before: Option<Instant>,
    is_hopeless: bool,
    is_scraping: bool,
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
            tier.owes_completed = false;
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

impl Tier {
    /// `None` without a tracker.
    fn new(mut urls: Vec<String>, rng: &mut Rng) -> Option<Self> {
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

    fn ask(&mut self, id: RequestId, is_running: bool) -> Option<AnnouncerOutput> {
        let event = if !is_running {
            AnnounceEvent::Stopped
        } else if !self.knows_us {
            AnnounceEvent::Started
        } else if self.owes_completed {
            AnnounceEvent::Completed
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
    fn answered(
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

    fn failed(&mut self, now: Instant, at: usize, event: AnnounceEvent, fault: &TrackerFault) {
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
const BACKOFF_FIRST: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    fn announcer(tiers: &[&[&str]]) -> Announcer {
        let tiers =
            tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect();
        Announcer::new(tiers, Rng::from_seed(3))
    }

    fn asked(
        announcer: &mut Announcer,
        now: Instant,
    ) -> Option<(RequestId, String, AnnounceEvent)> {
        loop {
            match announcer.poll_output(now)? {
                AnnouncerOutput::Announce { id, url, event, .. } => return Some((id, url, event)),
                AnnouncerOutput::Peers(_) | AnnouncerOutput::Scrape { .. } => {}
            }
        }
    }

    fn ok(interval: u64) -> Result<AnnounceReply, TrackerFault> {
        Ok(AnnounceReply { interval: Duration::from_secs(interval), ..AnnounceReply::default() })
    }

    #[test]
    fn going_on_while_the_leave_is_under_way_begins_anew() {
        for leave in [ok(1800), Err(TrackerFault::Silent)] {
            let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
            announcer.start(now);
            let (id, _, _) = asked(&mut announcer, now).expect("due");
            announcer.handle_reply(now, id, ok(1800));
            announcer.stop(now);
            let (id, _, event) = asked(&mut announcer, now).expect("due");
            assert_eq!(event, AnnounceEvent::Stopped);
            announcer.start(now);
            announcer.handle_reply(now, id, leave);
            let (_, _, event) = asked(&mut announcer, now).expect("due at once");
            assert_eq!(event, AnnounceEvent::Started);
        }
    }

    #[test]
    fn a_whole_life_tells_each_event_once() {
        let (mut announcer, mut now) = (announcer(&[&["a"]]), epoch());
        assert_eq!(announcer.poll_timeout(), None);
        announcer.start(now);
        let mut events = Vec::new();
        for step in 0..4 {
            let (id, _, event) = asked(&mut announcer, now).expect("due");
            events.push(event);
            assert_eq!(asked(&mut announcer, now), None, "one at a time");
            announcer.handle_reply(now, id, ok(1800));
            if step == 1 {
                announcer.completed(now);
            } else {
                now = announcer.poll_timeout().expect("again");
            }
        }
        announcer.stop(now);
        let (id, _, event) = asked(&mut announcer, now).expect("due");
        events.push(event);
        assert!(announcer.is_busy());
        announcer.handle_reply(now, id, ok(1800));
        assert!(!announcer.is_busy());
        assert_eq!(announcer.poll_timeout(), None);
        use AnnounceEvent as Event;
        assert_eq!(
            events,
            [Event::Started, Event::None, Event::Completed, Event::None, Event::Stopped]
        );
    }

    #[test]
    fn intervals_are_kept_within_reason() {
        for (said, low, high) in [(1800, 1700, 1900), (0, 55, 65), (u64::MAX, 80_000, 100_000)] {
            let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
            announcer.start(now);
            let (id, ..) = asked(&mut announcer, now).expect("due");
            announcer.handle_reply(now, id, ok(said));
            let wait = (announcer.poll_timeout().expect("again") - now).as_secs();
            assert!((low..=high).contains(&wait), "{said}: {wait}");
        }
    }

    #[test]
    fn within_a_tier_the_next_stands_in_and_stays() {
        let (mut announcer, now) = (announcer(&[&["a", "b", "c"]]), epoch());
        announcer.start(now);
        let (id, first, _) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, id, Err(TrackerFault::Silent));
        let (id, second, event) = asked(&mut announcer, now).expect("at once");
        assert_eq!(event, AnnounceEvent::Started);
        assert_ne!(first, second);
        announcer.handle_reply(now, id, ok(1800));
        let status = announcer.status();
        assert_eq!(
            (status[0].url.as_str(), status[0].state),
            (second.as_str(), TrackerState::Working)
        );
        let again = announcer.poll_timeout().expect("again");
        assert_eq!(asked(&mut announcer, again).expect("due").1, second);
    }

    #[test]
    fn tiers_keep_their_order_and_within_one_the_order_is_drawn_once() {
        let tiers = [vec!["a", "b", "c", "d"], vec!["e", "f"]];
        let given: Vec<Vec<String>> = tiers
            .iter()
            .map(|tier| tier.iter().map(|&url| format!("http://{url}/announce")).collect())
            .collect();
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..1000 {
            let announcer = Announcer::new(given.clone(), Rng::from_seed(seed));
            let listed = |announcer: &Announcer| -> Vec<(usize, String)> {
                announcer.status().into_iter().map(|status| (status.tier, status.url)).collect()
            };
            let order = listed(&announcer);
            assert!(order.is_sorted_by_key(|(tier, _)| *tier));
            for (tier, urls) in given.iter().enumerate() {
                let mut found: Vec<&String> =
                    order.iter().filter(|(of, _)| *of == tier).map(|(_, url)| url).collect();
                found.sort();
                assert!(found.into_iter().eq(urls), "tier {tier} of seed {seed}");
            }
            assert_eq!(listed(&announcer), order);
            orders.insert(order);
        }
        assert_eq!(orders.len(), 24 * 2, "every order comes up");
    }

    #[test]
    fn when_all_of_a_tier_fail_it_waits_longer_each_round() {
        let (mut announcer, mut now) = (announcer(&[&["a", "b"]]), epoch());
        announcer.start(now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let (id, ..) = asked(&mut announcer, now).expect("due");
            announcer.handle_reply(now, id, Err(TrackerFault::Silent));
            let at = announcer.poll_timeout().expect("again");
            waits.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(waits, [0, 30, 0, 60, 0, 120, 0, 240, 0, 480, 0, 960]);
    }

    #[test]
    fn tiers_are_asked_side_by_side() {
        let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
        announcer.start(now);
        let urls: Vec<String> =
            std::iter::from_fn(|| asked(&mut announcer, now)).map(|(_, url, _)| url).collect();
        assert_eq!(urls, ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_asked_is_not_asked_again() {
        let (mut announcer, now) = (announcer(&[&["wss://x"]]), epoch());
        announcer.start(now);
        let (id, ..) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, id, Err(TrackerFault::UnsupportedScheme));
        assert_eq!((announcer.poll_timeout(), announcer.is_busy()), (None, false));
        announcer.stop(now);
        assert!(!announcer.is_busy());
    }

    #[test]
    fn only_who_knows_of_us_hears_that_we_stop() {
        let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
        announcer.start(now);
        let (a, ..) = asked(&mut announcer, now).expect("due");
        let (b, ..) = asked(&mut announcer, now).expect("due");
        announcer.handle_reply(now, a, Err(TrackerFault::Silent));
        announcer.stop(now);
        assert_eq!(asked(&mut announcer, now), None);
        announcer.handle_reply(now, b, ok(1800));
        let (id, url, event) = asked(&mut announcer, now).expect("it heard of us meanwhile");
        assert_eq!((url.as_str(), event), ("b", AnnounceEvent::Stopped));
        announcer.handle_reply(now, id, Err(TrackerFault::Silent));
        assert!(!announcer.is_busy());
    }

    #[test]
    fn impatience_respects_the_tracker() {
        let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
        announcer.start(now);
        let (id, ..) = asked(&mut announcer, now).expect("due");
        let reply = AnnounceReply {
            interval: Duration::from_secs(1800),
            min_interval: Some(Duration::from_secs(300)),
            peers: vec!["10.0.0.1:1".parse().expect("valid")],
            ..AnnounceReply::default()
        };
        announcer.handle_reply(now, id, Ok(reply.clone()));
        assert_eq!(announcer.poll_output(now), Some(AnnouncerOutput::Peers(reply.peers)));
        announcer.announce_now(now);
        assert_eq!(announcer.poll_timeout(), Some(now + Duration::from_secs(300)));
    }

    #[test]
    fn whoever_knows_of_us_is_told_at_once_that_we_are_elsewhere() {
        let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
        announcer.start(now);
        let (first, ..) = asked(&mut announcer, now).expect("asked");
        let (second, ..) = asked(&mut announcer, now).expect("asked");
        let reply = AnnounceReply {
            interval: Duration::from_secs(900),
            min_interval: Some(Duration::from_secs(900)),
            ..AnnounceReply::default()
        };
        announcer.handle_reply(now, first, Ok(reply.clone()));
        announcer.moved(now);
        let again = asked(&mut announcer, now).expect("asked");
        assert_eq!((again.1.as_str(), again.2), ("a", AnnounceEvent::None));
        announcer.handle_reply(now, second, Ok(reply.clone()));
        let (second, url, _) = asked(&mut announcer, now).expect("asked");
        assert_eq!(url, "b", "what it was being told is no longer so");
        announcer.handle_reply(now, second, Ok(reply));
        assert!(asked(&mut announcer, now).is_none());
    }

    #[test]
    fn counts_come_by_scrape_where_the_announce_has_none() {
        let (mut announcer, now) = (announcer(&[&["a"], &["b"]]), epoch());
        announcer.start(now);
        let (first, ..) = asked(&mut announcer, now).expect("asked");
        let (second, ..) = asked(&mut announcer, now).expect("asked");
        let counted = AnnounceReply {
            complete: Some(3),
            incomplete: Some(4),
            interval: Duration::from_secs(900),
            ..AnnounceReply::default()
        };
        announcer.handle_reply(now, first, Ok(counted));
        assert_eq!(announcer.poll_output(now), None);
        announcer.handle_reply(now, second, ok(900));
        let scrape = AnnouncerOutput::Scrape { url: "b".to_owned() };
        assert_eq!(announcer.poll_output(now), Some(scrape));
        // Asked for once more by a person: the one under way is enough for `b`.
        announcer.scrape();
        let scrape = AnnouncerOutput::Scrape { url: "a".to_owned() };
        assert_eq!(announcer.poll_output(now), Some(scrape));
        assert_eq!(announcer.poll_output(now), None);
        let counts = ScrapeEntry { complete: 5, downloaded: 9, incomplete: 6 };
        announcer.handle_scrape("b", Ok(counts));
        announcer.handle_scrape("a", Err(TrackerFault::Silent));
        let seeds: Vec<_> = announcer.status().into_iter().map(|tracker| tracker.seeds).collect();
        assert_eq!(seeds, [Some(3), Some(5)]);
        assert!(announcer.status().iter().all(|tracker| tracker.state == TrackerState::Working));
    }

    #[test]
    fn a_tier_that_is_added_is_asked_at_once_and_the_others_are_not() {
        let (mut announcer, now) = (announcer(&[&["a"]]), epoch());
        announcer.add_tier(now, vec!["b".to_owned()]);
        assert_eq!(announcer.poll_timeout(), None);
        announcer.start(now);
        let all = [asked(&mut announcer, now), asked(&mut announcer, now)].map(Option::unwrap);
        for (id, _, _) in all {
            announcer.handle_reply(now, id, ok(900));
            while announcer.poll_output(now).is_some() {}
        }
        announcer.add_tier(now, Vec::new());
        announcer.add_tier(now, vec!["c".to_owned()]);
        let (_, url, event) = asked(&mut announcer, now).expect("asked");
        assert_eq!((url.as_str(), event), ("c", AnnounceEvent::Started));
        assert_eq!(asked(&mut announcer, now), None);
        let urls: Vec<_> = announcer.status().into_iter().map(|tracker| tracker.url).collect();
        assert_eq!(urls, ["a", "b", "c"]);
    }

    #[test]
    fn a_tracker_of_an_unknown_kind_makes_nobody_impatient() {
        for urls in [&["a", "wss"][..], &["a", "b", "wss"], &["wss", "a"]] {
            let (mut announcer, mut now) = (announcer(&[urls]), epoch());
            announcer.start(now);
            let begun = now;
            for _ in 0..12 {
                while let Some((id, url, _)) = asked(&mut announcer, now) {
                    let fault = match url.as_str() {
                        "wss" => TrackerFault::UnsupportedScheme,
                        _ => TrackerFault::Silent,
                    };
                    announcer.handle_reply(now, id, Err(fault));
                }
                now = announcer.poll_timeout().expect("it goes on");
            }
            assert!(now >= begun + BACKOFF_FIRST * 64, "{urls:?}: {:?}", now - begun);
        }
    }
}
