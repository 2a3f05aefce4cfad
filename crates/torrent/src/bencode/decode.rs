//! Bytes to values, without a copy, with limits and with the place of every error.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

/// A value that borrows from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Integer(i64),
    /// A byte string; text only by convention.
    Bytes(&'a [u8]),
    /// Values in order.
    List(Vec<Self>),
    /// Values by key.
    Dict(Dict<'a>),
}

/// Values by key; no key twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dict<'a> {
    /// Sorted by key.
    entries: Vec<Entry<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry<'a> {
    key: &'a [u8],
    value: Value<'a>,
    raw: &'a [u8],
}

/// What a document may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep lists and dictionaries may nest. Default: 32.
    pub depth: usize,
    /// How many values there may be in all. Default: 2,000,000.
    pub items: usize,
    /// Whether keys must be sorted, as BEP 3 wants. Default: yes. Twice the same key is always an error.
    pub keys_in_order: bool,
}

/// Why bytes are not bencode, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct DecodeError {
    /// How many bytes were understood.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The input ends within a value.
    Truncated,
    /// No value begins with this byte.
    NotBencode,
    /// An integer without digits, with needless zeros, or beyond 64 bits.
    BadInteger,
    /// A string's length is no number.
    BadLength,
    /// Lists and dictionaries nest too deep.
    TooDeep,
    /// There are more values than anyone needs.
    TooManyItems,
    /// A dictionary's keys are not sorted.
    KeyOrder,
    /// A dictionary has the same key twice.
    DuplicateKey,
    /// A dictionary's key is not a string.
    KeyNotBytes,
    /// Something follows the value.
    TrailingBytes,
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "it is cut off",
            Self::NotBencode => "not bencode",
            Self::BadInteger => "bad integer",
            Self::BadLength => "bad string length",
            Self::TooDeep => "nested too deep",
            Self::TooManyItems => "too many values",
            Self::KeyOrder => "keys out of order",
            Self::DuplicateKey => "the same key twice",
            Self::KeyNotBytes => "a key that is no string",
            Self::TrailingBytes => "bytes after the end",
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, items: 2_000_000, keys_in_order: true }
    }
}

impl<'a> Value<'a> {
    /// The number, if it is one.
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Bytes(_) | Self::List(_) | Self::Dict(_) => None,
        }
    }

    /// The string, if it is one.
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Integer(_) | Self::List(_) | Self::Dict(_) => None,
        }
    }

    /// The string, if it is one and is text.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            Self::Integer(_) | Self::Bytes(_) | Self::Dict(_) => None,
        }
    }

    /// The dictionary, if it is one.
    pub const fn as_dict(&self) -> Option<&Dict<'a>> {
        match self {
            Self::Dict(dict) => Some(dict),
            Self::Integer(_) | Self::Bytes(_) | Self::List(_) => None,
        }
    }
}

impl<'a> Dict<'a> {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The bytes that the value of a key was read from.
    pub fn raw(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.entry(key).map(|entry| entry.raw)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &Value<'a>)> {
        self.entries.iter().map(|entry| (entry.key, &entry.value))
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry<'a>> {
        let at = self.entries.binary_search_by(|entry| entry.key.cmp(key)).ok()?;
        self.entries.get(at)
    }
}

/// Reads one value that is the whole input.
///
/// # Errors
/// If it is not canonical bencode within the default [`Limits`].
pub fn decode(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let (value, end) = decode_prefix(bytes, Limits::default())?;
    if end < bytes.len() {
        return Err(DecodeError { offset: end, kind: DecodeErrorKind::TrailingBytes });
    }
    Ok(value)
}

/// Reads one value from the start of the input. Returns where it ended.
///
/// # Errors
/// If it is not bencode within `limits`.
pub fn decode_prefix(bytes: &[u8], limits: Limits) -> Result<(Value<'_>, usize), DecodeError> {
    let mut decoder =
        Decoder { bytes, offset: 0, items_left: limits.items, keys_in_order: limits.keys_in_order };
    let value = decoder.value(limits.depth)?;
    Ok((value, decoder.offset))
}

struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
    items_left: usize,
    keys_in_order: bool,
}

