//! A network of databases in memory, for tests: each pair of nodes has a queue in each direction, and what
//! is lost with a connection is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Answer, Database, Difference, Kind, MonitorId, Output, QueryId, Refused};
use crate::{List, NodeId, Value};

#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// The lower node first.
    links: BTreeMap<(NodeId, NodeId), Link>,
    queues: BTreeMap<(NodeId, NodeId), VecDeque<Event>>,
    /// Every message in the order it was sent: sender, receiver, JSON.
    pub(super) sent: Vec<(NodeId, NodeId, String)>,
    /// Too large for everything to be checked after each step, and recorded.
    pub(super) is_large: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) database: Database,
    pub(super) seeds: BTreeSet<NodeId>,
    keepalives: BTreeSet<NodeId>,
    /// What each monitor has been told.
    pub(super) views: BTreeMap<MonitorId, View>,
    pub(super) answers: BTreeMap<QueryId, Result<Answer, Refused>>,
    pub(super) found: BTreeMap<NodeId, Option<Vec<String>>>,
    /// Which connection this node knows to have.
    connections: BTreeMap<NodeId, u64>,
    /// Sent before there was a connection.
    held: Vec<(NodeId, &'static str, List)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    pub(super) family: String,
    pub(super) entries: BTreeMap<String, Value>,
    pub(super) calls: Vec<Difference>,
}

#[derive(Debug, Default)]
struct Link {
    connection: u64,
    is_up: bool,
}

#[derive(Debug)]
enum Event {
    SeedGreeted,
    Up(u64),
    Message(&'static str, List),
    Down,
}

impl Network {
    pub(super) fn start(&mut self, database: Database, seeds: &[&str]) {
        let node = Node {
            seeds: seeds.iter().map(|seed| id(seed)).filter(|seed| *seed != database.own).collect(),
            keepalives: BTreeSet::new(),
            views: BTreeMap::new(),
            answers: BTreeMap::new(),
            found: BTreeMap::new(),
            connections: BTreeMap::new(),
            held: Vec::new(),
            database,
        };
        let own = node.database.own.clone();
        self.nodes.insert(own.clone(), node);
        self.drain(&own);
    }

    /// A node without seeds of its own.
    pub(super) fn global(&mut self, name: &str) {
        self.start(Database::global(id(name)), &[]);
    }

    pub(super) fn slave(&mut self, name: &str, seeds: &[&str]) {
        self.start(Database::slave(id(name)), seeds);
    }

    /// Does something on a node, and what it asks for.
    pub(super) fn on<T>(&mut self, name: &str, act: impl FnOnce(&mut Database) -> T) -> T {
        let node = id(name);
        let result = act(&mut self.nodes.get_mut(&node).unwrap().database);
        self.drain(&node);
        result
    }

    pub(super) fn monitor(&mut self, name: &str, family: &str) -> MonitorId {
        let node = self.nodes.get_mut(&id(name)).unwrap();
        let monitor = node.database.monitor(family).unwrap();
        node.views.insert(monitor, View { family: family.to_owned(), ..View::default() });
        self.drain(&id(name));
        monitor
    }

    pub(super) fn unmonitor(&mut self, name: &str, monitor: MonitorId) {
        self.nodes.get_mut(&id(name)).unwrap().views.remove(&monitor);
        self.on(name, |database| database.unmonitor(monitor));
    }

    pub(super) fn view(&self, name: &str, monitor: MonitorId) -> &View {
        &self.nodes[&id(name)].views[&monitor]
    }

    /// Asks, runs until all is quiet, and returns the answer.
    pub(super) fn ask(&mut self, name: &str, kind: Kind, family: &str) -> Answer {
        let query = self.on(name, |database| database.query(kind, family)).unwrap();
        self.run();
        self.nodes[&id(name)].answers[&query].clone().unwrap()
    }

    pub(super) fn keys(&mut self, name: &str, family: &str) -> Vec<String> {
        let Answer::Keys(keys) = self.ask(name, Kind::Keys, family) else { panic!("no keys") };
        keys
    }

    pub(super) fn find(&mut self, name: &str, node: &str) -> Option<Vec<String>> {
        self.on(name, |database| database.find(&id(node)));
        self.run();
        self.nodes[&id(name)].found[&id(node)].clone()
    }

    pub(super) fn connect(&mut self, a: &str, b: &str) {
        let link = self.links.entry(pair(&id(a), &id(b))).or_default();
        if link.is_up {
            return;
        }
        *link = Link { connection: link.connection + 1, is_up: true };
        let connection = link.connection;
        for (node, peer) in [(id(a), id(b)), (id(b), id(a))] {
            let queue = self.queues.entry((peer.clone(), node.clone())).or_default();
            if self.nodes[&node].seeds.contains(&peer) {
                queue.push_back(Event::SeedGreeted);
            }
            queue.push_back(Event::Up(connection));
        }
    }

    /// Cuts a connection. `lost` says of how many messages under way the last are lost.
    pub(super) fn cut(&mut self, a: &NodeId, b: &NodeId, mut lost: impl FnMut(usize) -> usize) {
        let Some(link) = self.links.get_mut(&pair(a, b)).filter(|link| link.is_up) else { return };
        link.is_up = false;
        for direction in [(a.clone(), b.clone()), (b.clone(), a.clone())] {
            let queue = self.queues.entry(direction).or_default();
            let is_message = |event: &&Event| matches!(event, Event::Message(..));
            let under_way = queue.iter().rev().take_while(is_message).count();
            queue.truncate(queue.len() - lost(under_way));
            queue.push_back(Event::Down);
        }
    }

