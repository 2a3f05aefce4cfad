//! The database that all nodes of a network share: families of keys with values, as in AnyEvent::MP 2.x.
//!
//! Every entry belongs to the node that set it and goes with it. A *global* node holds everything, and is
//! connected to all other global nodes; any other is the *slave* of one global node, its *master*, whom it
//! asks. Seeds are global. A slave that loses its master turns to another seed and goes on there.
//!
//! A node without seeds has nobody to ask, so it is to be made with [`Database::global`]: then a program
//! that is alone has a database too. (In Perl such a node waits until something makes it global.)
//!
//! What a monitor is told when the same key is set by several nodes is the value of one of them.
//!
//! Files: an `entry` is kept in a `shard`, of which there is one for each node; `slave` and `global` are the
//! two roles; `message` is what goes between nodes, `query` what is asked and answered, and `outbox` what
//! the caller has to do; `fault` is what can be wrong.

mod entry;
mod fault;
mod global;
mod message;
mod outbox;
mod query;
mod shard;
mod slave;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod random;
#[cfg(test)]
mod stories;

use std::collections::{BTreeMap, BTreeSet};

use self::entry::{LISTENERS, NOTHING, check_entry, check_family, check_readable};
use self::global::Global;
use self::message::{
    G_FIND, G_FOUND, G_GLOBAL, G_MON0, G_MON1, G_REPLY, G_SLAVE, Message, addresses,
};
use self::outbox::Outbox;
use self::shard::{Change, Maxima};
use self::slave::Slave;
use crate::{List, NodeId, Value};

pub use self::entry::{NAME_LEN_MAX, VALUE_DEPTH_MAX, VALUE_WEIGHT_MAX};
pub use self::fault::{DatabaseError, Fault, Limit};
pub use self::message::TAGS;
pub use self::outbox::{MonitorId, Output};
pub use self::query::{Answer, Kind, QueryId, Refused};
pub use self::shard::{Difference, ENTRIES_MAX, FAMILIES_MAX, SHARD_WEIGHT_MAX};

/// The database as one node sees it.
///
/// Tell it what happened, and what the program wants. After each call take everything that
/// [`poll_output`](Self::poll_output) has, or what monitors hear lags behind [`family`](Self::family).
#[derive(Debug)]
pub struct Database {
    own: NodeId,
    role: Role,
    /// The connected nodes, and whether they have said that they are global.
    peers: BTreeMap<NodeId, bool>,
    /// In the order in which they first greeted us: earlier ones are preferred as masters.
    seeds: Vec<NodeId>,
    /// Queries without an answer. Empty in a global node.
    queries: BTreeMap<QueryId, (Kind, String)>,
    /// Nodes whose addresses are asked for. Empty in a global node.
    finds: BTreeSet<NodeId>,
    queries_count: u64,
    monitors_count: u64,
    outbox: Outbox,
}

#[derive(Debug)]
enum Role {
    Slave(Slave),
    Global(Box<Global>),
}

/// The most families that one slave may monitor.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;

/// The most queries, and as many searches for nodes, that may wait for an answer.
pub const QUERIES_MAX: usize = 100_000;

impl Database {
    /// The database of a node that has seeds: the slave of one of them.
    pub fn slave(own: NodeId) -> Self {
        Self {
            own,
            role: Role::Slave(Slave::default()),
            peers: BTreeMap::new(),
            seeds: Vec::new(),
            queries: BTreeMap::new(),
            finds: BTreeSet::new(),
            queries_count: 1,
            monitors_count: 0,
            outbox: Outbox::default(),
        }
    }

    /// The database of a node that has no seeds, or is one.
    pub fn global(own: NodeId) -> Self {
        let mut database = Self::slave(own);
        database.become_global();
        database
    }

    /// Sets an entry of this node. Nothing happens if it has that value already.
    ///
    /// # Errors
    /// If the family or the key cannot be one, or this node has too many entries or too large ones.
    pub fn set(
        &mut self,
        family: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), DatabaseError> {
        check_family(family)?;
        if key.is_empty() {
            return Err(DatabaseError::EmptyKey(family.to_owned()));
        }
        let value = value.into();
        check_entry(key, &value)?;
        let change = Change::setting(key, value);
        match &self.role {
            Role::Slave(slave) => slave.shard.check(family, &change, Maxima::NODE)?,
            Role::Global(global) => global.check(&self.own, family, &change)?,
        }
        self.update_own(family, change);
        Ok(())
    }

