//! One torrent's files, as another program would see them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{DiskError, FilePool, FileStamp, Storage, StorageOptions};
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;
use torrent::PieceIndex;
use torrent::metainfo::{FileEntry, FileLayout, RelativePath};

const PIECE_LEN: u32 = 10;

/// Three pieces over five files: `a` 0..7, `empty`, `b` 7..9, `c` 9..25, `empty2`; the first piece
/// touches three files.
const FILES: [(&str, u64); 5] =
    [("t/a", 7), ("t/empty", 0), ("t/d/b", 2), ("t/d/c", 16), ("t/empty2", 0)];
const PIECES: [&[u8]; 3] = [b"0123456789", b"abcdefghij", b"ABCDE"];
const EVERYTHING: [bool; 5] = [true; 5];
const WITHOUT_C: [bool; 5] = [true, true, true, false, true];

struct Fixture {
    dir: TempDir,
    storage: Storage,
}

impl Fixture {
    fn new(wanted: [bool; 5]) -> Self {
        Self::open(tempfile::tempdir().unwrap(), wanted)
    }

    fn open(dir: TempDir, wanted: [bool; 5]) -> Self {
        let storage = Storage::new(
            layout(PIECE_LEN, &FILES),
            dir.path().join("downloads"),
            Arc::new(FilePool::new(2)),
            StorageOptions {
                preallocate: false,
                wanted: wanted.to_vec(),
                part_path: ".t.part".into(),
            },
        );
        Self { dir, storage }
    }

    /// As if the program were started anew.
    fn reopen(self, wanted: [bool; 5]) -> Self {
        let Self { dir, storage } = self;
        drop(storage);
        Self::open(dir, wanted)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("downloads").join(below)
    }

    fn write(&self, piece: u32) -> Result<(), DiskError> {
        let (head, tail) = PIECES[piece as usize].split_at(3);
        let data = [Bytes::from_static(head), Bytes::from_static(tail)];
        self.storage.write(PieceIndex(piece), 0, &data)
    }

    fn write_all(&self) {
        (0..3).for_each(|piece| self.write(piece).unwrap());
    }

    fn read(&self, piece: u32) -> Result<Bytes, DiskError> {
        self.storage.read(PieceIndex(piece), 0, PIECES[piece as usize].len() as u32)
    }

    fn has(&self, piece: u32) -> bool {
        let hash = self.storage.hash(PieceIndex(piece), &mut Vec::new()).unwrap();
        assert!(hash.is_none_or(|hash| hash == sha1_of(PIECES[piece as usize])));
        hash.is_some()
    }

    fn part_exists(&self) -> bool {
        self.path(".t.part").exists()
    }
}

