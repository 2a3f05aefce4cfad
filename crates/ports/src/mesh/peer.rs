//! Another node, as this one sees it: what waits to go there, and who wants to know of its ports.
//!
//! This is where the delivery guarantee lies. All messages to a node's ports go through one buffer and
//! one connection, in order. When the connection is lost, or cannot be had, the buffer is dropped and all
//! monitors fire in one step, before anything else is taken: so there are no holes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Instant;

use reactor::bytes::Bytes;
use reactor::{Reactor, Token};

use super::connection::trace;
use super::dial::Attempt;
use crate::node::monitor::{Action, Watchers};
use crate::node::port::drop_guarded;
use crate::wire::{self, EncodeError, Frame, Framing};
use crate::{List, Message, Node, NodeId, Reason};

/// Another node.
pub(crate) struct Peer {
    id: NodeId,
    state: RefCell<State>,
    /// Whole frames: of the connection's framing if there is one, else CBOR.
    out: RefCell<Vec<u8>>,
    framing: Cell<Framing>,
    /// What the connection has of it that is not with the kernel, when we last looked.
    unsent: Cell<usize>,
    /// It stands among those whose buffer goes out at the end of the turn.
    is_dirty: Cell<bool>,
    /// More was sent than may wait: nothing is taken until the monitors have fired.
    is_overflown: Cell<bool>,
    monitors: RefCell<BTreeMap<String, Watchers>>,
    /// Who waits until little waits to go there.
    drained: RefCell<Vec<OnDrained>>,
}

type OnDrained = Box<dyn FnOnce(&Node)>;

/// Whether there is a connection.
pub(super) enum State {
    Idle,
    Connecting(Attempt),
    Up(Rc<Link>),
}

/// A connection with another node that both have agreed to.
pub(crate) struct Link {
    pub(crate) token: Token,
    pub(crate) peer: Weak<Peer>,
    pub(crate) since: Instant,
    pub(crate) sent: Cell<Counts>,
    pub(crate) received: Cell<Counts>,
    /// The other has proved nothing but that it has a certificate: it may call no functions.
    pub(crate) is_untrusted: bool,
    /// How many monitors its node has on our ports.
    pub(crate) monitors: Cell<usize>,
    /// Their numbers, by the port's slot and generation: to take one back is quick, however many there are.
    pub(crate) watched: RefCell<BTreeMap<(u32, u32), Vec<u64>>>,
}

impl Link {
    /// Its node has a monitor more on a port.
    pub(crate) fn add_monitor(&self, port: (u32, u32), number: u64) {
        self.watched.borrow_mut().entry(port).or_default().push(number);
        self.monitors.set(self.monitors.get() + 1);
    }

    /// Its node takes the last monitor on a port back: the number of that.
    pub(crate) fn take_monitor(&self, port: (u32, u32)) -> Option<u64> {
        let mut watched = self.watched.borrow_mut();
        let numbers = watched.get_mut(&port)?;
        let number = numbers.pop()?;
        if numbers.is_empty() {
            watched.remove(&port);
        }
        self.monitors.set(self.monitors.get() - 1);
        Some(number)
    }

    /// A port has ended.
    pub(crate) fn forget_port(&self, port: (u32, u32)) {
        let numbers = self.watched.borrow_mut().remove(&port).unwrap_or_default();
        self.monitors.set(self.monitors.get() - numbers.len());
    }
}

/// What went over a connection in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// With fewer bytes than this waiting for a node, whoever waited for that goes on.
pub(super) const DRAINED_BYTES: usize = 1 << 20;