impl<'a> Decoder<'a> {
    fn value(&mut self, depth_left: usize) -> Result<Value<'a>, DecodeError> {
        self.items_left = self
            .items_left
            .checked_sub(1)
            .ok_or_else(|| self.error(DecodeErrorKind::TooManyItems))?;
        match self.peek()? {
            b'i' => self.integer().map(Value::Integer),
            b'0'..=b'9' => self.string().map(Value::Bytes),
            b'l' => self.list(self.deeper(depth_left)?),
            b'd' => self.dict(self.deeper(depth_left)?).map(Value::Dict),
            _ => Err(self.error(DecodeErrorKind::NotBencode)),
        }
    }

    fn deeper(&self, depth_left: usize) -> Result<usize, DecodeError> {
        depth_left.checked_sub(1).ok_or_else(|| self.error(DecodeErrorKind::TooDeep))
    }

    fn list(&mut self, depth_left: usize) -> Result<Value<'a>, DecodeError> {
        self.skip(1);
        let mut items = Vec::new();
        while self.peek()? != b'e' {
            items.push(self.value(depth_left)?);
        }
        self.skip(1);
        Ok(Value::List(items))
    }

    fn dict(&mut self, depth_left: usize) -> Result<Dict<'a>, DecodeError> {
        self.skip(1);
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let mut is_sorted = true;
        while self.peek()? != b'e' {
            let at = self.offset;
            if !self.peek()?.is_ascii_digit() {
                return Err(self.error(DecodeErrorKind::KeyNotBytes));
            }
            let key = self.string()?;
            match entries.last().map(|last| last.key.cmp(key)) {
                None | Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => {
                    return Err(DecodeError { offset: at, kind: DecodeErrorKind::DuplicateKey });
                }
                Some(std::cmp::Ordering::Greater) if self.keys_in_order => {
                    return Err(DecodeError { offset: at, kind: DecodeErrorKind::KeyOrder });
                }
                Some(std::cmp::Ordering::Greater) => is_sorted = false,
            }
            let start = self.offset;
            let value = self.value(depth_left)?;
            let raw = self.bytes.get(start..self.offset).unwrap_or_default();
            entries.push(Entry { key, value, raw });
        }
        if !is_sorted {
            entries.sort_by_key(|entry| entry.key);
            if !entries.is_sorted_by(|a, b| a.key < b.key) {
                return Err(self.error(DecodeErrorKind::DuplicateKey));
            }
        }
        self.skip(1);
        Ok(Dict { entries })
    }

    fn integer(&mut self) -> Result<i64, DecodeError> {
        let start = self.offset;
        let bad = DecodeError { offset: start, kind: DecodeErrorKind::BadInteger };
        self.skip(1);
        let digits = self.until(b'e', INTEGER_LEN_MAX, bad)?;
        let is_canonical = match digits {
            [b'0'] => true,
            [b'-', rest @ ..] | rest => {
                rest.first().is_some_and(|first| (b'1'..=b'9').contains(first))
            }
        };
        let text = std::str::from_utf8(digits).ok().filter(|_| is_canonical);
        text.and_then(|text| text.parse().ok()).ok_or(bad)
    }

    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let bad = DecodeError { offset: self.offset, kind: DecodeErrorKind::BadLength };
        let digits = self.until(b':', INTEGER_LEN_MAX, bad)?;
        let is_canonical =
            digits == b"0" || digits.first().is_some_and(|first| (b'1'..=b'9').contains(first));
        let text = std::str::from_utf8(digits)
            .ok()
            .filter(|_| is_canonical && digits.iter().all(u8::is_ascii_digit));
        let len: usize = text.and_then(|text| text.parse().ok()).ok_or(bad)?;
        let end = self.offset.checked_add(len).ok_or(bad)?;
        let bytes = self.bytes.get(self.offset..end);
        let truncated = DecodeError { offset: self.bytes.len(), kind: DecodeErrorKind::Truncated };
        self.offset = end;
        bytes.ok_or(truncated)
    }

    /// What comes before `stop`, which must be near; both are passed over.
    fn until(
        &mut self,
        stop: u8,
        len_max: usize,
        bad: DecodeError,
    ) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let window = rest.get(..len_max).unwrap_or(rest);
        match window.iter().position(|byte| *byte == stop) {
            Some(len) => {
                self.skip(len.saturating_add(1));
                Ok(rest.get(..len).unwrap_or_default())
            }
            None if window.len() < len_max => {
                Err(DecodeError { offset: self.bytes.len(), kind: DecodeErrorKind::Truncated })
            }
            None => Err(bad),
        }
    }

    fn peek(&self) -> Result<u8, DecodeError> {
        self.bytes.get(self.offset).copied().ok_or_else(|| self.error(DecodeErrorKind::Truncated))
    }

    const fn skip(&mut self, count: usize) {
        self.offset = self.offset.saturating_add(count);
    }

    const fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { offset: self.offset, kind }
    }
}

