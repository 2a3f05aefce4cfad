//! Asking by datagrams ([BEP 15], [BEP 41]): a connection id first, then the question.
//!
//! Datagrams get lost, so each is sent again after 15, 30 … seconds.
//!
//! [BEP 15]: https://www.bittorrent.org/beps/bep_0015.html
//! [BEP 41]: https://www.bittorrent.org/beps/bep_0041.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::{Duration, Instant};

use super::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, PEERS_MAX, ScrapeEntry, TrackerFault, sanitised,
};
use crate::{InfoHash, Rng, compact};

/// A conversation with one tracker about one question.
///
/// Tell it what happened with the `handle_*` methods. After each, take everything that
/// [`poll_output`](Self::poll_output) has, then sleep until [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct UdpTracker {
    request: TrackerRequest,
    is_ipv6: bool,
    /// The path and query of its URL (BEP 41).
    url_data: Vec<u8>,
    connection_id: Option<u64>,
    state: State,
    rng: Rng,
}

/// What to ask.
#[derive(Clone, Debug)]
pub enum TrackerRequest {
    /// For peers, telling of us.
    Announce(Box<AnnounceRequest>),
    /// For counts; of at most 74 torrents.
    Scrape(Vec<InfoHash>),
}

#[derive(Debug)]
enum State {
    /// The next datagram is to be sent now, for the time that `attempt` counts (the first is 0).
    Sending { attempt: u32, now: Instant },
    /// It is out. Nothing to do until the answer arrives or `deadline` passes.
    Waiting { attempt: u32, transaction_id: u32, deadline: Instant },
    /// The conversation is over; one output is still to be taken.
    Finished(UdpOutput),
    /// Everything has been taken.
    Drained,
}

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpOutput {
    /// Send this datagram to the tracker.
    Transmit(Vec<u8>),
    /// The tracker answered an announce. No more output follows.
    Announced(AnnounceReply),
    /// The tracker answered a scrape, in the order of the question. No more output follows.
    Scraped(Vec<ScrapeEntry>),
    /// Give up. No more output follows.
    Failed(TrackerFault),
}

/// A UDP tracker's address, out of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpUrl {
    /// A name, or an address; IPv6 without its brackets.
    pub host: String,
    /// The port; 80 if none is named.
    pub port: u16,
    /// The path and query, as they stand.
    pub url_data: Vec<u8>,
}

impl UdpUrl {
    /// Reads `udp://host:port/path`.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url
            .get(..6)
            .filter(|scheme| scheme.eq_ignore_ascii_case("udp://"))
            .and_then(|_| url.get(6..))?;
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, url_data) = rest.split_at_checked(at)?;
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority
                .rsplit_once(':')
                .map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port =
            port.map_or(Some(PORT_USUAL), |port| port.parse().ok()).filter(|port| *port != 0)?;
        let url_data =
            url_data.split_once('#').map_or(url_data, |(data, _)| data).as_bytes().to_vec();
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port, url_data })
    }
}

impl UdpTracker {
    /// Starts a conversation at `now`. The tracker is spoken to over IPv6 or not, which decides what
    /// its answer looks like.
    pub const fn new(
        now: Instant,
        rng: Rng,
        request: TrackerRequest,
        is_ipv6: bool,
        url_data: Vec<u8>,
    ) -> Self {
        let state = State::Sending { attempt: 0, now };
        Self { request, is_ipv6, url_data, connection_id: None, state, rng }
    }

    /// An answer came over IPv6, or not: who asks by a name does not know before.
    pub const fn set_ipv6(&mut self, is_ipv6: bool) {
        self.is_ipv6 = is_ipv6;
    }

