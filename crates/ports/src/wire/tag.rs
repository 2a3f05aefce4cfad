//! Tags: the first value of a message, which says what it is.
//!
//! A Rust name that begins with an upper-case letter is sent in snake case, as the world of AnyEvent::MP
//! writes its tags; any other goes as it is, and so does one all in capitals, which somebody asked for.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::ser::{self, Impossible, Serialize, Serializer};

/// The tag of a message: its first value, if that is a text or a number. The other values
/// are not looked at.
pub fn tag<M: Serialize + ?Sized>(message: &M) -> Option<Cow<'static, str>> {
    match message.serialize(Finder) {
        Ok(()) | Err(Found::Nothing) => None,
        Err(Found::Text(text)) => Some(Cow::Owned(text)),
        Err(Found::Name(name)) if is_camel(name) => {
            Some(Cow::Owned(with_tag_of(name, str::to_owned)))
        }
        Err(Found::Name(name)) => Some(Cow::Borrowed(name)),
    }
}

/// Does something with the tag of a message, without allocating for that of a Rust type.
pub fn with_tag<M: Serialize + ?Sized, R>(message: &M, then: impl FnOnce(Option<&str>) -> R) -> R {
    match message.serialize(Finder) {
        Ok(()) | Err(Found::Nothing) => then(None),
        Err(Found::Text(text)) => then(Some(&text)),
        Err(Found::Name(name)) => with_tag_of(name, |tag| then(Some(tag))),
    }
}

/// Does something with the tag that a Rust name is sent as.
#[inline]
pub(super) fn with_tag_of<R>(name: &str, then: impl FnOnce(&str) -> R) -> R {
    if !is_camel(name) {
        return then(name);
    }
    let mut buffer = [0; SHORT];
    let mut len = 0;
    for octet in snake(name) {
        let Some(place) = buffer.get_mut(len) else { return then(&long(name)) };
        *place = octet;
        len += 1;
    }
    // Only ASCII was changed, so that it is UTF-8 still.
    match std::str::from_utf8(&buffer[..len]) {
        Ok(tag) => then(tag),
        Err(_) => then(&long(name)),
    }
}

/// Whether a Rust name is sent as that tag.
#[inline]
pub(super) fn is_tag_of(name: &str, tag: &str) -> bool {
    // Nearly all that differ do so in the first letter.
    let (Some(first), Some(tag_first)) = (name.as_bytes().first(), tag.as_bytes().first()) else {
        return name == tag;
    };
    first.eq_ignore_ascii_case(tag_first)
        && (name == tag || (is_camel(name) && snake(name).eq(tag.bytes())))
}

#[cold]
fn long(name: &str) -> String {
    String::from_utf8_lossy(&snake(name).collect::<Vec<u8>>()).into_owned()
}

#[inline]
fn is_camel(name: &str) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_uppercase) && !is_in_capitals(name)
}

/// `PRIVMSG`, but not `A` or `E2`.
#[inline]
fn is_in_capitals(name: &str) -> bool {
    !name.bytes().any(|octet| octet.is_ascii_lowercase())
        && name.bytes().filter(u8::is_ascii_uppercase).nth(1).is_some()
}

/// As serde's `rename_all = "snake_case"` does it: `HTTPGet` is `h_t_t_p_get`.
#[inline]
fn snake(name: &str) -> Snake<'_> {
    Snake { rest: name.as_bytes(), is_first: true, has_gap: false }
}

struct Snake<'a> {
    rest: &'a [u8],
    is_first: bool,
    has_gap: bool,
}

impl Iterator for Snake<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let (octet, rest) = self.rest.split_first()?;
        if octet.is_ascii_uppercase() && !self.is_first && !self.has_gap {
            self.has_gap = true;
            return Some(b'_');
        }
        (self.rest, self.is_first, self.has_gap) = (rest, false, false);
        Some(octet.to_ascii_lowercase())
    }
}

/// What ends the search for a tag. An error for serde, so that nothing else of the message is visited.
#[derive(Debug)]
enum Found {
    Name(&'static str),
    Text(String),
    Nothing,
}

impl Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the search for a tag has ended")
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: Display>(_text: T) -> Self {
        Self::Nothing
    }
}

/// Looks for the tag of a message.
struct Finder;

/// Looks at the first value of a list.
struct First;

macro_rules! nothing {
    ($($method:ident($($type:ty),*)),* $(,)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<(), Found> {
            Err(Found::Nothing)
        })*
    };
}

/// A number is the tag that it is as text.
macro_rules! shown {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<(), Found> {
            Err(Found::Text(value.to_string()))
        })*
    };
}

macro_rules! compounds {
    ($($method:ident($($type:ty),*) -> $compound:ident),* $(,)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<Self::$compound, Found> {
            Err(Found::Nothing)
        })*
    };
}

macro_rules! scalars {
    () => {
        nothing!(serialize_bool(bool), serialize_none(), serialize_unit());
        shown!(
            serialize_i8(i8),
            serialize_i16(i16),
            serialize_i32(i32),
            serialize_i64(i64),
            serialize_u8(u8),
            serialize_u16(u16),
            serialize_u32(u32),
            serialize_u64(u64),
            serialize_f32(f32),
            serialize_f64(f64),
            serialize_char(char),
        );

        fn serialize_str(self, text: &str) -> Result<(), Found> {
            Err(Found::Text(text.to_owned()))
        }

        fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Found> {
            Err(std::str::from_utf8(bytes)
                .map_or(Found::Nothing, |text| Found::Text(text.to_owned())))
        }
    };
}

impl Serializer for Finder {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Impossible<(), Found>;
    type SerializeTupleVariant = Impossible<(), Found>;
    type SerializeMap = Impossible<(), Found>;
    type SerializeStruct = Impossible<(), Found>;
    type SerializeStructVariant = Impossible<(), Found>;

    scalars!();
    compounds!(serialize_map(Option<usize>) -> SerializeMap);

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
        value.serialize(First)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Found> {
        Err(Found::Name(name))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Found> {
        Err(Found::Name(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: &T,
    ) -> Result<(), Found> {
        Err(Found::Name(name))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Found> {
        Err(Found::Name(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Found> {
        Ok(self)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Found> {
        Err(Found::Name(name))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Found> {
        Err(Found::Name(variant))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, Found> {
        Err(Found::Name(name))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Found> {
        Err(Found::Name(variant))
    }
}

impl ser::SerializeSeq for Finder {
    type Ok = ();
    type Error = Found;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        value.serialize(First)
    }

    fn end(self) -> Result<(), Found> {
        Ok(())
    }
}

impl ser::SerializeTuple for Finder {
    type Ok = ();
    type Error = Found;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        value.serialize(First)
    }

    fn end(self) -> Result<(), Found> {
        Ok(())
    }
}

impl Serializer for First {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Impossible<(), Found>;
    type SerializeTuple = Impossible<(), Found>;
    type SerializeTupleStruct = Impossible<(), Found>;
    type SerializeTupleVariant = Impossible<(), Found>;
    type SerializeMap = Impossible<(), Found>;
    type SerializeStruct = Impossible<(), Found>;
    type SerializeStructVariant = Impossible<(), Found>;

    scalars!();
    nothing!(serialize_unit_struct(&'static str));
    compounds!(
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct(&'static str, usize) -> SerializeStruct,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant,
    );

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Found> {
        // Below the top, a variant is written as serde does it: by its own name.
        Err(Found::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Found> {
        Err(Found::Nothing)
    }
}

/// The longest tag that needs no allocation.
const SHORT: usize = 64;
