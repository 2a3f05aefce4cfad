//! Being a tracker, for a local network or a test: who asks, over HTTP or UDP, and what to answer.
//!
//! [`TrackerServer`] is the whole; what it is asked, and how it answers, is in `http.rs` ([BEP 3],
//! [BEP 48]) and `udp.rs` ([BEP 15]); what it remembers, in `peer_table.rs`. Peers are known by the
//! address that their questions come from, whatever other address they may name.
//!
//! It opens no socket: carry requests to it and its answers back.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 15]: https://www.bittorrent.org/beps/bep_0015.html
//! [BEP 48]: https://www.bittorrent.org/beps/bep_0048.html

mod http;
mod peer_table;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use peer_table::TableLimits;

use self::http::{HttpQuestion, Refusal};
use self::peer_table::{Families, PeerTable};
use self::udp::{ConnectionIds, UdpQuestion, UdpQuestionKind};
use crate::Rng;

/// A tracker.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Instant;
///
/// use torrent::Rng;
/// use torrent::tracker::server::{TableLimits, TrackerServer};
///
/// let mut tracker = TrackerServer::new(TableLimits::default(), Rng::from_seed(1));
/// let target = "/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-FT0100-abcdefghijkl&port=6881&left=5";
/// let reply = tracker.handle_http(Instant::now(), target, IpAddr::from([10, 0, 0, 1]));
/// assert_eq!(reply.status, 200);
/// assert!(reply.body.starts_with(b"d8:completei0e"));
/// assert_eq!(tracker.stats().peers, 1);
/// ```
#[derive(Debug)]
pub struct TrackerServer {
    table: PeerTable,
    connection_ids: ConnectionIds,
    announces: u64,
    scrapes: u64,
    refusals: u64,
}

/// What goes back over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// 200, also for a bencoded `failure reason`; 404 for a path that is not ours; 414 for a target of
    /// more than 8 KiB.
    pub status: u16,
    /// Bencode; to be sent as `text/plain`. At most 32 KiB.
    pub body: Vec<u8>,
}

/// What a tracker holds, as of the last question, and what it has been asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Torrents that have peers.
    pub torrents: usize,
    /// Peers of all torrents.
    pub peers: usize,
    /// How many announces were answered.
    pub announces: u64,
    /// How many scrapes were answered.
    pub scrapes: u64,
    /// How many questions were refused or, over UDP, not answered.
    pub refusals: u64,
}

impl TrackerServer {
    /// A tracker that knows nobody. The seed of `rng` should be hard to guess: the ids that keep UDP
    /// askers honest hang on it.
    pub fn new(limits: TableLimits, mut rng: Rng) -> Self {
        let connection_ids = ConnectionIds::new(&mut rng);
        // Which peers are picked can be seen; it must not show what the secret was drawn from.
        let picks = Rng::from_seed(connection_ids.derived_seed());
        Self {
            table: PeerTable::new(limits, picks),
            connection_ids,
            announces: 0,
            scrapes: 0,
            refusals: 0,
        }
    }

    /// Answers a request for `target`, a path with a query, by someone at `from`.
    ///
    /// Peers of both address families are named, at most as many as wanted in all.
    pub fn handle_http(&mut self, now: Instant, target: &str, from: IpAddr) -> HttpReply {
        let body = http::parse(target).and_then(|question| self.answer_http(now, question, from));
        match body {
            Ok(body) => HttpReply { status: 200, body },
            Err(refusal) => {
                self.refusals += 1;
                let status = match refusal {
                    Refusal::NotFound => 404,
                    Refusal::TooLong => 414,
                    Refusal::Parameter(_) | Refusal::Full => 200,
                };
                HttpReply { status, body: http::failure_body(refusal) }
            }
        }
    }

