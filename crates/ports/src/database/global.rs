//! A global node: it holds what its slaves and the other global nodes have set, and what comes of merging
//! that.
//!
//! Each node's entries are a shard of their own, so that they can go with the node. Other global nodes hear
//! only what this node's slaves do, itself counted as one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Families, GLOBALS, LISTENERS, NOTHING};
use super::message::{self, G_CHG1, G_SET, G_UPD, families_value};
use super::outbox::Outbox;
use super::shard::{Change, Maxima, Shard};
use super::{Limit, Output, SUBSCRIPTIONS_MAX};
use crate::{NodeId, Value};

#[derive(Debug)]
pub(super) struct Global {
    own: NodeId,
    shards: BTreeMap<NodeId, Shard>,
    /// Every key of every shard, with the value that one of them has.
    merged: Shard,
    /// Whose changes the other global nodes hear from us. This node is one of them.
    slaves: BTreeSet<NodeId>,
    /// The connected global nodes. Each has had our `g_set`. None of them is a slave.
    globals: BTreeSet<NodeId>,
    /// Which nodes monitor each family. None of the sets is empty.
    subscribers: BTreeMap<String, BTreeSet<NodeId>>,
    /// The same the other way round.
    subscriptions: BTreeMap<NodeId, BTreeSet<String>>,
}

impl Global {
    /// Begins with the entries of this node.
    pub(super) fn new(own: NodeId, mut shard: Shard, outbox: &mut Outbox) -> Self {
        shard.apply(GLOBALS, Change::setting(own.as_str(), Value::Null));
        Self {
            merged: shard.clone(),
            shards: [(own.clone(), shard)].into(),
            slaves: [own.clone()].into(),
            own,
            globals: BTreeSet::new(),
            subscribers: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        }
        .keeping_alive(outbox)
    }

    fn keeping_alive(self, outbox: &mut Outbox) -> Self {
        let nodes = self.merged.family(GLOBALS).into_iter().flat_map(|nodes| nodes.keys());
        keep_alive(&self.own, nodes, true, outbox);
        self
    }

    pub(super) const fn merged(&self) -> &Shard {
        &self.merged
    }

    /// What a node may have here, by what it is.
    pub(super) fn check(&self, node: &NodeId, family: &str, change: &Change) -> Result<(), Limit> {
        let maxima = if self.globals.contains(node) { Maxima::GLOBAL } else { Maxima::NODE };
        match self.shards.get(node) {
            Some(shard) => shard.check(family, change, maxima),
            None => Shard::default().check(family, change, maxima),
        }
    }

    /// Changes a family in the shard of one node, in what is merged, and everywhere that is to know of it.
    pub(super) fn update(
        &mut self,
        node: &NodeId,
        family: &str,
        change: Change,
        outbox: &mut Outbox,
    ) {
        let shard = self.shards.entry(node.clone()).or_default();
        let difference = shard.apply(family, change);
        let mut told = difference.to_change(shard.family(family).unwrap_or(&NOTHING));
        let mut seen = told.clone();
        for key in difference.deleted {
            let Some((owner, value)) = self.other_owner(family, &key) else { continue };
            if self.slaves.contains(owner) {
                told.deleted.remove(&key);
                told.set.insert(key.clone(), value.clone());
            }
            seen.deleted.remove(&key);
            seen.set.insert(key, value.clone());
        }
        if self.slaves.contains(node) {
            for peer in &self.globals {
                outbox.send_update(peer, family, told.clone());
            }
        }
        self.show(family, seen, outbox);
    }

    /// Makes one node's shard hold these families and nothing else.
    fn replace(&mut self, node: &NodeId, families: Families, outbox: &mut Outbox) {
        let shard = self.shards.entry(node.clone()).or_default();
        let mut changes = shard.changes_without(&families);
        for (family, entries) in families {
            let change = shard.change_into(&family, entries);
            changes.push((family, change));
        }
        for (family, change) in changes {
            self.update(node, &family, change, outbox);
        }
    }

    /// A node wants to be our slave, and has these entries. A global node is nobody's slave.
    pub(super) fn adopt(&mut self, node: &NodeId, families: Families, outbox: &mut Outbox) {
        if self.globals.contains(node) {
            return;
        }
        self.slaves.insert(node.clone());
        self.replace(node, families, outbox);
    }

    /// A node says that it is global. What it may have been here before, a slave, it is no longer.
    pub(super) fn meet(&mut self, node: &NodeId, outbox: &mut Outbox) {
        if self.globals.contains(node) {
            return;
        }
        self.drop_node(node, outbox);
        let own = self.own.clone();
        self.update(&own, GLOBALS, Change::setting(node.as_str(), Value::Null), outbox);
        self.globals.insert(node.clone());
        let (first, rest) = message::cut(self.own_and_slaves());
        outbox.send(node, G_SET, vec![families_value(first)]);
        for (family, change) in rest {
            outbox.send(node, G_UPD, message::update(&family, change));
        }
    }

    /// What all slaves of a global node have. Its addresses we hand on as if we had set them, so that nodes
    /// that know only us can find it.
    pub(super) fn set(&mut self, node: &NodeId, families: Families, outbox: &mut Outbox) {
        let listeners = families.get(LISTENERS).and_then(|nodes| nodes.get(node.as_str())).cloned();
        self.replace(node, families, outbox);
        self.copy_listeners(node, listeners, outbox);
    }

    /// A node changes its shard.
    pub(super) fn update_from_peer(
        &mut self,
        node: &NodeId,
        family: &str,
        change: Change,
        outbox: &mut Outbox,
    ) {
        let moved = (family == LISTENERS).then(|| change.set.get(node.as_str()).cloned()).flatten();
        self.update(node, family, change, outbox);
        self.copy_listeners(node, moved, outbox);
    }

