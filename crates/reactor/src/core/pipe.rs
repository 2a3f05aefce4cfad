//! A connection within the reactor: what one end writes the other reads, and no kernel is asked.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use bytes::{Buf, Bytes};

use crate::Token;

/// One end.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The other end; it may be over.
    pub(crate) peer: Token,
    /// What was written there and not yet read here.
    incoming: VecDeque<Bytes>,
    incoming_len: usize,
    /// The other end will write nothing more.
    pub(crate) has_end: bool,
    /// This end will write nothing more.
    pub(crate) is_finished: bool,
}

impl Pipe {
    pub(crate) const fn new(peer: Token) -> Self {
        Self {
            peer,
            incoming: VecDeque::new(),
            incoming_len: 0,
            has_end: false,
            is_finished: false,
        }
    }

    pub(crate) const fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.incoming_len)
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.incoming_len += bytes.len();
        self.incoming.push_back(bytes);
    }

    pub(crate) fn take(&mut self, slices: &mut [IoSliceMut<'_>]) -> usize {
        let mut taken = 0;
        for slice in slices {
            let mut filled = 0;
            while filled < slice.len() {
                let Some(first) = self.incoming.front_mut() else { break };
                let len = first.len().min(slice.len() - filled);
                slice[filled..filled + len].copy_from_slice(&first[..len]);
                first.advance(len);
                if first.is_empty() {
                    self.incoming.pop_front();
                }
                filled += len;
            }
            taken += filled;
        }
        self.incoming_len -= taken;
        taken
    }
}

/// What may be written before the other end has read, in bytes.
const CAPACITY: usize = 64 * 1024;
