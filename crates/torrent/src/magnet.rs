//! Magnet links ([BEP 9], [BEP 53]): a torrent named by its hash, and hints where to find it.
//!
//! ```text
//! magnet:?xt=urn:btih:<40 hex or 32 base32>&xt=urn:btmh:1220<64 hex>
//!        &dn=<name>&xl=<bytes>&tr=<tracker>&ws=<web seed>&x.pe=<host:port>&so=<files>
//! ```
//!
//! At least one of the two `xt` must be there; with both it is a hybrid. Keys that nobody knows are
//! passed over, as are topics of other networks.
//!
//! [BEP 9]: https://www.bittorrent.org/beps/bep_0009.html
//! [BEP 53]: https://www.bittorrent.org/beps/bep_0053.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::metainfo::Metainfo;
use crate::{InfoHash, InfoHashV2, InfoHashes};

/// What a magnet link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// The torrent's names among machines (`xt`): one at least.
    pub info_hashes: InfoHashes,
    /// Its name among people, until the torrent itself says (`dn`).
    pub name: Option<String>,
    /// The length of all files, in bytes (`xl`).
    pub len: Option<u64>,
    /// Trackers in tiers (`tr`). Each `tr` is a tier of its own; `tr.1` and the like share the tier of
    /// their number.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (`ws`, BEP 19).
    pub web_seeds: Vec<String>,
    /// Peers: a host or an address, and a port (`x.pe`).
    pub peers: Vec<(String, u16)>,
    /// The files that are wanted, by their index (`so`, BEP 53); empty: all.
    pub select: Vec<RangeInclusive<u32>>,
}

/// Why text is not a magnet link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// It does not begin as one.
    #[error("not a magnet link: it should begin with `magnet:?`")]
    NotAMagnet,
    /// It is longer than 64 KiB.
    #[error("a magnet link of more than 64 KiB")]
    TooLong,
    /// It names no torrent.
    #[error("the magnet link names no torrent: `xt=urn:btih:` or `xt=urn:btmh:` is missing")]
    NoInfoHash,
    /// It names more than one torrent.
    #[error("the magnet link names two torrents in `{0}`")]
    TwoTorrents(&'static str),
    /// A part is not what it should be.
    #[error("`{part}` of the magnet link: {why}")]
    Part {
        /// Its key.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A part is there too often.
    #[error("more than {max} of `{part}` in the magnet link")]
    TooMany {
        /// Its key.
        part: &'static str,
        /// How many there may be.
        max: usize,
    },
}

impl Magnet {
    /// A link that has nothing but the torrent's names.
    pub const fn new(info_hashes: InfoHashes) -> Self {
        Self {
            info_hashes,
            name: None,
            len: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select: Vec::new(),
        }
    }

    /// The link to a torrent.
    pub fn of(metainfo: &Metainfo) -> Self {
        Self {
            name: Some(metainfo.name().to_owned()),
            len: Some(metainfo.layout().total_len()),
            trackers: metainfo.trackers().to_vec(),
            web_seeds: metainfo.web_seeds().to_vec(),
            ..Self::new(metainfo.info_hashes())
        }
    }

    /// A bare info hash, as people pass it on: 40 hexadecimal or 32 base32 digits, or 64 hexadecimal
    /// digits for version 2.
    pub fn from_info_hash(text: &str) -> Option<Self> {
        let v1 = info_hash(text);
        let v2 = if v1.is_none() { text.parse().ok() } else { None };
        (v1.is_some() || v2.is_some()).then(|| Self::new(InfoHashes { v1, v2 }))
    }

    /// A priority for each of `files` files, as `so` wants it: 4 for those that are selected, 0 for
    /// others. Empty if there is no `so`, or it selects none of them.
    pub fn priorities(&self, files: usize) -> Vec<u8> {
        let is_selected = |index: usize| {
            u32::try_from(index)
                .is_ok_and(|index| self.select.iter().any(|range| range.contains(&index)))
        };
        if !(0..files).any(is_selected) {
            return Vec::new();
        }
        (0..files).map(|index| if is_selected(index) { 4 } else { 0 }).collect()
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > LINK_LEN_MAX {
            return Err(MagnetError::TooLong);
        }
        let is_magnet = |head: &&str| head.eq_ignore_ascii_case(SCHEME);
        text.get(..SCHEME.len()).filter(is_magnet).ok_or(MagnetError::NotAMagnet)?;
        let mut magnet = Self::new(InfoHashes { v1: None, v2: None });
        let mut tiers = Tiers::default();
        for part in text.get(SCHEME.len()..).unwrap_or_default().split('&') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            // Links are copied out of web pages with their `&amp;`.
            let key = key.strip_prefix("amp;").unwrap_or(key).to_ascii_lowercase();
            // Several of a kind may be numbered: `xt.1`, `x.pe.2`.
            let (kind, number) = split_number(&key);
            if !value.is_empty() {
                magnet.take(kind, number, value, &mut tiers)?;
            }
        }
        if magnet.info_hashes.v1.is_none() && magnet.info_hashes.v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        magnet.trackers = tiers.of.into_values().collect();
        Ok(magnet)
    }
}

