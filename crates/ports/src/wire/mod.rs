//! Messages as bytes: what a Rust type is as a list of values, and lists as CBOR and JSON.
//!
//! A type is a message through serde (`flatten` and `unflatten`, which know no bytes): an enum's variant or
//! a struct's name is the tag, the fields follow. `lenient` makes what Perl sends fit what Rust asks. Below
//! are three forms that values can have: CBOR (`cbor_writer`, `cbor_reader`), JSON (`json`) and
//! [`Value`] trees (`tree_writer`, `tree_reader`). A `Splitter` finds frames in a stream, a `Frame` is
//! one of them.

mod cbor_reader;
mod cbor_writer;
mod error;
mod flatten;
mod frame;
mod head;
mod json;
mod lenient;
mod splitter;
mod tag;
#[cfg(test)]
mod tests;
mod tree_reader;
mod tree_writer;
mod unflatten;
mod value;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

pub use error::{DecodeError, EncodeError, FrameError};
pub(crate) use frame::Frame;
pub use json::{from_json, to_json, to_json_pretty};
pub(crate) use splitter::{FRAME_LEN_MAX, Splitter};
pub use tag::{tag, with_tag};

use crate::{List, Value};
use cbor_writer::CborWriter;
use flatten::Flatten;
use lenient::{Lenient, TextAs};
use tree_reader::{Items, TreeReader};
use tree_writer::TreeWriter;
use unflatten::Unflatten;

/// What only fuzz targets need from outside.
#[doc(hidden)]
pub mod fuzzing {
    pub use super::frame::Frame;
    pub use super::splitter::Splitter;
}

/// How the lists of a connection are written, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Framing {
    /// One item after another, as in RFC 8949.
    Cbor,
    /// One array after another, in UTF-8.
    Json,
}

impl Framing {
    /// Its name in greetings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cbor => "cbor",
            Self::Json => "json",
        }
    }

    /// That of a name in greetings, if it is one that we speak.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cbor, Self::Json].into_iter().find(|framing| framing.name() == name)
    }
}

/// Appends one frame: the name of the port, then the values of the message. After an error `out` is as it was.
#[inline]
pub(crate) fn encode<M: Serialize + ?Sized>(
    framing: Framing,
    port_name: &str,
    message: &M,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = match framing {
        Framing::Cbor => message.serialize(Flatten {
            serializer: &mut CborWriter::new(out),
            port_name: Some(port_name),
        }),
        Framing::Json => message
            .serialize(Flatten { serializer: &mut json::writer(out), port_name: Some(port_name) })
            .map_err(EncodeError::from),
    };
    let len = out.len() - start;
    let result = match written {
        Ok(()) if len > FRAME_LEN_MAX => Err(EncodeError::TooLong { len, max: FRAME_LEN_MAX }),
        Ok(()) | Err(_) => written,
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The values of a message.
///
/// # Errors
/// If the type is none that can be a message: with fields that are left out, or keys that are no text.
pub fn to_list<M: Serialize + ?Sized>(message: &M) -> Result<List, EncodeError> {
    match message.serialize(Flatten { serializer: TreeWriter, port_name: None })? {
        Value::List(list) => Ok(list),
        // What a list is written through gives a list.
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Unsigned(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Map(_)) => Ok(vec![other]),
    }
}

/// The message that values are.
///
/// # Errors
/// If it has another shape; the error says what was expected.
pub fn from_list<M: DeserializeOwned>(list: List) -> Result<M, DecodeError> {
    M::deserialize(Unflatten::new(Lenient::new(Items::new(list), TextAs::Utf8)))
}

/// What a type is as one value, in the shape that serde gives it: a struct is a map.
///
/// # Errors
/// If it has maps whose keys are neither text nor integers, or refuses by itself.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, EncodeError> {
    value.serialize(TreeWriter)
}

/// The type that one value is, in the shape that serde gives it.
///
/// # Errors
/// If it has another shape; the error says what was expected.
pub fn from_value<'de, T: Deserialize<'de>>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Lenient::new(TreeReader(value), TextAs::Utf8))
}

/// Appends whole CBOR frames as the same frames in JSON. After an error `out` is as it was.
///
/// # Errors
/// If they are broken, or too long as JSON.
pub fn transcode(mut cbor_frames: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut splitter = Splitter::new(Framing::Cbor);
    let mut all = || {
        while !cbor_frames.is_empty() {
            let len = splitter.next(cbor_frames).and_then(|len| len.ok_or(FrameError::Truncated));
            let (bytes, rest) = cbor_frames.split_at(len.map_err(DecodeError::from)?);
            cbor_frames = rest;
            let frame = Frame::open(Framing::Cbor, bytes).map_err(DecodeError::from)?;
            encode(Framing::Json, frame.port(), &frame.list()?, out)?;
        }
        Ok(())
    };
    let result = all();
    if result.is_err() {
        out.truncate(start);
    }
    result
}
