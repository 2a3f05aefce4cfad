//! The distributed hash table: who has a torrent, without a tracker ([BEP 5]).
//!
//! [`Node`] is one node, of IPv4, IPv6 or both ([BEP 32]): with a table and a name for each. It answers
//! questions, keeps itself known, and searches: for peers, nodes, items ([BEP 44]), samples of info
//! hashes ([BEP 51]), counts of peers ([BEP 33]). How its files fit together:
//!
//! - `krpc`: messages; `krpc_writer`: their bytes.
//! - `node_id`: names and distances ([BEP 42]); `routing_table`: the nodes that we know.
//! - `answer`: what others ask of us, with `token`, `peer_store`, `bloom`, `item`, `throttle`.
//! - `lookup`: one iterative search in one family; `search`: what is made of it.
//! - `query`: questions under way; `upkeep`: what is done without being asked.
//! - `state`: what the next run begins with.
//!
//! It does no I/O: carry datagrams and time to it, and do what [`Output`] says.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 32]: https://www.bittorrent.org/beps/bep_0032.html
//! [BEP 33]: https://www.bittorrent.org/beps/bep_0033.html
//! [BEP 42]: https://www.bittorrent.org/beps/bep_0042.html
//! [BEP 44]: https://www.bittorrent.org/beps/bep_0044.html
//! [BEP 51]: https://www.bittorrent.org/beps/bep_0051.html

#[cfg(test)]
mod absence;
mod answer;
mod bloom;
mod item;
pub mod krpc;
mod krpc_writer;
mod lookup;
mod node_id;
mod peer_store;
mod query;
mod routing_table;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod throttle;
mod token;
mod upkeep;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use item::{Item, ItemError, mutable_target, public_key};
pub use node_id::{Contact, Distance, NodeId};
pub use search::{Announce, Busy, Scrape, SearchId, Summary};
pub use state::State;

use self::item::ItemStore;
use self::krpc::{Body, Malformed, Message};
use self::peer_store::PeerStore;
use self::query::Queries;
use self::search::Search;
use self::throttle::Throttle;
use self::token::Tokens;
use self::upkeep::Family;
use crate::{ExternalIp, Rng};

/// A node of the DHT.
///
/// Tell it what happened with the `handle_*` methods, and what you want with the others. After each,
/// take everything [`poll_output`](Self::poll_output) has, then wait until
/// [`poll_timeout`](Self::poll_timeout).
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Instant;
///
/// use torrent::dht::{Announce, Node, NodeConfig, Output};
/// use torrent::{InfoHash, Rng};
///
/// // Two nodes; the second has announced to the first that it has a torrent.
/// let now = Instant::now();
/// let addrs = ["10.0.0.1:6881", "10.0.0.2:6881"].map(|addr| addr.parse::<SocketAddr>().unwrap());
/// let mut nodes = [1, 2].map(|seed| Node::new(NodeConfig::default(), now, Rng::from_seed(seed), None));
/// nodes[1].add_node(now, addrs[0]);
/// deliver(&mut nodes, &addrs, now);
/// nodes[1].announce(now, InfoHash([7; 20]), Announce::at(6881)).unwrap();
/// deliver(&mut nodes, &addrs, now);
/// nodes[0].peers(now, InfoHash([7; 20])).unwrap();
/// let found = deliver(&mut nodes, &addrs, now);
/// assert_eq!(found, ["10.0.0.2:6881".parse().unwrap()]);
///
/// fn deliver(nodes: &mut [Node; 2], addrs: &[SocketAddr; 2], now: Instant) -> Vec<SocketAddr> {
///     let mut found = Vec::new();
///     for at in [0, 1, 0, 1, 0, 1, 0, 1] {
///         nodes[at].handle_timeout(now);
///         while let Some(output) = nodes[at].poll_output() {
///             match output {
///                 Output::Send { bytes, .. } => nodes[1 - at].handle_datagram(now, addrs[at], &bytes),
///                 Output::Peers { peers, .. } => found.extend(peers),
///                 _ => {}
///             }
///         }
///     }
///     found
/// }
/// ```
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    rng: Rng,
    /// IPv4, IPv6.
    families: [Option<Family>; 2],
    tokens: Tokens,
    peers: PeerStore,
    items: ItemStore,
    throttle: Throttle,
    /// What our address looks like from outside.
    external: ExternalIp,
    queries: Queries,
    /// At most [`search::SEARCHES_MAX`], and those of our own upkeep.
    searches: BTreeMap<SearchId, Search>,
    searches_begun: u64,
    outputs: VecDeque<Output>,
    upkeep_at: Instant,
    counts: Counts,
}

/// What a node is to do.
#[derive(Clone, Copy, Debug)]
pub struct NodeConfig {
    /// Takes part in the IPv4 network. Default: yes.
    pub v4: bool,
    /// Takes part in the IPv6 network. Default: no.
    pub v6: bool,
    /// Asks, but answers nothing, and tells so ([BEP 43](https://www.bittorrent.org/beps/bep_0043.html)):
    /// for hosts that cannot be reached or must not spend. Default: no.
    pub is_read_only: bool,
    /// How many questions are answered in a second. Default: 500.
    pub answers_per_second: u32,
    /// How many questions of one address are answered in a second. Default: 20.
    pub answers_per_address: u32,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            v4: true,
            v6: false,
            is_read_only: false,
            answers_per_second: 500,
            answers_per_address: 20,
        }
    }
}

