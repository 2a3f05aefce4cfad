//! Nodes come and go: who wants to know.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use crate::node::Shared;
use crate::node::port::panic_text;
use crate::{Node, NodeId, Reason};

/// A node has come or gone.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvent {
    /// Which.
    pub node: NodeId,
    /// `None` if it is connected now, or why it is no more.
    pub lost: Option<Reason>,
}

type Call = Rc<RefCell<dyn FnMut(&Node, &NodeEvent)>>;

/// Who wants to know, in the order in which they said so.
#[derive(Default)]
pub(super) struct Listeners(Vec<(u64, Call)>);

/// Somebody who wants to know of nodes. Dropped, it does no more.
#[must_use = "dropped, it hears no more"]
pub struct NodeWatch {
    node: Weak<Shared>,
    number: u64,
}

impl NodeWatch {
    /// Hears of nodes for as long as there is this one.
    pub fn detach(mut self) {
        self.node = Weak::new();
    }
}

impl Drop for NodeWatch {
    fn drop(&mut self) {
        let Some(shared) = self.node.upgrade() else { return };
        let mut events = shared.mesh.events.borrow_mut();
        let index = events.0.iter().position(|(number, _)| *number == self.number);
        let call = index.map(|index| events.0.remove(index));
        drop(events);
        drop(call);
    }
}

impl fmt::Debug for NodeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeWatch").finish_non_exhaustive()
    }
}

impl Node {
    /// Calls whenever a node is connected with, or no longer. It is called outside of any port, after the
    /// monitors.
    pub fn monitor_nodes(&self, call: impl FnMut(&Self, &NodeEvent) + 'static) -> NodeWatch {
        let number = self.next_number();
        self.shared.mesh.events.borrow_mut().0.push((number, Rc::new(RefCell::new(call))));
        NodeWatch { node: Rc::downgrade(&self.shared), number }
    }

    /// The nodes that are connected with, in order, without this one.
    pub fn up_nodes(&self) -> Vec<NodeId> {
        let peers = self.shared.mesh.all_peers();
        peers.iter().filter(|peer| peer.link().is_some()).map(|peer| peer.id().clone()).collect()
    }

    /// Whether a node is connected with; `None` if nothing is known of it. This node always is.
    pub fn node_is_up(&self, id: &NodeId) -> Option<bool> {
        if id == self.id() {
            return Some(true);
        }
        self.shared.mesh.known(id).map(|peer| peer.link().is_some())
    }

    /// How many bytes wait to be sent to a node. With more than 64 MiB the connection is lost.
    pub fn waiting_bytes(&self, id: &NodeId) -> usize {
        self.shared.mesh.known(id).map_or(0, |peer| peer.waiting(self))
    }

    /// Calls, once, when less than 1 MiB waits to be sent to a node: soon, if that is so now.
    pub fn when_drained(&self, id: &NodeId, call: impl FnOnce(&Self) + 'static) {
        match self.shared.mesh.known(id) {
            Some(peer) => peer.when_drained(self, Box::new(call)),
            None => self.soon(call),
        }
    }

    pub(super) fn tell_of_node(&self, event: &NodeEvent) {
        let calls: Vec<Call> = {
            let events = self.shared.mesh.events.borrow();
            events.0.iter().map(|(_, call)| Rc::clone(call)).collect()
        };
        for call in calls {
            let result = catch_unwind(AssertUnwindSafe(|| {
                // One that loses a node by what it does would be called within its call.
                if let Ok(mut call) = call.try_borrow_mut() {
                    call(self, event);
                }
            }));
            if let Err(panic) = result {
                tracing::error!("a call about nodes panicked: {}", panic_text(&*panic));
            }
        }
    }
}
