//! Percent-encoding of what goes into URLs.

use std::fmt::Write;

/// Appends `bytes` to a URL; all that is not a letter, a digit or one of `-._~` as `%` and two digits.
pub(crate) fn push_encoded(url: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").expect("a string takes all");
        }
    }
}
