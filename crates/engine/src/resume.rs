//! What is remembered of each torrent between runs: a record a torrent, in the database of `store`.
//!
//! A record is a bencoded dictionary with a version. What it says is believed only as far as the disk
//! agrees: see [`trusted`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use torrent::bencode::{self, OwnedValue, Value};
use torrent::metainfo::FileLayout;
use torrent::{Bitfield, InfoHash, PieceIndex, compact};

use crate::disk::FileStamp;
pub use crate::store::ResumeStore;

/// One torrent, as it was when last saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeRecord {
    /// The folder that its files are in.
    pub dir: PathBuf,
    /// The pieces that were verified.
    pub bits: Bitfield,
    /// How each file looked; `None` if it was not there.
    pub stamps: Vec<Option<FileStamp>>,
    /// Payload from peers, in bytes, over all runs.
    pub downloaded: u64,
    /// Payload to peers, in bytes, over all runs.
    pub uploaded: u64,
    /// Where peers answered, and where a person said that some are; at most 200.
    pub peers: Vec<SocketAddr>,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Another process holds on to it.
    #[error("the state in {dir} is in use by another process for too long")]
    InUse {
        /// The state directory.
        dir: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("cannot use the state directory {dir}: {why}")]
    Folder {
        /// The state directory.
        dir: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The database fails.
    #[error("the state database: {0}")]
    Database(String),
    /// The database makes no sense. It was moved aside, and a new one begins.
    #[error("the state database was damaged ({0}) and is moved aside")]
    Damaged(String),
    /// A record is of a newer version, or does not make sense.
    #[error("what is remembered of {0} cannot be used")]
    BadRecord(InfoHash),
}

impl From<redb::Error> for ResumeError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(why) => Self::Damaged(why),
            other => Self::Database(other.to_string()),
        }
    }
}

impl ResumeRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = |number: u64| OwnedValue::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let stamp = |stamp: &Option<FileStamp>| match stamp {
            Some(stamp) => OwnedValue::List(vec![
                number(stamp.len),
                OwnedValue::Bytes(stamp.mtime_ns.to_string().into()),
            ]),
            None => OwnedValue::List(Vec::new()),
        };
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.peers.iter().take(PEERS_MAX).for_each(|addr| compact::append(*addr, &mut v4, &mut v6));
        let entries: [(&str, OwnedValue); 9] = [
            ("bits", OwnedValue::Bytes(self.bits.as_bytes().to_vec())),
            ("dir", OwnedValue::Bytes(path_bytes(&self.dir))),
            ("downloaded", number(self.downloaded)),
            ("peers", OwnedValue::Bytes(v4)),
            ("peers6", OwnedValue::Bytes(v6)),
            ("pieces", number(self.bits.len().into())),
            ("stamps", OwnedValue::List(self.stamps.iter().map(stamp).collect())),
            ("uploaded", number(self.uploaded)),
            ("version", OwnedValue::Integer(VERSION)),
        ];
        let dict: BTreeMap<Vec<u8>, OwnedValue> =
            entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect();
        bencode::encode(&OwnedValue::Dict(dict))
    }

    /// `None` if it is of another version, or not what [`encode`](Self::encode) writes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let value = bencode::decode(bytes).ok()?;
        let dict = value.as_dict()?;
        let integer = |key: &[u8]| dict.get(key).and_then(Value::as_integer);
        let number = |key: &[u8]| integer(key).and_then(|number| u64::try_from(number).ok());
        let text = |key: &[u8]| dict.get(key).and_then(Value::as_bytes);
        if integer(b"version")? != VERSION {
            return None;
        }
        let stamp = |value: &Value<'_>| match value.as_list()? {
            [] => Some(None),
            [len, mtime_ns] => Some(Some(FileStamp {
                len: u64::try_from(len.as_integer()?).ok()?,
                mtime_ns: mtime_ns.as_str()?.parse().ok()?,
            })),
            _ => None,
        };
        let pieces = u32::try_from(number(b"pieces")?).ok()?;
        let peers = compact::parse_v4(text(b"peers")?).chain(compact::parse_v6(text(b"peers6")?));
        Some(Self {
            dir: path_from(text(b"dir")?),
            bits: Bitfield::from_bytes(text(b"bits")?, pieces)?,
            stamps: dict.get(b"stamps")?.as_list()?.iter().map(stamp).collect::<Option<_>>()?,
            downloaded: number(b"downloaded")?,
            uploaded: number(b"uploaded")?,
            peers: peers.take(PEERS_MAX).collect(),
        })
    }
}

