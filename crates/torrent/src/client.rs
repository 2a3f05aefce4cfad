//! Which program a peer runs, read from the name it gave itself ([BEP 20]).
//!
//! Nothing proves it: a name is what its owner says it is.
//!
//! [BEP 20]: https://www.bittorrent.org/beps/bep_0020.html

use std::fmt;

use Scheme::{KTorrent, Numbers, Pairs, PairsOfNumbers, Transmission};

use crate::PeerId;

/// A program and its version, as a peer id tells. Both are short and printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The program, as its makers write it; of one that nobody knows, its two letters.
    pub name: String,
    /// Its version; empty if the id does not say.
    pub version: String,
}

impl PeerId {
    /// The program that makes ids of this form, if it is a form that we know.
    pub fn client(&self) -> Option<Client> {
        let id = &self.0;
        fixed(id).or_else(|| dashed(id)).or_else(|| spelled(id)).or_else(|| shadow(id))
    }
}

impl fmt::Display for Client {
    /// `Transmission 4.0.6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " {}", self.version) }
    }
}

/// How the four characters of a version are to be read. Letters go on where digits end: `A` is 10.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    /// `4630` is 4.6.3, `4631` is 4.6.3.1; a letter at the end tells the kind of build.
    Numbers,
    /// `0131` is 1.31.
    Pairs,
    /// `0109` is 1.9.
    PairsOfNumbers,
    /// Three numbers and a letter from 4.0 on; before, `2940` is 2.94 and `0072` is 0.72.
    Transmission,
    /// `22B1` is 2.2 beta 1.
    KTorrent,
}

/// `-XXvvvv-`, which nearly everyone uses.
fn dashed(id: &[u8; 20]) -> Option<Client> {
    let [b'-', a, b, version @ .., b'-', _, _, _, _, _, _, _, _, _, _, _, _] = id else {
        return None;
    };
    let version: &[u8; 4] = version.first_chunk()?;
    let letters = [*a, *b];
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'~';
    if !letters.iter().all(is_letter) || !version.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let known = DASHED.iter().find(|(known, ..)| known.as_bytes() == letters);
    let letters = String::from_utf8_lossy(&letters);
    let (name, scheme) = known.map_or((&*letters, Numbers), |(_, name, scheme)| (name, *scheme));
    client(name, read(*version, scheme))
}

fn read(version: [u8; 4], scheme: Scheme) -> String {
    let [a, b, c, d] = version.map(number);
    let text: String = version.iter().copied().map(char::from).collect();
    match (scheme, version) {
        (Numbers, [.., b'1'..=b'9']) => format!("{a}.{b}.{c}.{d}"),
        (Numbers, [.., kind]) => format!("{a}.{b}.{c}{}", build(kind)),
        (Pairs, _) => format!("{}.{}", a * 10 + b, &text[2..]),
        (PairsOfNumbers, _) => format!("{}.{}", a * 10 + b, c * 10 + d),
        (Transmission, [b'0', b'0', b'0', _]) => format!("0.{d}"),
        (Transmission, [b'0', b'0', ..]) => format!("0.{}", &text[2..]),
        (Transmission, [b'0'..=b'3', .., kind]) => {
            format!("{a}.{}{}", &text[1..3], build(kind))
        }
        (Transmission, [.., kind]) => format!("{a}.{b}.{c}{}", build(kind)),
        (KTorrent, [_, _, b'B', _]) => format!("{a}.{b} beta {d}"),
        (KTorrent, [_, _, b'R', _]) => format!("{a}.{b} RC {d}"),
        (KTorrent, [_, _, b'D', _]) => format!("{a}.{b} (development)"),
        (KTorrent, _) => format!("{a}.{b}.{c}"),
    }
}

const fn build(kind: u8) -> &'static str {
    match kind {
        b'B' | b'b' => " (beta)",
        b'A' => " (alpha)",
        b'D' | b'd' | b'X' | b'x' | b'Z' => " (development)",
        _ => "",
    }
}

