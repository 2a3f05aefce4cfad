//! Torrent files ([BEP 3], [BEP 12], [BEP 27], [BEP 47], [BEP 52]): read, checked, and made.
//!
//! [`Metainfo::parse`] gives something that cannot be wrong: pieces and files agree, and no name
//! leads out of its folder. [`FileLayout`] says where pieces lie in files; [`create`] makes new ones.
//!
//! Version 2 has a root for each file, and hashes of pieces outside the info dictionary: [`PieceLayers`].
//! [`merkle`] is how they hang together. A hybrid torrent is of both versions, and its two lists of files
//! agree.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 12]: https://www.bittorrent.org/beps/bep_0012.html
//! [BEP 27]: https://www.bittorrent.org/beps/bep_0027.html
//! [BEP 47]: https://www.bittorrent.org/beps/bep_0047.html
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

pub mod create;
mod file_layout;
mod file_tree;
mod from_magnet;
pub mod merkle;
mod name;
mod parse;
mod piece_layers;
mod text;
#[cfg(test)]
mod v2_tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use create::Format;
pub use file_layout::{FileEntry, FileLayout, Span};
pub use name::{RelativePath, UnsafeName};
pub use piece_layers::{BlockTree, PieceCheck, PieceLayers};

use crate::bencode::{DecodeError, OwnedValue, Value, decode_prefix, encode};
use crate::{InfoHash, InfoHashes, PieceIndex};

/// What a torrent file says.
#[derive(Clone, Debug)]
pub struct Metainfo {
    info_hashes: InfoHashes,
    name: String,
    layout: Arc<FileLayout>,
    is_private: bool,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    http_seeds: Vec<String>,
    nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    source: Option<String>,
    similar: Vec<InfoHash>,
    collections: Vec<String>,
    update_url: Option<String>,
    has_originator: bool,
    encoding: Option<String>,
    bytes: Bytes,
    info_range: Range<usize>,
    /// Where the hashes of the pieces are in `bytes`: once is enough. `None` if it is of version 2 only.
    hashes_range: Option<Range<usize>>,
    /// `None` if it is of version 1 only.
    layers: Option<Arc<PieceLayers>>,
}

/// Why a torrent file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// It is longer than 64 MiB.
    #[error("longer than 64 MiB: this is no torrent file")]
    TooLong,
    /// It is not bencode.
    #[error("not a torrent file: {0}")]
    NotBencode(#[from] DecodeError),
    /// It is bencode, but no dictionary.
    #[error("not a torrent file: no dictionary")]
    NotADictionary,
    /// Something that it must have is missing or of the wrong type.
    #[error("`{0}` is missing or not what it should be")]
    Field(&'static str),
    /// It is of a version of BitTorrent that we do not know.
    #[error("a torrent of BitTorrent version {0}; 1 and 2 are known")]
    Version(i64),
    /// It has the files of both versions, and these differ.
    #[error("its data for BitTorrent v1 and v2 differ at {0:?}: it describes two torrents in one")]
    Inconsistent(String),
    /// The hashes of a file's pieces are not what its root says.
    #[error("the hashes of the pieces of {0:?} do not make up its root")]
    PieceLayer(String),
    /// The piece length makes no sense.
    #[error("a piece length of {0} bytes; 1 to 512 MiB are allowed")]
    PieceLen(i64),
    /// The piece length makes no sense in version 2.
    #[error(
        "a piece length of {0} bytes; BitTorrent v2 wants a power of two from 16 KiB to 512 MiB"
    )]
    PieceLenV2(u32),
    /// The length of `pieces` is no multiple of 20.
    #[error("`pieces` is {0} bytes long; it should be a multiple of 20")]
    PiecesLen(usize),
    /// There are more or fewer hashes than pieces.
    #[error("{hashes} piece hashes for {pieces} pieces")]
    PieceCount {
        /// How many hashes there are.
        hashes: usize,
        /// How many pieces the files' lengths make.
        pieces: u32,
    },
    /// A file's length is negative.
    #[error("file {path}: a length of {len} bytes")]
    FileLen {
        /// The file.
        path: String,
        /// What is said of it.
        len: i64,
    },
    /// All files together are beyond a petabyte.
    #[error("the files are larger than a petabyte in all")]
    TooBig,
    /// There are more pieces than 32 bits count.
    #[error("more pieces than the protocol can count")]
    TooManyPieces,
    /// There are more than a million files.
    #[error("more than a million files")]
    TooManyFiles,
    /// There is no file.
    #[error("no files")]
    NoFiles,
    /// A name could lead out of its folder, or cannot be a file's name.
    #[error("unsafe file name {path:?}: {why}")]
    UnsafePath {
        /// The name, as text.
        path: String,
        /// What is wrong with it.
        why: UnsafeName,
    },
    /// Two files have the same path, or a file is also a folder.
    #[error("two files want the same path: {0:?}")]
    DuplicatePath(String),
    /// A file is a symbolic link.
    #[error("{0:?} is a symbolic link; these are not supported")]
    Symlink(String),
}

