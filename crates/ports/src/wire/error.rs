//! How bytes and types can fail to be messages.

use std::fmt::Display;

use super::splitter::{DEPTH_MAX, VALUES_MAX};

/// Bytes that are no frame: the peer is wrong, and what follows them cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than is allowed.
    #[error("a frame of more than {max} bytes")]
    TooLong {
        /// What is allowed.
        max: usize,
    },
    /// Lists in lists, deeper than 64.
    #[error("a frame that nests deeper than {DEPTH_MAX}")]
    TooDeep,
    /// More values in one frame than are allowed.
    #[error("a frame of more than {VALUES_MAX} values")]
    TooManyValues,
    /// Something other than a list where a list must be.
    #[error("a frame that is not a list")]
    NotAList,
    /// CBOR that begins with an octet that RFC 8949 reserves.
    #[error("CBOR with the reserved octet 0x{0:02x}")]
    Reserved(u8),
    /// CBOR with a break where none may be.
    #[error("CBOR with a break where a value must be")]
    StrayBreak,
    /// A CBOR string of pieces that are not strings of the same kind.
    #[error("a CBOR string with a piece of another kind")]
    BadPiece,
    /// A CBOR text, or a port name, that is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// The bytes end before the frame does.
    #[error("a frame that is cut off")]
    Truncated,
    /// There is something behind the frame.
    #[error("bytes behind the end of a frame")]
    Trailing,
    /// The first value is not the name of a port.
    #[error("a frame whose first value is not the name of a port")]
    NoPortName,
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The bytes are not JSON.
    #[error("JSON, line {line}, column {column}: {text}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
        /// What is wrong there.
        text: String,
    },
    /// They are values, but not those that were asked for.
    #[error("{0}")]
    Shape(String),
}

impl DecodeError {
    /// Whether the bytes themselves are broken, and not only other than was expected.
    pub const fn is_malformed(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Json { .. } => true,
            Self::Shape(_) => false,
        }
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: Display>(text: T) -> Self {
        Self::Shape(text.to_string())
    }
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let whole = error.to_string();
        let place = format!(" at line {line} column {column}");
        let text = whole.strip_suffix(&place).unwrap_or(&whole).to_owned();
        if error.is_data() { Self::Shape(text) } else { Self::Json { line, column, text } }
    }
}

/// Why a message could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its frame would be longer than peers take.
    #[error("a message of {len} bytes: at most {max} are allowed")]
    TooLong {
        /// What it would be.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// Its values nest deeper than peers take.
    #[error("a message that nests deeper than {DEPTH_MAX}")]
    TooDeep,
    /// A type that cannot be a message.
    #[error("{0}")]
    Shape(String),
    /// What was to be written anew could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: Display>(text: T) -> Self {
        Self::Shape(text.to_string())
    }
}

impl From<serde_json::Error> for EncodeError {
    fn from(error: serde_json::Error) -> Self {
        // The writer is memory, so that the only I/O error is the one that our formatter makes.
        if error.is_io() { Self::TooDeep } else { Self::Shape(error.to_string()) }
    }
}
