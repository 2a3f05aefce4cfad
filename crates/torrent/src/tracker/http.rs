//! Asking over HTTP ([BEP 3], [BEP 7], [BEP 23], [BEP 48]): the URL to get, and what comes back.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 7]: https://www.bittorrent.org/beps/bep_0007.html
//! [BEP 23]: https://www.bittorrent.org/beps/bep_0023.html
//! [BEP 48]: https://www.bittorrent.org/beps/bep_0048.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, AnnouncedEncryption, PEERS_MAX, ScrapeEntry,
    TrackerFault, sanitised,
};
use crate::bencode::{Dict, Limits, Value, decode_prefix};
use crate::percent::push_encoded;
use crate::{InfoHash, compact};

/// No honest answer is longer, in bytes.
pub const REPLY_LEN_MAX: usize = 1024 * 1024;

/// The URL that announces.
pub fn announce_url(base: &str, request: &AnnounceRequest) -> String {
    let mut url = begin_query(base);
    push(&mut url, "info_hash", &request.info_hash.0);
    push(&mut url, "peer_id", &request.peer_id.0);
    for (key, number) in [
        ("port", request.port.into()),
        ("uploaded", request.uploaded),
        ("downloaded", request.downloaded),
        ("left", request.left),
        ("compact", 1),
    ] {
        push(&mut url, key, number.to_string().as_bytes());
    }
    push(&mut url, "key", format!("{:08x}", request.key).as_bytes());
    if let Some(numwant) = request.numwant {
        push(&mut url, "numwant", numwant.to_string().as_bytes());
    }
    let event = match request.event {
        AnnounceEvent::None => None,
        AnnounceEvent::Started => Some("started"),
        AnnounceEvent::Stopped => Some("stopped"),
        AnnounceEvent::Completed => Some("completed"),
        AnnounceEvent::Paused => Some("paused"),
    };
    if let Some(event) = event {
        push(&mut url, "event", event.as_bytes());
    }
    match request.encryption {
        AnnouncedEncryption::None => {}
        AnnouncedEncryption::Supported => push(&mut url, "supportcrypto", b"1"),
        AnnouncedEncryption::Required => {
            push(&mut url, "supportcrypto", b"1");
            push(&mut url, "requirecrypto", b"1");
        }
    }
    if let Some(id) = &request.tracker_id {
        push(&mut url, "trackerid", id);
    }
    url.pop();
    url
}

/// The URL that asks for counts, if the tracker has one: its path's last part begins with `announce`.
pub fn scrape_url(base: &str, info_hashes: &[InfoHash]) -> Option<String> {
    let (path, query) = base.split_once('?').unwrap_or((base, ""));
    let (folder, last) = path.rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    let question = if query.is_empty() { String::new() } else { format!("?{query}") };
    let mut url = begin_query(&format!("{folder}/scrape{rest}{question}"));
    for hash in info_hashes {
        push(&mut url, "info_hash", &hash.0);
    }
    url.pop();
    Some(url)
}

/// `base`, ready for a key.
fn begin_query(base: &str) -> String {
    let base = base.split_once('#').map_or(base, |(base, _)| base);
    format!("{base}{}", if base.contains('?') { '&' } else { '?' })
}

/// Appends `key=value&`.
fn push(url: &mut String, key: &str, value: &[u8]) {
    url.push_str(key);
    url.push('=');
    push_encoded(url, value);
    url.push('&');
}

/// Reads the answer to an announce.
///
/// # Errors
/// If the tracker refuses, or the answer makes no sense.
pub fn parse_announce(body: &[u8]) -> Result<AnnounceReply, TrackerFault> {
    let value = parse(body)?;
    let dict = value.as_dict().ok_or(TrackerFault::Malformed)?;
    refuse_failure(dict)?;
    let number = |key: &[u8]| dict.get(key).and_then(Value::as_integer);
    let seconds =
        |key| number(key).and_then(|number| u64::try_from(number).ok()).map(Duration::from_secs);
    let count = |key| number(key).and_then(|number| u32::try_from(number).ok());
    let mut peers: Vec<SocketAddr> = match dict.get(b"peers") {
        Some(Value::Bytes(bytes)) => compact::parse_v4(bytes).take(PEERS_MAX).collect(),
        Some(Value::List(list)) => list.iter().filter_map(peer).take(PEERS_MAX).collect(),
        Some(Value::Integer(_) | Value::Dict(_)) => return Err(TrackerFault::Malformed),
        None => Vec::new(),
    };
    if let Some(bytes) = dict.get(b"peers6").and_then(Value::as_bytes) {
        peers.extend(compact::parse_v6(bytes).take(PEERS_MAX.saturating_sub(peers.len())));
    }
    let external_ip =
        dict.get(b"external ip").and_then(Value::as_bytes).and_then(|bytes| match bytes.len() {
            4 => bytes.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
            16 => bytes.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
            _ => None,
        });
    Ok(AnnounceReply {
        interval: seconds(b"interval").unwrap_or(INTERVAL_USUAL),
        min_interval: seconds(b"min interval"),
        complete: count(b"complete"),
        incomplete: count(b"incomplete"),
        peers,
        tracker_id: dict
            .get(b"tracker id")
            .and_then(Value::as_bytes)
            .filter(|id| id.len() <= ID_LEN_MAX)
            .map(<[u8]>::to_vec),
        warning: dict.get(b"warning message").and_then(Value::as_bytes).map(sanitised),
        external_ip,
    })
}

