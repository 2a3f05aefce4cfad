//! The session's node of the DHT: carries datagrams and time to it, searches peers for torrents, and
//! keeps what the next run begins with.
//!
//! Each running torrent that is not private is searched for and announced when it starts and about every
//! quarter of an hour; sooner while it has no peers. With thousands of torrents they take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use reactor::Reactor;
use torrent::dht::{Announce, Busy, Node, NodeConfig, NodeStats, Output, SearchId, State, Summary};
use torrent::proxy::Target;
use torrent::swarm::Source;
use torrent::{InfoHash, Rng, Witness};

use crate::engine::Engine;
use crate::event::{EventKind, FilterPoint};
use crate::nat::Family;
use crate::task::{Task, TaskId};

/// How a session takes part in the distributed hash table, by which peers are found without a tracker (BEP 5).
/// The default does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtConfig {
    /// Take part. Default: yes. Private torrents never do.
    pub is_enabled: bool,
    /// Where to begin when no node is known: `host:port` each. Default: [`BOOT_NODES`].
    pub boot: Vec<String>,
    /// Ask, but answer nobody (BEP 43). Default: no.
    pub is_read_only: bool,
    /// How often to announce a torrent and search its peers. Default: every 15 minutes. With many thousands of torrents
    /// it takes longer: ten are begun each second.
    pub announce_every: Duration,
    /// How many questions of others are answered in a second. Default: 500.
    pub answers_per_second: u32,
}

/// Nodes that all the world begins with.
pub const BOOT_NODES: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "router.utorrent.com:6881",
    "dht.libtorrent.org:25401",
];

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            is_enabled: true,
            boot: BOOT_NODES.map(str::to_owned).to_vec(),
            is_read_only: false,
            announce_every: Duration::from_secs(15 * 60),
            answers_per_second: 500,
        }
    }
}

impl DhtConfig {
    /// Takes no part.
    pub fn off() -> Self {
        Self { is_enabled: false, ..Self::default() }
    }
}

/// How the session's node of the DHT does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtStatus {
    /// Its names in the networks of IPv4 and IPv6, as far as it takes part in them.
    pub ids: [Option<torrent::dht::NodeId>; 2],
    /// Whether it has found its place in one of them.
    pub is_bootstrapped: bool,
    /// Nodes, what others have stored here, what was counted.
    pub stats: NodeStats,
}

/// The node, and who waits for what it finds.
#[derive(Debug)]
pub(crate) struct Dht {
    pub(crate) node: Node,
    askers: BTreeMap<SearchId, Asker>,
    /// The torrents that are searched for.
    slots: BTreeMap<TaskId, Slot>,
    /// Exactly those of `slots`, by when it is their turn.
    due: BTreeSet<(Instant, TaskId)>,
    /// How many of `askers` are torrents.
    torrents: usize,
    is_bootstrapped: bool,
    /// When to look up the boot nodes' names again if no node is known, and how long to wait after that.
    boot_at: Instant,
    boot_wait: Duration,
    save_at: Instant,
    /// What the last run has left.
    saved: Option<State>,
}

#[derive(Debug)]
struct Slot {
    due: Instant,
    /// How often it was searched for, since it last had peers.
    tries: u32,
}

#[derive(Debug)]
enum Asker {
    Torrent(TaskId),
    Handle(Sender<Output>),
}

impl Dht {
    fn schedule(&mut self, id: TaskId, due: Instant, tries: u32) {
        self.forget(id);
        self.due.insert((due, id));
        self.slots.insert(id, Slot { due, tries });
    }

