//! The nodes that we know: many that are near to us, few that are far ([BEP 5]).
//!
//! Bucket `n` holds nodes whose names share exactly `n` bits with ours; the last one those that share
//! more, too, and is split when it is full. Only who has answered a question of ours gets in: others
//! may be inventions. Long-lived nodes stay; newcomers wait in a bucket's cache of spares until someone
//! fails. Against one who is many: a node for each address, two for each subnet in a bucket, and names
//! that fit their address ([BEP 42]) before names that do not. Local networks are exempt.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 42]: https://www.bittorrent.org/beps/bep_0042.html

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::node_id::{Contact, NodeId, is_local, subnet};
use crate::Rng;

/// Nodes of one family of addresses.
#[derive(Debug)]
pub(super) struct RoutingTable {
    own: NodeId,
    /// Never empty, at most 160.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    /// At most [`K`].
    live: Vec<Entry>,
    /// Who takes the place of one that fails; at most [`SPARES_MAX`], the latest at the end.
    spares: Vec<Entry>,
    /// When a node was last looked for here.
    refreshed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    contact: Contact,
    /// When it last answered, or, having answered before, asked.
    seen_at: Instant,
    /// When it last answered, or was asked whether it is there.
    tried_at: Instant,
    /// How many questions in a row it has not answered.
    failures: u8,
}

