//! What happened in a world, so that two runs can be compared.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::{fmt, mem};

/// One event of the network, as it arrived. A Unix socket's address is made up: 127.117.110.120, and
/// for each path a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceEntry {
    /// Microseconds since the world began.
    pub at_micros: u64,
    /// What it was.
    pub kind: TraceKind,
    /// Whose doing.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Bytes of data that it carried.
    pub len: usize,
}

/// The kinds of events of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TraceKind {
    /// A listener got a connection.
    Accept,
    /// Nobody listened.
    Refuse,
    /// The listener's answer reached who connected.
    Connect,
    /// Bytes of a connection.
    Data,
    /// The sender of a connection will send no more.
    End,
    /// A connection was reset.
    Reset,
    /// A datagram arrived.
    Datagram,
    /// A datagram was lost: by chance, in a cut, for want of room or of a socket.
    Loss,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_micros, kind, from, to, len } = self;
        write!(f, "{at_micros} {kind:?} {from} {to} {len}")
    }
}

/// The latest entries, and a digest of all of them.
#[derive(Debug)]
pub(super) struct Trace {
    entries: VecDeque<TraceEntry>,
    entries_max: usize,
    digest: Fnv,
}

impl Trace {
    pub(super) const fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, digest: Fnv::new() }
    }

    pub(super) fn push(&mut self, entry: TraceEntry) {
        entry.hash(&mut self.digest);
        if self.entries.len() >= self.entries_max {
            self.entries.pop_front();
        }
        if self.entries_max > 0 {
            self.entries.push_back(entry);
        }
    }

    pub(super) fn take(&mut self) -> Vec<TraceEntry> {
        mem::take(&mut self.entries).into()
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

/// FNV-1a: unlike the standard library's hasher it is the same in every build.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) const fn new() -> Self {
        Self(FNV_OFFSET)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_micros: u64) -> TraceEntry {
        let addr = SocketAddr::from(([10, 0, 0, 1], 1));
        TraceEntry { at_micros, kind: TraceKind::Data, from: addr, to: addr, len: 5 }
    }

    #[test]
    fn keeps_the_latest_and_digests_all() {
        let (mut short, mut long) = (Trace::new(2), Trace::new(9));
        for at in 0..5 {
            short.push(entry(at));
            long.push(entry(at));
        }
        assert_eq!(short.take(), [entry(3), entry(4)]);
        assert_eq!(short.digest(), long.digest());
        long.push(entry(5));
        assert_ne!(short.digest(), long.digest());
        assert_eq!(entry(7).to_string(), "7 Data 10.0.0.1:1 10.0.0.1:1 5");
    }
}