    fn answer_http(
        &mut self,
        now: Instant,
        question: HttpQuestion,
        from: IpAddr,
    ) -> Result<Vec<u8>, Refusal> {
        match question {
            HttpQuestion::Announce(request, form) => {
                let from = from.to_canonical();
                let reply = self.table.announce(now, from, &request, Families::Both);
                let reply = reply.ok().ok_or(Refusal::Full)?;
                self.announces += 1;
                Ok(http::announce_body(&reply, form, self.table.limits().interval, from))
            }
            HttpQuestion::Scrape(hashes) => {
                self.scrapes += 1;
                let entry = |hash| self.table.scrape(now, hash).map(|counts| (hash, counts));
                Ok(http::scrape_body(hashes.into_iter().filter_map(entry)))
            }
        }
    }

    /// The datagram that answers one from `from`, if it deserves an answer.
    ///
    /// Peers of the asker's address family are named; IPv4 that comes over an IPv6 socket is IPv4.
    pub fn handle_udp(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let reply = UdpQuestion::parse(datagram).map(|question| {
            let transaction_id = question.transaction_id;
            self.answer_udp(now, from.ip().to_canonical(), question)
                .map_err(|why| udp::error_reply(transaction_id, why))
        });
        if !matches!(reply, Some(Ok(_))) {
            self.refusals += 1;
        }
        reply.map(|reply| reply.unwrap_or_else(|error| error))
    }

