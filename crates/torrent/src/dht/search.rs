//! What is looked for, in the networks of all families at once, and what is done with what is found.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::bloom::Bloom;
use super::item::{Item, mutable_target};
use super::krpc::{Filters, Question, Reply, Signed};
use super::lookup::Lookup;
use super::node_id::{Contact, NodeId};
use super::query::Purpose;
use super::routing_table::K;
use super::{Node, Output, bloom};
use crate::{InfoHash, Reach};

/// Names a search of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchId(u64);

/// What came of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many nodes were asked.
    pub asked: usize,
    /// How many of them answered.
    pub replied: usize,
    /// Over how many others the nearest were heard of, at most.
    pub hops: u8,
    /// The nearest that answered.
    pub closest: Vec<Contact>,
    /// How many of them have stored what was to be stored.
    pub stored: usize,
    /// How many different peers were told, at most 4,096.
    pub peers: usize,
    /// About how many there are, if that was asked and anyone has told.
    pub scrape: Option<Scrape>,
}

/// About how many peers a torrent has, as the nodes near it say (BEP 33). Each number is at most some 7,800; nodes
/// that lie can make it that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Those that have all of it.
    pub seeds: u64,
    /// Those that have not.
    pub downloaders: u64,
}

/// What others are to know of us as a peer of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where we listen.
    pub port: u16,
    /// Where we do over IPv6, if not there: what a router maps for IPv4 leads nowhere. It is never implied.
    pub port_v6: Option<u16>,
    /// We are rather at the port that our datagrams come from: it is right behind a NAT, too, if TCP and UDP have
    /// the same, or peers may come by uTP.
    pub is_port_implied: bool,
    /// We have all of it (BEP 33).
    pub is_seed: bool,
}

impl Announce {
    /// A peer at this very port that has not said whether it has all.
    pub const fn at(port: u16) -> Self {
        Self { port, port_v6: None, is_port_implied: false, is_seed: false }
    }
}

#[derive(Debug)]
pub(super) struct Search {
    goal: Goal,
    lookups: [Option<Lookup>; 2],
    /// It is part of the upkeep, and nobody else wants to hear of it.
    is_ours: bool,
    /// How many answers to what is to be stored are still waited for; `None` while nodes are looked for.
    storing: Option<usize>,
    summary: Summary,
    /// At most [`PEERS_MAX`].
    peers: BTreeSet<SocketAddr>,
    item: Option<Item>,
    /// Seeds and downloaders, as all that have counted them say.
    counted: Option<Box<[Bloom; 2]>>,
}

#[derive(Debug)]
enum Goal {
    Nodes,
    /// And then perhaps tell the nearest that we are one.
    Peers {
        announce: Option<Announce>,
    },
    Scrape,
    /// With a key and salt: an item that changes.
    Get {
        signer: Option<([u8; 32], Vec<u8>)>,
    },
    Put {
        item: Item,
        cas: Option<i64>,
    },
    Samples,
}

/// There are as many searches under way as there may be: try again when one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{SEARCHES_MAX} searches are under way already")]
pub struct Busy;

