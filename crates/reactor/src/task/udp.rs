//! A datagram socket that a task has.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Weak;
use std::task::{Poll, ready};

use super::socket::Socket;
use crate::core::Core;
use crate::{Direction, Token};

/// Sends and receives datagrams. One task at a time may wait to receive, and one to send. Dropped, it
/// is closed.
pub struct AsyncUdp {
    socket: Socket,
    /// What came together with what was asked for.
    received: RefCell<VecDeque<(SocketAddr, Box<[u8]>)>>,
}

impl AsyncUdp {
    pub(super) const fn new(core: Weak<RefCell<Core>>, token: Token) -> Self {
        Self { socket: Socket::new(core, token), received: RefCell::new(VecDeque::new()) }
    }

    /// Waits for a datagram. What there is no room for in `buffer` is lost.
    ///
    /// # Errors
    /// `NotConnected` if the reactor is gone or closed the socket.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|context| {
            self.socket.poll(context, Direction::Read, |core, token| {
                let received = &mut *self.received.borrow_mut();
                if received.is_empty() {
                    ready!(core.poll_receive(token, received))?;
                }
                let Some((from, data)) = received.pop_front() else { return Poll::Pending };
                let len = data.len().min(buffer.len());
                buffer[..len].copy_from_slice(&data[..len]);
                Poll::Ready(Ok((len, from)))
            })
        })
        .await
    }

    /// Sends a datagram, as soon as there is room.
    ///
    /// # Errors
    /// As the system says; `NotConnected` if the reactor is gone or closed the socket.
    pub async fn send_to(&self, data: &[u8], addr: SocketAddr) -> io::Result<()> {
        poll_fn(|context| {
            self.socket
                .poll(context, Direction::Write, |core, token| core.poll_send(token, addr, data))
        })
        .await
    }

    /// Its name, for what a [`Reactor`](crate::Reactor) can do with it.
    pub const fn token(&self) -> Token {
        self.socket.token()
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.with(|core, token| core.local_address(token))??.socket_addr()
    }
}

impl std::fmt::Debug for AsyncUdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AsyncUdp").field(&self.token()).finish()
    }
}
