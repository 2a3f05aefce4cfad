//! How two strangers come to share a secret: the exchange of Diffie and Hellman, with numbers of 768 bits.

use std::fmt;

use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U192, U768, const_monty_params};

const_monty_params!(Prime, U768, PRIME);

/// What only this end of one connection knows. Drawn anew for each.
#[derive(Clone)]
pub struct Secret(U192);

impl Secret {
    /// From bytes that nobody can guess.
    pub fn new(bytes: [u8; SECRET_LEN]) -> Self {
        let mut padded = [0; 24];
        padded[24 - SECRET_LEN..].copy_from_slice(&bytes);
        Self(U192::from_be_slice(&padded))
    }

    /// What the other end is told.
    pub(super) fn public_key(&self) -> [u8; KEY_LEN] {
        self.raise(&U768::from_u8(2))
    }

    /// What both ends know, given what the other has told. `None` if it has told a number that gives
    /// the same to every secret: anybody could know it.
    pub(super) fn shared(&self, theirs: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
        let theirs = U768::from_be_slice(theirs);
        let last = U768::from_be_hex(PRIME).wrapping_sub(&U768::ONE);
        (theirs > U768::ONE && theirs < last).then(|| self.raise(&theirs))
    }

    /// As [`shared`](Self::shared), by the first secret from this one on that makes a number without zeros in
    /// front, if one is near: rTorrent 0.9.8 and others leave such zeros out and then understand nobody, in one
    /// connection of 256. The end that speaks last can avoid it, for nobody has heard of its secret yet.
    pub(super) fn shared_in_full(self, theirs: &[u8; KEY_LEN]) -> Option<(Self, [u8; KEY_LEN])> {
        let mut secret = self;
        let mut shared = secret.shared(theirs)?;
        for _ in 0..FULL_ATTEMPTS {
            if shared[0] != 0 {
                break;
            }
            secret = Self(secret.0.wrapping_add(&U192::ONE));
            shared = secret.shared(theirs)?;
        }
        Some((secret, shared))
    }

    /// The time that it takes does not tell of the secret.
    fn raise(&self, base: &U768) -> [u8; KEY_LEN] {
        let power = ConstMontyForm::<Prime, { U768::LIMBS }>::new(base)
            .pow_bounded_exp(&self.0, SECRET_LEN as u32 * 8);
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(power.retrieve().to_be_bytes().as_ref());
        bytes
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// As the specification has it: more than 180 bits would not be safer with such a prime.
pub const SECRET_LEN: usize = 20;
/// Of a public key and of what is shared, with the zeros in front.
pub(super) const KEY_LEN: usize = 96;
/// What one connection may cost.
const FULL_ATTEMPTS: u32 = 4;
/// All ends of all connections have agreed on it.
const PRIME: &str = concat!(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74",
    "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437",
    "4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_share_what_nobody_else_knows() {
        for seed in 0..20 {
            let mut rng = crate::Rng::from_seed(seed);
            let (a, b) = (Secret::new(rng.bytes()), Secret::new(rng.bytes()));
            let shared = a.shared(&b.public_key());
            assert!(shared.is_some() && shared == b.shared(&a.public_key()));
            assert_ne!(shared, Secret::new(rng.bytes()).shared(&a.public_key()));
        }
    }

    #[test]
    fn powers_of_two_are_what_they_are() {
        let power = |exponent: u8| {
            let mut bytes = [0; SECRET_LEN];
            bytes[SECRET_LEN - 1] = exponent;
            Secret::new(bytes).public_key()
        };
        assert_eq!((power(0)[95], power(7)[95]), (1, 128), "with zeros in front");
        assert_eq!(power(255)[64], 128);
        let mut beyond = [0; SECRET_LEN];
        (beyond[SECRET_LEN - 2], beyond[SECRET_LEN - 1]) = (3, 0);
        // 2^768 less the prime.
        let prime = U768::from_be_hex(PRIME);
        assert_eq!(
            Secret::new(beyond).public_key()[..],
            *prime.wrapping_neg().to_be_bytes().as_ref()
        );
    }

    #[test]
    fn numbers_that_would_give_the_secret_away_are_refused() {
        let secret = Secret::new([7; SECRET_LEN]);
        let prime = U768::from_be_hex(PRIME);
        let less = |by: u8| prime.wrapping_sub(&U768::from_u8(by));
        for (theirs, is_fine) in [
            (U768::ZERO, false),
            (U768::ONE, false),
            (U768::from_u8(2), true),
            (less(2), true),
            (less(1), false),
            (prime, false),
            (U768::MAX, false),
        ] {
            let mut bytes = [0; KEY_LEN];
            bytes.copy_from_slice(theirs.to_be_bytes().as_ref());
            assert_eq!(secret.shared(&bytes).is_some(), is_fine, "{theirs}");
        }
    }
}
