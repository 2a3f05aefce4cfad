//! SHA-1 and SHA-256 of many messages at once, by the best the processor has.
//!
//! One hash is a long chain: each round waits for the one before. A vector register holds the same
//! word of 8 or 16 messages, one in each *lane*, and takes all of them through a round in the time
//! of one. That is the multi-buffer hashing of Gueron and Krasnov; the algorithms are those of
//! [FIPS 180-4](https://doi.org/10.6028/NIST.FIPS.180-4).
//!
//! What is used is chosen when the program runs, for each number of messages that have bytes left:
//! each way has its cost, measured beside one message alone, and the cheapest way through all of
//! them is taken. GB/s of one core (Zen 5 at 3.9 GHz), 16 KiB of each message at a time:
//!
//! | | messages | SHA-1, cached | from memory | SHA-256, cached | from memory |
//! | --- | --- | --- | --- | --- | --- |
//! | SHA instructions | 1 | 1.7 | 1.8 | 1.6 | 1.7 |
//! | the same | 2 | | | 2.4 | 2.5 |
//! | AVX2 | 8 | 3.2 | 3.2 | 1.3 | 1.2 |
//! | AVX2 | 16 | 3.9 | 3.3 | 1.8 | 1.8 |
//! | AVX-512 | 16 | 8.3 | 8.0 | 3.3 | 3.0 |
//! | AVX-512 | 32 | | | 5.2 | 4.5 |
//!
//! (OpenSSL: 1.9 and 1.8.) A lane costs the same whether it is used or idle. So where there is
//! AVX-512, up to three messages are hashed with SHA-1 one after the other, and more in lanes; with
//! SHA-256 up to eleven go in pairs. Without SHA instructions, one message alone is taken to last
//! twice as long (not measured), so lanes begin at two or three messages with SHA-1 and at five or
//! six with SHA-256. On ARM, lanes are used only where there are no SHA instructions.
//!
//! Give it slices that are still in the cache, and keep the messages' buffers apart by something
//! that is no large power of two: else all of them share a few lines of each cache.
//!
//! ```
//! let pieces = [b"first".as_slice(), b"the second"];
//! let mut lanes = sha_lanes::Sha1Lanes::new(pieces.len());
//! lanes.update(&pieces);
//! assert_eq!(lanes.finish()[1], sha_lanes::sha1(b"the second"));
//! ```

#![expect(unsafe_code, reason = "the instructions of one processor are not there on another")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backend;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod sha1_lanes;
mod sha256_lanes;
mod streams;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod words;

use std::sync::LazyLock;

use backend::{Plan, sha1_kernels, sha256_kernels};
use sha1::Digest as _;

pub use backend::Backend;
pub use sha1_lanes::Sha1Lanes;
pub use sha256_lanes::Sha256Lanes;

/// Messages that [`Sha1Lanes`] and [`Sha256Lanes`] take at once, at most.
pub const LANES_MAX: usize = 32;

/// How many messages at once [`Sha1Lanes`] hashes fastest on this processor: 1 if it is best to
/// hash one after the other.
pub fn lanes() -> usize {
    static LANES: LazyLock<usize> =
        LazyLock::new(|| Plan::new(&sha1_kernels(&Backend::ALL)).lanes());
    *LANES
}

/// How many messages at once [`Sha256Lanes`] hashes fastest on this processor.
pub fn sha256_lanes() -> usize {
    static LANES: LazyLock<usize> =
        LazyLock::new(|| Plan::new(&sha256_kernels(&Backend::ALL)).lanes());
    *LANES
}

/// How many messages at once [`Sha1Lanes`] hashes fastest with `backend` or one after the other.
///
/// # Panics
/// If this processor does not have it.
pub fn lanes_of(backend: Backend) -> usize {
    assert!(backend.is_available(), "this processor has no {backend:?}");
    Plan::new(&sha1_kernels(&[Backend::Single, backend])).lanes()
}

/// The SHA-1 of one message.
pub fn sha1(message: &[u8]) -> [u8; 20] {
    sha1::Sha1::digest(message).into()
}

/// The SHA-256 of one message.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(message).into()
}
