//! Reading what was meant: text for bytes, `"1"` for 1, 1 for true.
//!
//! Perl does not keep these apart, and JSON has no bytes. This wraps any deserializer, at every depth, and looks
//! at what is there before the type sees it. Where anything is welcome, as for [`Value`](crate::Value),
//! everything stays as it came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Any deserializer, or part of one, that reads what was meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lenient<T> {
    inner: T,
    text_as: TextAs,
}

/// Which bytes a text is, where bytes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextAs {
    /// Its UTF-8.
    Utf8,
    /// One for each character if all are below 256, as Perl writes bytes into JSON; else its UTF-8.
    Latin1,
}

/// What a type asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Anything,
    Bool,
    Integer,
    Float,
    Text,
    Bytes,
}

#[derive(Debug)]
struct LenientVisitor<V> {
    visitor: V,
    wanted: Wanted,
    text_as: TextAs,
}

impl<T> Lenient<T> {
    #[inline]
    pub(super) const fn new(inner: T, text_as: TextAs) -> Self {
        Self { inner, text_as }
    }

    #[inline]
    const fn visitor<V>(&self, visitor: V, wanted: Wanted) -> LenientVisitor<V> {
        LenientVisitor { visitor, wanted, text_as: self.text_as }
    }
}

macro_rules! scalars {
    ($($method:ident => $wanted:ident),* $(,)?) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.visitor(visitor, Wanted::$wanted);
            self.inner.deserialize_any(visitor)
        })*
    };
}

macro_rules! others {
    ($($method:ident($($name:ident: $type:ty),*)),* $(,)?) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(
            self,
            $($name: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let visitor = self.visitor(visitor, Wanted::Anything);
            self.inner.$method($($name,)* visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<D> {
    type Error = D::Error;

    scalars!(
        deserialize_bool => Bool,
        deserialize_i8 => Integer,
        deserialize_i16 => Integer,
        deserialize_i32 => Integer,
        deserialize_i64 => Integer,
        deserialize_i128 => Integer,
        deserialize_u8 => Integer,
        deserialize_u16 => Integer,
        deserialize_u32 => Integer,
        deserialize_u64 => Integer,
        deserialize_u128 => Integer,
        deserialize_f32 => Float,
        deserialize_f64 => Float,
        deserialize_char => Text,
        deserialize_str => Text,
        deserialize_string => Text,
        deserialize_identifier => Text,
        deserialize_bytes => Bytes,
        deserialize_byte_buf => Bytes,
    );
    others!(
        deserialize_any(),
        deserialize_option(),
        deserialize_unit(),
        deserialize_unit_struct(name: &'static str),
        deserialize_seq(),
        deserialize_tuple(len: usize),
        deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_map(),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
        deserialize_ignored_any(),
    );

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Lenient<S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Lenient::new(deserializer, self.text_as))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Lenient<A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Lenient::new(seed, self.text_as))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Lenient<A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(Lenient::new(seed, self.text_as))
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.inner.next_value_seed(Lenient::new(seed, self.text_as))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Lenient<A> {
    type Error = A::Error;
    type Variant = Lenient<A::Variant>;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), A::Error> {
        let (variant, content) = self.inner.variant_seed(Lenient::new(seed, self.text_as))?;
        Ok((variant, Lenient::new(content, self.text_as)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Lenient<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.newtype_variant_seed(Lenient::new(seed, self.text_as))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.visitor(visitor, Wanted::Anything);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.visitor(visitor, Wanted::Anything);
        self.inner.struct_variant(fields, visitor)
    }
}

impl<'de, V: Visitor<'de>> LenientVisitor<V> {
    /// A text where something else was asked that it may stand for; else the visitor, to be shown the text.
    #[inline]
    fn read<E: Error>(self, text: &str) -> Result<Result<V::Value, E>, V> {
        match self.wanted {
            Wanted::Anything | Wanted::Text => Err(self.visitor),
            Wanted::Bool => match text {
                "" | "0" => Ok(self.visitor.visit_bool(false)),
                "1" => Ok(self.visitor.visit_bool(true)),
                _ => Err(self.visitor),
            },
            Wanted::Integer => {
                if let Ok(number) = text.parse() {
                    Ok(self.visitor.visit_i64(number))
                } else if let Ok(number) = text.parse() {
                    Ok(self.visitor.visit_u64(number))
                } else {
                    Err(self.visitor)
                }
            }
            Wanted::Float => match text.parse() {
                Ok(number) => Ok(self.visitor.visit_f64(number)),
                Err(_) => Err(self.visitor),
            },
            Wanted::Bytes => match self.text_as {
                TextAs::Latin1 if !text.is_ascii() => match latin1(text) {
                    Some(bytes) => Ok(self.visitor.visit_byte_buf(bytes)),
                    None => Ok(self.visitor.visit_bytes(text.as_bytes())),
                },
                TextAs::Latin1 | TextAs::Utf8 => Ok(self.visitor.visit_bytes(text.as_bytes())),
            },
        }
    }

    fn is_for_bytes(&self) -> bool {
        matches!(self.wanted, Wanted::Anything | Wanted::Bytes)
    }
}

/// The bytes that the characters number, if all of them do.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(character).ok()).collect()
}

/// The text that bytes are: UTF-8, or what Perl writes for a text without any character above 255.
#[inline]
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for LenientVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    #[inline]
    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.visitor.visit_bool(value)
    }

    #[inline]
    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        match (self.wanted, number) {
            (Wanted::Bool, 0) => self.visitor.visit_bool(false),
            (Wanted::Bool, 1) => self.visitor.visit_bool(true),
            _ => self.visitor.visit_i64(number),
        }
    }

    #[inline]
    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        match (self.wanted, number) {
            (Wanted::Bool, 0) => self.visitor.visit_bool(false),
            (Wanted::Bool, 1) => self.visitor.visit_bool(true),
            _ => self.visitor.visit_u64(number),
        }
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<V::Value, E> {
        self.visitor.visit_i128(number)
    }

    #[inline]
    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        self.visitor.visit_f64(number)
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.read(text).unwrap_or_else(|visitor| visitor.visit_str(text))
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.read(text).unwrap_or_else(|visitor| visitor.visit_borrowed_str(text))
    }

    #[inline]
    fn visit_string<E: Error>(self, text: String) -> Result<V::Value, E> {
        self.read(&text).unwrap_or_else(|visitor| visitor.visit_string(text))
    }

    #[inline]
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<V::Value, E> {
        if self.is_for_bytes() {
            return self.visitor.visit_bytes(bytes);
        }
        self.visit_str(&text_of(bytes))
    }

    #[inline]
    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<V::Value, E> {
        if self.is_for_bytes() {
            return self.visitor.visit_borrowed_bytes(bytes);
        }
        match text_of(bytes) {
            Cow::Borrowed(text) => self.visit_borrowed_str(text),
            Cow::Owned(text) => self.visit_string(text),
        }
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<V::Value, E> {
        if self.is_for_bytes() {
            return self.visitor.visit_byte_buf(bytes);
        }
        let text = String::from_utf8(bytes);
        self.visit_string(text.unwrap_or_else(|error| text_of(error.as_bytes()).into_owned()))
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Lenient::new(deserializer, self.text_as))
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Lenient::new(deserializer, self.text_as))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_seq(Lenient::new(items, self.text_as))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Lenient::new(entries, self.text_as))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Lenient::new(variant, self.text_as))
    }
}
