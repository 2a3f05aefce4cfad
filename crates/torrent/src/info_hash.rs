//! The names of a torrent: a hash over the bytes of its info dictionary, SHA-1 in version 1 ([BEP 3]) and
//! SHA-256 in version 2 ([BEP 52]). A hybrid torrent has both.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// The 20 bytes that name a torrent towards peers, trackers and the DHT. Shown as 40 hexadecimal digits.
///
/// For a torrent of version 2 these are the first bytes of its [`InfoHashV2`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// The name in version 1 of the torrent whose info dictionary has exactly these bytes.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

/// The 32 bytes that name a torrent of version 2 (BEP 52). Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

impl InfoHashV2 {
    /// The name in version 2 of the torrent whose info dictionary has exactly these bytes.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha256::digest(info).into())
    }

    /// The first 20 bytes: what stands for the name in handshakes, announces and the DHT.
    pub const fn truncated(self) -> InfoHash {
        let [
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            b8,
            b9,
            b10,
            b11,
            b12,
            b13,
            b14,
            b15,
            b16,
            b17,
            b18,
            b19,
            ..,
        ] = self.0;
        InfoHash([
            b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15, b16, b17, b18,
            b19,
        ])
    }
}

/// All names of one torrent: at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashes {
    /// The name in version 1.
    pub v1: Option<InfoHash>,
    /// The name in version 2.
    pub v2: Option<InfoHashV2>,
}

impl InfoHashes {
    /// The names as 20 bytes each, that of version 1 first: one, or two if the torrent is a hybrid.
    pub fn on_the_wire(self) -> impl Iterator<Item = InfoHash> {
        self.v1.into_iter().chain(self.v2.map(InfoHashV2::truncated))
    }

    /// The 20 bytes by which the torrent is asked for first: its name in version 1 if it has one.
    ///
    /// # Panics
    /// If it has no name at all.
    pub fn first(self) -> InfoHash {
        self.on_the_wire().next().expect("a torrent has a name")
    }

    /// Whether these are names of the torrent whose info dictionary has exactly these bytes.
    pub fn are_of(self, info: &[u8]) -> bool {
        self.v1.is_none_or(|v1| v1 == InfoHash::of(info))
            && self.v2.is_none_or(|v2| v2 == InfoHashV2::of(info))
    }

    /// Whether the torrent has a name in both versions.
    pub const fn is_hybrid(self) -> bool {
        self.v1.is_some() && self.v2.is_some()
    }
}

/// The text is not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an info hash is 40 hexadecimal digits")]
pub struct ParseInfoHashError;

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an info hash of version 2 is 64 hexadecimal digits")]
pub struct ParseInfoHashV2Error;

impl FromStr for InfoHash {
    type Err = ParseInfoHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).map(Self).ok_or(ParseInfoHashError)
    }
}

impl FromStr for InfoHashV2 {
    type Err = ParseInfoHashV2Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_hex(text).map(Self).ok_or(ParseInfoHashV2Error)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

impl fmt::Debug for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashV2({self})")
    }
}

fn from_hex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * LEN {
        return None;
    }
    let mut bytes = [0; LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| (digit as char).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let hash = InfoHash::of(b"abc");
        assert_eq!(hash.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!("a9993e".parse::<InfoHash>(), Err(ParseInfoHashError));
        assert_eq!("zz".repeat(20).parse::<InfoHash>(), Err(ParseInfoHashError));
        assert_eq!("é".repeat(20).parse::<InfoHash>(), Err(ParseInfoHashError));
    }

    #[test]
    fn the_long_name_and_its_short_form() {
        let hash = InfoHashV2::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text[..40].parse(), Ok(hash.truncated()));
        assert_eq!(text[..40].parse::<InfoHashV2>(), Err(ParseInfoHashV2Error));
    }
}
