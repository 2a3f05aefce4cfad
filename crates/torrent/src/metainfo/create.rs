//! New torrent files: the same bytes each time for the same files and choices.

use std::collections::BTreeMap;

use super::{FileEntry, FileLayout, MetainfoError, RelativePath};
use crate::InfoHash;
use crate::bencode::{OwnedValue, encode};

/// The names of the folders and of the file itself, and its length in bytes.
pub type NewFile = (Vec<Vec<u8>>, u64);

/// What goes into a new torrent file. Only `name` and `files` are needed.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// The name of the file, or of the folder of files.
    pub name: Vec<u8>,
    /// Paths below the folder, and lengths; for a single file one entry with an empty path.
    pub files: Vec<NewFile>,
    /// Bytes a piece; `None` chooses by [`automatic_piece_len`].
    pub piece_len: Option<u32>,
    /// Peers may come from the trackers only.
    pub is_private: bool,
    /// Trackers in tiers.
    pub trackers: Vec<Vec<String>>,
    /// `url-list`.
    pub web_seeds: Vec<String>,
    /// For people.
    pub comment: Option<String>,
    /// Makes the info hash another, for a private tracker.
    pub source: Option<String>,
    /// The program.
    pub created_by: Option<String>,
    /// Seconds since 1970. Left out by default, so that the bytes depend on nothing but the files.
    pub creation_date: Option<i64>,
    /// More keys for the outermost dictionary, `nodes` for one. What the fields above say comes before
    /// what stands here under the same key.
    pub extra: BTreeMap<Vec<u8>, OwnedValue>,
}

/// The piece length that suits a torrent of `total_len` bytes: a power of two from 16 KiB to 16 MiB,
/// for at most about 2,000 pieces as long as that reaches.
pub const fn automatic_piece_len(total_len: u64) -> u32 {
    let mut len = PIECE_LEN_MIN;
    while len < PIECE_LEN_MAX && total_len / len as u64 > PIECES_WANTED_MAX {
        len *= 2;
    }
    len
}

/// The shortest piece length with which `total_len` bytes make at most `piece_count` pieces: a power of
/// two from 16 KiB to 16 MiB, so that a very large torrent has more nevertheless.
pub const fn piece_len_for_count(total_len: u64, piece_count: u32) -> u32 {
    let mut len = PIECE_LEN_MIN;
    while len < PIECE_LEN_MAX && total_len.div_ceil(len as u64) > piece_count as u64 {
        len *= 2;
    }
    len
}

impl Builder {
    /// The length of all files, in bytes.
    pub fn total_len(&self) -> u64 {
        self.files.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }

    /// Where the pieces will lie, to be hashed.
    ///
    /// # Errors
    /// If a name cannot be in a torrent, or a number is out of range.
    pub fn layout(&self) -> Result<FileLayout, MetainfoError> {
        let entry = |(path, len): &NewFile| {
            let components: Vec<Vec<u8>> =
                std::iter::once(&self.name).chain(path).cloned().collect();
            let shown = String::from_utf8_lossy(&components.join(&b'/')).into_owned();
            let path = RelativePath::from_components(components)
                .map_err(|why| MetainfoError::UnsafePath { path: shown, why })?;
            Ok(FileEntry { path, len: *len, is_pad: false, is_executable: false, is_hidden: false })
        };
        let files = self.files.iter().map(entry).collect::<Result<Vec<_>, MetainfoError>>()?;
        if files.is_empty() {
            return Err(MetainfoError::NoFiles);
        }
        FileLayout::new(
            self.piece_len.unwrap_or_else(|| automatic_piece_len(self.total_len())),
            files,
        )
    }

    /// The torrent's name among machines, as it will be in the file that [`finish`](Self::finish) makes.
    ///
    /// # Errors
    /// As `finish`.
    pub fn info_hash(&self, piece_hashes: &[[u8; 20]]) -> Result<InfoHash, MetainfoError> {
        Ok(InfoHash::of(&encode(&self.info(piece_hashes)?)))
    }

    /// What the torrent file says, as values.
    ///
    /// # Errors
    /// As [`layout`](Self::layout), and if there are more or fewer hashes than pieces.
    pub fn metadata(&self, piece_hashes: &[[u8; 20]]) -> Result<OwnedValue, MetainfoError> {
        let mut root = Entries(self.extra.clone());
        root.put("announce", self.trackers.iter().flatten().next().map(|url| url.as_str().into()));
        let is_more_than_one = self.trackers.iter().flatten().nth(1).is_some();
        root.put(
            "announce-list",
            is_more_than_one
                .then(|| OwnedValue::List(self.trackers.iter().map(|tier| list(tier)).collect())),
        );
        root.put("comment", self.comment.as_deref().map(OwnedValue::from));
        root.put("created by", self.created_by.as_deref().map(OwnedValue::from));
        root.put("creation date", self.creation_date.map(OwnedValue::Integer));
        root.put("info", Some(self.info(piece_hashes)?));
        root.put("url-list", (!self.web_seeds.is_empty()).then(|| list(&self.web_seeds)));
        Ok(OwnedValue::Dict(root.0))
    }

