//! The first 68 bytes of every connection ([BEP 3]).
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html

use crate::{InfoHash, PeerFault, PeerId};

/// Who speaks, of which torrent, and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The extensions that the speaker knows.
    pub reserved: Reserved,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The speaker's name.
    pub peer_id: PeerId,
}

/// Eight bytes of flags for extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// What we know: the extension protocol (BEP 10) and the fast extension (BEP 6).
    pub const fn ours() -> Self {
        Self([0, 0, 0, 0, 0, EXTENSION_PROTOCOL, 0, FAST])
    }

    /// The same, and that we have a DHT node (BEP 5).
    pub const fn with_dht(mut self) -> Self {
        self.0[7] |= DHT;
        self
    }

    /// Whether the extension protocol is known.
    pub const fn has_extensions(self) -> bool {
        self.0[5] & EXTENSION_PROTOCOL != 0
    }

    /// Whether the fast extension is known.
    pub const fn has_fast(self) -> bool {
        self.0[7] & FAST != 0
    }

    /// The same, and that the torrent is of version 2 as well, or only (BEP 52). Of one that is not, some clients
    /// part for it.
    pub const fn with_v2(mut self) -> Self {
        self.0[7] |= V2;
        self
    }

    /// The same, with or without that word about version 2.
    pub const fn with_v2_if(mut self, is_v2: bool) -> Self {
        self.0[7] &= !V2;
        if is_v2 { self.with_v2() } else { self }
    }

    /// Whether the speaker knows the torrent as one of version 2.
    pub const fn has_v2(self) -> bool {
        self.0[7] & V2 != 0
    }

    /// Whether the speaker has a DHT node (BEP 5).
    pub const fn has_dht(self) -> bool {
        self.0[7] & DHT != 0
    }
}

impl Handshake {
    /// How long it is, in bytes.
    pub const LEN: usize = 68;
    /// How much of it is the same for all.
    pub const PREFIX_LEN: usize = PROTOCOL.len();

    /// The bytes that go over the wire.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Whether `bytes`, which may be the beginning only, can still become a handshake.
    ///
    /// # Errors
    /// [`PeerFault::NotBitTorrent`] as soon as a byte differs.
    pub fn check_prefix(bytes: &[u8]) -> Result<(), PeerFault> {
        let is_prefix = bytes.iter().zip(PROTOCOL).all(|(byte, expected)| byte == expected);
        if is_prefix { Ok(()) } else { Err(PeerFault::NotBitTorrent) }
    }

    /// Reads a whole handshake.
    ///
    /// # Errors
    /// [`PeerFault::NotBitTorrent`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, PeerFault> {
        Self::check_prefix(bytes)?;
        let (_, rest) = bytes.split_at(20);
        let (reserved, rest) = rest.split_first_chunk().ok_or(PeerFault::NotBitTorrent)?;
        let (info_hash, rest) = rest.split_first_chunk().ok_or(PeerFault::NotBitTorrent)?;
        let peer_id = rest.first_chunk().ok_or(PeerFault::NotBitTorrent)?;
        Ok(Self {
            reserved: Reserved(*reserved),
            info_hash: InfoHash(*info_hash),
            peer_id: PeerId(*peer_id),
        })
    }
}

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
const EXTENSION_PROTOCOL: u8 = 0x10;
const FAST: u8 = 0x04;
const DHT: u8 = 0x01;
const V2: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn there_and_back() {
        let mut rng = Rng::from_seed(1);
        let handshake = Handshake {
            reserved: Reserved::ours(),
            info_hash: InfoHash(rng.bytes()),
            peer_id: PeerId(rng.bytes()),
        };
        let bytes = handshake.encode();
        assert_eq!(Handshake::decode(&bytes), Ok(handshake));
        assert!(
            Reserved::ours().has_fast()
                && Reserved::ours().has_extensions()
                && !Reserved::ours().has_dht()
                && !Reserved::ours().has_v2()
                && Reserved::ours().with_v2().has_v2()
        );
        assert!((0..=68).all(|end| Handshake::check_prefix(&bytes[..end]).is_ok()));
    }

    #[test]
    fn another_protocol_is_seen_at_its_first_byte() {
        assert_eq!(Handshake::check_prefix(b"GET"), Err(PeerFault::NotBitTorrent));
        assert_eq!(
            Handshake::check_prefix(b"\x13BitTorrent protocoX"),
            Err(PeerFault::NotBitTorrent)
        );
        assert_eq!(Handshake::decode(&[0; 68]), Err(PeerFault::NotBitTorrent));
    }
}
