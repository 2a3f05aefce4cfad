//! Octets as letters, for nonces and PEM ([RFC 4648](https://www.rfc-editor.org/rfc/rfc4648), section 4).

/// With padding, and without line ends.
pub(crate) fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &octet| bits << 8 | u32::from(octet));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            // n octets fill n + 1 letters.
            let letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > group.len() { '=' } else { letter.into() });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_examples_of_the_rfc() {
        let cases = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (len, text) in cases.iter().enumerate() {
            assert_eq!(encode(&b"foobar"[..len]), *text);
        }
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
    }
}
