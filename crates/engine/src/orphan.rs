//! A torrent without a session: its data can be looked at by any thread, and it may join a session once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use torrent::metainfo::Metainfo;
use torrent::{Bitfield, InfoHash, PieceIndex};

use crate::disk::{self, DiskError, FilePool, PieceState, check_pieces};
use crate::engine::all_pieces;
use crate::event::{EventKind, EventMask, Events, Publisher};
use crate::session::{AddError, fit};
use crate::settings::{AddOptions, CheckOptions};
use crate::status::Published;
use crate::status_word::StatusWord;
use crate::torrent_handle::CheckError;

/// A torrent that belongs to no session. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Orphan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    published: Arc<Published>,
    options: AddOptions,
    subscribers: Publisher,
    /// Held by whoever checks it.
    turn: Mutex<()>,
    is_cancelled: AtomicBool,
    is_attached: AtomicBool,
}

impl Orphan {
    /// A torrent that [`Session::attach`](crate::Session::attach) will treat as `options` say. Touches nothing
    /// on the disk.
    ///
    /// # Errors
    /// [`AddError::Priorities`] if they do not fit its files.
    pub fn new(metainfo: Metainfo, options: AddOptions) -> Result<Self, AddError> {
        fit(&metainfo, &options)?;
        let published = Published::new(Arc::new(metainfo), &options.dir);
        Ok(Self {
            inner: Arc::new(Inner {
                published: Arc::new(published),
                options,
                subscribers: Publisher::default(),
                turn: Mutex::default(),
                is_cancelled: AtomicBool::new(false),
                is_attached: AtomicBool::new(false),
            }),
        })
    }

    /// Its name among machines.
    pub fn info_hash(&self) -> InfoHash {
        self.inner.published.metainfo().info_hash()
    }

    /// All that its torrent file says.
    pub fn metainfo(&self) -> &Metainfo {
        self.inner.published.metainfo()
    }

    /// Where its file is, or the folder of its files: an absolute path.
    pub fn path(&self) -> PathBuf {
        self.inner.published.path()
    }

    /// Which pieces are here and verified, as of now. A check begins with none, and they come back as they
    /// are found.
    pub fn bitfield(&self) -> Bitfield {
        self.inner.published.bits().snapshot()
    }

    /// Whether a piece is here and verified.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.inner.published.bits().has(piece)
    }

    /// Its state as a number; that of the torrent of the session once it has been attached.
    pub fn status_word(&self) -> StatusWord {
        self.inner.published.word()
    }

    /// What last went wrong with its disk.
    pub fn error(&self) -> Option<String> {
        self.inner.published.error()
    }

    /// What happens to it from now on, until it is attached; then the session tells.
    pub fn subscribe(&self) -> Events {
        self.inner.subscribers.subscribe(EventMask::USUAL, None)
    }

    /// Hashes what is on disk; returns when that is done. Others may look at the bits meanwhile.
    ///
    /// # Errors
    /// [`CheckError`]. That something cannot be read is no error here: it is told by [`error`](Self::error) and the
    /// status word.
    pub fn check(&self) -> Result<(), CheckError> {
        self.check_with(&CheckOptions::default())
    }

    /// As [`check`](Self::check), in another way.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check_with(&self, options: &CheckOptions) -> Result<(), CheckError> {
        let _turn = match self.inner.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(CheckError::AlreadyChecking),
        };
        if self.inner.is_attached.load(Ordering::Acquire) {
            return Err(CheckError::Attached);
        }
        let published = &self.inner.published;
        if published.word().contains(StatusWord::PAUSED) {
            return Err(CheckError::Paused);
        }
        self.inner.is_cancelled.store(false, Ordering::Relaxed);
        let pieces =
            options.pieces.clone().unwrap_or_else(|| all_pieces(published.bits().len()).collect());
        let pieces = published.doubt(pieces);
        self.change(StatusWord::CHECKED | StatusWord::ERROR, StatusWord::CHECKING);
        let report = self.look_at(&pieces, options.rate);
        match report {
            Ok(None) => self.change(StatusWord::CHECKING, StatusWord::CHECKED),
            Ok(Some(error)) => {
                published.set_error(error.to_string());
                self.inner.tell(&EventKind::DiskFailed(error.to_string()));
                self.change(StatusWord::CHECKING, StatusWord::ERROR);
            }
            // It was cancelled.
            Err(_) => self.change(StatusWord::CHECKING, StatusWord::default()),
        }
        Ok(())
    }

    /// Ends a check that another thread is at, soon; what it has not got to counts as missing.
    pub fn cancel_check(&self) {
        self.inner.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// It is not to be checked, and will be paused in its session.
    pub fn pause(&self) {
        self.change(StatusWord::default(), StatusWord::PAUSED);
    }

    /// Ends the pause.
    pub fn unpause(&self) {
        self.change(StatusWord::PAUSED, StatusWord::default());
    }

    /// Gives it away, if `take` can have it now.
    pub(crate) fn give<T>(
        &self,
        take: impl FnOnce(Arc<Published>, AddOptions) -> Result<T, AddError>,
    ) -> Result<T, AddError> {
        let _turn = match self.inner.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(AddError::Checking(self.info_hash())),
        };
        if self.inner.is_attached.load(Ordering::Acquire) {
            return Err(AddError::Attached(self.info_hash()));
        }
        let taken = take(Arc::clone(&self.inner.published), self.inner.options.clone())?;
        self.inner.is_attached.store(true, Ordering::Release);
        Ok(taken)
    }

    /// Hashes `pieces`. Returns what could not be read first of all.
    fn look_at(
        &self,
        pieces: &[PieceIndex],
        rate: Option<u64>,
    ) -> Result<Option<DiskError>, DiskError> {
        let published = &self.inner.published;
        let metainfo = published.metainfo();
        let storage = published.storage(Arc::new(FilePool::default()), &self.inner.options);
        let options = disk::CheckOptions { rate, ..disk::CheckOptions::default() };
        let cancel = &self.inner.is_cancelled;
        let report = check_pieces(&storage, metainfo, pieces, &options, cancel, |piece, state| {
            let told = match state {
                PieceState::Good => {
                    published.bits().set(piece);
                    EventKind::PieceVerified(piece)
                }
                PieceState::Bad | PieceState::Missing | PieceState::Unreadable => {
                    EventKind::PieceFailed(piece)
                }
            };
            self.inner.tell(&told);
        })?;
        let first = report.unreadable.into_values().min_by_key(|(piece, _)| *piece);
        Ok(first.map(|(_, error)| error))
    }

    /// Clears some flags of its word, and sets others; but for one that a session has.
    fn change(&self, cleared: StatusWord, set: StatusWord) {
        let published = &self.inner.published;
        let changed = published.change_word(|word| {
            let is_ours = !word.contains(StatusWord::QUEUED);
            is_ours.then(|| word.without(cleared).with(set))
        });
        if let Some(word) = changed {
            self.inner.tell(&EventKind::StatusChanged(word));
        }
    }
}

impl Inner {
    fn tell(&self, kind: &EventKind) {
        self.subscribers.publish(Some(self.published.metainfo().info_hash()), kind);
    }
}
