//! A torrent as people see it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What a torrent is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TorrentState {
    /// What is on disk is being hashed: so many pieces of so many.
    Checking {
        /// Pieces hashed.
        done: u32,
        /// Pieces to hash.
        total: u32,
    },
    /// Something that is wanted is missing.
    Downloading,
    /// Everything that is wanted is here.
    Seeding,
    /// It was told to do nothing.
    Paused,
    /// The disk failed; it goes on after a resume.
    Failed(String),
    /// It is being removed, or the session ends.
    #[default]
    Stopped,
}

/// A snapshot, at most half a second old while things move.
#[derive(Clone, Debug, Default)]
pub struct TorrentStatus {
    /// Its name, for people.
    pub name: String,
    /// What it is doing.
    pub state: TorrentState,
    /// Bytes of all its files.
    pub total_len: u64,
    /// Bytes of the pieces that are wanted.
    pub wanted_len: u64,
    /// Bytes of those that are here.
    pub wanted_done_len: u64,
    /// Bytes of all pieces that are here.
    pub done_len: u64,
    /// How many pieces are here.
    pub pieces_have: u32,
    /// How many there are.
    pub piece_count: u32,
    /// Payload from peers, in bytes per second.
    pub download_rate: u64,
    /// Payload to peers, in bytes per second.
    pub upload_rate: u64,
    /// Payload from peers, in bytes, over all runs.
    pub downloaded: u64,
    /// Payload to peers, in bytes, over all runs.
    pub uploaded: u64,
    /// Payload that was of no use, in bytes, in this run.
    pub wasted: u64,
    /// Peers connected.
    pub peers_connected: usize,
    /// Those of them that have everything.
    pub seeds_connected: usize,
    /// Addresses known.
    pub peers_known: usize,
    /// Until it is complete, at the present rate.
    pub eta: Option<Duration>,
    /// What the trackers complain of, if none of them works.
    pub tracker_trouble: Option<String>,
    /// How long everything wanted has been here, in this run.
    pub seeding_for: Duration,
}

impl TorrentStatus {
    /// Payload sent over payload needed: 1.0 has given back as much as it is large.
    pub fn ratio(&self) -> f64 {
        if self.wanted_len == 0 { 0.0 } else { self.uploaded as f64 / self.wanted_len as f64 }
    }

    /// What is here of what is wanted, 0.0 to 1.0.
    pub fn progress(&self) -> f64 {
        if self.wanted_len == 0 {
            1.0
        } else {
            self.wanted_done_len as f64 / self.wanted_len as f64
        }
    }
}

/// Where the engine leaves the newest snapshot for any thread to take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<RwLock<Arc<TorrentStatus>>>);

impl Published {
    pub(crate) fn read(&self) -> Arc<TorrentStatus> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, status: TorrentStatus) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }
}
