//! Supervisors: ports that start other ports, and start them again when they fail.
//!
//! A supervisor is a port, so that it may be the child of another: a tree. What it does is what OTP's does.
//! [`ChildSpec`] is one child, [`SupervisorSpec`] the supervisor, and `body` what it does with both.

mod body;
mod spec;

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};

use serde::{Deserialize, Serialize};

use self::body::{Body, Child};
pub use self::spec::{ChildSpec, SupervisorSpec};
use crate::node::Shared;
use crate::node::context::Context;
use crate::{Node, Port, PortId, Reason};

/// A supervisor on this node. A clone is the same one; dropped, it goes on.
///
/// Other nodes talk to its [port](Self::port): `["stop"]` is [`stop`](Self::stop), and
/// `["children", PORT]` is answered with a list of `[NAME, PORT or null]`.
#[derive(Clone)]
pub struct Supervisor {
    port: Port<Event>,
    id: PortId,
    children: Rc<RefCell<Vec<Child>>>,
}

/// A child, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its name.
    pub name: String,
    /// Its port; `None` if it is not there, for now or for ever.
    pub port: Option<PortId>,
    /// How often it was started again.
    pub restarts_count: u64,
}

/// Why a supervisor or a child of it did not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SupervisorError {
    /// A child could not be started.
    #[error("child {name}: {reason}")]
    Child {
        /// Which.
        name: String,
        /// Why not.
        reason: Reason,
    },
    /// Two children would have the same name.
    #[error("child {0}: there is one of that name already")]
    NameTaken(String),
    /// The port that should become a supervisor is one already, or takes other messages.
    #[error("{0}: only a port without handlers becomes a supervisor")]
    PortTaken(PortId),
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
}

/// What is called with what came of a new child.
type Done = Box<dyn FnOnce(&Node, Result<PortId, SupervisorError>)>;

/// What a supervisor is told. Only the first two can come from elsewhere.
#[derive(Serialize, Deserialize)]
enum Event {
    Stop,
    Children(PortId),
    /// A child's port is gone.
    #[serde(skip)]
    Ended {
        child: u64,
        incarnation: u64,
        reason: Reason,
    },
    /// It is time to start a child again.
    #[serde(skip)]
    Due {
        child: u64,
        incarnation: u64,
    },
    #[serde(skip)]
    Add(ChildSpec, Answer),
    #[serde(skip)]
    Remove(String),
}

/// Tells what came of a new child, whatever becomes of the supervisor.
struct Answer {
    /// It may lie in a mailbox of the node.
    node: Weak<Shared>,
    done: Option<Done>,
}

impl Answer {
    fn give(mut self, result: Result<PortId, SupervisorError>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<PortId, SupervisorError>) {
        if let (Some(done), Some(shared)) = (self.done.take(), self.node.upgrade()) {
            Node { shared }.soon(move |node| done(node, result));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.tell(Err(SupervisorError::Ended));
    }
}

impl Node {
    /// Starts a supervisor and its children, in order, before this returns.
    ///
    /// # Errors
    /// If a child cannot be started: those before it are ended.
    pub fn supervise(&self, spec: SupervisorSpec) -> Result<Supervisor, SupervisorError> {
        let port = self.port(|_: &Context<'_>, _: Event| {}).id();
        let result = self.supervise_in(&port, spec);
        if result.is_err() {
            self.kill(&port, Reason::NORMAL);
        }
        result
    }

    fn supervise_in(
        &self,
        port: &PortId,
        spec: SupervisorSpec,
    ) -> Result<Supervisor, SupervisorError> {
        let body = Body::start(self, port, spec)?;
        let children = body.children();
        let receiver = self.receive_async(port, |inbox| body.run(inbox));
        let Ok(receiver) = receiver else { return Err(SupervisorError::PortTaken(port.clone())) };
        Ok(Supervisor { port: receiver, id: port.clone(), children })
    }
}

impl Context<'_> {
    /// Makes this port, which was just spawned, a supervisor. See [`Node::supervise`].
    ///
    /// # Errors
    /// As there, and if this port is there already.
    pub fn supervise(&self, spec: SupervisorSpec) -> Result<Supervisor, SupervisorError> {
        let port = self.this();
        if self.has_port(&port) {
            return Err(SupervisorError::PortTaken(port));
        }
        self.node().supervise_in(&port, spec)
    }
}

impl Supervisor {
    /// The supervisor's own port. Killed, its children are killed too, in reverse order.
    pub const fn port(&self) -> &PortId {
        &self.id
    }

    /// Its children, in the order in which they are started.
    pub fn children(&self) -> Vec<ChildStatus> {
        self.children.borrow().iter().map(Child::status).collect()
    }

    /// The port of a child, if it is there.
    pub fn child(&self, name: &str) -> Option<PortId> {
        self.children().into_iter().find(|child| child.name == name)?.port
    }

    /// Starts another child, behind the others, as soon as the supervisor has nothing else to do, and
    /// calls with its port or with why there is none.
    pub fn add(
        &self,
        node: &Node,
        child: ChildSpec,
        done: impl FnOnce(&Node, Result<PortId, SupervisorError>) + 'static,
    ) {
        let answer = Answer { node: Rc::downgrade(&node.shared), done: Some(Box::new(done)) };
        self.port.send(Event::Add(child, answer));
    }

    /// Ends a child and forgets it, as soon as the supervisor has nothing else to do.
    pub fn remove(&self, name: &str) {
        self.port.send(Event::Remove(name.to_owned()));
    }

    /// Ends the children, in reverse order, each when the one before it is gone, then the supervisor,
    /// normally.
    pub fn stop(&self) {
        self.port.send(Event::Stop);
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Supervisor").field(&self.id).finish()
    }
}