    fn forget(&mut self, id: TaskId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.due.remove(&(slot.due, id));
        }
    }

    /// Ends the searches for a torrent, before they announce it.
    fn cancel(&mut self, id: TaskId) {
        let is_its = |asker: &Asker| matches!(asker, Asker::Torrent(of) if *of == id);
        for (search, _) in self.askers.extract_if(.., |_, asker| is_its(asker)) {
            self.node.cancel(search);
            self.torrents -= 1;
        }
    }

    /// Whether a node has been heard of lately.
    fn is_connected(&self, now: Instant) -> bool {
        self.node.stats(now).good_nodes != [0, 0]
    }

    /// The torrent whose turn it is, if another search may begin.
    fn next_due(&self, now: Instant) -> Option<TaskId> {
        let (at, id) = *self.due.first()?;
        let may_begin = || self.torrents < TORRENT_SEARCHES_MAX && self.is_connected(now);
        (at <= now && may_begin()).then_some(id)
    }

    /// What the next run is to begin with, if there is anything.
    fn state(&self, port: Option<u16>, is_read_only: bool) -> Option<State> {
        let state = self.node.state(port.unwrap_or(0));
        if state.nodes.is_empty() {
            return None;
        }
        let Some(saved) = self.saved.as_ref().filter(|_| is_read_only) else { return Some(state) };
        // Nobody knows one who only asks, so the names of one who answers are kept; and who asks once hears of
        // few nodes.
        let is_more = state.nodes.len() > saved.nodes.len();
        is_more.then_some(State { nodes: state.nodes, ..saved.clone() })
    }

    pub(crate) fn status(&self, now: Instant) -> DhtStatus {
        DhtStatus {
            ids: [self.node.id(false), self.node.id(true)],
            is_bootstrapped: self.is_bootstrapped,
            stats: self.node.stats(now),
        }
    }
}

impl Engine {
    /// Begins to take part, once we listen.
    pub(crate) fn start_dht(&mut self, reactor: &Reactor<Self>) {
        let config = &self.config.dht;
        let has = |is_v4: bool| self.udp.iter().any(|(local, _)| local.is_ipv4() == is_v4);
        if !config.is_enabled || self.udp.is_empty() {
            return;
        }
        let node_config = NodeConfig {
            v4: has(true),
            v6: has(false),
            is_read_only: config.is_read_only || self.config.is_strictly_proxied(),
            answers_per_second: config.answers_per_second,
            ..NodeConfig::default()
        };
        let now = reactor.now();
        let saved = self.dht_file().and_then(|file| read_state(&file));
        let mut state = saved.clone();
        if let Some(state) = &mut state
            && Some(state.port) != self.port
        {
            state.ids = [None; 2];
        }
        let node = Node::new(node_config, now, Rng::from_seed(self.rng.u64()), state.as_ref());
        self.dht = Some(Box::new(Dht {
            node,
            askers: BTreeMap::new(),
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            torrents: 0,
            is_bootstrapped: false,
            boot_at: now,
            boot_wait: BOOT_WAIT,
            save_at: now + SAVE_FIRST,
            saved,
        }));
    }

    /// The UDP port of our node for peers of a torrent to know, if it may have one.
    pub(crate) fn dht_port(&self, family: Family, is_private: bool) -> Option<u16> {
        let is_reachable = self.dht.is_some() && !self.config.dht.is_read_only && !is_private;
        let port = self.nat.mapped(family).map(|ports| ports.udp).or(self.port);
        port.filter(|_| is_reachable && self.port.is_some())
    }

