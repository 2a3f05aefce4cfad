//! The database that all nodes share, and the groups on top of it, as a program uses them.
//!
//! Nothing is called before the call that asked for it returns.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use crate::database::{
    Answer, Database, DatabaseError, Difference, Kind, MonitorId, Output, QueryId, Refused,
};
use crate::node::Shared;
use crate::node::port::panic_text;
use crate::{Monitor, Node, NodeId, PortId, Value};

/// What a family holds: values by key.
pub type Family = BTreeMap<String, Value>;

type OnAnswer = Box<dyn FnOnce(&Node, Result<Answer, Refused>)>;
type OnChange = Rc<RefCell<dyn FnMut(&Node, &Difference)>>;

/// Who waits for something of the database.
#[derive(Default)]
pub(crate) struct Waiting {
    answers: BTreeMap<QueryId, OnAnswer>,
    changes: BTreeMap<MonitorId, OnChange>,
    is_called: Cell<bool>,
    /// The guard of each entry that has one: an older one's end is none of its business.
    guards: BTreeMap<(String, String), u64>,
    /// The groups that are watched for whoever asks for their members.
    groups: BTreeSet<String>,
}

/// An entry of this node in the database. Dropped, it is deleted, unless it was set again since;
/// [`detach`](Self::detach) leaves it for as long as the node lives.
#[must_use = "dropped, it deletes the entry"]
#[derive(Debug)]
pub struct Entry {
    node: Weak<Shared>,
    /// Family and key.
    place: (String, String),
    number: u64,
    /// Deletes it when the port ends that it names.
    monitor: Option<Monitor>,
}

/// Somebody who hears of a family's changes. Dropped, it hears no more.
#[must_use = "dropped, it hears no more"]
pub struct FamilyWatch {
    node: Weak<Shared>,
    monitor: MonitorId,
}

/// A group has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupChange {
    /// All members, in order.
    pub members: Vec<PortId>,
    /// Those that were none before.
    pub added: Vec<PortId>,
    /// Those that are none any more.
    pub removed: Vec<PortId>,
}

