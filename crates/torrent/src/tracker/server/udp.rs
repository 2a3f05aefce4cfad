//! Questions that come as datagrams, and the datagrams that answer them ([BEP 15]).
//!
//! Anyone can write any sender's address on a datagram. So only who got our answer to a `connect`, at
//! the address that it writes, is told more than it sent; what makes no sense is not answered at all.
//!
//! [BEP 15]: https://www.bittorrent.org/beps/bep_0015.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::peer_table::TableReply;
use crate::tracker::udp::{
    ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_ERROR, ACTION_SCRAPE, PROTOCOL_ID, SCRAPE_MAX,
    split_u32,
};
use crate::tracker::{AnnounceEvent, AnnounceRequest, AnnouncedEncryption, ScrapeEntry};
use crate::{InfoHash, PeerId, Rng, compact};

/// A datagram that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UdpQuestion {
    pub(super) connection_id: u64,
    pub(super) transaction_id: u32,
    pub(super) kind: UdpQuestionKind,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UdpQuestionKind {
    Connect,
    Announce(Box<AnnounceRequest>),
    Scrape(Vec<InfoHash>),
}

impl UdpQuestion {
    /// Reads a datagram. What follows an announce are options (BEP 41); none of them matters here.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let (connection_id, rest) = split_u64(datagram)?;
        let (action, rest) = split_u32(rest)?;
        let (transaction_id, body) = split_u32(rest)?;
        let kind = match action {
            ACTION_CONNECT if connection_id == PROTOCOL_ID => UdpQuestionKind::Connect,
            ACTION_ANNOUNCE => UdpQuestionKind::Announce(Box::new(announce(body)?)),
            ACTION_SCRAPE => UdpQuestionKind::Scrape(scrape(body)?),
            _ => return None,
        };
        Some(Self { connection_id, transaction_id, kind })
    }
}

fn announce(body: &[u8]) -> Option<AnnounceRequest> {
    let (&info_hash, rest) = body.split_first_chunk()?;
    let (&peer_id, rest) = rest.split_first_chunk()?;
    let (downloaded, rest) = split_u64(rest)?;
    let (left, rest) = split_u64(rest)?;
    let (uploaded, rest) = split_u64(rest)?;
    let (event, rest) = split_u32(rest)?;
    // An address that it would rather be known by could be anyone's: only the sender's counts.
    let (_ip, rest) = split_u32(rest)?;
    let (key, rest) = split_u32(rest)?;
    let (numwant, rest) = split_u32(rest)?;
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    let event = match event {
        0 => AnnounceEvent::None,
        1 => AnnounceEvent::Completed,
        2 => AnnounceEvent::Started,
        3 => AnnounceEvent::Stopped,
        _ => return None,
    };
    (port != 0).then_some(AnnounceRequest {
        info_hash: InfoHash(info_hash),
        peer_id: PeerId(peer_id),
        port,
        uploaded,
        downloaded,
        left,
        event,
        // It is signed; -1 is "as many as usual".
        numwant: Some(numwant).filter(|numwant| numwant.cast_signed() >= 0),
        key,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    })
}

/// At least one hash; those past the 74th are left out.
fn scrape(body: &[u8]) -> Option<Vec<InfoHash>> {
    let (hashes, rest) = body.as_chunks();
    (!hashes.is_empty() && rest.is_empty())
        .then(|| hashes.iter().take(SCRAPE_MAX).map(|hash| InfoHash(*hash)).collect())
}

/// The answer to a `connect`: as long as the question.
pub(super) fn connect_reply(transaction_id: u32, connection_id: u64) -> Vec<u8> {
    let mut out = head(ACTION_CONNECT, transaction_id);
    out.extend_from_slice(&connection_id.to_be_bytes());
    out
}

/// The answer to an announce; its peers must all be of the family that the asker speaks.
pub(super) fn announce_reply(
    transaction_id: u32,
    interval: Duration,
    reply: &TableReply,
) -> Vec<u8> {
    let mut out = head(ACTION_ANNOUNCE, transaction_id);
    let interval = u32::try_from(interval.as_secs()).unwrap_or(u32::MAX);
    for number in [interval, reply.counts.incomplete, reply.counts.complete] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    reply.peers.iter().for_each(|(addr, _)| compact::append(*addr, &mut v4, &mut v6));
    out.append(&mut v4);
    out.append(&mut v6);
    out
}

