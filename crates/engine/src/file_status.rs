//! One file of a torrent as people see it, and how much it is wanted.

use std::ops::Range;
use std::path::PathBuf;

use reactor::Reactor;
use torrent::PieceIndex;

use crate::disk::FileMode;
use crate::engine::Engine;
use crate::session::Gone;
use crate::task::{PRIORITY_MAX, PRIORITY_USUAL, TaskId};
use crate::torrent_handle::Torrent;

/// How one file of a torrent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Its number in the torrent, counted from 0.
    pub index: usize,
    /// Where it is, or will be: an absolute path.
    pub path: PathBuf,
    /// Its full length, in bytes.
    pub len: u64,
    /// How much it is wanted: 0 is left out, 7 is wanted most.
    pub priority: u8,
    /// How it is open at this moment; `None` if it is closed. Files are opened when they are needed, and
    /// those that were not used for longest are closed when there are too many.
    pub mode: Option<FileMode>,
    /// Bytes of it that are here and verified.
    pub done_len: u64,
}

/// Why a file's priority was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    /// There is no such file.
    #[error("there is no file {index}: the torrent has {files}, counted from 0")]
    NoFile {
        /// Its number.
        index: usize,
        /// How many files there are.
        files: usize,
    },
    /// Priorities end at 7.
    #[error("{0} is no priority: 0 leaves a file out, 7 is the highest")]
    TooHigh(u8),
    /// The session has ended, or the torrent was removed from it.
    #[error(transparent)]
    Gone(#[from] Gone),
}

impl FileStatus {
    /// How much of it is here, 0.0 to 100.0.
    pub fn percent(&self) -> f64 {
        if self.len == 0 { 100.0 } else { self.done_len as f64 * 100.0 / self.len as f64 }
    }
}

impl Torrent {
    /// Its files, in the order of the torrent.
    ///
    /// # Errors
    /// If the session has ended, or the torrent was removed.
    pub fn files(&self) -> Result<Vec<FileStatus>, Gone> {
        // Many files take their time, and the session does not wait for that.
        let wanted = self.tell(|engine, id, _| {
            let task = engine.tasks.get(&id)?;
            Some((task.priorities_wanted().to_vec(), task.storage.clone()))
        })?;
        let (priorities, storage) = wanted.ok_or(Gone)?;
        let published = self.published();
        let (dir, bits) = (&published.dir, published.bits());
        let layout = published.metainfo().layout();
        let status = |(index, mode): (usize, Option<FileMode>)| {
            let file = &layout.files()[index];
            let priority = priorities.get(index).copied().unwrap_or(PRIORITY_USUAL);
            let bytes = layout.file_range(index);
            FileStatus {
                index,
                path: dir.join(file.path.to_path_buf()),
                len: file.len,
                priority: if file.is_pad { 0 } else { priority.min(PRIORITY_MAX) },
                mode,
                done_len: done_len(&bytes, layout.piece_len(), |piece| bits.has(piece)),
            }
        };
        Ok(storage.file_modes().into_iter().enumerate().map(status).collect())
    }

    /// Changes how much one file is wanted: 0 leaves it out, 1 is low, 4 is usual, 7 is high.
    ///
    /// # Errors
    /// [`PriorityError`]: then nothing has changed.
    pub fn set_file_priority(&self, index: usize, priority: u8) -> Result<(), PriorityError> {
        let files = self.published().metainfo().layout().files().len();
        if index >= files {
            return Err(PriorityError::NoFile { index, files });
        }
        if priority > PRIORITY_MAX {
            return Err(PriorityError::TooHigh(priority));
        }
        let changed = self.tell(move |engine, id, reactor| {
            engine.set_file_priority(id, index, priority, reactor)
        })?;
        Ok(changed.ok_or(Gone)?)
    }
}

impl Engine {
    fn set_file_priority(
        &mut self,
        id: TaskId,
        index: usize,
        priority: u8,
        reactor: &mut Reactor<Self>,
    ) -> Option<()> {
        let task = self.tasks.get(&id)?;
        let mut priorities = task.priorities_wanted().to_vec();
        priorities.resize(task.metainfo.layout().files().len(), PRIORITY_USUAL);
        *priorities.get_mut(index)? = priority;
        self.set_priorities(id, priorities, reactor);
        Some(())
    }
}

/// How many of the torrent's `bytes` lie in pieces that are here.
fn done_len(bytes: &Range<u64>, piece_len: u32, has: impl Fn(PieceIndex) -> bool) -> u64 {
    let piece_len = u64::from(piece_len);
    let pieces = bytes.start / piece_len..bytes.end.div_ceil(piece_len);
    let of_piece = |piece: u64| {
        let is_here = u32::try_from(piece).is_ok_and(|piece| has(PieceIndex(piece)));
        let (from, to) = (piece * piece_len, (piece + 1) * piece_len);
        if is_here { to.min(bytes.end).saturating_sub(from.max(bytes.start)) } else { 0 }
    };
    pieces.map(of_piece).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_here_as_far_as_its_pieces_are() {
        let lens = |have: &[u32]| {
            [0..20_000, 20_000..20_000, 20_000..40_000]
                .map(|bytes| done_len(&bytes, 16_384, |piece| have.contains(&piece.0)))
        };
        assert_eq!(lens(&[]), [0, 0, 0]);
        // The piece in the middle is of both.
        assert_eq!(lens(&[1]), [3616, 0, 12_768]);
        assert_eq!(lens(&[0, 1, 2]), [20_000, 0, 20_000]);
    }

    #[test]
    fn an_empty_file_is_here_in_full() {
        let percent = |len, done_len| {
            let (path, priority, mode) = ("/a".into(), 4, None);
            FileStatus { index: 0, path, len, priority, mode, done_len }.percent()
        };
        assert_eq!([percent(0, 0), percent(8, 2)], [100.0, 25.0]);
    }
}
