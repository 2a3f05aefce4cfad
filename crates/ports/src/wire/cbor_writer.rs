//! Types as CBOR ([RFC 8949]): numbers in their shortest form, lengths known beforehand where they are.
//!
//! [RFC 8949]: https://www.rfc-editor.org/rfc/rfc8949

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::EncodeError;
use super::splitter::DEPTH_MAX;

/// Appends one item to `out`.
#[derive(Debug)]
pub(super) struct CborWriter<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

/// A list or a map, begun.
#[derive(Debug)]
pub(super) struct Items<'a, 'o> {
    writer: &'a mut CborWriter<'o>,
    /// How many are still to come, if that was said.
    left: Option<usize>,
    /// How many levels it is in.
    levels: usize,
}

impl<'o> CborWriter<'o> {
    pub(super) const fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, depth: 0 }
    }

    #[inline]
    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        if let Ok(number) = u8::try_from(number) {
            if number < 24 {
                self.out.push(major | number);
            } else {
                self.out.extend_from_slice(&[major | 24, number]);
            }
        } else {
            self.long_head(major, number);
        }
    }

    fn long_head(&mut self, major: u8, number: u64) {
        if let Ok(number) = u16::try_from(number) {
            self.out.push(major | 25);
            self.out.extend_from_slice(&number.to_be_bytes());
        } else if let Ok(number) = u32::try_from(number) {
            self.out.push(major | 26);
            self.out.extend_from_slice(&number.to_be_bytes());
        } else {
            self.out.push(major | 27);
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    #[inline]
    fn octets(&mut self, major: u8, octets: &[u8]) {
        self.head(major, octets.len() as u64);
        self.out.extend_from_slice(octets);
    }

    #[inline]
    fn begin(&mut self, major: u8, len: Option<usize>) -> Result<Items<'_, 'o>, EncodeError> {
        if self.depth == DEPTH_MAX {
            return Err(EncodeError::TooDeep);
        }
        self.depth += 1;
        match len {
            Some(len) => self.head(major, len as u64),
            None => self.out.push(major << 5 | 31),
        }
        Ok(Items { writer: self, left: len, levels: 1 })
    }

    /// A variant with content is a map of one entry.
    fn begin_variant(
        &mut self,
        variant: &str,
        major: u8,
        len: usize,
    ) -> Result<Items<'_, 'o>, EncodeError> {
        self.begin(MAP, Some(1))?;
        self.octets(TEXT, variant.as_bytes());
        let mut items = self.begin(major, Some(len))?;
        items.levels = 2;
        Ok(items)
    }
}

macro_rules! integers {
    ($($method:ident($type:ty) => $by:ident($wide:ty)),* $(,)?) => {
        $(#[inline]
        fn $method(self, number: $type) -> Result<(), EncodeError> {
            self.$by(<$wide>::from(number))
        })*
    };
}

impl<'a, 'o> Serializer for &'a mut CborWriter<'o> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Items<'a, 'o>;
    type SerializeTuple = Items<'a, 'o>;
    type SerializeTupleStruct = Items<'a, 'o>;
    type SerializeTupleVariant = Items<'a, 'o>;
    type SerializeMap = Items<'a, 'o>;
    type SerializeStruct = Items<'a, 'o>;
    type SerializeStructVariant = Items<'a, 'o>;

    integers!(
        serialize_i8(i8) => serialize_i64(i64),
        serialize_i16(i16) => serialize_i64(i64),
        serialize_i32(i32) => serialize_i64(i64),
        serialize_u8(u8) => serialize_u64(u64),
        serialize_u16(u16) => serialize_u64(u64),
        serialize_u32(u32) => serialize_u64(u64),
    );

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.out.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    #[inline]
    fn serialize_i64(self, number: i64) -> Result<(), EncodeError> {
        if number < 0 {
            self.head(NEGATIVE, number.unsigned_abs() - 1);
        } else {
            self.head(UNSIGNED, number.unsigned_abs());
        }
        Ok(())
    }

    #[inline]
    fn serialize_u64(self, number: u64) -> Result<(), EncodeError> {
        self.head(UNSIGNED, number);
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, number: f32) -> Result<(), EncodeError> {
        self.out.push(SINGLE);
        self.out.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, number: f64) -> Result<(), EncodeError> {
        self.out.push(DOUBLE);
        self.out.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        self.octets(TEXT, text.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.octets(BYTES, bytes);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        self.out.push(NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let mut map = self.begin(MAP, Some(1))?;
        SerializeMap::serialize_entry(&mut map, variant, value)?;
        map.finish()
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin(LIST, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin(LIST, Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin(LIST, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin_variant(variant, LIST, len)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin(MAP, len)
    }

    #[inline]
    fn serialize_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin(MAP, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'a, 'o>, EncodeError> {
        self.begin_variant(variant, MAP, len)
    }
}

impl Items<'_, '_> {
    /// One more: a type that announced fewer would break every frame behind this one.
    #[inline]
    fn count(&mut self) -> Result<(), EncodeError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(wrong_len)?;
        }
        Ok(())
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.count()?;
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn finish(self) -> Result<(), EncodeError> {
        self.writer.depth -= self.levels;
        match self.left {
            None => self.writer.out.push(BREAK),
            Some(0) => {}
            Some(_) => return Err(wrong_len()),
        }
        Ok(())
    }
}

#[cold]
fn wrong_len() -> EncodeError {
    EncodeError::custom("a type that has not as many values as it said")
}

macro_rules! elements {
    ($($trait:ident::$method:ident),* $(,)?) => {
        $(impl $trait for Items<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.element(value)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        })*
    };
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
);

macro_rules! fields {
    ($($trait:ident),* $(,)?) => {
        $(impl $trait for Items<'_, '_> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), EncodeError> {
                self.element(name)?;
                value.serialize(&mut *self.writer)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.finish()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Items<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.element(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

// Major types, and the simple values that we send.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;
const BREAK: u8 = 0xff;
