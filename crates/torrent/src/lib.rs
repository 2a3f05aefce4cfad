//! BitTorrent as state machines: bytes, time and randomness come in as arguments, and what is to be
//! done comes out. This crate opens no socket, reads no clock, touches no file.
//!
//! - [`bencode`] and [`metainfo`]: torrent files, read and made.
//! - [`wire`]: the messages that peers exchange.
//! - [`swarm`]: what one torrent does with its peers: which blocks to ask for, whom to serve.
//! - [`tracker`]: how to find peers, and, from the other side, how to answer who asks for them.
//! - [`ip_filter`]: addresses that we do not deal with.
//! - [`text`]: how things are told to people.
//!
//! The crate above, `engine`, carries bytes and time between these and the world.

pub mod bencode;
mod bitfield;
mod client;
pub mod compact;
mod fault;
mod info_hash;
pub mod ip_filter;
pub mod metainfo;
mod peer_id;
pub mod rate;
mod rng;
pub mod swarm;
pub mod text;
pub mod tracker;
mod units;
pub mod wire;

pub use bitfield::Bitfield;
pub use client::Client;
pub use fault::PeerFault;
pub use info_hash::{InfoHash, ParseInfoHashError};
pub use peer_id::PeerId;
pub use rng::Rng;
pub use units::{BLOCK_LEN, Block, PieceIndex};
