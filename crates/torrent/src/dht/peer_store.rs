//! Who has announced which torrent to us ([BEP 5]), and a sample of the torrents ([BEP 51]).
//!
//! Memory is bounded. When it is full the oldest announce goes. Nobody alone can push out the others: who has
//! announced more than a share is not listened to, and of one torrent his latest ports are kept.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 51]: https://www.bittorrent.org/beps/bep_0051.html

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::bloom::Bloom;
use super::node_id::{NodeId, holder, is_local};
use crate::Rng;

/// Peers by torrent and address.
#[derive(Debug)]
pub(super) struct PeerStore {
    /// No torrent is without peers.
    torrents: BTreeMap<NodeId, BTreeMap<SocketAddr, Announced>>,
    /// Exactly those of `torrents`, by age.
    by_age: BTreeSet<(Instant, NodeId, SocketAddr)>,
    /// How many of them are of each [`holder`].
    by_holder: BTreeMap<IpAddr, usize>,
    sample: Vec<u8>,
    sampled_at: Option<Instant>,
}

/// The last that a peer has told.
#[derive(Clone, Copy, Debug)]
struct Announced {
    at: Instant,
    is_seed: bool,
}

impl PeerStore {
    pub(super) const fn new() -> Self {
        Self {
            torrents: BTreeMap::new(),
            by_age: BTreeSet::new(),
            by_holder: BTreeMap::new(),
            sample: Vec::new(),
            sampled_at: None,
        }
    }

    /// A peer takes part in a torrent.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        info_hash: NodeId,
        peer: SocketAddr,
        is_seed: bool,
    ) {
        self.expire(now);
        self.remove(info_hash, peer);
        let of_holder = self.by_holder.get(&holder(peer.ip()));
        if of_holder.is_some_and(|count| *count >= PEERS_PER_HOLDER_MAX) {
            return;
        }
        if let Some(other) = self.gives_way(&info_hash, peer) {
            self.remove(info_hash, other);
        }
        if self.by_age.len() >= PEERS_MAX
            && let Some(&(_, hash, addr)) = self.by_age.first()
        {
            self.remove(hash, addr);
        }
        self.torrents.entry(info_hash).or_default().insert(peer, Announced { at: now, is_seed });
        self.by_age.insert((now, info_hash, peer));
        *self.by_holder.entry(holder(peer.ip())).or_default() += 1;
    }

    /// Which peer of a torrent must go for another: the oldest of the same holder, if that has as many ports as it
    /// may; the oldest of all, if there are too many.
    fn gives_way(&self, info_hash: &NodeId, peer: SocketAddr) -> Option<SocketAddr> {
        let peers = self.torrents.get(info_hash)?;
        let of_same = peers.iter().filter(|(addr, _)| holder(addr.ip()) == holder(peer.ip()));
        let oldest = if !is_local(peer.ip()) && of_same.clone().count() >= PORTS_PER_TORRENT_MAX {
            of_same.min_by_key(|(_, announced)| announced.at)
        } else if peers.len() >= PEERS_PER_TORRENT_MAX {
            peers.iter().min_by_key(|(_, announced)| announced.at)
        } else {
            None
        };
        oldest.map(|(addr, _)| *addr)
    }

    /// Who seeds a torrent, and who still downloads it, to be counted ([BEP 33]); `None` if nobody is known.
    ///
    /// [BEP 33]: https://www.bittorrent.org/beps/bep_0033.html
    pub(super) fn filters(&mut self, now: Instant, info_hash: &NodeId) -> Option<[Bloom; 2]> {
        self.expire(now);
        let mut filters = [Bloom::default(), Bloom::default()];
        for (addr, announced) in self.torrents.get(info_hash)? {
            let [seeds, downloaders] = &mut filters;
            let filter = if announced.is_seed { seeds } else { downloaders };
            filter.insert(addr.ip());
        }
        Some(filters)
    }

    /// Some peers of a torrent, of those that are wanted: by their addresses, and whether they have said that they have
    /// all of it. Which ones is chance.
    pub(super) fn peers(
        &mut self,
        now: Instant,
        info_hash: &NodeId,
        is_wanted: impl Fn(SocketAddr, bool) -> bool,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        self.expire(now);
        let Some(peers) = self.torrents.get(info_hash) else { return Vec::new() };
        let wanted = peers.iter().filter(|(peer, told)| is_wanted(**peer, told.is_seed));
        let mut found: Vec<_> = wanted.map(|(peer, _)| *peer).collect();
        let is_ipv4 = found.iter().all(SocketAddr::is_ipv4);
        let max = if is_ipv4 { REPLY_V4_MAX } else { REPLY_V6_MAX };
        if found.len() > max {
            rng.shuffle(&mut found);
            found.truncate(max);
        }
        found
    }

    /// Some torrents, one after the other, the same for a while; and how many there are.
    pub(super) fn sample(&mut self, now: Instant, rng: &mut Rng) -> (&[u8], usize) {
        self.expire(now);
        let is_fresh = |at| now.saturating_duration_since(at) < SAMPLE_FOR;
        if !self.sampled_at.is_some_and(is_fresh) {
            let mut hashes: Vec<&NodeId> = self.torrents.keys().collect();
            rng.shuffle(&mut hashes);
            self.sample = hashes.iter().take(SAMPLE_MAX).flat_map(|hash| hash.0).collect();
            // What is not full yet may change soon.
            self.sampled_at = (hashes.len() >= SAMPLE_MAX).then_some(now);
        }
        (&self.sample, self.torrents.len())
    }

    /// How many torrents there are, and how many peers in all.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.torrents.len(), self.by_age.len())
    }

    /// Forgets who has been silent for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(at, hash, addr)) = self.by_age.first()
            && now.saturating_duration_since(at) >= EXPIRE_AFTER
        {
            self.remove(hash, addr);
        }
    }

    fn remove(&mut self, info_hash: NodeId, peer: SocketAddr) {
        let Some(peers) = self.torrents.get_mut(&info_hash) else { return };
        let Some(Announced { at, .. }) = peers.remove(&peer) else { return };
        if peers.is_empty() {
            self.torrents.remove(&info_hash);
        }
        self.by_age.remove(&(at, info_hash, peer));
        let holder = holder(peer.ip());
        if let Some(count) = self.by_holder.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                self.by_holder.remove(&holder);
            }
        }
    }
}

