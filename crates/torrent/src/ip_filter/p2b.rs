//! PeerGuardian's [binary lists], versions 1 to 3: IPv4 ranges, all of which ban.
//!
//! [binary lists]: https://sourceforge.net/p/peerguardian/wiki/dev-blocklist-format-p2b/

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::net::Ipv4Addr;

use super::{FaultKind, IpFilterBuilder, Loaded, Place, Rule};

/// Whether a list is of this form.
pub(super) fn is_p2b(list: &[u8]) -> bool {
    list.starts_with(MAGIC)
}

/// Adds every rule, up to where the list is cut off, if it is.
pub(super) fn load(list: &[u8], builder: &mut IpFilterBuilder) -> Loaded {
    let mut reader = Reader { list, offset: MAGIC.len() };
    let mut loaded = Loaded::default();
    let read = match reader.take(1) {
        Some([1]) => labelled(&mut reader, latin_1, builder, &mut loaded),
        Some([2]) => labelled(&mut reader, String::from_utf8_lossy, builder, &mut loaded),
        Some([3]) => indexed(&mut reader, builder, &mut loaded),
        Some([version, ..]) => {
            loaded.take(Place::Byte(MAGIC.len()), Err(FaultKind::Version(*version)));
            Some(())
        }
        Some([]) | None => None,
    };
    if read.is_none() {
        loaded.take(Place::Byte(reader.offset), Err(FaultKind::Truncated));
    }
    loaded
}

/// Versions 1 and 2: each range has its text before it. `None` if the list is cut off.
fn labelled(
    reader: &mut Reader<'_>,
    decode: fn(&[u8]) -> Cow<'_, str>,
    builder: &mut IpFilterBuilder,
    loaded: &mut Loaded,
) -> Option<()> {
    while !reader.is_at_end() {
        let place = Place::Byte(reader.offset);
        let text = decode(reader.string()?);
        let (first, last) = (reader.address()?, reader.address()?);
        let rule = Rule { first: first.into(), last: last.into(), level: 0, text: &text };
        loaded.take(place, builder.add(&rule).map_err(FaultKind::from));
    }
    Some(())
}

/// Version 3: all texts, then ranges that give the number of theirs. `None` if the list is cut off.
fn indexed(
    reader: &mut Reader<'_>,
    builder: &mut IpFilterBuilder,
    loaded: &mut Loaded,
) -> Option<()> {
    let text_count = reader.u32()?;
    // Where each text begins. It has a byte of the list at least, whatever the count says.
    let mut texts = Vec::new();
    for _ in 0..text_count {
        texts.push(u32::try_from(reader.offset).ok()?);
        reader.string()?;
    }
    let range_count = reader.u32()?;
    for _ in 0..range_count {
        let place = Place::Byte(reader.offset);
        let (index, first, last) = (reader.u32()?, reader.address()?, reader.address()?);
        let rule = match texts.get(index as usize) {
            Some(&offset) => {
                let text = reader.list.get(offset as usize..)?;
                // Every range may name the same text, which may be most of the list.
                let text = text.get(..TEXT_READ_MAX).unwrap_or(text);
                let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
                let text = &String::from_utf8_lossy(text);
                let rule = Rule { first: first.into(), last: last.into(), level: 0, text };
                builder.add(&rule).map_err(FaultKind::from)
            }
            None => Err(FaultKind::NoSuchText),
        };
        loaded.take(place, rule);
    }
    Some(())
}

fn latin_1(text: &[u8]) -> Cow<'_, str> {
    text.iter().copied().map(char::from).collect::<String>().into()
}

/// Bytes from the front; `None` at the end.
struct Reader<'a> {
    list: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    const fn is_at_end(&self) -> bool {
        self.offset >= self.list.len()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.offset.checked_add(len)?;
        let bytes = self.list.get(self.offset..end)?;
        self.offset = end;
        Some(bytes)
    }

    /// The bytes up to the next zero, which is passed over.
    fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.list.get(self.offset..)?.iter().position(|byte| *byte == 0)?;
        let text = self.take(len)?;
        self.take(1)?;
        Some(text)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn address(&mut self) -> Option<Ipv4Addr> {
        self.u32().map(Ipv4Addr::from_bits)
    }
}

