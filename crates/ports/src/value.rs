//! Values: what messages are lists of.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::PortId;

/// A message without a type of its own: its values in order.
pub type List = Vec<Value>;

/// One value of a message.
///
/// Text and bytes are two kinds, and where one is asked for the other will do if it can be read as such:
/// Perl nodes send byte strings for nearly everything, and JSON has no bytes at all (there each byte is the
/// character of the same number).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing; Perl's `undef`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// Any integer that fits.
    Integer(i64),
    /// An integer above [`i64::MAX`], and no other.
    Unsigned(u64),
    /// A number with a fraction, or too large.
    Float(f64),
    /// Characters.
    Text(String),
    /// Octets.
    Bytes(Bytes),
    /// Values in order.
    List(List),
    /// Values by name.
    Map(BTreeMap<String, Self>),
}

impl Value {
    /// The text, also of bytes that are UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Unsigned(_)
            | Self::Float(_)
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }

    /// The integer, if it is one that fits.
    pub const fn as_i64(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// The number as a float, if it is one.
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Null
            | Self::Bool(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }

    /// The port ID that the text is, if it is one.
    pub fn as_port(&self) -> Option<PortId> {
        PortId::new(self.as_str()?).ok()
    }
}

/// JSON on one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::wire::to_json(self))
    }
}

macro_rules! from {
    ($($type:ty => |$name:ident| $make:expr),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from($name: $type) -> Self {
                $make
            }
        })*
    };
}

from! {
    () => |_nothing| Self::Null,
    bool => |value| Self::Bool(value),
    i64 => |value| Self::Integer(value),
    i32 => |value| Self::Integer(value.into()),
    u32 => |value| Self::Integer(value.into()),
    u64 => |value| i64::try_from(value).map_or(Self::Unsigned(value), Self::Integer),
    f64 => |value| Self::Float(value),
    &str => |value| Self::Text(value.to_owned()),
    String => |value| Self::Text(value),
    Bytes => |value| Self::Bytes(value),
    Vec<u8> => |value| Self::Bytes(value.into()),
    List => |value| Self::List(value),
    BTreeMap<String, Value> => |value| Self::Map(value),
    PortId => |value| Self::Text(value.as_str().to_owned()),
    &PortId => |value| Self::Text(value.as_str().to_owned()),
    crate::NodeId => |value| Self::Text(value.as_str().to_owned()),
    &crate::NodeId => |value| Self::Text(value.as_str().to_owned()),
}