    /// A datagram that looks like one of the DHT has come.
    pub(crate) fn dht_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) {
        let Some(dht) = &mut self.dht else { return };
        if self.config.ip_filter.is_banned(from.ip()) {
            return;
        }
        if self.config.is_strictly_proxied() && dht.node.nodes().next().is_none() {
            // Boot nodes are asked by their names then: this is where one of them is.
            dht.node.add_boot_nodes(reactor.now(), &[from]);
        }
        dht.node.handle_datagram(reactor.now(), from, data);
        self.drain_dht(reactor);
    }

    /// Called a few times a second.
    pub(crate) fn tick_dht(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(dht) = &mut self.dht else { return };
        if now >= dht.node.poll_timeout() {
            dht.node.handle_timeout(now);
        }
        if now >= dht.boot_at {
            self.look_up_boot_nodes(now, reactor);
        }
        self.search_due(now);
        self.save_dht_if_due(now, reactor);
        self.drain_dht(reactor);
    }

    /// A torrent is in another state.
    pub(crate) fn note_dht(&mut self, id: TaskId, now: Instant) {
        let Some(dht) = &mut self.dht else { return };
        match self.tasks.get(&id).filter(|task| may_be_found(task)) {
            None => {
                dht.forget(id);
                dht.cancel(id);
            }
            Some(_) if dht.slots.contains_key(&id) => {}
            Some(task) => {
                if !task.metainfo.nodes().is_empty() {
                    dht.boot_at = now;
                }
                dht.schedule(id, now, 0);
            }
        }
    }

    /// There may be a node.
    pub(crate) fn add_dht_node(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(dht) = &mut self.dht {
            dht.node.add_node(now, addr);
        }
    }

    /// Looks up where to begin, as long as no node is heard of.
    fn look_up_boot_nodes(&mut self, now: Instant, reactor: &mut Reactor<Self>) {
        let Some(dht) = &mut self.dht else { return };
        dht.boot_at = now + dht.boot_wait;
        if dht.is_connected(now) {
            dht.boot_wait = BOOT_WAIT;
            return;
        }
        dht.boot_wait = (dht.boot_wait * 2).min(BOOT_WAIT_MAX);
        let running = self.tasks.values().filter(|task| may_be_found(task));
        let named = running.flat_map(|task| task.metainfo.nodes()).take(TORRENT_NODES_MAX);
        for (host, port) in named.cloned().collect::<Vec<_>>() {
            self.look_up_node(&host, port, reactor);
        }
        for name in self.config.dht.boot.clone() {
            let split = name.rsplit_once(':').map(|(host, port)| (host, port.parse()));
            match split {
                Some((host, Ok(port))) => self.look_up_node(host, port, reactor),
                _ => tracing::warn!(name, "a boot node is HOST:PORT"),
            }
        }
    }

    /// Has the node begin at a host, too, if nobody else is known.
    fn look_up_node(&mut self, host: &str, port: u16, reactor: &mut Reactor<Self>) {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if self.config.is_strictly_proxied()
            && let Ok(target @ Target::Name(..)) = Target::new(host, port)
        {
            // The proxy looks up the name, and does not tell. So a ping goes there, and the answer shows the place.
            if let Err(error) = self.send_to_target(&target, true, PING, reactor) {
                tracing::debug!(%target, %error, "a boot node cannot be asked");
            }
            return;
        }
        // Who only listens to this machine reaches nothing else.
        let is_alone = self.udp.iter().all(|(local, _)| local.ip().is_loopback());
        if is_alone && host.parse::<IpAddr>().is_err() {
            return;
        }
        let name = host.to_owned();
        self.resolve(host, port, reactor, move |found, engine, reactor| {
            let Some(dht) = &mut engine.dht else { return };
            match found {
                Ok(addrs) => dht.node.add_boot_nodes(reactor.now(), &addrs),
                Err(error) => tracing::debug!(name, %error, "a boot node cannot be looked up"),
            }
            engine.drain_dht(reactor);
        });
    }

    /// Begins the search for the torrent whose turn it is.
    fn search_due(&mut self, now: Instant) {
        let Some(id) = self.dht.as_ref().and_then(|dht| dht.next_due(now)) else { return };
        let is_seed = self.tasks.get(&id).is_some_and(|task| {
            // Who has all that it wants of more is a partial seed (BEP 21).
            task.swarm.is_completed() && task.swarm.have().is_all()
        });
        let announce = self.dht_announce(is_seed);
        let Some(dht) = &mut self.dht else { return };
        let every = self.config.dht.announce_every.as_millis() as usize;
        let jitter = Duration::from_millis(self.rng.below(every / 5 + 1) as u64);
        let due = now + self.config.dht.announce_every.mul_f32(0.9) + jitter;
        let tries = dht.slots.get(&id).map_or(0, |slot| slot.tries);
        dht.schedule(id, due, tries);
        let Some(task) = self.tasks.get(&id) else { return dht.forget(id) };
        for name in names(task) {
            let begun = match announce {
                Some(announce) => dht.node.announce(now, name, announce),
                None => dht.node.peers(now, name),
            };
            let begun = match begun {
                Ok(search) => search,
                // Its turn comes again.
                Err(Busy) => return dht.schedule(id, now + RETRY_FIRST, tries),
            };
            dht.askers.insert(begun, Asker::Torrent(id));
            dht.torrents += 1;
        }
    }

    /// Has a search begin for a handle.
    ///
    /// # Errors
    /// `None` if there is no node.
    pub(crate) fn ask_dht(
        &mut self,
        sender: Sender<Output>,
        begin: impl FnOnce(&mut Node, Instant) -> Result<SearchId, Busy>,
        reactor: &mut Reactor<Self>,
    ) -> Option<Result<(), Busy>> {
        let dht = self.dht.as_mut()?;
        let begun = begin(&mut dht.node, reactor.now()).map(|search| {
            dht.askers.insert(search, Asker::Handle(sender));
        });
        self.drain_dht(reactor);
        Some(begun)
    }

    /// What nodes are told of us as a peer. Who cannot be reached tells nobody that he could be; and of one behind
    /// a proxy they would take down its address.
    pub(crate) fn dht_announce(&self, is_seed: bool) -> Option<Announce> {
        if self.port.is_none() || self.proxy_of_peers().is_some() {
            return None;
        }
        // The router that has mapped a port has told which. Another may show others any port of ours for UDP, which
        // is of use to peers that come by uTP.
        let is_port_implied = self.config.utp && self.nat.mapped(Family::V4).is_none();
        let [port, port_v6] = [Family::V4, Family::V6].map(|family| self.announced_port(family));
        Some(Announce { port, port_v6: Some(port_v6), is_port_implied, is_seed })
    }

    /// Our port is another: all torrents are announced again, in turn.
    pub(crate) fn announce_to_dht_again(&mut self, now: Instant) {
        let Some(dht) = &mut self.dht else { return };
        for id in dht.slots.keys().copied().collect::<Vec<_>>() {
            dht.schedule(id, now, 0);
        }
    }

    /// Does everything that the node asks for.
    pub(crate) fn drain_dht(&mut self, reactor: &mut Reactor<Self>) {
        while let Some(output) = self.dht.as_mut().and_then(|dht| dht.node.poll_output()) {
            match output {
                Output::Send { to, bytes } => self.send_dht(to, &bytes, reactor),
                Output::Bootstrapped { is_v6 } => {
                    let Some(dht) = &mut self.dht else { return };
                    dht.is_bootstrapped = true;
                    let nodes = dht.node.stats(reactor.now()).nodes[usize::from(is_v6)];
                    self.tell(None, &EventKind::DhtBootstrapped { is_v6, nodes });
                }
                // Several nodes of different networks agree on it.
                Output::ExternalAddress(ip) => {
                    self.seen_as(Witness::Tracker("DHT".to_owned()), ip);
                }
                Output::Peers { search, .. }
                | Output::Item { search, .. }
                | Output::Samples { search, .. }
                | Output::Done { search, .. } => self.tell_asker(search, output, reactor),
            }
        }
    }

    fn send_dht(&mut self, to: SocketAddr, bytes: &[u8], reactor: &mut Reactor<Self>) {
        if self.has_filter() && !self.may_talk_to(None, to, FilterPoint::Dht) {
            return;
        }
        if let Err(error) = self.send_datagram(to, bytes, reactor) {
            tracing::trace!(%to, %error, "a datagram to a node was not sent");
        }
    }

    fn tell_asker(&mut self, search: SearchId, output: Output, reactor: &mut Reactor<Self>) {
        let Some(dht) = &mut self.dht else { return };
        match dht.askers.get(&search) {
            Some(&Asker::Torrent(id)) => match output {
                Output::Peers { peers, .. } => {
                    self.add_addresses(id, &peers, Source::Dht, reactor);
                }
                Output::Done { summary, .. } => {
                    dht.askers.remove(&search);
                    dht.torrents -= 1;
                    self.searched(id, &summary, reactor.now());
                }
                Output::Send { .. }
                | Output::Item { .. }
                | Output::Samples { .. }
                | Output::Bootstrapped { .. }
                | Output::ExternalAddress(_) => {}
            },
            Some(Asker::Handle(sender)) => {
                let is_over = matches!(output, Output::Done { .. });
                if sender.send(output).is_err() || is_over {
                    dht.node.cancel(search);
                    dht.askers.remove(&search);
                }
            }
            None => {}
        }
    }

    /// A search for a torrent has ended: the next follows soon if it has nobody to download from, or nobody has
    /// answered.
    fn searched(&mut self, id: TaskId, summary: &Summary, now: Instant) {
        let Some(task) = self.tasks.get(&id) else { return };
        let is_lonely = task.connections.is_empty() && !task.swarm.is_completed();
        let Some(dht) = &mut self.dht else { return };
        if let Some(slot) = dht.slots.get(&id) {
            let (tries, due) = (slot.tries, slot.due);
            let is_unheard = summary.replied == 0;
            let wait = RETRY_FIRST * (1 << tries.min(if is_unheard { 3 } else { 10 }));
            if (is_lonely || is_unheard) && now + wait < due {
                dht.schedule(id, now + wait, tries.saturating_add(1));
            } else if !is_lonely {
                dht.schedule(id, due, 0);
            }
        }
        let kind = EventKind::DhtAnswered {
            nodes: summary.replied,
            peers: summary.peers,
            stored: summary.stored,
        };
        self.publish(id, &kind);
    }

    fn dht_file(&self) -> Option<PathBuf> {
        self.config.state_dir.as_ref().map(|dir| dir.join(FILE_NAME))
    }

    fn save_dht_if_due(&mut self, now: Instant, reactor: &mut Reactor<Self>) {
        let file = self.dht_file();
        let (Some(dht), Some(file)) = (&mut self.dht, file) else { return };
        if now < dht.save_at {
            return;
        }
        dht.save_at = now + SAVE_EVERY;
        if let Some(state) = dht.state(self.port, self.config.dht.is_read_only) {
            reactor.offload(move || write_state(&file, &state), |(), _, _| {});
        }
    }

    /// The session is over: keeps what the next begins with.
    pub(crate) fn end_dht(&self) {
        if let (Some(dht), Some(file)) = (&self.dht, self.dht_file())
            && let Some(state) = dht.state(self.port, self.config.dht.is_read_only)
        {
            write_state(&file, &state);
        }
    }
}

