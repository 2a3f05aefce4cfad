//! What a program does with its connections.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Call, Owner, Reactor};
use crate::backend::RawSocket;
use crate::core::{Direction, Entry, Stream};
use crate::guard::{Cork, RateGroup};
use crate::handler::{Accepted, Closed, Handler, Progress, Read, Reason};
use crate::{Address, Channel, Chunk, ConnectOptions, Rate, Token, Transport};

/// A connection that no reactor has: it may go to another thread, and to another reactor there.
#[derive(Debug)]
pub struct Detached {
    /// The socket; non-blocking.
    pub socket: RawSocket,
    /// Who is at the other end.
    pub peer: Address,
    /// What was put back by [`Reactor::unread`], and is to be read first.
    pub unread: Vec<Bytes>,
    /// What was queued and is not with the kernel.
    pub unsent: Vec<Chunk>,
}

/// What came of [`Reactor::take`].
pub struct Taken<S> {
    /// The connection.
    pub connection: Detached,
    /// Its handler; `None` if it was taken from within a call of just that.
    pub handler: Option<Box<dyn Handler<S>>>,
    /// Its transport, if it had one.
    pub transport: Option<Box<dyn Transport>>,
}

impl<S> std::fmt::Debug for Taken<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taken").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl<S: 'static> Reactor<S> {
    /// Opens a connection. The handler hears of it by `connected` or by `closed`.
    ///
    /// # Errors
    /// If the system refuses at once; the handler is dropped.
    pub fn connect(
        &mut self,
        addr: impl Into<Address>,
        options: &ConnectOptions,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        let token = self.core.borrow_mut().connect(&addr.into(), options)?;
        self.set_owner(token, Owner::Handler(handler));
        Ok(token)
    }

    /// Keeps a connection that has come. Only from within [`Acceptor::accepted`](crate::Acceptor::accepted):
    /// what is not attached by its end is closed.
    ///
    /// # Errors
    /// If the system has no room for it; it is closed.
    pub fn attach(
        &mut self,
        accepted: Accepted,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        if self.unclaimed != Some((accepted.source, accepted.offer)) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let token = self.core.borrow_mut().attach(accepted.source, &accepted.peer)?;
        self.unclaimed = None;
        self.set_owner(token, Owner::Handler(handler));
        Ok(token)
    }

    /// Has a channel be a connection's socket. With `patience` it has yet to connect, and has so long for it:
    /// the handler hears of it by `connected` or by `closed`.
    pub fn attach_channel(
        &mut self,
        channel: Box<dyn Channel>,
        peer: SocketAddr,
        patience: Option<Duration>,
        handler: Box<dyn Handler<S>>,
    ) -> Token {
        let token = self.core.borrow_mut().attach_channel(channel, peer, patience);
        self.set_owner(token, Owner::Handler(handler));
        token
    }

    /// A channel has connected or failed to, has something to read or has room: its connection looks at it
    /// in this turn or the next. Harmless if it has not.
    pub fn channel_ready(&mut self, token: Token) {
        self.core.borrow_mut().channel_ready(token);
    }

    /// Takes in a connected stream that was opened elsewhere: a socket, or the end of a pipe or
    /// terminal. It is made non-blocking, and closed when the connection ends.
    ///
    /// # Errors
    /// If the system cannot wait for it, as for regular files; if this is a simulated world.
    pub fn register(
        &mut self,
        stream: impl Into<OwnedFd>,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        self.adopt_raw(RawSocket::Fd(stream.into()), handler)
    }

    /// Takes in a connection that another reactor, or this one, gave away: with what was unread and
    /// unsent.
    ///
    /// # Errors
    /// As [`register`](Self::register). In a simulated world the connection must be of the same host.
    pub fn adopt(
        &mut self,
        connection: Detached,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        let Detached { socket, unread, unsent, .. } = connection;
        let token = self.adopt_raw(socket, handler)?;
        let core = &mut *self.core.borrow_mut();
        for bytes in unread.into_iter().rev() {
            core.unread(token, bytes).map_err(io::Error::other)?;
        }
        for chunk in unsent {
            core.write(token, chunk).map_err(io::Error::other)?;
        }
        Ok(token)
    }

    /// A task gives its connection a handler.
    pub(crate) fn take_over(&mut self, token: Token, handler: Box<dyn Handler<S>>) {
        let is_there = self.core.borrow().stream(token).is_some();
        if is_there {
            self.set_owner(token, Owner::Handler(handler));
        }
    }

    fn adopt_raw(&mut self, socket: RawSocket, handler: Box<dyn Handler<S>>) -> io::Result<Token> {
        let token = self.core.borrow_mut().adopt(socket)?;
        self.set_owner(token, Owner::Handler(handler));
        Ok(token)
    }

    /// Takes a connection out, open: nothing is told to its handler, which comes back with it. Callbacks
    /// that wait [in its queue](Self::write_then) are dropped.
    ///
    /// # Errors
    /// `NotConnected` if it is over, or does not stand yet; `Unsupported` for a [pipe](Self::pipe).
    pub fn take(&mut self, token: Token) -> io::Result<Taken<S>> {
        let (connection, transport) = self.core.borrow_mut().take(token)?;
        let handler = match self.take_owner(token) {
            Owner::Handler(handler) => Some(handler),
            Owner::Nobody | Owner::Acceptor(_) | Owner::Datagrams(_) | Owner::Watcher(..) => None,
        };
        Ok(Taken { connection, handler, transport })
    }

    /// Two connections with each other, within this reactor. Neither hears `connected`.
    pub fn pipe(
        &mut self,
        here: Box<dyn Handler<S>>,
        there: Box<dyn Handler<S>>,
    ) -> (Token, Token) {
        let (a, b) = self.core.borrow_mut().pipe();
        self.set_owner(a, Owner::Handler(here));
        self.set_owner(b, Owner::Handler(there));
        (a, b)
    }

    /// Gives a connection another handler. Returns the one before, unless that is being called. A task's
    /// connection takes none.
    pub fn set_handler(
        &mut self,
        token: Token,
        handler: Box<dyn Handler<S>>,
    ) -> Option<Box<dyn Handler<S>>> {
        self.core.borrow().stream(token).filter(|stream| !stream.has_task)?;
        let before = self.take_owner(token);
        self.set_owner(token, Owner::Handler(handler));
        match before {
            Owner::Handler(before) => Some(before),
            Owner::Nobody | Owner::Acceptor(_) | Owner::Datagrams(_) | Owner::Watcher(..) => None,
        }
    }

    /// Puts a layer between a connection and its socket, such as `Tls` (feature `tls`). At any time: as it is opened, or when
    /// both sides agreed on it. What is [unread](Self::unread) by then stays above the layer. A
    /// [pipe](Self::pipe) has no socket and takes none.
    pub fn set_transport(&mut self, token: Token, transport: Box<dyn Transport>) {
        let before = self.core.borrow_mut().set_transport(token, transport);
        drop(before);
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// If the connection broke. Return it from the handler, and the connection ends with it.
    pub fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<Read> {
        self.core.borrow_mut().read(token, &mut [IoSliceMut::new(buffer)])
    }

    /// Reads what is there into several buffers in turn.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_vectored(
        &mut self,
        token: Token,
        slices: &mut [IoSliceMut<'_>],
    ) -> io::Result<Read> {
        self.core.borrow_mut().read(token, slices)
    }

    /// Puts bytes back: they are read next, before what was put back earlier. `readable` is called for
    /// them without a wait.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn unread(&mut self, token: Token, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        self.core.borrow_mut().unread(token, bytes.into())
    }

    /// Queues bytes or a part of a file. It goes out at the end of this turn, all that was queued in it
    /// together.
    ///
    /// # Errors
    /// If the connection is over or about to be.
    pub fn write(&mut self, token: Token, chunk: impl Into<Chunk>) -> Result<Progress, Closed> {
        self.core.borrow_mut().write(token, chunk.into())
    }

    /// Writes bytes at once if nothing is queued before them; what the kernel has no room for is copied
    /// into the queue.
    ///
    /// # Errors
    /// If the connection is over, about to be, or just found to be.
    pub fn write_now(&mut self, token: Token, bytes: &[u8]) -> Result<Progress, Closed> {
        self.core.borrow_mut().write_now(token, bytes)
    }

    /// Calls back when all that is queued is with the kernel: once, at the end of this turn or of a
    /// later one, before anything that is queued afterwards. Dropped if the connection ends before.
    ///
    /// # Errors
    /// If the connection is over or about to be.
    pub fn write_then(
        &mut self,
        token: Token,
        call: impl FnOnce(&mut S, &mut Self) + 'static,
    ) -> Result<(), Closed> {
        let call: Call<S> = Box::new(call);
        let mark = self.free_marks.pop().unwrap_or(self.marks.len() as u32);
        if mark as usize == self.marks.len() {
            self.marks.push(None);
        }
        let written = self.core.borrow_mut().write_mark(token, mark);
        if written.is_err() {
            self.free_marks.push(mark);
        } else {
            self.marks[mark as usize] = Some(call);
        }
        written.map(drop)
    }

    /// Writes out what is queued, now rather than at the end of the turn; callbacks in the queue wait
    /// for that, and what stands behind them too.
    ///
    /// # Errors
    /// If the connection is over, or just found to be.
    pub fn kick(&mut self, token: Token) -> Result<Progress, Closed> {
        self.core.borrow_mut().kick(token)
    }

    /// How many bytes are queued and not yet with the kernel.
    pub fn queued(&self, token: Token) -> usize {
        self.core.borrow().stream(token).map_or(0, Stream::queued)
    }

    /// Within [`closed`](Handler::closed): how many bytes were queued and will never be sent.
    pub fn unsent(&self) -> usize {
        self.core.borrow().unsent
    }

    /// Whether the queue has been at the high-water mark, and not at the low one since.
    pub fn is_full(&self, token: Token) -> bool {
        self.core.borrow().stream(token).is_some_and(|stream| stream.was_full)
    }

    /// Sets the marks, in bytes: after the queue has been at `high`, `drained` is called when it has
    /// fallen to `low`. Default: 1 MiB and 256 KiB.
    pub fn set_water(&mut self, token: Token, high: usize, low: usize) {
        self.with_stream(token, |stream| {
            stream.high = u32::try_from(high).unwrap_or(u32::MAX);
            stream.low = u32::try_from(low.min(high)).unwrap_or(u32::MAX);
        });
    }

    /// Calls `readable` no more until [`resume`](Self::resume): the peer will have to wait. If it resets
    /// the connection meanwhile, that is the end, whatever it had sent before.
    pub fn pause(&mut self, token: Token) {
        self.with_stream(token, |stream| stream.is_paused = true);
    }

    /// Calls `readable` again, next turn if anything has come meanwhile.
    pub fn resume(&mut self, token: Token) {
        self.with_stream(token, |stream| {
            (stream.is_paused, stream.is_parked, stream.fruitless_calls) = (false, false, 0);
        });
    }

    /// Calls [`writable`](Handler::writable) once, when nothing is queued and the kernel has room.
    pub fn notify_writable(&mut self, token: Token) {
        let core = &mut *self.core.borrow_mut();
        match core.entry_mut(token) {
            Some(Entry::Stream(stream)) => stream.wants_writable = true,
            Some(Entry::Other(other)) => other.wants_writable = true,
            None => {}
        }
        core.list(token);
    }

    fn with_stream(&mut self, token: Token, act: impl FnOnce(&mut Stream)) {
        let core = &mut *self.core.borrow_mut();
        if let Some(stream) = core.stream_mut(token) {
            act(stream);
            core.list(token);
        }
    }

    /// Closes a socket of whatever kind. Of a connection, what is queued is dropped, and the handler's
    /// `closed` is called at the end of this turn. Harmless if it is over.
    pub fn close(&mut self, token: Token, reason: &'static str) {
        let is_gone = {
            let core = &mut *self.core.borrow_mut();
            let was_there = core.entry(token).is_some();
            core.end(token, Reason::Local(reason));
            was_there && core.entry(token).is_none()
        };
        if is_gone {
            drop(self.take_owner(token));
        }
    }

    /// Closes a connection in good order: when all that is queued is with the kernel the peer is told
    /// that this was all, and what it still sends is dropped until it is done too, for 2 s at most. If
    /// the queue is not empty after `patience`, the reason is [`Reason::Timeout`].
    pub fn close_after_flush(&mut self, token: Token, patience: Duration) {
        self.core.borrow_mut().close_after_flush(token, patience);
    }

    /// Says that nothing more will be written, once all that is queued has been. Reading goes on.
    ///
    /// # Errors
    /// If the connection is over or about to be.
    pub fn finish(&mut self, token: Token) -> Result<(), Closed> {
        self.write_then(token, move |_, reactor| {
            let core = &mut *reactor.core.borrow_mut();
            if let Err(error) = core.say_goodbye(token)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                core.end(token, error.into());
            }
        })
    }

    /// Ends the connection with [`Reason::Timeout`] at a time, unless that is changed before. To move it
    /// later costs nothing.
    pub fn set_deadline(&mut self, token: Token, at: Option<Instant>) {
        self.core.borrow_mut().set_deadline(token, at);
    }

    /// Ends the connection with [`Reason::Timeout`] when no byte has gone either way for so long. Costs
    /// nothing per byte. Default: `None`, never.
    pub fn set_idle_timeout(&mut self, token: Token, silence: Option<Duration>) {
        self.core.borrow_mut().set_idle_timeout(token, silence);
    }

    /// Limits how fast a connection goes. `None` lifts that, and leaves groups. What a peer sends too
    /// fast is left in the kernel, so that it has to wait.
    pub fn set_rate(&mut self, token: Token, direction: Direction, rate: Option<Rate>) {
        self.core.borrow_mut().set_rate(token, direction, rate);
    }

    /// Has a connection draw on a group's limit, beside its own and other groups'.
    ///
    /// # Panics
    /// If the group is another reactor's.
    pub fn join_rate_group(&mut self, token: Token, direction: Direction, group: &RateGroup) {
        let is_ours = std::rc::Rc::downgrade(&self.core).ptr_eq(&group.core);
        assert!(is_ours, "connections share a limit with those of their own reactor");
        self.core.borrow_mut().join(token, direction, group.bucket);
    }

    /// Holds back segments that are not full until the guard is dropped. What one turn writes goes
    /// out together anyway.
    pub fn cork(&mut self, token: Token) -> Cork {
        self.core.borrow_mut().cork(token);
        Cork::new(&self.core, token)
    }

    /// Where a TCP or UDP socket is bound.
    pub fn local_addr(&self, token: Token) -> Option<SocketAddr> {
        self.local_address(token)?.socket_addr()
    }

    /// Where a socket of any kind is bound.
    pub fn local_address(&self, token: Token) -> Option<Address> {
        self.core.borrow().local_address(token)
    }

    /// Who is at the other end of a TCP connection.
    pub fn peer_addr(&self, token: Token) -> Option<SocketAddr> {
        self.core.borrow().stream(token)?.peer
    }

    /// Who is to be taken for the other end of a connection from now on: the one that a proxy leads to.
    pub fn set_peer_addr(&mut self, token: Token, peer: SocketAddr) {
        if let Some(stream) = self.core.borrow_mut().stream_mut(token) {
            stream.peer = Some(peer);
        }
    }

    /// Who is at the other end of a connection of any kind.
    pub fn peer_address(&self, token: Token) -> Option<Address> {
        self.core.borrow().peer_address(token)
    }

    /// Does something with a socket's descriptor, which stays ours. `None` if it is over, or in a world
    /// without descriptors.
    pub fn with_fd<T>(&self, token: Token, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let core = self.core.borrow();
        core.backend.fd(core.source(token)?).map(act)
    }
}