impl Node {
    /// Searches for peers of a torrent.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn peers(&mut self, now: Instant, info_hash: InfoHash) -> Result<SearchId, Busy> {
        self.begin(now, info_hash.into(), Goal::Peers { announce: None })
    }

    /// Searches for peers of a torrent, and tells the nodes nearest to it that we are one.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn announce(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Announce,
    ) -> Result<SearchId, Busy> {
        self.begin(now, info_hash.into(), Goal::Peers { announce: Some(announce) })
    }

    /// Asks how many peers a torrent has (BEP 33): [`Summary::scrape`] will tell. Some peers are told, too.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn scrape(&mut self, now: Instant, info_hash: InfoHash) -> Result<SearchId, Busy> {
        self.begin(now, info_hash.into(), Goal::Scrape)
    }

    /// Searches for the nodes nearest to a place; they are told when it is done.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn find_nodes(&mut self, now: Instant, target: NodeId) -> Result<SearchId, Busy> {
        self.begin(now, target, Goal::Nodes)
    }

    /// Searches for the value with this hash (BEP 44).
    ///
    /// # Errors
    /// [`Busy`].
    pub fn get(&mut self, now: Instant, target: NodeId) -> Result<SearchId, Busy> {
        self.begin(now, target, Goal::Get { signer: None })
    }

    /// Searches for what the holder of a key has signed last (BEP 44).
    ///
    /// # Errors
    /// [`Busy`].
    pub fn get_signed(
        &mut self,
        now: Instant,
        key: &[u8; 32],
        salt: &[u8],
    ) -> Result<SearchId, Busy> {
        let signer = Some((*key, salt.to_vec()));
        self.begin(now, mutable_target(key, salt), Goal::Get { signer })
    }

    /// Stores an item with the nodes nearest to it; if `cas` is given, only where the number of what is
    /// there is that (BEP 44).
    ///
    /// # Errors
    /// [`Busy`].
    pub fn put(&mut self, now: Instant, item: Item, cas: Option<i64>) -> Result<SearchId, Busy> {
        self.begin(now, item.target(), Goal::Put { item, cas })
    }

    /// Asks the nodes near a place which torrents they know (BEP 51).
    ///
    /// # Errors
    /// [`Busy`].
    pub fn sample(&mut self, now: Instant, target: NodeId) -> Result<SearchId, Busy> {
        self.begin(now, target, Goal::Samples)
    }

    /// Ends a search. Nothing more is heard of it.
    pub fn cancel(&mut self, search: SearchId) {
        self.searches.remove(&search);
    }

    fn begin(&mut self, now: Instant, target: NodeId, goal: Goal) -> Result<SearchId, Busy> {
        if self.searches.values().filter(|search| !search.is_ours).count() >= SEARCHES_MAX {
            return Err(Busy);
        }
        let lookups = self.families.each_ref().map(|family| {
            let family = family.as_ref()?;
            let unnamed = family.is_lonely().then_some(family.boot_nodes()).into_iter().flatten();
            Some(Lookup::new(target, family.known(&target), unnamed))
        });
        let id = self.enter(goal, lookups, false);
        self.look_at_home(now, id, &target);
        self.advance(now, id);
        Ok(id)
    }

    /// Searches for nodes in one family, as part of the upkeep.
    pub(super) fn begin_upkeep(&mut self, now: Instant, is_v6: bool, lookup: Lookup) -> SearchId {
        let mut lookups = [None, None];
        lookups[usize::from(is_v6)] = Some(lookup);
        let id = self.enter(Goal::Nodes, lookups, true);
        self.advance(now, id);
        id
    }

    fn enter(&mut self, goal: Goal, lookups: [Option<Lookup>; 2], is_ours: bool) -> SearchId {
        self.searches_begun += 1;
        let id = SearchId(self.searches_begun);
        let search = Search {
            goal,
            lookups,
            is_ours,
            storing: None,
            summary: Summary::default(),
            peers: BTreeSet::new(),
            item: None,
            counted: None,
        };
        self.searches.insert(id, search);
        id
    }

    /// What others have given us to keep may be what is looked for.
    fn look_at_home(&mut self, now: Instant, id: SearchId, target: &NodeId) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        match &search.goal {
            Goal::Peers { .. } => {
                let mut found =
                    self.peers.peers(now, target, |peer, _| peer.is_ipv4(), &mut self.rng);
                found.extend(self.peers.peers(
                    now,
                    target,
                    |peer, _| peer.is_ipv6(),
                    &mut self.rng,
                ));
                self.outputs.extend(search.tell_peers(id, found.into_iter()));
            }
            Goal::Scrape => {
                if let Some([seeds, downloaders]) = self.peers.filters(now, target) {
                    search.count(seeds.bytes(), downloaders.bytes());
                }
            }
            Goal::Get { .. } => {
                if let Some(item) = self.items.get(now, target).cloned() {
                    self.outputs.extend(search.tell_item(id, item));
                }
            }
            Goal::Nodes | Goal::Put { .. } | Goal::Samples => {}
        }
    }

    /// A node has answered a step of a search.
    pub(super) fn handle_found(
        &mut self,
        now: Instant,
        id: SearchId,
        from: Contact,
        reply: &Reply<'_>,
    ) {
        let own = self.family(from.addr).map(|family| *family.table.own());
        let Some(search) = self.searches.get_mut(&id) else { return };
        let Some(lookup) = &mut search.lookups[usize::from(from.addr.is_ipv6())] else { return };
        let nodes = reply.nodes.iter().copied().filter(|node| {
            node.addr.is_ipv4() == from.addr.is_ipv4()
                && Some(node.id) != own
                && is_plausible(node.addr, from.addr.ip())
        });
        lookup.handle_reply(from, reply.token, nodes);
        search.summary.replied += 1;
        let peers = reply.peers.iter().copied();
        let peers = peers.filter(|peer| is_plausible(*peer, from.addr.ip()));
        let output = match &search.goal {
            Goal::Nodes | Goal::Put { .. } => None,
            Goal::Peers { .. } => search.tell_peers(id, peers),
            Goal::Scrape => {
                if let Some(Filters { seeds, downloaders }) = reply.scrape {
                    search.count(seeds, downloaders);
                }
                search.tell_peers(id, peers)
            }
            Goal::Get { .. } => {
                let item = search.item_of(lookup_target(&search.lookups), reply);
                item.and_then(|item| search.tell_item(id, item))
            }
            Goal::Samples => reply.samples.map(|samples| Output::Samples {
                search: id,
                info_hashes: samples.iter().collect(),
                from,
                interval_secs: samples.interval_secs,
                total: samples.total,
            }),
        };
        self.outputs.extend(output);
        self.advance(now, id);
    }

    /// A node is late with its answer.
    pub(super) fn handle_late(&mut self, now: Instant, id: SearchId, from: SocketAddr) {
        if let Some(lookup) = self.lookup(id, from) {
            lookup.handle_late(from);
        }
        self.advance(now, id);
    }

    /// A node has not answered a step of a search.
    pub(super) fn handle_not_found(&mut self, now: Instant, id: SearchId, from: SocketAddr) {
        if let Some(lookup) = self.lookup(id, from) {
            lookup.handle_failure(from);
        }
        self.advance(now, id);
    }

    /// A node has stored something, or not.
    pub(super) fn handle_stored(&mut self, now: Instant, id: SearchId, is_stored: bool) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        search.summary.stored += usize::from(is_stored);
        search.storing = search.storing.map(|left| left.saturating_sub(1));
        self.advance(now, id);
    }

    fn lookup(&mut self, id: SearchId, addr: SocketAddr) -> Option<&mut Lookup> {
        self.searches.get_mut(&id)?.lookups[usize::from(addr.is_ipv6())].as_mut()
    }

    /// Does the next steps of a search, and ends it when there are none.
    fn advance(&mut self, now: Instant, id: SearchId) {
        let Some(mut search) = self.searches.remove(&id) else { return };
        if search.storing.is_none() {
            for at in 0..search.lookups.len() {
                while let Some((to, question)) = search.next(at) {
                    self.ask(now, to, question, Purpose::Lookup(id));
                }
            }
            let is_found = search.item.as_ref().is_some_and(|item| item.seq().is_none());
            if is_found || search.lookups.iter().flatten().all(Lookup::is_done) {
                self.store(now, id, &mut search);
            }
        }
        if search.storing != Some(0) {
            self.searches.insert(id, search);
            return;
        }
        search.sum_up();
        if search.is_ours {
            self.handle_upkeep_done(id);
        } else {
            self.outputs.push_back(Output::Done { search: id, summary: search.summary });
        }
    }

    /// The nearest are known: give them what they are to store.
    fn store(&mut self, now: Instant, id: SearchId, search: &mut Search) {
        let mut count = 0;
        for lookup in search.lookups.iter().flatten() {
            for found in lookup.closest() {
                let Some(token) = found.token else { continue };
                let is_v6 = found.contact.addr.is_ipv6();
                let question = match &search.goal {
                    Goal::Peers { announce: Some(announce) } => {
                        let port_v6 = announce.port_v6.filter(|_| is_v6);
                        Question::AnnouncePeer {
                            info_hash: *lookup.target(),
                            port: port_v6.unwrap_or(announce.port),
                            is_implied: announce.is_port_implied && port_v6.is_none(),
                            is_seed: announce.is_seed,
                            token,
                        }
                    }
                    Goal::Put { item, cas } => Question::Put {
                        token,
                        value: item.value(),
                        signed: item.signed(),
                        cas: *cas,
                    },
                    Goal::Nodes
                    | Goal::Peers { announce: None }
                    | Goal::Scrape
                    | Goal::Get { .. }
                    | Goal::Samples => break,
                };
                count += 1;
                self.ask(now, found.contact.addr, question, Purpose::Store(id));
            }
        }
        search.storing = Some(count);
    }
}

