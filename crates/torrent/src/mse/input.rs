//! What has been received and not yet been understood.

use super::{MseFault, PADDING_MAX};

/// Bytes in the order they came. It holds no more than what a handshake waits for, and what was given
/// to it at once.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next `len` bytes, once they are here.
    pub(super) fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let rest = self.bytes.get(len..)?.to_vec();
        self.bytes.truncate(len);
        Some(std::mem::replace(&mut self.bytes, rest))
    }

    /// The next `N` bytes, once they are here.
    pub(super) fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Skips padding and the mark behind it. Returns whether it is here.
    ///
    /// # Errors
    /// If it can no longer come, for padding is not that long.
    pub(super) fn skip_past(&mut self, mark: &[u8]) -> Result<bool, MseFault> {
        let window_len = PADDING_MAX.saturating_add(mark.len());
        let window = self.bytes.get(..window_len).unwrap_or(&self.bytes);
        match window.windows(mark.len()).position(|bytes| bytes == mark) {
            Some(at) => {
                self.bytes.drain(..at.saturating_add(mark.len()));
                Ok(true)
            }
            None if window.len() == window_len => Err(MseFault::NoSync),
            None => Ok(false),
        }
    }

    /// All that is left.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