/// Reads the answer to a scrape.
///
/// # Errors
/// As [`parse_announce`].
pub fn parse_scrape(body: &[u8]) -> Result<Vec<(InfoHash, ScrapeEntry)>, TrackerFault> {
    let value = parse(body)?;
    let dict = value.as_dict().ok_or(TrackerFault::Malformed)?;
    refuse_failure(dict)?;
    let files = dict.get(b"files").and_then(Value::as_dict).ok_or(TrackerFault::Malformed)?;
    let entry = |(hash, entry): (&[u8], &Value<'_>)| {
        let entry = entry.as_dict()?;
        let count = |key: &[u8]| {
            entry
                .get(key)
                .and_then(Value::as_integer)
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0)
        };
        let counts = ScrapeEntry {
            complete: count(b"complete"),
            downloaded: count(b"downloaded"),
            incomplete: count(b"incomplete"),
        };
        Some((InfoHash(hash.try_into().ok()?), counts))
    };
    Ok(files.iter().filter_map(entry).collect())
}

fn parse(body: &[u8]) -> Result<Value<'_>, TrackerFault> {
    if body.len() > REPLY_LEN_MAX {
        return Err(TrackerFault::TooLong);
    }
    let limits = Limits { depth: 8, items: 100_000, keys_in_order: false };
    decode_prefix(body, limits).map(|(value, _)| value).ok().ok_or(TrackerFault::Malformed)
}

fn refuse_failure(dict: &Dict<'_>) -> Result<(), TrackerFault> {
    match dict.get(b"failure reason").and_then(Value::as_bytes) {
        Some(reason) => Err(TrackerFault::Refused(sanitised(reason))),
        None => Ok(()),
    }
}