/// An `i64` with its sign and the closing letter.
const INTEGER_LEN_MAX: usize = 21;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Rng;
    use crate::bencode::{OwnedValue, encode};

    fn kind_of(bytes: &[u8]) -> (usize, DecodeErrorKind) {
        let error = decode(bytes).expect_err("not bencode");
        (error.offset, error.kind)
    }

    #[test]
    fn reads_each_kind() {
        assert_eq!(decode(b"i-42e"), Ok(Value::Integer(-42)));
        assert_eq!(decode(b"0:"), Ok(Value::Bytes(b"")));
        assert_eq!(decode(b"le"), Ok(Value::List(Vec::new())));
        let value = decode(b"d1:ali1ei2ee1:b3:xyze").expect("bencode");
        let dict = value.as_dict().expect("a dictionary");
        assert_eq!(dict.raw(b"a"), Some(&b"li1ei2ee"[..]));
        assert_eq!(dict.get(b"b").and_then(Value::as_str), Some("xyz"));
        assert_eq!(dict.get(b"c"), None);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        use DecodeErrorKind as Kind;
        for (bytes, expected) in [
            (&b""[..], (0, Kind::Truncated)),
            (b"i12", (3, Kind::Truncated)),
            (b"5:abc", (5, Kind::Truncated)),
            (b"d1:a", (4, Kind::Truncated)),
            (b"x", (0, Kind::NotBencode)),
            (b"li1ex", (4, Kind::NotBencode)),
            (b"i03e", (0, Kind::BadInteger)),
            (b"i-0e", (0, Kind::BadInteger)),
            (b"ie", (0, Kind::BadInteger)),
            (b"i1-2e", (0, Kind::BadInteger)),
            (b"i9223372036854775808e", (0, Kind::BadInteger)),
            (b"i99999999999999999999999999999e", (0, Kind::BadInteger)),
            (b"01:a", (0, Kind::BadLength)),
            (b"1-:a", (0, Kind::BadLength)),
            (b"99999999999999999999:a", (0, Kind::BadLength)),
            (b"di1ei2ee", (1, Kind::KeyNotBytes)),
            (b"d1:bi1e1:ai1ee", (7, Kind::KeyOrder)),
            (b"d1:ai1e1:ai1ee", (7, Kind::DuplicateKey)),
            (b"i1ei2e", (3, Kind::TrailingBytes)),
            (b"l", (1, Kind::Truncated)),
            (b"li1e", (4, Kind::Truncated)),
            (b"d", (1, Kind::Truncated)),
            (b"d1:ai1e", (7, Kind::Truncated)),
            (b"e", (0, Kind::NotBencode)),
            (b"i+1e", (0, Kind::BadInteger)),
            (b"i 1e", (0, Kind::BadInteger)),
            (b"i--1e", (0, Kind::BadInteger)),
            (b"i-e", (0, Kind::BadInteger)),
            (b"i1.5e", (0, Kind::BadInteger)),
            (b"i-9223372036854775809e", (0, Kind::BadInteger)),
            (b"-1:a", (0, Kind::NotBencode)),
            (b"00:", (0, Kind::BadLength)),
            (b"18446744073709551615:a", (0, Kind::BadLength)),
            (b"4294967296:a", (12, Kind::Truncated)),
            (b"5abcde", (6, Kind::Truncated)),
        ] {
            assert_eq!(kind_of(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(kind_of(&[b'l'; 1_000_000]).1, Kind::TooDeep);
    }

    #[test]
    fn what_follows_a_value_is_left_to_the_caller() {
        let bytes = b"d1:ai1eei2eleftover";
        let (first, end) = decode_prefix(bytes, Limits::default()).expect("bencode");
        assert_eq!((first.as_dict().map(|dict| dict.iter().count()), end), (Some(1), 8));
        let (second, len) = decode_prefix(&bytes[end..], Limits::default()).expect("bencode");
        assert_eq!((second, &bytes[end + len..]), (Value::Integer(2), &b"leftover"[..]));
    }

    #[test]
    fn depth_is_counted_and_not_a_level_more() {
        let nested = |depth| [b"l".repeat(depth), b"e".repeat(depth)].concat();
        assert!(decode(&nested(32)).is_ok());
        assert_eq!(kind_of(&nested(33)), (32, DecodeErrorKind::TooDeep));
    }

    #[test]
    fn the_largest_and_smallest_integers_are_read() {
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(decode(format!("i{number}e").as_bytes()), Ok(Value::Integer(number)));
        }
    }

    #[test]
    fn unsorted_keys_are_read_if_wanted_but_never_twice_the_same() {
        let limits = Limits { keys_in_order: false, ..Limits::default() };
        let (value, end) = decode_prefix(b"d1:bi1e1:ai2eejunk", limits).expect("bencode");
        assert_eq!(
            (value.as_dict().and_then(|dict| dict.get(b"a")), end),
            (Some(&Value::Integer(2)), 14)
        );
        let error = decode_prefix(b"d1:bi1e1:ai2e1:bi3ee", limits).expect_err("twice b");
        assert_eq!(error.kind, DecodeErrorKind::DuplicateKey);
    }

    #[test]
    fn counts_what_it_reads() {
        let bytes = [b"l".to_vec(), b"i1e".repeat(100), b"e".to_vec()].concat();
        let limits = Limits { items: 50, ..Limits::default() };
        assert_eq!(
            decode_prefix(&bytes, limits).expect_err("too many").kind,
            DecodeErrorKind::TooManyItems
        );
    }

    #[test]
    fn survives_noise() {
        let alphabet = b"ilde0123456789:-abc";
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let bytes: Vec<u8> =
                (0..rng.below(60)).map(|_| alphabet[rng.below(alphabet.len())]).collect();
            if let Ok(value) = decode(&bytes) {
                assert_eq!(encode(&owned(&value)), bytes);
            }
        }
    }

    #[test]
    fn survives_mutations() {
        let valid = b"d1:ali1ei-22ee2:bb3:xyz1:cd1:dle1:ei0eee";
        let unsorted = Limits { keys_in_order: false, ..Limits::default() };
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.to_vec();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] =
                    if rng.below(2) == 0 { valid[rng.below(valid.len())] } else { rng.u32() as u8 };
            }
            if let Ok(value) = decode(&bytes) {
                assert_eq!(encode(&owned(&value)), bytes);
            }
            if let Ok((value, end)) = decode_prefix(&bytes, unsorted) {
                assert_eq!(encode(&owned(&value)).len(), end, "order changes no length");
            }
        }
    }

    fn owned(value: &Value<'_>) -> OwnedValue {
        match value {
            Value::Integer(number) => OwnedValue::Integer(*number),
            Value::Bytes(bytes) => OwnedValue::Bytes(bytes.to_vec()),
            Value::List(items) => OwnedValue::List(items.iter().map(owned).collect()),
            Value::Dict(dict) => OwnedValue::Dict(
                dict.iter().map(|(key, value)| (key.to_vec(), owned(value))).collect(),
            ),
        }
    }

    fn any_value() -> impl Strategy<Value = OwnedValue> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(OwnedValue::Integer),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(OwnedValue::Bytes),
        ];
        leaf.prop_recursive(4, 50, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(OwnedValue::List),
                proptest::collection::btree_map(
                    proptest::collection::vec(any::<u8>(), 0..5),
                    inner,
                    0..5
                )
                .prop_map(OwnedValue::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn there_and_back(value in any_value()) {
            let bytes = encode(&value);
            prop_assert_eq!(owned(&decode(&bytes).expect("canonical")), value);
        }
    }
}
