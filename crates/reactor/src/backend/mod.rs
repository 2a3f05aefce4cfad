//! The seam between the loop and the world: what sockets, time and chance are.
//!
//! `epoll` is the real world, [`simulated`](crate::simulated) a pretended one. Above the seam nobody can tell.

pub(crate) mod epoll;

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{ConnectOptions, ListenOptions, Token};

/// A socket, as its backend knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(pub u32);

/// A socket may have become ready.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token that it was opened with.
    pub token: Token,
    /// Reading, or accepting, will not block.
    pub readable: bool,
    /// Writing will not block, or connecting has ended.
    pub writable: bool,
    /// The peer will send nothing more. Told once and never again, however much is left to read.
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
        addr: SocketAddr,
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
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source>;
    /// Takes a connection that has come. It reports nothing until it is registered.
    ///
    /// # Errors
    /// `WouldBlock` if none has.
    fn accept(&mut self, listener: Source) -> io::Result<(Source, SocketAddr)>;
    /// Has an accepted connection report by this token.
    ///
    /// # Errors
    /// If the system has no room for it.
    fn register(&mut self, source: Source, token: Token) -> io::Result<()>;
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
    /// Reads into `slices` in turn; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet.
    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
    /// Writes from `slices` in turn, as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn write(&mut self, source: Source, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Sends a datagram.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; it may be dropped then.
    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()>;
    /// Takes a datagram.
    ///
    /// # Errors
    /// `WouldBlock` if none has come.
    fn receive_from(
        &mut self,
        source: Source,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr)>;
    /// Says that nothing more will be written.
    fn shutdown_write(&mut self, source: Source);
    /// Closes a socket. No event follows.
    fn close(&mut self, source: Source);
    /// Where a socket is bound.
    ///
    /// # Errors
    /// As the system says.
    fn local_addr(&self, source: Source) -> io::Result<SocketAddr>;
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
