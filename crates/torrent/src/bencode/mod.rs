//! Bencode ([BEP 3]): integers, byte strings, lists and dictionaries.
//!
//! [`decode`] copies nothing: strings and the raw bytes of every value are slices of the input.
//! [`encode`] writes the one canonical form of an [`OwnedValue`].
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html

mod decode;
mod encode;

pub use decode::{DecodeError, DecodeErrorKind, Dict, Limits, Value, decode, decode_prefix};
pub use encode::{OwnedValue, encode};
