//! Trees of hashes: what a tree answers proves itself, nothing else does, and the answer is as long as it was to be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::metainfo::merkle::{self, Tree};
use torrent::wire::HashRequest;

fuzz_target!(|input: (u8, [u32; 4], (u16, u8), &[u8])| {
    let (count, [layer, index, asked, proof_layers], (at, flip), noise) = input;
    let leaves: Vec<_> = (0..=count).map(|leaf| merkle::parent(&[leaf; 32], &[!leaf; 32])).collect();
    let tree = Tree::new(&leaves, 0);
    let root = tree.root();
    let (nodes, _) = noise.as_chunks();
    // The root alone may be guessed, since it is compared with what is given.
    assert!(nodes == [root] || !merkle::is_proven(nodes, index, asked, proof_layers, &root));

    let Some(mut answer) = tree.hashes(layer, index, asked, proof_layers) else { return };
    let request = HashRequest { root, base: layer, index, count: asked, proof_layers };
    assert_eq!(answer.len() as u32, request.answer_count());
    let height = tree.height() - layer;
    if proof_layers + 1 == height {
        assert!(merkle::is_proven(&answer, index, asked, height, &root));
        if flip != 0 {
            let place = usize::from(at) % answer.len();
            answer[place][usize::from(at) % 32] ^= flip;
            assert!(!merkle::is_proven(&answer, index, asked, height, &root));
        }
    }
});
