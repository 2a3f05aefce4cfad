//! The seam between the loop and the world: what sockets, time and chance are.
//!
//! `epoll` is the real world, [`simulated`](crate::simulated) a pretended one. Above the seam nobody can tell.

mod batch;
mod datagrams;
mod entries;
pub(crate) mod epoll;
mod priority;
mod signals;
mod sockets;
mod streams;
mod waiting;
mod watched;

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use batch::DatagramBatch;
pub use priority::lower_priority;
pub(crate) use sockets::Sockets;

use crate::simulated::SimulatedSocket;
use crate::{Address, ConnectOptions, Interest, Interface, ListenOptions, Token};

/// A socket, as its backend knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(pub u32);

/// A socket that no reactor has.
#[derive(Debug)]
pub enum RawSocket {
    /// A descriptor of the system.
    Fd(OwnedFd),
    /// A socket of a simulated world.
    Simulated(SimulatedSocket),
}

/// A socket may have become ready.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token that it was opened with.
    pub token: Token,
    /// Reading, or accepting, will not block.
    pub readable: bool,
    /// Writing will not block, or connecting has ended.
    pub writable: bool,
    /// The peer will send nothing more, which is told once and never again, however much is left to
    /// read; or it sent urgent data. From now on a read may fall short before there is nothing left.
    pub ended: bool,
    /// Both directions are over.
    pub hung_up: bool,
}

/// Interrupts [`Backend::wait`] from another thread.
pub trait Wake: fmt::Debug + Send + Sync {
    /// The wait that is on, or else the next, returns at once.
    fn wake(&self);
}

/// A world to run in. Sockets never block; readiness is told by edges: each is reported once, and
/// again only after a call said [`io::ErrorKind::WouldBlock`] or fell short.
pub trait Backend: fmt::Debug {
    /// What it is called: `epoll` or `simulated`.
    fn name(&self) -> &'static str;
    /// The time.
    fn now(&self) -> Instant;
    /// Chance.
    fn random(&mut self) -> u64;
    /// Begins to connect; an event says when that has ended.
    ///
    /// # Errors
    /// As the system says, here and in what follows.
    fn connect(
        &mut self,
        addr: &Address,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Source>;
    /// How connecting ended.
    ///
    /// # Errors
    /// Why it failed.
    fn finish_connect(&mut self, source: Source) -> io::Result<()>;
    /// Begins to listen.
    ///
    /// # Errors
    /// If the address cannot be had.
    fn listen(
        &mut self,
        addr: &Address,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source>;
    /// Takes a connection that has come. It reports nothing until it is registered.
    ///
    /// # Errors
    /// `WouldBlock` if none has.
    fn accept(&mut self, listener: Source) -> io::Result<(Source, Address)>;
    /// Has an accepted connection report by this token.
    ///
    /// # Errors
    /// If the system has no room for it.
    fn register(&mut self, source: Source, token: Token) -> io::Result<()>;
    /// Takes in a connected stream socket that came from elsewhere; other streams, such as pipes, too.
    ///
    /// # Errors
    /// If it is of another world, or such as cannot be waited for. It is closed then.
    fn adopt(&mut self, socket: RawSocket, token: Token) -> io::Result<Source>;
    /// Gives a socket away: open, and no longer known here.
    ///
    /// # Errors
    /// If there is no such socket.
    fn detach(&mut self, source: Source) -> io::Result<RawSocket>;
    /// Opens a datagram socket.
    ///
    /// # Errors
    /// If the address cannot be had.
    fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source>;
    /// The addresses of this machine on networks that know groups of listeners.
    ///
    /// # Errors
    /// As the system says.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;
    /// Reads into `slices` in turn; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet.
    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    /// Writes from `slices` in turn, as much as there is room for. `more` says that something follows
    /// at once, so that a segment that is not full may wait for it.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn write(&mut self, source: Source, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize>;
    /// Writes from a file, as much as there is room for; 0 is the end of the file.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; what the file's system says.
    fn send_file(
        &mut self,
        source: Source,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize>;
    /// Holds segments back that are not full, or no longer. Does nothing where that is not known.
    fn set_cork(&mut self, source: Source, is_corked: bool);
    /// Sends a datagram.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; it may be dropped then.
    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()>;
    /// Sends a datagram that routers shall not cut up, where that can be said.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); that it is too long for the way there, if that is known here.
    fn send_whole(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.send_to(source, addr, data)
    }
    /// Sends `data` as datagrams of `segment_len` bytes, the last perhaps shorter. Returns how many
    /// bytes were taken: whole segments.
    ///
    /// # Errors
    /// `WouldBlock` if there was room for none.
    fn send_segments(
        &mut self,
        source: Source,
        addr: SocketAddr,
        data: &[u8],
        segment_len: usize,
    ) -> io::Result<usize>;
    /// Sends datagrams, in order. Returns how many were taken.
    ///
    /// # Errors
    /// Of the first.
    fn send_many(&mut self, source: Source, datagrams: &[(SocketAddr, &[u8])])
    -> io::Result<usize>;
    /// Takes datagrams: as many as have come and fit.
    ///
    /// # Errors
    /// `WouldBlock` if none has come; what an earlier datagram met on its way.
    fn receive(&mut self, source: Source, batch: &mut DatagramBatch) -> io::Result<()>;
    /// Says that nothing more will be written.
    fn shutdown_write(&mut self, source: Source);
    /// Closes a socket, or stops watching. No event follows.
    fn close(&mut self, source: Source);
    /// Where a socket is bound.
    ///
    /// # Errors
    /// As the system says.
    fn local_addr(&self, source: Source) -> io::Result<Address>;
    /// Who is at the other end.
    ///
    /// # Errors
    /// As the system says.
    fn peer_addr(&self, source: Source) -> io::Result<Address>;
    /// What went wrong with a socket since that was asked last.
    fn take_error(&mut self, source: Source) -> Option<io::Error>;
    /// The descriptor of a socket, in a world that has such.
    fn fd(&self, source: Source) -> Option<BorrowedFd<'_>>;
    /// Watches a descriptor that stays its owner's: one event, then none until it is
    /// [watched again](Self::rewatch).
    ///
    /// # Errors
    /// `Unsupported` in a world without descriptors; if the system cannot wait for such a one.
    fn watch(&mut self, fd: BorrowedFd<'_>, interest: Interest, token: Token)
    -> io::Result<Source>;
    /// Asks for another event. One that hung up and has nothing left to read gives none.
    ///
    /// # Errors
    /// As the system says.
    fn rewatch(&mut self, source: Source, interest: Interest, token: Token) -> io::Result<()>;
    /// Has a signal give events that say `readable`.
    ///
    /// # Errors
    /// For signals that cannot be caught.
    fn watch_signal(&mut self, signal: i32, token: Token) -> io::Result<Source>;
    /// Whether the signal came since that was asked last.
    fn take_signal(&mut self, source: Source) -> bool;
    /// Waits for events, for at most `timeout`, and appends them.
    ///
    /// # Errors
    /// Only such that make the loop impossible.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;
    /// What interrupts the wait.
    fn waker(&self) -> Arc<dyn Wake>;
    /// Whether jobs are to run in place, rather than on threads.
    fn is_single_threaded(&self) -> bool;
    /// Whether the next wait would return at once, if that can be told.
    fn has_events(&self) -> bool {
        false
    }
    /// Looks up a name in place, in a world that has names of its own; `None` asks the system.
    fn look_up(&mut self, name: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let _ = name;
        None
    }
}
