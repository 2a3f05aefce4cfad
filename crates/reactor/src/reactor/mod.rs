//! The loop.

mod turn;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::backend::epoll::Epoll;
use crate::backend::{Backend, Event, Source};
use crate::handler::{Accepted, Acceptor, Closed, DatagramHandler, Handler, Read, Reason};
use crate::remote::{Post, Remote, Shared};
use crate::simulated::Host;
use crate::stream::{Entry, Stream};
use crate::timer::{TimerId, Timers};
use crate::worker_pool::WorkerPool;
use crate::{ConnectOptions, ListenOptions, Token};

/// An event loop. `S` is the program's state: every handler gets it as an argument.
pub struct Reactor<S> {
    backend: Box<dyn Backend>,
    now: Instant,
    slots: Vec<Slot<S>>,
    free: Vec<u32>,
    /// Connections that may have something to read.
    ready: VecDeque<Token>,
    /// Connections with something to write.
    dirty: Vec<Token>,
    /// Connections that are over and have not been told.
    ended: Vec<Token>,
    timers: Timers<Call<S>>,
    /// Calls for this turn or the next.
    calls: VecDeque<Call<S>>,
    hooks: Vec<Hook<S>>,
    shared: Arc<Shared<S>>,
    workers: WorkerPool,
    resolvers: WorkerPool,
    /// What to do with the results of offloaded jobs.
    offloaded: BTreeMap<u64, Finish<S>>,
    next_job: u64,
    events: Vec<Event>,
    datagram: Vec<u8>,
    /// A connection that is being offered to its acceptor.
    unclaimed: Option<Source>,
}

struct Slot<S> {
    generation: u32,
    entry: Option<Entry<S>>,
}

type Call<S> = Box<dyn FnOnce(&mut S, &mut Reactor<S>)>;
type Hook<S> = Box<dyn FnMut(&mut S, &mut Reactor<S>)>;
type Finish<S> = Box<dyn FnOnce(Box<dyn Any + Send>, &mut S, &mut Reactor<S>)>;

