//! What a swarm asks its caller to do.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{PeerKey, VerifyJob, WebSeedKey};
use crate::PieceIndex;

/// What the caller must do next.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes to the peer.
    Send {
        /// To whom.
        peer: PeerKey,
        /// Whole messages.
        bytes: Bytes,
    },
    /// Send a block to the peer: the head of the message, then the data.
    SendBlock {
        /// To whom.
        peer: PeerKey,
        /// The message up to the data.
        head: [u8; 13],
        /// The data.
        data: Bytes,
    },
    /// Hash these blocks, and write them if they match; then [`Swarm::handle_verdict`](super::Swarm::handle_verdict).
    Verify(VerifyJob),
    /// Write these blocks although their piece is not whole yet: memory is short.
    Store(VerifyJob),
    /// A piece is ours now.
    PieceVerified(PieceIndex),
    /// A piece came and its hash is wrong; it will be asked for again.
    PieceFailed(PieceIndex),
    /// End the connection; then [`Swarm::remove_peer`](super::Swarm::remove_peer).
    Close {
        /// Which.
        peer: PeerKey,
        /// Why, in words.
        reason: &'static str,
    },
    /// Everyone at this address sent data that was proven wrong; its connections are being closed.
    Banned(IpAddr),
    /// A web seed sent data that was proven wrong: ask it no more.
    WebSeedLied(WebSeedKey),
    /// All that is wanted is here.
    Completed,
    /// The hashes of all pieces have come from peers: those of [`Swarm::set_hashes`](super::Swarm::set_hashes) are whole.
    HashesKnown,
    /// The hashes of these pieces have come, and they may be on disk already ([`Swarm::hold`](super::Swarm::hold)): look, and say of each
    /// by [`Swarm::handle_rechecked`](super::Swarm::handle_rechecked).
    Recheck(Vec<PieceIndex>),
    /// A peer asks about the blocks of these pieces: read them, then [`Swarm::handle_block_hashes`](super::Swarm::handle_block_hashes).
    HashBlocks(Vec<PieceIndex>),
    /// The info dictionary has come from peers, whole and right; then [`Swarm::learn`](super::Swarm::learn).
    Metadata(Bytes),
    /// Addresses have come: somebody may be dialled.
    Found,
    /// A peer introduces us to another, which dials us now: dial it, by uTP.
    Rendezvous(SocketAddr),
    /// A peer says at which address it sees us.
    SeenAs {
        /// Where the peer is.
        by: IpAddr,
        /// What it says.
        ours: IpAddr,
    },
    /// A peer says that it has a node of the DHT, at its address and this port.
    DhtNode(SocketAddr),
}
