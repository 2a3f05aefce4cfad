//! Where messages of one type go: a port of this node or of another.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use serde::ser::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mesh::Peer;
use crate::node::Shared;
use crate::node::port::PortCell;
use crate::{Message, Node, PortId};

/// A port that takes messages of one type. A clone is the same port; a handle that is dropped ends
/// nothing. As part of a message it is its [`PortId`].
///
/// It stays on its node's thread: others use [`NodeHandle`](crate::NodeHandle).
pub struct Port<M> {
    target: Target<M>,
}

enum Target<M> {
    Local(Rc<PortCell<M>>),
    /// A port of another node, or one of this node that was not there or takes another type.
    Named(Rc<Named>),
}

struct Named {
    node: Weak<Shared>,
    id: PortId,
    /// For a port of another node, when something was sent there.
    peer: OnceCell<Rc<Peer>>,
}

thread_local! {
    /// The node whose turn it is, for ports that come in messages.
    static CURRENT: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

impl<M: Message> Port<M> {
    pub(crate) const fn local(cell: Rc<PortCell<M>>) -> Self {
        Self { target: Target::Local(cell) }
    }

    /// The port of that name: for whoever knows that it takes such messages.
    pub fn to(node: &Node, id: &PortId) -> Self {
        if node.is_local(id)
            && let Some(cell) = node.typed_port(id)
        {
            return Self::local(cell);
        }
        let peer = OnceCell::new();
        let named = Named { node: Rc::downgrade(&node.shared), id: id.clone(), peer };
        Self { target: Target::Named(Rc::new(named)) }
    }

    /// Sends a message, as [`Node::send`] does.
    ///
    /// # Panics
    /// As [`Node::send`].
    #[inline]
    pub fn send(&self, message: M) {
        match &self.target {
            Target::Local(cell) => cell.push(message),
            Target::Named(named) => named.send(message),
        }
    }

    /// Its name.
    ///
    /// # Panics
    /// If its node is gone.
    pub fn id(&self) -> PortId {
        self.known_id().expect("the node of this port is gone")
    }

    /// Its name, unless its node is gone before that was asked for.
    fn known_id(&self) -> Option<PortId> {
        match &self.target {
            Target::Local(cell) => cell.head().id(),
            Target::Named(named) => Some(named.id.clone()),
        }
    }
}

impl Named {
    fn send<M: Message>(&self, message: M) {
        let Some(shared) = self.node.upgrade() else { return };
        let node = Node { shared };
        if node.is_local(&self.id) {
            return node.send(&self.id, message);
        }
        let peer = self.peer.get_or_init(|| node.peer(&self.id.node()));
        peer.send(&node, self.id.name(), &message);
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let (Some(peer), Some(shared)) = (self.peer.take(), self.node.upgrade()) {
            (Node { shared }).forget_if_unused(&peer);
        }
    }
}

/// Has ports that come in messages be ports of this node's world.
pub(crate) fn enter(node: &Node) {
    CURRENT.with_borrow_mut(|current| *current = Rc::downgrade(&node.shared));
}

impl<M> Clone for Port<M> {
    fn clone(&self) -> Self {
        let target = match &self.target {
            Target::Local(cell) => Target::Local(Rc::clone(cell)),
            Target::Named(named) => Target::Named(Rc::clone(named)),
        };
        Self { target }
    }
}

impl<M: Message> From<&Port<M>> for PortId {
    fn from(port: &Port<M>) -> Self {
        port.id()
    }
}

impl<M: Message> PartialEq for Port<M> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Target::Local(this), Target::Local(other)) => Rc::ptr_eq(this, other),
            (Target::Local(_) | Target::Named(_), _) => self.known_id() == other.known_id(),
        }
    }
}

impl<M: Message> Eq for Port<M> {}

impl<M: Message> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_id() {
            Some(id) => f.debug_tuple("Port").field(&id).finish(),
            None => f.write_str("Port(of a node that is gone)"),
        }
    }
}

impl<M: Message> Serialize for Port<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = self.known_id();
        id.ok_or_else(|| S::Error::custom("the node of this port is gone"))?.serialize(serializer)
    }
}

/// Works on a node's thread, in what it calls.
impl<'de, M: Message> Deserialize<'de> for Port<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = PortId::deserialize(deserializer)?;
        let node = CURRENT.with_borrow(Weak::upgrade).map(|shared| Node { shared });
        let node = node.ok_or_else(|| {
            serde::de::Error::custom(
                "a Port can be read only where its node runs: elsewhere, read a PortId",
            )
        })?;
        Ok(Self::to(&node, &id))
    }
}
