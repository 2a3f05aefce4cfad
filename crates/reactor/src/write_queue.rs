//! What waits to be written to one connection: bytes, parts of files, and marks, in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

/// Something to be written.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes; cloning shares them.
    Bytes(Bytes),
    /// A part of a file, which goes to the socket without being copied through the program. If the
    /// file ends before the part does, that ends the connection.
    File {
        /// The file. Its own position is neither used nor moved.
        file: Arc<File>,
        /// Where the part begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: usize,
    },
}

impl Chunk {
    /// How many bytes it is.
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether it is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! chunk_from {
    ($($type:ty),*) => {$(
        impl From<$type> for Chunk {
            fn from(bytes: $type) -> Self {
                Self::Bytes(bytes.into())
            }
        }
    )*};
}
chunk_from!(Bytes, BytesMut, Vec<u8>, String, &'static [u8], &'static str);

#[derive(Debug)]
enum Item {
    Chunk(Chunk),
    /// Something is to be done when all before it is with the kernel.
    Mark(u32),
}

#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    items: VecDeque<Item>,
    /// Small chunks that have been merged, and will go behind `items`.
    small: BytesMut,
    len: usize,
}

/// What is first in the queue.
pub(crate) enum Front<'a> {
    /// So many slices; perhaps `more` follows them at once.
    Bytes {
        count: usize,
        more: bool,
    },
    File {
        file: &'a File,
        offset: u64,
        len: usize,
    },
    /// It has been taken off.
    Mark(u32),
    Nothing,
}

impl WriteQueue {
    /// How many bytes there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.small.is_empty()
    }

    pub(crate) fn has_marks(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Mark(_)))
    }

    /// Whether it may be kept for later: one that was long has room that most never need.
    pub(crate) fn is_small(&self) -> bool {
        self.items.capacity() <= SPARE_ITEMS_MAX && self.small.capacity() <= SPARE_LEN_MAX
    }

    /// Appends a chunk. Small neighbours become one.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        match chunk {
            chunk if chunk.is_empty() => {}
            Chunk::Bytes(bytes) if bytes.len() < SMALL => self.push_copy(&bytes),
            chunk => {
                self.len = self.len.saturating_add(chunk.len());
                self.seal();
                self.items.push_back(Item::Chunk(chunk));
            }
        }
    }

    pub(crate) fn push_copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.small.extend_from_slice(bytes);
    }

    pub(crate) fn push_mark(&mut self, mark: u32) {
        self.seal();
        self.items.push_back(Item::Mark(mark));
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.items.push_back(Item::Chunk(Chunk::Bytes(bytes)));
        }
    }

    /// What is to be done first. Bytes are gathered into `slices` for one write.
    pub(crate) fn front<'a>(&'a mut self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> Front<'a> {
        self.seal();
        if let Some(Item::Mark(mark)) = self.items.front() {
            let mark = *mark;
            self.items.pop_front();
            return Front::Mark(mark);
        }
        let mut count = 0;
        for (slice, item) in slices.iter_mut().zip(&self.items) {
            let Item::Chunk(Chunk::Bytes(bytes)) = item else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        match self.items.front() {
            None | Some(Item::Mark(_)) => Front::Nothing,
            Some(Item::Chunk(Chunk::Bytes(_))) => {
                let next = self.items.get(count);
                let more = matches!(next, Some(Item::Chunk(Chunk::File { .. })));
                Front::Bytes { count, more }
            }
            Some(&Item::Chunk(Chunk::File { ref file, offset, len })) => {
                Front::File { file, offset, len }
            }
        }
    }

    /// `len` bytes from the front have been written.
    pub(crate) fn advance(&mut self, mut len: usize) {
        self.len = self.len.saturating_sub(len);
        while let Some(Item::Chunk(first)) = self.items.front_mut() {
            let first_len = first.len();
            if len < first_len {
                match first {
                    Chunk::Bytes(bytes) => bytes.advance(len),
                    Chunk::File { offset, len: left, .. } => {
                        *offset += len as u64;
                        *left -= len;
                    }
                }
                return;
            }
            len -= first_len;
            self.items.pop_front();
            if len == 0 {
                return;
            }
        }
    }

    /// All that is left, and the marks that stood in between.
    pub(crate) fn take(&mut self) -> (Vec<Chunk>, Vec<u32>) {
        self.seal();
        self.len = 0;
        let (mut chunks, mut marks) = (Vec::new(), Vec::new());
        for item in std::mem::take(&mut self.items) {
            match item {
                Item::Chunk(chunk) => chunks.push(chunk),
                Item::Mark(mark) => marks.push(mark),
            }
        }
        (chunks, marks)
    }
}

/// Chunks below this are copied together.
const SMALL: usize = 512;
pub(crate) const SLICES_MAX: usize = 64;
const SPARE_ITEMS_MAX: usize = 256;
const SPARE_LEN_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_merges_the_small_and_survives_partial_writes() {
        let mut queue = WriteQueue::default();
        let mut expected = Vec::new();
        for (index, len) in [5, 7, 600, 3, 2000, 1, 1].into_iter().enumerate() {
            let chunk = vec![index as u8; len];
            expected.extend_from_slice(&chunk);
            queue.push(chunk.into());
        }
        let mut written = Vec::new();
        let mut chunks = None;
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let Front::Bytes { count, more: false } = queue.front(&mut slices) else {
                panic!("bytes and nothing else")
            };
            chunks = chunks.or(Some(count));
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let part = all.len().min(101);
            written.extend_from_slice(&all[..part]);
            queue.advance(part);
        }
        assert_eq!((written, chunks, queue.len()), (expected, Some(5), 0));
    }

    #[test]
    fn one_that_was_long_is_not_kept() {
        let mut queue = WriteQueue::default();
        queue.push_copy(&[0; 10_000]);
        assert!(queue.is_small());
        queue.push_copy(&[0; 1_000_000]);
        queue.advance(0);
        assert!(!queue.is_small());
    }

    #[test]
    fn marks_and_files_stand_where_they_were_put() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let mut queue = WriteQueue::default();
        queue.push("head".into());
        queue.push(Chunk::File { file, offset: 10, len: 100 });
        queue.push_mark(7);
        queue.push("tail".into());
        assert!(queue.len() == 108 && queue.has_marks());
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let front = queue.front(&mut slices);
        assert!(matches!(front, Front::Bytes { count: 1, more: true }));
        queue.advance(4);
        queue.advance(30);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        assert!(matches!(queue.front(&mut slices), Front::File { offset: 40, len: 70, .. }));
        queue.advance(70);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        assert!(matches!(queue.front(&mut slices), Front::Mark(7)));
        let (chunks, marks) = queue.take();
        assert!(chunks.len() == 1 && marks.is_empty() && queue.is_empty());
    }
}
