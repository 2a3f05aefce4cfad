//! SHA-1 of several messages.

use std::fmt;

use crate::Backend;
use crate::backend::sha1_kernels;
use crate::kernel::SHA1_START;
use crate::streams::Streams;

/// Several SHA-1 streams that advance together.
pub struct Sha1Lanes {
    streams: Streams<5>,
}

impl Sha1Lanes {
    /// `count` streams, none of which has been given anything.
    ///
    /// # Panics
    /// If `count` is 0 or over [`LANES_MAX`](crate::LANES_MAX).
    pub fn new(count: usize) -> Self {
        Self { streams: Streams::new(&sha1_kernels(&Backend::ALL), SHA1_START, count) }
    }

    /// As [`new`](Self::new), with nothing but `backend`, however few the streams: for tests and
    /// measurements.
    ///
    /// # Panics
    /// As `new` does, and if this processor does not have it.
    pub fn with_backend(backend: Backend, count: usize) -> Self {
        assert!(backend.is_available(), "this processor has no {backend:?}");
        let backend = if backend == Backend::Pairs { Backend::Single } else { backend };
        Self { streams: Streams::new(&sha1_kernels(&[backend]), SHA1_START, count) }
    }

    /// Gives each stream its next bytes. They may be of any lengths; it is fastest when all are
    /// equally long and a multiple of 64 bytes.
    ///
    /// # Panics
    /// Unless there is one slice for each stream.
    pub fn update(&mut self, data: &[&[u8]]) {
        self.streams.update(data);
    }

    /// The hash of each stream, in order.
    pub fn finish(self) -> Vec<[u8; 20]> {
        self.streams.finish().into_iter().map(to_bytes).collect()
    }
}

impl fmt::Debug for Sha1Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sha1Lanes").field("count", &self.streams.count()).finish()
    }
}

fn to_bytes(state: [u32; 5]) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes.as_chunks_mut().0.copy_from_slice(&state.map(u32::to_be_bytes));
    bytes
}