/// Ids that follow nobody else's custom.
fn fixed(id: &[u8; 20]) -> Option<Client> {
    match id {
        // Three digits of a version below 1, then whether it is stable.
        [
            b'N',
            b'B',
            version @ ..,
            b'S' | b'U' | b'C',
            b'-',
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] if is_digits(version) => client("Net::BitTorrent", format!("0.{}", text(version)?)),
        [b'e', b'x', b'b', b'c', major, minor, b'L', b'O', b'R', b'D', ..] => {
            client("BitLord", format!("{major}.{minor:02}"))
        }
        [b'e', b'x', b'b', b'c', major, minor, ..] | [b'F', b'U', b'T', b'B', major, minor, ..] => {
            client("BitComet", format!("{major}.{minor:02}"))
        }
        [0, version, b'B', b'S', ..] => client("BitSpirit", (*version).max(1).to_string()),
        [b'X', b'B', b'T', a, b, c, kind @ (b'd' | b'-'), ..] if is_digits(&[*a, *b, *c]) => {
            let [a, b, c] = [*a, *b, *c].map(number);
            client("XBT Client", format!("{a}.{b}.{c}{}", build(*kind)))
        }
        [b'T', b'I', b'X', a, b, c, d, ..] if is_digits(&[*a, *b, *c, *d]) => {
            client("Tixati", read([*a, *b, *c, *d], Pairs))
        }
        [b'-', b'F', b'G', a, b, c, d, ..] if is_digits(&[*a, *b, *c, *d]) => {
            client("FlashGet", read([*a, *b, *c, *d], Pairs))
        }
        [b'O', b'P', version @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _]
            if is_digits(version) =>
        {
            client("Opera", format!("build {}", text(version)?))
        }
        [b'-', b'B', b'O', b'W', version @ .., b'-', _, _, _, _, _, _, _, _, _, _, _, _] => {
            client("Bits on Wheels", text(version)?)
        }
        [b'-', b'M', b'L', version @ ..] => client("MLDonkey", text(until_dash(version)?)?),
        _ => {
            let (_, name) = STARTS.iter().find(|(start, _)| id.starts_with(start.as_bytes()))?;
            client(name, String::new())
        }
    }
}

/// A name, then numbers with dashes between them and after the last: `M7-10-5--`, `A2-1-36-0-`.
fn spelled(id: &[u8; 20]) -> Option<Client> {
    let (start, name) = SPELLED.iter().find(|(start, _)| id.starts_with(start.as_bytes()))?;
    let mut numbers = Vec::new();
    let mut rest = &id[start.len()..];
    while numbers.len() < 3 {
        let digits = until_dash(rest)?;
        if !is_digits(digits) || digits.len() > 3 {
            return None;
        }
        numbers.push(text(digits)?);
        rest = &rest[digits.len() + 1..];
    }
    client(name, numbers.join("."))
}

/// A letter, up to five characters of version filled up with dashes, and three dashes: `S58B-----`.
fn shadow(id: &[u8; 20]) -> Option<Client> {
    let [letter, version @ .., b'-', b'-', b'-', _, _, _, _, _, _, _, _, _, _, _] = id else {
        return None;
    };
    let (_, name) = SHADOW.iter().find(|(known, _)| known == letter)?;
    let len = version.iter().position(|byte| *byte == b'-').unwrap_or(version.len());
    let (digits, filling) = version.split_at(len);
    let is_right = len > 0
        && digits.iter().all(u8::is_ascii_alphanumeric)
        && filling.iter().all(|byte| *byte == b'-');
    let numbers = digits.iter().map(|byte| match byte {
        // Here lower case goes on where upper case ends.
        b'a'..=b'z' => u32::from(byte - b'a') + 36,
        _ => number(*byte),
    });
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    is_right.then(|| client(name, numbers.join(".")))?
}

fn client(name: &str, version: String) -> Option<Client> {
    Some(Client { name: name.to_owned(), version })
}

fn number(byte: u8) -> u32 {
    char::from(byte).to_digit(36).unwrap_or(0)
}

fn is_digits(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

fn until_dash(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|byte| *byte == b'-').next().filter(|before| before.len() < bytes.len())
}

