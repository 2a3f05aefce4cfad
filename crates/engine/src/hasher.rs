//! Whether a piece is what it should be: hashed from memory, on a disk thread, before it is written.

use bytes::Bytes;
use sha1::{Digest, Sha1};
use torrent::BLOCK_LEN;
use torrent::swarm::{Verdict, VerifyJob};

use crate::disk::{DiskError, Storage};

/// Hashes a piece of `piece_len` bytes, and writes the blocks that are in memory if the hash is
/// `expected`. Blocks that are not in memory were stored before; they are read.
pub(crate) fn verify_and_write(
    storage: &Storage,
    job: VerifyJob,
    piece_len: u32,
    expected: [u8; 20],
) -> Result<Verdict, DiskError> {
    let VerifyJob { piece, mut blocks, wants_digests } = job;
    let in_memory: u64 = blocks.iter().map(|(_, data)| data.len() as u64).sum();
    let is_all_in_memory = in_memory == u64::from(piece_len);
    if !is_all_in_memory {
        fill_gaps(storage, piece, piece_len, &mut blocks)?;
    }
    let mut hash = Sha1::new();
    for (_, data) in &blocks {
        hash.update(data);
    }
    let is_good = <[u8; 20]>::from(hash.finalize()) == expected;
    if !is_good {
        return Ok(Verdict::Bad(digests(&blocks)));
    }
    let digests = wants_digests.then(|| digests(&blocks));
    let data: Vec<Bytes> = blocks.into_iter().map(|(_, data)| data).collect();
    storage.write(piece, 0, &data)?;
    Ok(Verdict::Good(digests))
}

/// Reads what was stored, so that `blocks` is the whole piece.
fn fill_gaps(
    storage: &Storage,
    piece: torrent::PieceIndex,
    piece_len: u32,
    blocks: &mut Vec<(u32, Bytes)>,
) -> Result<(), DiskError> {
    let mut whole = Vec::with_capacity(blocks.len());
    let mut held = std::mem::take(blocks).into_iter().peekable();
    for offset in (0..piece_len).step_by(BLOCK_LEN as usize) {
        let block = match held.next_if(|(at, _)| *at == offset) {
            Some(block) => block,
            None => (offset, storage.read(piece, offset, BLOCK_LEN.min(piece_len - offset))?),
        };
        whole.push(block);
    }
    *blocks = whole;
    Ok(())
}

fn digests(blocks: &[(u32, Bytes)]) -> Vec<[u8; 20]> {
    blocks.iter().map(|(_, data)| Sha1::digest(data).into()).collect()
}