impl<S: 'static> Reactor<S> {
    /// A loop in the real world.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_backend(Box::new(Epoll::new()?)))
    }

    /// A loop on a host of a [simulated](crate::simulated) world. Left to itself it moves the world's
    /// clock as it waits; several in one world are turned by [`World::step`](crate::simulated::World::step).
    pub fn simulated(host: Host) -> Self {
        Self::with_backend(Box::new(host))
    }

    /// A loop in any world.
    pub fn with_backend(backend: Box<dyn Backend>) -> Self {
        Self {
            now: backend.now(),
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            ended: Vec::new(),
            timers: Timers::new(),
            calls: VecDeque::new(),
            hooks: Vec::new(),
            shared: Shared::new(backend.waker()),
            workers: WorkerPool::new("worker", WORKERS),
            resolvers: WorkerPool::detached("resolver", RESOLVERS),
            offloaded: BTreeMap::new(),
            next_job: 0,
            events: Vec::new(),
            datagram: vec![0; DATAGRAM_LEN_MAX],
            unclaimed: None,
            backend,
        }
    }

    /// The time, as of the latest call of a handler.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A random number, for choices that need not be secret.
    pub fn random(&mut self) -> u64 {
        self.backend.random()
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote::new(Arc::clone(&self.shared))
    }

    /// Opens a connection. The handler hears of it by `connected` or by `closed`.
    ///
    /// # Errors
    /// If the system refuses at once; the handler is dropped.
    pub fn connect(
        &mut self,
        addr: SocketAddr,
        options: &ConnectOptions,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.connect(addr, options, token)?;
        self.fill(token, Entry::Stream(Box::new(Stream::new(source, addr, handler, true))));
        self.set_deadline(token, Some(self.now + options.timeout));
        Ok(token)
    }

    /// Listens for connections.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        acceptor: Box<dyn Acceptor<S>>,
    ) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.listen(addr, options, token)?;
        self.fill(token, Entry::Listener { source, acceptor: Some(acceptor), is_ready: false });
        Ok(token)
    }

    /// Opens a datagram socket.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        handler: Box<dyn DatagramHandler<S>>,
    ) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.bind_udp(addr, options, token)?;
        self.fill(token, Entry::Datagrams { source, handler: Some(handler), is_ready: false });
        Ok(token)
    }

    /// Keeps a connection that has come. Only from within [`Acceptor::accepted`]: what is not attached
    /// by its end is closed.
    ///
    /// # Errors
    /// If the system has no room for it; it is closed.
    pub fn attach(
        &mut self,
        accepted: Accepted,
        handler: Box<dyn Handler<S>>,
    ) -> io::Result<Token> {
        if self.unclaimed != Some(accepted.source) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let token = self.vacant();
        self.backend.register(accepted.source, token)?;
        self.unclaimed = None;
        self.fill(
            token,
            Entry::Stream(Box::new(Stream::new(accepted.source, accepted.peer, handler, false))),
        );
        Ok(token)
    }

    /// Sends a datagram. One that finds no room is dropped, as the network does.
    ///
    /// # Errors
    /// As the system says, and if there is no such socket.
    pub fn send_to(&mut self, token: Token, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        let Some(Entry::Datagrams { source, .. }) = self.entry(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let source = *source;
        match self.backend.send_to(source, addr, data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Where a socket is bound.
    pub fn local_addr(&self, token: Token) -> Option<SocketAddr> {
        let source = match self.entry(token)? {
            Entry::Stream(stream) => stream.source,
            Entry::Listener { source, .. } | Entry::Datagrams { source, .. } => *source,
        };
        self.backend.local_addr(source).ok()
    }

    /// Who is at the other end of a connection.
    pub fn peer_addr(&self, token: Token) -> Option<SocketAddr> {
        self.stream(token).map(|stream| stream.peer)
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// If the connection broke. Return it from the handler, and the connection ends with it.
    pub fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<Read> {
        self.read_vectored(token, &mut [IoSliceMut::new(buffer)])
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
        let Some(stream) = stream_mut(&mut self.slots, token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        if room == 0 {
            return Ok(Read::Data(0));
        }
        match self.backend.read(stream.source, slices) {
            Ok(0) => {
                stream.may_read = false;
                Ok(Read::Eof)
            }
            Ok(count) => {
                // The kernel had no more; if some comes, it says so. An end that it has seen it does not
                // say twice.
                stream.may_read = count == room || stream.has_end;
                Ok(Read::Data(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.may_read = false;
                Ok(Read::WouldBlock)
            }
            Err(error) => Err(error),
        }
    }

    /// Queues bytes. They go out at the end of this turn, all that was queued in it together.
    ///
    /// # Errors
    /// If the connection is over or about to be.
    pub fn write(&mut self, token: Token, chunk: impl Into<Bytes>) -> Result<(), Closed> {
        let stream = stream_mut(&mut self.slots, token)
            .filter(|stream| stream.ended.is_none() && !stream.closes_when_flushed);
        let stream = stream.ok_or(Closed)?;
        stream.queue.push(chunk.into());
        stream.was_full |= stream.queue.len() >= stream.high;
        if !stream.is_dirty && !stream.is_connecting {
            stream.is_dirty = true;
            self.dirty.push(token);
        }
        Ok(())
    }

    /// How many bytes are queued and not yet with the kernel.
    pub fn queued(&self, token: Token) -> usize {
        self.stream(token).map_or(0, |stream| stream.queue.len())
    }

    /// Whether the queue has been at the high-water mark, and not at the low one since.
    pub fn is_full(&self, token: Token) -> bool {
        self.stream(token).is_some_and(|stream| stream.was_full)
    }

    /// Sets the marks, in bytes: after the queue has been at `high`, `drained` is called when it has
    /// fallen to `low`. Default: 1 MiB and 256 KiB.
    pub fn set_water(&mut self, token: Token, high: usize, low: usize) {
        if let Some(stream) = stream_mut(&mut self.slots, token) {
            (stream.high, stream.low) = (high, low.min(high));
        }
    }

    /// Calls `readable` no more until [`resume`](Self::resume): the peer will have to wait. If it resets
    /// the connection meanwhile, that is the end, whatever it had sent before.
    pub fn pause(&mut self, token: Token) {
        if let Some(stream) = stream_mut(&mut self.slots, token) {
            stream.is_paused = true;
            list(stream, token, &mut self.ready);
        }
    }

    /// Calls `readable` again, next turn if anything has come meanwhile.
    pub fn resume(&mut self, token: Token) {
        if let Some(stream) = stream_mut(&mut self.slots, token) {
            stream.is_paused = false;
            list(stream, token, &mut self.ready);
        }
    }

    /// Closes a socket. Of a connection, what is queued is dropped, and the handler's `closed` is called
    /// at the end of this turn. Harmless if it is over.
    pub fn close(&mut self, token: Token, reason: &'static str) {
        self.end(token, Reason::Local(reason));
    }

    /// Closes a connection when all that is queued is with the kernel, or after `patience`.
    pub fn close_after_flush(&mut self, token: Token, patience: Duration) {
        let Some(stream) = stream_mut(&mut self.slots, token) else { return };
        stream.closes_when_flushed = true;
        if stream.queue.len() == 0 {
            self.end(token, Reason::Local("flushed"));
        } else {
            self.set_deadline(token, Some(self.now + patience));
        }
    }

    /// Ends the connection with [`Reason::Timeout`] at a time, unless that is changed before.
    pub fn set_deadline(&mut self, token: Token, at: Option<Instant>) {
        let Some(stream) = stream_mut(&mut self.slots, token) else { return };
        if let Some(before) = stream.deadline.take() {
            self.timers.cancel(before);
        }
        if let Some(at) = at {
            let call: Call<S> = Box::new(move |_, reactor| reactor.end(token, Reason::Timeout));
            stream.deadline = Some(self.timers.add(at, call));
        }
    }

    /// Calls back at a time, or in the next turn if that has passed.
    pub fn add_timer(
        &mut self,
        at: Instant,
        call: impl FnOnce(&mut S, &mut Self) + 'static,
    ) -> TimerId {
        self.timers.add(at, Box::new(call))
    }

    /// Takes a timer back. Returns whether it was still to come.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer).is_some()
    }

    /// Has a worker thread do `job`, then calls `done` with what came of it. If the job panics, that is
    /// logged and `done` is dropped.
    pub fn offload<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T, &mut S, &mut Self) + 'static,
    ) {
        self.offload_to(Pool::Workers, job, done);
    }

    /// How many jobs are with the worker threads, or their results on the way back.
    pub fn offloaded_count(&self) -> usize {
        self.offloaded.len()
    }

    /// Looks up a host's addresses, on a thread of its own kind. An address is its own answer.
    pub fn resolve(
        &mut self,
        host: &str,
        port: u16,
        done: impl FnOnce(io::Result<Vec<SocketAddr>>, &mut S, &mut Self) + 'static,
    ) {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse() {
            self.calls.push_back(Box::new(move |state, reactor| {
                done(Ok(vec![SocketAddr::new(ip, port)]), state, reactor);
            }));
            return;
        }
        if let Some(found) = self.backend.look_up(host) {
            let found =
                found.map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
            self.calls.push_back(Box::new(move |state, reactor| done(found, state, reactor)));
            return;
        }
        let host = host.to_owned();
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        self.offload_to(Pool::Resolvers, look_up, done);
    }

    fn offload_to<T: Send + 'static>(
        &mut self,
        pool: Pool,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T, &mut S, &mut Self) + 'static,
    ) {
        if self.backend.is_single_threaded() {
            match catch_unwind(AssertUnwindSafe(job)) {
                Ok(result) => self
                    .calls
                    .push_back(Box::new(move |state, reactor| done(result, state, reactor))),
                Err(_panic) => tracing::error!("a job panicked: its result is lost"),
            }
            return;
        }
        let id = self.next_job;
        self.next_job += 1;
        let finish: Finish<S> = Box::new(move |result, state, reactor| match result.downcast() {
            Ok(result) => done(*result, state, reactor),
            Err(_) => tracing::error!("a job on a worker thread panicked: its result is lost"),
        });
        self.offloaded.insert(id, finish);
        let shared = Arc::clone(&self.shared);
        let pool = match pool {
            Pool::Workers => &mut self.workers,
            Pool::Resolvers => &mut self.resolvers,
        };
        pool.run(Box::new(move || {
            let result: Box<dyn Any + Send> = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(result) => Box::new(result),
                Err(panic) => Box::new(Panicked(panic)),
            };
            if shared.post(Post::Done(id, result)).is_err() {
                tracing::trace!("the loop ended before a job of it");
            }
        }));
    }

    /// How many jobs may run at once. Default: 2.
    pub fn set_worker_threads(&mut self, count: usize) {
        self.workers.set_threads_max(count);
    }

    /// Calls `hook` at the end of each turn.
    pub fn on_turn_end(&mut self, hook: impl FnMut(&mut S, &mut Self) + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// Makes [`run`](Self::run) return after this turn.
    pub fn stop(&mut self) {
        self.shared.set_stopped();
    }

    /// The token that the next socket gets.
    fn vacant(&self) -> Token {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        Token { slot, generation: self.slots.get(slot as usize).map_or(0, |slot| slot.generation) }
    }

    fn fill(&mut self, token: Token, entry: Entry<S>) {
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].entry = Some(entry),
            None => self.slots.push(Slot { generation: token.generation, entry: Some(entry) }),
        }
    }

    fn vacate(&mut self, token: Token) -> Option<Entry<S>> {
        let slot = self
            .slots
            .get_mut(token.slot as usize)
            .filter(|slot| slot.generation == token.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot);
        Some(entry)
    }

    fn entry(&self, token: Token) -> Option<&Entry<S>> {
        let slot = self
            .slots
            .get(token.slot as usize)
            .filter(|slot| slot.generation == token.generation)?;
        slot.entry.as_ref()
    }

    fn entry_mut(&mut self, token: Token) -> Option<&mut Entry<S>> {
        let slot = self
            .slots
            .get_mut(token.slot as usize)
            .filter(|slot| slot.generation == token.generation)?;
        slot.entry.as_mut()
    }

    fn stream(&self, token: Token) -> Option<&Stream<S>> {
        match self.entry(token)? {
            Entry::Stream(stream) => Some(stream),
            Entry::Listener { .. } | Entry::Datagrams { .. } => None,
        }
    }
}

