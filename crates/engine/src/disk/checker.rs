//! Hashing what is on the disk, on as many threads as the caller likes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use torrent::metainfo::create::{Format, PieceHashes};
use torrent::metainfo::merkle::Hash;
use torrent::metainfo::{FileLayout, Metainfo, PieceLayers};
use torrent::{BLOCK_LEN, PieceIndex};

use super::crew::Crew;
use super::cursor::Unreadable;
use super::lanes::{Batch, Outcome, Scratch, batch_len};
use super::piece_hash::{Judgement, PieceHash};
use super::throttle::Throttle;
use super::{DiskError, FilePool, Storage, StorageOptions};

/// What was found of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// All of it is there, and its hash is right.
    Good,
    /// All of it is there, and its hash is wrong.
    Bad,
    /// Some of it was never written, or its file is gone or too short.
    Missing,
    /// Some of it is on a file that cannot be read, or not by us.
    Unreadable,
}

/// How a check is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Threads that hash at once, and a few others that read for them; 0 counts as 1. Default: one for each core.
    pub threads: usize,
    /// How many bytes are read a second, by all threads together. Default: as many as can be.
    pub rate: Option<u64>,
    /// The threads give way to everybody else's, for the processor and for the disk. Default: no.
    pub low_priority: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { threads, rate: None, low_priority: false }
    }
}

/// What a check has to say beyond the state of each piece.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The files that could not be read, by their index: the first piece that was hit, and why. A file that is
    /// missing or too short is none of them.
    pub unreadable: BTreeMap<usize, (PieceIndex, DiskError)>,
}

impl CheckReport {
    fn add(&mut self, piece: PieceIndex, Unreadable { file, error }: Unreadable) {
        let is_first = self.unreadable.get(&file).is_none_or(|(first, _)| piece < *first);
        if is_first {
            self.unreadable.insert(file, (piece, error));
        }
    }
}

/// Hashes a batch of pieces in the calling thread: the states of all, in order. [`batch_len`] pieces that are
/// neighbours are hashed fastest.
///
/// # Errors
/// Why a piece cannot be read, if one cannot; [`DiskError::Cancelled`] soon after `cancel` is set;
/// [`DiskError::Contradiction`] if the torrent is no good. What was found by then is lost.
pub fn check_batch(
    storage: &Storage,
    metainfo: &Metainfo,
    pieces: &[PieceIndex],
    crew: &Crew,
    scratch: &mut Scratch,
    cancel: &AtomicBool,
) -> Result<Vec<(PieceIndex, PieceState)>, DiskError> {
    let format = metainfo.format();
    let zeros = ZeroHashes::new(format, storage.layout());
    let (mut states, mut report) = (Vec::with_capacity(pieces.len()), CheckReport::default());
    let throttle = Throttle::new(None, cancel);
    Batch { storage, format, pieces, next: &[] }.hash(
        &mut crew.turn(),
        scratch,
        &throttle,
        |piece, outcome| {
            states.push((piece, state_of(metainfo, &zeros, piece, outcome, &mut report)?));
            Ok(())
        },
    )?;
    match report.unreadable.into_values().min_by_key(|(piece, _)| *piece) {
        Some((_, error)) => Err(error),
        None => {
            states.sort_unstable_by_key(|&(piece, _)| piece);
            Ok(states)
        }
    }
}