    /// Deletes entries of this node. Those that it does not have are ignored.
    ///
    /// # Errors
    /// If the family cannot be one.
    pub fn delete(&mut self, family: &str, keys: &[&str]) -> Result<(), DatabaseError> {
        check_family(family)?;
        let deleted = keys.iter().map(|&key| key.to_owned()).collect();
        self.update_own(family, Change { deleted, ..Change::default() });
        Ok(())
    }

    /// Says where this node listens.
    ///
    /// # Errors
    /// If that is too long to be told.
    pub fn set_listeners(&mut self, addresses: &[String]) -> Result<(), DatabaseError> {
        let value = Value::List(addresses.iter().map(|address| address.as_str().into()).collect());
        check_entry(self.own.as_str(), &value)?;
        let change = if addresses.is_empty() {
            Change::deleting(self.own.as_str())
        } else {
            Change::setting(self.own.as_str(), value)
        };
        self.update_own(LISTENERS, change);
        Ok(())
    }

    /// Asks about a family. The answer comes when there is a master to give it.
    ///
    /// # Errors
    /// If the family cannot be one, or too many queries wait.
    pub fn query(&mut self, kind: Kind, family: &str) -> Result<QueryId, DatabaseError> {
        check_readable(family)?;
        if self.queries.len() >= QUERIES_MAX {
            return Err(Limit { what: "queries without an answer", max: QUERIES_MAX }.into());
        }
        self.queries_count += 1;
        let id = QueryId(self.queries_count);
        self.queries.insert(id, (kind, family.to_owned()));
        self.ask_query(id, kind, family);
        Ok(id)
    }

    /// Listens to a family: first comes all of it, as soon as it is known, then what changes.
    ///
    /// # Errors
    /// If the family cannot be one, or too many are monitored.
    pub fn monitor(&mut self, family: &str) -> Result<MonitorId, DatabaseError> {
        check_readable(family)?;
        let first = !self.outbox.is_monitored(family);
        if first && self.outbox.monitored().len() >= SUBSCRIPTIONS_MAX {
            return Err(Limit { what: "monitored families", max: SUBSCRIPTIONS_MAX }.into());
        }
        self.monitors_count += 1;
        let id = MonitorId(self.monitors_count);
        self.outbox.monitor(id, family);
        match &self.role {
            Role::Global(global) => {
                self.outbox.begin_one(id, family, global.merged().family(family));
            }
            Role::Slave(slave) => match (slave.copy(family), &slave.master) {
                (Some(entries), _) => self.outbox.begin_one(id, family, Some(entries)),
                (None, Some(master)) if first => {
                    self.outbox.send(master, G_MON1, vec![family.into()]);
                }
                (None, _) => {}
            },
        }
        Ok(id)
    }

    /// Ends a monitor. Ended ones are ignored.
    pub fn unmonitor(&mut self, id: MonitorId) {
        let Some(family) = self.outbox.unmonitor(id) else { return };
        let Role::Slave(slave) = &mut self.role else { return };
        slave.forget_copy(&family);
        if let Some(master) = &slave.master {
            self.outbox.send(master, G_MON0, vec![family.as_str().into()]);
        }
    }

    /// Looks for the addresses of a node. Two searches for the same node are one.
    pub fn find(&mut self, node: &NodeId) {
        if self.finds.len() >= QUERIES_MAX {
            self.outbox.push(Output::Found { node: node.clone(), addresses: None });
        } else if self.finds.insert(node.clone()) {
            self.ask_find(node);
        }
    }

    /// Makes this node global. It stays so.
    pub fn become_global(&mut self) {
        let Role::Slave(slave) = &mut self.role else { return };
        let mut slave = std::mem::take(slave);
        self.outbox.push(Output::BecameGlobal);
        for peer in self.peers.keys() {
            self.outbox.send(peer, G_GLOBAL, List::new());
        }
        let mut global =
            Global::new(self.own.clone(), std::mem::take(&mut slave.shard), &mut self.outbox);
        slave.hand_over(global.merged(), &mut self.outbox);
        for (peer, _) in self.peers.iter().filter(|&(_, &is_global)| is_global) {
            global.meet(peer, &mut self.outbox);
        }
        self.role = Role::Global(Box::new(global));
        self.ask_again();
    }

    /// A node has said, in its greeting at an address of the seed list, that it is this seed. It may be this
    /// node itself.
    pub fn seed_greeted(&mut self, node: &NodeId) {
        if *node == self.own {
            self.become_global();
            return;
        }
        if !self.seeds.contains(node) {
            self.seeds.push(node.clone());
        }
        self.outbox.send(node, G_SLAVE, List::new());
        self.search_master();
    }

