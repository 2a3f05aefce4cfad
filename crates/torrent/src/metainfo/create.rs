//! New torrent files: the same bytes each time for the same files and choices.

use std::collections::BTreeMap;

use super::file_layout::check_piece_len_v2;
use super::merkle::{self, Hash};
use super::{FileEntry, FileLayout, MetainfoError, RelativePath};
use crate::InfoHash;
use crate::bencode::{OwnedValue, encode};

/// Which versions of BitTorrent a new torrent is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Version 1 ([BEP 3](https://www.bittorrent.org/beps/bep_0003.html)), which every program reads.
    #[default]
    V1,
    /// Version 2 only ([BEP 52](https://www.bittorrent.org/beps/bep_0052.html)): few programs read it.
    V2,
    /// Both: who knows version 1 and who knows version 2 share the same pieces. Files are sorted, and padding
    /// ([BEP 47](https://www.bittorrent.org/beps/bep_0047.html)) lets each begin with a piece of its own.
    Hybrid,
}

impl Format {
    /// Whether programs that know version 1 only can read it.
    pub const fn has_v1(self) -> bool {
        matches!(self, Self::V1 | Self::Hybrid)
    }

    /// Whether it has a root for each file.
    pub const fn has_v2(self) -> bool {
        matches!(self, Self::V2 | Self::Hybrid)
    }
}

/// What is in the pieces of a new torrent, as its [`Format`] wants it: a hash for each piece of its layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceHashes {
    /// The SHA-1 of each piece; none in version 2.
    pub v1: Vec<[u8; 20]>,
    /// The root of the tree over each piece's blocks, of the [height](FileLayout::tree_shape) that it has there; none in
    /// version 1.
    pub v2: Vec<Hash>,
}

/// The names of the folders and of the file itself, and its length in bytes.
pub type NewFile = (Vec<Vec<u8>>, u64);

/// What goes into a new torrent file. Only `name` and `files` are needed.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// The versions of BitTorrent.
    pub format: Format,
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
    /// Torrents that share files with this one (BEP 38). They are part of what the info hash is of.
    pub similar: Vec<InfoHash>,
    /// Names of collections that it belongs to (BEP 38). They are part of what the info hash is of.
    pub collections: Vec<String>,
    /// Where to ask for a newer torrent (BEP 39). It is part of what the info hash is of.
    pub update_url: Option<String>,
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

    /// Where the pieces will lie, to be hashed. What is of version 2 has its files sorted.
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
        let mut files = self.files.iter().map(entry).collect::<Result<Vec<_>, MetainfoError>>()?;
        if files.is_empty() {
            return Err(MetainfoError::NoFiles);
        }
        let piece_len = self.piece_len.unwrap_or_else(|| automatic_piece_len(self.total_len()));
        if self.format == Format::V1 {
            return FileLayout::new(piece_len, files);
        }
        check_piece_len_v2(piece_len)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if self.format == Format::V2 {
            return FileLayout::aligned(piece_len, files);
        }
        FileLayout::new(piece_len, padded(files, piece_len, &self.name))
    }

    /// The name of version 1 that the torrent will have among machines, if that is its [`Format`].
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn info_hash(&self, piece_hashes: &[[u8; 20]]) -> Result<InfoHash, MetainfoError> {
        let layout = self.layout()?;
        Ok(InfoHash::of(&encode(&self.info(&layout, piece_hashes, &[])?)))
    }

    /// What the torrent file of version 1 says, as values.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn metadata(&self, piece_hashes: &[[u8; 20]]) -> Result<OwnedValue, MetainfoError> {
        self.metadata_of(piece_hashes, &[])
    }

    /// The torrent file of version 1.
    ///
    /// # Errors
    /// As [`layout`](Self::layout), if there are more or fewer hashes than pieces, and if the [`Format`] is another.
    pub fn finish(&self, piece_hashes: &[[u8; 20]]) -> Result<Vec<u8>, MetainfoError> {
        self.metadata_of(piece_hashes, &[]).map(|metadata| encode(&metadata))
    }

    /// The torrent file, of any [`Format`].
    ///
    /// # Errors
    /// As [`finish`](Self::finish), and if a path is that of a file and of a folder.
    pub fn finish_as(&self, hashes: &PieceHashes) -> Result<Vec<u8>, MetainfoError> {
        self.metadata_of(&hashes.v1, &hashes.v2).map(|metadata| encode(&metadata))
    }

    fn metadata_of(&self, v1: &[[u8; 20]], v2: &[Hash]) -> Result<OwnedValue, MetainfoError> {
        let layout = self.layout()?;
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
        root.put("info", Some(self.info(&layout, v1, v2)?));
        root.put("piece layers", self.format.has_v2().then(|| piece_layers(&layout, v2)));
        root.put("url-list", (!self.web_seeds.is_empty()).then(|| list(&self.web_seeds)));
        Ok(OwnedValue::Dict(root.0))
    }

    fn info(
        &self,
        layout: &FileLayout,
        v1: &[[u8; 20]],
        v2: &[Hash],
    ) -> Result<OwnedValue, MetainfoError> {
        let pieces = layout.piece_count();
        for (hashes, is_wanted) in
            [(v1.len(), self.format.has_v1()), (v2.len(), self.format.has_v2())]
        {
            if hashes != if is_wanted { pieces as usize } else { 0 } {
                return Err(MetainfoError::PieceCount { hashes, pieces });
            }
        }
        let mut info = Entries::default();
        let similar = self.similar.iter().map(|hash| hash.0.to_vec().into()).collect();
        info.put("collections", (!self.collections.is_empty()).then(|| list(&self.collections)));
        info.put("similar", (!self.similar.is_empty()).then_some(OwnedValue::List(similar)));
        info.put("update-url", self.update_url.as_deref().map(OwnedValue::from));
        if self.format.has_v1() {
            match self.files.as_slice() {
                [(path, len)] if path.is_empty() => info.put("length", Some(integer(*len))),
                _ => {
                    let files = layout.files().iter().map(file);
                    info.put("files", Some(OwnedValue::List(files.collect())));
                }
            }
            info.put("pieces", Some(OwnedValue::Bytes(v1.concat())));
        }
        if self.format.has_v2() {
            info.put("file tree", Some(self.file_tree(layout, v2)?));
            info.put("meta version", Some(OwnedValue::Integer(2)));
        }
        info.put("name", Some(OwnedValue::Bytes(self.name.clone())));
        info.put("piece length", Some(integer(layout.piece_len().into())));
        info.put("private", self.is_private.then_some(OwnedValue::Integer(1)));
        info.put("source", self.source.as_deref().map(OwnedValue::from));
        Ok(OwnedValue::Dict(info.0))
    }

    /// The files as a tree of folders, below the torrent's own; a single file stands in it by its name.
    fn file_tree(&self, layout: &FileLayout, v2: &[Hash]) -> Result<OwnedValue, MetainfoError> {
        let is_single = matches!(self.files.as_slice(), [(path, _)] if path.is_empty());
        let mut tree = BTreeMap::new();
        for (index, entry) in layout.files().iter().enumerate().filter(|(_, file)| !file.is_pad) {
            let mut about = Entries::default();
            about.put("length", Some(integer(entry.len)));
            about.put("pieces root", file_root(layout, index, v2).map(|root| root.to_vec().into()));
            let mut folder = &mut tree;
            for name in entry.path.components().skip(usize::from(!is_single)) {
                let inner = folder.entry(name.to_vec());
                let OwnedValue::Dict(inner) =
                    inner.or_insert_with(|| OwnedValue::Dict(BTreeMap::new()))
                else {
                    unreachable!("only dictionaries are put here but for what a file has");
                };
                if inner.contains_key(&b""[..]) {
                    return Err(MetainfoError::DuplicatePath(entry.path.to_string()));
                }
                folder = inner;
            }
            if !folder.is_empty() {
                return Err(MetainfoError::DuplicatePath(entry.path.to_string()));
            }
            folder.insert(Vec::new(), OwnedValue::Dict(about.0));
        }
        Ok(OwnedValue::Dict(tree))
    }
}