impl RoutingTable {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, buckets: vec![Bucket::default()] }
    }

    /// Our name.
    pub(super) const fn own(&self) -> &NodeId {
        &self.own
    }

    /// We are somebody else; everyone finds a new place.
    pub(super) fn rename(&mut self, own: NodeId) {
        let buckets = std::mem::replace(self, Self::new(own)).buckets;
        for entry in
            buckets.into_iter().flat_map(|bucket| bucket.live.into_iter().chain(bucket.spares))
        {
            self.insert(entry);
        }
    }

    /// A node has answered.
    pub(super) fn replied(&mut self, now: Instant, contact: Contact) {
        if contact.id == self.own {
            return;
        }
        self.insert(Entry { contact, seen_at: now, tried_at: now, failures: 0 });
    }

    /// A node has asked us something. Returns whether it is worth asking back: it is not known, and
    /// there would be room.
    pub(super) fn asked(&mut self, now: Instant, contact: Contact) -> bool {
        let index = self.index(&contact.id);
        let is_last = index + 1 == self.buckets.len();
        let bucket = &mut self.buckets[index];
        if let Some(entry) = bucket.live.iter_mut().find(|entry| entry.contact == contact) {
            // Only an answer clears failures: the address of a question can be forged.
            if entry.failures == 0 {
                entry.seen_at = now;
            }
            return false;
        }
        let has_room = bucket.live.len() < K
            || is_last
            || bucket.live.iter().any(|entry| entry.failures > 0)
            || bucket.spares.len() < SPARES_MAX / 2;
        has_room && contact.id != self.own && !bucket.spares.iter().any(|e| e.contact == contact)
    }

    /// A node has not answered. After the second time another takes its place, if there is one. But when we are
    /// `is_cut_off` from everyone it is only not told to others any more, until it answers.
    pub(super) fn failed(&mut self, addr: SocketAddr, is_cut_off: bool) {
        for bucket in &mut self.buckets {
            if is_cut_off {
                let of_this = bucket.live.iter_mut().filter(|e| e.contact.addr == addr);
                of_this.for_each(|entry| entry.failures = entry.failures.max(1));
                continue;
            }
            bucket.spares.retain(|entry| entry.contact.addr != addr);
            let Some(at) = bucket.live.iter().position(|e| e.contact.addr == addr) else {
                continue;
            };
            bucket.live[at].failures += 1;
            let failures = bucket.live[at].failures;
            if failures >= FAILURES_MAX {
                bucket.live.remove(at);
            } else if failures < FAILURES_BAD {
                return;
            }
            if let Some(spare) = bucket.spares.pop() {
                if failures < FAILURES_MAX {
                    bucket.live.remove(at);
                }
                bucket.live.push(spare);
            }
            return;
        }
    }

    fn insert(&mut self, entry: Entry) {
        let (id, addr) = (entry.contact.id, entry.contact.addr);
        if !self.admits(&entry.contact) {
            return;
        }
        loop {
            let index = self.index(&id);
            let may_split = index + 1 == self.buckets.len() && index < 159;
            let bucket = &mut self.buckets[index];
            if let Some(known) = bucket.live.iter_mut().find(|known| known.contact.id == id) {
                // A name is its bearer's until that one has failed.
                if known.contact.addr == addr || known.failures >= FAILURES_BAD {
                    *known = entry;
                }
                return;
            }
            if !is_local(addr.ip()) && bucket.neighbours(addr) >= SUBNET_MAX {
                return;
            }
            if bucket.live.len() < K {
                bucket.spares.retain(|spare| spare.contact.id != id);
                return bucket.live.push(entry);
            }
            if !may_split {
                return bucket.insert_into_full(entry);
            }
            self.split();
        }
    }

    /// Whether a node may have a place: others at its address may not. One that has another name than
    /// before loses its old place.
    fn admits(&mut self, contact: &Contact) -> bool {
        for bucket in &mut self.buckets {
            let is_former =
                |e: &Entry| e.contact.addr == contact.addr && e.contact.id != contact.id;
            bucket.live.retain(|entry| !is_former(entry));
            bucket.spares.retain(|entry| !is_former(entry));
        }
        let is_neighbour =
            |known: Contact| known.addr.ip() == contact.addr.ip() && known.addr != contact.addr;
        is_local(contact.addr.ip()) || !self.contacts().any(is_neighbour)
    }

    fn split(&mut self) {
        let bits = self.buckets.len() - 1;
        let last = &mut self.buckets[bits];
        // Both have room again.
        last.refreshed_at = None;
        let mut next = Bucket::default();
        let own = self.own;
        let is_nearer = |entry: &mut Entry| own.shared_bits(&entry.contact.id) > bits;
        next.live = last.live.extract_if(.., is_nearer).collect();
        next.spares = last.spares.extract_if(.., is_nearer).collect();
        self.buckets.push(next);
    }

    fn index(&self, id: &NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    /// The nodes nearest to a place, nearest first; none that has just failed.
    pub(super) fn closest(&self, target: &NodeId, count: usize) -> Vec<Contact> {
        let index = self.index(target);
        let mut found = Vec::with_capacity(2 * K);
        // The bucket that the place belongs to, then all that are nearer to us (they are equally far from
        // the place), then bucket by bucket away from us.
        found.extend(self.buckets[index].usable());
        if found.len() < count {
            found.extend(self.buckets[index + 1..].iter().flat_map(Bucket::usable));
        }
        for bucket in self.buckets[..index].iter().rev() {
            if found.len() >= count {
                break;
            }
            found.extend(bucket.usable());
        }
        found.sort_unstable_by_key(|contact| contact.id.distance(target));
        found.truncate(count);
        found
    }

    /// Whom to ask whether it is still there, of those that have not been heard of for long: all in turn, so that
    /// nobody who answers strangely keeps us from the others.
    pub(super) fn questionable(&mut self, now: Instant) -> Option<Contact> {
        let is_stale = |entry: &&mut Entry| {
            (entry.failures > 0 || now.saturating_duration_since(entry.seen_at) >= GOOD_FOR)
                && now.saturating_duration_since(entry.tried_at) >= TRY_EVERY
        };
        let live = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.live);
        let entry = live.filter(is_stale).min_by_key(|entry| entry.tried_at)?;
        entry.tried_at = now;
        Some(entry.contact)
    }

    /// A place to look for nodes at, if there is a bucket in which that has not been done for long, or
    /// never and it has room.
    pub(super) fn refresh(&mut self, now: Instant, rng: &mut Rng) -> Option<NodeId> {
        // A full one has no need of it for now; but the last is only full until it is split.
        let last = self.buckets.len() - 1;
        for bucket in self.buckets[..last].iter_mut().filter(|bucket| bucket.live.len() >= K) {
            bucket.refreshed_at.get_or_insert(now);
        }
        let is_due = |bucket: &Bucket| {
            bucket.refreshed_at.is_none_or(|at| now.saturating_duration_since(at) >= GOOD_FOR)
        };
        let bits = self.buckets.iter().position(is_due)?;
        self.buckets[bits].refreshed_at = Some(now);
        Some(self.own.random_sharing(bits, rng))
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.live.len()).sum()
    }

    /// How many nodes there are that have not just failed.
    pub(super) fn usable(&self) -> usize {
        self.buckets.iter().flat_map(Bucket::usable).count()
    }

    /// How many nodes have been heard of lately.
    pub(super) fn good(&self, now: Instant) -> usize {
        let live = self.buckets.iter().flat_map(|bucket| &bucket.live);
        let is_good = |entry: &&Entry| {
            entry.failures == 0 && now.saturating_duration_since(entry.seen_at) < GOOD_FOR
        };
        live.filter(is_good).count()
    }

    /// All nodes, those far from us first.
    pub(super) fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.buckets.iter().flat_map(|bucket| bucket.live.iter().map(|entry| entry.contact))
    }
}

