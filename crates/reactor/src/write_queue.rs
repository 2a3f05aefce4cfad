//! Bytes on their way out: shared, in order, gathered.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// What waits to be written to one connection.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    chunks: VecDeque<Bytes>,
    /// Small chunks that have been merged, and will go behind `chunks`.
    small: BytesMut,
    len: usize,
}

impl WriteQueue {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Appends a chunk. Small neighbours become one.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() < SMALL {
            self.small.extend_from_slice(&chunk);
            return;
        }
        self.seal();
        self.chunks.push_back(chunk);
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
    }

    /// The first chunks, for one gathering write; returns how many bytes they are.
    pub(crate) fn gather<'a>(
        &'a mut self,
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> (usize, usize) {
        self.seal();
        let (mut count, mut len) = (0, 0);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
            len += chunk.len();
        }
        (count, len)
    }

    /// `len` bytes have been written.
    pub(crate) fn advance(&mut self, mut len: usize) {
        self.len -= len;
        while let Some(first) = self.chunks.front_mut() {
            if len < first.len() {
                first.advance(len);
                return;
            }
            len -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// Chunks below this are copied together.
const SMALL: usize = 512;
pub(crate) const SLICES_MAX: usize = 64;

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
        while queue.len() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let (count, len) = queue.gather(&mut slices);
            chunks = chunks.or(Some(count));
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(all.len(), len);
            let part = all.len().min(101);
            written.extend_from_slice(&all[..part]);
            queue.advance(part);
        }
        assert_eq!((written, chunks), (expected, Some(5)));
    }
}
