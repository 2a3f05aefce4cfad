//! What a handler has of its surroundings: the port that it runs in, and the node.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::outcome::Outcome;
use super::port::{Head, panic_text};
use super::timer::Timer;
use super::{Node, Shared};
use crate::{List, Message, Monitor, NodeId, Port, PortId, Reason, wire};

/// The port that a handler runs in. An error that the handler returns, or a panic, ends this port and
/// nothing else. What a node can do is here too.
pub struct Context<'a> {
    node: &'a Node,
    place: Place<'a>,
    from: Option<&'a NodeId>,
}

/// Which port it is.
enum Place<'a> {
    Port(&'a Head),
    /// One that may not be there yet, as for the function that `spawn` calls.
    Named(PortId),
}

impl<'a> Context<'a> {
    pub(super) const fn of_port(node: &'a Node, head: &'a Head) -> Self {
        Self { node, place: Place::Port(head), from: None }
    }

    pub(crate) const fn of_name(node: &'a Node, id: PortId, from: Option<&'a NodeId>) -> Self {
        Self { node, place: Place::Named(id), from }
    }

    /// The port that this runs in: `$SELF`.
    pub fn this(&self) -> PortId {
        match &self.place {
            Place::Port(head) => head.id_on(self.node),
            Place::Named(id) => id.clone(),
        }
    }

    /// The node.
    pub const fn node(&self) -> &Node {
        self.node
    }

    /// The node that asked for this call, if one did.
    pub const fn from(&self) -> Option<&NodeId> {
        self.from
    }

    /// Sets what this port does with messages that no tag takes. A port that was spawned comes to be by
    /// this, [`receive_tag`](Self::receive_tag), or [`receive_async`](Self::receive_async).
    ///
    /// # Panics
    /// In a node's own port, as services are.
    pub fn receive<M: Message, O: Outcome>(
        &self,
        handler: impl FnMut(&Context<'_>, M) -> O + 'static,
    ) -> Port<M> {
        self.node.receive(&self.this(), handler).expect("this port is here")
    }

    /// Sets what this port does with messages of that tag.
    ///
    /// # Panics
    /// In a node's own port.
    pub fn receive_tag<T: Message, O: Outcome>(
        &self,
        tag: &str,
        handler: impl FnMut(&Context<'_>, T) -> O + 'static,
    ) {
        self.node.receive_tag(&self.this(), tag, handler).expect("this port is here");
    }

    /// Ends this port when another ends other than normally.
    pub fn link_to(&self, watched: impl Into<PortId>) -> Monitor {
        self.node.link(watched, self.this())
    }

    /// Ends this port.
    pub fn end(&self, reason: Reason) {
        self.node.kill(self.this(), reason);
    }

    /// Keeps something until this port ends: a monitor, a timer, a registration. In a node's own port, as
    /// in a service, until the node does.
    pub fn keep(&self, kept: impl std::any::Any) {
        self.node.keep_in(&self.this(), Box::new(kept));
    }

    /// Runs a task that ends with this port, and whose error ends it: `peval_async`. The task's own end
    /// ends nothing.
    pub fn spawn_task<O: Outcome>(&self, task: impl Future<Output = O> + 'static) {
        self.node.spawn_task_in(&self.this(), task);
    }

    /// A closure that runs in this port's context, whoever calls it: `psub`. When the port has ended it
    /// does nothing.
    pub fn bind<T, O: Outcome>(
        &self,
        mut act: impl FnMut(&Context<'_>, T) -> O + 'static,
    ) -> impl FnMut(T) + 'static {
        let bound = Bound { node: Rc::downgrade(&self.node.shared), port: self.this() };
        move |argument| bound.run(|context| act(context, argument))
    }

    /// Acts in this port's context after a time, if the port is still there.
    pub fn after<O: Outcome>(&self, time: Duration, act: impl FnOnce(&Context<'_>) -> O + 'static) {
        self.timer(time, act).detach();
    }

    /// The same, unless the guard is dropped before.
    pub fn timer<O: Outcome>(
        &self,
        time: Duration,
        act: impl FnOnce(&Context<'_>) -> O + 'static,
    ) -> Timer {
        let port = self.this();
        self.node.timer(time, move |node| node.run_in(&port, act))
    }

    pub(crate) fn call_function(
        &self,
        function: &super::registry::Function,
        args: List,
    ) -> Result<(), Reason> {
        let result = catch_unwind(AssertUnwindSafe(|| function(self, args)));
        result.unwrap_or_else(|panic| Err(Reason::die(panic_text(&*panic))))
    }
}

struct Bound {
    node: Weak<Shared>,
    port: PortId,
}

impl Bound {
    fn run<O: Outcome>(&self, act: impl FnOnce(&Context<'_>) -> O) {
        if let Some(shared) = self.node.upgrade() {
            Node { shared }.run_in(&self.port, act);
        }
    }
}

impl Node {
    /// Acts at once in the context of a port of this node, if it is there: `peval`. Of the node's own
    /// port too, where services run: errors are logged there.
    pub fn run_in<O: Outcome>(&self, port: &PortId, act: impl FnOnce(&Context<'_>) -> O) {
        if !self.is_local(port) {
            return;
        }
        let found = self.local_port(port.name());
        let context = match &found {
            Some(found) => Context::of_port(self, found.head()),
            None if port.is_node() => Context::of_name(self, port.clone(), None),
            None => return,
        };
        let result = catch_unwind(AssertUnwindSafe(|| act(&context).into_result()));
        let reason = match result {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(panic) => Reason::die(panic_text(&*panic)),
        };
        match &found {
            Some(found) => Rc::clone(found).push_kill(reason),
            None => tracing::error!("{port}: {reason}"),
        }
    }
}

impl Deref for Context<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.this()).finish()
    }
}

/// What a message is for a function that was registered with a type of arguments.
pub(crate) fn arguments<T: Message>(args: List) -> Result<T, Reason> {
    wire::from_list(args).map_err(Reason::from)
}
