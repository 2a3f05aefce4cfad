//! Whose turn it is: ports with messages, and calls, in the order in which they became ready.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use reactor::task::Handle;

use super::port::{AnyPort, drop_guarded};
use super::{Call, Node, Shared};

/// What waits for its turn.
pub(crate) enum Ready {
    /// A port with messages.
    Port(Rc<dyn AnyPort>),
    /// A call outside of any port.
    Call(Call),
}

/// The node's queue. Ports hold it, so that a send needs nothing else.
pub(crate) struct RunQueue {
    ready: RefCell<VecDeque<Ready>>,
    /// The loop knows that it is to call.
    is_awake: Cell<bool>,
    /// Messages that no handler has seen yet.
    waiting: Cell<usize>,
    /// Those that have been handled, or dropped with their ports.
    handled: Cell<u64>,
    handle: Handle<()>,
    node: OnceCell<Weak<Shared>>,
}

impl RunQueue {
    pub(super) fn new(handle: Handle<()>) -> Self {
        Self {
            ready: RefCell::default(),
            is_awake: Cell::new(false),
            waiting: Cell::new(0),
            handled: Cell::new(0),
            handle,
            node: OnceCell::new(),
        }
    }

    pub(super) fn set_node(&self, node: &Rc<Shared>) {
        let is_first = self.node.set(Rc::downgrade(node)).is_ok();
        debug_assert!(is_first, "a queue is one node's");
    }

    /// The node, unless it is gone.
    pub(super) fn node(&self) -> Option<Node> {
        self.node.get()?.upgrade().map(|shared| Node { shared })
    }

    pub(crate) const fn handle(&self) -> &Handle<()> {
        &self.handle
    }

    /// How many messages no handler has seen yet.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// How many messages were handled, or dropped with their ports, so far.
    pub(crate) const fn handled(&self) -> u64 {
        self.handled.get()
    }

    #[inline]
    pub(super) fn count_sent(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    pub(super) fn count_handled(&self, count: usize) {
        self.waiting.set(self.waiting.get() - count);
        self.handled.set(self.handled.get() + count as u64);
    }

    #[inline]
    pub(crate) fn push(&self, ready: Ready) {
        self.ready.borrow_mut().push_back(ready);
        self.wake();
    }

    /// Has the node take its turn soon.
    #[inline]
    pub(crate) fn wake(&self) {
        if !self.is_awake.replace(true) {
            self.call_node();
        }
    }

    #[cold]
    fn call_node(&self) {
        let Some(node) = self.node.get().cloned() else { return };
        self.handle.soon(move |(), reactor| {
            if let Some(shared) = node.upgrade() {
                Node { shared }.turn(reactor);
            }
        });
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<Ready> {
        self.ready.borrow_mut().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// The node's turn is over. If something is left, there will be another.
    pub(super) fn sleep(&self) {
        if self.ready.borrow().is_empty() {
            self.is_awake.set(false);
        } else {
            self.call_node();
        }
    }

    /// Drops what waits. Returns whether there was anything.
    pub(super) fn clear(&self) -> bool {
        let ready = std::mem::take(&mut *self.ready.borrow_mut());
        let was_any = !ready.is_empty();
        drop_guarded(ready);
        was_any
    }
}