    /// The torrent file.
    ///
    /// # Errors
    /// As [`layout`](Self::layout), and if there are more or fewer hashes than pieces.
    pub fn finish(&self, piece_hashes: &[[u8; 20]]) -> Result<Vec<u8>, MetainfoError> {
        self.metadata(piece_hashes).map(|metadata| encode(&metadata))
    }

    fn info(&self, piece_hashes: &[[u8; 20]]) -> Result<OwnedValue, MetainfoError> {
        let layout = self.layout()?;
        if piece_hashes.len() != layout.piece_count() as usize {
            return Err(MetainfoError::PieceCount {
                hashes: piece_hashes.len(),
                pieces: layout.piece_count(),
            });
        }
        let mut info = Entries::default();
        match self.files.as_slice() {
            [(path, len)] if path.is_empty() => info.put("length", Some(integer(*len))),
            files => info.put("files", Some(OwnedValue::List(files.iter().map(file).collect()))),
        }
        info.put("name", Some(OwnedValue::Bytes(self.name.clone())));
        info.put("piece length", Some(integer(layout.piece_len().into())));
        info.put("pieces", Some(OwnedValue::Bytes(piece_hashes.concat())));
        info.put("private", self.is_private.then_some(OwnedValue::Integer(1)));
        info.put("source", self.source.as_deref().map(OwnedValue::from));
        Ok(OwnedValue::Dict(info.0))
    }
}

#[derive(Default)]
struct Entries(BTreeMap<Vec<u8>, OwnedValue>);

impl Entries {
    fn put(&mut self, key: &str, value: Option<OwnedValue>) {
        if let Some(value) = value {
            self.0.insert(key.as_bytes().to_vec(), value);
        }
    }
}

fn file((path, len): &NewFile) -> OwnedValue {
    let mut entry = Entries::default();
    entry.put("length", Some(integer(*len)));
    entry
        .put("path", Some(OwnedValue::List(path.iter().cloned().map(OwnedValue::Bytes).collect())));
    OwnedValue::Dict(entry.0)
}

fn list(items: &[String]) -> OwnedValue {
    OwnedValue::List(items.iter().map(|item| item.as_str().into()).collect())
}

fn integer(number: u64) -> OwnedValue {
    OwnedValue::Integer(i64::try_from(number).expect("lengths are below a petabyte"))
}