/// What the caller must do, or may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// A search has found peers, each told once.
    Peers {
        /// Which search.
        search: SearchId,
        /// The peers.
        peers: Vec<SocketAddr>,
    },
    /// A search has found an item, or a newer one than before.
    Item {
        /// Which search.
        search: SearchId,
        /// The item.
        item: Item,
    },
    /// A node has told which torrents it knows.
    Samples {
        /// Which search.
        search: SearchId,
        /// Some of its torrents.
        info_hashes: Vec<NodeId>,
        /// Who told.
        from: Contact,
        /// After how many seconds it may be asked again.
        interval_secs: i64,
        /// How many it knows.
        total: i64,
    },
    /// A search has ended.
    Done {
        /// Which search.
        search: SearchId,
        /// What came of it.
        summary: Summary,
    },
    /// We have found our place in the network of a family, for the first time.
    Bootstrapped {
        /// Whether in that of IPv6.
        is_v6: bool,
    },
    /// Enough nodes agree on what our address looks like from outside.
    ExternalAddress(IpAddr),
}

/// How a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Nodes that we know, of IPv4 and IPv6.
    pub nodes: [usize; 2],
    /// Those of them that have been heard of within a quarter of an hour.
    pub good_nodes: [usize; 2],
    /// Torrents that others have announced to us.
    pub torrents: usize,
    /// Peers of these.
    pub peers: usize,
    /// Items that others have stored with us.
    pub items: usize,
    /// Searches under way, with those of our own upkeep.
    pub searches: usize,
    /// Questions under way.
    pub queries: usize,
    /// What has been counted since the start.
    pub counts: Counts,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that came.
    pub received: u64,
    /// Those that were no message, or an answer to nothing.
    pub stray: u64,
    /// Questions of others that we have answered.
    pub answered: u64,
    /// Questions of others that were too many.
    pub dropped: u64,
    /// Questions that we have asked.
    pub asked: u64,
    /// Questions of ours that were not answered.
    pub unanswered: u64,
}

impl Node {
    /// A node that knows nobody, or those whom `state` remembers. The seed of `rng` should be hard to
    /// guess: the tokens that keep announcers honest hang on it.
    pub fn new(config: NodeConfig, now: Instant, mut rng: Rng, state: Option<&State>) -> Self {
        let tokens = Tokens::new(now, &mut rng);
        // Transaction ids can be seen; they must not show what the secret was drawn from.
        let mut rng = Rng::from_seed(tokens.derived_seed());
        let families = [(config.v4, false), (config.v6, true)]
            .map(|(is_on, is_v6)| is_on.then(|| Family::new(now, is_v6, state, &mut rng)));
        let (all, one) = (config.answers_per_second, config.answers_per_address);
        Self {
            config,
            rng,
            families,
            tokens,
            peers: PeerStore::new(),
            items: ItemStore::default(),
            throttle: Throttle::new(now, all, one),
            external: ExternalIp::default(),
            queries: Queries::default(),
            searches: BTreeMap::new(),
            searches_begun: 0,
            outputs: VecDeque::new(),
            upkeep_at: now,
            counts: Counts::default(),
        }
    }

    /// A datagram has come. Whatever is in it, and whoever sent it.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.counts.received += 1;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if self.family(from).is_none() || from.port() == 0 {
            self.counts.stray += 1;
            return;
        }
        match Message::decode(datagram) {
            Ok(Message { transaction, body, is_read_only, external }) => match body {
                Body::Query(query) => {
                    self.handle_query(now, from, transaction, &query, is_read_only);
                }
                Body::Reply(reply) => {
                    let external = external.map(|addr| addr.ip());
                    self.handle_reply(now, from, transaction, &reply, external, is_read_only);
                }
                Body::Error { .. } => self.handle_error(now, from, transaction),
            },
            Err(Malformed::Query { transaction, code }) => {
                self.handle_malformed(now, from, transaction, code);
            }
            Err(Malformed::Noise) => self.counts.stray += 1,
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing comes before.
    pub fn poll_timeout(&self) -> Instant {
        self.queries.next_deadline().map_or(self.upkeep_at, |at| at.min(self.upkeep_at))
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) gave has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_deadlines(now);
        if now >= self.upkeep_at {
            self.upkeep(now);
        }
    }

    /// Our name in the network of a family, if we take part in it.
    pub fn id(&self, is_v6: bool) -> Option<NodeId> {
        let [v4, v6] = &self.families;
        let family = if is_v6 { v6 } else { v4 };
        family.as_ref().map(|family| *family.table.own())
    }

    /// The nodes that we know.
    pub fn nodes(&self) -> impl Iterator<Item = Contact> {
        self.families.iter().flatten().flat_map(|family| family.table.contacts())
    }

    /// How it does.
    pub fn stats(&self, now: Instant) -> NodeStats {
        let count = |of: fn(&Family, Instant) -> usize| {
            self.families.each_ref().map(|family| family.as_ref().map_or(0, |f| of(f, now)))
        };
        let (torrents, peers) = self.peers.counts();
        NodeStats {
            nodes: count(|family, _| family.table.len()),
            good_nodes: count(|family, now| family.table.good(now)),
            torrents,
            peers,
            items: self.items.len(),
            searches: self.searches.len(),
            queries: self.queries.len(),
            counts: self.counts,
        }
    }

    /// What the next run at `port` should begin with.
    pub fn state(&self, port: u16) -> State {
        let ids = self.families.each_ref().map(|family| family.as_ref().map(|f| *f.table.own()));
        State { ids, port, nodes: self.nodes().take(state::NODES_MAX).collect() }
    }

    /// What belongs to the family of an address.
    fn family(&self, addr: SocketAddr) -> Option<&Family> {
        self.families[usize::from(addr.is_ipv6())].as_ref()
    }

    fn family_mut(&mut self, addr: SocketAddr) -> Option<&mut Family> {
        self.families[usize::from(addr.is_ipv6())].as_mut()
    }
}
