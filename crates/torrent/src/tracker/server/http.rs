//! Questions that come as HTTP targets, and the bencode that answers them ([BEP 3], [BEP 7],
//! [BEP 21], [BEP 23], [BEP 24], [BEP 48]).
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 7]: https://www.bittorrent.org/beps/bep_0007.html
//! [BEP 21]: https://www.bittorrent.org/beps/bep_0021.html
//! [BEP 23]: https://www.bittorrent.org/beps/bep_0023.html
//! [BEP 24]: https://www.bittorrent.org/beps/bep_0024.html
//! [BEP 48]: https://www.bittorrent.org/beps/bep_0048.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::peer_table::TableReply;
use crate::bencode::{OwnedValue, encode};
use crate::tracker::udp::SCRAPE_MAX;
use crate::tracker::{AnnounceEvent, AnnounceRequest, AnnouncedEncryption, ScrapeEntry};
use crate::{InfoHash, PeerId, compact};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HttpQuestion {
    Announce(Box<AnnounceRequest>, PeersForm),
    Scrape(Vec<InfoHash>),
}

/// How the asker wants to be told of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeersForm {
    /// 6 or 18 bytes each: what everyone wants who does not say `compact=0`.
    Compact,
    /// A dictionary each.
    Dicts,
    /// The same without their names.
    DictsWithoutIds,
}

/// Why a question gets no better answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is nothing here but /announce and /scrape")]
    NotFound,
    #[error("the request is too long")]
    TooLong,
    #[error("`{0}` is missing or not what it should be")]
    Parameter(&'static str),
    #[error("the tracker has no room for another torrent")]
    Full,
}

/// Reads the path and query of a request.
pub(super) fn parse(target: &str) -> Result<HttpQuestion, Refusal> {
    if target.len() > TARGET_LEN_MAX {
        return Err(Refusal::TooLong);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/announce" => announce(Query(query)),
        "/scrape" => scrape(Query(query)),
        _ => Err(Refusal::NotFound),
    }
}

fn announce(query: Query<'_>) -> Result<HttpQuestion, Refusal> {
    let request = AnnounceRequest {
        info_hash: InfoHash(query.twenty_bytes("info_hash")?),
        peer_id: PeerId(query.twenty_bytes("peer_id")?),
        port: query
            .text("port")
            .and_then(|port| port.parse().ok())
            .filter(|port| *port != 0)
            .ok_or(Refusal::Parameter("port"))?,
        uploaded: query.number("uploaded")?.unwrap_or(0),
        downloaded: query.number("downloaded")?.unwrap_or(0),
        left: query.number("left")?.ok_or(Refusal::Parameter("left"))?,
        event: event(query.text("event"))?,
        // Some say -1 for "as many as usual".
        numwant: query.text("numwant").and_then(|numwant| numwant.parse().ok()),
        // Others than us may put any text here.
        key: query.text("key").and_then(|key| u32::from_str_radix(key, 16).ok()).unwrap_or(0),
        tracker_id: query
            .bytes("trackerid")
            .transpose()?
            .filter(|id| id.len() <= TRACKER_ID_LEN_MAX),
        encryption: AnnouncedEncryption::None,
    };
    let form = match (query.text("compact"), query.text("no_peer_id")) {
        (Some("0"), Some("1")) => PeersForm::DictsWithoutIds,
        (Some("0"), _) => PeersForm::Dicts,
        _ => PeersForm::Compact,
    };
    Ok(HttpQuestion::Announce(Box::new(request), form))
}

fn event(text: Option<&str>) -> Result<AnnounceEvent, Refusal> {
    match text {
        // BEP 21: "paused" is said by who has what it wants, and waits.
        None | Some("" | "empty") => Ok(AnnounceEvent::None),
        Some("started") => Ok(AnnounceEvent::Started),
        Some("stopped") => Ok(AnnounceEvent::Stopped),
        Some("completed") => Ok(AnnounceEvent::Completed),
        Some("paused") => Ok(AnnounceEvent::Paused),
        Some(_) => Err(Refusal::Parameter("event")),
    }
}

