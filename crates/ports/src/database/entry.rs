//! Entries: what may be a family, a key and a value, and how much room they take.

use std::collections::BTreeMap;

use super::{DatabaseError, Limit};
use crate::Value;

/// The keys of one family with their values.
pub(super) type Entries = BTreeMap<String, Value>;

/// The families with their entries. None of them is empty.
pub(super) type Families = BTreeMap<String, Entries>;

/// A family that nobody has set anything in.
pub(super) static NOTHING: Entries = Entries::new();

/// The family that says which addresses each node listens on.
pub(super) const LISTENERS: &str = "'l";

/// The family that says which nodes are global.
pub(super) const GLOBALS: &str = "'g";

/// The longest name of a family and the longest key, in bytes.
pub const NAME_LEN_MAX: usize = 1024;

/// The most that one value may weigh: about the bytes it takes on the wire.
pub const VALUE_WEIGHT_MAX: usize = 4 << 20;

/// How deep lists and maps may be nested in a value. What is told of a database wraps a value twice more
/// than what told it to us, and must still be within what any decoder takes.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Checks the name of a family that a program may set.
pub(super) fn check_family(family: &str) -> Result<(), DatabaseError> {
    let mut characters = family.chars();
    let good = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        && family.len() <= NAME_LEN_MAX;
    if good { Ok(()) } else { Err(DatabaseError::Family(family.chars().take(100).collect())) }
}

/// Checks the name of a family that a program may read: those of our own, which begin with `'`, as well.
pub(super) fn check_readable(family: &str) -> Result<(), DatabaseError> {
    check_family(family.strip_prefix('\'').unwrap_or(family))
}

/// Checks an entry before it is let in, whoever brings it.
pub(super) fn check_entry(key: &str, value: &Value) -> Result<(), Limit> {
    if key.len() > NAME_LEN_MAX {
        return Err(Limit { what: "bytes in a key", max: NAME_LEN_MAX });
    }
    if is_deeper(value, VALUE_DEPTH_MAX) {
        return Err(Limit { what: "levels in a value", max: VALUE_DEPTH_MAX });
    }
    if weight(value) > VALUE_WEIGHT_MAX {
        return Err(Limit { what: "bytes in a value", max: VALUE_WEIGHT_MAX });
    }
    Ok(())
}

/// At least the bytes that an entry takes in any framing.
pub(super) fn entry_weight(key: &str, value: &Value) -> usize {
    text_weight(key) + weight(value)
}

/// At least the bytes that a value takes in any framing.
fn weight(value: &Value) -> usize {
    let mut sum = 0;
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        sum += match value {
            Value::Null | Value::Bool(_) => 6,
            Value::Integer(_) | Value::Unsigned(_) => 21,
            Value::Float(_) => 26,
            Value::Text(text) => text_weight(text),
            Value::Bytes(bytes) => {
                HEAD + bytes.iter().map(|&byte| byte_weight(byte)).sum::<usize>()
            }
            Value::List(list) => {
                left.extend(list);
                HEAD
            }
            Value::Map(map) => {
                left.extend(map.values());
                HEAD + map.keys().map(|key| text_weight(key)).sum::<usize>()
            }
        };
    }
    sum
}

fn text_weight(text: &str) -> usize {
    HEAD + text.bytes().map(|byte| if byte < 0x80 { byte_weight(byte) } else { 1 }).sum::<usize>()
}

/// What JSON makes of a byte, which is never less than what CBOR does.
const fn byte_weight(byte: u8) -> usize {
    match byte {
        0..0x20 => 6,
        b'"' | b'\\' | 0x80.. => 2,
        _ => 1,
    }
}

/// For quotes, commas and brackets, or a length.
const HEAD: usize = 10;

fn is_deeper(value: &Value, depth_max: usize) -> bool {
    let mut left = vec![(value, 0)];
    while let Some((value, depth)) = left.pop() {
        match value {
            Value::List(_) | Value::Map(_) if depth == depth_max => return true,
            Value::List(list) => left.extend(list.iter().map(|value| (value, depth + 1))),
            Value::Map(map) => left.extend(map.values().map(|value| (value, depth + 1))),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Bytes(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_letter_and_then_letters_digits_underscores_and_colons() {
        for family in ["a", "Grp_1::x", &"x".repeat(NAME_LEN_MAX)] {
            assert!(check_family(family).is_ok(), "{family:.10}");
        }
        for family in ["", "1a", "_a", "a-b", "'l", "ä", &"x".repeat(NAME_LEN_MAX + 1)] {
            assert!(check_family(family).is_err(), "{family:.10}");
        }
        assert!(check_readable("'l").is_ok());
    }

    #[test]
    fn no_json_text_of_a_value_is_longer_than_its_weight() {
        let value = Value::from(vec![
            "quote\" line\n ü".into(),
            Value::Float(-1.234_567_890_123_456_7e-300),
            i64::MIN.into(),
            u64::MAX.into(),
            false.into(),
            Value::Map([("a\u{1}".to_owned(), Value::Null)].into()),
        ]);
        assert!(value.to_string().len() <= weight(&value));
    }

    #[test]
    fn too_deep_and_too_large_values_are_refused() {
        let nest = |depth| (0..depth).fold(Value::Null, |value, _| Value::List(vec![value]));
        assert!(check_entry("k", &nest(VALUE_DEPTH_MAX)).is_ok());
        assert!(check_entry("k", &nest(VALUE_DEPTH_MAX + 1)).is_err());
        assert!(check_entry("k", &"x".repeat(VALUE_WEIGHT_MAX).into()).is_err());
        assert!(check_entry(&"k".repeat(NAME_LEN_MAX + 1), &Value::Null).is_err());
    }
}
