//! Torrents on the disk. Every call here blocks, and belongs on a worker thread.
//!
//! [`Storage`] is one torrent's bytes, spread over its files. It opens them through a [`FilePool`] that
//! all torrents share, and, for the pieces that touch a file nobody wants, keeps the stray bytes in a
//! part file. [`check_pieces`] hashes what is there.

mod checker;
mod error;
mod file_io;
mod file_pool;
mod part_file;
mod path;
mod storage;
mod torrent_files;

pub use checker::{PieceState, check_pieces, hash_files};
pub use error::DiskError;
pub use file_pool::FilePool;
pub use storage::{Storage, StorageOptions};
pub use torrent_files::FileStamp;