impl Peer {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            state: RefCell::new(State::Idle),
            out: RefCell::default(),
            framing: Cell::new(Framing::Cbor),
            unsent: Cell::new(0),
            is_dirty: Cell::new(false),
            is_overflown: Cell::new(false),
            monitors: RefCell::default(),
            drained: RefCell::default(),
        }
    }

    pub(crate) const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The connection, if there is one.
    pub(crate) fn link(&self) -> Option<Rc<Link>> {
        if let State::Up(link) = &*self.state.borrow() { Some(Rc::clone(link)) } else { None }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.state.borrow(), State::Idle)
    }

    pub(super) fn set_state(&self, state: State) {
        let before = self.state.replace(state);
        drop(before);
    }

    /// Looks at the attempt to connect, if there is one.
    pub(super) fn with_attempt<T>(&self, act: impl FnOnce(&mut Attempt) -> T) -> Option<T> {
        if let State::Connecting(attempt) = &mut *self.state.borrow_mut() {
            Some(act(attempt))
        } else {
            None
        }
    }

    /// Whether nobody would miss it.
    pub(super) fn is_unused(self: &Rc<Self>) -> bool {
        self.is_idle()
            && Rc::strong_count(self) <= 1
            && self.monitors.borrow().is_empty()
            && self.out.borrow().is_empty()
            && self.drained.borrow().is_empty()
    }

    /// How many bytes wait to go there.
    pub(crate) fn waiting(&self, node: &Node) -> usize {
        // What was given to the connection may have gone out since, without a word.
        self.unsent.set(self.link().map_or(0, |link| node.reactor().queued(link.token)));
        self.waiting_at_most()
    }

    /// The same, but of what the connection had when we last looked.
    fn waiting_at_most(&self) -> usize {
        self.unsent.get() + self.out.borrow().len()
    }

    /// Puts a message to a port of that node behind all before it.
    ///
    /// # Panics
    /// If it cannot be put into bytes.
    pub(crate) fn send<M: Message>(self: &Rc<Self>, node: &Node, name: &str, message: &M) {
        if let Err(error) = self.try_send(node, name, message) {
            panic!("a message to {}#{name} cannot be sent: {error}", self.id);
        }
    }

    /// The same for what holds values that came from elsewhere: they may be longer as we write them.
    pub(crate) fn try_send<M: Message>(
        self: &Rc<Self>,
        node: &Node,
        name: &str,
        message: &M,
    ) -> Result<(), EncodeError> {
        if self.is_overflown.get() {
            return Ok(());
        }
        let mut taken = TakenOut::new(&self.out);
        let before = taken.whole_len;
        let result = wire::encode(self.framing.get(), name, message, &mut taken.bytes);
        if result.is_ok() {
            taken.whole_len = taken.bytes.len();
        }
        if node.shared.mesh.limits.has_trace
            && let Ok(frame) = Frame::open(self.framing.get(), &taken.bytes[before..])
        {
            trace("SND", &self.id, "<-", &frame);
        }
        drop(taken);
        result?;
        if let State::Up(link) = &*self.state.borrow() {
            let counts = link.sent.get();
            link.sent.set(Counts { messages: counts.messages + 1, ..counts });
        }
        self.note(node);
        let max = node.shared.mesh.limits.unsent_bytes.get();
        if self.waiting_at_most() > max && self.waiting(node) > max {
            self.overflow(node);
        } else if self.is_idle() {
            node.connect_to(self);
        }
        Ok(())
    }

    fn note(self: &Rc<Self>, node: &Node) {
        if !self.is_dirty.replace(true) {
            node.shared.mesh.dirty.borrow_mut().push(Rc::clone(self));
            node.shared.run_queue.wake();
        }
    }

    /// Gives up a node that is not connected with, if more than this waits for it.
    pub(crate) fn bound_unconnected(self: &Rc<Self>, node: &Node, max: usize) {
        if self.link().is_none() && self.out.borrow().len() > max {
            self.overflow(node);
        }
    }

    #[cold]
    fn overflow(self: &Rc<Self>, node: &Node) {
        self.is_overflown.set(true);
        let peer = Rc::clone(self);
        node.with_reactor(move |node, reactor| {
            if peer.is_overflown.get() {
                peer.lose(node, reactor, "too much waits to be sent");
            }
        });
    }

    /// A message of the node protocol. What cannot be sent costs the connection: else the other node would
    /// lack it and never know.
    pub(crate) fn send_node_message(self: &Rc<Self>, node: &Node, tag: &str, args: List) {
        let mut list = Vec::with_capacity(args.len() + 1);
        list.push(tag.into());
        list.extend(args);
        if let Err(error) = self.try_send(node, "", &list) {
            tracing::error!("{}: {tag} cannot be sent: {error}", self.id);
            self.overflow(node);
        }
    }

    /// Whether that is the connection, and no former one.
    pub(crate) fn has_link(&self, link: &Rc<Link>) -> bool {
        self.link().is_some_and(|current| Rc::ptr_eq(&current, link))
    }

    /// Tells that a port of ours has ended.
    pub(crate) fn send_death(self: &Rc<Self>, node: &Node, name: &str, reason: &Reason) {
        self.send_with_reason(node, "kil0", name, reason);
    }

    /// Sends what ends with a reason. That may come from anywhere, so that it does not have to fit; but the
    /// end itself has to be told.
    pub(crate) fn send_with_reason(
        self: &Rc<Self>,
        node: &Node,
        tag: &str,
        name: &str,
        reason: &Reason,
    ) {
        let list = |reason: &Reason| {
            let mut list: List = vec![tag.into(), name.into()];
            list.extend_from_slice(reason.values());
            list
        };
        if let Err(error) = self.try_send(node, "", &list(reason)) {
            self.send(node, "", &list(&Reason::new("too_long", error.to_string())));
        }
    }

    /// Gives what waits to the connection.
    pub(super) fn flush(&self, node: &Node, reactor: &mut Reactor<()>) {
        self.is_dirty.set(false);
        let Some(link) = self.link() else { return };
        let mut out = self.out.borrow_mut();
        if !out.is_empty() {
            let counts = link.sent.get();
            let bytes = counts.bytes + out.len() as u64;
            link.sent.set(Counts { bytes, ..counts });
            // The next turn is likely to send as much.
            let next = Vec::with_capacity(out.len().min(ROOM_KEPT));
            let bytes = Bytes::from(std::mem::replace(&mut *out, next));
            // One that is over is about to be told so.
            if let Err(over) = reactor.write(link.token, bytes) {
                tracing::debug!("{}: {over}", self.id);
            }
        }
        drop(out);
        self.look_at_queue(node, reactor, &link);
    }

    /// Looks how much the connection still has.
    pub(super) fn look_at_queue(&self, node: &Node, reactor: &Reactor<()>, link: &Link) {
        self.unsent.set(reactor.queued(link.token));
        if self.unsent.get() < DRAINED_BYTES {
            self.tell_drained(node);
        }
    }

    fn tell_drained(&self, node: &Node) {
        let drained = self.drained.take();
        for call in drained {
            node.soon(call);
        }
    }

    pub(crate) fn when_drained(&self, node: &Node, call: OnDrained) {
        if self.waiting(node) < DRAINED_BYTES {
            node.soon(call);
        } else {
            self.drained.borrow_mut().push(call);
        }
    }

    /// The connection stands. What was queued goes first.
    /// If it cannot be written as the other wants it, as bytes that are too long in JSON, all of it is lost.
    pub(super) fn come_up(
        self: &Rc<Self>,
        node: &Node,
        link: Rc<Link>,
        framing: Framing,
    ) -> Result<(), EncodeError> {
        if framing == Framing::Json {
            let queued = self.out.take();
            let mut out = Vec::with_capacity(queued.len());
            if let Err(error) = wire::transcode(&queued, &mut out) {
                self.fail(node, &error.to_string());
                return Err(error);
            }
            self.out.replace(out);
        }
        self.framing.set(framing);
        self.set_state(State::Up(link));
        if !self.out.borrow().is_empty() {
            self.note(node);
        }
        Ok(())
    }

    /// The connection is lost, or there was none to be had: the queue is dropped, and all monitors fire.
    pub(super) fn fail(self: &Rc<Self>, node: &Node, text: &str) {
        let before = self.state.replace(State::Idle);
        let was_up = matches!(before, State::Up(_));
        drop(before);
        self.out.take();
        self.unsent.set(0);
        self.framing.set(Framing::Cbor);
        self.is_overflown.set(false);
        let reason = Reason::transport_error(&self.id, text);
        let monitors = self.monitors.take();
        node.while_firing(|| {
            for watchers in monitors.into_values() {
                watchers.fire_remote(node, &reason);
            }
        });
        self.tell_drained(node);
        if was_up {
            node.node_is_down(&self.id, &reason);
        } else {
            node.retry_keepalive(&self.id);
        }
        node.forget_if_unused(self);
    }

    /// Ends the connection, and all that depends on it.
    pub(super) fn lose(
        self: &Rc<Self>,
        node: &Node,
        reactor: &mut Reactor<()>,
        text: &'static str,
    ) {
        if let Some(link) = self.link() {
            reactor.close(link.token, text);
        }
        self.fail(node, text);
    }

    /// How many monitors of ours there are on its ports.
    pub(crate) fn monitors_count(&self) -> usize {
        self.monitors.borrow().values().map(Watchers::len).sum()
    }

    pub(crate) fn add_monitor(
        self: &Rc<Self>,
        node: &Node,
        name: &str,
        number: u64,
        action: Action,
    ) {
        let is_first = {
            let mut monitors = self.monitors.borrow_mut();
            let watchers = monitors.entry(name.to_owned()).or_default();
            let is_first = watchers.is_empty();
            watchers.add(number, action);
            is_first
        };
        if name.is_empty() {
            // To watch a node is to want a connection with it.
            if self.is_idle() {
                node.connect_to(self);
            }
        } else if is_first {
            self.send_node_message(node, "mon1", vec![name.into()]);
        }
    }

    /// Takes a monitor back; the action is to be dropped when nothing is borrowed.
    pub(crate) fn remove_monitor(
        self: &Rc<Self>,
        node: &Node,
        name: &str,
        number: u64,
    ) -> Option<Action> {
        let (action, was_last) = {
            let mut monitors = self.monitors.borrow_mut();
            let watchers = monitors.get_mut(name)?;
            let action = watchers.remove(number)?;
            let was_last = watchers.is_empty();
            if was_last {
                monitors.remove(name);
            }
            (action, was_last)
        };
        if was_last && !name.is_empty() {
            self.send_node_message(node, "mon0", vec![name.into()]);
        }
        Some(action)
    }

    /// Lets go of all calls that wait for something.
    pub(super) fn let_go(&self) {
        drop_guarded((self.monitors.take(), self.drained.take()));
    }

    /// A port of that node has ended.
    pub(crate) fn handle_death(&self, node: &Node, name: &str, reason: &Reason) {
        let watchers = self.monitors.borrow_mut().remove(name);
        if let Some(watchers) = watchers {
            watchers.fire_remote(node, reason);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.id).finish()
    }
}

/// A peer's buffer while a message is written to it. It is not borrowed then, since the message is asked for
/// what it holds, and may do anything; and when that panics, all messages before it are still there.
struct TakenOut<'a> {
    place: &'a RefCell<Vec<u8>>,
    bytes: Vec<u8>,
    whole_len: usize,
}

impl<'a> TakenOut<'a> {
    fn new(place: &'a RefCell<Vec<u8>>) -> Self {
        let bytes = place.take();
        Self { place, whole_len: bytes.len(), bytes }
    }
}

impl Drop for TakenOut<'_> {
    fn drop(&mut self) {
        self.bytes.truncate(self.whole_len);
        let nested = self.place.replace(std::mem::take(&mut self.bytes));
        if !nested.is_empty() {
            self.place.borrow_mut().extend_from_slice(&nested);
        }
    }
}

/// A buffer for a turn's messages begins with no more room than this.
const ROOM_KEPT: usize = 256 << 10;