/// Counts of everything are not for the asking: the answer could be of any length.
fn scrape(query: Query<'_>) -> Result<HttpQuestion, Refusal> {
    let hash = |raw| twenty_bytes(raw).map(InfoHash).ok_or(Refusal::Parameter("info_hash"));
    let hashes: Vec<InfoHash> =
        query.all("info_hash").take(SCRAPE_MAX).map(hash).collect::<Result<_, _>>()?;
    if hashes.is_empty() {
        return Err(Refusal::Parameter("info_hash"));
    }
    Ok(HttpQuestion::Scrape(hashes))
}

/// `key=value&key=value`, not decoded. Of a key that comes twice the first counts.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn all(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(move |(name, value)| (name == key).then_some(value))
    }

    /// The value as it stands: numbers and words need no escapes.
    fn text(self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn number(self, key: &'static str) -> Result<Option<u64>, Refusal> {
        let number = |text: &str| text.parse().ok().ok_or(Refusal::Parameter(key));
        self.text(key).map(number).transpose()
    }

    fn bytes(self, key: &'static str) -> Option<Result<Vec<u8>, Refusal>> {
        self.text(key).map(|raw| unescaped(raw).ok_or(Refusal::Parameter(key)))
    }

    fn twenty_bytes(self, key: &'static str) -> Result<[u8; 20], Refusal> {
        self.text(key).and_then(twenty_bytes).ok_or(Refusal::Parameter(key))
    }
}

fn twenty_bytes(raw: &str) -> Option<[u8; 20]> {
    unescaped(raw)?.try_into().ok()
}

/// Undoes percent-encoding. A `+` is a space, as form encoders write it; who means `+` says `%2B`.
fn unescaped(raw: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        out.push(match byte {
            b'%' => {
                let (&[high, low], after) = rest.split_first_chunk()?;
                rest = after;
                digit(high)? << 4 | digit(low)?
            }
            b'+' => b' ',
            _ => byte,
        });
    }
    Some(out)
}

/// The body that answers an announce of someone at `from`.
pub(super) fn announce_body(
    reply: &TableReply,
    form: PeersForm,
    interval: Duration,
    from: IpAddr,
) -> Vec<u8> {
    let seconds = |wait: Duration| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    let mut entries = vec![
        ("complete", OwnedValue::from(i64::from(reply.counts.complete))),
        ("downloaded", i64::from(reply.counts.downloaded).into()),
        ("external ip", OwnedValue::Bytes(octets(from))),
        ("incomplete", i64::from(reply.counts.incomplete).into()),
        ("interval", seconds(interval).into()),
        ("min interval", seconds(interval.min(MIN_INTERVAL)).into()),
    ];
    match form {
        PeersForm::Compact => {
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            reply.peers.iter().for_each(|(addr, _)| compact::append(*addr, &mut v4, &mut v6));
            entries.push(("peers", OwnedValue::Bytes(v4)));
            if !v6.is_empty() {
                entries.push(("peers6", OwnedValue::Bytes(v6)));
            }
        }
        PeersForm::Dicts | PeersForm::DictsWithoutIds => {
            let peer = |(addr, id): &(SocketAddr, PeerId)| {
                let id = (form == PeersForm::Dicts)
                    .then(|| ("peer id", OwnedValue::Bytes(id.0.to_vec())));
                dict(
                    [
                        ("ip", OwnedValue::from(addr.ip().to_string().as_str())),
                        ("port", i64::from(addr.port()).into()),
                    ]
                    .into_iter()
                    .chain(id),
                )
            };
            entries.push(("peers", OwnedValue::List(reply.peers.iter().map(peer).collect())));
        }
    }
    encode(&dict(entries))
}