impl Metainfo {
    /// Reads a torrent file. Bytes after its end are ignored, as other clients do.
    ///
    /// # Errors
    /// [`MetainfoError`] says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        parse::parse(bytes)
    }

    /// The torrent's name among machines: that of version 1, or if it has none the short form of the other.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hashes.first()
    }

    /// All its names among machines.
    pub const fn info_hashes(&self) -> InfoHashes {
        self.info_hashes
    }

    /// The torrent's name among people; also of its file or folder. What was no text shows as U+FFFD.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files and pieces.
    pub const fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// The SHA-1 that a piece must have; `None` if the torrent is of version 2 only.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_hash(&self, piece: PieceIndex) -> Option<[u8; 20]> {
        let (hashes, _) = self.bytes[self.hashes_range.clone()?].as_chunks();
        Some(hashes[piece.index()])
    }

    /// All that a piece must be, as far as that is [known](PieceLayers::missing).
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_check(&self, piece: PieceIndex) -> PieceCheck {
        let v2 = self.layers.as_ref().and_then(|layers| layers.check(piece));
        PieceCheck { v1: self.piece_hash(piece), v2 }
    }

    /// Which versions of BitTorrent it is of.
    pub const fn format(&self) -> Format {
        match (&self.hashes_range, &self.layers) {
            (None, _) => Format::V2,
            (Some(_), None) => Format::V1,
            (Some(_), Some(_)) => Format::Hybrid,
        }
    }

    /// The hashes of version 2, if it is of that.
    pub const fn layers(&self) -> Option<&Arc<PieceLayers>> {
        self.layers.as_ref()
    }

    /// Whether peers may come from its trackers only (BEP 27).
    pub const fn is_private(&self) -> bool {
        self.is_private
    }

    /// Its trackers in tiers (BEP 12): those of a tier stand in for each other.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// `url-list` (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// `httpseeds` (BEP 17).
    pub fn http_seeds(&self) -> &[String] {
        &self.http_seeds
    }

    /// Nodes of the DHT to begin with (BEP 5).
    pub fn nodes(&self) -> &[(String, u16)] {
        &self.nodes
    }

    /// What its maker says of it.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made it.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970.
    pub const fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// `source`, which private trackers put into the info dictionary to make its hash their own.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Torrents that share files with this one ([BEP 38]): which files is for the reader to find out.
    ///
    /// [BEP 38]: https://www.bittorrent.org/beps/bep_0038.html
    pub fn similar(&self) -> &[InfoHash] {
        &self.similar
    }

    /// The collections that it belongs to (BEP 38): torrents of one are likely to share files.
    pub fn collections(&self) -> &[String] {
        &self.collections
    }

    /// Where to ask whether there is a newer torrent in place of this one ([BEP 39]). It is not asked.
    ///
    /// [BEP 39]: https://www.bittorrent.org/beps/bep_0039.html
    pub fn update_url(&self) -> Option<&str> {
        self.update_url.as_deref()
    }

    /// Whether it says whose signature a newer torrent must have (BEP 39).
    pub const fn has_originator(&self) -> bool {
        self.has_originator
    }

    /// The encoding that it says its text has.
    pub fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    /// The bytes of the info dictionary, as they were.
    pub fn info_bytes(&self) -> &[u8] {
        &self.bytes[self.info_range.clone()]
    }

    /// The whole torrent file, as it was.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The torrent file with all [hashes of pieces](PieceLayers) that have become known since.
    pub fn to_file(&self) -> Bytes {
        let Some(ours) = &self.layers else { return self.bytes.clone() };
        let known = ours.known();
        let limits = parse::limits();
        let Ok((Value::Dict(root), _)) = decode_prefix(&self.bytes, limits) else {
            return self.bytes.clone();
        };
        // Where no file needs any it is empty, but there (BEP 52).
        let layers = root.get(b"piece layers").and_then(Value::as_dict);
        let has = |hash: &[u8]| layers.is_some_and(|layers| layers.get(hash).is_some());
        if known.keys().all(|hash| has(hash)) && (layers.is_some() || !ours.is_whole()) {
            return self.bytes.clone();
        }
        let raw = |key: &[u8]| OwnedValue::Raw(root.raw(key).unwrap_or_default().to_vec());
        let mut file: std::collections::BTreeMap<Vec<u8>, OwnedValue> =
            root.iter().map(|(key, _)| (key.to_vec(), raw(key))).collect();
        let layers = known.into_iter().map(|(root, layer)| (root.to_vec(), layer.to_vec().into()));
        file.insert(b"piece layers".to_vec(), OwnedValue::Dict(layers.collect()));
        encode(&OwnedValue::Dict(file)).into()
    }
}
