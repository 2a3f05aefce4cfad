//! JSON: [`serde_json`], with bytes as strings whose characters are numbered as they are.

use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::lenient::{Lenient, TextAs};
use super::splitter::DEPTH_MAX;
use super::unflatten::Unflatten;
use super::{DecodeError, EncodeError};
use crate::Value;

/// The value as JSON on one line. Bytes are strings with a character below 256 for each; numbers that JSON
/// does not have are null.
pub fn to_json(value: &Value) -> String {
    text(value, CompactFormatter)
}

/// The value as JSON for people: one thing a line, indented.
pub fn to_json_pretty(value: &Value) -> String {
    text(value, PrettyFormatter::new())
}

/// The value that a JSON text is.
///
/// # Errors
/// With the line and column where it is not JSON.
pub fn from_json(text: &str) -> Result<Value, DecodeError> {
    Ok(serde_json::from_str(text)?)
}

fn text<F: Formatter>(value: &Value, inner: F) -> String {
    let mut out = Vec::new();
    let formatter = Perlish { inner, depth: 0, depth_max: usize::MAX };
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer).expect("a value has nothing that JSON cannot say");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Writes into `out`, in one line, what nests no deeper than peers take.
pub(super) fn writer(out: &mut Vec<u8>) -> serde_json::Serializer<&mut Vec<u8>, impl Formatter> {
    let formatter = Perlish { inner: CompactFormatter, depth: 0, depth_max: DEPTH_MAX };
    serde_json::Serializer::with_formatter(out, formatter)
}

/// The message in a frame: all but the first value.
pub(super) fn message<M: DeserializeOwned>(frame: &[u8]) -> Result<M, DecodeError> {
    let mut reader = serde_json::Deserializer::from_slice(frame);
    let message = reader.deserialize_seq(FrameVisitor(PhantomData))?;
    reader.end()?;
    Ok(message)
}

struct FrameVisitor<M>(PhantomData<M>);

impl<'de, M: DeserializeOwned> Visitor<'de> for FrameVisitor<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<M, A::Error> {
        // The name of the port, if there is anything.
        values.next_element::<IgnoredAny>()?;
        M::deserialize(Unflatten::new(Lenient::new(values, TextAs::Latin1)))
    }
}

/// Writes bytes as Perl's JSON modules do, and counts how deep it is.
struct Perlish<F> {
    inner: F,
    depth: usize,
    depth_max: usize,
}

impl<F> Perlish<F> {
    fn enter(&mut self) -> io::Result<()> {
        if self.depth == self.depth_max {
            return Err(io::Error::other(EncodeError::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*)),* $(,)?) => {
        $(#[inline]
        fn $method<W: Write + ?Sized>(&mut self, out: &mut W, $($name: $type),*) -> io::Result<()> {
            self.inner.$method(out, $($name),*)
        })*
    };
}

impl<F: Formatter> Formatter for Perlish<F> {
    forward!(
        begin_array_value(is_first: bool),
        end_array_value(),
        begin_object_key(is_first: bool),
        end_object_key(),
        begin_object_value(),
        end_object_value(),
    );

    #[inline]
    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.enter()?;
        self.inner.begin_array(out)
    }

    #[inline]
    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.inner.end_array(out)
    }

    #[inline]
    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.enter()?;
        self.inner.begin_object(out)
    }

    #[inline]
    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.inner.end_object(out)
    }

    fn write_byte_array<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        out.write_all(b"\"")?;
        while let Some(len) = bytes.iter().position(|&octet| !is_plain(octet)) {
            let (plain, rest) = bytes.split_at(len);
            out.write_all(plain)?;
            let Some((&octet, rest)) = rest.split_first() else { break };
            match octet {
                b'"' | b'\\' => out.write_all(&[b'\\', octet])?,
                0x80.. => out.write_all(&[0xc0 | octet >> 6, 0x80 | octet & 0x3f])?,
                _ => write!(out, "\\u{octet:04x}")?,
            }
            bytes = rest;
        }
        out.write_all(bytes)?;
        out.write_all(b"\"")
    }
}

/// Whether a byte stands for itself in a JSON string.
const fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && octet != b'"' && octet != b'\\'
}