    fn answer_udp(
        &mut self,
        now: Instant,
        from: IpAddr,
        question: UdpQuestion,
    ) -> Result<Vec<u8>, &'static str> {
        let UdpQuestion { connection_id, transaction_id, kind } = question;
        if kind != UdpQuestionKind::Connect
            && !self.connection_ids.is_valid(now, from, connection_id)
        {
            return Err("unknown connection id");
        }
        match kind {
            UdpQuestionKind::Connect => {
                Ok(udp::connect_reply(transaction_id, self.connection_ids.issue(now, from)))
            }
            UdpQuestionKind::Announce(request) => {
                let reply = self.table.announce(now, from, &request, Families::Own);
                let reply = reply.ok().ok_or("no room for this torrent")?;
                self.announces += 1;
                Ok(udp::announce_reply(transaction_id, self.table.limits().interval, &reply))
            }
            UdpQuestionKind::Scrape(hashes) => {
                self.scrapes += 1;
                let entry = |hash| self.table.scrape(now, hash).unwrap_or_default();
                Ok(udp::scrape_reply(transaction_id, hashes.into_iter().map(entry)))
            }
        }
    }

    /// How it does.
    pub fn stats(&self) -> TrackerStats {
        TrackerStats {
            torrents: self.table.torrent_count(),
            peers: self.table.peer_count(),
            announces: self.announces,
            scrapes: self.scrapes,
            refusals: self.refusals,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::swarm::tests::epoch;
    use crate::tracker::http as client;
    use crate::tracker::{
        AnnounceEvent, AnnounceReply, AnnounceRequest, AnnouncedEncryption, ScrapeEntry,
        TrackerFault, TrackerRequest, UdpOutput, UdpTracker,
    };
    use crate::{InfoHash, PeerId};

    fn server() -> TrackerServer {
        TrackerServer::new(TableLimits::default(), Rng::from_seed(7))
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("valid")
    }

    fn request(listens_at: SocketAddr, left: u64) -> AnnounceRequest {
        let mut rng = Rng::from_seed(u64::from(listens_at.port()));
        AnnounceRequest {
            info_hash: InfoHash([b'a'; 20]),
            peer_id: PeerId::generate(&mut rng),
            port: listens_at.port(),
            uploaded: 0,
            downloaded: 0,
            left,
            event: AnnounceEvent::Started,
            numwant: None,
            key: 0,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    /// Announces over HTTP who listens at `at`.
    fn over_http(server: &mut TrackerServer, at: SocketAddr, left: u64) -> AnnounceReply {
        let target = client::announce_url("/announce", &request(at, left));
        let reply = server.handle_http(epoch(), &target, at.ip());
        assert_eq!(reply.status, 200);
        client::parse_announce(&reply.body).expect("an answer")
    }

    /// A whole conversation of our client from `from`.
    fn over_udp(
        server: &mut TrackerServer,
        from: SocketAddr,
        request: TrackerRequest,
    ) -> UdpOutput {
        let is_ipv6 = from.ip().to_canonical().is_ipv6();
        let mut client = UdpTracker::new(epoch(), Rng::from_seed(9), request, is_ipv6, Vec::new());
        loop {
            match client.poll_output().expect("it ends with an answer") {
                UdpOutput::Transmit(datagram) => {
                    let reply = server.handle_udp(epoch(), from, &datagram).expect("an answer");
                    client.handle_datagram(epoch(), &reply);
                }
                output => return output,
            }
        }
    }

    fn announce_over_udp(server: &mut TrackerServer, at: SocketAddr, left: u64) -> Vec<SocketAddr> {
        let request = TrackerRequest::Announce(Box::new(request(at, left)));
        let UdpOutput::Announced(mut reply) = over_udp(server, at, request) else {
            panic!("an answer")
        };
        reply.peers.sort_unstable();
        reply.peers
    }

    #[test]
    fn peers_find_each_other_over_http_and_udp_and_both_families() {
        let mut server = server();
        let [a, b, c] = ["10.0.0.1:1", "[2001:db8::1]:2", "10.0.0.3:3"].map(addr);
        assert_eq!(over_http(&mut server, a, 5).peers, []);
        assert_eq!(over_http(&mut server, b, 5).peers, [a]);
        assert_eq!(announce_over_udp(&mut server, c, 0), [a]);
        assert_eq!(over_http(&mut server, a, 5).peers, [c, b]);
        assert_eq!(announce_over_udp(&mut server, b, 5), []);
        let reply = over_http(&mut server, b, 5);
        assert_eq!((reply.complete, reply.incomplete), (Some(1), Some(2)));
        assert_eq!(reply.external_ip, Some(b.ip()));

        let counts = ScrapeEntry { complete: 1, downloaded: 0, incomplete: 2 };
        let hashes = [InfoHash([0; 20]), InfoHash([b'a'; 20])];
        assert_eq!(
            over_udp(&mut server, c, TrackerRequest::Scrape(hashes.to_vec())),
            UdpOutput::Scraped(vec![ScrapeEntry::default(), counts])
        );
        let target = client::scrape_url("/announce", &hashes).expect("by convention");
        let body = server.handle_http(epoch(), &target, a.ip()).body;
        assert_eq!(client::parse_scrape(&body), Ok(vec![(hashes[1], counts)]));
        let stats = server.stats();
        assert_eq!((stats.torrents, stats.peers, stats.announces), (1, 3, 6));
        assert_eq!((stats.scrapes, stats.refusals), (2, 0));
    }

    #[test]
    fn ipv4_over_an_ipv6_socket_is_ipv4() {
        let mut server = server();
        let [a, b] = ["10.0.0.1:1", "[::ffff:10.0.0.2]:2"].map(addr);
        announce_over_udp(&mut server, a, 5);
        assert_eq!(announce_over_udp(&mut server, b, 5), [a]);
        assert_eq!(announce_over_udp(&mut server, a, 5), [addr("10.0.0.2:2")]);
    }

    #[test]
    fn a_connection_id_of_another_address_gets_an_error_and_nothing_else() {
        let mut server = server();
        let [honest, liar] = ["10.0.0.1:1", "10.0.0.2:2"].map(addr);
        let connect = [&[0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80][..], &[0; 4], b"tran"].concat();
        let reply = server.handle_udp(epoch(), honest, &connect).expect("an answer");
        assert_eq!((reply.len(), &reply[..8]), (16, &b"\0\0\0\0tran"[..]));
        let scrape = [&reply[8..], &[0, 0, 0, 2], b"tran", &[1; 20]].concat();
        let answer = server.handle_udp(epoch(), honest, &scrape).expect("an answer");
        assert_eq!(answer, [&b"\0\0\0\x02tran"[..], &[0; 12]].concat());
        let error = server.handle_udp(epoch(), liar, &scrape).expect("an answer");
        assert!(error.starts_with(b"\0\0\0\x03tran") && error.len() <= scrape.len());
        let later = epoch() + Duration::from_secs(120);
        let error = server.handle_udp(later, honest, &scrape).expect("an answer");
        assert!(error.starts_with(b"\0\0\0\x03"));
        assert_eq!(server.stats().refusals, 2);
    }

    #[test]
    fn a_full_tracker_says_so() {
        let limits = TableLimits { torrents: 0, ..TableLimits::default() };
        let mut server = TrackerServer::new(limits, Rng::from_seed(1));
        let at = addr("10.0.0.1:1");
        let target = client::announce_url("/announce", &request(at, 5));
        let reply = server.handle_http(epoch(), &target, at.ip());
        assert!(matches!(
            client::parse_announce(&reply.body),
            Err(TrackerFault::Refused(reason)) if reason.contains("no room")
        ));
        let request = TrackerRequest::Announce(Box::new(request(at, 5)));
        assert!(matches!(
            over_udp(&mut server, at, request),
            UdpOutput::Failed(TrackerFault::Refused(reason)) if reason.contains("no room")
        ));
        let status = |server: &mut TrackerServer, target: &str| {
            server.handle_http(epoch(), target, at.ip()).status
        };
        assert_eq!(status(&mut server, "/"), 404);
        assert_eq!(status(&mut server, &"x".repeat(10_000)), 414);
    }

    #[test]
    fn whatever_arrives_memory_stays_bounded_and_nobody_is_sent_more_than_a_stranger_may() {
        let limits =
            TableLimits { torrents: 5, peers_per_torrent: 4, peers: 10, ..TableLimits::default() };
        let mut server = TrackerServer::new(limits, Rng::from_seed(1));
        let mut rng = Rng::from_seed(2);
        let mut now = epoch();
        for _ in 0..20_000 {
            now += Duration::from_millis(rng.below(5000) as u64);
            let from = SocketAddr::from(([10, 0, 0, rng.below(30) as u8], 1 + rng.below(9) as u16));
            let target = noisy_target(&mut rng, from);
            let reply = server.handle_http(now, &target, from.ip());
            assert!(reply.body.len() < 32 * 1024);

            let mut datagram = noisy_datagram(&mut rng);
            let sent = server.handle_udp(now, from, &datagram).map_or(0, |reply| reply.len());
            assert!(sent <= datagram.len(), "an amplifier");
            // The same of someone who has connected.
            if let Some(id) = datagram.first_chunk_mut() {
                *id = server.connection_ids.issue(now, from.ip()).to_be_bytes();
                server.handle_udp(now, from, &datagram);
            }
            let stats = server.stats();
            assert!(stats.torrents <= 5 && stats.peers <= 10, "{stats:?}");
        }
        assert!(server.stats().announces > 5000 && server.stats().scrapes > 1000);
    }

    /// An announce with a few characters changed, or nothing but noise.
    fn noisy_target(rng: &mut Rng, from: SocketAddr) -> String {
        let mut asked = request(from, rng.below(2) as u64);
        asked.info_hash = InfoHash([rng.below(8) as u8; 20]);
        let mut url = client::announce_url("/announce", &asked).into_bytes();
        if rng.below(4) == 0 {
            url.fill_with(|| rng.u32() as u8);
        }
        for _ in 0..rng.below(3) {
            let at = rng.below(url.len());
            url[at] = 0x20 + rng.below(96) as u8;
        }
        String::from_utf8_lossy(&url).into_owned()
    }

    /// An announce or a scrape, cut off somewhere and with a few bytes changed, or nothing but noise.
    fn noisy_datagram(rng: &mut Rng) -> Vec<u8> {
        let (action, hash) = (1 + rng.below(2) as u8, [rng.below(8) as u8; 20]);
        let head = [&rng.bytes::<8>()[..], &[0, 0, 0, action], b"tran", &hash].concat();
        let mut datagram = [&head[..], &[3; 44], &[0, 0, 0, 2], &[5; 32]].concat();
        if rng.below(4) == 0 {
            datagram.fill_with(|| rng.u32() as u8);
        }
        for _ in 0..rng.below(3) {
            let at = rng.below(datagram.len());
            datagram[at] = rng.u32() as u8;
        }
        if rng.below(2) == 0 {
            datagram.truncate(rng.below(120));
        }
        datagram
    }
}
