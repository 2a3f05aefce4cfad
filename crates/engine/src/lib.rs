//! A BitTorrent client as a library: drives the state machines of [`torrent`] on the event loop of
//! [`reactor`] and on the disk.
//!
//! A [`Session`] is one thread with everything in it; [`Torrent`] is a handle to one download. Handles
//! are `Send + Sync + Clone`: they post commands and read published snapshots.
//!
//! ```no_run
//! use engine::{AddOptions, Session, SessionConfig};
//! use torrent::metainfo::Metainfo;
//!
//! let session = Session::start(SessionConfig::default())?;
//! let metainfo = Metainfo::parse(&std::fs::read("debian.torrent")?)?;
//! let torrent = session.add(metainfo, AddOptions { dir: "downloads".into(), ..AddOptions::default() })?;
//! while torrent.status().progress() < 1.0 {
//!     std::thread::sleep(std::time::Duration::from_secs(1));
//! }
//! session.shutdown(std::time::Duration::from_secs(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod buffer;
mod check;
mod command;
pub mod disk;
mod engine;
mod event;
mod hasher;
pub mod http;
mod listen;
mod peer;
pub mod resume;
mod save;
mod session;
mod settings;
#[cfg(test)]
mod simulation;
mod status;
mod swarm;
mod task;
mod tracker;

pub use event::{Event, EventKind};
pub use session::{AddError, Gone, Session, SessionError, Torrent, default_state_dir};
pub use settings::{AddOptions, ListenConfig, SessionConfig, SessionLimits};
pub use status::{TorrentState, TorrentStatus};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
