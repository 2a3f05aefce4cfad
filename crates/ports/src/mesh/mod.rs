//! Other nodes: who they are, and the connections with them.
//!
//! [`Peer`] is a node as this one sees it, [`connection`] a socket and what is read from it, [`dial`] the
//! way to a connection, [`forming`] the connections that are wanted at all times, [`listen`] the other
//! side's way in.

mod connection;
mod dial;
mod events;
mod forming;
mod listen;
mod peer;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use reactor::{Reactor, Token};

pub(crate) use self::connection::Origin;
pub use self::events::{NodeEvent, NodeWatch};
use self::forming::Keepalive;
pub(crate) use self::forming::Seed;
pub(crate) use self::peer::{Link, Peer};
use crate::certificate::Certificate;
use crate::database::Database;
use crate::handshake::Settings;
use crate::node::port::drop_guarded;
use crate::{Node, NodeId};

/// What a node knows of others.
pub(crate) struct Mesh {
    peers: RefCell<BTreeMap<NodeId, Rc<Peer>>>,
    /// Those to whom something is to go at the end of the turn.
    dirty: RefCell<Vec<Rc<Peer>>>,
    /// Connections that are not read for now, since too many messages wait here.
    paused: RefCell<Vec<Token>>,
    /// Connections that have come to us and are not agreed upon, the oldest first.
    strangers: RefCell<VecDeque<Token>>,
    pub(crate) database: RefCell<Database>,
    seeds: RefCell<Vec<Seed>>,
    keepalives: RefCell<BTreeMap<NodeId, Keepalive>>,
    pub(crate) waiting: RefCell<crate::data::Waiting>,
    events: RefCell<events::Listeners>,
    listeners: RefCell<Vec<Token>>,
    addresses: RefCell<Vec<String>>,
    pub(crate) handshake: Arc<Settings>,
    pub(crate) tls: Option<Certificate>,
    pub(crate) limits: Limits,
    /// How many bytes were read of messages that may wait, and how many messages will have been handled when
    /// none of those waits.
    unhandled: Cell<(usize, u64)>,
    /// Where all connections read to.
    read_buffer: RefCell<Vec<u8>>,
    /// With so many nodes known, those are forgotten that nobody cares for.
    sweep_at: Cell<usize>,
    /// The node has ended: it dials nobody.
    is_over: Cell<bool>,
}

/// What a node puts up with, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most bytes that wait to be sent to a node: more is a lost connection.
    pub(crate) unsent_bytes: Cell<usize>,
    pub(crate) monitor_timeout: std::time::Duration,
    pub(crate) connect_interval: std::time::Duration,
    pub(crate) has_nodelay: bool,
    /// Other nodes may call no functions.
    pub(crate) is_secure: bool,
    /// Every message between nodes is logged.
    pub(crate) has_trace: bool,
}

/// The most connections that have come to us and have not shown yet who they are: with more, the oldest
/// ends.
const STRANGERS_MAX: usize = 1000;

/// With more messages than this waiting for handlers, nothing is read from other nodes.
const WAITING_MAX: usize = 100_000;

/// The same for bytes, of all messages that were read since those before them were handled.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// With fewer nodes known than this, none is forgotten for being known only.
const SWEEP_MIN: usize = 64;

impl Mesh {
    pub(crate) fn new(
        handshake: Settings,
        tls: Option<Certificate>,
        limits: Limits,
        database: Database,
    ) -> Self {
        Self {
            peers: RefCell::default(),
            dirty: RefCell::default(),
            paused: RefCell::default(),
            strangers: RefCell::default(),
            database: RefCell::new(database),
            seeds: RefCell::default(),
            keepalives: RefCell::default(),
            waiting: RefCell::default(),
            events: RefCell::default(),
            listeners: RefCell::default(),
            addresses: RefCell::default(),
            handshake: Arc::new(handshake),
            tls,
            limits,
            unhandled: Cell::default(),
            read_buffer: RefCell::default(),
            sweep_at: Cell::new(SWEEP_MIN),
            is_over: Cell::new(false),
        }
    }

