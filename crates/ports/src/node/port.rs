//! A port: a mailbox, and the handler that its messages go to.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::context::Context;
use super::monitor::Watchers;
use super::run_queue::{Ready, RunQueue};
use super::{Node, name};
use crate::inbox::Task;
use crate::wire::{self, Frame};
use crate::{List, Message, PortId, Reason};

/// What a port's messages go to.
pub(crate) type Handler<M> = Box<dyn FnMut(&Context<'_>, M) -> Result<(), Reason>>;

/// What messages with a certain tag go to, without it.
pub(crate) type TagHandler = Box<dyn FnMut(&Context<'_>, List) -> Result<(), Reason>>;

/// A port that takes messages of one type.
pub(crate) struct PortCell<M> {
    head: Head,
    queue: RefCell<VecDeque<Item<M>>>,
    /// Not here while it runs.
    handler: RefCell<Option<Handler<M>>>,
}

/// What all ports have, whatever they take.
pub(crate) struct Head {
    pub(super) run_queue: Rc<RunQueue>,
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// It stands in the run queue.
    is_ready: Cell<bool>,
    is_dead: Cell<bool>,
    /// Made when it is first asked for.
    id: OnceCell<PortId>,
    /// Somebody else made the name.
    is_named: Cell<bool>,
    extras: RefCell<Option<Box<Extras>>>,
}

/// What most ports do not have.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) watchers: Watchers,
    tags: BTreeMap<String, Option<TagHandler>>,
    /// What ends with the port: guards, and whatever it was asked to keep.
    kept: Vec<Box<dyn Any>>,
    /// With so much kept, tasks that are over are let go.
    sweep_at: usize,
}

impl Extras {
    /// Keeps something until the port ends.
    pub(super) fn keep(&mut self, kept: Box<dyn Any>) {
        if self.kept.len() >= self.sweep_at.max(16) {
            self.kept.retain(|kept| kept.downcast_ref().is_none_or(|task: &Task| !task.is_over()));
            self.sweep_at = 2 * self.kept.len();
        }
        self.kept.push(kept);
    }
}

/// What lies in a mailbox.
enum Item<M> {
    Message(M),
    Other(Box<Other>),
}

enum Other {
    /// A message that has no type yet: whether a tag takes it is seen when it is its turn.
    Untyped(List),
    Kill(Reason),
}

/// How many messages of one port are handled before others have their turn.
const BATCH: usize = 256;

/// A mailbox with room for more messages than this gives it back when it is empty and few have come of late.
const ROOM_KEPT: usize = 64;

/// One with room for more than this, whenever it is empty.
const ROOM_MAX: usize = 1 << 16;

/// A port, whatever it takes.
pub(crate) trait AnyPort: Any {
    fn head(&self) -> &Head;
    /// Handles some messages; `budget` falls by how many.
    fn run(self: Rc<Self>, node: &Node, budget: &mut usize);
    /// Puts a message into the mailbox that has no type yet.
    fn push_list(self: Rc<Self>, list: List);
    /// Puts a message into the mailbox that came over the wire. An error is one of the bytes.
    fn push_frame(self: Rc<Self>, frame: &Frame<'_>) -> Result<(), wire::DecodeError>;
    /// Ends the port when all that was sent before has been handled.
    fn push_kill(self: Rc<Self>, reason: Reason);
    /// Sets where messages go that no tag takes.
    fn set_default(&self, handler: Handler<List>);
    /// Takes no more messages, and lets go of all that it holds. Returns who watches it.
    fn empty(&self) -> Watchers;
}

impl Head {
    pub(super) fn new(run_queue: &Rc<RunQueue>, slot: u32, generation: u32) -> Self {
        Self {
            run_queue: Rc::clone(run_queue),
            slot,
            generation,
            is_ready: Cell::new(false),
            is_dead: Cell::new(false),
            id: OnceCell::new(),
            is_named: Cell::new(false),
            extras: RefCell::new(None),
        }
    }

    pub(super) fn set_given_name(&self, id: PortId) {
        let is_first = self.id.set(id).is_ok();
        debug_assert!(is_first, "a port is named once");
        self.is_named.set(true);
    }

    /// The name, if somebody else made it.
    pub(super) fn given_name(&self) -> Option<&str> {
        self.id.get().filter(|_| self.is_named.get()).map(PortId::name)
    }

    /// The port's name, made when it is first asked for. `None` if the node is gone.
    pub(crate) fn id(&self) -> Option<PortId> {
        if let Some(id) = self.id.get() {
            return Some(id.clone());
        }
        Some(self.id_on(&self.run_queue.node()?))
    }

    /// The same, for whoever has the node.
    pub(super) fn id_on(&self, node: &Node) -> PortId {
        let make = || {
            let made = name::of_slot(&node.shared.unique, self.slot, self.generation);
            PortId::of(node.id(), &made)
        };
        self.id.get_or_init(make).clone()
    }

    /// Where it lies: its slot and generation, which no other port has had.
    pub(crate) const fn place(&self) -> (u32, u32) {
        (self.slot, self.generation)
    }

    /// Has it take no more messages.
    pub(super) fn set_dead(&self) {
        self.is_dead.set(true);
    }

    pub(super) fn with_extras<T>(&self, act: impl FnOnce(&mut Extras) -> T) -> T {
        act(self.extras.borrow_mut().get_or_insert_default())
    }

    /// Whether it was asked to keep something of that type.
    pub(crate) fn has_kept<T: Any>(&self) -> bool {
        let extras = self.extras.borrow();
        extras.as_ref().is_some_and(|extras| extras.kept.iter().any(|kept| kept.is::<T>()))
    }

    fn has_tags(&self) -> bool {
        self.extras.borrow().as_ref().is_some_and(|extras| !extras.tags.is_empty())
    }

    /// Sets, replaces or, with `None`, removes what a tag's messages go to.
    pub(super) fn set_tag(&self, tag: &str, handler: Option<TagHandler>) {
        let before = match handler {
            Some(handler) => {
                self.with_extras(|extras| extras.tags.insert(tag.to_owned(), Some(handler)))
            }
            None => self.extras.borrow_mut().as_mut().and_then(|extras| extras.tags.remove(tag)),
        };
        // What a handler holds may do anything when it is dropped: nothing may be borrowed then.
        drop(before);
    }

    /// Takes a tag's handler out while it runs.
    fn take_tag(&self, tag: &str) -> Option<TagHandler> {
        self.extras.borrow_mut().as_mut()?.tags.get_mut(tag)?.take()
    }

    /// Puts it back, unless it was replaced or removed.
    fn return_tag(&self, tag: &str, handler: TagHandler) {
        let mut extras = self.extras.borrow_mut();
        let slot = extras.as_mut().and_then(|extras| extras.tags.get_mut(tag));
        match slot {
            Some(slot @ None) => *slot = Some(handler),
            Some(Some(_)) | None => {
                drop(extras);
                drop(handler);
            }
        }
    }
}

impl<M: Message> PortCell<M> {
    pub(super) fn new(head: Head, handler: Handler<M>) -> Self {
        Self { head, queue: RefCell::default(), handler: RefCell::new(Some(handler)) }
    }

    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    /// Puts a message into the mailbox.
    #[inline]
    pub(crate) fn push(self: &Rc<Self>, message: M) {
        self.push_item(Item::Message(message));
    }

    #[inline]
    fn push_item(self: &Rc<Self>, item: Item<M>) {
        let head = &self.head;
        if head.is_dead.get() {
            return;
        }
        self.queue.borrow_mut().push_back(item);
        head.run_queue.count_sent();
        if !head.is_ready.replace(true) {
            head.run_queue.push(Ready::Port(Rc::clone(self) as Rc<dyn AnyPort>));
        }
    }

    /// Sets where messages go that no tag takes.
    pub(super) fn set_handler(&self, handler: Handler<M>) {
        let before = self.handler.borrow_mut().replace(handler);
        drop(before);
    }

    /// Handles messages until the port ends, is empty or has had its share.
    fn run_batch(&self, context: &Context<'_>, handled: &mut usize, share: usize) -> Batch {
        let taken = self.handler.borrow_mut().take();
        let mut handler = taken.expect("a port runs once at a time");
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while *handled < share {
                let Some(item) = self.queue.borrow_mut().pop_front() else {
                    return Batch::Empty;
                };
                *handled += 1;
                let result = match item {
                    Item::Message(message) if self.head.has_tags() => {
                        self.dispatch(context, message, &mut handler)
                    }
                    Item::Message(message) => handler(context, message),
                    Item::Other(other) => match *other {
                        Other::Untyped(list) => self.dispatch_list(context, list, &mut handler),
                        Other::Kill(reason) => return Batch::Over(reason),
                    },
                };
                if let Err(reason) = result {
                    return Batch::Over(reason);
                }
                if let Some(replaced) = self.handler.borrow_mut().take() {
                    handler = replaced;
                }
            }
            Batch::More
        }));
        let mut slot = self.handler.borrow_mut();
        let spare = if slot.is_none() { slot.replace(handler) } else { Some(handler) };
        drop(slot);
        drop_guarded(spare);
        outcome.unwrap_or_else(|panic| Batch::Over(Reason::die(panic_text(&*panic))))
    }

    /// Gives a message to the handler of its tag, if there is one.
    fn dispatch(
        &self,
        context: &Context<'_>,
        message: M,
        default: &mut Handler<M>,
    ) -> Result<(), Reason> {
        let found = wire::with_tag(&message, |tag| {
            let tag = tag?;
            self.head.take_tag(tag).map(|handler| (tag.to_owned(), handler))
        });
        match found {
            Some((tag, handler)) => self.call_tag(context, &tag, handler, wire::to_list(&message)?),
            None => default(context, message),
        }
    }

    /// The same for one that has no type yet.
    fn dispatch_list(
        &self,
        context: &Context<'_>,
        list: List,
        default: &mut Handler<M>,
    ) -> Result<(), Reason> {
        let tag = wire::tag(&list);
        if let Some(tag) = &tag
            && let Some(handler) = self.head.take_tag(tag)
        {
            return self.call_tag(context, tag, handler, list);
        }
        match wire::from_list(list) {
            Ok(message) => default(context, message),
            Err(error) => {
                Err(Reason::unhandled_message(format!("{}: {error}", unhandled(tag.as_deref()))))
            }
        }
    }

    fn call_tag(
        &self,
        context: &Context<'_>,
        tag: &str,
        mut handler: TagHandler,
        mut list: List,
    ) -> Result<(), Reason> {
        list.remove(0);
        let result = handler(context, list);
        self.head.return_tag(tag, handler);
        result
    }
}