/// The answer to a scrape, in the order of the question.
pub(super) fn scrape_reply(
    transaction_id: u32,
    entries: impl Iterator<Item = ScrapeEntry>,
) -> Vec<u8> {
    let mut out = head(ACTION_SCRAPE, transaction_id);
    for number in entries.flat_map(|entry| [entry.complete, entry.downloaded, entry.incomplete]) {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

/// The answer that says no. It must not be longer than the question.
pub(super) fn error_reply(transaction_id: u32, message: &str) -> Vec<u8> {
    let mut out = head(ACTION_ERROR, transaction_id);
    out.extend_from_slice(message.as_bytes());
    out
}

fn head(action: u32, transaction_id: u32) -> Vec<u8> {
    [action.to_be_bytes(), transaction_id.to_be_bytes()].concat()
}

/// Makes connection ids and knows them again, without remembering any.
#[derive(Debug)]
pub(super) struct ConnectionIds {
    secret: [u8; 32],
    /// Since when slots of time are counted; `None` until an id is issued.
    epoch: Option<Instant>,
}

impl ConnectionIds {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { secret: rng.bytes(), epoch: None }
    }

    /// A seed for choices that may be seen: it leads to the secret no more than an id does.
    pub(super) fn derived_seed(&self) -> u64 {
        self.keyed_hash(b"seed")
    }

    /// The id for whoever gets what is sent to `ip`.
    pub(super) fn issue(&mut self, now: Instant, ip: IpAddr) -> u64 {
        let epoch = *self.epoch.get_or_insert(now);
        self.id_of(slot(epoch, now), ip)
    }

    /// Whether the id was issued for this address, one to two minutes ago at most.
    pub(super) fn is_valid(&self, now: Instant, ip: IpAddr, id: u64) -> bool {
        let Some(epoch) = self.epoch else { return false };
        let slot = slot(epoch, now);
        let before = slot.checked_sub(1);
        id == self.id_of(slot, ip) || before.is_some_and(|before| id == self.id_of(before, ip))
    }

    fn id_of(&self, slot: u64, ip: IpAddr) -> u64 {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.keyed_hash(&[&slot.to_be_bytes()[..], &ip.octets()].concat())
    }

    /// As messages have one of two fixed lengths, and most of the hash is kept back, the plain
    /// construction does.
    fn keyed_hash(&self, message: &[u8]) -> u64 {
        let hash: [u8; 20] =
            Sha1::new().chain_update(self.secret).chain_update(message).finalize().into();
        split_u64(&hash).map_or(0, |(number, _)| number)
    }
}

fn slot(epoch: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(epoch).as_secs() / SLOT_SECONDS
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*head), rest))
}

