//! Who is told when a port ends.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use super::port::{AnyPort, Head, drop_guarded};
use super::{Node, Shared};
use crate::mesh::{Link, Peer};
use crate::{PortId, Reason};

type OnEnd = Box<dyn FnOnce(&Node, Reason)>;

/// What is done when a port ends.
pub(crate) enum Action {
    Call(OnEnd),
    /// Ends that port too, unless the end was a normal one.
    Link(PortId),
    /// Tells a node that asked, as long as that connection stands.
    Tell(Weak<Link>),
    /// Drops what was kept.
    Keep(Box<dyn Any>),
}

/// Those who watch one port, in the order in which they began.
#[derive(Default)]
pub(crate) struct Watchers {
    /// By number, with gaps where some were taken out.
    all: Vec<(u64, Option<Action>)>,
    gaps: usize,
    /// With so many, those of connections that are gone go.
    sweep_at: usize,
}

impl Watchers {
    pub(crate) fn add(&mut self, number: u64, action: Action) {
        if self.all.len() >= self.sweep_at.max(16) {
            self.all.retain(|(_, action)| action.as_ref().is_some_and(|action| !action.is_void()));
            self.gaps = 0;
            self.sweep_at = 2 * self.all.len();
        }
        // Nearly always behind all others.
        let index = self.all.partition_point(|(other, _)| *other < number);
        self.all.insert(index, (number, Some(action)));
    }

    /// Takes one out: to be dropped when nothing is borrowed.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Action> {
        let index = self.all.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let action = self.all[index].1.take()?;
        self.gaps += 1;
        // When half are gaps they are closed, so that taking out is cheap however many there are.
        if self.gaps * 2 > self.all.len() {
            self.all.retain(|(_, action)| action.is_some());
            self.gaps = 0;
        }
        Some(action)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.all.len() == self.gaps
    }

    fn into_actions(self, node: &Node) -> impl Iterator<Item = Action> {
        let cancelled = |number| {
            let mut cancelled = node.shared.cancelled.borrow_mut();
            cancelled.as_mut().is_some_and(|cancelled| cancelled.remove(&number))
        };
        self.all.into_iter().filter_map(move |(number, action)| {
            if cancelled(number) {
                drop_guarded(action);
                return None;
            }
            action
        })
    }

    pub(crate) const fn len(&self) -> usize {
        self.all.len() - self.gaps
    }

    /// Does what each wants done: here for a port of this node.
    pub(super) fn fire(self, node: &Node, head: &Head, reason: &Reason) {
        if self.is_empty() {
            return;
        }
        node.while_firing(|| {
            for action in self.into_actions(node) {
                let Action::Tell(link) = action else {
                    action.act(node, reason);
                    continue;
                };
                let Some(link) = link.upgrade() else { continue };
                link.forget_port(head.place());
                // If it is a former connection, its end has told them.
                let peer = link.peer.upgrade().filter(|peer| peer.has_link(&link));
                if let (Some(peer), Some(id)) = (peer, head.id()) {
                    peer.send_death(node, id.name(), reason);
                }
            }
        });
    }

    /// The same for a port of another node.
    pub(crate) fn fire_remote(self, node: &Node, reason: &Reason) {
        node.while_firing(|| self.into_actions(node).for_each(|action| action.act(node, reason)));
    }
}

impl Action {
    /// Whether nobody is left to be told.
    fn is_void(&self) -> bool {
        matches!(self, Self::Tell(link) if link.strong_count() == 0)
    }

    /// Does what is wanted. A panic ends this, and nothing else.
    pub(super) fn act(self, node: &Node, reason: &Reason) {
        let result = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Call(call) => call(node, reason.clone()),
            Self::Link(linked) if reason.is_normal() => drop(linked),
            Self::Link(linked) => node.kill(&linked, reason.clone()),
            Self::Keep(kept) => drop(kept),
            Self::Tell(_) => {}
        }));
        if let Err(panic) = result {
            tracing::error!("a monitor panicked: {}", super::port::panic_text(&*panic));
        }
    }
}

/// A monitor that stands. Dropped, it watches no more; [`detach`](Self::detach) lets it stand.
#[must_use = "dropped, it watches no more"]
pub struct Monitor {
    node: Weak<Shared>,
    watched: Option<Watched>,
    number: u64,
}

/// Where a monitor stands.
pub(crate) enum Watched {
    Local(Weak<dyn AnyPort>),
    Remote(Rc<Peer>, String),
    /// There was no such port, or not yet: the action is on its way, unless this is set.
    Nobody(Rc<Cell<bool>>, PortId),
    /// The node's own port, which never ends.
    Own,
}

impl Monitor {
    pub(super) fn new(node: &Node, watched: Watched, number: u64) -> Self {
        Self { node: Rc::downgrade(&node.shared), watched: Some(watched), number }
    }