/// How a batch ended.
enum Batch {
    Empty,
    More,
    Over(Reason),
}

impl<M: Message> AnyPort for PortCell<M> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn run(self: Rc<Self>, node: &Node, budget: &mut usize) {
        if self.head.is_dead.get() {
            return;
        }
        let mut handled = 0;
        let context = Context::of_port(node, &self.head);
        let outcome = self.run_batch(&context, &mut handled, BATCH.min(*budget));
        *budget = budget.saturating_sub(handled);
        self.head.run_queue.count_handled(handled);
        match outcome {
            Batch::Empty => {
                self.head.is_ready.set(false);
                let mut queue = self.queue.borrow_mut();
                let room = queue.capacity();
                if room > ROOM_KEPT && (handled < room / 8 || room > ROOM_MAX) {
                    *queue = VecDeque::new();
                }
            }
            Batch::More => {
                let run_queue = Rc::clone(&self.head.run_queue);
                run_queue.push(Ready::Port(self));
            }
            Batch::Over(reason) => node.end_port(&*self, &reason),
        }
    }

    fn push_list(self: Rc<Self>, list: List) {
        self.push_item(Item::Other(Box::new(Other::Untyped(list))));
    }

    fn push_frame(self: Rc<Self>, frame: &Frame<'_>) -> Result<(), wire::DecodeError> {
        match frame.message() {
            Ok(message) => self.push(message),
            Err(error) if error.is_malformed() => return Err(error),
            Err(_) => self.push_list(frame.list()?),
        }
        Ok(())
    }

    fn push_kill(self: Rc<Self>, reason: Reason) {
        self.push_item(Item::Other(Box::new(Other::Kill(reason))));
    }

    fn set_default(&self, mut handler: Handler<List>) {
        self.set_handler(Box::new(move |context, message| {
            handler(context, wire::to_list(&message)?)
        }));
    }

    fn empty(&self) -> Watchers {
        self.head.is_dead.set(true);
        let queue = std::mem::take(&mut *self.queue.borrow_mut());
        self.head.run_queue.count_handled(queue.len());
        let handler = self.handler.borrow_mut().take();
        let Extras { watchers, tags, kept, sweep_at: _ } =
            self.head.extras.borrow_mut().take().map(|extras| *extras).unwrap_or_default();
        drop_guarded((queue, handler));
        drop_guarded((tags, kept));
        watchers
    }
}