impl Search {
    /// Whom to ask next, and what, in one of the families.
    fn next(&mut self, family: usize) -> Option<(SocketAddr, Question<'static>)> {
        let lookup = self.lookups[family].as_mut()?;
        let target = *lookup.target();
        let to = lookup.next()?;
        let question = match &self.goal {
            Goal::Nodes => Question::FindNode { target },
            Goal::Peers { announce } => {
                let is_noseed = announce.is_some_and(|announce| announce.is_seed);
                Question::GetPeers { info_hash: target, is_noseed, is_scrape: false }
            }
            Goal::Scrape => {
                Question::GetPeers { info_hash: target, is_noseed: false, is_scrape: true }
            }
            Goal::Get { .. } => Question::Get { target, seq: None },
            // Not the value, but whether there is one: nodes need not send what is older.
            Goal::Put { item, .. } => Question::Get { target, seq: item.seq() },
            Goal::Samples => Question::SampleInfohashes { target },
        };
        Some((to, question))
    }

    /// Peers that have not been told before.
    fn tell_peers(
        &mut self,
        id: SearchId,
        peers: impl Iterator<Item = SocketAddr>,
    ) -> Option<Output> {
        let mut told = Vec::new();
        for peer in peers {
            if self.peers.len() < PEERS_MAX && self.peers.insert(peer) {
                told.push(peer);
            }
        }
        (!told.is_empty()).then_some(Output::Peers { search: id, peers: told })
    }

