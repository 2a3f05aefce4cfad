//! Heads of CBOR items ([RFC 8949], section 3): what comes, and how much of it.
//!
//! [RFC 8949]: https://www.rfc-editor.org/rfc/rfc8949

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameError;

/// What an item is. A length that is missing means: until a [`Head::Break`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head {
    Unsigned(u64),
    /// The number is −1 − this.
    Negative(u64),
    Bytes(Option<u64>),
    Text(Option<u64>),
    List(Option<u64>),
    /// Counted in pairs.
    Map(Option<u64>),
    /// The next item is what it says, with a meaning that we do not look at.
    Tag,
    Bool(bool),
    Null,
    Float(f64),
    Break,
}

impl Head {
    /// The head at the start of `bytes` and how long it is, or nothing if it is not whole.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let info = first & 0x1f;
        let (number, len) = match info {
            0..24 => (Some(u64::from(info)), 1),
            24 => match rest.first_chunk() {
                Some(octets) => (Some(u64::from(u8::from_be_bytes(*octets))), 2),
                None => return Ok(None),
            },
            25 => match rest.first_chunk() {
                Some(octets) => (Some(u64::from(u16::from_be_bytes(*octets))), 3),
                None => return Ok(None),
            },
            26 => match rest.first_chunk() {
                Some(octets) => (Some(u64::from(u32::from_be_bytes(*octets))), 5),
                None => return Ok(None),
            },
            27 => match rest.first_chunk() {
                Some(octets) => (Some(u64::from_be_bytes(*octets)), 9),
                None => return Ok(None),
            },
            31 => (None, 1),
            _ => return Err(FrameError::Reserved(first)),
        };
        let head = match (first >> 5, number) {
            (0, Some(number)) => Self::Unsigned(number),
            (1, Some(number)) => Self::Negative(number),
            (2, count) => Self::Bytes(count),
            (3, count) => Self::Text(count),
            (4, count) => Self::List(count),
            (5, count) => Self::Map(count),
            (6, Some(_)) => Self::Tag,
            (7, None) => Self::Break,
            (7, Some(number)) => Self::simple(info, number).ok_or(FrameError::Reserved(first))?,
            _ => return Err(FrameError::Reserved(first)),
        };
        Ok(Some((head, len)))
    }

    /// Major type 7: simple values and floats of three widths.
    fn simple(info: u8, number: u64) -> Option<Self> {
        match info {
            20 => Some(Self::Bool(false)),
            21 => Some(Self::Bool(true)),
            // Null and "undefined", which Perl does not tell apart.
            22 | 23 => Some(Self::Null),
            25 => u16::try_from(number).ok().map(|bits| Self::Float(half(bits))),
            26 => u32::try_from(number).ok().map(|bits| Self::Float(f32::from_bits(bits).into())),
            27 => Some(Self::Float(f64::from_bits(number))),
            _ => None,
        }
    }
}

/// The number that a half-precision float is.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let size = match i32::from((bits >> 10) & 0x1f) {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (fraction + 1024.0) * 2_f64.powi(exponent.saturating_sub(25)),
    };
    if bits >> 15 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_floats_of_the_rfc() {
        let float = |bytes: &[u8]| match Head::read(bytes) {
            Ok(Some((Head::Float(number), len))) if len == bytes.len() => number,
            other => panic!("{bytes:?} is {other:?}"),
        };
        assert_eq!(float(&[0xf9, 0x3c, 0x00]), 1.0);
        assert_eq!(float(&[0xf9, 0x3e, 0x00]), 1.5);
        assert_eq!(float(&[0xf9, 0x7b, 0xff]), 65504.0);
        assert_eq!(float(&[0xf9, 0x00, 0x01]), 5.960_464_477_539_063e-8);
        assert_eq!(float(&[0xf9, 0x04, 0x00]), 0.000_061_035_156_25);
        assert_eq!(float(&[0xf9, 0xc4, 0x00]), -4.0);
        assert_eq!(float(&[0xf9, 0xfc, 0x00]), f64::NEG_INFINITY);
        assert!(float(&[0xf9, 0x7e, 0x00]).is_nan());
        assert_eq!(float(&[0xfa, 0x3f, 0xc0, 0, 0]), 1.5);
        assert_eq!(float(&[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]), 1.1);
    }

    #[test]
    fn refuses_what_the_rfc_reserves() {
        for first in [0x1c, 0x1d, 0x1e, 0x1f, 0x3f, 0x5c, 0x9e, 0xdf, 0xe0, 0xf3, 0xf8, 0xfc] {
            assert_eq!(Head::read(&[first, 0]), Err(FrameError::Reserved(first)), "{first:02x}");
        }
    }

    #[test]
    fn waits_for_the_rest_of_a_number() {
        for bytes in [&[][..], &[0x18], &[0x19, 1], &[0x1a, 1, 2, 3], &[0x1b, 1, 2, 3, 4, 5, 6, 7]]
        {
            assert_eq!(Head::read(bytes), Ok(None));
        }
    }
}