/// What may be believed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Pieces that are here: their files look as they did.
    pub bits: Bitfield,
    /// Pieces that touch a file that looks otherwise: to be hashed.
    pub recheck: Vec<PieceIndex>,
}

/// Compares a record with how the files look now. A record that does not fit the torrent is worth
/// nothing: everything is to be hashed.
pub fn trusted(record: &ResumeRecord, layout: &FileLayout, now: &[Option<FileStamp>]) -> Trust {
    let piece_count = layout.piece_count();
    let fits = record.bits.len() == piece_count
        && record.stamps.len() == layout.files().len()
        && now.len() == record.stamps.len();
    if !fits {
        return Trust {
            bits: Bitfield::none(piece_count),
            recheck: (0..piece_count).map(PieceIndex).collect(),
        };
    }
    let mut doubtful = Bitfield::none(piece_count);
    for (file, (before, now)) in record.stamps.iter().zip(now).enumerate() {
        if before != now {
            layout.file_pieces(file).for_each(|piece| _ = doubtful.set(PieceIndex(piece)));
        }
    }
    let mut bits = record.bits.clone();
    doubtful.iter().for_each(|piece| _ = bits.clear(piece));
    Trust { bits, recheck: doubtful.iter().collect() }
}

#[cfg(unix)]
pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(not(unix))]
pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(unix)]
pub(crate) fn path_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes),
    ))
}

#[cfg(not(unix))]
pub(crate) fn path_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

const VERSION: i64 = 1;
const PEERS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use torrent::Rng;
    use torrent::metainfo::create::Builder;

    use super::*;

    fn record() -> ResumeRecord {
        let mut bits = Bitfield::none(3);
        bits.set(PieceIndex(0));
        bits.set(PieceIndex(2));
        ResumeRecord {
            dir: "/some/where".into(),
            bits,
            stamps: vec![Some(FileStamp { len: 7, mtime_ns: -1_234_567_890_123_456_789 }), None],
            downloaded: 10,
            uploaded: u64::MAX >> 1,
            peers: vec!["10.0.0.1:1".parse().expect("valid"), "[::1]:2".parse().expect("valid")],
        }
    }

    fn layout() -> FileLayout {
        let files = vec![(vec![b"a".to_vec()], 16_384 * 2), (vec![b"b".to_vec()], 100)];
        Builder { name: b"t".to_vec(), files, piece_len: Some(16_384), ..Builder::default() }
            .layout()
            .expect("fits")
    }

    #[test]
    fn only_pieces_of_unchanged_files_are_believed() {
        let stamp = |len, mtime_ns| Some(FileStamp { len, mtime_ns });
        let record = ResumeRecord {
            stamps: vec![stamp(32_768, 5), stamp(100, 6)],
            bits: Bitfield::all(3),
            ..record()
        };
        let trust = |a, b| trusted(&record, &layout(), &[a, b]);
        let all = trust(stamp(32_768, 5), stamp(100, 6));
        assert_eq!((all.bits.count(), all.recheck), (3, vec![]));
        let touched = trust(stamp(32_768, 5), stamp(100, 7));
        assert_eq!((touched.bits.count(), touched.recheck), (2, vec![PieceIndex(2)]));
        let gone = trust(None, stamp(100, 6));
        assert_eq!((gone.bits.count(), gone.recheck), (1, vec![PieceIndex(0), PieceIndex(1)]));
    }

    #[test]
    fn a_record_that_does_not_fit_is_worth_nothing() {
        let wrong = ResumeRecord { bits: Bitfield::all(99), ..record() };
        let trust = trusted(&wrong, &layout(), &[None, None]);
        assert_eq!((trust.bits.count(), trust.recheck.len()), (0, 3));
    }

    #[test]
    fn a_newer_or_mangled_record_is_refused() {
        let bytes = record().encode();
        assert_eq!(ResumeRecord::decode(&bytes), Some(record()));
        let newer = String::from_utf8_lossy(&bytes).replace("versioni1e", "versioni2e");
        assert_eq!(ResumeRecord::decode(newer.as_bytes()), None);
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut mangled = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mangled.len());
                mangled[at] = rng.u32() as u8;
            }
            // It may parse to something, but must not panic.
            ResumeRecord::decode(&mangled);
        }
    }
}