    /// The node of that name. It is known from now on, for as long as somebody cares.
    pub(crate) fn peer(&self, id: &NodeId) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        if let Some(peer) = peers.get(id) {
            return Rc::clone(peer);
        }
        if peers.len() >= self.sweep_at.get() {
            // Ports of nodes that were only ever named, as in messages, leave them behind.
            peers.retain(|_, peer| !peer.is_unused());
            self.sweep_at.set(SWEEP_MIN.max(2 * peers.len()));
        }
        let peer = Rc::new(Peer::new(id.clone()));
        peers.insert(id.clone(), Rc::clone(&peer));
        peer
    }

    fn forget_stranger(&self, token: Token) {
        self.strangers.borrow_mut().retain(|stranger| *stranger != token);
    }

    /// The node of that name, if we know of it.
    pub(crate) fn known(&self, id: &NodeId) -> Option<Rc<Peer>> {
        self.peers.borrow().get(id).cloned()
    }

    /// The connection with a node, if there is one.
    fn link(&self, id: &NodeId) -> Option<Rc<Link>> {
        self.known(id)?.link()
    }

    /// Lets go of all calls that wait for something. Nobody is told.
    pub(crate) fn let_go(&self) {
        drop_guarded(self.waiting.take());
        drop_guarded(self.events.take());
        for peer in self.all_peers() {
            peer.let_go();
        }
    }

    pub(crate) fn all_peers(&self) -> Vec<Rc<Peer>> {
        self.peers.borrow().values().cloned().collect()
    }

    /// The addresses that we listen on.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }
}

impl Node {
    /// Sets how many bytes may wait to be sent to a node, before the connection with it is given up and its
    /// monitors fire. At first 64 MiB.
    pub fn set_unsent_max(&self, bytes: usize) {
        self.shared.mesh.limits.unsent_bytes.set(bytes);
    }

    /// How many other nodes this one remembers: those that are connected with, or waited for.
    pub fn known_nodes_count(&self) -> usize {
        self.shared.mesh.peers.borrow().len()
    }

    /// How many connections have come that have not proved yet who they are.
    pub fn strangers_count(&self) -> usize {
        self.shared.mesh.strangers.borrow().len()
    }

    /// How many messages wait that no handler has seen yet.
    pub fn waiting_count(&self) -> usize {
        self.shared.run_queue.waiting()
    }

    /// Acts with the loop, soon.
    pub(crate) fn with_reactor(&self, act: impl FnOnce(&Self, &mut Reactor<()>) + 'static) {
        let node = Rc::downgrade(&self.shared);
        self.shared.run_queue.handle().soon(move |(), reactor| {
            if let Some(shared) = node.upgrade() {
                act(&Self { shared }, reactor);
            }
        });
    }

    /// Sends what the turn has brought, and reads on if it is time.
    pub(crate) fn mesh_turn(&self, reactor: &mut Reactor<()>) {
        let mesh = &self.shared.mesh;
        let dirty = mesh.dirty.take();
        for peer in dirty {
            peer.flush(self, reactor);
        }
        let has_room = self.unhandled_bytes() <= WAITING_BYTES_MAX;
        if has_room && self.shared.run_queue.waiting() < WAITING_MAX / 2 {
            let paused = mesh.paused.take();
            for token in paused {
                reactor.resume(token);
            }
        }
    }

    /// Whether too much waits for handlers to read more, now that so many bytes more were read.
    fn has_read(&self, bytes: usize) -> bool {
        let run_queue = &self.shared.run_queue;
        let bytes = self.unhandled_bytes().saturating_add(bytes);
        let handled_then = run_queue.handled() + run_queue.waiting() as u64;
        self.shared.mesh.unhandled.set((bytes, handled_then));
        run_queue.waiting() > WAITING_MAX || bytes > WAITING_BYTES_MAX
    }

    /// How many bytes were read of messages that may still wait.
    fn unhandled_bytes(&self) -> usize {
        let (bytes, handled_then) = self.shared.mesh.unhandled.get();
        if self.shared.run_queue.handled() >= handled_then { 0 } else { bytes }
    }

    /// Forgets a node that nobody cares for.
    pub(crate) fn forget_if_unused(&self, peer: &Rc<Peer>) {
        let (id, peer) = (peer.id().clone(), Rc::downgrade(peer));
        self.soon(move |node| {
            let mut peers = node.shared.mesh.peers.borrow_mut();
            let is_it = peers.get(&id).is_some_and(|known| {
                std::ptr::eq(Rc::as_ptr(known), peer.as_ptr()) && known.is_unused()
            });
            let forgotten = if is_it { peers.remove(&id) } else { None };
            drop(peers);
            drop(forgotten);
        });
    }
}
