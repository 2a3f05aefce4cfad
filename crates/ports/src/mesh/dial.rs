//! The way to a connection with a node: its addresses, each tried once, one after the other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use reactor::{ConnectOptions, Reactor};

use super::connection::{Connection, Origin};
use super::peer::{DRAINED_BYTES, State};
use super::{Link, Peer};
use crate::handshake::{Established, Greeting, Handshake, HandshakeError, NONCE_LEN, Opening};
use crate::node::timer::Timer;
use crate::wire::EncodeError;
use crate::{Node, NodeEvent, NodeId};

/// An attempt to connect with a node.
pub(super) struct Attempt {
    addresses: VecDeque<SocketAddr>,
    spacing: Duration,
    next: Option<Timer>,
    /// Ends the attempt.
    _patience: Timer,
}

/// Addresses are tried no sooner after one another than this.
const SPACING_MIN: Duration = Duration::from_millis(400);

/// The most addresses of a node that are tried.
pub(super) const ADDRESSES_MAX: usize = 32;

impl Node {
    /// Begins to connect with a node, unless that has been begun.
    pub(crate) fn connect_to(&self, peer: &Rc<Peer>) {
        if !peer.is_idle() {
            return;
        }
        let id = peer.id().clone();
        let patience = self.timer(self.shared.mesh.limits.connect_interval, {
            let id = id.clone();
            move |node| node.give_up(&id, "connect timeout")
        });
        peer.set_state(State::Connecting(Attempt {
            addresses: VecDeque::new(),
            spacing: SPACING_MIN,
            next: None,
            _patience: patience,
        }));
        self.find_addresses(&id);
    }

    /// Ends an attempt to connect.
    pub(super) fn give_up(&self, id: &NodeId, text: &str) {
        let Some(peer) = self.shared.mesh.known(id) else { return };
        if peer.with_attempt(|_| ()).is_some() {
            peer.fail(self, text);
        }
    }

    /// The database has said where a node is.
    pub(crate) fn dial_addresses(&self, id: &NodeId, addresses: Option<Vec<String>>) {
        let Some(peer) = self.shared.mesh.known(id) else { return };
        let addresses: VecDeque<SocketAddr> = addresses
            .iter()
            .flatten()
            .filter_map(|text| text.parse().ok())
            .take(ADDRESSES_MAX)
            .collect();
        if addresses.is_empty() {
            return self.give_up(id, "no known address");
        }
        // The attempt ends after one interval: all are to have their turn in it.
        let interval = self.shared.mesh.limits.connect_interval;
        let spacing = (interval / addresses.len() as u32).max(SPACING_MIN);
        let is_trying = peer.with_attempt(|attempt| {
            attempt.addresses = addresses;
            attempt.spacing = spacing;
        });
        if is_trying.is_some() {
            self.dial_next(id);
        }
    }

    fn dial_next(&self, id: &NodeId) {
        let Some(peer) = self.shared.mesh.known(id) else { return };
        let next = peer.with_attempt(|attempt| {
            let address = attempt.addresses.pop_front()?;
            Some((address, attempt.spacing, attempt.addresses.is_empty()))
        });
        let Some((address, spacing, is_last)) = next.flatten() else { return };
        let id = id.clone();
        let origin = Origin::Node(id.clone());
        self.with_reactor(move |node, reactor| node.dial(address, origin, reactor));
        if !is_last {
            let timer = self.timer(spacing, move |node| node.dial_next(&id));
            peer.with_attempt(|attempt| attempt.next = Some(timer));
        }
    }

