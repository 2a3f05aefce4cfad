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
        Self::generate_with_prefix(b"-FT0100-", rng)
    }

    /// A new name that begins with `prefix`, the rest of it random characters. What is past the 20th byte
    /// of a prefix is left out.
    pub fn generate_with_prefix(prefix: &[u8], rng: &mut Rng) -> Self {
        let mut id = [0; 20];
        let len = prefix.len().min(id.len());
        let (start, rest) = id.split_at_mut(len);
        start.copy_from_slice(&prefix[..len]);
        rest.fill_with(|| ALPHABET[rng.below(ALPHABET.len())]);
        Self(id)
    }
}

impl fmt::Display for PeerId {
    /// The printable characters; every other byte as a dot. In the long form (`{:#}`) the client, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&byte| {
            let shown = if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
            write!(f, "{shown}")
        })?;
        match self.client().filter(|_| f.alternate()) {
            Some(client) => write!(f, " ({client})"),
            None => Ok(()),
        }
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
        assert_eq!(format!("{:#}", PeerId([0x1b; 20])), ".".repeat(20));
        assert_eq!(format!("{id:#}"), format!("{id} (Flotilla 0.1.0)"));
    }

    #[test]
    fn begins_as_wanted_however_long_that_is() {
        let id = |prefix: &[u8]| PeerId::generate_with_prefix(prefix, &mut Rng::from_seed(1)).0;
        assert!(id(b"NB052S-").starts_with(b"NB052S-"));
        assert!(id(b"").iter().all(u8::is_ascii_alphanumeric));
        assert_eq!(id(b"12345678901234567890"), *b"12345678901234567890");
        assert_eq!(id(b"12345678901234567890and more"), *b"12345678901234567890");
        assert_ne!(
            PeerId::generate(&mut Rng::from_seed(1)),
            PeerId::generate(&mut Rng::from_seed(2))
        );
    }
}
