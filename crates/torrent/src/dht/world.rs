//! A pretended network of DHT nodes in virtual time: datagrams take some milliseconds and may get
//! lost, and some hosts are hostile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::krpc::{Body, Message, Query, Question, Reply, Want};
use super::node_id::is_local;
use super::{Contact, Node, NodeConfig, NodeId, Output, SearchId};
use crate::Rng;
use crate::swarm::tests::epoch;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, usize>,
    /// Datagrams on their way, by when they arrive.
    wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sent: u64,
    timers: BTreeSet<(Instant, usize)>,
    /// Who is cut off from all others.
    pub(super) absent: BTreeSet<SocketAddr>,
    /// How many of a hundred datagrams are lost.
    pub(super) loss: usize,
}

pub(super) struct Host {
    pub(super) addr: SocketAddr,
    pub(super) role: Role,
    /// What the node has told, without what was to be sent.
    pub(super) told: Vec<Output>,
    timer: Option<Instant>,
}

pub(super) enum Role {
    Honest(Box<Node>),
    Hostile(Malice),
}

/// What a hostile node does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malice {
    /// Nothing.
    Silent,
    /// Tells of nodes that do not exist.
    Inventor,
    /// Says that it and its friends are nearest to whatever is looked for, and tells wrong peers.
    Eclipse,
    /// Sends twenty datagrams for each that comes.
    Flooder,
    /// Refuses.
    Refuser,
}

pub(super) const MALICE: [Malice; 5] =
    [Malice::Silent, Malice::Inventor, Malice::Eclipse, Malice::Flooder, Malice::Refuser];