    /// There is a connection to a node.
    pub fn node_up(&mut self, node: &NodeId) {
        self.node_down(node);
        self.peers.insert(node.clone(), false);
        if self.is_global() {
            self.outbox.send(node, G_GLOBAL, List::new());
        }
        self.search_master();
        if self.seeds.contains(node) {
            self.outbox.send(node, G_SLAVE, List::new());
        }
    }

    /// The connection to a node is lost. Harmless if there was none.
    pub fn node_down(&mut self, node: &NodeId) {
        if self.peers.remove(node).is_none() {
            return;
        }
        match &mut self.role {
            Role::Global(global) => global.leave(node, &mut self.outbox),
            Role::Slave(slave) if slave.is_master(node) => {
                slave.master = None;
                self.outbox.push(Output::MasterLost(node.clone()));
                self.search_master();
            }
            Role::Slave(_) => {}
        }
    }

    /// A node has sent `["", tag, args…]` with one of the [`TAGS`].
    ///
    /// # Errors
    /// If the message is wrong, or asks for too much.
    pub fn handle_message(&mut self, from: &NodeId, tag: &str, args: List) -> Result<(), Fault> {
        let message = Message::parse(tag, args)?;
        if !self.peers.contains_key(from) {
            return Ok(());
        }
        match message {
            Message::Global => {
                self.peers.insert(from.clone(), true);
                if let Role::Global(global) = &mut self.role {
                    global.meet(from, &mut self.outbox);
                }
                Ok(())
            }
            Message::Slave(families) => {
                if let Some(families) = &families {
                    Maxima::NODE.check_all(families)?;
                }
                self.become_global();
                if let (Role::Global(global), Some(families)) = (&mut self.role, families) {
                    global.adopt(from, families, &mut self.outbox);
                }
                Ok(())
            }
            message => match &mut self.role {
                Role::Global(global) => handle_as_global(global, from, message, &mut self.outbox),
                Role::Slave(slave) if slave.is_master(from) => self.handle_from_master(message),
                Role::Slave(_) => handle_from_stranger(&message),
            },
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    /// The content of a family: in a slave only of one that is monitored, and not before the first call of
    /// the monitor.
    pub fn family(&self, family: &str) -> Option<&BTreeMap<String, Value>> {
        match &self.role {
            Role::Slave(slave) => slave.copy(family),
            Role::Global(global) => Some(global.merged().family(family).unwrap_or(&NOTHING)),
        }
    }

    /// The families that this node knows of, in order, each with how many entries it has: all there are if
    /// the node is global, else those that it has entries in itself.
    pub fn families(&self) -> impl Iterator<Item = (&str, usize)> {
        let shard = match &self.role {
            Role::Slave(slave) => &slave.shard,
            Role::Global(global) => global.merged(),
        };
        shard.families().iter().map(|(family, entries)| (family.as_str(), entries.len()))
    }

    /// Whether this node is global.
    pub const fn is_global(&self) -> bool {
        matches!(self.role, Role::Global(_))
    }

    /// Whom this node asks: itself if it is global.
    pub fn master(&self) -> Option<&NodeId> {
        match &self.role {
            Role::Slave(slave) => slave.master.as_ref(),
            Role::Global(_) => Some(&self.own),
        }
    }

    fn update_own(&mut self, family: &str, change: Change) {
        match &mut self.role {
            Role::Slave(slave) => slave.update_own(family, change, &mut self.outbox),
            Role::Global(global) => global.update(&self.own, family, change, &mut self.outbox),
        }
    }

    /// A slave without a master takes the first seed that is connected.
    fn search_master(&mut self) {
        let Role::Slave(slave) = &mut self.role else { return };
        if slave.master.is_some() {
            return;
        }
        let Some(seed) = self.seeds.iter().find(|seed| self.peers.contains_key(*seed)) else {
            return;
        };
        self.outbox.push(Output::MasterFound(seed.clone()));
        slave.follow(seed.clone(), &mut self.outbox);
        self.ask_again();
    }

    /// Asks a new master everything that has no answer yet.
    fn ask_again(&mut self) {
        for node in self.finds.clone() {
            self.ask_find(&node);
        }
        if let Role::Slave(Slave { master: Some(master), .. }) = &self.role {
            let families: Vec<String> = self.outbox.monitored().cloned().collect();
            for family in families {
                self.outbox.send(master, G_MON1, vec![family.into()]);
            }
        }
        for (id, (kind, family)) in self.queries.clone() {
            self.ask_query(id, kind, &family);
        }
    }

    fn ask_find(&mut self, node: &NodeId) {
        match &self.role {
            Role::Global(global) => {
                let addresses = global.merged().value(LISTENERS, node.as_str()).and_then(addresses);
                self.finds.remove(node);
                self.outbox.push(Output::Found { node: node.clone(), addresses });
            }
            Role::Slave(Slave { master: Some(master), .. }) => {
                self.outbox.send(master, G_FIND, vec![node.into()]);
            }
            Role::Slave(Slave { master: None, .. }) => {}
        }
    }

    fn ask_query(&mut self, id: QueryId, kind: Kind, family: &str) {
        match &self.role {
            Role::Global(global) => {
                let result = Ok(kind.ask(global.merged().family(family)));
                self.queries.remove(&id);
                self.outbox.push(Output::QueryAnswered { id, result });
            }
            Role::Slave(Slave { master: Some(master), .. }) => {
                self.outbox.send(master, kind.tag(), vec![family.into(), id.letters().into()]);
            }
            Role::Slave(Slave { master: None, .. }) => {}
        }
    }

    fn handle_from_master(&mut self, message: Message) -> Result<(), Fault> {
        let Role::Slave(slave) = &mut self.role else { return Ok(()) };
        match message {
            Message::Content { family, entries } if self.outbox.is_monitored(&family) => {
                slave.set_copy(&family, entries, &mut self.outbox)?;
            }
            Message::Changed { family, change } if self.outbox.is_monitored(&family) => {
                slave.update_copy(&family, change, &mut self.outbox)?;
            }
            Message::Found { node, addresses } => {
                if self.finds.remove(&node) {
                    self.outbox.push(Output::Found { node, addresses });
                }
            }
            Message::Reply { id, result } => {
                let Some(id) = QueryId::from_letters(&id) else { return Ok(()) };
                let Some((kind, _)) = self.queries.get(&id) else { return Ok(()) };
                let expected = "what was asked for: a map, or a list";
                let result = kind.read(result).ok_or(Fault::Shape { tag: G_REPLY, expected })?;
                self.queries.remove(&id);
                self.outbox.push(Output::QueryAnswered { id, result });
            }
            message => return handle_from_stranger(&message),
        }
        Ok(())
    }

    #[cfg(test)]
    fn assert_is_consistent(&self) {
        if let Role::Global(global) = &self.role {
            global.assert_is_consistent(|node| self.peers.contains_key(node));
            assert!(self.queries.is_empty() && self.finds.is_empty());
        }
        assert!(!self.peers.contains_key(&self.own));
    }
}

fn handle_as_global(
    global: &mut Global,
    from: &NodeId,
    message: Message,
    outbox: &mut Outbox,
) -> Result<(), Fault> {
    match message {
        Message::Set(families) => {
            Maxima::GLOBAL.check_all(&families)?;
            global.set(from, families, outbox);
        }
        Message::Update { family, change } => {
            global.check(from, &family, &change)?;
            global.update_from_peer(from, &family, change, outbox);
        }
        Message::Find(node) => {
            let known = global.merged().value(LISTENERS, &node).and_then(addresses);
            let known =
                known.map(|known| Value::List(known.into_iter().map(Value::Text).collect()));
            outbox.send(from, G_FOUND, vec![node.into(), known.unwrap_or_default()]);
        }
        Message::Query { kind, family, id } => {
            let result = kind.ask_for_other(global.merged().family(&family));
            outbox.send(from, G_REPLY, vec![id.into(), result]);
        }
        Message::Monitor(family) => global.subscribe(from, &family, outbox)?,
        Message::Unmonitor(family) => global.unsubscribe(from, &family),
        // These were for the slave that this node was when it asked.
        Message::Found { .. }
        | Message::Reply { .. }
        | Message::Content { .. }
        | Message::Changed { .. } => {}
        Message::Global | Message::Slave(_) => unreachable!("handled for both roles"),
    }
    Ok(())
}

/// What a slave hears from a node that is not its master, or that it does not wait for. A global node may
/// take it for the global one that had its name before.
const fn handle_from_stranger(message: &Message) -> Result<(), Fault> {
    match message {
        Message::Find(_) | Message::Query { .. } | Message::Monitor(_) | Message::Unmonitor(_) => {
            Err(Fault::NotGlobal)
        }
        Message::Global
        | Message::Slave(_)
        | Message::Set(_)
        | Message::Update { .. }
        | Message::Found { .. }
        | Message::Reply { .. }
        | Message::Content { .. }
        | Message::Changed { .. } => Ok(()),
    }
}
