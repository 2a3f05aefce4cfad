//! BitTorrent as state machines: bytes, time and randomness come in as arguments, and what is to be
//! done comes out. This crate opens no socket, reads no clock, touches no file.
//!
//! - [`bencode`] and [`metainfo`]: torrent files, read and made. [`Magnet`]: links to torrents.
//! - [`wire`]: the messages that peers exchange.
//! - [`swarm`]: what one torrent does with its peers: which blocks to ask for, whom to serve.
//! - [`tracker`]: how to find peers, and, from the other side, how to answer who asks for them.
//! - [`dht`]: how to find peers without a tracker: a node of the distributed hash table.
//! - [`utp`]: connections over datagrams.
//! - [`web_seed`]: fetching pieces from servers that have the files.
//! - [`mse`]: connections that look like noise.
//! - [`lsd`]: finding peers on the same network.
//! - [`ip_filter`]: addresses that we do not deal with; [`locality`]: which are of our own network.
//! - [`proxy`]: what is said to a proxy.
//! - [`text`]: how things are told to people.
//!
//! The crate above, `engine`, carries bytes and time between these and the world.

pub mod bencode;
mod bitfield;
mod client;
pub mod compact;
mod crc32c;
pub mod dht;
mod external_ip;
mod fault;
mod info_hash;
pub mod ip_filter;
pub mod locality;
pub mod lsd;
mod magnet;
pub mod metainfo;
pub mod mse;
mod peer_id;
mod percent;
pub mod proxy;
pub mod rate;
mod reach;
mod rng;
pub mod swarm;
pub mod text;
pub mod tracker;
mod units;
pub mod utp;
pub mod web_seed;
pub mod wire;

pub use bitfield::Bitfield;
pub use client::Client;
pub use external_ip::{ExternalIp, Witness};
pub use fault::PeerFault;
pub use info_hash::{InfoHash, InfoHashV2, InfoHashes, ParseInfoHashError, ParseInfoHashV2Error};
pub use magnet::{Magnet, MagnetError};
pub use peer_id::PeerId;
pub use reach::Reach;
pub use rng::Rng;
pub use units::{BLOCK_LEN, Block, PieceIndex};
