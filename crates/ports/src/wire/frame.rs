//! Frames: one list each, of the name of a port and the values of a message for it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, Visitor};

use super::cbor_reader::{CborReader, Left};
use super::lenient::{Lenient, TextAs};
use super::unflatten::Unflatten;
use super::{DecodeError, FrameError, Framing, json};
use crate::List;

/// A frame, of which the name of the port has been read.
#[derive(Debug)]
pub struct Frame<'a> {
    port_name: Cow<'a, str>,
    rest: Rest<'a>,
}

/// The values that are still to be read.
#[derive(Clone, Copy, Debug)]
enum Rest<'a> {
    Cbor {
        values: &'a [u8],
        left: Left,
    },
    /// The whole frame.
    Json(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Takes the bytes of exactly one frame.
    #[inline]
    pub fn open(framing: Framing, bytes: &'a [u8]) -> Result<Self, FrameError> {
        match framing {
            Framing::Cbor => Self::open_cbor(bytes),
            Framing::Json => Self::open_json(bytes),
        }
    }

    #[inline]
    fn open_cbor(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let mut reader = CborReader::new(bytes);
        let mut items = reader.list()?;
        let PortName(port_name) = serde::de::SeqAccess::next_element(&mut items)
            .map_err(no_port_name)?
            .unwrap_or_default();
        let left = items.left();
        Ok(Self { port_name, rest: Rest::Cbor { values: reader.rest(), left } })
    }

    fn open_json(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let list = bytes.trim_ascii_start().strip_prefix(b"[").ok_or(FrameError::NotAList)?;
        let mut port_name = PortName::default();
        if !list.trim_ascii_start().starts_with(b"]") {
            let mut values = serde_json::Deserializer::from_slice(list).into_iter();
            port_name = match values.next() {
                Some(Ok(port_name)) => port_name,
                Some(Err(error)) if error.is_eof() => return Err(FrameError::Truncated),
                Some(Err(_)) => return Err(FrameError::NoPortName),
                None => return Err(FrameError::Truncated),
            };
        }
        Ok(Self { port_name: port_name.0, rest: Rest::Json(bytes) })
    }

    /// The name of the port that it is for: empty for the node's own.
    pub fn port(&self) -> &str {
        &self.port_name
    }

    /// The message, as a type.
    ///
    /// # Errors
    /// If it has another shape, or the bytes are broken.
    #[inline]
    pub fn message<M: DeserializeOwned>(&self) -> Result<M, DecodeError> {
        match self.rest {
            Rest::Cbor { values, left } => {
                let mut reader = CborReader::new(values);
                let mut items = reader.resume(left);
                let message =
                    M::deserialize(Unflatten::new(Lenient::new(&mut items, TextAs::Utf8)))?;
                items.end()?;
                if !reader.rest().is_empty() {
                    return Err(FrameError::Trailing.into());
                }
                Ok(message)
            }
            Rest::Json(frame) => json::message(frame),
        }
    }

    /// The values of the message.
    ///
    /// # Errors
    /// If the bytes are broken.
    pub fn list(&self) -> Result<List, DecodeError> {
        self.message()
    }
}

fn no_port_name(error: DecodeError) -> FrameError {
    match error {
        DecodeError::Frame(error) => error,
        DecodeError::Json { .. } | DecodeError::Shape(_) => FrameError::NoPortName,
    }
}

/// A text, which is empty if it is null, and borrowed where it can be.
#[derive(Debug, Default)]
struct PortName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for PortName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Lenient::new(deserializer, TextAs::Utf8).deserialize_any(PortNameVisitor)
    }
}

struct PortNameVisitor;

impl<'de> Visitor<'de> for PortNameVisitor {
    type Value = PortName<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a port")
    }

    fn visit_unit<E: Error>(self) -> Result<PortName<'de>, E> {
        Ok(PortName::default())
    }

    /// Perl may write a text that looks like a number as one.
    fn visit_u64<E: Error>(self, number: u64) -> Result<PortName<'de>, E> {
        Ok(PortName(Cow::Owned(number.to_string())))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortName<'de>, E> {
        Ok(PortName(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<PortName<'de>, E> {
        Ok(PortName(Cow::Borrowed(text)))
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<PortName<'de>, E> {
        std::str::from_utf8(bytes).map(|text| PortName(Cow::Borrowed(text))).map_err(E::custom)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<PortName<'de>, E> {
        std::str::from_utf8(bytes).map_err(E::custom).and_then(|text| self.visit_str(text))
    }
}
