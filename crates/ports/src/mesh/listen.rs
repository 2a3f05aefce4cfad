//! The way in for other nodes.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use reactor::{Accepted, ListenOptions, Reactor, Token};

use super::STRANGERS_MAX;
use super::connection::{Connection, Origin};
use crate::Node;
use crate::handshake::Opening;
use crate::node::Shared;

impl Node {
    /// Listens on an address. Port 0 is any that is free; the answer tells which.
    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        reactor: &mut Reactor<()>,
    ) -> std::io::Result<SocketAddr> {
        let node = Rc::downgrade(&self.shared);
        let acceptor =
            move |_: Token, connection: Accepted, (): &mut (), reactor: &mut Reactor<()>| {
                accept(&node, connection, reactor);
            };
        let nodelay = self.shared.mesh.limits.has_nodelay;
        let options = ListenOptions { nodelay, ..ListenOptions::default() };
        let token = reactor.listen(address, &options, Box::new(acceptor))?;
        let address = reactor.local_addr(token).unwrap_or(address);
        self.shared.mesh.listeners.borrow_mut().push(token);
        Ok(address)
    }

    /// Has others told that we can be found there.
    pub(crate) fn publish(&self, address: SocketAddr) {
        self.shared.mesh.addresses.borrow_mut().push(address.to_string());
    }

    /// Whether that is an address of this node, as far as can be seen from here.
    pub(super) fn listens_at(&self, address: SocketAddr) -> bool {
        self.listeners()
            .iter()
            .filter_map(|own| own.parse::<SocketAddr>().ok())
            .any(|own| own == address || own.port() == address.port() && address.ip().is_loopback())
    }

    /// Listens no more, and ends all connections.
    pub(crate) fn close_mesh(&self, reactor: &mut Reactor<()>) {
        self.shared.mesh.is_over.set(true);
        let listeners = self.shared.mesh.listeners.take();
        let strangers = self.shared.mesh.strangers.take();
        for token in listeners.into_iter().chain(strangers) {
            reactor.close(token, "the node has ended");
        }
        for peer in self.shared.mesh.all_peers() {
            if let Some(link) = peer.link() {
                peer.flush(self, reactor);
                reactor.close_after_flush(link.token, GOODBYE);
            }
        }
    }
}

fn accept(node: &Weak<Shared>, connection: Accepted, reactor: &mut Reactor<()>) {
    let Some(shared) = node.upgrade() else { return };
    let node = Node { shared };
    let strangers = &node.shared.mesh.strangers;
    let oldest = strangers.borrow().front().copied();
    if let Some(oldest) = oldest.filter(|_| strangers.borrow().len() >= STRANGERS_MAX) {
        // Who means it is quick: so newcomers get in, however many there are that say nothing.
        reactor.close(oldest, "too many have not said yet who they are");
        node.shared.mesh.forget_stranger(oldest);
    }
    let peer = connection.peer.clone();
    let handshake = node.handshake(Opening::Listen, &peer.to_string(), reactor);
    let mut handler = Connection::new(&node, Origin::Accepted(peer.clone()), handshake);
    let greeting = handler.greeting();
    match reactor.attach(connection, Box::new(handler)) {
        Ok(token) => {
            strangers.borrow_mut().push_back(token);
            node.greet(token, &greeting, reactor);
        }
        Err(error) => tracing::warn!("from {peer}: the connection could not be kept: {error}"),
    }
}

/// How long the last words may take.
const GOODBYE: Duration = Duration::from_secs(2);