/// What the DHT knows a torrent by: a hybrid has two names.
fn names(task: &Task) -> Vec<InfoHash> {
    let hashes = task.metainfo.info_hashes();
    let v2 = hashes.v2.map(|hash| hash.truncated());
    let mut names: Vec<InfoHash> = hashes.v1.into_iter().chain(v2).collect();
    if names.is_empty() {
        names.push(task.info_hash());
    }
    names
}

fn read_state(file: &PathBuf) -> Option<State> {
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(FILE_LEN_MAX).read_to_end(&mut bytes).ok()?;
    let state = State::decode(&bytes);
    if state.is_none() {
        tracing::warn!(file = %file.display(), "the nodes of the last run cannot be read");
    }
    state
}

/// Writes a file beside it and renames that: whoever dies meanwhile leaves what was there.
fn write_state(file: &PathBuf, state: &State) {
    let beside = file.with_extension("new");
    let written =
        std::fs::write(&beside, state.encode()).and_then(|()| std::fs::rename(&beside, file));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "the nodes of the DHT are not kept");
    }
}

/// Whether the DHT may know that we have a torrent.
fn may_be_found(task: &Task) -> bool {
    task.is_running() && !task.metainfo.is_private() && !task.is_leaving
}

const FILE_NAME: &str = "dht.nodes";
/// Many times what we write.
const FILE_LEN_MAX: u64 = 256 * 1024;
/// Nodes that torrents name, asked at once when nobody else is known.
const TORRENT_NODES_MAX: usize = 32;
/// How many torrents are searched for at once.
const TORRENT_SEARCHES_MAX: usize = 32;
/// How soon a torrent without peers is searched for again; the wait doubles.
const RETRY_FIRST: Duration = Duration::from_secs(20);
/// Asks a node whether it is there; its answer is not waited for by the node of ours that knows of none.
const PING: &[u8] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:y1:qe";
/// How soon names are looked up again while no node is heard of; the wait doubles.
const BOOT_WAIT: Duration = Duration::from_secs(30);
const BOOT_WAIT_MAX: Duration = Duration::from_secs(2 * 60);
const SAVE_FIRST: Duration = Duration::from_secs(2 * 60);
const SAVE_EVERY: Duration = Duration::from_secs(30 * 60);

#[cfg(test)]
#[path = "dht_tests.rs"]
mod tests;