    /// Somebody has counted peers.
    fn count(&mut self, seeds: &[u8; bloom::LEN], downloaders: &[u8; bloom::LEN]) {
        let [all_seeds, all_downloaders] = &mut **self.counted.get_or_insert_default();
        all_seeds.unite(seeds);
        all_downloaders.unite(downloaders);
    }

    /// An item, if it is the first or newer than the last.
    fn tell_item(&mut self, id: SearchId, item: Item) -> Option<Output> {
        if self.item.as_ref().is_some_and(|known| known.seq() >= item.seq()) {
            return None;
        }
        self.item = Some(item.clone());
        Some(Output::Item { search: id, item })
    }

    /// The item in a reply, if there is one that belongs to the target.
    fn item_of(&self, target: NodeId, reply: &Reply<'_>) -> Option<Item> {
        let Goal::Get { signer } = &self.goal else { return None };
        let value = reply.value?;
        let item = match signer {
            None => Item::immutable(value.to_vec()).ok()?,
            Some((key, salt)) => {
                let seq = reply.seq?;
                // What is no news need not be verified.
                if self.item.as_ref().is_some_and(|known| known.seq() >= Some(seq)) {
                    return None;
                }
                let signed = Signed { key, salt, seq, signature: reply.signature? };
                Item::verify(value.to_vec(), &signed).ok()?
            }
        };
        (item.target() == target).then_some(item)
    }

    fn sum_up(&mut self) {
        let Self { lookups, summary, peers, counted, .. } = self;
        for lookup in lookups.iter().flatten() {
            summary.asked += lookup.asked();
            for found in lookup.closest() {
                summary.hops = summary.hops.max(found.hops);
                summary.closest.push(found.contact);
            }
        }
        summary.closest.truncate(2 * K);
        summary.peers = peers.len();
        summary.scrape = counted.as_deref().map(|[seeds, downloaders]| Scrape {
            seeds: seeds.count(),
            downloaders: downloaders.count(),
        });
    }
}

fn lookup_target(lookups: &[Option<Lookup>; 2]) -> NodeId {
    let lookup =
        lookups.iter().flatten().next().expect("a search has a lookup that found something");
    *lookup.target()
}

/// Whether somebody at `teller` can mean it.
pub(super) fn is_plausible(addr: SocketAddr, teller: IpAddr) -> bool {
    addr.port() != 0 && Reach::is_credible(addr.ip(), teller)
}

/// How many searches may be under way at once, without those of the upkeep.
pub(super) const SEARCHES_MAX: usize = 64;
/// How many peers a search tells.
const PEERS_MAX: usize = 4096;
