//! CBOR ([RFC 8949]) as types: every length form, tags skipped.
//!
//! [RFC 8949]: https://www.rfc-editor.org/rfc/rfc8949

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer, StringDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::head::Head;
use super::splitter::DEPTH_MAX;
use super::{DecodeError, FrameError};

/// Gives items to serde as they are. What is asked and what is there may still differ in kind, which is for
/// [`Lenient`](super::lenient::Lenient) to mend.
#[derive(Debug)]
pub(super) struct CborReader<'de> {
    rest: &'de [u8],
    depth: usize,
}

/// The items of a list, or the entries of a map.
#[derive(Debug)]
pub(super) struct Items<'a, 'de> {
    reader: &'a mut CborReader<'de>,
    left: Left,
}

/// How many items are still to come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Count(u64),
    UntilBreak,
}

/// Text or bytes.
enum Octets<'de> {
    Borrowed(&'de [u8]),
    Owned(Vec<u8>),
}

impl<'de> CborReader<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    /// What has not been read.
    pub(super) const fn rest(&self) -> &'de [u8] {
        self.rest
    }

    /// The next head that is not a tag, and what follows it.
    #[inline]
    fn peek(&mut self) -> Result<(Head, &'de [u8]), FrameError> {
        loop {
            let (head, len) = Head::read(self.rest)?.ok_or(FrameError::Truncated)?;
            let (_, behind) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
            if head != Head::Tag {
                return Ok((head, behind));
            }
            self.rest = behind;
        }
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'de [u8], FrameError> {
        let len = usize::try_from(len).map_err(|_huge| FrameError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A string, whose head has been read; `is_piece` tells the pieces that it may have.
    #[inline]
    fn octets(
        &mut self,
        len: Option<u64>,
        is_piece: fn(Head) -> Option<u64>,
    ) -> Result<Octets<'de>, FrameError> {
        match len {
            Some(len) => self.take(len).map(Octets::Borrowed),
            None => self.pieces(is_piece).map(Octets::Owned),
        }
    }

    fn pieces(&mut self, is_piece: fn(Head) -> Option<u64>) -> Result<Vec<u8>, FrameError> {
        let mut octets = Vec::new();
        loop {
            let (head, len) = Head::read(self.rest)?.ok_or(FrameError::Truncated)?;
            self.take(len as u64)?;
            if head == Head::Break {
                return Ok(octets);
            }
            let len = is_piece(head).ok_or(FrameError::BadPiece)?;
            octets.extend_from_slice(self.take(len)?);
        }
    }

    /// Goes into a list whose head has been read, or one that stands at the start.
    #[inline]
    fn enter(&mut self, count: Option<u64>) -> Result<Items<'_, 'de>, FrameError> {
        if self.depth == DEPTH_MAX {
            return Err(FrameError::TooDeep);
        }
        self.depth = self.depth.saturating_add(1);
        Ok(Items { reader: self, left: count.map_or(Left::UntilBreak, Left::Count) })
    }

    /// The items of the list at the start.
    pub(super) fn list(&mut self) -> Result<Items<'_, 'de>, FrameError> {
        let (head, behind) = self.peek()?;
        let Head::List(count) = head else { return Err(FrameError::NotAList) };
        self.rest = behind;
        self.enter(count)
    }

    /// The items of a list that has been begun elsewhere.
    pub(super) const fn resume(&mut self, left: Left) -> Items<'_, 'de> {
        self.depth = 1;
        Items { reader: self, left }
    }
}

const fn bytes_len(head: Head) -> Option<u64> {
    if let Head::Bytes(len) = head { len } else { None }
}

const fn text_len(head: Head) -> Option<u64> {
    if let Head::Text(len) = head { len } else { None }
}

fn str_of(octets: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(octets).map_err(|_at| FrameError::NotUtf8)
}