    fn copy_listeners(&mut self, node: &NodeId, listeners: Option<Value>, outbox: &mut Outbox) {
        let Some(listeners) = listeners.filter(|_| self.globals.contains(node)) else { return };
        let own = self.own.clone();
        self.update(&own, LISTENERS, Change::setting(node.as_str(), listeners), outbox);
    }

    /// The connection to a node is lost: all that it had goes.
    pub(super) fn leave(&mut self, node: &NodeId, outbox: &mut Outbox) {
        self.globals.remove(node);
        self.drop_node(node, outbox);
        let own = self.own.clone();
        for family in [GLOBALS, LISTENERS] {
            self.update(&own, family, Change::deleting(node.as_str()), outbox);
        }
    }

    fn drop_node(&mut self, node: &NodeId, outbox: &mut Outbox) {
        self.unsubscribe_all(node);
        if self.shards.contains_key(node) {
            self.replace(node, Families::new(), outbox);
        }
        self.shards.remove(node);
        self.slaves.remove(node);
    }

    /// Sends a family to a slave, and from now on what changes in it.
    pub(super) fn subscribe(
        &mut self,
        node: &NodeId,
        family: &str,
        outbox: &mut Outbox,
    ) -> Result<(), Limit> {
        let families = self.subscriptions.entry(node.clone()).or_default();
        if !families.contains(family) && families.len() >= SUBSCRIPTIONS_MAX {
            return Err(Limit { what: "monitored families", max: SUBSCRIPTIONS_MAX });
        }
        families.insert(family.to_owned());
        self.subscribers.entry(family.to_owned()).or_default().insert(node.clone());
        let Some(entries) = self.merged.family(family) else {
            outbox.send(node, G_CHG1, vec![family.into(), Value::Null]);
            return Ok(());
        };
        let (mut first, rest) = message::cut([(family.to_owned(), entries.clone())].into());
        let first = first.remove(family).unwrap_or_default();
        outbox.send(node, G_CHG1, vec![family.into(), Value::Map(first)]);
        for (family, change) in rest {
            outbox.send_changed(node, &family, change);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, node: &NodeId, family: &str) {
        if let Some(families) = self.subscriptions.get_mut(node) {
            families.remove(family);
        }
        if let Some(nodes) = self.subscribers.get_mut(family) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.subscribers.remove(family);
            }
        }
    }

    fn unsubscribe_all(&mut self, node: &NodeId) {
        for family in self.subscriptions.remove(node).unwrap_or_default() {
            self.unsubscribe(node, &family);
        }
    }

    /// Changes what is merged, and tells who listens what is different now.
    fn show(&mut self, family: &str, change: Change, outbox: &mut Outbox) {
        let difference = self.merged.apply(family, change);
        if difference.is_empty() {
            return;
        }
        if family == GLOBALS {
            keep_alive(&self.own, &difference.added, true, outbox);
            keep_alive(&self.own, &difference.deleted, false, outbox);
        }
        if let Some(nodes) = self.subscribers.get(family) {
            let change = difference.to_change(self.merged.family(family).unwrap_or(&NOTHING));
            for node in nodes {
                outbox.send_changed(node, family, change.clone());
            }
        }
        outbox.changed(family, difference);
    }

    /// Who else has that key, and with which value: a slave of ours if there is one.
    fn other_owner(&self, family: &str, key: &str) -> Option<(&NodeId, &Value)> {
        let owners = || {
            let shards = self.shards.iter();
            shards.filter_map(|(node, shard)| Some((node, shard.value(family, key)?)))
        };
        owners().find(|(node, _)| self.slaves.contains(*node)).or_else(|| owners().next())
    }

    /// What other global nodes are to know from us.
    fn own_and_slaves(&self) -> Families {
        let mut families = Families::new();
        for node in &self.slaves {
            for (family, entries) in self.shards.get(node).into_iter().flat_map(Shard::families) {
                let merged = families.entry(family.clone()).or_default();
                merged.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        families
    }

    #[cfg(test)]
    pub(super) fn assert_is_consistent(&self, is_up: impl Fn(&NodeId) -> bool) {
        self.merged.assert_is_counted();
        let mut keys = BTreeSet::new();
        for (node, shard) in &self.shards {
            shard.assert_is_counted();
            assert!(*node == self.own || is_up(node), "{node} is down but has a shard");
            for (family, entries) in shard.families() {
                keys.extend(entries.keys().map(|key| (family, key)));
            }
        }
        let merged = self.merged.families().iter();
        let merged: BTreeSet<_> = merged
            .flat_map(|(family, entries)| entries.keys().map(move |key| (family, key)))
            .collect();
        assert_eq!(merged, keys);
        for (family, key) in keys {
            let value = self.merged.value(family, key);
            assert!(self.shards.values().any(|shard| shard.value(family, key) == value));
        }
        assert!(self.slaves.contains(&self.own) && self.slaves.is_disjoint(&self.globals));
        assert!(self.globals.iter().chain(self.subscriptions.keys()).all(is_up));
        for (family, nodes) in &self.subscribers {
            assert!(!nodes.is_empty());
            assert!(nodes.iter().all(|node| self.subscriptions[node].contains(family)));
        }
    }
}

/// Wants, or no longer wants, connections to global nodes.
fn keep_alive<'a>(
    own: &NodeId,
    nodes: impl IntoIterator<Item = &'a String>,
    wanted: bool,
    outbox: &mut Outbox,
) {
    for node in nodes.into_iter().filter_map(|node| NodeId::new(node).ok()) {
        if node != *own {
            outbox.push(Output::Keepalive { node, wanted });
        }
    }
}
