//! The outbox: what the caller is to do, in order, and who of the program listens to which family.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::entry::Entries;
use super::message;
use super::shard::{Change, Difference};
use super::{Answer, QueryId, Refused};
use crate::{List, NodeId};

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send `["", tag, args…]` to the own port of a node. Nodes that are not connected are only ever sent
    /// something upon [`seed_greeted`](super::Database::seed_greeted); that message may be dropped.
    Send {
        /// The node.
        to: NodeId,
        /// What comes behind the empty port name.
        tag: &'static str,
        /// What comes behind the tag.
        args: List,
    },
    /// Hand the program what it asked for.
    QueryAnswered {
        /// What [`query`](super::Database::query) returned.
        id: QueryId,
        /// The answer.
        result: Result<Answer, Refused>,
    },
    /// Call these monitors. The values are in [`family`](super::Database::family).
    Changed {
        /// What [`monitor`](super::Database::monitor) returned, in order.
        monitors: Vec<MonitorId>,
        /// The family that they monitor.
        family: String,
        /// For the first call of a monitor, all keys are added. It may be empty then, and only then.
        difference: Difference,
    },
    /// The search for a node is over.
    Found {
        /// The node.
        node: NodeId,
        /// Where it listens, if anybody knows.
        addresses: Option<Vec<String>>,
    },
    /// This node is global now, and will be.
    BecameGlobal,
    /// Keep connecting to a node whenever there is no connection, or no longer do.
    Keepalive {
        /// The node, never this one.
        node: NodeId,
        /// Whether the connection is wanted.
        wanted: bool,
    },
    /// This slave follows a node: what it waits for will now be answered.
    MasterFound(NodeId),
    /// This slave no longer has a master. If there is another seed connected, `MasterFound` is next.
    MasterLost(NodeId),
}

/// A monitor on a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonitorId(pub(super) u64);

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    /// Which monitors there are on each family. None of the sets is empty.
    by_family: BTreeMap<String, BTreeSet<MonitorId>>,
    /// The same the other way round.
    by_id: BTreeMap<MonitorId, String>,
}

impl Outbox {
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(super) fn send(&mut self, to: &NodeId, tag: &'static str, args: List) {
        self.push(Output::Send { to: to.clone(), tag, args });
    }

    /// Tells another node what to change in our shard.
    pub(super) fn send_update(&mut self, to: &NodeId, family: &str, change: Change) {
        for piece in message::pieces(change) {
            self.send(to, message::G_UPD, message::update(family, piece));
        }
    }

    /// Tells a subscriber what has changed.
    pub(super) fn send_changed(&mut self, to: &NodeId, family: &str, change: Change) {
        for piece in message::pieces(change) {
            self.send(to, message::G_CHG2, message::changed(family, piece));
        }
    }

    pub(super) fn monitor(&mut self, id: MonitorId, family: &str) {
        self.by_family.entry(family.to_owned()).or_default().insert(id);
        self.by_id.insert(id, family.to_owned());
    }

    /// Ends a monitor. If it was the last on its family, this returns it.
    pub(super) fn unmonitor(&mut self, id: MonitorId) -> Option<String> {
        let family = self.by_id.remove(&id)?;
        let ids = self.by_family.get_mut(&family).expect("each monitor is in both maps");
        ids.remove(&id);
        if !ids.is_empty() {
            return None;
        }
        self.by_family.remove(&family);
        Some(family)
    }

    pub(super) fn monitored(&self) -> impl ExactSizeIterator<Item = &String> {
        self.by_family.keys()
    }

    pub(super) fn is_monitored(&self, family: &str) -> bool {
        self.by_family.contains_key(family)
    }

    /// Tells all monitors of a family what has changed, if anything has.
    pub(super) fn changed(&mut self, family: &str, difference: Difference) {
        if !difference.is_empty() {
            self.tell(family, difference);
        }
    }

    /// The first call of all monitors of a family.
    pub(super) fn begin(&mut self, family: &str, entries: Option<&Entries>) {
        self.tell(family, everything(entries));
    }

    /// The first call of one more monitor.
    pub(super) fn begin_one(&mut self, id: MonitorId, family: &str, entries: Option<&Entries>) {
        let difference = everything(entries);
        self.push(Output::Changed { monitors: vec![id], family: family.to_owned(), difference });
    }

    fn tell(&mut self, family: &str, difference: Difference) {
        let Some(ids) = self.by_family.get(family) else { return };
        let monitors = ids.iter().copied().collect();
        self.push(Output::Changed { monitors, family: family.to_owned(), difference });
    }
}

fn everything(entries: Option<&Entries>) -> Difference {
    let added = entries.into_iter().flatten().map(|(key, _)| key.clone()).collect();
    Difference { added, ..Difference::default() }
}
