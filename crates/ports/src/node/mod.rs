//! A node: its ports, and whose turn it is.
//!
//! Everything lies on the thread of one reactor. A send puts a message into a mailbox and its port into
//! the [run queue](run_queue); the loop calls [`Node::turn`], which takes a bounded number of messages
//! to their handlers. Nothing is ever called from within a send, so nothing is borrowed when a handler
//! runs, and a handler may do what it likes.

mod call;
mod command;
pub(crate) mod context;
pub(crate) mod monitor;
pub(crate) mod name;
mod node_port;
pub(crate) mod outcome;
pub(crate) mod port;
pub(crate) mod registry;
pub(crate) mod run_queue;
mod spawn;
pub(crate) mod standard;
pub(crate) mod statistics;
pub(crate) mod table;
pub(crate) mod timer;

pub use self::call::CallError;
pub use self::spawn::SpawnError;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use reactor::task::{Handle, JoinHandle};
use reactor::{HandlerError, Reactor, Remote};

use self::context::Context;
use self::outcome::Outcome;
use self::port::{AnyPort, Extras, Head, PortCell, TagHandler, drop_guarded, panic_text};
use self::registry::Registry;
use self::run_queue::{Ready, RunQueue};
use self::table::Table;
use crate::handle::Far;
use crate::mesh::{Mesh, Peer};
use crate::port::Port;
use crate::wire::{self, Frame};
use crate::{List, Message, NodeId, PortId, Reason};

/// A node. Clones are the same node; they stay on its thread.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Rc<Shared>,
}

/// What is done outside of any port.
pub(crate) type Call = Box<dyn FnOnce(&Node)>;

/// What all clones share.
pub(crate) struct Shared {
    id: NodeId,
    /// What the names of our ports begin with.
    unique: String,
    /// What the names of ports begin with that we spawn elsewhere.
    spawn_unique: String,
    numbers: Cell<u64>,
    pub(crate) run_queue: Rc<RunQueue>,
    ports: RefCell<Table>,
    registry: RefCell<Registry>,
    commands: RefCell<command::Commands>,
    pub(crate) mesh: Mesh,
    pub(crate) data_conns: crate::data_conn::DataConns,
    /// Programs that are services.
    pub(crate) programs: RefCell<Vec<crate::Supervisor>>,
    /// Those who watch the node itself, and what it keeps: till the end.
    own: RefCell<Extras>,
    /// What waits for ports that are to be spawned here, by name.
    spawning: RefCell<BTreeMap<String, Vec<Call>>>,
    /// While monitors fire: the numbers of those that were dropped meanwhile.
    cancelled: RefCell<Option<BTreeSet<u64>>>,
    /// Nothing goes on here any more.
    pub(crate) has_ended: Cell<bool>,
    /// Ends with the reactor, and takes the ports along.
    end: OnceCell<JoinHandle<()>>,
    handled: Cell<u64>,
    /// Chance, for delays.
    random: Cell<u64>,
    began: Began,
    pub(crate) remote: Remote<()>,
    pub(crate) handle: OnceCell<Arc<Far>>,
}

impl Shared {
    /// Lets go of all that programs gave the node, which may hold the node itself. Nobody is told.
    fn let_go(&self) {
        self.has_ended.set(true);
        // What is dropped may make more of it, but not for ever.
        for _ in 0..LET_GO_ROUNDS {
            let ports: Vec<_> = self.ports.borrow().all().cloned().collect();
            // First all, so that none sends to another.
            ports.iter().for_each(|port| port.head().set_dead());
            for port in &ports {
                let removed = self.ports.borrow_mut().remove(port.head());
                drop_guarded((port.empty(), removed));
            }
            drop_guarded((self.own.take(), self.spawning.take()));
            drop_guarded(self.registry.take());
            drop_guarded(self.commands.take());
            drop_guarded((self.data_conns.take(), self.programs.take()));
            self.mesh.let_go();
            if !self.run_queue.clear() && ports.is_empty() {
                break;
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.cancel();
        }
        self.let_go();
        if let Some(far) = self.handle.take() {
            far.forget();
        }
    }
}

/// Is dropped with the reactor's tasks.
struct AtEnd(Weak<Shared>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.let_go();
        }
    }
}

const LET_GO_ROUNDS: usize = 16;

/// When the node began, by both clocks.
struct Began {
    at: Instant,
    seconds: f64,
}

impl Began {
    fn now(reactor: &Reactor<()>) -> Self {
        // In a simulated world time begins with the world.
        let is_real = reactor.backend() != "simulated";
        let since = is_real.then(|| SystemTime::now().duration_since(UNIX_EPOCH).ok()).flatten();
        Self { at: reactor.now(), seconds: since.unwrap_or_default().as_secs_f64() }
    }
}

