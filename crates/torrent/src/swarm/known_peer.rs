//! One address that a torrent knows: who told us of it, what came of it, and when it may be dialled.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::Rng;
use crate::wire::PeerFlags;

/// Who told us of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A person: tried first, and never pushed out.
    Manual,
    /// The magnet link that named the torrent.
    Magnet,
    /// An earlier run.
    Resume,
    /// Somebody in the local network (BEP 14).
    Lsd,
    /// A tracker.
    Tracker,
    /// Another peer (BEP 11).
    Exchange,
    /// The distributed hash table (BEP 5).
    Dht,
    /// It came to us.
    Incoming,
}

impl Source {
    /// Whether anybody at all may say such a thing, and nobody vouches for it.
    pub(super) const fn is_gossip(self) -> bool {
        match self {
            Self::Exchange | Self::Dht | Self::Lsd => true,
            Self::Manual | Self::Magnet | Self::Resume | Self::Tracker | Self::Incoming => false,
        }
    }
}

/// How a connection ended, as far as it matters for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order: it may be dialled again soon, if there is reason to.
    Useful,
    /// In order, and there is nothing that either could give the other.
    NoUse,
    /// We hung up, for no reason that has to do with it: it may be dialled again at once.
    Ours,
    /// It hung up on us as we were a moment ago: it may be dialled again when it has heard the news.
    Early,
    /// In order, and it had to make room for others: they come first for a while.
    GaveWay,
    /// It went away.
    Refused,
    /// It broke the protocol.
    Fault,
}

impl Ending {
    /// How long it is left alone; `None` if that is for other reasons than this.
    pub(super) const fn wait(self) -> Option<Duration> {
        match self {
            Self::Useful => Some(Duration::from_secs(60)),
            Self::Early => Some(NEWS_TAKE),
            Self::NoUse => Some(BACKOFF_MAX),
            Self::GaveWay => Some(Duration::from_secs(1800)),
            Self::Refused => Some(BACKOFF_FIRST),
            Self::Ours | Self::Fault => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct KnownPeer {
    pub(super) source: Source,
    pub(super) state: State,
    /// Attempts in a row that led to nothing.
    pub(super) failures: u8,
    /// The roads that led nowhere in this attempt, a bit each.
    pub(super) tried: u8,
    /// The road that led there last.
    pub(super) good: u8,
    /// What other peers say of it.
    pub(super) flags: PeerFlags,
    /// It greeted us with our own name, and is left alone until then.
    pub(super) is_us_until: Option<Instant>,
    /// Breaks a tie, by the order of BEP 40 if our own address is known, else at random. The lowest goes first.
    pub(super) rank: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle { not_before: Option<Instant> },
    Dialing,
    Connected,
}

impl KnownPeer {
    pub(super) fn new(source: Source, rank: u32) -> Self {
        Self {
            source,
            state: State::Idle { not_before: None },
            failures: 0,
            tried: 0,
            good: 0,
            flags: PeerFlags::default(),
            is_us_until: None,
            rank,
        }
    }

    /// Whether it is worth remembering for the next run: somebody answered there, in this run or in the one before if
    /// it was not tried in vain too often since, or a person named it.
    pub(super) const fn is_proven(&self) -> bool {
        match self.source {
            Source::Manual => true,
            Source::Resume => self.good != 0 || self.failures <= FAILURES_FORGIVEN,
            Source::Incoming => false,
            Source::Magnet | Source::Lsd | Source::Tracker | Source::Exchange | Source::Dht => {
                self.good != 0
            }
        }
    }

    /// Dialling led to nothing, on any road. The wait is longer by up to a quarter, at random.
    pub(super) fn failed(&mut self, now: Instant, rng: &mut Rng) {
        let jitter = 1.0 + rng.below(256) as f64 / 1024.0;
        self.failures = self.failures.saturating_add(1);
        self.tried = 0;
        let doublings = u32::from(self.failures - 1).min(DOUBLINGS_MAX);
        let wait = (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX);
        self.wait(now + wait.mul_f64(jitter));
    }

    /// A connection that had shaken hands is over.
    pub(super) fn disconnected(&mut self, now: Instant, ending: Ending, rng: &mut Rng) {
        if let Some(wait) = ending.wait() {
            self.failures = 0;
            self.wait(now + wait);
        } else if ending == Ending::Fault {
            (0..FAULT_FAILURES).for_each(|_| self.failed(now, rng));
        } else {
            self.state = State::Idle { not_before: None };
        }
    }

    const fn wait(&mut self, until: Instant) {
        self.state = State::Idle { not_before: Some(until) };
    }
}

/// An IPv4 address is the same one inside IPv6.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        // A link-local address is nothing without its scope.
        IpAddr::V6(_) => addr,
    }
}

pub(super) fn is_dialable(addr: SocketAddr) -> bool {
    let is_nobody = match addr.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    addr.port() != 0 && !is_nobody
}

/// After so many in a row what an earlier run knew is forgotten.
const FAILURES_FORGIVEN: u8 = 5;
/// Longer than most round trips.
const NEWS_TAKE: Duration = Duration::from_millis(300);
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
const DOUBLINGS_MAX: u32 = 10;
/// A broken protocol counts as so many failures.
const FAULT_FAILURES: u32 = 5;