const MAGIC: &[u8] = b"\xff\xff\xff\xffP2B";
/// More than is kept of any text.
const TEXT_READ_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::ip_filter::{Fault, RuleError};

    fn list(version: u8, body: &[&[u8]]) -> Vec<u8> {
        [MAGIC, &[version], &body.concat()].concat()
    }

    fn rules(list: &[u8]) -> (String, Vec<Fault>) {
        let mut builder = IpFilterBuilder::default();
        let loaded = load(list, &mut builder);
        (builder.build().save(), loaded.first_faults)
    }

    const A_TO_B: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
    const C_TO_D: &[u8] = &[10, 0, 0, 0, 10, 255, 255, 255];

    #[test]
    fn reads_each_version() {
        let expected = "001.002.003.004 - 005.006.007.008 , 000 , caf\u{e9}\n\
                        010.000.000.000 - 010.255.255.255 , 000 , two\n";
        let first = list(1, &[b"caf\xe9\0", A_TO_B, b"two\0", C_TO_D]);
        let second = list(2, &["café\0".as_bytes(), A_TO_B, b"two\0", C_TO_D]);
        let texts = "two\0café\0".as_bytes();
        let (zero, one, two) = ([0; 4], [0, 0, 0, 1], [0, 0, 0, 2]);
        let third = list(3, &[&two, texts, &two, &one, A_TO_B, &zero, C_TO_D]);
        for list in [first, second, third] {
            assert!(is_p2b(&list));
            assert_eq!(rules(&list), (expected.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_is_before_the_cut_is_kept_and_the_cut_told_of() {
        let whole = list(2, &[b"a\0", A_TO_B, b"b\0", C_TO_D]);
        let (saved, faults) = rules(&whole[..whole.len() - 1]);
        assert!(saved.contains("001.002.003.004") && !saved.contains("010."));
        assert_eq!(faults[0].kind, FaultKind::Truncated);
        let counts_lie = list(3, &[&[0xff; 4], b"a\0"]);
        assert_eq!(rules(&counts_lie).1[0].kind, FaultKind::Truncated);
    }

    /// Read anew for each range, it would be 20 GB.
    #[test]
    fn a_long_text_of_many_ranges_is_not_read_to_its_end_for_each() {
        let mut text = vec![b'x'; 4 << 20];
        text.push(0);
        let count = 5000_u32;
        let range = [&[0; 4], A_TO_B].concat();
        let ranges = range.repeat(count as usize);
        let list = list(3, &[&[0, 0, 0, 1], &text, &count.to_be_bytes(), &ranges]);
        let mut builder = IpFilterBuilder::default();
        assert_eq!(load(&list, &mut builder).rule_count, count as usize);
        assert!(builder.build().save().ends_with(&format!(", {}\n", "x".repeat(255))));
    }

    #[test]
    fn says_what_else_is_wrong_and_where() {
        let fault = |offset, kind| vec![Fault { place: Place::Byte(offset), kind }];
        assert_eq!(rules(&list(4, &[])).1, fault(7, FaultKind::Version(4)));
        assert_eq!(rules(MAGIC).1, fault(7, FaultKind::Truncated));
        let reversed = list(1, &[b"\0", &[2, 0, 0, 0, 1, 0, 0, 0]]);
        assert_eq!(rules(&reversed).1, fault(8, FaultKind::Rule(RuleError::Reversed)));
        let no_text = list(3, &[&[0; 4], &[0, 0, 0, 1], &[0; 4], A_TO_B]);
        assert_eq!(rules(&no_text).1, fault(16, FaultKind::NoSuchText));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = list(3, &[&[0, 0, 0, 1], b"a\0", &[0, 0, 0, 1], &[0; 4], A_TO_B]);
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.clone();
            bytes[7] = 1 + rng.below(3) as u8;
            for _ in 0..rng.below(4) {
                let at = 8 + rng.below(bytes.len() - 8);
                bytes[at] = rng.u32() as u8;
            }
            bytes.truncate(rng.below(bytes.len() + 1));
            let mut builder = IpFilterBuilder::default();
            let loaded = load(&bytes, &mut builder);
            assert_eq!(loaded.rule_count, builder.len(), "seed {seed}");
        }
    }
}