/// Trackers as they are read, by their place among the tiers.
#[derive(Debug, Default)]
struct Tiers {
    /// Numbered ones come first, in the order of their numbers, then the others in that of the link.
    of: BTreeMap<(Option<u32>, usize), Vec<String>>,
    count: usize,
}

impl Tiers {
    fn add(&mut self, number: Option<u32>, url: String) -> Result<(), MagnetError> {
        if self.of.values().flatten().any(|known| *known == url) {
            return Ok(());
        }
        self.count = self.count.saturating_add(1);
        if self.count > TRACKERS_MAX {
            return Err(MagnetError::TooMany { part: "tr", max: TRACKERS_MAX });
        }
        let place = if number.is_some() { 0 } else { self.count };
        self.of.entry((number, place)).or_default().push(url);
        Ok(())
    }
}

impl Magnet {
    fn take(
        &mut self,
        kind: &str,
        number: Option<u32>,
        value: &str,
        tiers: &mut Tiers,
    ) -> Result<(), MagnetError> {
        match kind {
            "xt" => self.take_topic(&decoded("xt", value)?),
            "dn" => {
                // Some write a space as in forms, and names that were never encoded.
                let name = value.replace('+', " ");
                let name = percent_decode(&name).unwrap_or(name);
                self.name = Some(name.chars().take(NAME_CHARS_MAX).collect());
                Ok(())
            }
            "xl" => {
                let len = value.parse().ok();
                self.len = Some(len.ok_or_else(|| wrong("xl", "a number of bytes is wanted"))?);
                Ok(())
            }
            "tr" => tiers.add(number, decoded("tr", value)?),
            "ws" => push("ws", &mut self.web_seeds, decoded("ws", value)?, WEB_SEEDS_MAX),
            "x.pe" => {
                let peer = host_and_port(&decoded("x.pe", value)?);
                let help =
                    "a host and a port are wanted, as in 192.0.2.1:6881 or [2001:db8::1]:6881";
                push("x.pe", &mut self.peers, peer.ok_or_else(|| wrong("x.pe", help))?, PEERS_MAX)
            }
            "so" => {
                for range in decoded("so", value)?.split(',').filter(|range| !range.is_empty()) {
                    let help = "numbers of files are wanted, as in 0,2,4-6";
                    let range = file_range(range).ok_or_else(|| wrong("so", help))?;
                    push("so", &mut self.select, range, RANGES_MAX)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_topic(&mut self, topic: &str) -> Result<(), MagnetError> {
        let lower = topic.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("urn:btih:") {
            let help = "40 hexadecimal or 32 base32 digits are wanted after urn:btih:";
            let hash = info_hash(digits).ok_or_else(|| wrong("xt", help))?;
            if self.info_hashes.v1.replace(hash).is_some_and(|before| before != hash) {
                return Err(MagnetError::TwoTorrents("xt=urn:btih:"));
            }
        } else if let Some(digits) = lower.strip_prefix("urn:btmh:") {
            // A multihash: 12 is SHA-256, 20 is 32 bytes.
            let help = "1220 and 64 hexadecimal digits are wanted after urn:btmh:";
            let hash = digits.strip_prefix("1220").and_then(|digits| digits.parse().ok());
            let hash: InfoHashV2 = hash.ok_or_else(|| wrong("xt", help))?;
            if self.info_hashes.v2.replace(hash).is_some_and(|before| before != hash) {
                return Err(MagnetError::TwoTorrents("xt=urn:btmh:"));
            }
        }
        Ok(())
    }
}

impl Display for Magnet {
    /// The link. Trackers lose their tiers: many programs pass over a numbered `tr.1`, and would ask none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        let InfoHashes { v1, v2 } = self.info_hashes;
        let v1 = v1.map(|hash| format!("urn:btih:{hash}"));
        let v2 = v2.map(|hash| format!("urn:btmh:1220{hash}"));
        let mut separator = "";
        for topic in [v1, v2].into_iter().flatten() {
            write!(f, "{separator}xt={topic}")?;
            separator = "&";
        }
        if let Some(name) = &self.name {
            write!(f, "&dn={}", Encoded(name))?;
        }
        if let Some(len) = self.len {
            write!(f, "&xl={len}")?;
        }
        let mut trackers = self.trackers.iter().flatten();
        trackers.try_for_each(|url| write!(f, "&tr={}", Encoded(url)))?;
        self.web_seeds.iter().try_for_each(|url| write!(f, "&ws={}", Encoded(url)))?;
        for (host, port) in &self.peers {
            if host.contains(':') {
                write!(f, "&x.pe=[{host}]:{port}")?;
            } else {
                write!(f, "&x.pe={}:{port}", Encoded(host))?;
            }
        }
        let mut separator = "&so=";
        for range in &self.select {
            write!(f, "{separator}{}", range.start())?;
            if range.end() > range.start() {
                write!(f, "-{}", range.end())?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Text as a value of a link.
struct Encoded<'a>(&'a str);

impl Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

const fn wrong(part: &'static str, why: &'static str) -> MagnetError {
    MagnetError::Part { part, why }
}

fn push<T>(part: &'static str, list: &mut Vec<T>, item: T, max: usize) -> Result<(), MagnetError> {
    if list.len() >= max {
        return Err(MagnetError::TooMany { part, max });
    }
    list.push(item);
    Ok(())
}

/// `tr.2` is the second of `tr`.
fn split_number(key: &str) -> (&str, Option<u32>) {
    let split = key.rsplit_once('.').and_then(|(kind, end)| Some((kind, end.parse().ok()?)));
    split.map_or((key, None), |(kind, number)| (kind, Some(number)))
}

fn decoded(part: &'static str, value: &str) -> Result<String, MagnetError> {
    percent_decode(value)
        .ok_or_else(|| wrong(part, "a % without two hexadecimal digits, or no UTF-8"))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high << 4 | low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// 40 hexadecimal digits, or 32 of base32 as older links have them.
fn info_hash(digits: &str) -> Option<InfoHash> {
    if digits.len() != BASE32_LEN {
        return digits.parse().ok();
    }
    let mut bytes = [0; 20];
    let (groups, _) = digits.as_bytes().as_chunks::<8>();
    for (group, out) in groups.iter().zip(bytes.as_chunks_mut::<5>().0) {
        let mut bits = 0_u64;
        for &digit in group {
            let value = match digit.to_ascii_lowercase() {
                letter @ b'a'..=b'z' => letter.wrapping_sub(b'a'),
                number @ b'2'..=b'7' => number.wrapping_sub(b'2').wrapping_add(26),
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        *out = *bits.to_be_bytes().last_chunk()?;
    }
    Some(InfoHash(bytes))
}

/// `host:1`, `10.0.0.1:1`, `[::1]:1`.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port > 0)?;
    if let Some(inside) = host.strip_prefix('[') {
        let ip: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some((ip.to_string(), port));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = !host.is_empty() && host.len() <= HOST_LEN_MAX && host.chars().all(is_name);
    is_host.then(|| (host.to_owned(), port))
}

/// `3`, `3-5`.
fn file_range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

const SCHEME: &str = "magnet:?";
const LINK_LEN_MAX: usize = 64 * 1024;
const NAME_CHARS_MAX: usize = 255;
const TRACKERS_MAX: usize = 200;
const WEB_SEEDS_MAX: usize = 100;
const PEERS_MAX: usize = 200;
const RANGES_MAX: usize = 1000;
const BASE32_LEN: usize = 32;
/// The longest that the domain name system allows.
const HOST_LEN_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const V1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
    const V2: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(text: &str) -> Result<Magnet, MagnetError> {
        text.parse()
    }

    fn with(rest: &str) -> Result<Magnet, MagnetError> {
        parse(&format!("magnet:?xt=urn:btih:{V1}{rest}"))
    }

    fn full() -> String {
        format!(
            "magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}&dn=a%20name%20%C3%A9&xl=123\
             &tr=http%3A%2F%2Ft%2Fannounce&tr=udp%3A%2F%2Fu%3A1&ws=http%3A%2F%2Fw%2F\
             &x.pe=10.0.0.1:6881&x.pe=[2001:db8::1]:1&x.pe=peer.example:9&so=0,2,4-6"
        )
    }

    #[test]
    fn every_part_is_read_and_written_as_it_was() {
        let magnet = parse(&full()).expect("a link");
        assert_eq!(magnet.info_hashes.v1, V1.parse().ok());
        assert_eq!(magnet.info_hashes.v2, V2.parse().ok());
        assert_eq!(magnet.name.as_deref(), Some("a name é"));
        assert_eq!(magnet.len, Some(123));
        assert_eq!(magnet.trackers, [["http://t/announce"], ["udp://u:1"]]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
        let host = |host: &str, port| (host.to_owned(), port);
        let peers = [host("10.0.0.1", 6881), host("2001:db8::1", 1), host("peer.example", 9)];
        assert_eq!(magnet.peers, peers);
        assert_eq!(magnet.select, [0..=0, 2..=2, 4..=6]);
        assert_eq!(magnet.to_string(), full());
    }

    #[test]
    fn a_hash_may_be_hexadecimal_or_base32_in_any_case_or_bare() {
        let expected = InfoHash::of(b"abc");
        let base32 = "vgmt4nsha2awvor6evyxquggnson6n3v";
        // Not that of `abc`: only its digits matter.
        let other = info_hash(base32).expect("base32").to_string();
        for text in [V1.to_owned(), V1.to_uppercase()] {
            assert_eq!(
                parse(&format!("magnet:?xt=urn:btih:{text}")).expect("hex").info_hashes.v1,
                Some(expected)
            );
            assert_eq!(Magnet::from_info_hash(&text).expect("bare").info_hashes.v1, Some(expected));
        }
        for text in [base32.to_owned(), base32.to_uppercase()] {
            let found =
                parse(&format!("MAGNET:?xt=URN:BTIH:{text}")).expect("base32").info_hashes.v1;
            assert_eq!(found.map(|hash| hash.to_string()), Some(other.clone()));
        }
        assert_eq!(info_hash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Some(InfoHash([0; 20])));
        assert_eq!(info_hash("77777777777777777777777777777777"), Some(InfoHash([0xff; 20])));
        assert_eq!(
            info_hash("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"),
            Some({
                let mut last = [0; 20];
                last[19] = 1;
                InfoHash(last)
            })
        );
        assert_eq!(
            Magnet::from_info_hash(V2).and_then(|magnet| magnet.info_hashes.v2),
            V2.parse().ok()
        );
        for text in ["", "a9993e", &V1[..39], "1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "é"] {
            assert_eq!(Magnet::from_info_hash(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let part = |result: Result<Magnet, MagnetError>| match result {
            Err(MagnetError::Part { part, .. }) => part,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("http://x/"), Err(MagnetError::NotAMagnet));
        assert_eq!(parse("magnet"), Err(MagnetError::NotAMagnet));
        assert_eq!(parse("magnet:?"), Err(MagnetError::NoInfoHash));
        assert_eq!(parse("magnet:?xt=urn:sha1:ABC&dn=x"), Err(MagnetError::NoInfoHash));
        assert_eq!(part(parse("magnet:?xt=urn:btih:abc")), "xt");
        assert_eq!(part(parse(&format!("magnet:?xt=urn:btmh:1120{V2}"))), "xt");
        let other = "b".repeat(40);
        assert_eq!(
            with(&format!("&xt=urn:btih:{other}")),
            Err(MagnetError::TwoTorrents("xt=urn:btih:"))
        );
        assert!(with(&format!("&xt.2=urn:btih:{V1}")).is_ok(), "the same twice is one");
        assert_eq!(part(with("&tr=%zz")), "tr");
        assert_eq!(part(with("&tr=%e")), "tr");
        assert_eq!(part(with("&ws=%ff")), "ws");
        assert_eq!(part(with("&xl=-1")), "xl");
        for peer in [
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1:99999",
            "::1:5",
            "[10.0.0.1]:5",
            "[::1:5",
            ":5",
            "a b:5",
            "a%00b:5",
        ] {
            assert_eq!(part(with(&format!("&x.pe={peer}"))), "x.pe", "{peer}");
        }
        for select in ["x", "5-2", "1-", "-1", "1-2-3", "99999999999"] {
            assert_eq!(part(with(&format!("&so={select}"))), "so", "{select}");
        }
        assert_eq!(parse(&"x".repeat(LINK_LEN_MAX + 1)), Err(MagnetError::TooLong));
        let many = |part: &str, value: &str, max: usize| {
            with(&(0..=max).map(|number| format!("&{part}={value}{number}")).collect::<String>())
        };
        for (name, value, max) in [
            ("tr", "t", TRACKERS_MAX),
            ("ws", "w", WEB_SEEDS_MAX),
            ("x.pe", "p:1", PEERS_MAX),
            ("so", "", RANGES_MAX),
        ] {
            assert_eq!(
                many(name, value, max),
                Err(MagnetError::TooMany { part: name, max }),
                "{name}"
            );
        }
    }

    #[test]
    fn links_of_the_wild_are_understood() {
        let magnet =
            with("&amp;dn=100%+free&amp;tr=http://a/x?y=1&unknown=1&kt=a&&tr=&x").expect("a link");
        assert_eq!(magnet.name.as_deref(), Some("100% free"));
        assert_eq!(magnet.trackers, [["http://a/x?y=1"]]);
        assert!(
            with(&format!("&dn={}", "n".repeat(9999)))
                .is_ok_and(|magnet| magnet.name.is_some_and(|name| name.len() == NAME_CHARS_MAX))
        );
        assert!(parse(&format!("  magnet:?xt=urn:btih:{V1}\n")).is_ok());
    }

    #[test]
    fn numbered_trackers_share_tiers() {
        let tiers = with("&tr.2=b&tr=z&tr.1=a&tr.2=c&tr.10=d&tr=a").expect("a link").trackers;
        let expected: [&[&str]; 4] = [&["z"], &["a"], &["b", "c"], &["d"]];
        assert_eq!(tiers, expected);
    }

    #[test]
    fn trackers_are_written_as_every_program_reads_them() {
        let written = with("&tr.1=a&tr.1=b&tr=c").expect("a link").to_string();
        assert!(written.ends_with("&tr=c&tr=a&tr=b"), "{written}");
    }

    #[test]
    fn files_are_selected_by_their_index() {
        let magnet = with("&so=0,2,4-6").expect("a link");
        assert_eq!(magnet.priorities(6), [4, 0, 4, 0, 4, 4]);
        assert_eq!(with("").expect("a link").priorities(3), []);
        assert_eq!(
            with("&so=7").expect("a link").priorities(3),
            [],
            "what selects nothing is no wish"
        );
        assert_eq!(with("&so=0-4294967295").expect("a link").priorities(2), [4, 4]);
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = full();
        let alphabet: Vec<char> = "magnet:?xturnbih12%&=.,-[]so é\u{202e}\0".chars().collect();
        for seed in 0..4000 {
            let mut rng = Rng::from_seed(seed);
            let mut text: Vec<char> = valid.chars().collect();
            if seed % 4 == 0 {
                text = "magnet:?".chars().collect();
                text.extend((0..rng.below(100)).map(|_| alphabet[rng.below(alphabet.len())]));
            }
            for _ in 0..=rng.below(4) {
                let at = rng.below(text.len());
                text[at] = alphabet[rng.below(alphabet.len())];
            }
            if let Ok(magnet) = parse(&text.iter().collect::<String>()) {
                let again = parse(&magnet.to_string());
                assert_eq!(again, Ok(magnet), "seed {seed}");
            }
        }
    }
}
