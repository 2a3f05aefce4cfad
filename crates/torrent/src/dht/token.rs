//! Tokens: proof that who wants something stored receives what is sent to its address ([BEP 5]).
//!
//! A token is a hash over a secret, the address and what it was asked about: nothing is remembered for
//! those who ask. The secret changes every five minutes, and the one before is honoured for five more.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::node_id::NodeId;
use crate::Rng;

/// Makes tokens and knows them again.
#[derive(Debug)]
pub(super) struct Tokens {
    secret: [u8; 20],
    previous: [u8; 20],
    rotated_at: Instant,
}

pub(super) type Token = [u8; 8];

impl Tokens {
    pub(super) fn new(now: Instant, rng: &mut Rng) -> Self {
        let secret = Sha1::digest([rng.bytes::<20>(), rng.bytes()].concat()).into();
        Self { secret, previous: secret, rotated_at: now }
    }

    /// A seed for numbers that anyone may see: it does not tell the secret.
    pub(super) fn derived_seed(&self) -> u64 {
        let digest = Sha1::new().chain_update(self.secret).chain_update(b"seed").finalize();
        digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// What `ip` must show to store something at `target`.
    pub(super) fn issue(&mut self, now: Instant, ip: IpAddr, target: &NodeId) -> Token {
        self.rotate(now);
        token(&self.secret, ip, target)
    }

    /// Whether a token was issued to `ip` for `target` not too long ago.
    pub(super) fn is_valid(
        &mut self,
        now: Instant,
        ip: IpAddr,
        target: &NodeId,
        shown: &[u8],
    ) -> bool {
        self.rotate(now);
        [&self.secret, &self.previous].iter().any(|secret| token(secret, ip, target) == shown)
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.rotated_at);
        if age < ROTATE_AFTER {
            return;
        }
        // After a long silence both secrets are too old.
        let steps = if age < ROTATE_AFTER * 2 { 1 } else { 2 };
        for _ in 0..steps {
            self.previous = self.secret;
            self.secret =
                Sha1::new().chain_update(self.secret).chain_update(b"next").finalize().into();
        }
        self.rotated_at = now;
    }
}

fn token(secret: &[u8; 20], ip: IpAddr, target: &NodeId) -> Token {
    let hash = Sha1::new().chain_update(secret).chain_update(target.0);
    let digest = match ip {
        IpAddr::V4(ip) => hash.chain_update(ip.octets()).finalize(),
        IpAddr::V6(ip) => hash.chain_update(ip.octets()).finalize(),
    };
    std::array::from_fn(|at| digest[at])
}

const ROTATE_AFTER: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    #[test]
    fn a_token_holds_for_five_to_ten_minutes_for_one_address_and_one_target() {
        let mut tokens = Tokens::new(epoch(), &mut Rng::from_seed(1));
        let (ip, other) = (IpAddr::from([1, 2, 3, 4]), IpAddr::from([1, 2, 3, 5]));
        let [a, b] = [NodeId([1; 20]), NodeId([2; 20])];
        let shown = tokens.issue(epoch(), ip, &a);
        assert!(tokens.is_valid(epoch(), ip, &a, &shown));
        assert!(!tokens.is_valid(epoch(), other, &a, &shown));
        assert!(!tokens.is_valid(epoch(), ip, &b, &shown));
        assert!(!tokens.is_valid(epoch(), ip, &a, &shown[..7]));
        assert!(!tokens.is_valid(epoch(), ip, &a, b""));
        assert!(tokens.is_valid(epoch() + ROTATE_AFTER, ip, &a, &shown));
        assert!(!tokens.is_valid(epoch() + ROTATE_AFTER * 2, ip, &a, &shown));
        let mut idle = Tokens::new(epoch(), &mut Rng::from_seed(1));
        assert!(!idle.is_valid(epoch() + ROTATE_AFTER * 3, ip, &a, &shown));
    }
}
