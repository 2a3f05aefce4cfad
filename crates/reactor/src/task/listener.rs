//! A listener that a task has.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Weak;

use super::AsyncStream;
use super::socket::Socket;
use crate::core::Core;
use crate::{Address, Direction, Token};

/// Takes in connections. Dropped, it is closed.
pub struct AsyncListener {
    socket: Socket,
}

impl AsyncListener {
    pub(super) const fn new(core: Weak<RefCell<Core>>, token: Token) -> Self {
        Self { socket: Socket::new(core, token) }
    }

    /// Waits for a connection. While the system has no room for one it waits as well.
    ///
    /// # Errors
    /// `NotConnected` if the reactor is gone or closed the listener; if there is no room for just this
    /// connection, which is closed.
    pub async fn accept(&mut self) -> io::Result<(AsyncStream, Address)> {
        let accept = |core: &mut Core, token| core.poll_accept(token);
        let accepted = poll_fn(|context| self.socket.poll(context, Direction::Read, accept)).await;
        let (token, peer) = accepted?;
        Ok((AsyncStream::new(Weak::clone(self.socket.core()), token), peer))
    }

    /// Its name, for what a [`Reactor`](crate::Reactor) can do with it.
    pub const fn token(&self) -> Token {
        self.socket.token()
    }

    /// Where it is bound, by TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_address()?.socket_addr()
    }

    /// Where it is bound.
    pub fn local_address(&self) -> Option<Address> {
        self.socket.with(|core, token| core.local_address(token))?
    }
}

impl std::fmt::Debug for AsyncListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncListener").field(&self.token()).finish()
    }
}
