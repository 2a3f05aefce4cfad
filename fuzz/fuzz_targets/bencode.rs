//! Bencode: what decodes in the canonical form encodes to the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::bencode::{Limits, OwnedValue, Value, decode, decode_prefix, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = decode(bytes) {
        assert_eq!(encode(&owned(&value)), bytes, "the canonical form is the only one");
    }
    let limits = Limits { keys_in_order: false, depth: 8, items: 1000 };
    if let Ok((value, end)) = decode_prefix(bytes, limits) {
        let canonical = encode(&owned(&value));
        assert_eq!(canonical.len(), end, "sorting keys changes no length");
        assert_eq!(decode(&canonical).map(|value| owned(&value)), Ok(owned(&value)));
    }
});

fn owned(value: &Value<'_>) -> OwnedValue {
    match value {
        Value::Integer(number) => OwnedValue::Integer(*number),
        Value::Bytes(bytes) => OwnedValue::Bytes(bytes.to_vec()),
        Value::List(items) => OwnedValue::List(items.iter().map(owned).collect()),
        Value::Dict(dict) => {
            OwnedValue::Dict(dict.iter().map(|(key, value)| (key.to_vec(), owned(value))).collect())
        }
    }
}