/// Puts padding behind each file that does not end with a piece, the last one too, as libtorrent does; a file that is
/// alone has none.
fn padded(files: Vec<FileEntry>, piece_len: u32, name: &[u8]) -> Vec<FileEntry> {
    let is_alone = files.len() == 1;
    let pad = |len: u64| {
        let names = vec![name.to_vec(), b".pad".to_vec(), len.to_string().into_bytes()];
        let path = RelativePath::from_components(names).expect("digits in a folder are safe");
        FileEntry { path, len, is_pad: true, is_executable: false, is_hidden: false }
    };
    let with_pad = |file: FileEntry| {
        let gap = file.len.next_multiple_of(piece_len.into()).saturating_sub(file.len);
        let pad = (gap > 0 && !is_alone).then(|| pad(gap));
        [Some(file), pad].into_iter().flatten()
    };
    files.into_iter().flat_map(with_pad).collect()
}

/// The root of a file; `None` if it is empty, or only padding.
fn file_root(layout: &FileLayout, file: usize, v2: &[Hash]) -> Option<Hash> {
    match hashes_of(layout, file, v2) {
        [] => None,
        [only] => Some(*only),
        many => {
            let above = merkle::height_above(many.len() as u64);
            Some(merkle::root(many, layout.piece_height(), above))
        }
    }
}

/// The hashes of the pieces of one file.
fn hashes_of<'a>(layout: &FileLayout, file: usize, v2: &'a [Hash]) -> &'a [Hash] {
    let pieces = layout.file_pieces(file);
    if layout.files()[file].is_pad {
        return &[];
    }
    v2.get(pieces.start as usize..pieces.end as usize).unwrap_or_default()
}

fn piece_layers(layout: &FileLayout, v2: &[Hash]) -> OwnedValue {
    let layer = |file: usize| {
        let hashes = hashes_of(layout, file, v2);
        let root = file_root(layout, file, v2)?.to_vec();
        (hashes.len() > 1).then(|| (root, hashes.concat().into()))
    };
    OwnedValue::Dict((0..layout.files().len()).filter_map(layer).collect())
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

/// A file of the list of version 1: its path begins below the torrent's own folder.
fn file(file: &FileEntry) -> OwnedValue {
    let mut entry = Entries::default();
    entry.put("attr", file.is_pad.then(|| "p".into()));
    entry.put("length", Some(integer(file.len)));
    let names = file.path.components().skip(1).map(|name| name.to_vec().into());
    entry.put("path", Some(OwnedValue::List(names.collect())));
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
            similar: vec![InfoHash([8; 20])],
            collections: vec!["all of it".to_owned()],
            update_url: Some("http://u/".to_owned()),
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
        assert_eq!(metainfo.similar(), builder.similar);
        assert_eq!(metainfo.collections(), builder.collections);
        assert_eq!(metainfo.update_url(), builder.update_url.as_deref());
        assert_eq!(metainfo.piece_hash(crate::PieceIndex(1)), Some([2; 20]));
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