    /// Watches until the port ends.
    pub fn detach(mut self) {
        self.watched = None;
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let (Some(watched), Some(shared)) = (self.watched.take(), self.node.upgrade()) else {
            return;
        };
        let node = Node { shared };
        let action = match watched {
            Watched::Local(port) => port.upgrade().and_then(|port| {
                port.head().with_extras(|extras| extras.watchers.remove(self.number))
            }),
            Watched::Remote(peer, name) => peer.remove_monitor(&node, &name, self.number),
            Watched::Nobody(is_cancelled, port) => {
                is_cancelled.set(true);
                node.local_port(port.name()).and_then(|port| {
                    port.head().with_extras(|extras| extras.watchers.remove(self.number))
                })
            }
            Watched::Own => node.shared.own.borrow_mut().watchers.remove(self.number),
        };
        if action.is_none()
            && let Some(cancelled) = &mut *node.shared.cancelled.borrow_mut()
        {
            cancelled.insert(self.number);
        }
        drop(action);
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The end of a port, for a future.
#[derive(Default)]
struct End {
    reason: Cell<Option<Reason>>,
    waker: Cell<Option<Waker>>,
}

impl Node {
    /// Calls when a port ends, normally or not, with the reason: once, outside of any port. A port that is
    /// not there has ended with `no_such_port`; one that cannot be reached any more, with
    /// `transport_error`. A node is watched by its own port.
    ///
    /// From now on all messages to that port arrive in order, or from the first lost one on none does
    /// until this has been called.
    pub fn monitor(
        &self,
        port: impl Into<PortId>,
        call: impl FnOnce(&Self, Reason) + 'static,
    ) -> Monitor {
        self.watch(&port.into(), Action::Call(Box::new(call)))
    }

    /// Why a port ends, as soon as it does: a [monitor](Self::monitor) as a future.
    pub fn ended(&self, port: impl Into<PortId>) -> impl Future<Output = Reason> + 'static {
        let end: Rc<End> = Rc::default();
        let teller = Rc::clone(&end);
        let monitor = self.monitor(port, move |_, reason| {
            teller.reason.set(Some(reason));
            if let Some(waker) = teller.waker.take() {
                waker.wake();
            }
        });
        poll_fn(move |context| {
            let _watching = &monitor;
            drop(end.waker.replace(Some(context.waker().clone())));
            end.reason.take().map_or(Poll::Pending, Poll::Ready)
        })
    }

    /// Ends one port when another ends other than normally, for the same reason.
    pub fn link(&self, watched: impl Into<PortId>, linked: impl Into<PortId>) -> Monitor {
        self.watch(&watched.into(), Action::Link(linked.into()))
    }

    /// Sends a message when a port ends, normally or not.
    pub fn monitor_message<M: crate::Message>(
        &self,
        watched: impl Into<PortId>,
        to: impl Into<PortId>,
        message: impl FnOnce(Reason) -> M + 'static,
    ) -> Monitor {
        let to = to.into();
        self.monitor(watched, move |node, reason| node.send(&to, message(reason)))
    }

    /// Keeps something until a port ends, then drops it.
    pub fn keep_until(&self, port: impl Into<PortId>, kept: impl Any) -> Monitor {
        self.watch(&port.into(), Action::Keep(Box::new(kept)))
    }

    /// Fires monitors: each that is dropped meanwhile does not fire, even if it was about to.
    pub(crate) fn while_firing(&self, fire: impl FnOnce()) {
        let is_outermost = self.shared.cancelled.borrow().is_none();
        if is_outermost {
            self.shared.cancelled.replace(Some(BTreeSet::new()));
        }
        fire();
        if is_outermost {
            self.shared.cancelled.replace(None);
        }
    }

    pub(crate) fn watch(&self, port: &PortId, action: Action) -> Monitor {
        let number = self.next_number();
        if port.node_str() != self.id().as_str() {
            let peer = self.peer(&port.node());
            peer.add_monitor(self, port.name(), number, action);
            return Monitor::new(self, Watched::Remote(peer, port.name().to_owned()), number);
        }
        if port.is_node() {
            // We never hear of our own end.
            self.shared.own.borrow_mut().watchers.add(number, action);
            return Monitor::new(self, Watched::Own, number);
        }
        if let Some(found) = self.local_port(port.name()) {
            found.head().with_extras(|extras| extras.watchers.add(number, action));
            return Monitor::new(self, Watched::Local(Rc::downgrade(&found)), number);
        }
        let is_cancelled = Rc::new(Cell::new(false));
        let (shared, id) = (Rc::clone(&is_cancelled), port.clone());
        let look = move |node: &Self| {
            if shared.get() {
                return;
            }
            match node.local_port(id.name()) {
                Some(found) => {
                    found.head().with_extras(|extras| extras.watchers.add(number, action));
                }
                None => action.act(node, &Reason::no_such_port(&id)),
            }
        };
        if self.is_spawning(port) {
            self.when_spawned(port, look);
        } else {
            self.soon(look);
        }
        Monitor::new(self, Watched::Nobody(is_cancelled, port.clone()), number)
    }
}
