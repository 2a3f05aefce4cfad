//! Whether a piece is what it should be: hashed from memory, on a disk thread, before it is written.

use std::borrow::Cow;

use bytes::Bytes;
use sha_lanes::Sha1Lanes;
use torrent::metainfo::PieceCheck;
use torrent::metainfo::merkle::{self, Hash};
use torrent::swarm::{Verdict, VerifyJob};
use torrent::{BLOCK_LEN, PieceIndex};

use crate::disk::{DiskError, Judgement, PieceHash, Storage, hash_blocks};

/// Hashes a piece of `piece_len` bytes, and writes the blocks that are in memory if the hashes are what
/// `check` says. Blocks that are not in memory were stored before; they are read.
pub(crate) fn verify_and_write(
    storage: &Storage,
    job: VerifyJob,
    piece_len: u32,
    check: PieceCheck,
) -> Result<Verdict, DiskError> {
    let VerifyJob { piece, blocks, wants_digests } = job;
    let in_memory: u64 = blocks.iter().map(|(_, data)| data.len() as u64).sum();
    let whole = if in_memory == u64::from(piece_len) {
        Cow::Borrowed(&blocks)
    } else {
        Cow::Owned(fill_gaps(storage, piece, piece_len, &blocks)?)
    };
    let own_len = check.v2.map_or(piece_len, |tree| tree.len);
    let found = PieceHash {
        v1: check.v1.map(|_| sha1(&whole, own_len)),
        v2: check.v2.map(|tree| {
            let count = own_len.div_ceil(BLOCK_LEN) as usize;
            let own = whole.get(..count).unwrap_or(&whole);
            merkle::root(&digests(own, own_len), 0, tree.height)
        }),
    };
    match found.judge(&check) {
        Judgement::Right => {}
        Judgement::Wrong => {
            let digests = digests(&whole, own_len);
            drop(whole);
            return Ok(Verdict::Bad { digests, blocks });
        }
        Judgement::Contradiction => return Err(DiskError::Contradiction { piece }),
    }
    let digests = wants_digests.then(|| digests(&whole, own_len));
    let data: Vec<Bytes> = whole.iter().map(|(_, data)| data.clone()).collect();
    storage.write(piece, 0, &data)?;
    Ok(Verdict::Good(digests))
}

/// The SHA-256 of each block of pieces that are on the disk, without padding. What cannot be read is left out.
pub(crate) fn block_hashes(
    storage: &Storage,
    pieces: &[PieceIndex],
) -> Vec<(PieceIndex, Vec<Hash>)> {
    let hash = |&piece: &PieceIndex| {
        let (len, _) = storage.layout().tree_shape(piece);
        let mut hashes = Vec::with_capacity(len.div_ceil(BLOCK_LEN) as usize);
        for offset in (0..len).step_by(READ_LEN as usize) {
            let data = storage.read(piece, offset, READ_LEN.min(len - offset)).ok()?;
            let blocks: Vec<&[u8]> = data.chunks(BLOCK_LEN as usize).collect();
            hashes.extend(hash_blocks(&blocks));
        }
        Some((piece, hashes))
    };
    pieces.iter().filter_map(hash).collect()
}

/// The whole piece: what was stored is read.
fn fill_gaps(
    storage: &Storage,
    piece: PieceIndex,
    piece_len: u32,
    blocks: &[(u32, Bytes)],
) -> Result<Vec<(u32, Bytes)>, DiskError> {
    let mut held = blocks.iter().peekable();
    let block = |offset| match held.next_if(|(at, _)| *at == offset) {
        Some(block) => Ok(block.clone()),
        None => Ok((offset, storage.read(piece, offset, BLOCK_LEN.min(piece_len - offset))?)),
    };
    (0..piece_len).step_by(BLOCK_LEN as usize).map(block).collect()
}

/// Behind `own_len` there is padding: zeros, whatever a peer has sent. It is not written.
fn sha1(blocks: &[(u32, Bytes)], own_len: u32) -> [u8; 20] {
    let mut hash = Sha1Lanes::new(1);
    for (offset, data) in blocks {
        let own = own_part(*offset, data, own_len);
        if own.len() == data.len() {
            hash.update(&[data]);
        } else {
            let mut padded = vec![0; data.len()];
            padded[..own.len()].copy_from_slice(own);
            hash.update(&[&padded]);
        }
    }
    hash.finish()[0]
}

/// The SHA-256 of each block, without padding.
fn digests(blocks: &[(u32, Bytes)], own_len: u32) -> Vec<Hash> {
    let own = blocks.iter().map(|(offset, data)| own_part(*offset, data, own_len));
    hash_blocks(&own.collect::<Vec<_>>()).collect()
}

