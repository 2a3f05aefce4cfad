//! What a swarm may be told at birth, and whom it does not take in.

use super::{ChokingTimers, SeedingPolicy, Slots};
use crate::PeerId;

/// Why a peer was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is ourselves.
    #[error("connected to ourselves")]
    Ourselves,
    /// We are connected already.
    #[error("already connected")]
    Duplicate,
    /// It sent bad data before.
    #[error("banned")]
    Banned,
}

/// Where we are to be found, over one family of addresses: what a router maps for one leads nowhere in the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPorts {
    /// Where we listen; `None` if we do not.
    pub listen: Option<u16>,
    /// The UDP port of our node of the DHT, for peers that have one; `None` if we have none, or the torrent is private.
    pub dht: Option<u16>,
}

/// What a swarm may be told at birth.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The name we go by.
    pub peer_id: PeerId,
    /// What peers that we meet over IPv4 are told of our ports, and what those over IPv6.
    pub ports: [OwnPorts; 2],
    /// We would rather have connections encrypted, and peers are told so.
    pub prefers_encryption: bool,
    /// Our client's name, told to peers. Empty, peers are told neither that nor what address they have.
    pub client: String,
    /// How many peers to serve at once.
    pub slots: Slots,
    /// Whom to serve when all is here.
    pub seeding: SeedingPolicy,
    /// When it is decided who is served.
    pub choking: ChokingTimers,
    /// Tell peers of each other and hear of others from them (BEP 11), and help them to meet (BEP 55).
    pub exchange: bool,
    /// Peers are found by trackers only (BEP 27): nothing is exchanged, and what comes from elsewhere is not taken.
    pub is_private: bool,
}