fn sha1_of(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

#[test]
fn pieces_go_to_their_files_and_come_back() {
    let fixture = Fixture::new(EVERYTHING);
    fixture.storage.create_empty_files().unwrap();
    fixture.write_all();
    for (path, contents) in
        [("t/a", "0123456"), ("t/empty", ""), ("t/d/b", "78"), ("t/d/c", "9abcdefghijABCDE")]
    {
        assert_eq!(fs::read_to_string(fixture.path(path)).unwrap(), contents, "{path}");
    }
    assert!(fixture.path("t/empty2").is_file() && !fixture.part_exists());
    for (piece, bytes) in PIECES.iter().enumerate() {
        assert_eq!(fixture.read(piece as u32).unwrap(), *bytes);
        assert!(fixture.has(piece as u32));
    }
    let middle = fixture.storage.read(PieceIndex(0), 5, 4).unwrap();
    assert_eq!(middle, "5678");
    fixture.storage.sync().unwrap();
}

#[test]
fn nothing_is_touched_until_it_is_written() {
    let fixture = Fixture::new(EVERYTHING);
    assert!(fixture.read(0).unwrap_err().is_absence());
    assert!(!fixture.has(1));
    assert_eq!(fixture.storage.file_stamps(), [None; 5]);
    assert!(!fixture.path("").exists());
}

#[test]
fn a_file_grows_as_it_is_written_and_ends_with_its_exact_length() {
    let fixture = Fixture::new(EVERYTHING);
    let len = |path| fs::metadata(fixture.path(path)).unwrap().len();
    fixture.write(1).unwrap();
    assert_eq!(len("t/d/c"), 11);
    assert!(!fixture.path("t/a").exists());
    assert!(fixture.has(1) && !fixture.has(0) && !fixture.has(2));
    fixture.write_all();
    assert_eq!((len("t/a"), len("t/d/b"), len("t/d/c")), (7, 2, 16));
}

#[test]
fn a_longer_file_that_was_there_is_cut_when_all_is_complete() {
    let fixture = Fixture::new(EVERYTHING);
    fs::create_dir_all(fixture.path("t")).unwrap();
    fs::write(fixture.path("t/a"), "longer than that").unwrap();
    fixture.write_all();
    fixture.storage.cut_to_length().unwrap();
    assert_eq!(fs::read_to_string(fixture.path("t/a")).unwrap(), "0123456");
    assert!(fixture.has(0));
}

#[test]
fn preallocated_files_have_their_length_at_once() {
    let fixture = Fixture::new(WITHOUT_C);
    let storage = preallocating(&fixture, WITHOUT_C);
    storage.create_empty_files().unwrap();
    assert_eq!(fs::read(fixture.path("t/a")).unwrap(), [0; 7]);
    assert_eq!(fs::read(fixture.path("t/d/b")).unwrap(), [0; 2]);
    assert!(!fixture.path("t/d/c").exists());
    storage.set_wanted(1, EVERYTHING.to_vec()).unwrap();
    assert_eq!(fs::metadata(fixture.path("t/d/c")).unwrap().len(), 16);
}

fn preallocating(fixture: &Fixture, wanted: [bool; 5]) -> Storage {
    let (wanted, part_path) = (wanted.to_vec(), fixture.path(".t.part"));
    let options = StorageOptions { preallocate: true, wanted, part_path };
    let layout = Arc::clone(fixture.storage.layout());
    Storage::new(layout, fixture.path(""), Arc::default(), options)
}

#[test]
fn stray_bytes_of_an_unwanted_file_go_to_the_part_file() {
    let fixture = Fixture::new(WITHOUT_C);
    fixture.write(0).unwrap();
    assert!(fixture.part_exists() && !fixture.path("t/d/c").exists());
    assert_eq!(fixture.read(0).unwrap(), PIECES[0]);
    assert!(fixture.has(0) && !fixture.has(1));
    let fixture = fixture.reopen(WITHOUT_C);
    assert_eq!(fixture.read(0).unwrap(), PIECES[0]);
}

#[test]
fn a_file_that_becomes_wanted_gets_its_stray_bytes() {
    let fixture = Fixture::new([false, true, true, false, true]);
    fixture.write(0).unwrap();
    fixture.storage.set_wanted(1, WITHOUT_C.to_vec()).unwrap();
    assert_eq!(fs::read_to_string(fixture.path("t/a")).unwrap(), "0123456");
    assert!(fixture.part_exists(), "c is still unwanted");
    assert!(fixture.has(0));
    fixture.storage.set_wanted(2, EVERYTHING.to_vec()).unwrap();
    assert_eq!(fs::read_to_string(fixture.path("t/d/c")).unwrap(), "9");
    assert!(!fixture.part_exists() && fixture.has(0));
}

#[test]
fn what_became_wanted_while_we_did_not_run_is_read_at_once_and_moved_before_a_write() {
    let fixture = Fixture::new(WITHOUT_C);
    fixture.write(0).unwrap();
    let fixture = fixture.reopen(EVERYTHING);
    assert!(fixture.has(0));
    assert!(fixture.part_exists(), "reading changes nothing");
    fixture.write(2).unwrap();
    assert!(!fixture.part_exists() && fixture.has(0) && fixture.has(2));
}

#[test]
fn a_wish_that_was_overtaken_by_a_later_one_changes_nothing() {
    let fixture = Fixture::new([false, true, true, false, true]);
    fixture.write(0).unwrap();
    fixture.storage.set_wanted(2, EVERYTHING.to_vec()).unwrap();
    fixture.storage.set_wanted(1, [false; 5].to_vec()).unwrap();
    fixture.write(1).unwrap();
    assert!(!fixture.part_exists());
}

#[test]
fn a_file_no_longer_wanted_keeps_what_it_has() {
    let fixture = Fixture::new(EVERYTHING);
    fixture.storage.write(PieceIndex(0), 0, &[Bytes::from_static(b"01234567")]).unwrap();
    fixture.storage.set_wanted(1, [true, true, false, false, true].to_vec()).unwrap();
    fixture.storage.write(PieceIndex(0), 8, &[Bytes::from_static(b"89")]).unwrap();
    assert_eq!(fs::read_to_string(fixture.path("t/d/b")).unwrap(), "7");
    assert!(fixture.has(0));
    fixture.storage.set_wanted(2, EVERYTHING.to_vec()).unwrap();
    assert_eq!(fs::read_to_string(fixture.path("t/d/b")).unwrap(), "78");
    assert!(fixture.has(0) && !fixture.part_exists());
}

#[test]
fn a_part_file_of_noise_costs_pieces_but_no_good_bytes() {
    let fixture = Fixture::new(WITHOUT_C);
    fixture.write(0).unwrap();
    let noise = vec![0x5a; 500];
    fs::write(fixture.path(".t.part"), &noise).unwrap();
    let fixture = fixture.reopen(WITHOUT_C);
    assert!(!fixture.has(0));
    assert_eq!(fs::read(fixture.path("t/a")).unwrap(), b"0123456");
    fixture.write(0).unwrap();
    assert!(fixture.has(0));
}

#[test]
fn links_in_the_download_folder_are_refused() {
    let fixture = Fixture::new(EVERYTHING);
    let outside = fixture.dir.path().join("outside");
    fs::create_dir_all(outside.join("d")).unwrap();
    fs::write(outside.join("a"), "theirs!").unwrap();
    fs::create_dir_all(fixture.path("t")).unwrap();
    symlink(outside.join("a"), fixture.path("t/a")).unwrap();
    symlink(outside.join("d"), fixture.path("t/d")).unwrap();
    for piece in 0..3 {
        let error = fixture.write(piece).unwrap_err();
        assert!(matches!(error, DiskError::UnsafePath { .. }), "{error}");
        let error = fixture.read(piece).unwrap_err();
        assert!(matches!(error, DiskError::UnsafePath { .. }), "{error}");
    }
    assert_eq!(fixture.storage.file_stamps()[0], None);
    assert_eq!(fs::read(outside.join("a")).unwrap(), b"theirs!");
    assert_eq!(fs::read_dir(outside.join("d")).unwrap().count(), 0);
}

#[test]
fn a_link_in_place_of_the_part_file_is_refused() {
    let fixture = Fixture::new(WITHOUT_C);
    let outside = fixture.dir.path().join("outside");
    fs::create_dir_all(fixture.path("")).unwrap();
    symlink(&outside, fixture.path(".t.part")).unwrap();
    assert!(matches!(fixture.write(0), Err(DiskError::UnsafePath { .. })));
    assert!(!outside.exists());
}

#[test]
fn a_file_that_is_gone_stays_missing_until_the_files_are_looked_at_anew() {
    let fixture = Fixture::new(EVERYTHING);
    fixture.write_all();
    fs::remove_file(fixture.path("t/d/c")).unwrap();
    assert!(matches!(fixture.read(1), Err(DiskError::Missing { .. })));
    assert!(matches!(fixture.write(1), Err(DiskError::Missing { .. })), "not made anew in silence");
    assert!(!fixture.has(0) && fixture.storage.read(PieceIndex(0), 0, 7).is_ok());
    fixture.storage.close_files();
    fixture.write_all();
    assert!((0..3).all(|piece| fixture.has(piece)));
}

#[test]
fn a_file_that_was_shortened_says_so() {
    let fixture = Fixture::new(EVERYTHING);
    fixture.write_all();
    fs::OpenOptions::new().write(true).open(fixture.path("t/d/c")).unwrap().set_len(5).unwrap();
    assert!(matches!(fixture.read(2), Err(DiskError::Shortened { .. })));
    assert!(matches!(fixture.write(2), Err(DiskError::Shortened { .. })));
    assert!(!fixture.has(2));
    fixture.storage.close_files();
    assert!(fixture.has(0) && !fixture.has(1) && !fixture.has(2));
    fixture.write_all();
    assert!((0..3).all(|piece| fixture.has(piece)));
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_lost() {
    let fixture = Fixture::new(EVERYTHING);
    fs::create_dir_all(fixture.path("t/a")).unwrap();
    fs::write(fixture.path("t/d"), "a file").unwrap();
    let in_the_way = |piece| match fixture.write(piece) {
        Err(DiskError::InTheWay { path, .. }) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(in_the_way(0), fixture.path("t/a"));
    assert_eq!(in_the_way(1), fixture.path("t/d"));
    fs::remove_file(fixture.path("t/d")).unwrap();
    fs::remove_dir(fixture.path("t/a")).unwrap();
    fixture.write_all();
    assert!((0..3).all(|piece| fixture.has(piece)));
}

#[test]
fn stamps_tell_of_every_change() {
    let fixture = Fixture::new(WITHOUT_C);
    fixture.write(0).unwrap();
    let stamps = fixture.storage.file_stamps();
    assert_eq!(
        stamps.iter().map(|stamp| stamp.map(|stamp| stamp.len)).collect::<Vec<_>>(),
        [Some(7), None, Some(2), Some(1), None]
    );
    assert_eq!(fixture.storage.file_stamps(), stamps);
    let file = fs::OpenOptions::new().write(true).open(fixture.path("t/a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(fixture.storage.file_stamps()[0], Some(FileStamp { len: 7, mtime_ns: 0 }));
    fs::remove_file(fixture.path(".t.part")).unwrap();
    fixture.storage.close_files();
    assert_eq!(fixture.storage.file_stamps()[3], None);
}

#[test]
fn many_threads_write_and_read_through_a_small_pool() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..20).map(|n| (format!("t/{n}"), 1000)).collect();
    let files: Vec<_> = files.iter().map(|(path, len)| (path.as_str(), *len)).collect();
    let options =
        StorageOptions { preallocate: false, wanted: vec![true; 20], part_path: "p".into() };
    let pool = Arc::new(FilePool::new(3));
    let root = dir.path().to_owned();
    let storage = Storage::new(layout(64, &files), root, Arc::clone(&pool), options);
    let count = storage.layout().piece_count();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for piece in (thread..count).step_by(4).map(PieceIndex) {
                    let len = storage.layout().len_of(piece) as usize;
                    let data = Bytes::from(vec![piece.0 as u8; len]);
                    storage.write(piece, 0, std::slice::from_ref(&data)).unwrap();
                    assert_eq!(storage.read(piece, 0, len as u32).unwrap(), data);
                }
            });
        }
    });
    assert!(pool.open_count() <= 3);
    drop(storage);
    assert_eq!(pool.open_count(), 0);
}