/// A peer in the long form. Some trackers give names for addresses; those are left out.
fn peer(value: &Value<'_>) -> Option<SocketAddr> {
    let dict = value.as_dict()?;
    let ip: IpAddr = dict.get(b"ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(dict.get(b"port")?.as_integer()?).ok()?;
    Some(SocketAddr::new(ip, port))
}

const INTERVAL_USUAL: Duration = Duration::from_secs(1800);
const ID_LEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PeerId, Rng};

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x00\x01abcdefghijklmnop \xff"),
            peer_id: PeerId(*b"-FT0100-abcdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: AnnounceEvent::Started,
            numwant: Some(50),
            key: 0xab,
            tracker_id: Some(b"x y".to_vec()),
            encryption: AnnouncedEncryption::None,
        }
    }

    #[test]
    fn asks_with_every_byte_escaped_that_needs_it() {
        assert_eq!(
            announce_url("http://t/announce", &request()),
            "http://t/announce?info_hash=%00%01abcdefghijklmnop%20%FF&peer_id=-FT0100-abcdefghijkl&port=6881&uploaded=1\
             &downloaded=2&left=3&compact=1&key=000000ab&numwant=50&event=started&trackerid=x%20y"
        );
        let bare = AnnounceRequest {
            event: AnnounceEvent::None,
            numwant: None,
            tracker_id: None,
            ..request()
        };
        let url = announce_url("http://t/a?pass=1#frag", &bare);
        assert!(
            url.starts_with("http://t/a?pass=1&info_hash=") && url.ends_with("&key=000000ab"),
            "{url}"
        );
    }

    #[test]
    fn an_announce_says_started_stopped_or_completed_or_nothing() {
        let event = |event| {
            let url = announce_url("http://t/announce", &AnnounceRequest { event, ..request() });
            url.split('&').find_map(|pair| pair.strip_prefix("event=").map(str::to_owned))
        };
        assert_eq!(event(AnnounceEvent::Started).as_deref(), Some("started"));
        assert_eq!(event(AnnounceEvent::Paused).as_deref(), Some("paused"));
        assert_eq!(event(AnnounceEvent::Stopped).as_deref(), Some("stopped"));
        assert_eq!(event(AnnounceEvent::Completed).as_deref(), Some("completed"));
        assert_eq!(event(AnnounceEvent::None), None);
    }

    #[test]
    fn an_announce_says_whether_peers_may_or_must_encrypt() {
        let crypto = |encryption| {
            let request = AnnounceRequest { encryption, ..request() };
            let url = announce_url("http://t/announce", &request);
            let pairs = url.split('&').filter(|pair| pair.contains("crypto"));
            pairs.collect::<Vec<_>>().join("&")
        };
        assert_eq!(crypto(AnnouncedEncryption::None), "");
        assert_eq!(crypto(AnnouncedEncryption::Supported), "supportcrypto=1");
        assert_eq!(crypto(AnnouncedEncryption::Required), "supportcrypto=1&requirecrypto=1");
    }

    #[test]
    fn scrapes_where_the_convention_allows() {
        let url = |base| scrape_url(base, &[InfoHash([b'a'; 20])]);
        let hash = "a".repeat(20);
        assert_eq!(url("http://t/x/announce"), Some(format!("http://t/x/scrape?info_hash={hash}")));
        assert_eq!(
            url("http://t/announce.php?k=1"),
            Some(format!("http://t/scrape.php?k=1&info_hash={hash}"))
        );
        assert_eq!(url("http://t/a"), None);
    }

    #[test]
    fn reads_both_forms_of_peers() {
        let compact = b"d8:completei5e10:incompletei7e8:intervali900e12:min intervali60e5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x0910:tracker id3:abc15:warning message4:a\nbce";
        let reply = parse_announce(compact).expect("valid");
        let addrs: Vec<String> = reply.peers.iter().map(ToString::to_string).collect();
        assert_eq!(addrs, ["10.0.0.1:6881", "[2001:db8::1]:9"]);
        assert_eq!(
            (reply.interval.as_secs(), reply.min_interval.map(|wait| wait.as_secs())),
            (900, Some(60))
        );
        assert_eq!((reply.complete, reply.incomplete), (Some(5), Some(7)));
        assert_eq!(
            (reply.tracker_id.as_deref(), reply.warning.as_deref()),
            (Some(&b"abc"[..]), Some("a bc"))
        );
        let long = b"d8:intervali900e5:peersld2:ip8:10.0.0.17:peer id1:x4:porti6881eed2:ip4:host4:porti1eed2:ip3:::14:porti5eeee";
        let addrs: Vec<String> =
            parse_announce(long).expect("valid").peers.iter().map(ToString::to_string).collect();
        assert_eq!(addrs, ["10.0.0.1:6881", "[::1]:5"]);
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(
            parse_announce(b"d14:failure reason9:not\x1b herxe"),
            Err(TrackerFault::Refused("not  herx".to_owned()))
        );
        for bad in [&b"<html>"[..], b"", b"le", b"d5:peersi1ee", b"d5:peers"] {
            assert_eq!(parse_announce(bad), Err(TrackerFault::Malformed));
        }
        assert_eq!(parse_announce(&vec![b'd'; REPLY_LEN_MAX + 1]), Err(TrackerFault::TooLong));
        assert_eq!(parse_scrape(b"de"), Err(TrackerFault::Malformed));
    }

    #[test]
    fn takes_a_bounded_number_of_peers() {
        let peers = [1_u8, 2, 3, 4, 5, 6].repeat(100_000);
        let body = [format!("d5:peers{}:", peers.len()).as_bytes(), &peers, b"e"].concat();
        assert_eq!(parse_announce(&body).expect("valid").peers.len(), PEERS_MAX);
    }

    #[test]
    fn reads_a_scrape() {
        let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3ee3:badd8:completei1eeee";
        let counts = ScrapeEntry { complete: 1, downloaded: 2, incomplete: 3 };
        assert_eq!(parse_scrape(body), Ok(vec![(InfoHash([b'a'; 20]), counts)]));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = b"d8:completei5e10:incompletei7e8:intervali900e5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers60:e";
        let scrape =
            b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3eeee";
        for seed in 0..4000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = if seed % 2 == 0 { valid.to_vec() } else { scrape.to_vec() };
            if seed % 5 == 0 {
                bytes.fill_with(|| valid[rng.below(valid.len())]);
            }
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            if let Err(TrackerFault::Refused(why)) = parse_announce(&bytes) {
                assert!(!why.contains(char::is_control), "{why:?}");
            }
            // It must not panic, whatever it says.
            parse_scrape(&bytes).ok();
        }
    }
}
