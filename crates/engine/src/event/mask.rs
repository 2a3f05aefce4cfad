//! Which events a subscriber wants: a set of groups in one word.

use std::ops::BitOr;

/// A set of groups of events. Join sets with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMask(u32);

impl EventMask {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// States of torrents, and what ends them: a failing disk, bad files.
    pub const STATUS: Self = Self(1);
    /// Ports that we listen on, or cannot.
    pub const LISTEN: Self = Self(1 << 1);
    /// Pieces that pass or fail.
    pub const PIECES: Self = Self(1 << 2);
    /// Peers that come and go, and what they do wrong.
    pub const PEERS: Self = Self(1 << 3);
    /// What trackers answer.
    pub const TRACKERS: Self = Self(1 << 4);
    /// Addresses that are not to be talked to.
    pub const FILTER: Self = Self(1 << 5);
    /// Who sent the blocks of each piece.
    pub const SOURCES: Self = Self(1 << 6);
    /// Which pieces peers say that they have.
    pub const HAVES: Self = Self(1 << 7);
    /// Every message to and from peers.
    pub const PACKETS: Self = Self(1 << 8);
    /// Every read and write of a peer's connection.
    pub const TRANSFER: Self = Self(1 << 9);
    /// Every contact with a tracker.
    pub const TRACKER_TRANSFER: Self = Self(1 << 10);
    /// Every file opened, read, written, closed.
    pub const FILES: Self = Self(1 << 11);
    /// What our node of the DHT finds.
    pub const DHT: Self = Self(1 << 12);
    /// Web seeds that help, or do not.
    pub const WEB_SEEDS: Self = Self(1 << 13);
    /// Everything.
    pub const ALL: Self = Self(u32::MAX);
    /// Everything that happens seldom enough for people: what [`Session::subscribe`](crate::Session::subscribe)
    /// gives.
    pub const USUAL: Self = Self(
        Self::STATUS.0
            | Self::LISTEN.0
            | Self::PIECES.0
            | Self::PEERS.0
            | Self::TRACKERS.0
            | Self::FILTER.0
            | Self::DHT.0
            | Self::WEB_SEEDS.0,
    );

    /// Whether the two have a group in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl Default for EventMask {
    fn default() -> Self {
        Self::USUAL
    }
}

impl BitOr for EventMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
