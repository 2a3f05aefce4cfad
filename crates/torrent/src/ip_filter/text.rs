//! Lists of text, a rule a line, as they are found in the wild: padded with zeros and spaces or not, with
//! comments, blank lines and line ends of DOS, in UTF-8 or Latin-1.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{FaultKind, IpFilterBuilder, Loaded, Place, Rule};

/// Adds every line that is a rule.
pub(super) fn load(list: &[u8], builder: &mut IpFilterBuilder) -> Loaded {
    let list = list.strip_prefix(BYTE_ORDER_MARK).unwrap_or(list);
    let mut loaded = Loaded::default();
    for (line, number) in list.split(|byte| *byte == b'\n').zip(1..) {
        let line = line.trim_ascii();
        if line.is_empty() || COMMENTS.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        loaded.take(Place::Line(number), add(line, builder));
    }
    loaded
}

fn add(line: &[u8], builder: &mut IpFilterBuilder) -> Result<(), FaultKind> {
    let Line { first, last, level, text } =
        dat(line).or_else(|| p2p(line)).ok_or(FaultKind::NotARule)?;
    Ok(builder.add(&Rule { first, last, level, text: &decoded(text) })?)
}

struct Line<'a> {
    first: IpAddr,
    last: IpAddr,
    level: u8,
    text: &'a [u8],
}

/// `first - last , level , text`, where level and text may be missing, and a network or one address may
/// stand for the range; also `network ; text`.
fn dat(line: &[u8]) -> Option<Line<'_>> {
    let end = line.iter().position(|byte| b",;#".contains(byte)).unwrap_or(line.len());
    let (head, rest) = line.split_at_checked(end)?;
    let (first, last) = range(head).or_else(|| address(head).map(|ip| (ip, ip)))?;
    let (level, text) = match rest {
        [] => (0, rest),
        [b',', rest @ ..] => {
            let mut fields = rest.splitn(2, |byte| *byte == b',');
            let level = level(fields.next()?)?;
            (level, fields.next().unwrap_or_default())
        }
        [_, text @ ..] => (0, text),
    };
    Some(Line { first, last, level, text })
}

/// `text:first-last`. Texts have colons in them, and so has IPv6: the range begins after the first colon
/// behind which there is one, and is short.
fn p2p(line: &[u8]) -> Option<Line<'_>> {
    let from = line.len().saturating_sub(RANGE_LEN_MAX);
    let colons = line.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b':');
    colons.map(|(at, _)| at).find_map(|at| {
        let (text, rest) = line.split_at_checked(at)?;
        let (first, last) = range(rest.get(1..)?)?;
        Some(Line { first, last, level: 0, text })
    })
}

/// `first-last` or `address/bits`.
fn range(text: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let split = |separator| {
        let at = text.iter().position(|byte| *byte == separator)?;
        let (before, after) = text.split_at_checked(at)?;
        Some((address(before)?, after.get(1..)?.trim_ascii()))
    };
    if let Some((first, last)) = split(b'-') {
        return Some((first, address(last)?));
    }
    let (ip, bits) = split(b'/')?;
    let bits = number(bits)?;
    match ip {
        IpAddr::V4(ip) => {
            let hosts = u32::MAX.checked_shr(bits).unwrap_or(0);
            let ip = ip.to_bits();
            (bits <= 32).then(|| {
                (Ipv4Addr::from_bits(ip & !hosts).into(), Ipv4Addr::from_bits(ip | hosts).into())
            })
        }
        IpAddr::V6(ip) => {
            let hosts = u128::MAX.checked_shr(bits).unwrap_or(0);
            let ip = ip.to_bits();
            (bits <= 128).then(|| {
                (Ipv6Addr::from_bits(ip & !hosts).into(), Ipv6Addr::from_bits(ip | hosts).into())
            })
        }
    }
}

