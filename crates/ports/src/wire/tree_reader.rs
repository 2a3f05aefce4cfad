//! [`Value`]s as types.

use std::collections::btree_map;
use std::vec;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::DecodeError;
use crate::{List, Value};

/// Gives a value to serde as it is. What is asked and what is there may still differ in kind, which is for
/// [`Lenient`](super::lenient::Lenient) to mend.
#[derive(Debug)]
pub(super) struct TreeReader(pub(super) Value);

/// The values of a list, in order.
#[derive(Debug)]
pub(super) struct Items(vec::IntoIter<Value>);

#[derive(Debug)]
struct Entries {
    entries: btree_map::IntoIter<String, Value>,
    value: Option<Value>,
}

impl Items {
    pub(super) fn new(list: List) -> Self {
        Self(list.into_iter())
    }
}

impl<'de> Deserializer<'de> for TreeReader {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Unsigned(number) => visitor.visit_u64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Text(text) => visitor.visit_string(text),
            Value::Bytes(bytes) => visitor.visit_byte_buf(bytes.into()),
            Value::List(list) => {
                let mut items = Items::new(list);
                let value = visitor.visit_seq(&mut items)?;
                none_left(items.0.len(), "fewer values in a list")?;
                Ok(value)
            }
            Value::Map(map) => {
                let mut entries = Entries { entries: map.into_iter(), value: None };
                let value = visitor.visit_map(&mut entries)?;
                none_left(entries.entries.len(), "fewer entries in a map")?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(Self(value)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Text(text) => visitor.visit_enum(text.into_deserializer()),
            Value::Bytes(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => visitor.visit_enum(text.into_deserializer()),
                Err(_) => Err(DecodeError::invalid_value(Unexpected::Bytes(&bytes), &visitor)),
            },
            Value::Map(map) => {
                let mut entries = Entries { entries: map.into_iter(), value: None };
                let value = visitor.visit_enum(MapAccessDeserializer::new(&mut entries))?;
                none_left(entries.entries.len(), "a map of one variant")?;
                Ok(value)
            }
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::List(_)) => Self(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn none_left(left: usize, expected: &str) -> Result<(), DecodeError> {
    if left == 0 {
        return Ok(());
    }
    Err(DecodeError::custom(format_args!("{left} too many, expected {expected}")))
}

impl<'de> SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.0.next().map(|value| seed.deserialize(TreeReader(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(TreeReader(Value::Text(key))).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let value =
            self.value.take().ok_or_else(|| DecodeError::custom("a value before its key"))?;
        seed.deserialize(TreeReader(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
