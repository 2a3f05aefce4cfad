//! Whether a piece is what it should be: hashed from memory, on a disk thread, before it is written.

use bytes::Bytes;
use sha_lanes::Sha1Lanes;
use torrent::BLOCK_LEN;
use torrent::metainfo::{BlockTree, PieceCheck, merkle};
use torrent::swarm::{Verdict, VerifyJob};

use crate::disk::{DiskError, Judgement, PieceHash, Storage, hash_blocks};

/// Hashes a piece of `piece_len` bytes, and writes the blocks that are in memory if the hashes are what
/// `check` says. Blocks that are not in memory were stored before; they are read.
pub(crate) fn verify_and_write(
    storage: &Storage,
    job: VerifyJob,
    piece_len: u32,
    check: PieceCheck,
) -> Result<Verdict, DiskError> {
    let VerifyJob { piece, mut blocks, wants_digests } = job;
    let in_memory: u64 = blocks.iter().map(|(_, data)| data.len() as u64).sum();
    let is_all_in_memory = in_memory == u64::from(piece_len);
    if !is_all_in_memory {
        fill_gaps(storage, piece, piece_len, &mut blocks)?;
    }
    let found = PieceHash {
        v1: check.v1.map(|_| sha1(&blocks)),
        v2: check.v2.map(|tree| root(&blocks, tree)),
    };
    match found.judge(&check) {
        Judgement::Right => {}
        Judgement::Wrong => return Ok(Verdict::Bad(digests(&blocks))),
        Judgement::Contradiction => return Err(DiskError::Contradiction { piece }),
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

fn sha1(blocks: &[(u32, Bytes)]) -> [u8; 20] {
    let mut hash = Sha1Lanes::new(1);
    blocks.iter().for_each(|(_, data)| hash.update(&[data]));
    hash.finish()[0]
}

/// The root of the tree over the blocks, without what is padding at their end.
fn root(blocks: &[(u32, Bytes)], tree: BlockTree) -> merkle::Hash {
    let own = |(offset, data): &(u32, Bytes)| data.len().min((tree.len - offset) as usize);
    let blocks = blocks.iter().filter(|(offset, _)| *offset < tree.len);
    let blocks: Vec<&[u8]> = blocks.map(|block| &block.1[..own(block)]).collect();
    merkle::root(&hash_blocks(&blocks).collect::<Vec<_>>(), 0, tree.height)
}

/// The SHA-1 of each block. They are equally long, but perhaps for the last, and so hashed at once.
fn digests(blocks: &[(u32, Bytes)]) -> Vec<[u8; 20]> {
    let alike = blocks.chunk_by(|(_, a), (_, b)| a.len() == b.len());
    let groups = alike.flat_map(|alike| alike.chunks(sha_lanes::lanes()));
    let hashes = groups.flat_map(|group| {
        let data: Vec<&[u8]> = group.iter().map(|(_, data)| &**data).collect();
        let mut hashes = Sha1Lanes::new(data.len());
        hashes.update(&data);
        hashes.finish()
    });
    hashes.collect()
}

#[cfg(test)]
mod tests {
    use torrent::Rng;

    use super::*;

    #[test]
    fn blocks_hashed_at_once_hash_as_each_alone() {
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let block_len = 1 + rng.below(300);
            let lens = (0..rng.below(70)).map(|_| block_len).chain([rng.below(300)]);
            let blocks: Vec<(u32, Bytes)> = lens
                .map(|len| (0, (0..len).map(|_| rng.below(256) as u8).collect::<Bytes>()))
                .collect();
            let each = blocks.iter().map(|(_, data)| sha_lanes::sha1(data));
            assert!(digests(&blocks).into_iter().eq(each), "seed {seed}");
        }
    }
}
