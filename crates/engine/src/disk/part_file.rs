//! The stray bytes of pieces that touch a file nobody wants.
//!
//! A piece can only be verified whole. If part of it lies in an unwanted file, that file must not appear
//! on the disk for it; its share of the piece is kept here, and moved out when the file is wanted after all.
//!
//! The file is a log: a header that says which torrent it belongs to, then records, each saying which
//! bytes of which file follow it. Bytes that are here already are overwritten in place, so records
//! never overlap and the log grows no longer than what it holds. A record is written in one go, header
//! first; if the program is killed in the middle, the record is cut off at the end of the file and is not
//! believed. Nothing here is believed beyond that: pieces are hashed before they count.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use super::DiskError;
use super::file_io::{read_exact_at, write_all_at};
use super::path::{Access, open_below, remove_below, split};

/// An open part file and what is in it.
#[derive(Debug)]
pub(super) struct PartFile {
    folder: PathBuf,
    name: PathBuf,
    path: PathBuf,
    /// Says which torrent this belongs to.
    fingerprint: [u8; 20],
    file: Option<OpenPart>,
    /// By file and offset in it. They never overlap.
    extents: BTreeMap<(usize, u64), Extent>,
    /// Where the next record goes.
    end: u64,
}

#[derive(Debug)]
struct OpenPart {
    file: File,
    is_writable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    len: u32,
    /// Where its record begins in the part file.
    record_at: u64,
}

/// A run of bytes of one file, and where to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// From the start of the file.
    pub(super) offset: u64,
    /// In bytes, at least 1.
    pub(super) len: u32,
    /// Where it is in the part file; `None` if it is not there.
    at: Option<u64>,
}

impl Segment {
    /// Whether the part file has these bytes.
    pub(super) fn is_here(&self) -> bool {
        self.at.is_some()
    }
}

impl PartFile {
    /// Reads the index of the part file at `path`, which need not exist. `len_of` gives the length of each file
    /// that may have bytes here.
    pub(super) fn load(
        path: &Path,
        fingerprint: [u8; 20],
        len_of: impl Fn(usize) -> Option<u64>,
    ) -> Result<Self, DiskError> {
        let (folder, name) = split(path);
        let mut part = Self {
            folder,
            name,
            path: path.to_owned(),
            fingerprint,
            file: None,
            extents: BTreeMap::new(),
            end: 0,
        };
        match open_below(&part.folder, &part.name, Access::Read) {
            Ok(file) => {
                part.scan(&file, len_of)?;
                part.file = Some(OpenPart { file, is_writable: false });
                Ok(part)
            }
            Err(DiskError::Missing { .. }) => Ok(part),
            Err(error) => Err(error),
        }
    }

    /// Whether no byte is here.
    pub(super) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// The files that have bytes here, in order.
    pub(super) fn files(&self) -> Vec<usize> {
        let mut files: Vec<_> = self.extents.keys().map(|&(file, _)| file).collect();
        files.dedup();
        files
    }

    /// For each of these files, how many of its bytes are here.
    pub(super) fn lens(&self) -> BTreeMap<usize, u64> {
        let len_of = |file| self.of_file(file).map(|(_, extent)| u64::from(extent.len)).sum();
        self.files().into_iter().map(|file| (file, len_of(file))).collect()
    }

    /// Cuts `len` bytes of `file` into runs that are here and runs that are not.
    pub(super) fn segments(&self, file: usize, mut offset: u64, mut len: u32) -> Vec<Segment> {
        let mut segments = Vec::new();
        while len > 0 {
            let segment = self.segment(file, offset, len);
            offset = offset.saturating_add(u64::from(segment.len));
            len = len.saturating_sub(segment.len);
            segments.push(segment);
        }
        segments
    }