const SLOT_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::swarm::tests::epoch;
    use crate::tracker::{TrackerRequest, UdpOutput, UdpTracker};

    fn request(event: AnnounceEvent, numwant: Option<u32>) -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 6881,
            uploaded: 3,
            downloaded: 4,
            left: u64::MAX,
            event,
            numwant,
            key: 7,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    /// A client that has connected, with the question that it sent.
    fn asked(request: TrackerRequest) -> (UdpTracker, UdpQuestion) {
        let mut client =
            UdpTracker::new(epoch(), Rng::from_seed(1), request, false, b"/announce".to_vec());
        let connect = sent(&mut client);
        assert_eq!(
            (connect.connection_id, &connect.kind),
            (PROTOCOL_ID, &UdpQuestionKind::Connect)
        );
        client.handle_datagram(epoch(), &connect_reply(connect.transaction_id, 99));
        let question = sent(&mut client);
        assert_eq!(question.connection_id, 99);
        (client, question)
    }

    fn sent(client: &mut UdpTracker) -> UdpQuestion {
        let Some(UdpOutput::Transmit(datagram)) = client.poll_output() else {
            panic!("a datagram")
        };
        UdpQuestion::parse(&datagram).expect("makes sense")
    }

    fn announce_datagram() -> Vec<u8> {
        let numbers = [0, 0, 0, 7, 50].map(u32::to_be_bytes).concat();
        [&[0; 8][..], &[0, 0, 0, 1, 0, 0, 0, 5], &[1; 40], &[0; 20], &numbers, &[0x1a, 0xe1]]
            .concat()
    }

    #[test]
    fn understands_what_our_client_announces_and_is_understood() {
        for event in [
            AnnounceEvent::None,
            AnnounceEvent::Started,
            AnnounceEvent::Stopped,
            AnnounceEvent::Completed,
        ] {
            for numwant in [None, Some(0), Some(80)] {
                let request = request(event, numwant);
                let (_, question) = asked(TrackerRequest::Announce(Box::new(request.clone())));
                assert_eq!(question.kind, UdpQuestionKind::Announce(Box::new(request)));
            }
        }
        let request = request(AnnounceEvent::None, None);
        let (mut client, question) = asked(TrackerRequest::Announce(Box::new(request)));
        let addr: SocketAddr = "10.0.0.1:6881".parse().expect("valid");
        let counts = ScrapeEntry { complete: 1, downloaded: 2, incomplete: 3 };
        let reply = TableReply { counts, peers: vec![(addr, PeerId([3; 20]))] };
        let wait = Duration::from_secs(900);
        client.handle_datagram(epoch(), &announce_reply(question.transaction_id, wait, &reply));
        let Some(UdpOutput::Announced(reply)) = client.poll_output() else { panic!("an answer") };
        assert_eq!((reply.interval, reply.peers), (wait, vec![addr]));
        assert_eq!((reply.complete, reply.incomplete), (Some(1), Some(3)));
    }

    #[test]
    fn understands_what_our_client_scrapes_and_is_understood() {
        let hashes: Vec<InfoHash> = (0..74).map(|byte| InfoHash([byte; 20])).collect();
        let (mut client, question) = asked(TrackerRequest::Scrape(hashes.clone()));
        assert_eq!(question.kind, UdpQuestionKind::Scrape(hashes));
        let entry = |complete| ScrapeEntry { complete, downloaded: 8, incomplete: 9 };
        let reply = scrape_reply(question.transaction_id, (0..74).map(entry));
        client.handle_datagram(epoch(), &reply);
        assert_eq!(client.poll_output(), Some(UdpOutput::Scraped((0..74).map(entry).collect())));
    }

    #[test]
    fn no_more_than_74_are_scraped() {
        let datagram = [&[0; 8][..], &[0, 0, 0, 2, 0, 0, 0, 5], &[1; 20 * 80]].concat();
        let question = UdpQuestion::parse(&datagram).expect("makes sense");
        assert_eq!(question.kind, UdpQuestionKind::Scrape(vec![InfoHash([1; 20]); 74]));
    }

    #[test]
    fn what_makes_no_sense_is_no_question() {
        let valid = announce_datagram();
        assert!(UdpQuestion::parse(&valid).is_some());
        assert!((0..valid.len()).all(|len| UdpQuestion::parse(&valid[..len]).is_none()));
        let changed = |at: usize, to: u8| {
            let mut bytes = valid.clone();
            bytes[at] = to;
            UdpQuestion::parse(&bytes)
        };
        assert_eq!((changed(11, 0), changed(11, 3), changed(11, 4)), (None, None, None));
        assert_eq!(changed(83, 4), None, "an event that does not exist");
        let mut no_port = valid.clone();
        no_port[96..].fill(0);
        assert_eq!(UdpQuestion::parse(&no_port), None);
        let scrape = |len| [&[0; 8][..], &[0, 0, 0, 2, 0, 0, 0, 5], &vec![1; len]].concat();
        assert_eq!([0, 19, 21].map(|len| UdpQuestion::parse(&scrape(len))), [None, None, None]);
    }

    #[test]
    fn an_id_holds_for_its_address_and_for_a_while() {
        let (mut ids, start) = (ConnectionIds::new(&mut Rng::from_seed(1)), epoch());
        let [ip, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let issued_at = start + Duration::from_secs(59);
        ids.issue(start, ip);
        let id = ids.issue(issued_at, ip);
        assert!(ids.is_valid(issued_at, ip, id));
        assert!(ids.is_valid(issued_at + Duration::from_secs(60), ip, id));
        assert!(!ids.is_valid(issued_at + Duration::from_secs(61), ip, id));
        assert!(!ids.is_valid(issued_at, other, id));
        assert!(!ids.is_valid(issued_at, ip, id ^ 1));
        let mut others = ConnectionIds::new(&mut Rng::from_seed(2));
        assert_ne!(others.issue(start, ip), ids.issue(start, ip));
    }

    #[test]
    fn survives_noise_and_mutations() {
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = announce_datagram();
            bytes.truncate(rng.below(140));
            for _ in 0..rng.below(6) {
                let at = rng.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.u32() as u8;
                }
            }
            if let Some(UdpQuestion { kind: UdpQuestionKind::Announce(request), .. }) =
                UdpQuestion::parse(&bytes)
            {
                assert!(request.port != 0 && request.tracker_id.is_none());
            }
        }
    }
}
