//! Values to bytes, in the canonical form: keys sorted, no leading zeros.

use std::collections::BTreeMap;

/// A value that owns its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedValue {
    /// A whole number.
    Integer(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// Values in order.
    List(Vec<Self>),
    /// Values by key.
    Dict(BTreeMap<Vec<u8>, Self>),
    /// Bytes that are bencode already, put in as they are.
    Raw(Vec<u8>),
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for OwnedValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<i64> for OwnedValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// The canonical bytes of a value.
pub fn encode(value: &OwnedValue) -> Vec<u8> {
    let mut out = Vec::new();
    append(value, &mut out);
    out
}

fn append(value: &OwnedValue, out: &mut Vec<u8>) {
    match value {
        OwnedValue::Integer(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
        OwnedValue::Bytes(bytes) => append_bytes(bytes, out),
        OwnedValue::List(items) => {
            out.push(b'l');
            items.iter().for_each(|item| append(item, out));
            out.push(b'e');
        }
        OwnedValue::Dict(entries) => {
            out.push(b'd');
            for (key, value) in entries {
                append_bytes(key, out);
                append(value, out);
            }
            out.push(b'e');
        }
        OwnedValue::Raw(bytes) => out.extend_from_slice(bytes),
    }
}

fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_text_stays_text_however_much_it_looks_like_a_number() {
        assert_eq!(encode(&"42".into()), b"2:42");
        assert_eq!(encode(&42_i64.into()), b"i42e");
        assert_eq!(encode(&"".into()), b"0:");
    }

    #[test]
    fn keys_come_sorted_by_their_bytes() {
        let keys: [&[u8]; 5] = [b"b", b"a", b"aa", b"B", b"\xff"];
        let entries = keys.map(|key| (key.to_vec(), OwnedValue::Integer(0)));
        assert_eq!(
            encode(&OwnedValue::Dict(entries.into())),
            b"d1:Bi0e1:ai0e2:aai0e1:bi0e1:\xffi0ee"
        );
    }

    #[test]
    fn empty_lists_and_dictionaries_have_a_form() {
        assert_eq!(encode(&OwnedValue::List(Vec::new())), b"le");
        assert_eq!(encode(&OwnedValue::Dict(BTreeMap::new())), b"de");
        assert_eq!(encode(&OwnedValue::Raw(b"i1e".to_vec())), b"i1e");
    }
}
