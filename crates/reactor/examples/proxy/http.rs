//! What both sides need of HTTP/1.1 (RFC 9112): where a head ends, how the end of a body is found,
//! which fields are passed on.
//!
//! A proxy that reads a message otherwise than its backend does can be made to smuggle requests past
//! itself. So whatever could be read in two ways is refused, and the framing is said anew.

use httparse::Header;

/// Where the head ends that `bytes` begin with; `None` if that has not come. Empty lines before it are
/// allowed (section 2.2); lines that end without CR are not.
pub(crate) fn head_end(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let (mut line, mut is_blank) = (0, true);
    for (index, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if index == line || bytes[index - 1] != b'\r' {
            return Err("a line ends without CR");
        }
        let is_empty = index == line + 1;
        if is_empty && !is_blank {
            return Ok(Some(index + 1));
        }
        is_blank &= is_empty;
        line = index + 1;
    }
    Ok(None)
}

/// How the head says where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Unsaid,
    Length(u64),
    Chunked,
}

pub(crate) fn framing(fields: &[Header<'_>]) -> Result<Framing, &'static str> {
    let mut framing = Framing::Unsaid;
    for field in fields {
        let found = if field.name.eq_ignore_ascii_case("content-length") {
            Framing::Length(number(field.value).ok_or("its length is not a number")?)
        } else if !field.name.eq_ignore_ascii_case("transfer-encoding") {
            continue;
        } else if field.value.eq_ignore_ascii_case(b"chunked") && framing == Framing::Unsaid {
            Framing::Chunked
        } else {
            return Err("its transfer coding is not chunked alone");
        };
        if framing != Framing::Unsaid && framing != found {
            return Err("its length is told in two ways");
        }
        framing = found;
    }
    Ok(framing)
}

/// Digits and nothing else: no sign, no list.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// How many of these bytes are its; what follows is another message.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match self {
            Self::Length(left) => Ok(take_up_to(left, bytes.len())),
            Self::Chunked(chunked) => chunked.take(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }
}

fn take_up_to(left: &mut u64, len: usize) -> usize {
    let part = (*left).min(len as u64);
    *left -= part;
    part as usize
}

/// Where in a chunked body we are (section 7.1). It is passed on as it comes, with its extensions and
/// trailers, so nothing of it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chunked {
    Size(Option<u64>),
    /// Behind the size, where only an extension may follow.
    Space(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunked {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !matches!(self, Self::Done) {
            if let Self::Data(left) = self {
                at += take_up_to(left, bytes.len() - at);
                if *left == 0 {
                    *self = Self::DataCr;
                }
            } else {
                *self = self.step(bytes[at]).ok_or("its chunks are malformed")?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(self, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Some(match (self, byte) {
            (Self::Size(None), _) => Self::Size(Some(digit?)),
            (Self::Size(Some(len)) | Self::Space(len) | Self::Extension(len), b'\r') => {
                Self::SizeLf(len)
            }
            (Self::Size(Some(len)) | Self::Space(len), b' ' | b'\t') => Self::Space(len),
            (Self::Size(Some(len)) | Self::Space(len), b';') => Self::Extension(len),
            (Self::Size(Some(len)), _) if len < 1 << 56 => Self::Size(Some(len << 4 | digit?)),
            (Self::Extension(len), _) if byte != b'\n' => Self::Extension(len),
            (Self::SizeLf(0), b'\n') | (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::SizeLf(len), b'\n') => Self::Data(len),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(None),
            (Self::TrailerStart, b'\r') => Self::LastLf,
            (Self::LastLf, b'\n') => Self::Done,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, _) if byte != b'\n' => Self::Trailer,
            _ => return None,
        })
    }
}

/// The first field of that name.
pub(crate) fn field<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// What the fields `Connection` name.
fn connection<'a>(fields: &'a [Header<'_>]) -> impl Iterator<Item = &'a [u8]> {
    let found = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    found.flat_map(|field| field.value.split(|byte| *byte == b',')).map(|name| name.trim_ascii())
}

/// Whether the sender goes on with this connection after the message (section 9.3).
pub(crate) fn is_persistent(minor_version: u8, fields: &[Header<'_>]) -> bool {
    let says = |word: &[u8]| connection(fields).any(|name| name.eq_ignore_ascii_case(word));
    !says(b"close") && (minor_version == 1 || says(b"keep-alive"))
}

/// Appends the fields that are not for this hop alone, and the framing. `Host` is passed on even if
/// `Connection` names it: a backend without it would see another request than we do.
pub(crate) fn copy_fields(out: &mut Vec<u8>, fields: &[Header<'_>], framing: Framing) {
    for field in fields {
        let name = field.name;
        let is_named = connection(fields).any(|other| other.eq_ignore_ascii_case(name.as_bytes()));
        if is_named && !name.eq_ignore_ascii_case("host")
            || HOP_BY_HOP.iter().any(|other| other.eq_ignore_ascii_case(name))
        {
            continue;
        }
        for part in [name.as_bytes(), b": ", field.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    match framing {
        Framing::Unsaid => {}
        Framing::Length(len) => out.extend(format!("Content-Length: {len}\r\n").bytes()),
        Framing::Chunked => out.extend(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// A longer head is refused.
pub(crate) const HEAD_MAX: usize = 16 * 1024;
/// One with more fields, too.
pub(crate) const FIELDS_MAX: usize = 100;
/// Fields that concern one connection and not the message, and those that are said anew.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
];