impl Node {
    /// Ends a port of this node at once.
    pub(super) fn end_port(&self, port: &dyn AnyPort, reason: &Reason) {
        let head = port.head();
        if head.is_dead.get() {
            return;
        }
        let removed = self.shared.ports.borrow_mut().remove(head);
        let watchers = port.empty();
        drop(removed);
        if watchers.is_empty() {
            self.tell_unmonitored(head, reason);
        }
        watchers.fire(self, head, reason);
    }
}

/// Drops what a program gave us, when nothing is borrowed: it may send, or panic.
pub(crate) fn drop_guarded<T>(dropped: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(dropped))) {
        tracing::error!("what a port held panicked when it was dropped: {}", panic_text(&*panic));
    }
}

/// What a port says that takes no such message.
pub(super) fn unhandled(tag: Option<&str>) -> String {
    let shown = |c: char| if matches!(c, ' '..='~') { c } else { '.' };
    let tag: String = tag.unwrap_or_default().chars().take(30).map(shown).collect();
    format!("no callback found for message '{tag}'")
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .map(|text| text.trim_end_matches('\n').to_owned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reactor::Reactor;

    use super::*;

    #[test]
    fn tasks_that_are_over_are_not_kept() {
        let mut reactor = Reactor::new().expect("a loop");
        let node = Node::alone(&mut reactor);
        let ports = [node.bare_port(), node.id().port()];
        for _ in 0..1000 {
            for port in &ports {
                node.spawn_task_in(port, async {});
            }
            reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
        }
        let port = node.local_port(ports[0].name()).expect("it is here");
        assert!(port.head().with_extras(|extras| extras.kept.len()) < 50);
        assert!(node.shared.own.borrow().kept.len() < 50);
    }
}
