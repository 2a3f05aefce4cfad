//! Torrent files ([BEP 3], [BEP 12], [BEP 27], [BEP 47]): read, checked, and made.
//!
//! [`Metainfo::parse`] gives something that cannot be wrong: pieces and files agree, and no name
//! leads out of its folder. [`FileLayout`] says where pieces lie in files; [`create`] makes new ones.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 12]: https://www.bittorrent.org/beps/bep_0012.html
//! [BEP 27]: https://www.bittorrent.org/beps/bep_0027.html
//! [BEP 47]: https://www.bittorrent.org/beps/bep_0047.html

pub mod create;
mod file_layout;
mod name;
mod parse;
mod text;

use std::ops::Range;
use std::sync::Arc;

pub use file_layout::{FileEntry, FileLayout, Span};
pub use name::{RelativePath, UnsafeName};

use crate::bencode::DecodeError;
use crate::{InfoHash, PieceIndex};

/// What a torrent file says.
#[derive(Clone, Debug)]
pub struct Metainfo {
    info_hash: InfoHash,
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
    encoding: Option<String>,
    bytes: Arc<[u8]>,
    info_range: Range<usize>,
    /// Where the hashes of the pieces are in `bytes`: once is enough.
    hashes_range: Range<usize>,
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
    /// It is of BitTorrent v2 only.
    #[error("a BitTorrent v2 torrent without v1 data; this is not supported yet")]
    V2Only,
    /// The piece length makes no sense.
    #[error("a piece length of {0} bytes; 1 to 512 MiB are allowed")]
    PieceLen(i64),
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

    /// The torrent's name among machines.
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The torrent's name among people; also of its file or folder. What was no text shows as U+FFFD.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files and pieces.
    pub const fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// The SHA-1 that a piece must have.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn piece_hash(&self, piece: PieceIndex) -> [u8; 20] {
        let (hashes, _) = self.bytes[self.hashes_range.clone()].as_chunks();
        hashes[piece.index()]
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
}
