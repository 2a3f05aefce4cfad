//! Torrents on the disk. Every call here blocks, and belongs on a worker thread.
//!
//! [`Storage`] is one torrent's bytes, spread over its files. It opens them through a [`FilePool`] that
//! all torrents share, and, for the pieces that touch a file nobody wants, keeps the stray bytes in a
//! part file. [`check_pieces`] and [`check_batch`] hash what is there, several pieces at once. [`Disks`] tells which
//! disk a path is on.

mod checker;
mod crew;
mod cursor;
mod direct;
mod disks;
mod error;
mod file_io;
mod file_pool;
mod file_watch;
mod gate;
mod lanes;
mod part_file;
mod path;
mod piece_hash;
mod storage;
mod throttle;
mod torrent_files;

pub use checker::{
    CheckOptions, CheckReport, PieceState, check_batch, check_pieces, hash_files, hash_files_as,
    wrong_blocks,
};
pub use crew::Crew;
pub use disks::{Disk, Disks};
pub use error::DiskError;
pub use file_pool::{FileMode, FilePool};
pub(crate) use file_watch::FileWatch;
pub use lanes::{Scratch, batch_len};
pub(crate) use piece_hash::{Judgement, PieceHash, hash_blocks};
pub use storage::{Storage, StorageOptions};
pub use torrent_files::FileStamp;
