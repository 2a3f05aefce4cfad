//! Who takes part in which torrent, as far as they told.
//!
//! Memory is bounded. Who is in the table stays until it leaves or falls silent; when there is no
//! room, newcomers are not taken in: a stranger who announces a thousand ports cannot drive anyone
//! out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::tracker::{AnnounceEvent, AnnounceRequest, ScrapeEntry};
use crate::{InfoHash, PeerId, Rng};

/// How much a tracker remembers, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// How many torrents. When there are as many, announces of others are refused. Default: 10,000.
    pub torrents: usize,
    /// How many peers of one torrent. When there are as many, a newcomer learns of peers, but they
    /// do not learn of it. Default: 2,000.
    pub peers_per_torrent: usize,
    /// How many peers of all torrents; further ones fare as in a full torrent, or are refused if
    /// theirs has nobody yet. Default: 200,000.
    pub peers: usize,
    /// How often peers are told to announce. Default: half an hour.
    pub interval: Duration,
    /// How long a peer stays without announcing. Default: twice the interval, an hour.
    pub expire_after: Duration,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self {
            torrents: 10_000,
            peers_per_torrent: 2000,
            peers: 200_000,
            interval: INTERVAL,
            expire_after: INTERVAL.saturating_mul(2),
        }
    }
}

/// Peers by torrent and address.
#[derive(Debug)]
pub(super) struct PeerTable {
    limits: TableLimits,
    /// None of them is without peers.
    torrents: BTreeMap<InfoHash, Torrent>,
    /// Exactly the peers of `torrents`, by when they last announced.
    by_age: BTreeSet<(Instant, InfoHash, SocketAddr)>,
    rng: Rng,
}

#[derive(Debug, Default)]
struct Torrent {
    /// IPv4 before IPv6.
    peers: BTreeMap<SocketAddr, Peer>,
    /// How many of `peers` are seeds.
    seeds: usize,
    downloaded: u32,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    id: PeerId,
    is_seed: bool,
    announced_at: Instant,
}

/// Whose addresses to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// Those of the asker's address family.
    Own,
    /// All; at least half of them of the asker's family, if there are as many.
    Both,
}

/// What someone who announces is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableReply {
    pub(super) counts: ScrapeEntry,
    /// In random order; at most 200.
    pub(super) peers: Vec<(SocketAddr, PeerId)>,
}

/// There is no room for another torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableFull;

impl PeerTable {
    pub(super) const fn new(limits: TableLimits, rng: Rng) -> Self {
        Self { limits, torrents: BTreeMap::new(), by_age: BTreeSet::new(), rng }
    }

    pub(super) const fn limits(&self) -> &TableLimits {
        &self.limits
    }

