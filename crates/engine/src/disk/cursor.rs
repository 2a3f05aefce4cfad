//! Reading one piece after another, as a check does: what is in memory, what is not, and what was never written.

use std::ops::Range;
use std::rc::Rc;

use torrent::PieceIndex;
use torrent::metainfo::Span;

use super::storage::PART_EMPTY;
use super::torrent_files::OpenFile;
use super::{DiskError, Storage};

/// Where a thread reads on: the file that it had open last.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    open: Option<Rc<OpenFile>>,
}

impl Cursor {
    fn file(&mut self, storage: &Storage, file: usize) -> Result<&OpenFile, DiskError> {
        let open = match self.open.take().filter(|open| open.index == file) {
            Some(open) => open,
            None => Rc::new(storage.files.open_to_read(file)?),
        };
        Ok(self.open.insert(open))
    }
}

/// Why bytes cannot be read, and which file they are of.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) file: usize,
    pub(super) error: DiskError,
}

impl Storage {
    /// Whether all of `piece` is known to be zeros that were never written. Where the system does not say, `false`.
    pub(super) fn is_hole(
        &self,
        piece: PieceIndex,
        cursor: &mut Cursor,
    ) -> Result<bool, Unreadable> {
        for span in self.layout().spans(piece, 0, self.layout().len_of(piece)) {
            if self.is_pad(span.file) {
                continue;
            }
            let fail = |error| Unreadable { file: span.file, error };
            // What is in the part file was written.
            if !self.is_part_empty().map_err(fail)? {
                return Ok(false);
            }
            if !cursor.file(self, span.file).map_err(fail)?.is_hole(span.offset, span.len) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills `buf` with the bytes from `offset` of `piece` on. Before the first wait for the disk it
    /// calls `before_wait`.
    pub(super) fn read_on(
        &self,
        piece: PieceIndex,
        offset: u32,
        buf: &mut [u8],
        cursor: &mut Cursor,
        mut before_wait: impl FnMut(),
    ) -> Result<(), Unreadable> {
        let mut rest = buf;
        for span in self.layout().spans(piece, offset, rest.len() as u32) {
            let (now, later) = rest.split_at_mut(span.len as usize);
            let read = if self.is_pad(span.file) || self.part_state() != PART_EMPTY {
                self.read_span(span, now)
            } else {
                let open = cursor.file(self, span.file);
                open.and_then(|open| self.files.read_open(open, span.offset, now, &mut before_wait))
            };
            read.map_err(|error| Unreadable { file: span.file, error })?;
            rest = later;
        }
        Ok(())
    }

    /// Whether the byte at `offset` of `piece` is in a file, and not in memory. To look brings what is looked at into
    /// memory, so the answer is good for once.
    pub(super) fn is_cold(&self, piece: PieceIndex, offset: u32, cursor: &mut Cursor) -> bool {
        self.open_at(piece, offset, cursor).is_some_and(|(open, span)| open.is_cold(span.offset))
    }

    /// Whether the bytes from `offset` of `piece` on can be read past the system's cache: if they are in a long file.
    pub(super) fn is_direct(&self, piece: PieceIndex, offset: u32, cursor: &mut Cursor) -> bool {
        self.open_at(piece, offset, cursor).is_some_and(|(open, _)| self.files.is_direct(open))
    }

    /// The file that a byte is in, and where; `None` if it is in none, or that cannot be opened.
    fn open_at<'a>(
        &self,
        piece: PieceIndex,
        offset: u32,
        cursor: &'a mut Cursor,
    ) -> Option<(&'a OpenFile, Span)> {
        let span = self.layout().spans(piece, offset, 1).next()?;
        if self.is_pad(span.file) || self.part_state() != PART_EMPTY {
            return None;
        }
        Some((cursor.file(self, span.file).ok()?, span))
    }

    /// Reads `len` bytes from `offset` of `piece` on, which may go on into the next, past the system's cache. `buf` is
    /// longer than that by [`DIRECT_SLACK`](super::direct::DIRECT_SLACK). Returns where in it they are, or `None`
    /// unless all are in one long file, and can be had so.
    pub(super) fn read_direct(
        &self,
        piece: PieceIndex,
        offset: u32,
        len: usize,
        buf: &mut [u8],
        cursor: &mut Cursor,
    ) -> Option<Range<usize>> {
        let span = self.layout().spans(piece, offset, len as u32).next()?;
        if span.len as usize != len || self.is_pad(span.file) {
            return None;
        }
        let open = cursor.file(self, span.file).ok()?;
        self.files.read_direct(open, span.offset, len, buf)
    }

    /// Asks for bytes of a piece to be read from the disk, without a wait for them, unless they are to be
    /// read past the cache.
    pub(super) fn read_ahead(&self, piece: PieceIndex, offset: u32, len: u32, cursor: &mut Cursor) {
        for span in self.layout().spans(piece, offset, len) {
            // What cannot be opened is told when it is read.
            if !self.is_pad(span.file)
                && let Ok(open) = cursor.file(self, span.file)
                && !self.files.is_direct(open)
            {
                open.read_ahead(span.offset, span.len);
            }
        }
    }
}