/// Which threads a job is for.
#[derive(Clone, Copy)]
enum Pool {
    Workers,
    Resolvers,
}

/// In place of the result of a job that panicked.
struct Panicked(#[expect(dead_code, reason = "kept for whoever debugs")] Box<dyn Any + Send>);

/// A stream by its token, borrowing nothing but the slots.
fn stream_mut<S>(slots: &mut [Slot<S>], token: Token) -> Option<&mut Stream<S>> {
    let slot =
        slots.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation)?;
    match slot.entry.as_mut()? {
        Entry::Stream(stream) => Some(stream),
        Entry::Listener { .. } | Entry::Datagrams { .. } => None,
    }
}

/// Puts a connection on the list of those to be called, if it has reason to be there.
fn list<S>(stream: &mut Stream<S>, token: Token, ready: &mut VecDeque<Token>) {
    let has_reason = stream.wants_reading() || stream.wants_connecting() || stream.is_abandoned();
    if has_reason && !stream.is_listed {
        stream.is_listed = true;
        ready.push_back(token);
    }
}

impl<S> Drop for Reactor<S> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<S> std::fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("sockets", &(self.slots.len() - self.free.len()))
            .finish_non_exhaustive()
    }
}

const WORKERS: usize = 2;
const RESOLVERS: usize = 2;
const DATAGRAM_LEN_MAX: usize = 64 * 1024;