    /// Someone at `from` tells of itself, and is told of others: random ones, never itself, and no
    /// seeds if it is one.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        from: IpAddr,
        request: &AnnounceRequest,
        families: Families,
    ) -> Result<TableReply, TableFull> {
        self.expire(now);
        let addr = SocketAddr::new(from, request.port);
        match request.event {
            AnnounceEvent::Stopped => {
                self.remove(request.info_hash, addr);
                let counts = self.counts(request.info_hash).unwrap_or_default();
                return Ok(TableReply { counts, peers: Vec::new() });
            }
            AnnounceEvent::None
            | AnnounceEvent::Started
            | AnnounceEvent::Completed
            | AnnounceEvent::Paused => {
                if self.has_room(request.info_hash, addr) {
                    self.put(now, addr, request);
                }
            }
        }
        let counts = self.counts(request.info_hash).ok_or(TableFull)?;
        Ok(TableReply { counts, peers: self.pick(addr, request, families) })
    }

    /// What is known of a torrent; `None` if it has no peers.
    pub(super) fn scrape(&mut self, now: Instant, info_hash: InfoHash) -> Option<ScrapeEntry> {
        self.expire(now);
        self.counts(info_hash)
    }

    pub(super) fn torrent_count(&self) -> usize {
        self.torrents.len()
    }

    pub(super) fn peer_count(&self) -> usize {
        self.by_age.len()
    }

    fn counts(&self, info_hash: InfoHash) -> Option<ScrapeEntry> {
        let torrent = self.torrents.get(&info_hash)?;
        let count = |peers: usize| u32::try_from(peers).unwrap_or(u32::MAX);
        Some(ScrapeEntry {
            complete: count(torrent.seeds),
            downloaded: torrent.downloaded,
            incomplete: count(torrent.peers.len() - torrent.seeds),
        })
    }

    fn has_room(&self, info_hash: InfoHash, addr: SocketAddr) -> bool {
        let torrent = self.torrents.get(&info_hash);
        if torrent.is_some_and(|torrent| torrent.peers.contains_key(&addr)) {
            return true;
        }
        let peers = torrent.map_or(0, |torrent| torrent.peers.len());
        self.by_age.len() < self.limits.peers
            && peers < self.limits.peers_per_torrent
            && (torrent.is_some() || self.torrents.len() < self.limits.torrents)
    }

    fn put(&mut self, now: Instant, addr: SocketAddr, request: &AnnounceRequest) {
        let is_seed = request.left == 0;
        let torrent = self.torrents.entry(request.info_hash).or_default();
        let peer = Peer { id: request.peer_id, is_seed, announced_at: now };
        let before = torrent.peers.insert(addr, peer);
        let was_seed = before.is_some_and(|before| before.is_seed);
        torrent.seeds = torrent.seeds + usize::from(is_seed) - usize::from(was_seed);
        // Told twice, it still happened once.
        if request.event == AnnounceEvent::Completed && is_seed && !was_seed {
            torrent.downloaded = torrent.downloaded.saturating_add(1);
        }
        if let Some(before) = before {
            self.by_age.remove(&(before.announced_at, request.info_hash, addr));
        }
        self.by_age.insert((now, request.info_hash, addr));
    }

    /// Forgets a peer, and with its last peer a torrent.
    fn remove(&mut self, info_hash: InfoHash, addr: SocketAddr) {
        let Some(torrent) = self.torrents.get_mut(&info_hash) else { return };
        let Some(peer) = torrent.peers.remove(&addr) else { return };
        torrent.seeds -= usize::from(peer.is_seed);
        if torrent.peers.is_empty() {
            self.torrents.remove(&info_hash);
        }
        self.by_age.remove(&(peer.announced_at, info_hash, addr));
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(announced_at, info_hash, addr)) = self.by_age.first() {
            if now.saturating_duration_since(announced_at) < self.limits.expire_after {
                return;
            }
            self.remove(info_hash, addr);
        }
    }

    fn pick(
        &mut self,
        addr: SocketAddr,
        request: &AnnounceRequest,
        families: Families,
    ) -> Vec<(SocketAddr, PeerId)> {
        let numwant = request.numwant.map_or(NUMWANT_USUAL, |count| count as usize);
        let numwant = numwant.min(NUMWANT_MAX);
        let Some(torrent) = self.torrents.get(&request.info_hash) else { return Vec::new() };
        // Of a torrent that it has by a link, aria2 says when it begins that nothing is left.
        let wants_seeds = request.left > 0 || request.event == AnnounceEvent::Started;
        let is_of_use = |(at, peer): &(&SocketAddr, &Peer)| {
            // The same name at another address is the asker too, by its other family.
            **at != addr && peer.id != request.peer_id && (wants_seeds || !peer.is_seed)
        };
        let (mut own, mut other): (Vec<_>, Vec<_>) = torrent
            .peers
            .iter()
            .filter(is_of_use)
            .map(|(at, peer)| (*at, peer.id))
            .partition(|(at, _)| at.is_ipv4() == addr.is_ipv4());
        let other_wanted = match families {
            Families::Own => 0,
            Families::Both => (numwant / 2).max(numwant.saturating_sub(own.len())),
        };
        keep_random(&mut other, other_wanted, &mut self.rng);
        keep_random(&mut own, numwant - other.len(), &mut self.rng);
        own.append(&mut other);
        own
    }
}

/// Keeps `count` items, every choice equally likely.
fn keep_random<T>(items: &mut Vec<T>, count: usize, rng: &mut Rng) {
    for at in 0..count.min(items.len()) {
        let from = at + rng.below(items.len() - at);
        items.swap(at, from);
    }
    items.truncate(count);
}

