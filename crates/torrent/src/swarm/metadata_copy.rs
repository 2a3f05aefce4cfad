//! A copy of the info dictionary while its pieces come, perhaps from several peers.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;
use std::time::Instant;

use sha1::{Digest, Sha1};

use crate::wire::METADATA_PIECE_LEN;

/// The metadata as some say it is.
#[derive(Debug)]
pub(super) struct MetadataCopy {
    pub(super) len: u32,
    slots: Vec<Slot>,
    /// How many pieces are.
    pub(super) missing: usize,
}

#[derive(Debug)]
enum Slot {
    /// Asked of so many peers.
    Missing(u8),
    Here {
        from: IpAddr,
        data: Box<[u8]>,
    },
}

/// Whose piece of a wrong copy it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) ip: IpAddr,
    /// The length that it said.
    pub(super) len: u32,
    pub(super) piece: usize,
    pub(super) digest: [u8; 20],
}

impl MetadataCopy {
    pub(super) fn new(len: u32) -> Self {
        let count = len.div_ceil(METADATA_PIECE_LEN) as usize;
        Self { len, slots: (0..count).map(|_| Slot::Missing(0)).collect(), missing: count }
    }

    /// The piece to ask for next, of somebody who was asked for `already`: one that nobody was asked for, or
    /// one of the last that only few were. It counts as asked for.
    pub(super) fn ask(&mut self, already: &[(u32, Instant)]) -> Option<u32> {
        let missing = self.slots.iter_mut().zip(0_u32..).filter_map(|(slot, piece)| match slot {
            Slot::Missing(count) => Some((count, piece)),
            Slot::Here { .. } => None,
        });
        let open = missing.filter(|(count, piece)| {
            **count < DUPLICATES_MAX && already.iter().all(|(asked, _)| asked != piece)
        });
        let (count, piece) = open.min_by_key(|(count, _)| **count)?;
        *count = count.saturating_add(1);
        Some(piece)
    }

    pub(super) fn put(&mut self, piece: u32, from: IpAddr, data: &[u8]) {
        if let Some(slot @ Slot::Missing(_)) = self.slots.get_mut(piece as usize) {
            *slot = Slot::Here { from, data: data.into() };
            self.missing = self.missing.saturating_sub(1);
        }
    }

    pub(super) fn joined(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len as usize);
        for slot in &self.slots {
            if let Slot::Here { data, .. } = slot {
                whole.extend_from_slice(data);
            }
        }
        whole
    }

    pub(super) fn suspects(&self) -> Vec<Suspect> {
        let suspect = |(piece, slot): (usize, &Slot)| match slot {
            Slot::Here { from, data } => {
                let digest = Sha1::digest(data).into();
                Some(Suspect { ip: *from, len: self.len, piece, digest })
            }
            Slot::Missing(_) => None,
        };
        self.slots.iter().enumerate().filter_map(suspect).collect()
    }

    /// Somebody who was asked for a piece will not send it.
    pub(super) fn unask(&mut self, piece: u32) {
        if let Some(Slot::Missing(count)) = self.slots.get_mut(piece as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many bytes of it are in memory.
    #[cfg(test)]
    pub(super) fn held_len(&self) -> usize {
        let len = |slot: &Slot| match slot {
            Slot::Here { data, .. } => data.len(),
            Slot::Missing(_) => 0,
        };
        self.slots.iter().map(len).sum()
    }
}

/// How long a piece of metadata of `len` bytes is; 0 past the end.
pub(super) fn piece_len(len: u32, piece: u32) -> usize {
    let start = u64::from(piece).saturating_mul(u64::from(METADATA_PIECE_LEN));
    let rest = u64::from(len).saturating_sub(start).min(u64::from(METADATA_PIECE_LEN));
    usize::try_from(rest).unwrap_or(0)
}

/// Peers that are asked for the same piece at once, if nothing else is left to ask for.
const DUPLICATES_MAX: u8 = 3;
