//! The checker against a naive one that reads every file whole, on layouts that nobody would make on purpose.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::disk::{
    CheckOptions, Crew, DiskError, FilePool, PieceState, Scratch, Storage, StorageOptions,
    batch_len, check_batch, check_pieces, hash_files,
};
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::{PieceIndex, Rng};

struct File {
    len: usize,
    is_pad: bool,
}

/// Files `t/0`, `t/1` and so on, as the torrent has them, in a folder.
struct Fixture {
    dir: TempDir,
    files: Vec<File>,
    metainfo: Metainfo,
    storage: Storage,
}

impl Fixture {
    fn new(piece_len: usize, files: Vec<File>, rng: &mut Rng) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("t")).unwrap();
        let mut all = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let words = (0..file.len.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes());
            let mut bytes: Vec<u8> = words.take(file.len).collect();
            if file.is_pad {
                bytes.fill(0);
            } else {
                fs::write(dir.path().join(format!("t/{index}")), &bytes).unwrap();
            }
            all.append(&mut bytes);
        }
        let hashes = all.chunks(piece_len).map(|piece| Sha1::digest(piece).into()).collect();
        Self::with_hashes(dir, piece_len, files, hashes)
    }

    fn with_hashes(
        dir: TempDir,
        piece_len: usize,
        files: Vec<File>,
        hashes: Vec<[u8; 20]>,
    ) -> Self {
        let entry = |(index, file): (usize, &File)| {
            let attr = if file.is_pad { "4:attr1:p" } else { "" };
            let name = index.to_string();
            let len = file.len;
            format!("d{attr}6:lengthi{len}e4:pathl{}:{name}ee", name.len())
        };
        let list: String = files.iter().enumerate().map(entry).collect();
        let head = format!("d4:infod5:filesl{list}e4:name1:t12:piece lengthi{piece_len}e6:pieces");
        let mut torrent = head.into_bytes();
        torrent.extend(format!("{}:", hashes.len() * 20).into_bytes());
        torrent.extend(hashes.concat());
        torrent.extend(b"ee");
        let metainfo = Metainfo::parse(&torrent).unwrap();
        let options = StorageOptions {
            preallocate: false,
            wanted: vec![true; files.len()],
            part_path: ".t.part".into(),
        };
        let pool = Arc::new(FilePool::new(3));
        let root = dir.path().to_owned();
        let storage = Storage::new(Arc::clone(metainfo.layout()), root, pool, options);
        Self { dir, files, metainfo, storage }
    }

    /// One file of so many pieces, and an equally long one behind it.
    fn two_files(piece_len: usize, pieces: usize) -> Self {
        let len = piece_len * pieces;
        let files = vec![File { len, is_pad: false }, File { len, is_pad: false }];
        Self::new(piece_len, files, &mut Rng::from_seed(1))
    }

    /// With empty ones, pads, files smaller than a piece, and lengths off the piece's.
    fn odd(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        // Now and then so long that a piece is read in several stretches.
        let scale = if seed.is_multiple_of(20) { 150_000 } else { 500 };
        let piece_len = 1 + rng.below(scale);
        let file = |rng: &mut Rng| File {
            len: if rng.below(4) == 0 { 0 } else { rng.below(scale * 4) },
            is_pad: rng.below(5) == 0,
        };
        let mut files: Vec<File> = (0..1 + rng.below(8)).map(|_| file(&mut rng)).collect();
        // A torrent has at least a byte.
        files.push(File { len: 1 + rng.below(scale), is_pad: false });
        Self::new(piece_len, files, &mut rng)
    }

    fn path(&self, file: usize) -> PathBuf {
        self.dir.path().join(format!("t/{file}"))
    }

    fn pieces(&self) -> Vec<PieceIndex> {
        (0..self.metainfo.layout().piece_count()).map(PieceIndex).collect()
    }

    /// Changes one of the files.
    fn damage(&self, rng: &mut Rng) {
        let file = rng.below(self.files.len());
        let (path, len) = (self.path(file), self.files[file].len);
        if self.files[file].is_pad || !path.exists() {
            return;
        }
        let mut bytes = fs::read(&path).unwrap();
        match rng.below(4) {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, &bytes[..rng.below(bytes.len() + 1)]).unwrap(),
            2 => {
                bytes.resize(len + rng.below(1000), 7);
                fs::write(path, bytes).unwrap();
            }
            _ if bytes.is_empty() => {}
            _ => {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        }
    }

    /// What is there of each byte of the torrent.
    fn naive(&self) -> Vec<(PieceIndex, PieceState)> {
        let mut all: Vec<Option<u8>> = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let bytes = fs::read(self.path(index)).unwrap_or_default();
            let byte = |at| if file.is_pad { Some(0) } else { bytes.get(at).copied() };
            all.extend((0..file.len).map(byte));
        }
        let piece_len = self.metainfo.layout().piece_len() as usize;
        let state = |(index, bytes): (usize, &[Option<u8>])| {
            let piece = PieceIndex(index as u32);
            let whole: Option<Vec<u8>> = bytes.iter().copied().collect();
            let hash: Option<[u8; 20]> = whole.map(|bytes| Sha1::digest(bytes).into());
            let state = match hash {
                None => PieceState::Missing,
                Some(hash) if Some(hash) == self.metainfo.piece_hash(piece) => PieceState::Good,
                Some(_) => PieceState::Bad,
            };
            (piece, state)
        };
        all.chunks(piece_len).enumerate().map(state).collect()
    }

    fn batch(&self, pieces: &[PieceIndex]) -> Result<Vec<(PieceIndex, PieceState)>, DiskError> {
        let never = AtomicBool::new(false);
        check_batch(
            &self.storage,
            &self.metainfo,
            pieces,
            &Crew::new(1),
            &mut Scratch::default(),
            &never,
        )
    }
}

