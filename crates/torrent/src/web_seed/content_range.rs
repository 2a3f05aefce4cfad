//! `Content-Range`: which bytes of a file an answer has ([RFC 9110, section 14.4]).
//!
//! [RFC 9110, section 14.4]: https://www.rfc-editor.org/rfc/rfc9110#name-content-range

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A run of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte, counted from 0.
    pub first: u64,
    /// The last; not before the first.
    pub last: u64,
    /// How long the whole file is, if the server knows; longer than `last`.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads what a server says, as in `bytes 0-499/1234` or `bytes 0-499/*`. `None` if that is no
    /// range of bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.trim().split_once(' ')?;
        let (range, total) = range.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        let is_sound = unit.eq_ignore_ascii_case("bytes")
            && first <= last
            && total.is_none_or(|total| last < total);
        is_sound.then_some(Self { first, last, total })
    }

    /// How many bytes it is, unless that is more than can be counted.
    pub const fn byte_count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// Digits alone: `parse` would take a sign, too.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(ContentRange::parse("bytes 0-499/1234"), range(0, 499, Some(1234)));
        assert_eq!(ContentRange::parse(" Bytes  5 - 5/* "), range(5, 5, None));
        assert_eq!(range(5, 9, None).map(ContentRange::byte_count), Some(5));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "bytes",
            "bytes */1234",
            "bytes 0-499",
            "bytes 499-0/1234",
            "bytes 0-1234/1234",
            "bytes -1-5/10",
            "bytes +1-5/10",
            "lines 0-1/2",
            "bytes 0-18446744073709551616/*",
            "bytes 0x1-2/3",
            "bytes 0-1/2/3",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn noise_is_a_sound_range_or_none() {
        let alphabet = "bytes 0123456789-/* +x";
        for seed in 0..5000 {
            let mut rng = Rng::from_seed(seed);
            let mut text = String::from(if seed % 2 == 0 { "bytes " } else { "" });
            for _ in 0..rng.below(24) {
                let at = rng.below(alphabet.len());
                text.push_str(alphabet.get(at..=at).expect("in it"));
            }
            if let Some(range) = ContentRange::parse(&text) {
                assert!(range.first <= range.last && range.byte_count() > 0, "{text}");
                assert!(range.total.is_none_or(|total| range.last < total), "{text}");
            }
        }
    }
}