    /// A datagram has arrived from the tracker.
    ///
    /// An answer to another request, or a late one, is ignored: anyone can send us datagrams.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let State::Waiting { attempt, transaction_id, .. } = self.state else { return };
        let Some((action, rest)) = split_u32(datagram) else { return };
        let Some((answered, body)) = split_u32(rest) else { return };
        if answered != transaction_id {
            return;
        }
        self.state = match (action, self.connection_id) {
            (ACTION_ERROR, _) => {
                State::Finished(UdpOutput::Failed(TrackerFault::Refused(sanitised(body))))
            }
            (ACTION_CONNECT, None) => match body.first_chunk() {
                Some(&id) => {
                    self.connection_id = Some(u64::from_be_bytes(id));
                    // The attempts go on: one that greets and then says nothing is silent, too.
                    State::Sending { attempt, now }
                }
                None => State::Finished(UdpOutput::Failed(TrackerFault::Malformed)),
            },
            (ACTION_ANNOUNCE | ACTION_SCRAPE, Some(_)) => {
                let answer = self.answer(action, body);
                State::Finished(answer.unwrap_or(UdpOutput::Failed(TrackerFault::Malformed)))
            }
            _ => State::Finished(UdpOutput::Failed(TrackerFault::Malformed)),
        };
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) gave has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        let State::Waiting { attempt, deadline, .. } = self.state else { return };
        if now < deadline {
            return;
        }
        let attempt = attempt.saturating_add(1);
        self.state = if attempt < ATTEMPTS_MAX {
            // A connection id holds for a minute; it may be that which has run out.
            self.connection_id = None;
            State::Sending { attempt, now }
        } else {
            State::Finished(UdpOutput::Failed(TrackerFault::Silent))
        };
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<UdpOutput> {
        match std::mem::replace(&mut self.state, State::Drained) {
            State::Sending { attempt, now } => {
                let transaction_id = self.rng.u32();
                let deadline = now.checked_add(patience(attempt))?;
                self.state = State::Waiting { attempt, transaction_id, deadline };
                Some(UdpOutput::Transmit(self.datagram(transaction_id)))
            }
            State::Finished(output) => Some(output),
            idle @ (State::Waiting { .. } | State::Drained) => {
                self.state = idle;
                None
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing arrives before.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { deadline, .. } => Some(deadline),
            State::Sending { .. } | State::Finished(_) | State::Drained => None,
        }
    }

    fn datagram(&self, transaction_id: u32) -> Vec<u8> {
        let Some(connection_id) = self.connection_id else {
            return [
                &PROTOCOL_ID.to_be_bytes()[..],
                &ACTION_CONNECT.to_be_bytes(),
                &transaction_id.to_be_bytes(),
            ]
            .concat();
        };
        let mut out = connection_id.to_be_bytes().to_vec();
        match &self.request {
            TrackerRequest::Announce(request) => {
                out.extend_from_slice(&ACTION_ANNOUNCE.to_be_bytes());
                out.extend_from_slice(&transaction_id.to_be_bytes());
                append_announce(request, &mut out);
                for part in self.url_data.chunks(255) {
                    out.extend_from_slice(&[OPTION_URL_DATA, part.len() as u8]);
                    out.extend_from_slice(part);
                }
            }
            TrackerRequest::Scrape(hashes) => {
                out.extend_from_slice(&ACTION_SCRAPE.to_be_bytes());
                out.extend_from_slice(&transaction_id.to_be_bytes());
                hashes.iter().take(SCRAPE_MAX).for_each(|hash| out.extend_from_slice(&hash.0));
            }
        }
        out
    }

    fn answer(&self, action: u32, body: &[u8]) -> Option<UdpOutput> {
        match (&self.request, action) {
            (TrackerRequest::Announce(_), ACTION_ANNOUNCE) => {
                let (interval, rest) = split_u32(body)?;
                let (leechers, rest) = split_u32(rest)?;
                let (seeders, peers) = split_u32(rest)?;
                let peers = if self.is_ipv6 {
                    compact::parse_v6(peers).take(PEERS_MAX).collect()
                } else {
                    compact::parse_v4(peers).take(PEERS_MAX).collect()
                };
                Some(UdpOutput::Announced(AnnounceReply {
                    interval: Duration::from_secs(interval.into()),
                    complete: Some(seeders),
                    incomplete: Some(leechers),
                    peers,
                    ..AnnounceReply::default()
                }))
            }
            (TrackerRequest::Scrape(hashes), ACTION_SCRAPE) => {
                let (words, _) = body.as_chunks();
                let numbers: Vec<u32> =
                    words.iter().map(|word| u32::from_be_bytes(*word)).collect();
                let (entries, _) = numbers.as_chunks();
                let entry = |&[complete, downloaded, incomplete]: &[u32; 3]| ScrapeEntry {
                    complete,
                    downloaded,
                    incomplete,
                };
                Some(UdpOutput::Scraped(entries.iter().take(hashes.len()).map(entry).collect()))
            }
            _ => None,
        }
    }
}