/// Needs the right to mount; where it is missing, `error` and `file_io` still show what a full disk is.
#[test]
fn a_full_disk_is_said_to_be_full_and_goes_on_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else { return };
    let files = [("t/big", 2 << 20), ("t/small", 1)];
    let options =
        StorageOptions { preallocate: false, wanted: vec![true; 2], part_path: "p".into() };
    let root = disk.0.clone();
    let storage = Storage::new(layout(1 << 20, &files), root, Arc::default(), options.clone());
    let data = [Bytes::from(vec![7; 1 << 20])];
    fs::write(disk.0.join("filler"), vec![0; 700 << 10]).unwrap();
    let error = storage.write(PieceIndex(0), 0, &data).unwrap_err();
    assert!(matches!(error, DiskError::Full { .. }), "{error:?}");
    fs::remove_file(disk.0.join("filler")).unwrap();
    storage.write(PieceIndex(0), 0, &data).unwrap();
    assert_eq!(storage.read(PieceIndex(0), 0, 1 << 20).unwrap(), data[0]);

    let options = StorageOptions { preallocate: true, ..options };
    let root = disk.0.clone();
    let storage = Storage::new(layout(1 << 20, &files), root, Arc::default(), options);
    let error = storage.create_empty_files().unwrap_err();
    assert!(matches!(error, DiskError::Full { .. }), "{error:?}");
}

/// A file system of 1.5 MiB, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> Option<Self> {
        let path = dir.join("small");
        fs::create_dir(&path).unwrap();
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=1536k", "tmpfs"]).arg(&path);
        let output = command.output().ok()?;
        output.status.success().then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Files of these paths and lengths, none of them special.
fn layout(piece_len: u32, files: &[(&str, u64)]) -> Arc<FileLayout> {
    Arc::new(
        FileLayout::new(piece_len, files.iter().map(|&(path, len)| entry(path, len)).collect())
            .unwrap(),
    )
}

/// One file that is not special.
fn entry(path: &str, len: u64) -> FileEntry {
    let components = path.split('/').map(|name| name.as_bytes().to_vec()).collect();
    let path = RelativePath::from_components(components).unwrap();
    FileEntry { path, len, is_pad: false, is_executable: false, is_hidden: false }
}