/// A peer that nobody announced.
pub(super) fn wrong_peer() -> SocketAddr {
    ([6, 6, 6, 6], 666).into()
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: epoch(),
            rng: Rng::from_seed(seed),
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            wire: BTreeMap::new(),
            sent: 0,
            timers: BTreeSet::new(),
            absent: BTreeSet::new(),
            loss: 0,
        }
    }

    /// A network of `count` hosts, `hostile` of a hundred of them hostile, that has had some minutes to
    /// form.
    pub(super) fn grown(seed: u64, count: usize, hostile: usize) -> Self {
        let mut world = Self::new(seed);
        for at in 0..count {
            let is_hostile = at >= 5 && world.rng.below(100) < hostile;
            if is_hostile {
                let malice = MALICE[world.rng.below(MALICE.len())];
                world.add_hostile(malice);
            } else {
                world.add_node(NodeConfig::default());
            }
            world.run(Duration::from_millis(60));
        }
        world.run(Duration::from_secs(60));
        world
    }

    pub(super) fn add_node(&mut self, config: NodeConfig) -> usize {
        let addr = self.address(config.v6 && !config.v4);
        self.add_node_at(config, addr)
    }

    pub(super) fn add_node_at(&mut self, config: NodeConfig, addr: SocketAddr) -> usize {
        let rng = Rng::from_seed(self.rng.u64());
        let mut node = Node::new(config, self.now, rng, None);
        let boot: Vec<SocketAddr> = self.hosts.iter().take(5).map(|host| host.addr).collect();
        node.add_boot_nodes(self.now, &boot);
        self.push(addr, Role::Honest(Box::new(node)))
    }

    pub(super) fn add_hostile(&mut self, malice: Malice) -> usize {
        let addr = self.address(false);
        let at = self.push(addr, Role::Hostile(malice));
        // It makes itself known.
        let id = NodeId::for_address(addr.ip(), &mut self.rng);
        for _ in 0..20 {
            let to = self.hosts[self.rng.below(at)].addr;
            let target = NodeId::random(&mut self.rng);
            self.send(addr, to, ask(id, Question::FindNode { target }));
        }
        at
    }

    fn push(&mut self, addr: SocketAddr, role: Role) -> usize {
        let at = self.hosts.len();
        self.hosts.push(Host { addr, role, told: Vec::new(), timer: None });
        self.by_addr.insert(addr, at);
        self.settle(at);
        at
    }

    fn address(&mut self, is_v6: bool) -> SocketAddr {
        loop {
            let ip = if is_v6 {
                let mut octets: [u8; 16] = self.rng.bytes();
                octets[0] = 0x20;
                IpAddr::from(octets)
            } else {
                IpAddr::from([
                    1 + self.rng.below(220) as u8,
                    self.rng.u32() as u8,
                    self.rng.u32() as u8,
                    1 + self.rng.below(250) as u8,
                ])
            };
            let addr = SocketAddr::new(ip, 6881);
            if !is_local(ip) && ip.to_string() != "6.6.6.6" && !self.by_addr.contains_key(&addr) {
                return addr;
            }
        }
    }

    /// Has a node do something.
    pub(super) fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let now = self.now;
        let Role::Honest(node) = &mut self.hosts[at].role else { panic!("it is hostile") };
        let result = act(node, now);
        self.settle(at);
        result
    }

    /// A node begins again, at the same address.
    pub(super) fn replace(&mut self, at: usize, node: Node) {
        self.hosts[at].role = Role::Honest(Box::new(node));
        self.settle(at);
    }

    pub(super) fn node(&self, at: usize) -> &Node {
        let Role::Honest(node) = &self.hosts[at].role else { panic!("it is hostile") };
        node
    }

    /// The honest nodes.
    pub(super) fn honest(&self) -> Vec<usize> {
        let is_honest = |at: &usize| matches!(self.hosts[*at].role, Role::Honest(_));
        (0..self.hosts.len()).filter(is_honest).collect()
    }

    /// Begins a search and waits for its end; returns all that it told.
    pub(super) fn search(
        &mut self,
        at: usize,
        begin: impl FnOnce(&mut Node, Instant) -> SearchId,
    ) -> Vec<Output> {
        self.hosts[at].told.clear();
        let id = self.with(at, begin);
        let deadline = self.now + Duration::from_secs(120);
        let is_end = |told: &Output| matches!(told, Output::Done { search, .. } if *search == id);
        while !self.hosts[at].told.iter().any(is_end) {
            assert!(self.now < deadline && self.step(deadline), "the search does not end");
        }
        std::mem::take(&mut self.hosts[at].told)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// What happens next, if that is before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = arrival.into_iter().chain(timer).min();
        let Some(next) = next.filter(|at| *at <= until) else { return false };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let ((_, _), (from, to, bytes)) = self.wire.pop_first().expect("it is there");
            self.arrive(from, to, &bytes);
        } else {
            let (_, at) = self.timers.pop_first().expect("it is there");
            self.hosts[at].timer = None;
            if let Role::Honest(node) = &mut self.hosts[at].role {
                node.handle_timeout(self.now);
            }
            self.settle(at);
        }
        true
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(&at) = self.by_addr.get(&to) else { return };
        match &mut self.hosts[at].role {
            Role::Honest(node) => node.handle_datagram(self.now, from, bytes),
            Role::Hostile(malice) => {
                let malice = *malice;
                self.harm(malice, to, from, bytes);
            }
        }
        self.settle(at);
    }

    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let is_absent = self.absent.contains(&from) || self.absent.contains(&to);
        if is_absent || self.rng.below(100) < self.loss {
            return;
        }
        self.sent += 1;
        let at = self.now + Duration::from_millis(5 + self.rng.below(100) as u64);
        self.wire.insert((at, self.sent), (from, to, bytes));
    }

    fn settle(&mut self, at: usize) {
        let from = self.hosts[at].addr;
        loop {
            let Role::Honest(node) = &mut self.hosts[at].role else { return };
            match node.poll_output() {
                Some(Output::Send { to, bytes }) => self.send(from, to, bytes),
                Some(told) => self.hosts[at].told.push(told),
                None => break,
            }
        }
        let Role::Honest(node) = &self.hosts[at].role else { return };
        let timer = node.poll_timeout();
        if self.hosts[at].timer != Some(timer) {
            if let Some(old) = self.hosts[at].timer.replace(timer) {
                self.timers.remove(&(old, at));
            }
            self.timers.insert((timer, at));
        }
    }

    fn harm(&mut self, malice: Malice, own: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        // The hostile leave each other in peace, or floods would answer floods.
        if self
            .by_addr
            .get(&from)
            .is_some_and(|at| matches!(self.hosts[*at].role, Role::Hostile(_)))
        {
            return;
        }
        let Ok(message) = Message::decode(bytes) else { return };
        let Body::Query(query) = &message.body else { return };
        let target = match query.question {
            Question::Ping => NodeId::random(&mut self.rng),
            Question::FindNode { target }
            | Question::SampleInfohashes { target }
            | Question::Get { target, .. } => target,
            Question::GetPeers { info_hash, .. } | Question::AnnouncePeer { info_hash, .. } => {
                info_hash
            }
            Question::Put { .. } => return,
        };
        let id = NodeId::for_address(own.ip(), &mut self.rng);
        let mut reply = Reply { token: Some(b"token"), ..Reply::of(id) };
        match malice {
            Malice::Silent => return,
            Malice::Inventor => {
                for _ in 0..8 {
                    let id = target.random_sharing(20 + self.rng.below(100), &mut self.rng);
                    let addr = self.address(false);
                    reply.nodes.push(Contact { id, addr });
                }
            }
            Malice::Eclipse => {
                reply.id = target.random_sharing(30 + self.rng.below(100), &mut self.rng);
                for _ in 0..8 {
                    let friend = self.rng.below(self.hosts.len());
                    if !matches!(self.hosts[friend].role, Role::Hostile(Malice::Eclipse)) {
                        continue;
                    }
                    let id = target.random_sharing(40 + self.rng.below(100), &mut self.rng);
                    reply.nodes.push(Contact { id, addr: self.hosts[friend].addr });
                }
                reply.peers = vec![wrong_peer()];
            }
            Malice::Flooder => {
                for number in 0..20 {
                    let id = NodeId::random(&mut self.rng);
                    let bytes = match number % 4 {
                        0 => ask(
                            id,
                            Question::GetPeers {
                                info_hash: target,
                                is_noseed: false,
                                is_scrape: true,
                            },
                        ),
                        1 => ask(
                            id,
                            Question::AnnouncePeer {
                                info_hash: target,
                                port: 9,
                                is_implied: false,
                                is_seed: true,
                                token: b"12345678",
                            },
                        ),
                        2 => say(&self.rng.bytes::<4>(), Body::Reply(reply.clone())),
                        _ => self.rng.bytes::<200>().to_vec(),
                    };
                    self.send(own, from, bytes);
                }
            }
            Malice::Refuser => {
                let body = Body::Error { code: 202, text: b"no" };
                return self.send(own, from, say(message.transaction, body));
            }
        }
        self.send(own, from, say(message.transaction, Body::Reply(reply)));
    }
}

/// A question as bytes.
pub(super) fn ask(id: NodeId, question: Question<'_>) -> Vec<u8> {
    say(b"ask!", Body::Query(Query { id, want: Want::default(), question }))
}

fn say(transaction: &[u8], body: Body<'_>) -> Vec<u8> {
    Message { transaction, body, is_read_only: false, external: None }.encode()
}