impl Node {
    /// Sets an entry of this node in the database, or replaces its value. All nodes see it, soon. A family
    /// begins with a letter, and has letters, digits, `_` and `:`.
    ///
    /// # Errors
    /// If the family or key cannot be one, or there is too much.
    pub fn db_set(
        &self,
        family: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<Entry, DatabaseError> {
        // What makes the value may do anything: nothing is borrowed.
        let value = value.into();
        self.with_database(|database| database.set(family, key, value))?;
        let (place, number) = ((family.to_owned(), key.to_owned()), self.next_number());
        self.shared.mesh.waiting.borrow_mut().guards.insert(place.clone(), number);
        Ok(Entry { node: Rc::downgrade(&self.shared), place, number, monitor: None })
    }

    /// Deletes entries of this node. Those that it does not have are ignored.
    ///
    /// # Errors
    /// If the family cannot be one.
    pub fn db_del(&self, family: &str, keys: &[&str]) -> Result<(), DatabaseError> {
        self.with_database(|database| database.delete(family, keys))
    }

    /// Sets an entry whose key is a port, until that ends.
    ///
    /// # Errors
    /// As [`db_set`](Self::db_set).
    pub fn db_reg(
        &self,
        family: &str,
        port: impl Into<PortId>,
        value: impl Into<Value>,
    ) -> Result<Entry, DatabaseError> {
        let port = port.into();
        let mut entry = self.db_set(family, port.as_str(), value)?;
        let (family, key) = (family.to_owned(), port.as_str().to_owned());
        entry.monitor = Some(self.monitor(port, move |node, _| {
            if let Err(error) = node.db_del(&family, &[&key]) {
                tracing::error!("{family}: {error}");
            }
        }));
        Ok(entry)
    }

    /// Asks for all that a family holds.
    ///
    /// # Errors
    /// If it cannot be one, or too many questions wait.
    pub fn db_family(
        &self,
        family: &str,
        done: impl FnOnce(&Self, Result<Family, Refused>) + 'static,
    ) -> Result<(), DatabaseError> {
        self.db_query(Kind::Family, family, move |node, answer| {
            done(
                node,
                answer.map(|answer| match answer {
                    Answer::Family(family) => family,
                    Answer::Keys(_) | Answer::Values(_) => Family::new(),
                }),
            );
        })
    }

    /// Asks for the keys of a family.
    ///
    /// # Errors
    /// As [`db_family`](Self::db_family).
    pub fn db_keys(
        &self,
        family: &str,
        done: impl FnOnce(&Self, Result<Vec<String>, Refused>) + 'static,
    ) -> Result<(), DatabaseError> {
        self.db_query(Kind::Keys, family, move |node, answer| {
            done(
                node,
                answer.map(|answer| match answer {
                    Answer::Keys(keys) => keys,
                    Answer::Family(_) | Answer::Values(_) => Vec::new(),
                }),
            );
        })
    }

    /// Asks for the values of a family.
    ///
    /// # Errors
    /// As [`db_family`](Self::db_family).
    pub fn db_values(
        &self,
        family: &str,
        done: impl FnOnce(&Self, Result<Vec<Value>, Refused>) + 'static,
    ) -> Result<(), DatabaseError> {
        self.db_query(Kind::Values, family, move |node, answer| {
            done(
                node,
                answer.map(|answer| match answer {
                    Answer::Values(values) => values,
                    Answer::Family(_) | Answer::Keys(_) => Vec::new(),
                }),
            );
        })
    }

    fn db_query(
        &self,
        kind: Kind,
        family: &str,
        done: impl FnOnce(&Self, Result<Answer, Refused>) + 'static,
    ) -> Result<(), DatabaseError> {
        let id = self.with_database(|database| database.query(kind, family))?;
        self.shared.mesh.waiting.borrow_mut().answers.insert(id, Box::new(done));
        Ok(())
    }

    /// Calls with all keys of a family as added ones, as soon as they are known, if only that there are
    /// none, and then whenever it changes. The values are found by [`db_look`](Self::db_look).
    ///
    /// # Errors
    /// If it cannot be a family, or too many are watched.
    pub fn db_mon(
        &self,
        family: &str,
        call: impl FnMut(&Self, &Difference) + 'static,
    ) -> Result<FamilyWatch, DatabaseError> {
        let monitor = self.with_database(|database| database.monitor(family))?;
        let call: OnChange = Rc::new(RefCell::new(call));
        self.shared.mesh.waiting.borrow_mut().changes.insert(monitor, call);
        Ok(FamilyWatch { node: Rc::downgrade(&self.shared), monitor })
    }

    /// Looks at a family as this node knows it: only global nodes, and those that watch it, know all. The
    /// database must not be changed meanwhile.
    pub fn db_look<T>(&self, family: &str, look: impl FnOnce(&Family) -> T) -> T {
        let database = self.shared.mesh.database.borrow();
        match database.family(family) {
            Some(family) => look(family),
            None => look(&Family::new()),
        }
    }

    /// Makes a port a member of a group, until it ends. A group is a family.
    ///
    /// # Errors
    /// As [`db_set`](Self::db_set).
    pub fn grp_reg(&self, group: &str, port: impl Into<PortId>) -> Result<Entry, DatabaseError> {
        self.db_reg(group, port, Value::Null)
    }

    /// The members of a group, as far as this node knows, in order. One that is not global begins to watch
    /// the group by this, so that its first answers may lack members elsewhere.
    pub fn grp_get(&self, group: &str) -> Vec<PortId> {
        let is_new = !self.shared.mesh.waiting.borrow().groups.contains(group);
        if is_new && !self.shared.mesh.database.borrow().is_global() {
            match self.db_mon(group, |_, _| {}) {
                Ok(watch) => watch.detach(),
                Err(error) => tracing::error!("{group}: {error}"),
            }
            self.shared.mesh.waiting.borrow_mut().groups.insert(group.to_owned());
        }
        self.db_look(group, |family| {
            family.keys().filter_map(|key| PortId::new(key).ok()).collect()
        })
    }

    /// Calls with the members of a group, as soon as there are any, and then whenever they change.
    ///
    /// # Errors
    /// As [`db_mon`](Self::db_mon).
    pub fn grp_mon(
        &self,
        group: &str,
        mut call: impl FnMut(&Self, &GroupChange) + 'static,
    ) -> Result<FamilyWatch, DatabaseError> {
        let mut members = BTreeSet::new();
        self.db_mon(group, move |node, difference| {
            let mut change = GroupChange::default();
            for port in ports_of(&difference.added) {
                members.insert(port.clone());
                change.added.push(port);
            }
            for port in ports_of(&difference.deleted) {
                members.remove(&port);
                change.removed.push(port);
            }
            if !change.added.is_empty() || !change.removed.is_empty() {
                change.members = members.iter().cloned().collect();
                call(node, &change);
            }
        })
    }

    /// Makes this node global: it holds all of the database, and is there for others. It stays so.
    pub fn become_global(&self) {
        self.with_database(Database::become_global);
    }

    /// Looks for where a node is.
    pub(crate) fn find_addresses(&self, id: &NodeId) {
        self.with_database(|database| database.find(id));
    }

    /// Asks something of the database; what comes of it follows soon.
    pub(crate) fn with_database<T>(&self, act: impl FnOnce(&mut Database) -> T) -> T {
        let mesh = &self.shared.mesh;
        let result = act(&mut mesh.database.borrow_mut());
        if !mesh.waiting.borrow().is_called.replace(true) {
            self.soon(Self::drain_database);
        }
        result
    }

    fn drain_database(&self) {
        let mesh = &self.shared.mesh;
        mesh.waiting.borrow().is_called.set(false);
        loop {
            let output = mesh.database.borrow_mut().poll_output();
            let Some(output) = output else { return };
            let result = catch_unwind(AssertUnwindSafe(|| self.obey_database(output)));
            if let Err(panic) = result {
                tracing::error!("a call of the database panicked: {}", panic_text(&*panic));
            }
        }
    }

    fn obey_database(&self, output: Output) {
        match output {
            // Who is not connected is asked again when it is.
            Output::Send { to, tag, args } => {
                if let Some(peer) = self.shared.mesh.known(&to).filter(|peer| peer.link().is_some())
                {
                    peer.send_node_message(self, tag, args);
                }
            }
            Output::QueryAnswered { id, result } => {
                let done = self.shared.mesh.waiting.borrow_mut().answers.remove(&id);
                if let Some(done) = done {
                    done(self, result);
                }
            }
            Output::Changed { monitors, difference, .. } => {
                for monitor in monitors {
                    self.tell_change(monitor, &difference);
                }
            }
            Output::Found { node, addresses } => {
                self.dial_data(&node, addresses.as_deref());
                self.dial_addresses(&node, addresses);
            }
            Output::BecameGlobal => tracing::info!("{}: this node is global now", self.id()),
            Output::Keepalive { node, wanted } => self.keep_alive(&node, wanted),
            Output::MasterFound(node) => tracing::info!("{node} is the master of this node now"),
            Output::MasterLost(node) => {
                tracing::info!("{node} is the master of this node no longer");
            }
        }
    }

    fn tell_change(&self, monitor: MonitorId, difference: &Difference) {
        let call = self.shared.mesh.waiting.borrow().changes.get(&monitor).map(Rc::clone);
        let Some(call) = call else { return };
        let result = catch_unwind(AssertUnwindSafe(|| (call.borrow_mut())(self, difference)));
        if let Err(panic) = result {
            tracing::error!("a call about a family panicked: {}", panic_text(&*panic));
        }
    }
}

fn ports_of(keys: &[String]) -> impl Iterator<Item = PortId> {
    keys.iter().filter_map(|key| PortId::new(key).ok())
}

impl Entry {
    /// Leaves the entry.
    pub fn detach(mut self) {
        self.disown();
        self.node = Weak::new();
        if let Some(monitor) = self.monitor.take() {
            monitor.detach();
        }
    }

    /// Whether this was the guard of the entry, which it is no longer.
    fn disown(&self) -> bool {
        let Some(shared) = self.node.upgrade() else { return false };
        let guards = &mut shared.mesh.waiting.borrow_mut().guards;
        let is_guard = guards.get(&self.place) == Some(&self.number);
        if is_guard {
            guards.remove(&self.place);
        }
        is_guard
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.disown() {
            return;
        }
        let Some(shared) = self.node.upgrade() else { return };
        let (family, key) = &self.place;
        if let Err(error) = (Node { shared }).db_del(family, &[key]) {
            tracing::error!("{family}: {error}");
        }
    }
}

impl FamilyWatch {
    /// Hears of the family for as long as the node lives.
    pub fn detach(mut self) {
        self.node = Weak::new();
    }
}

impl Drop for FamilyWatch {
    fn drop(&mut self) {
        let Some(shared) = self.node.upgrade() else { return };
        let call = shared.mesh.waiting.borrow_mut().changes.remove(&self.monitor);
        let node = Node { shared };
        node.with_database(|database| database.unmonitor(self.monitor));
        drop(call);
    }
}

impl fmt::Debug for FamilyWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FamilyWatch").field(&self.monitor).finish()
    }
}