const INTERVAL: Duration = Duration::from_secs(1800);
const NUMWANT_USUAL: usize = 50;
const NUMWANT_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::swarm::tests::epoch;
    use crate::tracker::AnnouncedEncryption;

    fn table(limits: TableLimits) -> PeerTable {
        PeerTable::new(limits, Rng::from_seed(5))
    }

    fn v4(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    fn v6(number: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number))
    }

    /// What the peer at `from` says of torrent `torrent`; its name follows from its address.
    fn request(torrent: u8, from: IpAddr, left: u64) -> AnnounceRequest {
        let mut id = [from.is_ipv4().into(); 20];
        let number = match from {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(ip) => u128::from(ip) as u32,
        };
        id[..4].copy_from_slice(&number.to_be_bytes());
        AnnounceRequest {
            info_hash: InfoHash([torrent; 20]),
            peer_id: PeerId(id),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left,
            event: AnnounceEvent::None,
            numwant: Some(200),
            key: 0,
            tracker_id: None,
            encryption: AnnouncedEncryption::None,
        }
    }

    /// Announces to torrent 1; the addresses that are named, sorted.
    fn announce(
        table: &mut PeerTable,
        now: Instant,
        from: IpAddr,
        left: u64,
        families: Families,
    ) -> Vec<IpAddr> {
        let reply = table.announce(now, from, &request(1, from, left), families).expect("room");
        let mut ips: Vec<IpAddr> = reply.peers.iter().map(|(addr, _)| addr.ip()).collect();
        ips.sort_unstable();
        ips
    }

    fn counts(table: &mut PeerTable, now: Instant) -> Option<(u32, u32, u32)> {
        let entry = table.scrape(now, InfoHash([1; 20]))?;
        Some((entry.complete, entry.downloaded, entry.incomplete))
    }

    #[test]
    fn peers_learn_of_each_other_but_not_of_themselves_and_seeds_not_of_seeds() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        assert_eq!(announce(&mut table, now, v4(1), 5, Families::Own), [] as [IpAddr; 0]);
        assert_eq!(announce(&mut table, now, v4(2), 0, Families::Own), [v4(1)]);
        assert_eq!(announce(&mut table, now, v4(3), 0, Families::Own), [v4(1)]);
        assert_eq!(announce(&mut table, now, v4(4), 9, Families::Own), [v4(1), v4(2), v4(3)]);
        assert_eq!(announce(&mut table, now, v4(1), 5, Families::Own), [v4(2), v4(3), v4(4)]);
        assert_eq!(counts(&mut table, now), Some((2, 0, 2)));
    }

    #[test]
    fn who_begins_with_a_link_only_may_say_that_nothing_is_left_and_hears_of_seeds() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        announce(&mut table, now, v4(1), 0, Families::Own);
        let mut named = |event| {
            let request = AnnounceRequest { event, ..request(1, v4(2), 0) };
            table.announce(now, v4(2), &request, Families::Own).expect("room").peers.len()
        };
        assert_eq!((named(AnnounceEvent::Started), named(AnnounceEvent::None)), (1, 0));
    }

    #[test]
    fn a_peer_at_two_addresses_is_not_named_to_itself() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        let mut both = request(1, v4(1), 5);
        table.announce(now, v4(1), &both, Families::Both).expect("room");
        both.port = 7000;
        let reply = table.announce(now, v6(1), &both, Families::Both).expect("room");
        assert_eq!((reply.counts.incomplete, reply.peers), (2, Vec::new()));
    }

    #[test]
    fn each_family_is_told_of_its_own_or_of_both() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        for number in 1..=3 {
            announce(&mut table, now, v4(number), 5, Families::Own);
            announce(&mut table, now, v6(number), 5, Families::Own);
        }
        assert_eq!(announce(&mut table, now, v4(1), 5, Families::Own), [v4(2), v4(3)]);
        assert_eq!(announce(&mut table, now, v6(1), 5, Families::Own), [v6(2), v6(3)]);
        let both = announce(&mut table, now, v6(1), 5, Families::Both);
        assert_eq!(both, [v4(1), v4(2), v4(3), v6(2), v6(3)]);
    }

    #[test]
    fn no_more_are_named_than_wanted_and_at_least_half_of_the_own_family() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        for number in 0..300 {
            announce(&mut table, now, v4(number), 5, Families::Own);
            announce(&mut table, now, v6(number), 5, Families::Own);
        }
        let mut named = |numwant, families| {
            let request = AnnounceRequest { numwant, ..request(1, v4(0), 5) };
            let peers = table.announce(now, v4(0), &request, families).expect("room").peers;
            let own = peers.iter().filter(|(addr, _)| addr.is_ipv4()).count();
            (own, peers.len() - own)
        };
        assert_eq!(named(None, Families::Own), (50, 0));
        assert_eq!(named(Some(u32::MAX), Families::Own), (200, 0));
        assert_eq!(named(Some(0), Families::Both), (0, 0));
        assert_eq!(named(Some(1), Families::Both), (1, 0));
        assert_eq!(named(Some(11), Families::Both), (6, 5));
    }

    #[test]
    fn over_time_everyone_is_named() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        (0..100).for_each(|number| {
            announce(&mut table, now, v4(number), 5, Families::Own);
        });
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let request = AnnounceRequest { numwant: Some(10), ..request(1, v4(0), 5) };
            let reply = table.announce(now, v4(0), &request, Families::Own).expect("room");
            assert_eq!(reply.peers.len(), 10);
            seen.extend(reply.peers);
        }
        assert_eq!(seen.len(), 99);
    }

    #[test]
    fn who_stops_or_falls_silent_is_forgotten_and_the_torrent_with_its_last_peer() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        announce(&mut table, now, v4(1), 5, Families::Own);
        announce(&mut table, now, v4(2), 0, Families::Own);
        announce(&mut table, now, v4(3), 0, Families::Own);
        let stop = AnnounceRequest { event: AnnounceEvent::Stopped, ..request(1, v4(2), 0) };
        let reply = table.announce(now, v4(2), &stop, Families::Own).expect("always room");
        assert_eq!((reply.counts.complete, reply.peers), (1, Vec::new()));
        table.announce(now, v4(2), &stop, Families::Own).expect("harmless twice");
        let later = now + Duration::from_secs(3000);
        announce(&mut table, later, v4(1), 5, Families::Own);
        assert_eq!(counts(&mut table, later), Some((1, 0, 1)));
        let later = now + Duration::from_secs(3600);
        assert_eq!(counts(&mut table, later), Some((0, 0, 1)));
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(counts(&mut table, much_later), None);
        assert_eq!((table.torrent_count(), table.peer_count()), (0, 0));
    }

    #[test]
    fn a_completion_counts_once() {
        let (mut table, now) = (table(TableLimits::default()), epoch());
        announce(&mut table, now, v4(1), 5, Families::Own);
        let done = AnnounceRequest { event: AnnounceEvent::Completed, ..request(1, v4(1), 0) };
        for _ in 0..2 {
            table.announce(now, v4(1), &done, Families::Own).expect("room");
        }
        assert_eq!(counts(&mut table, now), Some((1, 1, 0)));
        announce(&mut table, now, v4(1), 5, Families::Own);
        assert_eq!(counts(&mut table, now), Some((0, 1, 1)));
    }

    #[test]
    fn when_there_is_no_room_those_who_are_here_stay() {
        let limits =
            TableLimits { torrents: 2, peers_per_torrent: 2, peers: 3, ..TableLimits::default() };
        let (mut table, now) = (table(limits), epoch());
        announce(&mut table, now, v4(1), 5, Families::Own);
        announce(&mut table, now, v4(2), 5, Families::Own);
        // The third of a full torrent is told of the others, and they are not told of it.
        assert_eq!(announce(&mut table, now, v4(3), 5, Families::Own), [v4(1), v4(2)]);
        assert_eq!(announce(&mut table, now, v4(1), 5, Families::Own), [v4(2)]);
        let mut other =
            |torrent, from| table.announce(now, from, &request(torrent, from, 5), Families::Own);
        assert!(other(2, v4(1)).is_ok());
        assert_eq!(other(2, v4(2)).expect("told, not kept").counts.incomplete, 1);
        assert_eq!(other(3, v4(1)), Err(TableFull));
        assert_eq!((table.torrent_count(), table.peer_count()), (2, 3));
        // Silence makes room.
        let later = now + limits.expire_after;
        assert!(table.announce(later, v4(9), &request(9, v4(9), 5), Families::Own).is_ok());
        assert_eq!((table.torrent_count(), table.peer_count()), (1, 1));
    }
}