fn threads(threads: usize) -> CheckOptions {
    CheckOptions { threads, ..CheckOptions::default() }
}

#[test]
fn pieces_of_odd_layouts_are_what_a_naive_check_finds() {
    for seed in 0..200 {
        let (fixture, mut rng) = (Fixture::odd(seed), Rng::from_seed(seed));
        let pieces = fixture.pieces();
        for _ in 0..rng.below(4) {
            fixture.damage(&mut rng);
        }
        let expected = fixture.naive();
        // Pieces of any number and in any order make a batch.
        let mut shuffled = pieces.clone();
        rng.shuffle(&mut shuffled);
        let mut found = BTreeMap::new();
        for some in shuffled.chunks(1 + rng.below(40)) {
            let states = fixture.batch(some).unwrap();
            assert!(states.is_sorted_by_key(|(piece, _)| *piece) && states.len() == some.len());
            found.extend(states);
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "seed {seed}");

        let (found, never) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let tell = |piece, state| found.lock().unwrap().push((piece, state));
        let options = threads(1 + rng.below(4));
        fixture.storage.close_files();
        let (storage, metainfo) = (&fixture.storage, &fixture.metainfo);
        let report = check_pieces(storage, metainfo, &pieces, &options, &never, tell).unwrap();
        assert!(report.unreadable.is_empty());
        let mut found = found.into_inner().unwrap();
        found.sort_unstable_by_key(|(piece, _)| *piece);
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn what_is_on_the_disk_and_not_in_memory_hashes_alike() {
    // Pieces that are read together, whole, and in parts; and long files that begin and end anywhere.
    for piece_len in [50_001, 1 << 16, 2_500_000] {
        let lens = [4_300_000, 123, 4_400_001, 0, 70_000];
        let files = lens.map(|len| File { len, is_pad: false }).into();
        let fixture = Fixture::new(piece_len, files, &mut Rng::from_seed(piece_len as u64));
        let mut bytes = fs::read(fixture.path(2)).unwrap();
        bytes[3_000_000] ^= 1;
        fs::write(fixture.path(2), &bytes[..4_400_000]).unwrap();
        let expected = fixture.naive();
        (0..lens.len()).for_each(|file| forget(&fixture.path(file)));
        assert_eq!(fixture.batch(&fixture.pieces()).unwrap(), expected, "{piece_len}");
    }
}

/// Has the system drop what it holds of a file in memory.
fn forget(path: &Path) {
    let Ok(file) = fs::File::open(path) else { return };
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn files_hash_as_a_naive_hash_has_them_with_any_number_of_threads() {
    for seed in 0..60 {
        let fixture = Fixture::odd(seed);
        let (layout, hashed) = (fixture.metainfo.layout(), Mutex::new(0));
        let tell = |len| *hashed.lock().unwrap() += len;
        let (threads, never) = (seed as usize % 4, AtomicBool::new(false));
        let hashes = hash_files(layout, fixture.dir.path(), threads, &never, tell).unwrap();
        let expected =
            fixture.pieces().into_iter().filter_map(|piece| fixture.metainfo.piece_hash(piece));
        assert!(hashes.into_iter().eq(expected), "seed {seed}");
        assert_eq!(hashed.into_inner().unwrap(), layout.total_len());
    }
}

#[test]
fn a_file_that_is_not_there_ends_the_making_of_a_torrent() {
    let fixture = Fixture::two_files(1000, 90);
    fs::remove_file(fixture.path(1)).unwrap();
    let never = AtomicBool::new(false);
    let hashed = hash_files(fixture.metainfo.layout(), fixture.dir.path(), 2, &never, |_| {});
    assert!(matches!(hashed, Err(DiskError::Missing { path }) if path == fixture.path(1)));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_checked() {
    let fixture = Fixture::two_files(1000, 40);
    fs::rename(fixture.path(1), fixture.dir.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", fixture.path(1)).unwrap();
    let (pieces, never) = (fixture.pieces(), AtomicBool::new(false));
    let found = Mutex::new(BTreeMap::new());
    let tell = |piece, state| assert!(found.lock().unwrap().insert(piece, state).is_none());
    let (storage, metainfo) = (&fixture.storage, &fixture.metainfo);
    let report = check_pieces(storage, metainfo, &pieces, &threads(2), &never, tell).unwrap();
    let states: Vec<PieceState> = found.into_inner().unwrap().into_values().collect();
    assert_eq!(states, [[PieceState::Good; 40], [PieceState::Unreadable; 40]].concat());
    let (piece, error) = &report.unreadable[&1];
    assert_eq!((report.unreadable.len(), *piece), (1, PieceIndex(40)));
    assert!(matches!(error, DiskError::UnsafePath { path } if *path == fixture.path(1)));
    // A batch is all or nothing.
    assert!(matches!(fixture.batch(&pieces), Err(DiskError::UnsafePath { .. })));
    assert!(fixture.batch(&pieces[..40]).is_ok());
}

#[test]
fn a_hole_is_missing_unless_zeros_are_what_belongs_there() {
    let (dir, piece_len, zeros) = (tempfile::tempdir().unwrap(), 1 << 16, vec![0; 1 << 16]);
    fs::create_dir(dir.path().join("t")).unwrap();
    let file = fs::File::create(dir.path().join("t/0")).unwrap();
    file.set_len(4 << 16).unwrap();
    let data = vec![1; piece_len];
    std::os::unix::fs::FileExt::write_all_at(&file, &data, 1 << 16).unwrap();
    let [zeros, data] = [zeros, data].map(|bytes| Sha1::digest(bytes).into());
    let files = vec![File { len: 4 << 16, is_pad: false }];
    let fixture = Fixture::with_hashes(dir, piece_len, files, vec![zeros, data, data, zeros]);
    let states: Vec<_> =
        fixture.batch(&fixture.pieces()).unwrap().into_iter().map(|(_, state)| state).collect();
    let third = if holes_show(&fixture.path(0)) { PieceState::Missing } else { PieceState::Bad };
    assert_eq!(states, [PieceState::Good, PieceState::Good, third, PieceState::Good]);
}

/// Whether this file system tells what was never written.
fn holes_show(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).unwrap().blocks() * 512 < 4 << 16
}

#[test]
fn a_check_ends_soon_after_it_is_cancelled() {
    let fixture = Fixture::two_files(40_000, 40);
    let (pieces, cancel) = (fixture.pieces(), AtomicBool::new(false));
    let (storage, metainfo) = (&fixture.storage, &fixture.metainfo);
    // At this rate it would take days.
    let options = CheckOptions { rate: Some(1), ..threads(2) };
    std::thread::scope(|scope| {
        let check = || check_pieces(storage, metainfo, &pieces, &options, &cancel, |_, _| {});
        let checking = scope.spawn(check);
        std::thread::sleep(Duration::from_millis(20));
        cancel.store(true, Ordering::Relaxed);
        assert!(matches!(checking.join().unwrap(), Err(DiskError::Cancelled)));
    });
    let scratch = &mut Scratch::default();
    let batch = check_batch(storage, metainfo, &pieces, &Crew::new(1), scratch, &cancel);
    assert!(matches!(batch, Err(DiskError::Cancelled)));
    let hashed = hash_files(metainfo.layout(), fixture.dir.path(), 2, &cancel, |_| {});
    assert!(matches!(hashed, Err(DiskError::Cancelled)));
}

#[test]
fn a_check_keeps_to_its_rate() {
    let fixture = Fixture::two_files(10_000, 50);
    let (begun, never) = (Instant::now(), AtomicBool::new(false));
    let options = CheckOptions { rate: Some(5_000_000), low_priority: true, ..threads(2) };
    let (storage, metainfo, pieces) = (&fixture.storage, &fixture.metainfo, fixture.pieces());
    check_pieces(storage, metainfo, &pieces, &options, &never, |_, _| {}).unwrap();
    // A megabyte takes 200 ms; what is read last is not waited for.
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[test]
fn nothing_is_written_while_a_check_looks() {
    let fixture = Fixture::two_files(1000, 4);
    let block = [Bytes::from_static(b"new")];
    assert!(fixture.storage.freeze(&AtomicBool::new(false)));
    let refused = fixture.storage.write(PieceIndex(0), 0, &block);
    assert!(matches!(refused, Err(DiskError::Cancelled)));
    assert_eq!(fixture.batch(&fixture.pieces()).unwrap(), fixture.naive());
    fixture.storage.thaw();
    fixture.storage.write(PieceIndex(0), 0, &block).unwrap();
    assert_eq!(fixture.batch(&fixture.pieces()).unwrap()[0].1, PieceState::Bad);
}

#[test]
fn a_batch_fills_the_lanes_and_small_pieces_make_more_of_them() {
    let lanes = sha_lanes::lanes();
    let len = |piece_len| {
        let files = vec![File { len: 1, is_pad: false }];
        let dir = tempfile::tempdir().unwrap();
        batch_len(Fixture::with_hashes(dir, piece_len, files, vec![[0; 20]]).metainfo.layout())
    };
    assert_eq!(len(1 << 24), lanes);
    assert!(len(1 << 10) > lanes && len(1 << 10).is_multiple_of(lanes));
}