    /// Ends a node. What it has sent may still arrive.
    pub(super) fn stop(&mut self, name: &str, mut lost: impl FnMut(usize) -> usize) {
        for peer in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.cut(&id(name), &peer, &mut lost);
            self.queues.remove(&(peer, id(name)));
        }
        self.nodes.remove(&id(name));
    }

    /// Makes every connection that is wanted, again and again, until all is quiet.
    pub(super) fn heal(&mut self) {
        loop {
            self.run();
            let mut wanted = Vec::new();
            for (own, node) in &self.nodes {
                for peer in node.seeds.iter().chain(&node.keepalives) {
                    let is_up = self.links.get(&pair(own, peer)).is_some_and(|link| link.is_up);
                    if !is_up && self.nodes.contains_key(peer) {
                        wanted.push((own.clone(), peer.clone()));
                    }
                }
            }
            if wanted.is_empty() {
                return;
            }
            for (a, b) in wanted {
                self.connect(a.as_str(), b.as_str());
            }
        }
    }

    pub(super) fn run(&mut self) {
        while self.step(0) {}
    }

    /// Delivers one event from one of the queues. Returns whether there was any.
    pub(super) fn step(&mut self, choice: usize) -> bool {
        let busy: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        if busy.is_empty() {
            return false;
        }
        let (from, to) = busy[choice % busy.len()].clone();
        let event = self.queues.get_mut(&(from.clone(), to.clone())).unwrap().pop_front().unwrap();
        let node = self.nodes.get_mut(&to).unwrap();
        match event {
            Event::SeedGreeted => node.database.seed_greeted(&from),
            Event::Up(connection) => {
                node.connections.insert(from.clone(), connection);
                let (now, held) = node.held.drain(..).partition(|(to, ..)| *to == from);
                node.held = held;
                for (_, tag, args) in now {
                    self.send(&to, from.clone(), tag, args);
                }
                self.nodes.get_mut(&to).unwrap().database.node_up(&from);
            }
            Event::Message(tag, args) => {
                let result = node.database.handle_message(&from, tag, args.clone());
                result.unwrap_or_else(|fault| panic!("{from} to {to}: {tag} {args:?}: {fault}"));
            }
            Event::Down => {
                node.connections.remove(&from);
                node.held.retain(|(to, ..)| *to != from);
                node.database.node_down(&from);
            }
        }
        self.drain(&to);
        true
    }

    /// Does what a node asks for.
    fn drain(&mut self, own: &NodeId) {
        loop {
            let node = self.nodes.get_mut(own).unwrap();
            let Some(output) = node.database.poll_output() else { break };
            match output {
                Output::Send { to, tag, args } if node.connections.contains_key(&to) => {
                    self.send(own, to, tag, args);
                }
                Output::Send { to, tag, args } => {
                    assert!(node.seeds.contains(&to), "{own} sends {tag} to {to}, which is not up");
                    node.held.push((to, tag, args));
                }
                Output::Changed { monitors, family, difference } => {
                    let entries =
                        node.database.family(&family).expect("a monitored family is known");
                    for monitor in monitors {
                        node.views.get_mut(&monitor).unwrap().apply(&difference, entries);
                    }
                }
                Output::QueryAnswered { id, result } => {
                    assert!(node.answers.insert(id, result).is_none());
                }
                Output::Found { node: found, addresses } => {
                    node.found.insert(found, addresses);
                }
                Output::Keepalive { node: peer, wanted: true } => {
                    assert!(node.keepalives.insert(peer));
                }
                Output::Keepalive { node: peer, wanted: false } => {
                    assert!(node.keepalives.remove(&peer));
                }
                Output::BecameGlobal | Output::MasterFound(_) | Output::MasterLost(_) => {}
            }
        }
        let node = &self.nodes[own];
        if self.is_large {
            return;
        }
        node.database.assert_is_consistent();
        for view in node.views.values().filter(|view| !view.calls.is_empty()) {
            assert_eq!(
                Some(&view.entries),
                node.database.family(&view.family),
                "{own} {}",
                view.family
            );
        }
    }

    fn send(&mut self, from: &NodeId, to: NodeId, tag: &'static str, args: List) {
        let link = &self.links[&pair(from, &to)];
        if !self.is_large {
            let message = [&[Value::from(""), tag.into()], args.as_slice()].concat();
            self.sent.push((from.clone(), to.clone(), Value::List(message).to_string()));
        }
        if link.is_up && self.nodes[from].connections.get(&to) == Some(&link.connection) {
            self.queues.get_mut(&(from.clone(), to)).unwrap().push_back(Event::Message(tag, args));
        }
    }
}

impl View {
    /// What was added or changed may be gone from `entries` again: then a later call says so.
    fn apply(&mut self, difference: &Difference, entries: &BTreeMap<String, Value>) {
        let first = self.calls.is_empty();
        assert!(first || !difference.is_empty(), "a call without a difference");
        for key in &difference.added {
            assert!(!self.entries.contains_key(key), "{key} was there already");
            self.entries.insert(key.clone(), entries.get(key).cloned().unwrap_or_default());
        }
        for key in &difference.changed {
            let old =
                self.entries.insert(key.clone(), entries.get(key).cloned().unwrap_or_default());
            assert!(old.is_some(), "{key} was not there");
        }
        for key in &difference.deleted {
            assert!(self.entries.remove(key).is_some(), "{key} was not there");
        }
        self.calls.push(difference.clone());
    }
}

pub(super) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn pair(a: &NodeId, b: &NodeId) -> (NodeId, NodeId) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

/// A tiny generator (xorshift64*), for tests that are to be random and the same each time.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`.
    pub(super) const fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}
