//! Several streams that advance together: what is the same for SHA-1 and SHA-256.

use crate::LANES_MAX;
use crate::backend::{Kernel, Plan};

/// Streams whose state is `WORDS` words each.
pub(crate) struct Streams<const WORDS: usize> {
    plan: Plan<WORDS>,
    /// One for each stream.
    states: Vec<[u32; WORDS]>,
    rests: Vec<Rest>,
}

/// The bytes of a stream that are not yet a block.
#[derive(Clone)]
struct Rest {
    bytes: [u8; 64],
    /// Under 64 between updates.
    len: usize,
    /// All the bytes that the stream was given.
    total: u64,
}

/// Blocks that wait to be hashed, and the stream that they belong to.
type Job<'a> = (usize, &'a [[u8; 64]]);

impl<const WORDS: usize> Streams<WORDS> {
    /// # Panics
    /// If `count` is 0 or over [`LANES_MAX`], or the processor does not have one of `kernels`.
    pub(crate) fn new(kernels: &[Kernel<WORDS>], start: [u32; WORDS], count: usize) -> Self {
        assert!((1..=LANES_MAX).contains(&count), "1 to {LANES_MAX} streams");
        Self {
            plan: Plan::new(kernels),
            states: vec![start; count],
            rests: vec![Rest { bytes: [0; 64], len: 0, total: 0 }; count],
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.states.len()
    }

    /// # Panics
    /// Unless there is one slice for each stream.
    pub(crate) fn update(&mut self, data: &[&[u8]]) {
        assert_eq!(data.len(), self.count(), "one slice for each stream");
        let mut full = Vec::new();
        let mut whole = Vec::new();
        for (stream, (rest, data)) in self.rests.iter_mut().zip(data).enumerate() {
            rest.total = rest.total.wrapping_add(data.len() as u64);
            let mut data = *data;
            if rest.len > 0 {
                data = rest.fill(data);
                if rest.len < 64 {
                    continue;
                }
                full.push((stream, [rest.bytes]));
                rest.len = 0;
            }
            let (blocks, after) = data.as_chunks();
            if !blocks.is_empty() {
                whole.push((stream, blocks));
            }
            rest.fill(after);
        }
        self.compress(full.iter().map(|(stream, block)| (*stream, &block[..])).collect());
        self.compress(whole);
    }

    /// The final state of each stream.
    pub(crate) fn finish(mut self) -> Vec<[u32; WORDS]> {
        let last: Vec<_> = self.rests.iter().map(Rest::last_blocks).collect();
        self.compress(last.iter().map(|(blocks, count)| &blocks[..*count]).enumerate().collect());
        self.states
    }

    /// Hashes all jobs, of which there is at most one for each stream.
    fn compress(&mut self, mut jobs: Vec<Job<'_>>) {
        // Those that are about equally long end together, so that few lanes idle.
        jobs.sort_by_key(|(_, blocks)| std::cmp::Reverse(blocks.len()));
        while !jobs.is_empty() {
            let kernel = self.plan.next(jobs.len());
            let count = jobs.len().min(kernel.lanes);
            let now = &mut jobs[..count];
            let mut states: [[u32; WORDS]; LANES_MAX] = [[0; WORDS]; LANES_MAX];
            let mut data: [&[[u8; 64]]; LANES_MAX] = [&[]; LANES_MAX];
            let blocks = now.iter().map(|(_, blocks)| blocks.len()).min().unwrap_or(0);
            for (lane, (stream, left)) in now.iter_mut().enumerate() {
                states[lane] = self.states[*stream];
                (data[lane], *left) = left.split_at(blocks);
            }
            // SAFETY: a plan has only kernels whose backend is available.
            unsafe { (kernel.compress)(&mut states[..count], &data[..count]) };
            for ((stream, _), state) in now.iter().zip(states) {
                self.states[*stream] = state;
            }
            jobs.retain(|(_, left)| !left.is_empty());
        }
    }
}

impl Rest {
    /// Takes what there is room for and gives back the rest of `data`.
    fn fill<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (taken, after) = data.split_at(data.len().min(64 - self.len));
        self.bytes[self.len..self.len + taken.len()].copy_from_slice(taken);
        self.len += taken.len();
        after
    }

    /// What is left, padded to one block or two (FIPS 180-4, 5.1.1).
    fn last_blocks(&self) -> ([[u8; 64]; 2], usize) {
        let mut blocks = [[0; 64]; 2];
        let count = if self.len < 56 { 1 } else { 2 };
        let bytes = blocks.as_flattened_mut();
        bytes[..self.len].copy_from_slice(&self.bytes[..self.len]);
        bytes[self.len] = 0x80;
        let bits = self.total.wrapping_mul(8).to_be_bytes();
        bytes[64 * count - 8..64 * count].copy_from_slice(&bits);
        (blocks, count)
    }
}