    /// The first run of these bytes that is either here as a whole or not here at all.
    fn segment(&self, file: usize, offset: u64, len: u32) -> Segment {
        let before = self.extents.range((file, 0)..=(file, offset)).next_back();
        if let Some((&(_, start), extent)) = before {
            let skipped = offset.saturating_sub(start);
            let left = u64::from(extent.len).saturating_sub(skipped);
            if left > 0 {
                let at = data_at(extent).saturating_add(skipped);
                return Segment { offset, len: at_most(len, left), at: Some(at) };
            }
        }
        let after = self.extents.range((file, offset)..=(file, u64::MAX)).next();
        let gap = after.map_or(u64::MAX, |(&(_, start), _)| start.saturating_sub(offset));
        Segment { offset, len: at_most(len, gap), at: None }
    }

    /// Reads a segment that is here.
    pub(super) fn read(&self, segment: Segment, buf: &mut [u8]) -> Result<(), DiskError> {
        let (Some(open), Some(at)) = (&self.file, segment.at) else {
            return Err(DiskError::Missing { path: self.path.clone() });
        };
        read_exact_at(&open.file, buf, at).map_err(|fault| fault.at(&self.path))
    }

    /// Keeps `data`, which belongs at `offset` of `file`.
    pub(super) fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.open_for_writing()?;
        let len = u32::try_from(data.len()).expect("a span's length fits in 32 bits");
        let mut rest = data;
        for segment in self.segments(file, offset, len) {
            let Some((now, later)) = rest.split_at_checked(segment.len as usize) else { break };
            match segment.at {
                Some(at) => self.put(&mut [IoSlice::new(now)], at)?,
                None => self.append(file, segment.offset, now)?,
            }
            rest = later;
        }
        Ok(())
    }

    /// Gives the bytes of `file` to `sink`, run by run with their offsets, then forgets them. If `sink` or
    /// the disk fails, everything is still here.
    pub(super) fn move_out(
        &mut self,
        file: usize,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let extents: Vec<_> =
            self.of_file(file).map(|(offset, extent)| (offset, *extent)).collect();
        let mut buf = Vec::new();
        for (offset, extent) in &extents {
            for segment in self.segments(file, *offset, extent.len) {
                self.move_segment(segment, &mut buf, &mut sink)?;
            }
        }
        self.open_for_writing()?;
        for (offset, extent) in extents {
            self.put(&mut [IoSlice::new(&[STATE_DEAD])], extent.record_at)?;
            self.extents.remove(&(file, offset));
        }
        Ok(())
    }

    fn move_segment(
        &self,
        segment: Segment,
        buf: &mut Vec<u8>,
        sink: &mut impl FnMut(u64, &[u8]) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut done = 0_u32;
        while done < segment.len {
            let len = segment.len.saturating_sub(done).min(MOVE_LEN);
            let moved = u64::from(done);
            let offset = segment.offset.saturating_add(moved);
            let at = segment.at.map(|at| at.saturating_add(moved));
            buf.resize(len as usize, 0);
            self.read(Segment { offset, len, at }, buf)?;
            sink(offset, buf)?;
            done = done.saturating_add(len);
        }
        Ok(())
    }

    /// Removes the file if nothing is in it. A file that is not a part file of this torrent stays.
    pub(super) fn remove_if_empty(&mut self) -> Result<(), DiskError> {
        if self.extents.is_empty() && self.end > 0 {
            remove_below(&self.folder, &self.name)?;
            self.file = None;
            self.end = 0;
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        match &self.file {
            Some(OpenPart { file, is_writable: true }) => {
                file.sync_data().map_err(|source| DiskError::from_io(&self.path, source))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn of_file(&self, file: usize) -> impl Iterator<Item = (u64, &Extent)> {
        self.extents
            .range((file, 0)..=(file, u64::MAX))
            .map(|(&(_, offset), extent)| (offset, extent))
    }

    /// Reads records until the first that is not whole.
    fn scan(
        &mut self,
        file: &File,
        len_of: impl Fn(usize) -> Option<u64>,
    ) -> Result<(), DiskError> {
        let fail = |source| DiskError::from_io(&self.path, source);
        let file_len = file.metadata().map_err(fail)?.len();
        let mut header = [0; HEADER_LEN];
        if file_len < HEADER_LEN as u64 {
            return Ok(());
        }
        read_exact_at(file, &mut header, 0).map_err(|fault| fault.at(&self.path))?;
        if header != header_of(&self.fingerprint) {
            tracing::warn!(path = %self.path.display(), "not a part file of this torrent: ignored");
            return Ok(());
        }
        self.end = HEADER_LEN as u64;
        while self.extents.len() < EXTENTS_MAX {
            let data_at = self.end.saturating_add(RECORD_LEN as u64);
            if data_at > file_len {
                break;
            }
            let mut bytes = [0; RECORD_LEN];
            read_exact_at(file, &mut bytes, self.end).map_err(|fault| fault.at(&self.path))?;
            let Some(record) = Record::decode(&bytes, &self.fingerprint) else { break };
            let next = data_at.saturating_add(u64::from(record.len));
            if next > file_len {
                break;
            }
            self.believe(record, &len_of);
            self.end = next;
        }
        Ok(())
    }

    /// Takes a record into the index if it can be true.
    fn believe(&mut self, record: Record, len_of: impl Fn(usize) -> Option<u64>) {
        let Record { is_live: true, file, offset, len } = record else { return };
        let file = file as usize;
        let end = offset.checked_add(u64::from(len));
        let fits = matches!((end, len_of(file)), (Some(end), Some(file_len)) if end <= file_len);
        let is_new = self.segment(file, offset, len) == Segment { offset, len, at: None };
        if len > 0 && fits && is_new {
            self.extents.insert((file, offset), Extent { len, record_at: self.end });
        }
    }

    fn append(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        if self.extents.len() >= EXTENTS_MAX {
            return Err(DiskError::TooLarge { path: self.path.clone() });
        }
        let len = u32::try_from(data.len()).expect("a span's length fits in 32 bits");
        let number = u32::try_from(file).expect("a torrent has fewer than 2^32 files");
        let record = Record { is_live: true, file: number, offset, len }.encode(&self.fingerprint);
        let record_at = self.end;
        self.put(&mut [IoSlice::new(&record), IoSlice::new(data)], record_at)?;
        let extent = Extent { len, record_at };
        self.end = data_at(&extent).saturating_add(u64::from(len));
        self.extents.insert((file, offset), extent);
        Ok(())
    }

    fn put(&self, slices: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError> {
        let Some(open) = &self.file else {
            return Err(DiskError::Missing { path: self.path.clone() });
        };
        write_all_at(&open.file, slices, at).map_err(|fault| fault.at(&self.path))
    }

    fn open_for_writing(&mut self) -> Result<(), DiskError> {
        if matches!(self.file, Some(OpenPart { is_writable: true, .. })) {
            return Ok(());
        }
        let access = Access::Create { is_executable: false };
        let file = open_below(&self.folder, &self.name, access)?;
        // What is past the last whole record is half a record, or none of ours.
        file.set_len(self.end).map_err(|source| DiskError::from_io(&self.path, source))?;
        self.file = Some(OpenPart { file, is_writable: true });
        if self.end == 0 {
            let header = header_of(&self.fingerprint);
            self.put(&mut [IoSlice::new(&header)], 0)?;
            self.end = HEADER_LEN as u64;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// Whether its bytes are still to be found here and nowhere else.
    is_live: bool,
    file: u32,
    offset: u64,
    len: u32,
}

impl Record {
    fn encode(self, fingerprint: &[u8; 20]) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let state = if self.is_live { STATE_LIVE } else { STATE_DEAD };
        let fields = [
            &[state, 0, 0, 0][..],
            &self.file.to_be_bytes(),
            &self.offset.to_be_bytes(),
            &self.len.to_be_bytes(),
            &self.checksum(fingerprint),
        ];
        for (byte, field) in bytes.iter_mut().zip(fields.concat()) {
            *byte = field;
        }
        bytes
    }

    fn decode(bytes: &[u8; RECORD_LEN], fingerprint: &[u8; 20]) -> Option<Self> {
        let (state, rest) = bytes.split_first_chunk::<4>()?;
        let (file, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (len, checksum) = rest.split_first_chunk()?;
        let record = Self {
            is_live: match *state {
                [STATE_LIVE, 0, 0, 0] => true,
                [STATE_DEAD, 0, 0, 0] => false,
                _ => return None,
            },
            file: u32::from_be_bytes(*file),
            offset: u64::from_be_bytes(*offset),
            len: u32::from_be_bytes(*len),
        };
        (checksum == record.checksum(fingerprint)).then_some(record)
    }

    /// Over all but the state, which changes.
    fn checksum(self, fingerprint: &[u8; 20]) -> [u8; CHECKSUM_LEN] {
        let digest: [u8; 20] = Sha1::new()
            .chain_update(fingerprint)
            .chain_update(self.file.to_be_bytes())
            .chain_update(self.offset.to_be_bytes())
            .chain_update(self.len.to_be_bytes())
            .finalize()
            .into();
        *digest.first_chunk().expect("12 is less than 20")
    }
}

fn header_of(fingerprint: &[u8; 20]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    for (byte, field) in header.iter_mut().zip(MAGIC.iter().chain(fingerprint)) {
        *byte = *field;
    }
    header
}

fn data_at(extent: &Extent) -> u64 {
    extent.record_at.saturating_add(RECORD_LEN as u64)
}

fn at_most(len: u32, bound: u64) -> u32 {
    u32::try_from(bound).map_or(len, |bound| len.min(bound))
}

const MAGIC: &[u8; 16] = b"flotilla part 1\n";
const HEADER_LEN: usize = 36;
const RECORD_LEN: usize = 32;
const CHECKSUM_LEN: usize = 12;
const STATE_LIVE: u8 = 1;
const STATE_DEAD: u8 = 0;

/// How many records are read, and written, at most: the memory that the index of a forged file can take
/// is some 64 MiB. A torrent with more wanted files between unwanted ones cannot be downloaded in part.
const EXTENTS_MAX: usize = 1 << 20;

/// How much is moved at a time.
const MOVE_LEN: u32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use torrent::Rng;

    use super::*;

    const FINGERPRINT: [u8; 20] = [7; 20];
    const FILE_LEN: u64 = 100_000;

    fn load(path: &Path) -> PartFile {
        PartFile::load(path, FINGERPRINT, |file| (file < 4).then_some(FILE_LEN)).unwrap()
    }

    /// What the part file has of one file, as (offset, bytes).
    fn contents(part: &PartFile, file: usize) -> Vec<(u64, Vec<u8>)> {
        let segments = part.segments(file, 0, FILE_LEN as u32);
        let here = segments.into_iter().filter(Segment::is_here).map(|segment| {
            let mut buf = vec![0; segment.len as usize];
            part.read(segment, &mut buf).unwrap();
            (segment.offset, buf)
        });
        here.collect()
    }

    #[test]
    fn keeps_bytes_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = load(&path);
        assert!(part.is_empty() && !path.exists());
        part.write(2, 500, b"abc").unwrap();
        part.write(0, 0, b"xyz").unwrap();
        drop(part);
        let part = load(&path);
        assert_eq!(contents(&part, 2), [(500, b"abc".to_vec())]);
        assert_eq!(contents(&part, 0), [(0, b"xyz".to_vec())]);
        assert_eq!(part.lens(), BTreeMap::from([(0, 3), (2, 3)]));
    }

    #[test]
    fn writing_again_overwrites_in_place_and_adds_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = load(&path);
        part.write(1, 10, b"bbbb").unwrap();
        let len = fs::metadata(&path).unwrap().len();
        part.write(1, 10, b"BBBB").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), len);
        part.write(1, 8, b"01234567").unwrap();
        drop(part);
        let found = contents(&load(&path), 1);
        assert_eq!(found.iter().flat_map(|(_, run)| run.clone()).collect::<Vec<_>>(), b"01234567");
        assert_eq!(found.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [8, 10, 14]);
    }

    #[test]
    fn bytes_that_moved_out_stay_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = load(&path);
        part.write(0, 5, b"keep").unwrap();
        part.write(1, 5, b"move").unwrap();
        let mut moved = Vec::new();
        part.move_out(1, |offset, run| {
            moved.push((offset, run.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(moved, [(5, b"move".to_vec())]);
        part.remove_if_empty().unwrap();
        drop(part);
        let mut part = load(&path);
        assert_eq!(part.files(), [0]);
        part.move_out(0, |_, _| Ok(())).unwrap();
        part.remove_if_empty().unwrap();
        assert!(!path.exists());
        part.write(0, 5, b"anew").unwrap();
        assert_eq!(contents(&load(&path), 0), [(5, b"anew".to_vec())]);
    }

    #[test]
    fn a_move_that_fails_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut part = load(&dir.path().join(".t.part"));
        part.write(0, 5, b"keep").unwrap();
        let full = part.move_out(0, |_, _| Err(DiskError::Full { path: "f".into() }));
        assert!(matches!(full, Err(DiskError::Full { .. })));
        assert_eq!(contents(&part, 0), [(5, b"keep".to_vec())]);
    }

    #[test]
    fn whatever_moment_it_was_killed_at_only_whole_records_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = load(&path);
        for offset in [0, 100, 200] {
            part.write(3, offset, &[offset as u8; 20]).unwrap();
        }
        drop(part);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let mut part = load(&path);
            for (offset, run) in contents(&part, 3) {
                assert_eq!(run, [offset as u8; 20]);
            }
            part.write(3, 300, b"after").unwrap();
            drop(part);
            let found = contents(&load(&path), 3);
            assert_eq!(found.last(), Some(&(300, b"after".to_vec())), "cut at {len}");
            assert_eq!(found.len(), 1 + len.saturating_sub(HEADER_LEN) / 52);
        }
    }

    #[test]
    fn another_torrents_part_file_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = PartFile::load(&path, [8; 20], |_| Some(FILE_LEN)).unwrap();
        part.write(0, 0, b"theirs").unwrap();
        drop(part);
        let mut part = load(&path);
        assert!(part.is_empty());
        part.remove_if_empty().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn forged_records_point_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let forged =
            [(4, 0, 10), (0, FILE_LEN, 1), (0, u64::MAX, 10), (0, FILE_LEN - 5, 6), (1, 0, 0)];
        let mut bytes = header_of(&FINGERPRINT).to_vec();
        for (file, offset, len) in forged {
            let record = Record { is_live: true, file, offset, len };
            bytes.extend(record.encode(&FINGERPRINT));
            bytes.resize(bytes.len() + len as usize, 0);
        }
        for offset in [0, 5] {
            let overlapping = Record { is_live: true, file: 2, offset, len: 10 };
            bytes.extend(overlapping.encode(&FINGERPRINT));
            bytes.extend([offset as u8; 10]);
        }
        let endless = Record { is_live: true, file: 3, offset: 0, len: u32::MAX };
        bytes.extend(endless.encode(&FINGERPRINT));
        fs::write(&path, bytes).unwrap();
        let part = load(&path);
        assert_eq!(part.files(), [2]);
        assert_eq!(contents(&part, 2), [(0, vec![0; 10])]);
    }

    #[test]
    fn noise_neither_panics_nor_leads_out_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".t.part");
        let mut part = load(&path);
        for offset in 0..8 {
            part.write(offset as usize % 4, offset * 1000, &[1; 30]).unwrap();
        }
        drop(part);
        let valid = fs::read(&path).unwrap();
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.clone();
            for _ in 0..=rng.below(8) {
                let from = if rng.below(2) == 0 { 0 } else { HEADER_LEN };
                let at = from + rng.below(bytes.len() - from);
                bytes[at] = rng.u32() as u8;
            }
            bytes.truncate(bytes.len() - rng.below(60));
            fs::write(&path, &bytes).unwrap();
            let part = load(&path);
            for file in part.files() {
                assert!(file < 4, "seed {seed}");
                for (offset, run) in contents(&part, file) {
                    assert!(offset + run.len() as u64 <= FILE_LEN, "seed {seed}");
                }
            }
        }
    }
}