/// An address; of IPv4 each number may have zeros before it, and is decimal nevertheless.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = text.trim_ascii();
    if text.contains(&b':') {
        return std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    }
    let mut parts = text.split(|byte| *byte == b'.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        *octet = u8::try_from(number(parts.next()?)?).ok()?;
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

/// One to three digits.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A level; none is 0, and above 255 it makes no difference.
fn level(text: &[u8]) -> Option<u8> {
    match text.trim_ascii() {
        [] => Some(0),
        digits => number(digits).map(|level| u8::try_from(level).unwrap_or(u8::MAX)),
    }
}

/// Text of either encoding: what is no UTF-8 is Latin-1.
fn decoded(text: &[u8]) -> String {
    String::from_utf8(text.to_vec())
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const COMMENTS: [&[u8]; 3] = [b"#", b";", b"//"];
/// Two IPv6 addresses of the longest form, with spaces around them.
const RANGE_LEN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::ip_filter::{Fault, RuleError};

    /// The rules of a list as `first last level text`, and its faults.
    fn rules(list: &[u8]) -> (Vec<String>, Vec<Fault>) {
        let mut builder = IpFilterBuilder::default();
        let loaded = load(list, &mut builder);
        let filter = builder.build();
        let shown = filter
            .iter()
            .map(|rule| format!("{} {} {} {}", rule.first, rule.last, rule.level, rule.text));
        (shown.collect(), loaded.first_faults)
    }

    fn rule(line: &str) -> String {
        let (rules, faults) = rules(line.as_bytes());
        assert_eq!((rules.len(), faults), (1, Vec::new()), "{line}");
        rules.concat()
    }

    #[test]
    fn reads_a_line_of_each_form() {
        for (line, expected) in [
            ("001.002.003.004 - 005.006.007.008 , 000 , some text", "1.2.3.4 5.6.7.8 0 some text"),
            ("1.2.3.4-5.6.7.8,99,a, b - c", "1.2.3.4 5.6.7.8 99 a, b - c"),
            ("1.2.3.4 - 5.6.7.8", "1.2.3.4 5.6.7.8 0 "),
            ("1.2.3.4 - 5.6.7.8 ,, text", "1.2.3.4 5.6.7.8 0 text"),
            ("1.2.3.4 - 5.6.7.8 , 999 , far above", "1.2.3.4 5.6.7.8 255 far above"),
            ("010.010.010.010 - 010.010.010.011 , 100 ,", "10.10.10.10 10.10.10.11 100 "),
            ("Some, Inc - dept: 3:1.2.3.4-5.6.7.8", "1.2.3.4 5.6.7.8 0 Some, Inc - dept: 3"),
            ("9.9.9.9:1.2.3.4-5.6.7.8", "1.2.3.4 5.6.7.8 0 9.9.9.9"),
            (":1.2.3.4-5.6.7.8", "1.2.3.4 5.6.7.8 0 "),
            ("six:2001:db8::1-2001:db8::2", "2001:db8::1 2001:db8::2 0 six"),
            ("2001:db8::1-2001:db8::2", "2001:db8::1 2001:db8::2 0 "),
            ("1.2.3.4/24", "1.2.3.0 1.2.3.255 0 "),
            ("1.2.3.4/0", "0.0.0.0 255.255.255.255 0 "),
            ("1.2.3.0/24 ; from somewhere", "1.2.3.0 1.2.3.255 0 from somewhere"),
            ("1.2.3.0/24 # why", "1.2.3.0 1.2.3.255 0 why"),
            ("net:1.2.3.0/24", "1.2.3.0 1.2.3.255 0 net"),
            ("2001:db8::/32", "2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 0 "),
            ("1.2.3.4", "1.2.3.4 1.2.3.4 0 "),
            ("::1", "::1 ::1 0 "),
        ] {
            assert_eq!(rule(line), expected, "{line}");
        }
    }

    #[test]
    fn comments_blank_lines_and_line_ends_of_dos_do_not_matter() {
        let list = b"\xef\xbb\xbf# head\r\n\r\n   \r\n1.1.1.1-1.1.1.1 , 1 , x\r\n// no\r\n; no\r\n\t2.2.2.2/32\r\n";
        let (rules, faults) = rules(list);
        assert_eq!(rules, ["1.1.1.1 1.1.1.1 1 x", "2.2.2.2 2.2.2.2 0 "]);
        assert!(faults.is_empty());
    }

    #[test]
    fn texts_may_be_latin_1_and_never_hold_control_characters() {
        assert_eq!(rules(b"caf\xe9:1.1.1.1-1.1.1.1").0, ["1.1.1.1 1.1.1.1 0 caf\u{e9}"]);
        assert_eq!(rules("café:1.1.1.1-1.1.1.1".as_bytes()).0, ["1.1.1.1 1.1.1.1 0 café"]);
        assert_eq!(rules(b"a\x1b[2Jb:1.1.1.1-1.1.1.1").0, ["1.1.1.1 1.1.1.1 0 a [2Jb"]);
    }

    #[test]
    fn what_is_no_rule_is_told_of_with_its_line() {
        let list = b"1.1.1.1/32\nhello\n1.1.1.256/32\n3.3.3.3-2.2.2.2\n\n1.1.1.1-::1\n1.2.3.0/33\n1.2.3\n2.2.2.2-3.3.3.3,x,y\n-\n:\n";
        let (rules, faults) = rules(list);
        assert_eq!(rules.len(), 1);
        let not_a_rule = FaultKind::NotARule;
        let expected = [
            (2, not_a_rule),
            (3, not_a_rule),
            (4, FaultKind::Rule(RuleError::Reversed)),
            (6, FaultKind::Rule(RuleError::MixedFamilies)),
            (7, not_a_rule),
            (8, not_a_rule),
            (9, not_a_rule),
            (10, not_a_rule),
            (11, not_a_rule),
        ];
        assert_eq!(faults, expected.map(|(line, kind)| Fault { place: Place::Line(line), kind }),);
        assert!(faults[0].to_string().starts_with("line 2: neither"));
    }

    #[test]
    fn a_page_or_a_packed_file_is_no_list() {
        let load = |list: &[u8]| IpFilterBuilder::default().load(list);
        let page = load(b"<!doctype html>\n<p>gone</p>\n").expect_err("no list");
        assert_eq!(page, Fault { place: Place::Line(1), kind: FaultKind::NotARule });
        let packed = load(b"\x1f\x8b\x08\0\0").expect_err("no list");
        assert_eq!(packed.kind, FaultKind::Compressed);
        assert_eq!(load(b""), Ok(Loaded::default()));
    }

    #[test]
    fn a_list_of_nothing_but_faults_is_bounded() {
        let mut builder = IpFilterBuilder::default();
        let loaded = builder.load(&[b"1.1.1.1/32\n".to_vec(), b"x\n".repeat(10_000)].concat());
        let loaded = loaded.expect("a rule");
        assert_eq!((loaded.rule_count, loaded.fault_count), (1, 10_000));
        assert_eq!(loaded.first_faults.len(), 100);
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = b"1.2.3.4-5.6.7.8 , 000 , t\nx:1.2.3.4-5.6.7.8\n::1-::f\n1.2.0.0/16\n";
        let alphabet = b"0123456789.:-/, #;abcf\n\r\xe9";
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.to_vec();
            if seed % 3 == 0 {
                bytes.fill_with(|| alphabet[rng.below(alphabet.len())]);
            }
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            let mut builder = IpFilterBuilder::default();
            load(&bytes, &mut builder);
            let filter = builder.build();
            assert!(filter.iter().all(|rule| !rule.text.contains(char::is_control)));
            let mut again = IpFilterBuilder::default();
            load(filter.save().as_bytes(), &mut again);
            assert_eq!(again.build(), filter, "seed {seed}");
        }
    }
}