/// Why a port could not be given a handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// It is not of this node.
    #[error("{0}: only a port of this node can be given a handler")]
    NotLocal(PortId),
    /// A node's own port.
    #[error("{0}: a node's own port takes no handlers")]
    NodePort(PortId),
    /// It has ended.
    #[error("{0}: this port has ended, and its name is not used again")]
    Ended(PortId),
    /// It has a body already: see [`receive_async`](Node::receive_async).
    #[error("{0}: this port has a body already")]
    HasBody(PortId),
}

/// How many messages are handled in one turn of the loop, before sockets and timers have theirs.
const MESSAGES_PER_TURN: usize = 8192;

impl Node {
    pub(crate) fn with_mesh(id: NodeId, reactor: &mut Reactor<()>, mesh: Mesh) -> Self {
        let (unique, spawn_unique) =
            (name::unique(|| reactor.random()), name::unique(|| reactor.random()));
        let shared = Rc::new(Shared {
            id,
            unique,
            spawn_unique,
            numbers: Cell::new(1),
            run_queue: Rc::new(RunQueue::new(reactor.handle())),
            ports: RefCell::default(),
            registry: RefCell::default(),
            commands: RefCell::default(),
            mesh,
            data_conns: Default::default(),
            programs: RefCell::default(),
            own: RefCell::default(),
            spawning: RefCell::default(),
            cancelled: RefCell::default(),
            has_ended: Cell::new(false),
            end: OnceCell::new(),
            handled: Cell::new(0),
            random: Cell::new(reactor.random() | 1),
            began: Began::now(reactor),
            remote: reactor.remote(),
            handle: OnceCell::new(),
        });
        shared.run_queue.set_node(&shared);
        let end = AtEnd(Rc::downgrade(&shared));
        shared.end.get_or_init(|| {
            reactor.handle().spawn(async move {
                let _end = end;
                pending::<()>().await;
            })
        });
        let node = Self { shared };
        node.register_data_conns();
        node.register_log_catcher();
        node
    }

    /// The node's ID.
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// The loop that the node runs on: for tasks, sockets, files and whatever else there is to wait for.
    pub fn reactor(&self) -> &Handle<()> {
        self.shared.run_queue.handle()
    }

    /// The loop's time.
    pub fn now(&self) -> Instant {
        self.shared.run_queue.handle().now()
    }

    /// Seconds since 1970, by the loop's time.
    pub(crate) fn seconds_since_1970(&self) -> f64 {
        let began = &self.shared.began;
        began.seconds + self.now().saturating_duration_since(began.at).as_secs_f64()
    }

    /// By chance something from 0 to 1.
    pub(crate) fn chance(&self) -> f64 {
        let mut state = self.shared.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.shared.random.set(state);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How many ports there are.
    pub fn ports_count(&self) -> usize {
        self.shared.ports.borrow().len()
    }

    /// A number that this node has not used.
    pub(crate) fn next_number(&self) -> u64 {
        let number = self.shared.numbers.get();
        self.shared.numbers.set(number + 1);
        number
    }

    /// Makes a port. Its messages are of one type; others end it with the reason `unhandled_message`,
    /// unless a [tag](Self::receive_tag) takes them. It lives until it is ended, however many handles of
    /// it there are.
    pub fn port<M: Message, O: Outcome>(
        &self,
        mut handler: impl FnMut(&Context<'_>, M) -> O + 'static,
    ) -> Port<M> {
        let handler = move |context: &Context<'_>, message| handler(context, message).into_result();
        let cell = self.add_port(None, |head| PortCell::new(head, Box::new(handler)));
        Port::local(cell)
    }

    /// Makes a port that takes no message: the first ends it, unless it is given handlers before.
    pub fn bare_port(&self) -> PortId {
        self.port(refuse).id()
    }

    fn add_port<P: AnyPort + 'static>(
        &self,
        name: Option<&str>,
        make: impl FnOnce(Head) -> P,
    ) -> Rc<P> {
        let ports = &mut *self.shared.ports.borrow_mut();
        let (slot, generation) = ports.reserve();
        let head = Head::new(&self.shared.run_queue, slot, generation);
        if let Some(name) = name {
            head.set_given_name(PortId::of(self.id(), name));
            ports.set_name(name, slot);
        }
        let cell = Rc::new(make(head));
        ports.insert(Rc::clone(&cell) as Rc<dyn AnyPort>);
        cell
    }

    /// Sets what a port of this node does with messages that no tag takes. A port that was spawned comes
    /// to be by this.
    ///
    /// # Errors
    /// For ports of other nodes, for nodes' own, and for ports that were made here and have ended.
    pub fn receive<M: Message, O: Outcome>(
        &self,
        port: &PortId,
        mut handler: impl FnMut(&Context<'_>, M) -> O + 'static,
    ) -> Result<Port<M>, ReceiveError> {
        self.check_receiver(port)?;
        let mut handler =
            move |context: &Context<'_>, message| handler(context, message).into_result();
        let Some(found) = self.local_port(port.name()) else {
            let make = |head| PortCell::new(head, Box::new(handler));
            self.check_new_name(port)?;
            return Ok(Port::local(self.add_port(Some(port.name()), make)));
        };
        let typed = (Rc::clone(&found) as Rc<dyn Any>).downcast::<PortCell<M>>();
        if let Ok(cell) = typed {
            cell.set_handler(Box::new(handler));
            return Ok(Port::local(cell));
        }
        found.set_default(Box::new(move |context, list| handler(context, wire::from_list(list)?)));
        Ok(Port::to(self, port))
    }

    /// Sets what a port of this node does with messages of a tag; they come without it.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_tag<T: Message, O: Outcome>(
        &self,
        port: &PortId,
        tag: &str,
        mut handler: impl FnMut(&Context<'_>, T) -> O + 'static,
    ) -> Result<(), ReceiveError> {
        let mut handler = move |context: &Context<'_>, args: List| {
            let message = wire::from_list(args);
            handler(context, message.map_err(|error| unfit(&error))?).into_result()
        };
        self.set_tag(port, tag, Some(Box::new(move |context, args| handler(context, args))))
    }

    /// Has a tag's messages go where those go that no tag takes.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn forget_tag(&self, port: &PortId, tag: &str) -> Result<(), ReceiveError> {
        self.set_tag(port, tag, None)
    }

