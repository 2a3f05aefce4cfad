//! The name that a client gives itself for one session ([BEP 20]).
//!
//! [BEP 20]: https://www.bittorrent.org/beps/bep_0020.html

use std::fmt;

use crate::Rng;

/// The 20 bytes that a peer calls itself by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// A new name for ourselves: `-FT0100-` and twelve random characters.
    pub fn generate(rng: &mut Rng) -> Self {
        let mut id = *b"-FT0100-............";
        for byte in &mut id[8..] {
            *byte = ALPHABET[rng.below(ALPHABET.len())];
        }
        Self(id)
    }
}

impl fmt::Display for PeerId {
    /// The printable characters; every other byte as a dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| {
            let shown = if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
            write!(f, "{shown}")
        })
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_of_the_usual_shape_and_prints_safely() {
        let id = PeerId::generate(&mut Rng::from_seed(1));
        assert!(id.to_string().starts_with("-FT0100-"));
        assert!(id.0.iter().all(u8::is_ascii_graphic));
        assert_eq!(PeerId([0x1b; 20]).to_string(), ".".repeat(20));
    }
}