fn string_of(octets: Vec<u8>) -> Result<String, FrameError> {
    String::from_utf8(octets).map_err(|_at| FrameError::NotUtf8)
}

impl<'de> Deserializer<'de> for &mut CborReader<'de> {
    type Error = DecodeError;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let (head, behind) = self.peek()?;
        self.rest = behind;
        match head {
            Head::Unsigned(number) => visitor.visit_u64(number),
            Head::Negative(number) => match i64::try_from(number) {
                Ok(number) => visitor.visit_i64(!number),
                Err(_) => visitor.visit_i128(!i128::from(number)),
            },
            Head::Bytes(len) => match self.octets(len, bytes_len)? {
                Octets::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
                Octets::Owned(bytes) => visitor.visit_byte_buf(bytes),
            },
            Head::Text(len) => match self.octets(len, text_len)? {
                Octets::Borrowed(text) => visitor.visit_borrowed_str(str_of(text)?),
                Octets::Owned(text) => visitor.visit_string(string_of(text)?),
            },
            Head::List(count) => {
                let mut items = self.enter(count)?;
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Head::Map(count) => {
                let mut items = self.enter(count)?;
                let value = visitor.visit_map(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Null => visitor.visit_unit(),
            Head::Float(number) => visitor.visit_f64(number),
            Head::Break | Head::Tag => Err(FrameError::StrayBreak.into()),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let (head, behind) = self.peek()?;
        if head == Head::Null {
            self.rest = behind;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let (head, behind) = self.peek()?;
        let octets = match head {
            Head::Text(len) => {
                self.rest = behind;
                self.octets(len, text_len)?
            }
            Head::Bytes(len) => {
                self.rest = behind;
                self.octets(len, bytes_len)?
            }
            Head::Map(count) => {
                self.rest = behind;
                let mut items = self.enter(count)?;
                let value = visitor.visit_enum(MapAccessDeserializer::new(&mut items))?;
                items.end()?;
                return Ok(value);
            }
            Head::Unsigned(_)
            | Head::Negative(_)
            | Head::List(_)
            | Head::Tag
            | Head::Bool(_)
            | Head::Null
            | Head::Float(_)
            | Head::Break => return self.deserialize_any(visitor),
        };
        match octets {
            Octets::Borrowed(text) => {
                visitor.visit_enum(BorrowedStrDeserializer::new(str_of(text)?))
            }
            Octets::Owned(text) => visitor.visit_enum(StringDeserializer::new(string_of(text)?)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> Items<'_, 'de> {
    /// How many items are still to come.
    pub(super) const fn left(&self) -> Left {
        self.left
    }

    /// Whether there is another item, which is then counted as read.
    #[inline]
    fn advance(&mut self) -> Result<bool, FrameError> {
        match self.left {
            Left::Count(left) => match left.checked_sub(1) {
                Some(left) => {
                    self.left = Left::Count(left);
                    Ok(true)
                }
                None => Ok(false),
            },
            Left::UntilBreak => {
                let (_, behind) = match self.reader.rest.split_first() {
                    Some((&BREAK, behind)) => (BREAK, behind),
                    Some(_) => return Ok(true),
                    None => return Err(FrameError::Truncated),
                };
                self.reader.rest = behind;
                self.left = Left::Count(0);
                Ok(false)
            }
        }
    }

    /// Leaves the list, of which all must have been read.
    #[inline]
    pub(super) fn end(mut self) -> Result<(), DecodeError> {
        if self.advance()? {
            return Err(DecodeError::custom("too many values, expected fewer in a list or map"));
        }
        self.reader.depth = self.reader.depth.saturating_sub(1);
        Ok(())
    }

    fn len_hint(&self) -> Option<usize> {
        match self.left {
            Left::Count(left) => {
                usize::try_from(left).ok().map(|left| left.min(self.reader.rest.len()))
            }
            Left::UntilBreak => None,
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.len_hint()
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.len_hint()
    }
}

const BREAK: u8 = 0xff;