/// Hashes `pieces` on threads of its own, and calls `on_piece` for each from one of them, in no certain order.
/// A piece that cannot be read does not keep the others from being looked at.
///
/// Each thread takes a [batch](batch_len) of neighbouring pieces at a time, so that a disk with a moving head streams.
///
/// # Errors
/// [`DiskError::Cancelled`] soon after `cancel` is set; [`DiskError::Contradiction`] if the torrent is no good.
pub fn check_pieces(
    storage: &Storage,
    metainfo: &Metainfo,
    pieces: &[PieceIndex],
    options: &CheckOptions,
    cancel: &AtomicBool,
    on_piece: impl Fn(PieceIndex, PieceState) + Sync,
) -> Result<CheckReport, DiskError> {
    let format = metainfo.format();
    let zeros = ZeroHashes::new(format, storage.layout());
    let report = Mutex::new(CheckReport::default());
    hash_pieces(storage, format, pieces, options, cancel, |piece, outcome| {
        let state = state_of(metainfo, &zeros, piece, outcome, &mut lock(&report))?;
        on_piece(piece, state);
        Ok(())
    })?;
    Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The hashes of version 1 of all pieces of the files below `root`, to make a torrent of them. `on_progress` is called
/// with the number of bytes hashed since the last call, from any of the threads.
///
/// # Errors
/// [`DiskError::Missing`] or [`DiskError::Shortened`] if the files are not as `layout` says;
/// [`DiskError::Cancelled`] once `cancel` is set.
pub fn hash_files(
    layout: &Arc<FileLayout>,
    root: &Path,
    threads: usize,
    cancel: &AtomicBool,
    on_progress: impl Fn(u64) + Sync,
) -> Result<Vec<[u8; 20]>, DiskError> {
    let check = CheckOptions { threads, ..CheckOptions::default() };
    hash_files_as(Format::V1, layout, root, &check, cancel, on_progress).map(|hashes| hashes.v1)
}

/// The hashes of all pieces as `format` wants them, and else as [`hash_files`] does.
///
/// # Errors
/// As `hash_files`.
pub fn hash_files_as(
    format: Format,
    layout: &Arc<FileLayout>,
    root: &Path,
    check: &CheckOptions,
    cancel: &AtomicBool,
    on_progress: impl Fn(u64) + Sync,
) -> Result<PieceHashes, DiskError> {
    let options = StorageOptions {
        preallocate: false,
        wanted: vec![true; layout.files().len()],
        part_path: PathBuf::new(),
    };
    let pool = Arc::new(FilePool::default());
    let storage = Storage::new(Arc::clone(layout), root.to_owned(), pool, options);
    let zeros = ZeroHashes::new(format, layout);
    let count = layout.piece_count() as usize;
    let hashes = Mutex::new(PieceHashes {
        v1: vec![[0; 20]; if format.has_v1() { count } else { 0 }],
        v2: vec![[0; 32]; if format.has_v2() { count } else { 0 }],
    });
    let pieces: Vec<PieceIndex> = (0..layout.piece_count()).map(PieceIndex).collect();
    hash_pieces(&storage, format, &pieces, check, cancel, |piece, outcome| {
        let hash = match outcome {
            Outcome::Hash(hash) => hash,
            Outcome::Hole => zeros.of(piece),
            Outcome::Unreadable(Unreadable { error, .. }) => return Err(error),
        };
        let mut hashes = lock(&hashes);
        if let (Some(place), Some(hash)) = (hashes.v1.get_mut(piece.index()), hash.v1) {
            *place = hash;
        }
        if let (Some(place), Some(hash)) = (hashes.v2.get_mut(piece.index()), hash.v2) {
            *place = hash;
        }
        drop(hashes);
        on_progress(u64::from(layout.len_of(piece)));
        Ok(())
    })?;
    Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The blocks of a piece of version 2 that are not what they must be, by their index. What cannot be read is wrong.
/// `None` if it is not [known](PieceLayers::blocks) what they must be.
pub fn wrong_blocks(
    storage: &Storage,
    layers: &PieceLayers,
    piece: PieceIndex,
) -> Option<Vec<u32>> {
    let len = layers.check(piece)?.len;
    let offsets = (0..len).step_by(BLOCK_LEN as usize);
    let is_wrong = |(offset, right): (u32, Hash)| {
        let block = storage.read(piece, offset, BLOCK_LEN.min(len - offset));
        let is_right = block.is_ok_and(|block| sha_lanes::sha256(&block) == right);
        (!is_right).then_some(offset / BLOCK_LEN)
    };
    Some(offsets.zip(layers.blocks(piece)?).filter_map(is_wrong).collect())
}

fn state_of(
    metainfo: &Metainfo,
    zeros: &ZeroHashes<'_>,
    piece: PieceIndex,
    outcome: Outcome,
    report: &mut CheckReport,
) -> Result<PieceState, DiskError> {
    let (hash, if_wrong) = match outcome {
        Outcome::Hash(hash) => (hash, PieceState::Bad),
        // A hole reads as zeros, and a piece may well be zeros; only if it is not, the hole says that it is missing.
        Outcome::Hole => (zeros.of(piece), PieceState::Missing),
        Outcome::Unreadable(Unreadable { error, .. }) if error.is_absence() => {
            return Ok(PieceState::Missing);
        }
        Outcome::Unreadable(unreadable) => {
            report.add(piece, unreadable);
            return Ok(PieceState::Unreadable);
        }
    };
    match hash.judge(&metainfo.piece_check(piece)) {
        Judgement::Right => Ok(PieceState::Good),
        Judgement::Wrong => Ok(if_wrong),
        Judgement::Contradiction => Err(DiskError::Contradiction { piece }),
    }
}

/// Hashes pieces on threads of its own, and tells what came of each from any of them, until one fails.
fn hash_pieces(
    storage: &Storage,
    format: Format,
    pieces: &[PieceIndex],
    options: &CheckOptions,
    cancel: &AtomicBool,
    tell: impl Fn(PieceIndex, Outcome) -> Result<(), DiskError> + Sync,
) -> Result<(), DiskError> {
    let (crew, threads) = (Crew::new(options.threads), Crew::threads(options.threads));
    let throttle = Throttle::new(options.rate, cancel);
    let (left, failure) = (Mutex::new(pieces), Mutex::new(None));
    // Of few pieces each thread gets its share.
    let share = batch_len(storage.layout()).min(pieces.len().div_ceil(options.threads.max(1)));
    let take = || {
        let mut left = lock(&left);
        let (pieces, others) = left.split_at(share.min(left.len()));
        *left = others;
        Batch { storage, format, pieces, next: &others[..share.min(others.len())] }
    };
    let work = || {
        if options.low_priority {
            reactor::lower_priority(NICE, true);
        }
        let (mut turn, mut scratch) = (crew.turn(), Scratch::default());
        let mut batch = take();
        while !batch.pieces.is_empty() {
            if let Err(error) = batch.hash(&mut turn, &mut scratch, &throttle, &tell) {
                lock(&failure).get_or_insert(error);
                throttle.stop();
                return;
            }
            batch = take();
        }
    };
    thread::scope(|scope| {
        let spawn = || {
            let name = "checker".to_owned();
            thread::Builder::new().name(name).spawn_scoped(scope, work)
        };
        let spawned = (0..threads).map_while(|_| spawn().ok()).count();
        if spawned == 0 {
            work();
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The hashes that pieces of nothing but zeros have, made when first asked for.
struct ZeroHashes<'a> {
    format: Format,
    layout: &'a FileLayout,
    whole: OnceLock<PieceHash>,
}

impl<'a> ZeroHashes<'a> {
    fn new(format: Format, layout: &'a FileLayout) -> Self {
        Self { format, layout, whole: OnceLock::new() }
    }

    fn of(&self, piece: PieceIndex) -> PieceHash {
        let hash = || PieceHash::of_zeros(self.format, self.layout, piece);
        let len = self.layout.piece_len();
        let is_whole = self.layout.len_of(piece) == len
            && (!self.format.has_v2()
                || self.layout.tree_shape(piece) == (len, self.layout.piece_height()));
        if is_whole { *self.whole.get_or_init(hash) } else { hash() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic is done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a thread of low priority steps back: all the way.
const NICE: u8 = 19;