    /// Opens a connection, and greets.
    pub(crate) fn dial(&self, address: SocketAddr, origin: Origin, reactor: &mut Reactor<()>) {
        if self.shared.mesh.is_over.get() {
            return;
        }
        let limits = &self.shared.mesh.limits;
        let options = ConnectOptions {
            timeout: limits.monitor_timeout,
            nodelay: limits.has_nodelay,
            ..ConnectOptions::default()
        };
        let opening = match &origin {
            Origin::Data(id) => Opening::DialData { id: id.clone() },
            Origin::Accepted(_) | Origin::Node(_) | Origin::Seed(_) => Opening::Dial,
        };
        let handshake = self.handshake(opening, &address.to_string(), reactor);
        let connection = Connection::new(self, origin.clone(), handshake);
        match reactor.connect(address, &options, Box::new(connection)) {
            Ok(_) => tracing::debug!("{origin}: dialling {address}"),
            Err(error) => {
                tracing::info!("{origin}: no connection: {error}");
                match origin {
                    Origin::Seed(index) => self.seed_is_lost(index, &error.to_string()),
                    Origin::Data(id) => self.data_dial_failed(&id, &error.to_string()),
                    Origin::Accepted(_) | Origin::Node(_) => {}
                }
            }
        }
    }

    pub(super) fn handshake(
        &self,
        opening: Opening,
        peer_address: &str,
        reactor: &mut Reactor<()>,
    ) -> Handshake {
        let settings = Arc::clone(&self.shared.mesh.handshake);
        Handshake::new(settings, opening, peer_address, nonce(reactor))
    }

    /// Whether this node is the one of the two that says which connection stays, if both dial at once. It
    /// is the one of the higher ID: it proves itself only when the other has, and only on one connection.
    /// So the other has no connection that is none here, and nothing that was sent is lost. Of two that
    /// were dialled at once it is the one that the lower ID dialled: the greeting that is waited for on it
    /// goes out first. Nodes that are not ours wait for nobody, and break ties by losing a connection.
    pub(super) fn decides(&self, greeting: &Greeting) -> bool {
        greeting.is_flotilla() && *self.id() > greeting.node
    }

    /// Refuses a connection with a node that we have one with. That may be dead, and nobody knows: by
    /// sending something over it, we learn.
    pub(super) fn check_double(&self, id: &NodeId) -> Result<(), HandshakeError> {
        let Some(peer) = self.shared.mesh.known(id).filter(|peer| peer.link().is_some()) else {
            return Ok(());
        };
        peer.send_node_message(self, "", Vec::new());
        Err(HandshakeError::AlreadyConnected(id.clone()))
    }

    /// A connection with a node stands.
    pub(super) fn link_up(
        &self,
        token: reactor::Token,
        established: &Established,
        reactor: &mut Reactor<()>,
    ) -> Result<(Rc<Peer>, Rc<Link>), EncodeError> {
        let id = &established.peer.node;
        let peer = self.shared.mesh.peer(id);
        if peer.link().is_some() {
            peer.lose(self, reactor, "switched connections");
        }
        reactor.set_water(token, DRAINED_BYTES, WATER_LOW);
        let link = Rc::new(Link {
            token,
            peer: Rc::downgrade(&peer),
            since: reactor.now(),
            sent: Default::default(),
            received: Default::default(),
            is_untrusted: established.is_untrusted,
            monitors: Default::default(),
            watched: Default::default(),
        });
        peer.come_up(self, Rc::clone(&link), established.framing_out)?;
        tracing::info!("{id}: node is up");
        self.node_is_up_now(id);
        self.tell_of_node(&NodeEvent { node: id.clone(), lost: None });
        Ok((peer, link))
    }

    /// A node is connected with no more.
    pub(super) fn node_is_down(&self, id: &NodeId, reason: &crate::Reason) {
        tracing::info!("{id}: node is down: {reason}");
        self.node_is_down_now(id);
        self.tell_of_node(&NodeEvent { node: id.clone(), lost: Some(reason.clone()) });
    }
}

/// Random octets that no other handshake has.
fn nonce(reactor: &mut Reactor<()>) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    if reactor.backend() != "simulated" {
        getrandom::fill(&mut nonce).expect("the system has random numbers");
        return nonce;
    }
    // A simulated world is to do the same again.
    for chunk in nonce.chunks_mut(8) {
        let random = reactor.random().to_le_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
    nonce
}

/// A connection with fewer bytes than this is drained; one that had more tells when it has no more than half.
const WATER_LOW: usize = DRAINED_BYTES / 2;
