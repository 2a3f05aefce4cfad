//! What can be wrong with the disk, sorted by what the person at the keyboard has to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use torrent::PieceIndex;

/// A disk operation that did not work, and on which file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No space is left, or the user's quota is used up.
    #[error("no space left for {}: free some space, then try again", path.display())]
    Full {
        /// The file that was to grow.
        path: PathBuf,
    },
    /// The system does not let us, or the file system is mounted read-only.
    #[error("not allowed to use {}: check its permissions and those of its folder, then try again", path.display())]
    Permission {
        /// The file or folder.
        path: PathBuf,
    },
    /// The file is not there, though it ought to be.
    #[error("{} is gone: put it back, or try again and it is fetched anew", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is shorter than what was written to it.
    #[error("{} is shorter than it should be: another program may have changed it; try again and what is missing is fetched anew", path.display())]
    Shortened {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot hold a file of this length (FAT ends at 4 GiB), or a limit forbids it.
    #[error("{} grows larger than this file system or a limit (ulimit -f) allows: download to another place", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// This process, or the whole system, has too many files open.
    #[error("too many open files to open {}: raise the limit (ulimit -n) or lower the number of connections", path.display())]
    TooManyOpen {
        /// The file that was to be opened.
        path: PathBuf,
    },
    /// Something stands where another thing is needed: a file in place of a folder, a folder or a
    /// device in place of a file.
    #[error("{} is in the way: it is not a {wanted}; move it elsewhere, then try again", path.display())]
    InTheWay {
        /// What stands there.
        path: PathBuf,
        /// What should stand there.
        wanted: &'static str,
    },
    /// A symbolic link lies below the download folder. It could lead anywhere, so it is not followed.
    #[error("{} is a symbolic link inside the download folder, which is never followed: replace it by what it points to, then try again", path.display())]
    UnsafePath {
        /// The link.
        path: PathBuf,
    },
    /// Not the disk is wrong but the torrent: a hybrid one, whose hashes of BitTorrent v1 are those of other data
    /// than those of v2.
    #[error(
        "piece {piece} is right by BitTorrent v1 or v2 and wrong by the other: the torrent contradicts itself; get another torrent file"
    )]
    Contradiction {
        /// The piece.
        piece: PieceIndex,
    },
    /// The caller asked to stop.
    #[error("stopped before the end")]
    Cancelled,
    /// Anything else: a bad sector, a network drive that does not answer.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskError {
    /// Sorts what the system said about `path`.
    pub fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { path },
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Self::Permission { path },
            Some(Errno::NOENT) => Self::Missing { path },
            Some(Errno::FBIG) => Self::TooLarge { path },
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpen { path },
            Some(Errno::NOTDIR) => Self::InTheWay { path, wanted: "folder" },
            Some(Errno::ISDIR) => Self::InTheWay { path, wanted: "file" },
            Some(Errno::LOOP) => Self::UnsafePath { path },
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn from_errno(path: &Path, errno: Errno) -> Self {
        Self::from_io(path, errno.into())
    }

    /// Whether the bytes are simply not there: no file, or too short a file.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Shortened { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_ask_for_space() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = DiskError::from_errno(Path::new("/d/f"), errno);
            assert!(matches!(&error, DiskError::Full { path } if path == Path::new("/d/f")));
            assert!(error.to_string().contains("free some space"));
        }
    }

    #[test]
    fn every_errno_with_a_remedy_has_its_variant() {
        let sorted = |errno| DiskError::from_errno(Path::new("f"), errno);
        assert!(matches!(sorted(Errno::ACCESS), DiskError::Permission { .. }));
        assert!(matches!(sorted(Errno::ROFS), DiskError::Permission { .. }));
        assert!(matches!(sorted(Errno::FBIG), DiskError::TooLarge { .. }));
        assert!(matches!(sorted(Errno::MFILE), DiskError::TooManyOpen { .. }));
        assert!(matches!(sorted(Errno::IO), DiskError::Io { .. }));
        assert!(sorted(Errno::NOENT).is_absence());
    }
}