/// The body that answers a scrape. Torrents without peers are left out.
pub(super) fn scrape_body(entries: impl IntoIterator<Item = (InfoHash, ScrapeEntry)>) -> Vec<u8> {
    let file = |(hash, counts): (InfoHash, ScrapeEntry)| {
        let counts = [
            ("complete", counts.complete),
            ("downloaded", counts.downloaded),
            ("incomplete", counts.incomplete),
        ];
        let counts = dict(counts.map(|(key, count)| (key, i64::from(count).into())));
        (hash.0.to_vec(), counts)
    };
    let files = OwnedValue::Dict(entries.into_iter().map(file).collect());
    encode(&dict([("files", files)]))
}

/// The body that says no.
pub(super) fn failure_body(refusal: Refusal) -> Vec<u8> {
    encode(&dict([("failure reason", OwnedValue::from(refusal.to_string().as_str()))]))
}

fn dict(entries: impl IntoIterator<Item = (&'static str, OwnedValue)>) -> OwnedValue {
    let entries = entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value));
    OwnedValue::Dict(entries.collect::<BTreeMap<_, _>>())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Room for a scrape of 74 torrents with every byte escaped, in bytes.
const TARGET_LEN_MAX: usize = 8 * 1024;
const TRACKER_ID_LEN_MAX: usize = 256;
const MIN_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::bencode::decode;
    use crate::tracker::TrackerFault;
    use crate::tracker::http as client;

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x00\x01abcdefghijklmn+& \xff"),
            peer_id: PeerId(*b"-FT0100-%%cdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: u64::MAX,
            left: 3,
            event: AnnounceEvent::Completed,
            numwant: Some(50),
            key: 0xab,
            tracker_id: Some(b"x y".to_vec()),
            encryption: AnnouncedEncryption::None,
        }
    }

    /// A request that is valid but for what `change` makes of it.
    fn changed(from: &str, to: &str) -> Result<HttpQuestion, Refusal> {
        let url = client::announce_url("/announce", &request());
        assert!(url.contains(from), "{url}");
        parse(&url.replace(from, to))
    }

    fn reply() -> TableReply {
        let peer = |addr: &str, id: u8| (addr.parse().expect("valid"), PeerId([id; 20]));
        TableReply {
            counts: ScrapeEntry { complete: 1, downloaded: 2, incomplete: 3 },
            peers: vec![peer("10.0.0.1:6881", b'a'), peer("[2001:db8::1]:9", b'b')],
        }
    }

    fn body(form: PeersForm) -> Vec<u8> {
        let from = IpAddr::from([10, 0, 0, 9]);
        announce_body(&reply(), form, Duration::from_secs(900), from)
    }

    #[test]
    fn understands_what_our_client_asks() {
        for event in [
            AnnounceEvent::None,
            AnnounceEvent::Started,
            AnnounceEvent::Stopped,
            AnnounceEvent::Completed,
            AnnounceEvent::Paused,
        ] {
            let asked = AnnounceRequest { event, ..request() };
            let url = client::announce_url("/announce?passkey=1", &asked);
            assert_eq!(
                parse(&url),
                Ok(HttpQuestion::Announce(Box::new(asked), PeersForm::Compact))
            );
        }
        let hashes: Vec<InfoHash> = (0..74).map(|byte| InfoHash([byte; 20])).collect();
        let url = client::scrape_url("/announce", &hashes).expect("by convention");
        assert_eq!(parse(&url), Ok(HttpQuestion::Scrape(hashes)));
    }

    #[test]
    fn understands_what_other_clients_ask() {
        let with = |more: &str| {
            let HttpQuestion::Announce(request, form) =
                changed("&left=3", &format!("&left=3{more}")).expect("valid")
            else {
                panic!("an announce")
            };
            (request, form)
        };
        assert_eq!(changed("%20", "+"), parse(&client::announce_url("/announce", &request())));
        assert_eq!(with("").1, PeersForm::Compact);
        let HttpQuestion::Announce(other, form) =
            changed("&compact=1&key=000000ab&numwant=50", "&compact=0&key=zz&numwant=-1&ip=::1")
                .expect("valid")
        else {
            panic!("an announce")
        };
        assert_eq!((form, other.key, other.numwant), (PeersForm::Dicts, 0, None));
        let HttpQuestion::Announce(_, form) =
            changed("&compact=1", "&compact=0&no_peer_id=1").expect("valid")
        else {
            panic!("an announce")
        };
        assert_eq!(form, PeersForm::DictsWithoutIds);
        assert!(changed("event=completed", "event=paused").is_ok());
    }

    #[test]
    fn says_what_is_wrong_with_a_question() {
        let wrong = |key| Err(Refusal::Parameter(key));
        assert_eq!(changed("info_hash=%00", "info_hash="), wrong("info_hash"));
        assert_eq!(changed("info_hash=%00", "info_hash=%00%00"), wrong("info_hash"));
        assert_eq!(changed("info_hash=%00", "info_hash=%0g"), wrong("info_hash"));
        assert_eq!(changed("peer_id=", "peer="), wrong("peer_id"));
        assert_eq!(changed("port=6881", "port=0"), wrong("port"));
        assert_eq!(changed("port=6881", "port=65536"), wrong("port"));
        assert_eq!(changed("left=3", "left=-3"), wrong("left"));
        assert_eq!(changed("left=3", "l=3"), wrong("left"));
        assert_eq!(changed("uploaded=1", "uploaded=99999999999999999999"), wrong("uploaded"));
        assert_eq!(changed("event=completed", "event=x"), wrong("event"));
        assert_eq!(changed("trackerid=x", "trackerid=%2"), wrong("trackerid"));
        assert_eq!(parse("/scrape"), wrong("info_hash"));
        assert_eq!(parse("/scrape?info_hash=abc"), wrong("info_hash"));
        assert_eq!(parse("/stats"), Err(Refusal::NotFound));
        assert_eq!(parse(&"/".repeat(TARGET_LEN_MAX + 1)), Err(Refusal::TooLong));
        assert_eq!(
            client::parse_announce(&failure_body(Refusal::Parameter("port"))),
            Err(TrackerFault::Refused("`port` is missing or not what it should be".to_owned()))
        );
    }

    #[test]
    fn our_client_understands_every_form_of_answer() {
        for form in [PeersForm::Compact, PeersForm::Dicts, PeersForm::DictsWithoutIds] {
            let body = body(form);
            decode(&body).expect("canonical");
            let read = client::parse_announce(&body).expect("valid");
            let addrs: Vec<SocketAddr> = reply().peers.iter().map(|(addr, _)| *addr).collect();
            assert_eq!(read.peers, addrs);
            assert_eq!((read.complete, read.incomplete), (Some(1), Some(3)));
            assert_eq!((read.interval.as_secs(), read.min_interval), (900, Some(MIN_INTERVAL)));
            assert_eq!(read.external_ip, Some(IpAddr::from([10, 0, 0, 9])));
        }
    }

    #[test]
    fn names_are_given_unless_they_are_not_wanted() {
        let names = |form| {
            let body = body(form);
            let text = String::from_utf8_lossy(&body).into_owned();
            text.matches("7:peer id20:").count()
        };
        assert_eq!((names(PeersForm::Dicts), names(PeersForm::DictsWithoutIds)), (2, 0));
    }

    #[test]
    fn our_client_understands_a_scrape() {
        let counts = ScrapeEntry { complete: 1, downloaded: 2, incomplete: 3 };
        let entries = vec![(InfoHash([1; 20]), counts), (InfoHash([2; 20]), counts)];
        let body = scrape_body(entries.clone());
        decode(&body).expect("canonical");
        assert_eq!(client::parse_scrape(&body), Ok(entries));
        assert_eq!(client::parse_scrape(&scrape_body([])), Ok(Vec::new()));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = client::announce_url("/announce", &request());
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let noise = || "/announce?info_hash=%%+&left=é".to_owned();
            let mut text: Vec<char> =
                if seed % 3 == 0 { noise() } else { valid.clone() }.chars().collect();
            for _ in 0..=rng.below(4) {
                let at = rng.below(text.len());
                text[at] = char::from_u32(rng.u32() % 300).unwrap_or('%');
            }
            // Whether it is a question does not matter: it must not panic.
            parse(&text.iter().collect::<String>()).ok();
        }
    }
}