impl Bucket {
    /// Nodes to tell others of.
    fn usable(&self) -> impl Iterator<Item = Contact> {
        self.live.iter().filter(|entry| entry.failures == 0).map(|entry| entry.contact)
    }

    /// How many of its nodes are in the subnet of `addr`.
    fn neighbours(&self, addr: SocketAddr) -> usize {
        let wanted = subnet(addr.ip());
        self.live.iter().filter(|entry| subnet(entry.contact.addr.ip()) == wanted).count()
    }

    fn insert_into_full(&mut self, entry: Entry) {
        let fits = |entry: &Entry| entry.contact.id.fits(entry.contact.addr.ip());
        let worst = self.live.iter().max_by_key(|known| known.failures).map_or(0, |e| e.failures);
        let displaced = self.live.iter().position(|known| {
            if worst > 0 { known.failures == worst } else { fits(&entry) && !fits(known) }
        });
        if let Some(at) = displaced {
            self.live[at] = entry;
            return;
        }
        self.spares.retain(|spare| spare.contact.id != entry.contact.id);
        if self.spares.len() == SPARES_MAX {
            self.spares.remove(0);
        }
        self.spares.push(entry);
    }
}

/// How many nodes a bucket holds, how many are told to who asks, and how many hold what is stored.
pub(super) const K: usize = 8;
const SPARES_MAX: usize = 8;
/// In a bucket.
const SUBNET_MAX: usize = 2;
/// After as many questions without an answer a node gives way to a spare.
const FAILURES_BAD: u8 = 2;
/// After as many it is forgotten, whether or not there is another.
const FAILURES_MAX: u8 = 5;
/// How long a node that was heard of is taken to be there.
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// How soon one that was asked is asked again whether it is there.
const TRY_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    const SECOND: Duration = Duration::from_secs(1);

    fn table() -> RoutingTable {
        RoutingTable::new(NodeId([0; 20]))
    }

    /// Node `number`, whose name shares `bits` bits with ours.
    fn node(number: u8, bits: usize) -> Contact {
        let mut rng = Rng::from_seed(u64::from(number));
        let id = NodeId([0; 20]).random_sharing(bits, &mut rng);
        Contact { id, addr: ([10, 0, 0, number], 6881).into() }
    }

    #[test]
    fn only_the_bucket_of_our_own_neighbourhood_is_split() {
        let mut table = table();
        (0..40).for_each(|number| table.replied(epoch(), node(number, 0)));
        assert_eq!((table.len(), table.buckets.len()), (8, 2));
        (40..80).for_each(|number| table.replied(epoch(), node(number, usize::from(number % 40))));
        assert!(table.len() > 30 && table.buckets.len() > 20, "{}", table.len());
        assert!(table.buckets.iter().all(|bucket| bucket.live.len() <= K));
        assert_eq!(table.good(epoch()), table.len());
    }

    #[test]
    fn the_closest_are_those_that_sorting_all_would_give() {
        let mut rng = Rng::from_seed(3);
        let mut table = table();
        for number in 0..=255 {
            let contact = node(number, rng.below(12));
            table.replied(epoch(), contact);
        }
        let all: Vec<Contact> = table.contacts().collect();
        for _ in 0..200 {
            let target = NodeId([0; 20]).random_sharing(rng.below(14), &mut rng);
            let mut sorted = all.clone();
            sorted.sort_by_key(|contact| contact.id.distance(&target));
            sorted.truncate(8);
            assert_eq!(table.closest(&target, 8), sorted);
        }
    }

    #[test]
    fn who_fails_gives_way_to_a_spare_and_who_answers_stays() {
        let mut table = table();
        (0..9).for_each(|number| table.replied(epoch(), node(number, 0)));
        let is_here = |table: &RoutingTable, number| {
            table.contacts().any(|contact| contact == node(number, 0))
        };
        assert!(!is_here(&table, 8));
        table.failed(node(3, 0).addr, false);
        assert!(is_here(&table, 3), "once is no time");
        assert!(
            !table.closest(&node(3, 0).id, 8).contains(&node(3, 0)),
            "but nobody is told of it"
        );
        table.failed(node(3, 0).addr, false);
        assert!(!is_here(&table, 3) && is_here(&table, 8));
        for _ in 0..5 {
            table.failed(node(4, 0).addr, false);
        }
        assert_eq!(table.len(), 7, "without a spare its place is empty, in the end");
    }

    #[test]
    fn nobody_is_forgotten_while_we_hear_of_no_one() {
        let mut table = table();
        (0..8).for_each(|number| table.replied(epoch(), node(number, 0)));
        for _ in 0..20 {
            (0..8).for_each(|number| table.failed(node(number, 0).addr, true));
        }
        assert_eq!((table.len(), table.usable(), table.good(epoch())), (8, 0, 0));
        assert_eq!(table.closest(&NodeId([0; 20]), 8), []);
        table.replied(epoch(), node(3, 0));
        assert_eq!(table.closest(&NodeId([0; 20]), 8), [node(3, 0)]);
    }

    #[test]
    fn all_who_have_been_silent_are_asked_in_turn() {
        let mut table = table();
        (0..3).for_each(|number| table.replied(epoch(), node(number, 0)));
        let mut now = epoch() + GOOD_FOR;
        let mut asked: Vec<Contact> = Vec::new();
        while let Some(contact) = table.questionable(now) {
            asked.push(contact);
            now += SECOND;
        }
        asked.sort_unstable();
        let mut all: Vec<Contact> = table.contacts().collect();
        all.sort_unstable();
        assert_eq!(asked, all, "each once, whatever they answer");
        assert!(table.questionable(now + TRY_EVERY).is_some());
    }

    #[test]
    fn a_name_cannot_be_taken_from_its_bearer() {
        let mut table = table();
        table.replied(epoch(), node(1, 5));
        let thief = Contact { addr: ([10, 0, 0, 99], 1).into(), ..node(1, 5) };
        table.replied(epoch(), thief);
        assert_eq!(table.contacts().collect::<Vec<_>>(), [node(1, 5)]);
        table.failed(node(1, 5).addr, false);
        table.failed(node(1, 5).addr, false);
        table.replied(epoch(), thief);
        assert_eq!(table.contacts().collect::<Vec<_>>(), [thief]);
    }

    #[test]
    fn one_who_is_many_gets_one_place_for_each_address_and_two_for_each_subnet() {
        let mut rng = Rng::from_seed(4);
        let mut table = table();
        for port in 1..100 {
            let id = NodeId([0; 20]).random_sharing(0, &mut rng);
            table.replied(epoch(), Contact { id, addr: ([9, 9, 9, 9], port).into() });
        }
        assert_eq!(table.len(), 1);
        for host in 1..100 {
            let id = NodeId([0; 20]).random_sharing(0, &mut rng);
            table.replied(epoch(), Contact { id, addr: ([9, 9, 9, host], 1).into() });
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn names_that_fit_their_address_come_before_those_that_do_not() {
        let mut rng = Rng::from_seed(5);
        let mut table = table();
        for number in 0..8 {
            let id = NodeId([0; 20]).random_sharing(0, &mut rng);
            table.replied(epoch(), Contact { id, addr: ([9, number, 9, 9], 1).into() });
        }
        let addr = SocketAddr::from(([8, 8, 8, 8], 1));
        let id = loop {
            let id = NodeId::for_address(addr.ip(), &mut rng);
            if id.0[0] & 0x80 != 0 {
                break id;
            }
            table.rename(NodeId([0xff; 20]));
            if id.shared_bits(table.own()) == 0 {
                break id;
            }
        };
        table.replied(epoch(), Contact { id, addr });
        assert!(table.contacts().any(|contact| contact.addr == addr));
    }

    #[test]
    fn buckets_with_room_are_refreshed_once_and_all_every_quarter_of_an_hour() {
        let mut rng = Rng::from_seed(6);
        let mut table = table();
        (0..20).for_each(|number| table.replied(epoch(), node(number, usize::from(number % 3))));
        let mut now = epoch();
        let mut count = 0;
        while let Some(target) = table.refresh(now, &mut rng) {
            assert!(target.shared_bits(table.own()) <= table.buckets.len());
            count += 1;
        }
        assert!((1..=3).contains(&count));
        now += GOOD_FOR - SECOND;
        assert_eq!((table.refresh(now, &mut rng), table.questionable(now)), (None, None));
        now += SECOND;
        assert!(table.refresh(now, &mut rng).is_some() && table.questionable(now).is_some());
        assert_eq!(table.good(now), 0);
    }
}