/// Bytes as text, if they are printable.
fn text(bytes: &[u8]) -> Option<String> {
    bytes.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Clients by their two letters.
const DASHED: &[(&str, &str, Scheme)] = &[
    ("7T", "aTorrent", Numbers),
    ("AG", "Ares", Numbers),
    ("A~", "Ares", Numbers),
    ("AN", "Ares", Numbers),
    ("AR", "Arctic", Numbers),
    ("AT", "Artemis", Numbers),
    ("AV", "Avicora", Numbers),
    ("AX", "BitPump", Pairs),
    ("AZ", "Azureus", Numbers),
    ("BB", "BitBuddy", Numbers),
    ("BC", "BitComet", Pairs),
    ("BE", "BareTorrent", Numbers),
    ("BF", "Bitflu", Numbers),
    ("BG", "BTG", Numbers),
    ("BI", "BiglyBT", Numbers),
    ("BL", "BitLord", Numbers),
    ("BN", "Baidu Netdisk", Numbers),
    ("BP", "BitTorrent Pro", Numbers),
    ("BR", "BitRocket", Numbers),
    ("BS", "BTSlave", Numbers),
    ("BT", "BitTorrent", Numbers),
    ("BW", "BitTorrent Web", Numbers),
    ("BX", "Bittorrent X", Numbers),
    ("CD", "Enhanced CTorrent", Numbers),
    ("CT", "CTorrent", Numbers),
    ("DE", "Deluge", Numbers),
    ("DP", "Propagate Data Client", Numbers),
    ("EB", "EBit", Numbers),
    ("ES", "Electric Sheep", Numbers),
    ("FC", "FileCroc", Numbers),
    ("FD", "Free Download Manager", Numbers),
    ("FL", "Folx", Numbers),
    ("FT", "Flotilla", Numbers),
    ("FW", "FrostWire", Numbers),
    ("FX", "Freebox BitTorrent", Numbers),
    ("GR", "GetRight", Numbers),
    ("GS", "GSTorrent", Numbers),
    ("GT", "anacrolix/torrent", Numbers),
    ("HK", "Hekate", Numbers),
    ("HL", "Halite", Numbers),
    ("HM", "hMule", Numbers),
    ("HN", "Hydranode", Numbers),
    ("IL", "iLivid", Numbers),
    ("JS", "Justseed.it", Numbers),
    ("JT", "JavaTorrent", Numbers),
    ("KG", "KGet", Numbers),
    ("KT", "KTorrent", KTorrent),
    ("LC", "LeechCraft", Numbers),
    ("LH", "LH-ABC", Numbers),
    ("LP", "Lphant", Pairs),
    ("LT", "libtorrent", Numbers),
    ("LW", "LimeWire", Numbers),
    ("MG", "MediaGet", Numbers),
    ("MK", "Meerkat", Numbers),
    ("MO", "MonoTorrent", Numbers),
    ("MP", "MooPolice", Numbers),
    ("MR", "Miro", Numbers),
    ("MT", "MoonlightTorrent", Numbers),
    ("NE", "BT Next Evolution", Numbers),
    ("NX", "Net Transport", Numbers),
    ("OS", "OneSwarm", Numbers),
    ("OT", "OmegaTorrent", Numbers),
    ("PD", "Pando", Numbers),
    ("PI", "PicoTorrent", Numbers),
    ("PT", "Popcorn Time", Numbers),
    ("QD", "QQDownload", Numbers),
    ("QT", "Qt 4 Torrent example", Numbers),
    ("RS", "Rufus", Numbers),
    ("RT", "Retriever", Numbers),
    ("RZ", "RezTorrent", Numbers),
    ("SB", "Swiftbit", Numbers),
    ("SD", "Xunlei", Numbers),
    ("SP", "BitSpirit", Numbers),
    ("SS", "SwarmScope", Numbers),
    ("ST", "SymTorrent", Numbers),
    ("SZ", "Shareaza", Numbers),
    ("S~", "Shareaza beta", Numbers),
    ("TB", "Torch", Numbers),
    ("TL", "Tribler", Numbers),
    ("TN", "TorrentDotNET", Numbers),
    ("TR", "Transmission", Transmission),
    ("TS", "TorrentStorm", Numbers),
    ("TT", "TuoTu", Numbers),
    ("UE", "µTorrent Embedded", Numbers),
    ("UL", "uLeecher!", Numbers),
    ("UM", "µTorrent for Mac", Numbers),
    ("UT", "µTorrent", Numbers),
    ("UW", "µTorrent Web", Numbers),
    ("VG", "Vagaa", Numbers),
    ("WD", "WebTorrent Desktop", PairsOfNumbers),
    ("WT", "BitLet", Numbers),
    ("WW", "WebTorrent", PairsOfNumbers),
    ("WY", "FireTorrent", Numbers),
    ("XF", "Xfplay", Numbers),
    ("XL", "Xunlei", Numbers),
    ("XT", "XanTorrent", Numbers),
    ("XX", "Xtorrent", Numbers),
    ("ZT", "ZipTorrent", Numbers),
    ("lt", "rTorrent (libTorrent)", Numbers),
    ("qB", "qBittorrent", Numbers),
    ("rQ", "rqbit", Numbers),
    ("st", "SharkTorrent", Numbers),
    ("tT", "tTorrent", Numbers),
];

/// Clients by a name before numbers with dashes.
const SPELLED: &[(&str, &str)] =
    &[("A2-", "aria2"), ("Mbrst", "burst!"), ("M", "BitTorrent"), ("Q", "Queen Bee")];

/// Clients by the letter that they begin with, as Shadow's did.
const SHADOW: &[(u8, &str)] = &[
    (b'A', "ABC"),
    (b'O', "Osprey Permaseed"),
    (b'Q', "BTQueue"),
    (b'R', "Tribler"),
    (b'S', "Shadow's client"),
    (b'T', "BitTornado"),
    (b'U', "UPnP NAT Bit Torrent"),
];

/// Clients that say who they are and no version.
const STARTS: &[(&str, &str)] = &[
    ("-aria2-", "aria2"),
    ("-G3", "G3 Torrent"),
    ("346-", "TorrentTopia"),
    ("AZ2500BT", "BitTyrant"),
    ("DNA", "BitTorrent DNA"),
    ("LIME", "LimeWire"),
    ("Pando-", "Pando"),
    ("Plus", "Plus!"),
    ("a00---0", "Swarmy"),
    ("a02---0", "Swarmy"),
    ("btpd", "BT Protocol Daemon"),
    ("martini", "Martini Man"),
    ("turbobt", "TurboBT"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// The client whose id begins so; the rest is filled with `x`.
    fn name(start: &[u8]) -> Option<String> {
        let mut id = [b'x'; 20];
        id[..start.len()].copy_from_slice(start);
        PeerId(id).client().map(|client| client.to_string())
    }

    #[test]
    fn knows_the_clients_of_the_world() {
        for (start, expected) in [
            ("-TR4060-", "Transmission 4.0.6"),
            ("-TR400B-", "Transmission 4.0.0 (beta)"),
            ("-TR3000-", "Transmission 3.00"),
            ("-TR2940-", "Transmission 2.94"),
            ("-TR293Z-", "Transmission 2.93 (development)"),
            ("-TR0072-", "Transmission 0.72"),
            ("-TR0006-", "Transmission 0.6"),
            ("-qB4630-", "qBittorrent 4.6.3"),
            ("-qB5130-", "qBittorrent 5.1.3"),
            ("-LT20A0-", "libtorrent 2.0.10"),
            ("-LT12K0-", "libtorrent 1.2.20"),
            ("-lt0D80-", "rTorrent (libTorrent) 0.13.8"),
            ("-DE13F0-", "Deluge 1.3.15"),
            ("-DE211s-", "Deluge 2.1.1"),
            ("-UT355W-", "µTorrent 3.5.5"),
            ("-UT184B-", "µTorrent 1.8.4 (beta)"),
            ("-UM1870-", "µTorrent for Mac 1.8.7"),
            ("-BT7a5S-", "BitTorrent 7.10.5"),
            ("-AZ5750-", "Azureus 5.7.5"),
            ("-AZ2504-", "Azureus 2.5.0.4"),
            ("-BI2400-", "BiglyBT 2.4.0"),
            ("-BC0131-", "BitComet 1.31"),
            ("-BC0205-", "BitComet 2.05"),
            ("-KT4320-", "KTorrent 4.3.2"),
            ("-KT22B1-", "KTorrent 2.2 beta 1"),
            ("-KT33D0-", "KTorrent 3.3 (development)"),
            ("-WW0109-", "WebTorrent 1.9"),
            ("-WD0024-", "WebTorrent Desktop 0.24"),
            ("-rQ8100-", "rqbit 8.1.0"),
            ("-GT0002-", "anacrolix/torrent 0.0.0.2"),
            ("-FT0100-", "Flotilla 0.1.0"),
            ("-FG0180", "FlashGet 1.80"),
            ("-ZZ1234-", "ZZ 1.2.3.4"),
            ("A2-1-36-0-", "aria2 1.36.0"),
            ("M7-10-5--", "BitTorrent 7.10.5"),
            ("M4-3-6--", "BitTorrent 4.3.6"),
            ("Q1-10-0-", "Queen Bee 1.10.0"),
            ("Mbrst1-1-3-", "burst! 1.1.3"),
            ("S58B-----", "Shadow's client 5.8.11"),
            ("T03I-----", "BitTornado 0.3.18"),
            ("ABC------", "ABC 11.12"),
            ("NB052S-", "Net::BitTorrent 0.052"),
            ("NB074U-", "Net::BitTorrent 0.074"),
            ("TIX0193-", "Tixati 1.93"),
            ("XBT054d-", "XBT Client 0.5.4 (development)"),
            ("XBT054--", "XBT Client 0.5.4"),
            ("OP7685", "Opera build 7685"),
            ("-ML2.7.2-", "MLDonkey 2.7.2"),
            ("-BOWA0C-", "Bits on Wheels A0C"),
            ("346------", "TorrentTopia"),
            ("-G3g3rmz", "G3 Torrent"),
        ] {
            assert_eq!(name(start.as_bytes()).as_deref(), Some(expected), "{start}");
        }
        assert_eq!(name(b"exbc\x00\x46").as_deref(), Some("BitComet 0.70"));
        assert_eq!(name(b"exbc\x01\x00LORD").as_deref(), Some("BitLord 1.00"));
        assert_eq!(name(b"\x00\x03BS").as_deref(), Some("BitSpirit 3"));
        assert_eq!(name(b"\x00\x00BS").as_deref(), Some("BitSpirit 1"));
    }

    #[test]
    fn ours_is_known_as_ours() {
        let ours = PeerId::generate(&mut Rng::from_seed(1));
        assert_eq!(ours.client().map(|client| client.name).as_deref(), Some("Flotilla"));
    }

    #[test]
    fn what_is_of_no_known_form_has_no_name() {
        for start in
            ["", "-", "-TR", "-TR29 0-", "M-----", "M4-3-", "S58B", "NBxyzS-", "-T\x1b1234-"]
        {
            assert_eq!(name(start.as_bytes()), None, "{start}");
        }
        assert_eq!(PeerId([0; 20]).client(), None);
        assert_eq!(PeerId([b'-'; 20]).client(), None);
    }

    #[test]
    fn letters_are_listed_once() {
        let mut letters: Vec<&str> = DASHED.iter().map(|(letters, ..)| *letters).collect();
        assert!(letters.iter().all(|letters| letters.len() == 2));
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), DASHED.len());
    }

    #[test]
    fn any_twenty_bytes_are_safe_and_what_is_shown_is_printable() {
        let starts = ["-TR4060-", "M7-10-5--", "S58B-----", "-ML2.7.2-", "exbc..LORD", "-BOWA0C-"];
        for seed in 0..20_000 {
            let mut rng = Rng::from_seed(seed);
            let mut id: [u8; 20] = rng.bytes();
            let start = starts[rng.below(starts.len())].as_bytes();
            if seed % 4 != 0 {
                id[..start.len()].copy_from_slice(start);
                id[rng.below(10)] = rng.u32() as u8;
            }
            if let Some(client) = PeerId(id).client() {
                let shown = client.to_string();
                assert!(!shown.contains(char::is_control) && shown.len() < 60, "{shown:?}");
            }
        }
    }
}
