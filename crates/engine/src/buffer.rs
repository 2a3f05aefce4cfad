//! Buffers that belong to the work, not to the connections: taken when there is something to read,
//! given back when the last slice of it is dropped, on whatever thread.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A stock of equal buffers. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct BufferPool {
    stock: Arc<Mutex<Vec<Box<[u8]>>>>,
    buffer_len: usize,
}

/// One buffer, for writing. [`freeze`](Self::freeze) makes it shareable.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Empty only after it has gone back to the pool.
    bytes: Box<[u8]>,
    pool: BufferPool,
}

impl BufferPool {
    pub(crate) fn new(buffer_len: usize) -> Self {
        Self { stock: Arc::default(), buffer_len }
    }

    /// A buffer whose contents are whatever the last user left in it.
    pub(crate) fn take(&self) -> Buffer {
        let used = self.stock.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = used.unwrap_or_else(|| vec![0; self.buffer_len].into_boxed_slice());
        Buffer { bytes, pool: self.clone() }
    }
}

impl Buffer {
    /// The first `len` bytes, to be shared without a copy.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut stock = self.pool.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock.len() < STOCK_MAX {
            stock.push(bytes);
        }
    }
}

/// Buffers kept for the next user; the rest go back to the allocator.
const STOCK_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_goes() {
        let pool = BufferPool::new(8);
        let mut buffer = pool.take();
        buffer.as_mut().copy_from_slice(b"abcdefgh");
        let frozen = buffer.freeze(4);
        let slice = frozen.slice(1..3);
        drop(frozen);
        assert_eq!(pool.stock.lock().expect("no panic").len(), 0);
        assert_eq!(slice, "bc");
        drop(slice);
        assert_eq!(pool.stock.lock().expect("no panic").len(), 1);
        assert_eq!(pool.take().as_ref(), b"abcdefgh");
    }
}
