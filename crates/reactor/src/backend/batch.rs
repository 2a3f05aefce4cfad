//! Datagrams that were received together.

use std::net::SocketAddr;
use std::ops::Range;

/// Room for datagrams, and what came of them. Filled by a backend, emptied by the loop.
#[derive(Debug, Default)]
pub struct DatagramBatch {
    /// Room for [`BUFFERS`](Self::BUFFERS) times [`BUFFER_LEN`](Self::BUFFER_LEN) bytes.
    buffer: Vec<u8>,
    received: Vec<Received>,
}

/// What is in one buffer: a datagram, or several of one length and sender that came as one.
#[derive(Debug)]
struct Received {
    from: SocketAddr,
    bytes: Range<usize>,
    segment_len: usize,
}

impl DatagramBatch {
    /// How many buffers there are.
    pub const BUFFERS: usize = 16;
    /// The length of each: the longest datagram, or what the kernel merges into one.
    pub const BUFFER_LEN: usize = 64 * 1024;

    /// All buffers one after another, and nothing received.
    pub fn clear(&mut self) -> &mut [u8] {
        self.received.clear();
        self.buffer.resize(Self::BUFFERS * Self::BUFFER_LEN, 0);
        &mut self.buffer
    }

    /// Says that `len` bytes from `from` stand in buffer `number`: datagrams of `segment_len` bytes, of
    /// which the last may be shorter.
    pub fn push(&mut self, number: usize, from: SocketAddr, len: usize, segment_len: usize) {
        let start = number * Self::BUFFER_LEN;
        let bytes = start..start + len.min(Self::BUFFER_LEN);
        self.received.push(Received { from, bytes, segment_len });
    }

    /// The datagrams, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.received.iter().flat_map(|received| {
            let bytes = &self.buffer[received.bytes.clone()];
            // A datagram may be empty, and is one all the same.
            let empty = bytes.is_empty().then_some(bytes);
            let segments = bytes.chunks(received.segment_len.max(1));
            empty.into_iter().chain(segments).map(|segment| (received.from, segment))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_datagrams_come_apart_and_empty_ones_are_not_lost() {
        let mut batch = DatagramBatch::default();
        let buffers = batch.clear();
        buffers[..5].copy_from_slice(b"aabbc");
        buffers[DatagramBatch::BUFFER_LEN * 2] = b'd';
        let from = SocketAddr::from(([10, 0, 0, 1], 1));
        batch.push(0, from, 5, 2);
        batch.push(1, from, 0, 0);
        batch.push(2, from, 1, 1);
        let all: Vec<&[u8]> = batch.iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(all, [b"aa".as_slice(), b"bb", b"c", b"", b"d"]);
        batch.clear();
        assert_eq!(batch.iter().count(), 0);
    }
}