    fn set_tag(
        &self,
        port: &PortId,
        tag: &str,
        handler: Option<TagHandler>,
    ) -> Result<(), ReceiveError> {
        self.check_receiver(port)?;
        let found = match (self.local_port(port.name()), &handler) {
            (Some(found), _) => found,
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                // One that comes to be by a tag ignores what no tag takes.
                self.check_new_name(port)?;
                let ignore = |_: &Context<'_>, _: List| Ok(());
                self.add_port(Some(port.name()), |head| PortCell::new(head, Box::new(ignore)))
            }
        };
        found.head().set_tag(tag, handler);
        Ok(())
    }

    /// A name that is not in use may be of a port to be, but not if we made it.
    fn check_new_name(&self, port: &PortId) -> Result<(), ReceiveError> {
        match name::slot_of(&self.shared.unique, port.name()) {
            Some(_) => Err(ReceiveError::Ended(port.clone())),
            None => Ok(()),
        }
    }

    fn check_receiver(&self, port: &PortId) -> Result<(), ReceiveError> {
        if !self.is_local(port) {
            return Err(ReceiveError::NotLocal(port.clone()));
        }
        if port.is_node() {
            return Err(ReceiveError::NodePort(port.clone()));
        }
        Ok(())
    }

    /// The port of this node of that ID, if it is there and takes such messages.
    pub(crate) fn typed_port<M: Message>(&self, port: &PortId) -> Option<Rc<PortCell<M>>> {
        (self.local_port(port.name())? as Rc<dyn Any>).downcast().ok()
    }

    pub(crate) fn local_port(&self, name: &str) -> Option<Rc<dyn AnyPort>> {
        self.shared.ports.borrow().by_name(&self.shared.unique, name).cloned()
    }

    /// Whether a port of this node is there.
    pub fn has_port(&self, port: &PortId) -> bool {
        self.is_local(port) && (port.is_node() || self.local_port(port.name()).is_some())
    }

    /// Whether a port is of this node.
    pub fn is_local(&self, port: &PortId) -> bool {
        port.node_str() == self.id().as_str()
    }

    /// Sends a message. This never waits, and nothing is called before it returns. A message to a port
    /// of this node that is not there is dropped: only monitors tell. What waits for a port of this node
    /// has no bound but memory: who sends without end must wait for answers now and then.
    ///
    /// # Panics
    /// If the message is for another node and cannot be put into bytes, as a map with keys that are no
    /// text, or more than 16 MiB.
    pub fn send<M: Message>(&self, to: &PortId, message: M) {
        if !self.is_local(to) {
            self.peer(&to.node()).send(self, to.name(), &message);
        } else if to.is_node() {
            let list = wire::to_list(&message).expect("a message is a list of values");
            self.obey_soon(self.id(), list);
        } else if let Some(port) = self.local_port(to.name()) {
            match (Rc::clone(&port) as Rc<dyn Any>).downcast::<PortCell<M>>() {
                Ok(cell) => cell.push(message),
                Err(_) => {
                    port.push_list(wire::to_list(&message).expect("a message is a list of values"));
                }
            }
        } else if self.is_spawning(to) {
            let port = to.clone();
            self.when_spawned(to, move |node| node.send(&port, message));
        }
    }

    /// Ends a port, when all that was sent to it before has been handled. A second end of the same port
    /// is none. A node's own port does not end: that is logged, and nothing else, for IDs come from others.
    pub fn kill(&self, port: impl Into<PortId>, reason: Reason) {
        let port = port.into();
        if port.is_node() {
            tracing::error!("{port}: killing a node port is not allowed");
        } else if !self.is_local(&port) {
            self.peer(&port.node()).send_with_reason(self, "kil1", port.name(), &reason);
        } else if let Some(found) = self.local_port(port.name()) {
            found.push_kill(reason);
        } else if self.is_spawning(&port) {
            self.when_spawned(&port.clone(), move |node| node.kill(port, reason));
        }
    }

    /// Keeps something until a port of this node ends; if it is not there, drops it.
    pub(crate) fn keep_in(&self, port: &PortId, kept: Box<dyn Any>) {
        if port.is_node() {
            self.shared.own.borrow_mut().keep(kept);
        } else if let Some(found) = self.local_port(port.name()) {
            found.head().with_extras(|extras| extras.keep(kept));
        }
    }

    /// Calls soon, outside of any port, behind what is already under way.
    pub fn soon(&self, call: impl FnOnce(&Self) + 'static) {
        self.shared.run_queue.push(Ready::Call(Box::new(call)));
    }

    /// The node of that name, which is not this one.
    pub(crate) fn peer(&self, id: &NodeId) -> Rc<Peer> {
        self.shared.mesh.peer(id)
    }

    pub(crate) fn end_all_ports(&self) {
        let ports: Vec<Rc<dyn AnyPort>> = self.shared.ports.borrow().all().cloned().collect();
        for port in ports {
            self.end_port(&*port, &Reason::of(Vec::new()));
        }
    }

    /// Takes a message over the wire to its port. After an error the connection is to end.
    pub(crate) fn deliver(&self, from: &NodeId, frame: &Frame<'_>) -> Result<(), HandlerError> {
        let name = frame.port();
        if name.is_empty() {
            let list = frame.list()?;
            self.handle_node_message(from, list)?;
        } else if let Some(port) = self.local_port(name) {
            port.push_frame(frame)?;
        }
        Ok(())
    }

    /// Handles what is ready, up to a bound, and sends what came of it on its way.
    pub(crate) fn turn(&self, reactor: &mut Reactor<()>) {
        crate::port::enter(self);
        let run_queue = &self.shared.run_queue;
        // Whatever panics, there will be another turn.
        let _asleep = Asleep(run_queue);
        let mut budget = MESSAGES_PER_TURN;
        // Each that is ready now has its turn, at least; those that become so have theirs while there is
        // something left to spend.
        let mut rounds = run_queue.len().max(MESSAGES_PER_TURN);
        while budget > 0 && rounds > 0 {
            rounds -= 1;
            match run_queue.pop() {
                Some(Ready::Port(port)) => port.run(self, &mut budget),
                Some(Ready::Call(call)) => {
                    budget -= 1;
                    self.run_call(call);
                }
                None => break,
            }
        }
        self.shared.handled.set(self.shared.handled.get() + (MESSAGES_PER_TURN - budget) as u64);
        self.mesh_turn(reactor);
    }

    pub(crate) fn run_call(&self, call: Call) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(self))) {
            tracing::error!("a call panicked: {}", panic_text(&*panic));
        }
    }

    fn tell_unmonitored(&self, head: &Head, reason: &Reason) {
        if !reason.is_normal()
            && let Some(id) = head.id()
        {
            let (name, reason) = (loggable(id.name()), loggable(&reason.to_string()));
            tracing::error!("unmonitored local port {name} died with reason: {reason}");
        }
    }
}

/// Ends a node's turn.
struct Asleep<'a>(&'a RunQueue);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.sleep();
    }
}

/// What somebody else may have said, so that it can stand in a log: not too long, and nothing that a terminal
/// obeys or that looks like another line.
fn loggable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(LOGGED_MAX).map(shown).collect()
}

/// How many characters of what somebody said are logged.
const LOGGED_MAX: usize = 2000;

/// The handler of a port that takes nothing.
fn refuse(_: &Context<'_>, message: List) -> Result<(), Reason> {
    Err(Reason::unhandled_message(port::unhandled(wire::tag(&message).as_deref())))
}

fn unfit(error: &wire::DecodeError) -> Reason {
    Reason::unhandled_message(error.to_string())
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", self.id()).finish_non_exhaustive()
    }
}
