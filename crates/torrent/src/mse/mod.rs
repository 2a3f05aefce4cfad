//! Message stream encryption: a connection that looks like noise to whoever does not know the torrent
//! ([the specification], which Azureus and µTorrent wrote).
//!
//! It hides what a connection is for from those who would slow it down. It is no protection against an
//! attacker: the name of the torrent is the only thing that must be known, nobody proves who they are,
//! and the cipher is RC4.
//!
//! Each end has a state machine, [`Initiator`] and [`Responder`]: feed it what was received, and do what
//! it asks for. In the end both have agreed on a [`Method`]; what follows is applied to the [`Ciphers`],
//! if it is RC4, or sent as it is.
//!
//! ```text
//! initiator                                                   responder
//!     key, 0 to 512 bytes of padding            ────────►
//!                                               ◄────────     key, 0 to 512 bytes of padding
//!     hash(req1, S), hash(req2, torrent) ^ hash(req3, S),
//!     RC4(zeros, methods, padding, first payload)  ─────►
//!                                               ◄────────     RC4(zeros, method, padding)
//!     payload                                   ◄───────►     payload
//! ```
//!
//! What a stranger makes us hold is bounded: paddings are at most 512 bytes, the marks behind them are
//! looked for within those and no further, and a first payload is at most 64 KiB, as its length has two bytes.
//!
//! [the specification]: https://wiki.vuze.com/w/Message_Stream_Encryption

mod initiator;
mod input;
mod key_exchange;
mod rc4;
mod responder;
mod skey_table;
#[cfg(test)]
mod tests;

use sha1::{Digest, Sha1};

use crate::{InfoHash, Rng};

pub use initiator::Initiator;
pub use key_exchange::{SECRET_LEN, Secret};
pub use rc4::Rc4;
pub use responder::Responder;
pub use skey_table::SkeyTable;

/// How what follows the handshake goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// As it is.
    Plaintext,
    /// Encrypted.
    Rc4,
}

impl Method {
    /// The bit that stands for it.
    const fn bit(self) -> u32 {
        match self {
            Self::Plaintext => 1,
            Self::Rc4 => 2,
        }
    }
}

/// What a state machine asks for.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>),
    /// It is done. No more output follows, and nothing more is to be given to it.
    Established(Established),
}

/// What both ends have agreed on.
#[derive(Debug)]
pub struct Established {
    /// The torrent that the initiator named.
    pub info_hash: InfoHash,
    /// What is to be applied to all that follows; `None` if it goes over the wire as it is.
    pub ciphers: Option<Box<Ciphers>>,
    /// What of the peer's payload has come already, decrypted.
    pub received: Vec<u8>,
}

impl Established {
    /// The method that was chosen.
    pub const fn method(&self) -> Method {
        match self.ciphers {
            Some(_) => Method::Rc4,
            None => Method::Plaintext,
        }
    }
}

/// One for each direction.
#[derive(Clone, Debug)]
pub struct Ciphers {
    /// For what we receive.
    pub receive: Rc4,
    /// For what we send.
    pub send: Rc4,
}

impl Ciphers {
    /// Those of the end that began, or not.
    fn new(shared: &[u8; KEY_LEN], torrent: &InfoHash, is_initiator: bool) -> Self {
        let [ours, theirs] = if is_initiator { [b"keyA", b"keyB"] } else { [b"keyB", b"keyA"] };
        let cipher = |name: &[u8]| Rc4::new(&hash(&[name, shared, &torrent.0]));
        Self { receive: cipher(theirs), send: cipher(ours) }
    }
}

/// How the other end can spoil a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseFault {
    /// Its key is a number that makes no secret.
    #[error("its key makes no secret")]
    WeakKey,
    /// What the padding ends with did not come where the longest padding ends.
    #[error("no end of its padding")]
    NoSync,
    /// It names a torrent that is not here.
    #[error("no such torrent here")]
    UnknownTorrent,
    /// What it encrypted does not begin with eight zeros.
    #[error("not encrypted as agreed")]
    BadConstant,
    /// It announces more padding than there may be.
    #[error("too much padding")]
    LongPadding,
    /// It offers, or chose, nothing that suits us.
    #[error("no method that suits both")]
    NoCommonMethod,
}

impl MseFault {
    /// Whether the peer has not shown, by then, that it knows a torrent of ours. Such a one should learn
    /// nothing from how and when the connection ends: neither which torrents are here, nor what was
    /// wrong. Say nothing, read no more, and close when the time for a handshake is over.
    pub const fn is_of_stranger(self) -> bool {
        match self {
            Self::WeakKey | Self::NoSync | Self::UnknownTorrent => true,
            Self::BadConstant | Self::LongPadding | Self::NoCommonMethod => false,
        }
    }
}

fn hash(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// What ends the initiator's first padding.
fn first_mark(shared: &[u8; KEY_LEN]) -> [u8; HASH_LEN] {
    hash(&[b"req1", shared])
}

/// The name of a torrent as it goes over the wire, or the torrent's own hash from that.
fn veil(name: [u8; HASH_LEN], shared: &[u8; KEY_LEN]) -> [u8; HASH_LEN] {
    let veil = hash(&[b"req3", shared]);
    std::array::from_fn(|at| name[at] ^ veil[at])
}

/// What a torrent is called beneath its veil.
fn name_of(torrent: &InfoHash) -> [u8; HASH_LEN] {
    hash(&[b"req2", &torrent.0])
}

/// As much of it as chance will have.
fn padding(rng: &mut Rng) -> Vec<u8> {
    let len = rng.below(PADDING_MAX + 1);
    (0..len).map(|_| rng.bytes::<1>()[0]).collect()
}

/// A key, and padding behind it: what each end begins with.
fn greeting(secret: &Secret, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = secret.public_key().to_vec();
    bytes.append(&mut padding(rng));
    bytes
}

use key_exchange::KEY_LEN;

const HASH_LEN: usize = 20;
/// What proves that a stream is decrypted rightly.
const VERIFICATION_CONSTANT: [u8; 8] = [0; 8];
const PADDING_MAX: usize = 512;
