//! A torrent as people see it.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use torrent::metainfo::Metainfo;
use torrent::{Bitfield, PieceIndex};

use crate::bits::SharedBits;
use crate::disk::{FilePool, Storage, StorageOptions};
use crate::settings::AddOptions;
use crate::status_word::StatusWord;
use crate::task::wanted_files;

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
    /// It is not known yet what the torrent is: peers are asked for its metadata. So many bytes of so many
    /// are here; 0 of 0 while no peer has said.
    FetchingMetadata {
        /// Bytes that are here.
        done: u32,
        /// Bytes that there are.
        total: u32,
    },
    /// Something that is wanted is missing.
    Downloading,
    /// Everything that is wanted is here.
    Seeding,
    /// Its peers stay connected, and no data moves.
    Paused,
    /// It was told to do nothing, or the session has ended.
    #[default]
    Stopped,
    /// The disk failed; it goes on when it is started.
    Failed(String),
    /// It is no longer in its session.
    Removed,
}

/// A snapshot, at most half a second old while things move.
#[derive(Clone, Debug, Default)]
pub struct TorrentStatus {
    /// Its name, for people.
    pub name: String,
    /// Its metadata is not here yet: a magnet link named it. There are no lengths and no pieces then.
    pub awaits_metadata: bool,
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
    /// How many it may have; `None` is as for any torrent.
    pub peers_max: Option<usize>,
    /// Addresses known.
    pub peers_known: usize,
    /// Web seeds that bring something now.
    pub web_seeds_active: usize,
    /// What is wrong with the web seeds, if it has some and none of them works.
    pub web_seed_trouble: Option<String>,
    /// Until it is complete, at the present rate.
    pub eta: Option<Duration>,
    /// What the trackers complain of, if none of them works.
    pub tracker_trouble: Option<String>,
    /// How long everything wanted has been here, in this run.
    pub seeding_for: Duration,
    /// When that began; `None` while it does not run.
    pub seeding_since: Option<Instant>,
}

impl TorrentStatus {
    /// As it is at `now`: of a torrent at rest no new snapshots are made.
    pub(crate) fn at(self: Arc<Self>, now: Instant) -> Arc<Self> {
        let Some(since) = self.seeding_since else { return self };
        let seeding_for = now.saturating_duration_since(since);
        Arc::new(Self { seeding_for, ..(*self).clone() })
    }

    /// Payload sent over payload needed: 1.0 has given back as much as it is large.
    pub fn ratio(&self) -> f64 {
        if self.wanted_len == 0 { 0.0 } else { self.uploaded as f64 / self.wanted_len as f64 }
    }

    /// What is here of what is wanted, 0.0 to 1.0.
    pub fn progress(&self) -> f64 {
        if self.awaits_metadata {
            0.0
        } else if self.wanted_len == 0 {
            1.0
        } else {
            self.wanted_done_len as f64 / self.wanted_len as f64
        }
    }
}

/// What a torrent is, and which of its pieces are here.
#[derive(Debug)]
struct Known {
    metainfo: Arc<Metainfo>,
    bits: SharedBits,
}

impl Known {
    fn new(metainfo: Arc<Metainfo>) -> Self {
        Self { bits: SharedBits::new(metainfo.layout().piece_count()), metainfo }
    }
}

/// What any thread may read of a torrent, without the engine that keeps it true.
#[derive(Debug)]
pub(crate) struct Published {
    /// What stands for it until its metadata is here, if a magnet link named it.
    stand_in: Option<Known>,
    known: OnceLock<Known>,
    /// The folder that its files go to.
    pub(crate) dir: PathBuf,
    word: AtomicU8,
    error: Mutex<Option<String>>,
    status: RwLock<Arc<TorrentStatus>>,
}

impl Published {
    /// Of a torrent that nothing is known of but its metadata.
    pub(crate) fn new(metainfo: Arc<Metainfo>, dir: &Path) -> Self {
        let published = Self::without_metadata(metainfo, dir);
        let known = published.stand_in.map_or_else(OnceLock::new, OnceLock::from);
        let word = AtomicU8::new(StatusWord::LOADED.bits());
        Self { stand_in: None, known, word, ..published }
    }

    /// Of a torrent whose metadata is not here: `stand_in` has its name and its info hash.
    pub(crate) fn without_metadata(stand_in: Arc<Metainfo>, dir: &Path) -> Self {
        // What is remembered must still be true in another working directory.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Self {
            stand_in: Some(Known::new(stand_in)),
            known: OnceLock::new(),
            word: AtomicU8::new(StatusWord::default().bits()),
            error: Mutex::default(),
            status: RwLock::default(),
            dir,
        }
    }

    fn known(&self) -> &Known {
        let known = self.known.get().or(self.stand_in.as_ref());
        known.expect("there is a stand-in until it is known")
    }

    /// Whether its metadata is here.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    /// Its metadata has come. Once only.
    pub(crate) fn learn(&self, metainfo: Arc<Metainfo>) {
        let is_first = self.known.set(Known::new(metainfo)).is_ok();
        assert!(is_first, "metadata comes once");
    }

    pub(crate) fn metainfo(&self) -> &Arc<Metainfo> {
        &self.known().metainfo
    }

    pub(crate) fn bits(&self) -> &SharedBits {
        &self.known().bits
    }

    /// Where its file is, or the folder of its files.
    pub(crate) fn path(&self) -> PathBuf {
        let first = self.metainfo().layout().files().first();
        let first = first.map(|file| file.path.to_path_buf()).unwrap_or_default();
        self.dir.join(first.components().next().map(Component::as_os_str).unwrap_or_default())
    }

    /// Its bytes on the disk. Touches nothing there.
    pub(crate) fn storage(&self, files: Arc<FilePool>, options: &AddOptions) -> Storage {
        let layout = self.metainfo().layout();
        let wanted = wanted_files(layout, &options.priorities);
        let part_path = self.dir.join(format!(".{}.part", self.metainfo().info_hash()));
        let options = StorageOptions { preallocate: options.preallocate, wanted, part_path };
        Storage::new(Arc::clone(layout), self.dir.clone(), files, options)
    }

    /// A check of these pieces begins: nothing of them is believed any more. Returns each once.
    pub(crate) fn doubt(&self, pieces: impl IntoIterator<Item = PieceIndex>) -> Vec<PieceIndex> {
        let mut seen = Bitfield::none(self.bits().len());
        let once: Vec<PieceIndex> = pieces.into_iter().filter(|&piece| seen.set(piece)).collect();
        once.iter().for_each(|&piece| self.bits().clear(piece));
        once
    }

    pub(crate) fn status(&self) -> Arc<TorrentStatus> {
        Arc::clone(&self.status.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, status: TorrentStatus) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    /// Whoever sees the word sees the bits as they were, or later.
    pub(crate) fn word(&self) -> StatusWord {
        StatusWord::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Returns whether it was another before.
    pub(crate) fn set_word(&self, word: StatusWord) -> bool {
        self.word.swap(word.bits(), Ordering::AcqRel) != word.bits()
    }

    /// Has `change` find another word; `None` leaves it. Returns the new word if it is another.
    pub(crate) fn change_word(
        &self,
        change: impl Fn(StatusWord) -> Option<StatusWord>,
    ) -> Option<StatusWord> {
        let bits = |bits| change(StatusWord::from_bits(bits)).map(StatusWord::bits);
        let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, bits).ok()?;
        bits(before).filter(|&now| now != before).map(StatusWord::from_bits)
    }

    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_error(&self, error: String) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