fn append_announce(request: &AnnounceRequest, out: &mut Vec<u8>) {
    let event: u32 = match request.event {
        // BEP 15 has no number for partial seeds.
        AnnounceEvent::None | AnnounceEvent::Paused => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    out.extend_from_slice(&request.info_hash.0);
    out.extend_from_slice(&request.peer_id.0);
    for number in [request.downloaded, request.left, request.uploaded] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    // An address of 0 is the one that the datagram comes from; of -1 peers are as many as usual.
    for number in [event, 0, request.key, request.numwant.unwrap_or(u32::MAX)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&request.port.to_be_bytes());
}

/// How long to wait for the answer to the attempt that `attempt` counts: 15 s, 30 s, 60 s …
const fn patience(attempt: u32) -> Duration {
    FIRST_PATIENCE.saturating_mul(2_u32.saturating_pow(attempt))
}

pub(super) fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*head), rest))
}

/// The number that says "this is BEP 15".
pub(super) const PROTOCOL_ID: u64 = 0x0417_2710_1980;
pub(super) const ACTION_CONNECT: u32 = 0;
pub(super) const ACTION_ANNOUNCE: u32 = 1;
pub(super) const ACTION_SCRAPE: u32 = 2;
pub(super) const ACTION_ERROR: u32 = 3;
const OPTION_URL_DATA: u8 = 2;
pub(super) const SCRAPE_MAX: usize = 74;
/// BEP 15 goes on for hours; other trackers of the torrent should have their turn before.
const ATTEMPTS_MAX: u32 = 4;
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
const PORT_USUAL: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;
    use crate::swarm::tests::epoch;
    use crate::tracker::AnnouncedEncryption;

    fn announce() -> TrackerRequest {
        TrackerRequest::Announce(Box::new(AnnounceRequest {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 6881,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            event: AnnounceEvent::Started,
            numwant: None,
            key: 7,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }))
    }

    fn tracker(request: TrackerRequest, is_ipv6: bool, url_data: &[u8]) -> UdpTracker {
        UdpTracker::new(epoch(), Rng::from_seed(1), request, is_ipv6, url_data.to_vec())
    }

    fn sent(tracker: &mut UdpTracker) -> Vec<u8> {
        let Some(UdpOutput::Transmit(datagram)) = tracker.poll_output() else {
            panic!("a datagram")
        };
        datagram
    }

    /// Answers the datagram that is out.
    fn answer(tracker: &mut UdpTracker, action: u32, body: &[u8]) {
        let State::Waiting { transaction_id, .. } = tracker.state else { panic!("not waiting") };
        let datagram = [&action.to_be_bytes()[..], &transaction_id.to_be_bytes(), body].concat();
        tracker.handle_datagram(epoch(), &datagram);
    }

    #[test]
    fn connects_then_announces() {
        let mut tracker = tracker(announce(), false, b"/announce?x=1");
        assert_eq!(sent(&mut tracker)[..8], [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80]);
        answer(&mut tracker, ACTION_CONNECT, &99_u64.to_be_bytes());
        let datagram = sent(&mut tracker);
        assert_eq!((datagram.len(), &datagram[..8]), (98 + 2 + 13, &99_u64.to_be_bytes()[..]));
        assert_eq!(datagram[56..64], 4_u64.to_be_bytes());
        assert_eq!(datagram[80..84], 2_u32.to_be_bytes());
        assert_eq!(datagram[96..98], 6881_u16.to_be_bytes());
        assert_eq!(datagram[98..], *b"\x02\x0d/announce?x=1");
        answer(
            &mut tracker,
            ACTION_ANNOUNCE,
            b"\0\0\x07\x08\0\0\0\x02\0\0\0\x03\x0a\0\0\x01\x1a\xe1",
        );
        let Some(UdpOutput::Announced(reply)) = tracker.poll_output() else { panic!("an answer") };
        assert_eq!(
            (reply.interval.as_secs(), reply.incomplete, reply.complete),
            (1800, Some(2), Some(3))
        );
        assert_eq!(reply.peers, ["10.0.0.1:6881".parse().expect("valid")]);
        assert_eq!((tracker.poll_output(), tracker.poll_timeout()), (None, None));
    }

    #[test]
    fn over_ipv6_addresses_are_longer() {
        let mut tracker = tracker(announce(), true, b"");
        sent(&mut tracker);
        answer(&mut tracker, ACTION_CONNECT, &[0; 8]);
        assert_eq!(sent(&mut tracker).len(), 98);
        answer(&mut tracker, ACTION_ANNOUNCE, &[&[0; 12][..], &[0x20; 18]].concat());
        let Some(UdpOutput::Announced(reply)) = tracker.poll_output() else { panic!("an answer") };
        assert_eq!(reply.peers.len(), 1);
        assert!(reply.peers[0].is_ipv6());
    }

    #[test]
    fn scrapes() {
        let mut tracker = tracker(TrackerRequest::Scrape(vec![InfoHash([1; 20])]), false, b"");
        sent(&mut tracker);
        answer(&mut tracker, ACTION_CONNECT, &[0; 8]);
        assert_eq!(sent(&mut tracker).len(), 36);
        answer(&mut tracker, ACTION_SCRAPE, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        let counts = ScrapeEntry { complete: 1, downloaded: 2, incomplete: 3 };
        assert_eq!(tracker.poll_output(), Some(UdpOutput::Scraped(vec![counts])));
    }

    #[test]
    fn tells_what_the_tracker_complains_of_and_ignores_strangers() {
        let mut tracker = tracker(announce(), false, b"");
        sent(&mut tracker);
        let State::Waiting { transaction_id, .. } = tracker.state else { panic!("not waiting") };
        let stray =
            [&ACTION_ERROR.to_be_bytes()[..], &(transaction_id ^ 1).to_be_bytes(), b"no"].concat();
        tracker.handle_datagram(epoch(), &stray);
        assert_eq!(tracker.poll_output(), None);
        answer(&mut tracker, ACTION_ERROR, b"no such torrent");
        assert_eq!(
            tracker.poll_output(),
            Some(UdpOutput::Failed(TrackerFault::Refused("no such torrent".to_owned())))
        );
    }

    #[test]
    fn asks_again_more_and_more_patiently_then_gives_up() {
        let mut tracker = tracker(announce(), false, b"");
        let (mut now, mut waits) = (epoch(), Vec::new());
        let last = loop {
            match tracker.poll_output() {
                Some(UdpOutput::Transmit(_)) => {}
                other => break other,
            }
            let deadline = tracker.poll_timeout().expect("waiting");
            waits.push((deadline - now).as_secs());
            now = deadline;
            tracker.handle_timeout(now);
        };
        assert_eq!(
            (waits.as_slice(), last),
            (&[15, 30, 60, 120][..], Some(UdpOutput::Failed(TrackerFault::Silent)))
        );
    }

    #[test]
    fn reads_addresses() {
        let url = |text| {
            UdpUrl::parse(text)
                .map(|url| (url.host, url.port, String::from_utf8(url.url_data).expect("text")))
        };
        let some = |host: &str, port, data: &str| Some((host.to_owned(), port, data.to_owned()));
        assert_eq!(url("udp://t.example:6969/announce"), some("t.example", 6969, "/announce"));
        assert_eq!(url("UDP://[::1]:80"), some("::1", 80, ""));
        assert_eq!(url("udp://t/?a=b#c"), some("t", 80, "/?a=b"));
        assert_eq!(
            [url("http://t"), url("udp://"), url("udp://t:99999"), url("udp://t:0")],
            [None, None, None, None]
        );
    }

    #[test]
    fn survives_any_datagram() {
        for seed in 0..2000 {
            let mut noise = Rng::from_seed(seed);
            let mut tracker = tracker(
                if seed % 3 == 0 { TrackerRequest::Scrape(Vec::new()) } else { announce() },
                seed % 2 == 0,
                b"",
            );
            sent(&mut tracker);
            if noise.below(2) == 0 {
                answer(&mut tracker, ACTION_CONNECT, &[0; 8]);
                sent(&mut tracker);
            }
            let body: Vec<u8> = (0..noise.below(40)).map(|_| noise.u32() as u8).collect();
            answer(&mut tracker, noise.below(5) as u32, &body);
            while tracker.poll_output().is_some() {}
        }
    }

    #[test]
    fn survives_a_valid_answer_with_bytes_changed() {
        for seed in 0..2000 {
            let mut noise = Rng::from_seed(seed);
            let mut tracker = tracker(announce(), false, b"");
            sent(&mut tracker);
            answer(&mut tracker, ACTION_CONNECT, &[0; 8]);
            let transaction_id = sent(&mut tracker)[12..16].to_vec();
            let mut datagram =
                [&ACTION_ANNOUNCE.to_be_bytes()[..], &transaction_id, &[0; 12], &[9; 18]].concat();
            datagram.truncate(datagram.len() - noise.below(20));
            for _ in 0..noise.below(3) {
                let at = noise.below(datagram.len());
                datagram[at] = noise.u32() as u8;
            }
            tracker.handle_datagram(epoch(), &datagram);
            match tracker.poll_output() {
                Some(UdpOutput::Announced(reply)) => assert!(reply.peers.len() <= 3),
                Some(UdpOutput::Failed(_)) => {}
                other => assert!(other.is_none() && tracker.poll_timeout().is_some()),
            }
        }
    }
}
