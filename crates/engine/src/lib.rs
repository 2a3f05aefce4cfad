//! A BitTorrent client as a library: drives the state machines of [`torrent`] on the event loop of
//! [`reactor`] and on the disk.
//!
//! A [`Session`] is one thread with everything in it; [`Torrent`] is a handle to one download. Handles
//! are `Send + Sync + Clone`: they post commands and read published snapshots, from any thread.
//!
//! A torrent of a few bytes, made and checked here; with a tracker it would go on to seed:
//!
//! ```
//! use engine::{AddOptions, EventKind, EventMask, ListenConfig, Session, SessionConfig};
//! use engine::disk::hash_files;
//! use torrent::metainfo::{Metainfo, create::Builder};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! std::fs::write(dir.join("greeting"), "hello")?;
//! let torrent = Builder { name: "greeting".into(), files: vec![(Vec::new(), 5)], ..Builder::default() };
//! let layout = std::sync::Arc::new(torrent.layout()?);
//! let hashes = hash_files(&layout, dir, 1, &false.into(), |_| {})?;
//! let metainfo = Metainfo::parse(&torrent.finish(&hashes)?)?;
//!
//! // Any port of this machine's own address.
//! let listen = ListenConfig { bind: Some([127, 0, 0, 1].into()), ports: vec![0..=0] };
//! let session = Session::start(SessionConfig { listen, ..SessionConfig::default() })?;
//! let events = session.subscribe_to(EventMask::STATUS)?;
//! let torrent = session.add(metainfo, AddOptions { dir: dir.into(), ..AddOptions::default() })?;
//! let checked = events.into_iter().find(|event| matches!(event.kind, EventKind::Completed));
//! assert!(checked.is_some() && torrent.is_complete());
//! assert_eq!(torrent.status_word().bits(), 201);
//! session.shutdown(std::time::Duration::from_secs(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to look:
//!
//! - [`SessionConfig`], [`AddOptions`]: all settings, with their defaults.
//! - [`Session`] adds, finds and removes torrents, by file or magnet link; [`Torrent`] starts, stops, pauses, checks; [`Peer`] is one
//!   connection. [`Orphan`] is a torrent without a session.
//! - [`Torrent::status`] tells how it stands, [`Torrent::bitfield`] what is here, [`StatusWord`] its state in a number.
//! - [`EventKind`] is all that may happen. To hear of it: [`Session::subscribe`], or with a choice
//!   ([`EventMask`]) and for one torrent [`Torrent::subscribe_to`], to be read by a thread or awaited as a
//!   stream; [`Session::on_event`] calls a function. [`DisconnectReason`] says why a connection ended.
//! - [`Session::dht`] is the node of the DHT: peers, nodes, and small items that anyone may keep there.
//! - [`disk`] hashes files without a session; [`resume`] is what is remembered of a torrent; [`http`] gets a document.

mod activity;
mod bits;
mod buffer;
mod check;
mod check_queue;
mod command;
mod connections;
mod dht;
mod dht_handle;
mod dial;
#[cfg(test)]
mod dial_tests;
pub mod disk;
mod disk_pools;
mod encryption;
#[cfg(test)]
mod encryption_tests;
mod engine;
mod event;
mod file_status;
mod filter;
mod gateway;
mod greeting;
mod hasher;
#[cfg(test)]
mod honest_tests;
pub mod http;
mod http_client;
mod listen;
mod lsd;
mod magnet;
mod member;
mod nat;
mod network;
mod orphan;
mod parting;
mod peer;
mod peer_handle;
mod port_keeper;
mod port_mapper;
mod proxy;
mod rate_class;
mod recheck;
mod relay;
mod restore;
pub mod resume;
mod resume_data;
mod room;
mod save;
mod schedule;
mod session;
mod settings;
#[cfg(test)]
mod simulated_proxy;
#[cfg(test)]
mod simulated_router;
#[cfg(test)]
mod simulated_web;
#[cfg(test)]
mod simulation;
mod status;
mod status_word;
mod store;
mod swarm;
mod task;
mod tell;
mod text;
mod torrent_handle;
mod torrent_trackers;
mod torrent_web_seeds;
mod tracker;
mod tunnel;
mod utp;
#[cfg(test)]
mod utp_tests;
mod web_seed;

pub use dht::{BOOT_NODES, DhtConfig, DhtStatus};
pub use dht_handle::{Dht, DhtError, PeerSearch, Sample};
pub use disk::FileMode;
pub use encryption::{Encryption, ParseEncryptionError};
pub use event::{
    Event, EventKind, EventMask, EventSink, Events, FilterPoint, Packet, Severity, SubscribeError,
    Subscription,
};
pub use file_status::{FileStatus, PriorityError};
pub use filter::FilterFn;
pub use magnet::SaveTorrentError;
pub use nat::NatConfig;
pub use network::NetworkConfig;
pub use orphan::Orphan;
pub use parting::DisconnectReason;
pub use peer_handle::Peer;
pub use port_mapper::{MappedPorts, MappingProtocol};
pub use proxy::ProxyConfig;
pub use resume_data::ResumeDataError;
pub use schedule::{Days, HourlyLimit, ScheduledLimits};
pub use session::{AddError, Gone, Session, SessionError, default_state_dir};
pub use settings::{
    AddOptions, CheckOptions, CheckSettings, ListenConfig, SessionConfig, SessionLimits, WhenKnown,
};
pub use status::{TorrentState, TorrentStatus};
pub use status_word::StatusWord;
pub use torrent_handle::{CheckError, Torrent};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