fn own_part(offset: u32, data: &[u8], own_len: u32) -> &[u8] {
    &data[..data.len().min(own_len.saturating_sub(offset) as usize)]
}

/// How much is read at once: whole blocks.
const READ_LEN: u32 = 32 * BLOCK_LEN;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use torrent::Rng;
    use torrent::metainfo::Metainfo;
    use torrent::metainfo::create::{Builder, Format, PieceHashes};

    use super::*;
    use crate::disk::{FilePool, StorageOptions};

    /// A hybrid of two files, the first of which is followed by padding; what is in its first piece; and where it is
    /// to go.
    fn hybrid(dir: &std::path::Path) -> (Metainfo, Vec<u8>, Storage) {
        let len = 20_000;
        let builder = Builder {
            format: Format::Hybrid,
            name: b"t".to_vec(),
            files: vec![(vec![b"a".to_vec()], len), (vec![b"b".to_vec()], 1)],
            piece_len: Some(4 * BLOCK_LEN),
            ..Builder::default()
        };
        let layout = builder.layout().expect("fits");
        let mut piece: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let (first, rest) = piece.split_at(BLOCK_LEN as usize);
        let root = merkle::parent(&sha_lanes::sha256(first), &sha_lanes::sha256(rest));
        piece.resize(layout.len_of(PieceIndex(0)) as usize, 0);
        let hashes =
            PieceHashes { v1: vec![sha_lanes::sha1(&piece), [0; 20]], v2: vec![root, [0; 32]] };
        let metainfo = Metainfo::parse(&builder.finish_as(&hashes).expect("fits")).expect("valid");
        let layout = Arc::clone(metainfo.layout());
        let wanted = vec![true; layout.files().len()];
        let options = StorageOptions { preallocate: false, wanted, part_path: PathBuf::new() };
        let storage = Storage::new(layout, dir.to_owned(), Arc::new(FilePool::default()), options);
        (metainfo, piece, storage)
    }

    fn job(piece: &[u8]) -> VerifyJob {
        let blocks = (0..).step_by(BLOCK_LEN as usize).zip(piece.chunks(BLOCK_LEN as usize));
        let blocks = blocks.map(|(offset, data)| (offset, Bytes::copy_from_slice(data)));
        VerifyJob { piece: PieceIndex(0), blocks: blocks.collect(), wants_digests: true }
    }

    #[test]
    fn padding_that_is_not_zeros_does_no_harm_to_a_hybrid() {
        let dir = tempfile::tempdir().expect("a folder");
        let (metainfo, mut piece, storage) = hybrid(dir.path());
        let check = metainfo.piece_check(PieceIndex(0));
        let len = piece.len() as u32;
        let Ok(Verdict::Good(Some(right))) = verify_and_write(&storage, job(&piece), len, check)
        else {
            panic!("it is right")
        };
        piece[20_000..].fill(7);
        let told = verify_and_write(&storage, job(&piece), len, check).expect("no contradiction");
        assert_eq!(told, Verdict::Good(Some(right.clone())));
        assert_eq!(std::fs::read(dir.path().join("t/a")).expect("there"), piece[..20_000]);
        piece[19_999] ^= 1;
        let job = job(&piece);
        let blocks = job.blocks.clone();
        let told = verify_and_write(&storage, job, len, check).expect("just wrong");
        let Verdict::Bad { digests, blocks: kept } = told else { panic!("{told:?}") };
        assert_eq!(kept, blocks);
        let wrong: Vec<usize> = (0..right.len()).filter(|&at| digests[at] != right[at]).collect();
        assert_eq!(wrong, [1]);
        assert_eq!(
            block_hashes(&storage, &[PieceIndex(0), PieceIndex(1)]),
            [(PieceIndex(0), right[..2].to_vec())]
        );
    }

    #[test]
    fn blocks_hashed_at_once_hash_as_each_alone() {
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let block_len = 1 + rng.below(300);
            let lens = (0..rng.below(70)).map(|_| block_len).chain([rng.below(300)]);
            let blocks: Vec<(u32, Bytes)> = lens
                .map(|len| (0, (0..len).map(|_| rng.below(256) as u8).collect::<Bytes>()))
                .collect();
            let each = blocks.iter().map(|(_, data)| sha_lanes::sha256(data));
            assert!(digests(&blocks, u32::MAX).into_iter().eq(each), "seed {seed}");
        }
    }
}
