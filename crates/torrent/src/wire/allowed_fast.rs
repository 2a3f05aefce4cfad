//! Which pieces a peer may have while it is choked ([BEP 6]): both sides can compute them.
//!
//! [BEP 6]: https://www.bittorrent.org/beps/bep_0006.html

use std::net::Ipv4Addr;

use sha1::{Digest, Sha1};

use crate::{InfoHash, PieceIndex};

/// The first `count` pieces that the peer at `ip` is allowed, of a torrent of `piece_count`. The
/// last byte of the address does not matter, so that a neighbourhood shares one set.
pub fn allowed_fast_set(
    ip: Ipv4Addr,
    info_hash: InfoHash,
    piece_count: u32,
    count: usize,
) -> Vec<PieceIndex> {
    let mut set = Vec::new();
    let count = count.min(piece_count as usize);
    let [a, b, c, _] = ip.octets();
    let mut digest: [u8; 20] =
        Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash.0).finalize().into();
    while set.len() < count {
        let (words, _) = digest.as_chunks();
        for &word in words {
            let piece = PieceIndex(u32::from_be_bytes(word) % piece_count);
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        digest = Sha1::digest(digest).into();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_sets_of_the_specification() {
        let set = |count| -> Vec<u32> {
            let ip = Ipv4Addr::new(80, 4, 4, 200);
            allowed_fast_set(ip, InfoHash([0xaa; 20]), 1313, count)
                .iter()
                .map(|piece| piece.0)
                .collect()
        };
        assert_eq!(set(7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn ends_for_small_torrents() {
        let ip = Ipv4Addr::LOCALHOST;
        assert_eq!(allowed_fast_set(ip, InfoHash([1; 20]), 3, 10).len(), 3);
        assert_eq!(allowed_fast_set(ip, InfoHash([1; 20]), 0, 10), []);
    }
}
