//! Types as messages: the top level of a type is written as the values of one list.
//!
//! `Join { client, nick }` is `["join", client, nick]`. What is below the top has serde's ordinary shape.

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::tag::with_tag_of;
use super::tree_writer::{MapWriter, TreeWriter};

/// Writes a message as one list of `serializer`, with the name of a port before it if there is one.
#[derive(Debug)]
pub(super) struct Flatten<'a, S> {
    pub(super) serializer: S,
    pub(super) port_name: Option<&'a str>,
}

/// The list, begun.
#[derive(Debug)]
pub(super) struct Fields<Q>(Q);

/// A map at the top, which is the only value of its message. It is gathered first, since serde gives it out
/// piece by piece and takes values of lists only whole.
#[derive(Debug)]
pub(super) struct OneMap<'a, S> {
    flatten: Flatten<'a, S>,
    map: MapWriter,
}

impl<S: Serializer> Flatten<'_, S> {
    #[inline]
    fn begin(
        self,
        name: Option<&'static str>,
        len: Option<usize>,
    ) -> Result<Fields<S::SerializeSeq>, S::Error> {
        let before = usize::from(self.port_name.is_some()) + usize::from(name.is_some());
        let len = len.map(|len| len.saturating_add(before));
        let mut list = self.serializer.serialize_seq(len)?;
        if let Some(port_name) = self.port_name {
            list.serialize_element(port_name)?;
        }
        if let Some(name) = name {
            with_tag_of(name, |tag| list.serialize_element(tag))?;
        }
        Ok(Fields(list))
    }

    #[inline]
    fn one<T: Serialize + ?Sized>(
        self,
        name: Option<&'static str>,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let mut fields = self.begin(name, Some(1))?;
        fields.0.serialize_element(value)?;
        fields.0.end()
    }
}

macro_rules! one_value {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(#[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.one(None, &value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Flatten<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Fields<S::SerializeSeq>;
    type SerializeTuple = Fields<S::SerializeSeq>;
    type SerializeTupleStruct = Fields<S::SerializeSeq>;
    type SerializeTupleVariant = Fields<S::SerializeSeq>;
    type SerializeMap = OneMap<'a, S>;
    type SerializeStruct = Fields<S::SerializeSeq>;
    type SerializeStructVariant = Fields<S::SerializeSeq>;

    one_value!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
    );

    fn serialize_bytes(self, bytes: &[u8]) -> Result<S::Ok, S::Error> {
        self.one(None, &Octets(bytes))
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.one(None, &())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.one(None, value)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.begin(None, Some(0))?.0.end()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.begin(Some(name), Some(0))?.0.end()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.begin(Some(variant), Some(0))?.0.end()
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.one(Some(name), value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.one(Some(variant), value)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.begin(None, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.begin(None, Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.begin(Some(name), Some(len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.begin(Some(variant), Some(len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(OneMap { flatten: self, map: TreeWriter.serialize_map(len).map_err(S::Error::custom)? })
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.begin(Some(name), Some(len))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _enum_name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.begin(Some(variant), Some(len))
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident),* $(,)?) => {
        $(impl<Q: SerializeSeq> $trait for Fields<Q> {
            type Ok = Q::Ok;
            type Error = Q::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Q::Error> {
                self.0.serialize_element(value)
            }

            #[inline]
            fn end(self) -> Result<Q::Ok, Q::Error> {
                self.0.end()
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
        $(impl<Q: SerializeSeq> $trait for Fields<Q> {
            type Ok = Q::Ok;
            type Error = Q::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), Q::Error> {
                self.0.serialize_element(value)
            }

            /// The reader knows fields by their place, so none can be missing before another.
            fn skip_field(&mut self, name: &'static str) -> Result<(), Q::Error> {
                Err(Q::Error::custom(format_args!(
                    "the field `{name}` cannot be left out of a message: fields are known by their place"
                )))
            }

            #[inline]
            fn end(self) -> Result<Q::Ok, Q::Error> {
                self.0.end()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl<S: Serializer> SerializeMap for OneMap<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.map.serialize_key(key).map_err(S::Error::custom)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.map.serialize_value(value).map_err(S::Error::custom)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        let map = SerializeMap::end(self.map).map_err(S::Error::custom)?;
        self.flatten.one(None, &map)
    }
}

/// Bytes that serde shall see as bytes.
struct Octets<'a>(&'a [u8]);

impl Serialize for Octets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
