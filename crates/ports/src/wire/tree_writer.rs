//! Types as [`Value`]s.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::EncodeError;
use crate::{List, Value};

/// Makes values of types, in serde's ordinary shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeWriter;

/// A list that grows, perhaps as the content of a variant.
#[derive(Debug)]
pub(super) struct ListWriter {
    list: List,
    variant: Option<&'static str>,
}

/// A map that grows, perhaps as the content of a variant.
#[derive(Debug)]
pub(super) struct MapWriter {
    map: BTreeMap<String, Value>,
    key: Option<String>,
    variant: Option<&'static str>,
}

impl ListWriter {
    fn new(len: usize, variant: Option<&'static str>) -> Self {
        Self { list: List::with_capacity(len), variant }
    }

    fn finish(self) -> Value {
        wrap(self.variant, Value::List(self.list))
    }
}

impl MapWriter {
    const fn new(variant: Option<&'static str>) -> Self {
        Self { map: BTreeMap::new(), key: None, variant }
    }

    fn finish(self) -> Value {
        wrap(self.variant, Value::Map(self.map))
    }
}

fn wrap(variant: Option<&str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Map(BTreeMap::from([(variant.to_owned(), value)])),
        None => value,
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty) => $kind:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<Value, EncodeError> {
            Ok(Value::from(<$kind>::from(value)))
        })*
    };
}

impl Serializer for TreeWriter {
    type Ok = Value;
    type Error = EncodeError;
    type SerializeSeq = ListWriter;
    type SerializeTuple = ListWriter;
    type SerializeTupleStruct = ListWriter;
    type SerializeTupleVariant = ListWriter;
    type SerializeMap = MapWriter;
    type SerializeStruct = MapWriter;
    type SerializeStructVariant = MapWriter;

    scalars!(
        serialize_bool(bool) => bool,
        serialize_i8(i8) => i64,
        serialize_i16(i16) => i64,
        serialize_i32(i32) => i64,
        serialize_i64(i64) => i64,
        serialize_u8(u8) => u64,
        serialize_u16(u16) => u64,
        serialize_u32(u32) => u64,
        serialize_u64(u64) => u64,
        serialize_f32(f32) => f64,
        serialize_f64(f64) => f64,
        serialize_char(char) => String,
        serialize_str(&str) => String,
    );

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, EncodeError> {
        Ok(Value::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn serialize_none(self) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, EncodeError> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, EncodeError> {
        Ok(wrap(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ListWriter, EncodeError> {
        Ok(ListWriter::new(len.unwrap_or_default(), None))
    }

    fn serialize_tuple(self, len: usize) -> Result<ListWriter, EncodeError> {
        Ok(ListWriter::new(len, None))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<ListWriter, EncodeError> {
        Ok(ListWriter::new(len, None))
    }

    fn serialize_tuple_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<ListWriter, EncodeError> {
        Ok(ListWriter::new(len, Some(variant)))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<MapWriter, EncodeError> {
        Ok(MapWriter::new(None))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<MapWriter, EncodeError> {
        Ok(MapWriter::new(None))
    }

    fn serialize_struct_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<MapWriter, EncodeError> {
        Ok(MapWriter::new(Some(variant)))
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident),* $(,)?) => {
        $(impl $trait for ListWriter {
            type Ok = Value;
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                self.list.push(value.serialize(TreeWriter)?);
                Ok(())
            }

            fn end(self) -> Result<Value, EncodeError> {
                Ok(self.finish())
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
        $(impl $trait for MapWriter {
            type Ok = Value;
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), EncodeError> {
                self.map.insert(name.to_owned(), value.serialize(TreeWriter)?);
                Ok(())
            }

            fn end(self) -> Result<Value, EncodeError> {
                Ok(self.finish())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for MapWriter {
    type Ok = Value;
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        let key = key.serialize(TreeWriter)?;
        self.key = Some(key_text(key).ok_or_else(|| {
            EncodeError::custom("a map with keys that are neither text nor integers")
        })?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let key = self.key.take().ok_or_else(|| EncodeError::custom("a value without its key"))?;
        self.map.insert(key, value.serialize(TreeWriter)?);
        Ok(())
    }

    fn end(self) -> Result<Value, EncodeError> {
        Ok(self.finish())
    }
}

/// What a value is as a key: keys are text always.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::Text(text) => Some(text),
        Value::Bytes(bytes) => String::from_utf8(bytes.into()).ok(),
        Value::Integer(number) => Some(number.to_string()),
        Value::Unsigned(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    }
}