const PIECE_LEN_MIN: u32 = 16 * 1024;
const PIECE_LEN_MAX: u32 = 16 * 1024 * 1024;
const PIECES_WANTED_MAX: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Metainfo;

    fn builder() -> Builder {
        Builder {
            name: b"folder".to_vec(),
            files: vec![
                (vec![b"a".to_vec()], 3),
                (vec![b"b".to_vec(), "ü".into()], 0),
                (vec![b"c".to_vec()], 20_000),
            ],
            ..Builder::default()
        }
    }

    #[test]
    fn what_is_made_can_be_read() {
        let builder = Builder {
            is_private: true,
            trackers: vec![vec!["http://a/announce".to_owned()], vec!["udp://b:1".to_owned()]],
            web_seeds: vec!["http://w/".to_owned()],
            comment: Some("hello".to_owned()),
            source: Some("X".to_owned()),
            creation_date: Some(1),
            ..builder()
        };
        let bytes = builder.finish(&[[1; 20], [2; 20]]).expect("fits");
        let metainfo = Metainfo::parse(&bytes).expect("readable");
        assert_eq!(**metainfo.layout(), builder.layout().expect("fits"));
        assert_eq!(metainfo.trackers(), builder.trackers);
        assert!(metainfo.is_private());
        assert_eq!((metainfo.comment(), metainfo.source()), (Some("hello"), Some("X")));
        assert_eq!(metainfo.web_seeds(), builder.web_seeds);
        assert_eq!(metainfo.piece_hash(crate::PieceIndex(1)), [2; 20]);
    }

    #[test]
    fn equal_choices_give_equal_bytes_in_the_one_canonical_form() {
        let bytes = builder().finish(&[[1; 20], [2; 20]]).expect("fits");
        assert_eq!(bytes, builder().finish(&[[1; 20], [2; 20]]).expect("fits"));
        assert!(crate::bencode::decode(&bytes).is_ok());
    }

    #[test]
    fn a_single_file_has_no_folder() {
        let builder =
            Builder { name: b"x".to_vec(), files: vec![(Vec::new(), 5)], ..Builder::default() };
        let metainfo =
            Metainfo::parse(&builder.finish(&[[0; 20]]).expect("fits")).expect("readable");
        assert_eq!(metainfo.layout().files()[0].path.to_string(), "x");
    }

    #[test]
    fn refuses_unsafe_names_and_wrong_counts() {
        let evil = Builder { name: b"..".to_vec(), ..builder() };
        assert!(matches!(evil.layout(), Err(MetainfoError::UnsafePath { .. })));
        assert!(matches!(
            builder().finish(&[]),
            Err(MetainfoError::PieceCount { hashes: 0, pieces: 2 })
        ));
        assert_eq!(Builder::default().layout(), Err(MetainfoError::NoFiles));
    }

    #[test]
    fn pieces_grow_with_the_torrent() {
        assert_eq!(automatic_piece_len(0), 16 * 1024);
        assert_eq!(automatic_piece_len(700 << 20), 512 * 1024);
        assert_eq!(automatic_piece_len(4 << 30), 4 << 20);
        assert_eq!(automatic_piece_len(u64::MAX), 16 << 20);
    }

    #[test]
    fn the_info_hashes_of_two_made_up_torrents_stay_what_they_are() {
        let folder = Builder { piece_len: Some(16 * 1024), ..builder() };
        let hash = folder.info_hash(&[[1; 20], [2; 20]]).expect("fits");
        assert_eq!(hash.to_string(), "d1663e600dac9feaf647f09f1ad4cadad9801d2d");
        let file = Builder {
            name: b"x".to_vec(),
            files: vec![(Vec::new(), 40_000)],
            is_private: true,
            source: Some("S".to_owned()),
            ..Builder::default()
        };
        let hash = file.info_hash(&[[7; 20]; 3]).expect("fits");
        assert_eq!(hash.to_string(), "e9c0d19529b5886b8b9a6ea498a53e82ae4f2901");
        let bytes = file.finish(&[[7; 20]; 3]).expect("fits");
        assert_eq!(Metainfo::parse(&bytes).expect("readable").info_hash(), hash);
    }

    #[test]
    fn every_change_shows_and_what_is_outside_the_info_changes_no_hash() {
        let hashes = [[1; 20], [2; 20]];
        let mut builder = Builder { piece_len: Some(16 * 1024), ..builder() };
        let (bytes, hash) = (builder.finish(&hashes), builder.info_hash(&hashes));
        builder.trackers.push(vec!["http://a/".to_owned()]);
        builder.comment = Some("new".to_owned());
        assert_ne!(builder.finish(&hashes), bytes);
        assert_eq!(builder.info_hash(&hashes), hash);
        builder.trackers.clear();
        builder.comment = None;
        assert_eq!(builder.finish(&hashes), bytes);
        builder.is_private = true;
        assert_ne!(builder.info_hash(&hashes), hash);
        builder.piece_len = Some(32 * 1024);
        assert!(matches!(builder.info_hash(&hashes), Err(MetainfoError::PieceCount { .. })));
    }

    #[test]
    fn more_keys_are_merged_in_but_replace_nothing() {
        let nodes = OwnedValue::List(vec![OwnedValue::List(vec!["host".into(), 6881_i64.into()])]);
        let extra = [(&b"nodes"[..], nodes), (b"info", "none".into()), (b"comment", "mine".into())];
        let builder = Builder {
            extra: extra.map(|(key, value)| (key.to_vec(), value)).into(),
            comment: Some("the builder's".to_owned()),
            ..builder()
        };
        let bytes = builder.finish(&[[1; 20], [2; 20]]).expect("fits");
        let metainfo = Metainfo::parse(&bytes).expect("readable");
        assert_eq!(metainfo.nodes(), [("host".to_owned(), 6881)]);
        assert_eq!(metainfo.comment(), Some("the builder's"));
    }

    #[test]
    fn a_number_of_pieces_can_be_wished_for() {
        assert_eq!(piece_len_for_count(0, 0), 16 * 1024);
        assert_eq!(piece_len_for_count(1 << 20, 64), 16 * 1024);
        assert_eq!(piece_len_for_count((1 << 20) + 1, 64), 32 * 1024);
        assert_eq!(piece_len_for_count(u64::MAX, 1), 16 << 20);
    }

    #[test]
    fn lengths_beyond_all_bounds_are_refused() {
        let files = vec![(vec![b"a".to_vec()], u64::MAX), (vec![b"b".to_vec()], u64::MAX)];
        let builder = Builder { name: b"x".to_vec(), files, ..Builder::default() };
        assert_eq!(builder.total_len(), u64::MAX);
        assert_eq!(builder.layout(), Err(MetainfoError::TooBig));
    }
}