/// Of all torrents together.
const PEERS_MAX: usize = 50_000;
const PEERS_PER_TORRENT_MAX: usize = 500;
/// Of one holder, in all torrents.
const PEERS_PER_HOLDER_MAX: usize = 500;
/// Of one holder, of one torrent; there may be several peers behind a router. In local networks each may be somebody.
const PORTS_PER_TORRENT_MAX: usize = 8;
/// How many are told at once, so that a reply fits into a packet.
const REPLY_V4_MAX: usize = 64;
const REPLY_V6_MAX: usize = 32;
/// Clients announce every quarter or half of an hour.
const EXPIRE_AFTER: Duration = Duration::from_secs(45 * 60);
const SAMPLE_MAX: usize = 20;
/// How long a sample stays the same: nobody can have all by asking often.
pub(super) const SAMPLE_FOR: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    fn is_v4(peer: SocketAddr, _is_seed: bool) -> bool {
        peer.is_ipv4()
    }

    fn peer(number: u32) -> SocketAddr {
        ((number + 0x0100_0000).to_be_bytes(), 6881).into()
    }

    #[test]
    fn remembers_who_announced_until_it_falls_silent() {
        let (mut store, mut rng) = (PeerStore::new(), Rng::from_seed(1));
        let hash = NodeId([1; 20]);
        let v6: SocketAddr = "[2001:db8::1]:1".parse().expect("an address");
        store.announce(epoch(), hash, peer(1), false);
        store.announce(epoch() + EXPIRE_AFTER / 2, hash, peer(2), false);
        store.announce(epoch(), hash, v6, false);
        assert_eq!(store.peers(epoch(), &hash, is_v4, &mut rng), [peer(1), peer(2)]);
        assert_eq!(store.peers(epoch(), &hash, |peer, _| peer.is_ipv6(), &mut rng), [v6]);
        assert_eq!(store.peers(epoch() + EXPIRE_AFTER, &hash, is_v4, &mut rng), [peer(2)]);
        assert_eq!(store.peers(epoch() + EXPIRE_AFTER * 2, &hash, is_v4, &mut rng), []);
        assert_eq!(store.counts(), (0, 0));
        assert!(store.by_holder.is_empty());
    }

    #[test]
    fn however_many_announce_memory_is_bounded_and_replies_are_short() {
        let (mut store, mut rng) = (PeerStore::new(), Rng::from_seed(1));
        let hash = NodeId([1; 20]);
        for number in 0..2000 {
            store.announce(epoch(), hash, peer(number), false);
        }
        assert_eq!(store.counts(), (1, PEERS_PER_TORRENT_MAX));
        let first = store.peers(epoch(), &hash, is_v4, &mut rng);
        let second = store.peers(epoch(), &hash, is_v4, &mut rng);
        assert!(first.len() == REPLY_V4_MAX && first != second, "others each time");
        for port in 1..2000 {
            let other = NodeId::random(&mut rng);
            store.announce(epoch(), other, ([9, 9, 9, 9], port).into(), false);
        }
        assert_eq!(store.counts().1, PEERS_PER_TORRENT_MAX + PEERS_PER_HOLDER_MAX);
        for number in 0..60_000 {
            store.announce(epoch(), NodeId::random(&mut rng), peer(number), false);
        }
        assert_eq!(store.counts().1, PEERS_MAX);
        assert_eq!(store.torrents.values().map(BTreeMap::len).sum::<usize>(), PEERS_MAX);
    }

    #[test]
    fn nobody_alone_is_all_the_peers_of_a_torrent() {
        let (mut store, mut rng) = (PeerStore::new(), Rng::from_seed(1));
        let hash = NodeId([1; 20]);
        store.announce(epoch(), hash, peer(1), false);
        for port in 1..2000 {
            store.announce(epoch(), hash, ([9, 9, 9, 9], port).into(), false);
            let v6 = IpAddr::from((0x2001_u128 << 112 | u128::from(port)).to_be_bytes());
            store.announce(epoch(), hash, SocketAddr::new(v6, 1), false);
        }
        assert_eq!(store.counts().1, 1 + 2 * PORTS_PER_TORRENT_MAX);
        let found = store.peers(epoch(), &hash, is_v4, &mut rng);
        assert!(found.contains(&peer(1)) && found.contains(&([9, 9, 9, 9], 1999).into()));
    }

    #[test]
    fn who_comes_to_a_full_torrent_takes_the_place_of_who_is_silent_for_longest() {
        let (mut store, mut rng) = (PeerStore::new(), Rng::from_seed(1));
        let hash = NodeId([1; 20]);
        for number in 0..PEERS_PER_TORRENT_MAX as u32 {
            let now = epoch() + Duration::from_millis(number.into());
            store.announce(now, hash, peer(number), false);
        }
        store.announce(epoch() + Duration::from_secs(9), hash, peer(9999), true);
        assert_eq!(store.counts().1, PEERS_PER_TORRENT_MAX);
        let all: BTreeSet<_> = store.by_age.iter().map(|(_, _, addr)| *addr).collect();
        assert!(all.contains(&peer(9999)) && !all.contains(&peer(0)) && all.contains(&peer(1)));
        assert_eq!(store.peers(epoch(), &hash, is_v4, &mut rng).len(), REPLY_V4_MAX);
    }

    #[test]
    fn seeds_and_downloaders_are_counted_apart() {
        let mut store = PeerStore::new();
        let hash = NodeId([1; 20]);
        assert!(store.filters(epoch(), &hash).is_none());
        for number in 0..40 {
            store.announce(epoch(), hash, peer(number), number < 10);
        }
        let counts = store.filters(epoch(), &hash).expect("known").map(|filter| filter.count());
        assert_eq!(counts, [10, 29], "about: two share their bits");
    }

    #[test]
    fn a_sample_stays_the_same_for_a_while() {
        let (mut store, mut rng) = (PeerStore::new(), Rng::from_seed(1));
        assert_eq!(store.sample(epoch(), &mut rng), (&[][..], 0));
        for number in 0..100 {
            store.announce(epoch(), NodeId::random(&mut rng), peer(number), false);
        }
        let first = store.sample(epoch(), &mut rng).0.to_vec();
        assert_eq!(first.len(), 20 * SAMPLE_MAX);
        assert_eq!(store.sample(epoch(), &mut rng), (&first[..], 100));
        assert_ne!(store.sample(epoch() + SAMPLE_FOR, &mut rng), (&first[..], 100));
    }
}
