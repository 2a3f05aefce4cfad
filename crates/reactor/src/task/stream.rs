//! A connection that a task has.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};

use super::socket::Socket;
use crate::core::Core;
use crate::{Address, Direction, Handler, Rate, RateGroup, Reactor, Token, Transport};

/// A connection to read from and write to, shared or not: `&AsyncStream` reads and writes as well. One
/// task at a time may wait to read, and one to write.
///
/// Writes go to the kernel at once and are not queued. `close` says that nothing more will be written;
/// reading goes on. Dropped, the connection is closed.
pub struct AsyncStream {
    socket: Socket,
}

impl AsyncStream {
    pub(super) const fn new(core: Weak<RefCell<Core>>, token: Token) -> Self {
        Self { socket: Socket::new(core, token) }
    }

    /// Its name, for what a [`Reactor`] can do with it.
    pub const fn token(&self) -> Token {
        self.socket.token()
    }

    /// Who is at the other end, by TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_address()?.socket_addr()
    }

    /// Who is at the other end.
    pub fn peer_address(&self) -> Option<Address> {
        self.socket.with(|core, token| core.peer_address(token))?
    }

    /// Where it is bound, by TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_address()?.socket_addr()
    }

    /// Where it is bound.
    pub fn local_address(&self) -> Option<Address> {
        self.socket.with(|core, token| core.local_address(token))?
    }

    /// As [`Reactor::set_rate`].
    pub fn set_rate(&self, direction: Direction, rate: Option<Rate>) {
        self.socket.with(|core, token| core.set_rate(token, direction, rate));
    }

    /// As [`Reactor::join_rate_group`].
    pub fn join_rate_group(&self, direction: Direction, group: &RateGroup) {
        self.socket.with(|core, token| core.join(token, direction, group.bucket));
    }

    /// As [`Reactor::set_transport`].
    pub fn set_transport(&self, transport: Box<dyn Transport>) {
        self.socket.with(|core, token| core.set_transport(token, transport));
    }

    /// As [`Reactor::set_idle_timeout`]: reads and writes fail with `TimedOut` after such a silence.
    pub fn set_idle_timeout(&self, silence: Option<Duration>) {
        self.socket.with(|core, token| core.set_idle_timeout(token, silence));
    }

    /// As [`Reactor::set_deadline`]: reads and writes fail with `TimedOut` from then on.
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.socket.with(|core, token| core.set_deadline(token, at));
    }

    /// Gives it a handler, which hears of whatever there is to read, and of the end. Only to the
    /// reactor that it is of.
    pub fn into_handler<S: 'static>(
        self,
        reactor: &mut Reactor<S>,
        handler: Box<dyn Handler<S>>,
    ) -> Token {
        let token = self.socket.token();
        let wakers = self.socket.with(Core::give_to_handler);
        drop(wakers);
        reactor.take_over(token, handler);
        self.socket.release()
    }

    pub(super) fn poll_connected(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll(context, Direction::Write, |core, token| core.poll_connected(token))
    }
}

impl fmt::Debug for AsyncStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncStream").field(&self.token()).finish()
    }
}

impl AsyncRead for &AsyncStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_vectored(context, &mut [IoSliceMut::new(buffer)])
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll(context, Direction::Read, |core, token| core.poll_read(token, slices))
    }
}

impl AsyncWrite for &AsyncStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll(context, Direction::Write, |core, token| core.poll_write(token, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll(context, Direction::Write, Core::poll_flush)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll(context, Direction::Write, Core::poll_finish)
    }
}

impl AsyncRead for AsyncStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(context, buffer)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(context, slices)
    }
}

impl AsyncWrite for AsyncStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(context)
    }
}
