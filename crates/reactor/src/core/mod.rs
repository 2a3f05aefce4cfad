//! Everything about sockets and time that does not depend on the program: the part of the loop that
//! handlers, tasks and guards share.
//!
//! It stands behind a `RefCell`, and calls nothing of the program's while it is borrowed but a
//! connection's [`Transport`](crate::Transport).
//!
//! `stream` is a connection, `pipe` one without a socket, `bucket` a rate limit. A connection's life is in
//! `opening`, `readiness`, `reading`, `writing` and `ending`, with `limits` and `deadlines` beside; `tasks` is
//! what futures do with all that.

mod bucket;
mod deadlines;
mod ending;
mod limits;
mod opening;
mod pipe;
mod readiness;
mod reading;
mod stream;
mod tasks;
mod writing;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

pub(crate) use bucket::Bucket;
pub use bucket::{Direction, Rate};
pub(crate) use pipe::Pipe;
pub(crate) use stream::{State, Stream};
pub(crate) use writing::Flushed;

use crate::backend::{Backend, DatagramBatch, Sockets, Source};
use crate::pools::Pools;
use crate::timer_wheel::{TimerId, TimerWheel};
use crate::write_queue::WriteQueue;
use crate::{Address, Budgets, Interest, Token, Transport};

pub(crate) struct Core {
    pub(crate) backend: Sockets,
    /// The time, as of the latest call of a handler.
    pub(crate) now: Instant,
    /// The number of this turn.
    pub(crate) turn: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Sockets that may have something for their handler.
    pub(crate) ready: VecDeque<Token>,
    /// Connections with something to write.
    pub(crate) dirty: Vec<Token>,
    /// Connections that are over and have not been told.
    pub(crate) ended: Vec<Token>,
    pub(crate) timers: TimerWheel<Due>,
    buckets: Vec<Option<Bucket>>,
    /// How often buckets were drawn on.
    draws: u64,
    /// Tasks to be woken as soon as nothing is borrowed.
    pub(crate) wakers: Vec<Waker>,
    /// How many more things the task that runs may get done before it lets others run.
    pub(crate) task_share: u32,
    /// Where datagrams for tasks arrive.
    pub(crate) batch: DatagramBatch,
    /// Queues that are not in use.
    #[expect(clippy::vec_box, reason = "a connection keeps the box that it gets")]
    spare_queues: Vec<Box<WriteQueue>>,
    pub(crate) budgets: Budgets,
    /// How many bytes were queued of the connection that ended last.
    pub(crate) unsent: usize,
    pub(crate) pools: Pools,
    /// Whatever is gone and still has a callback, which is to be dropped too.
    pub(crate) orphans: Vec<Orphan>,
}

struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

pub(crate) enum Entry {
    Stream(Box<Stream>),
    Other(Box<Other>),
}

/// What is not a connection.
pub(crate) struct Other {
    pub(crate) source: Source,
    pub(crate) kind: OtherKind,
    /// It stands on the list of those to be called.
    pub(crate) is_listed: bool,
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
    pub(crate) is_hung_up: bool,
    /// Its handler asked to hear when it may write.
    pub(crate) wants_writable: bool,
    /// A task has it, not a handler.
    pub(crate) has_task: bool,
    /// Tasks that wait for it.
    pub(crate) read_waker: Option<Waker>,
    pub(crate) write_waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherKind {
    Listener,
    Datagrams,
    Watch(Interest),
    Signal(i32),
}

/// What a timer is for.
pub(crate) enum Due {
    /// A callback, which the reactor keeps by the timer's slot.
    Call,
    Wake(Waker),
    /// A connection may have been silent for too long.
    Stream(Token),
    /// A connection whose handler left bytes unread is called again.
    Unpark(Token),
    /// A listener tries again.
    Accept(Token),
    /// A bucket has filled.
    Bucket(u32),
}

/// What is to be done with a socket that is ready.
pub(crate) enum Act {
    /// It may stand now.
    Connect,
    Call {
        readable: bool,
        writable: bool,
    },
    /// Nobody reads it, and the peer is gone.
    Abandon,
    Linger,
    Other(OtherKind),
    Nothing,
}

pub(crate) enum Orphan {
    Timer(TimerId),
    Watch(Token),
    /// Of a write queue that was dropped.
    Mark(u32),
    Transport(#[expect(dead_code, reason = "kept to be dropped")] Box<dyn Transport>),
}

impl Core {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Self {
        let now = backend.now();
        Self {
            backend: Sockets::new(backend),
            now,
            turn: 1,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            ended: Vec::new(),
            timers: TimerWheel::new(now),
            buckets: Vec::new(),
            draws: 0,
            wakers: Vec::new(),
            task_share: TASK_SHARE,
            batch: DatagramBatch::default(),
            spare_queues: Vec::new(),
            budgets: Budgets::default(),
            unsent: 0,
            pools: Pools::new(),
            orphans: Vec::new(),
        }
    }

    /// The token that the next socket gets.
    pub(crate) fn vacant(&self) -> Token {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        Token { slot, generation: self.slots.get(slot as usize).map_or(0, |slot| slot.generation) }
    }

    pub(crate) fn fill(&mut self, token: Token, entry: Entry) {
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].entry = Some(entry),
            None => self.slots.push(Slot { generation: token.generation, entry: Some(entry) }),
        }
    }

    pub(crate) fn vacate(&mut self, token: Token) -> Option<Entry> {
        let slot = self
            .slots
            .get_mut(token.slot as usize)
            .filter(|slot| slot.generation == token.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot);
        Some(entry)
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.entry.is_some())
            .map(|(number, slot)| Token { slot: number as u32, generation: slot.generation })
    }

    pub(crate) fn entry(&self, token: Token) -> Option<&Entry> {
        let slot = self.slots.get(token.slot as usize)?;
        if slot.generation == token.generation { slot.entry.as_ref() } else { None }
    }

    pub(crate) fn entry_mut(&mut self, token: Token) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation == token.generation { slot.entry.as_mut() } else { None }
    }

    pub(crate) fn stream(&self, token: Token) -> Option<&Stream> {
        match self.entry(token)? {
            Entry::Stream(stream) => Some(stream),
            Entry::Other(_) => None,
        }
    }

    pub(crate) fn stream_mut(&mut self, token: Token) -> Option<&mut Stream> {
        match self.entry_mut(token)? {
            Entry::Stream(stream) => Some(stream),
            Entry::Other(_) => None,
        }
    }

    pub(crate) fn other(&self, token: Token) -> Option<&Other> {
        match self.entry(token)? {
            Entry::Other(other) => Some(other),
            Entry::Stream(_) => None,
        }
    }

    pub(crate) fn other_mut(&mut self, token: Token) -> Option<&mut Other> {
        match self.entry_mut(token)? {
            Entry::Other(other) => Some(other),
            Entry::Stream(_) => None,
        }
    }

    pub(crate) fn source(&self, token: Token) -> Option<Source> {
        Some(match self.entry(token)? {
            Entry::Stream(stream) => stream.source,
            Entry::Other(other) => other.source,
        })
    }

    pub(crate) fn add_stream(
        &mut self,
        token: Token,
        source: Source,
        peer: &Address,
        state: State,
    ) {
        let stream = Stream::new(source, peer.socket_addr(), state, self.now);
        self.fill(token, Entry::Stream(Box::new(stream)));
    }

    pub(crate) fn add_other(&mut self, token: Token, source: Source, kind: OtherKind) {
        let other = Other {
            source,
            kind,
            is_listed: false,
            may_read: false,
            may_write: kind == OtherKind::Datagrams,
            is_hung_up: false,
            wants_writable: false,
            has_task: false,
            read_waker: None,
            write_waker: None,
        };
        self.fill(token, Entry::Other(Box::new(other)));
    }

    /// Reads the clock: what takes so and so long takes it from now on, even if the loop has not turned
    /// for a while.
    pub(crate) fn tick(&mut self) -> Instant {
        self.now = self.backend.now();
        self.now
    }

    /// Whether the next turn has something to do at once.
    pub(crate) fn has_work(&self) -> bool {
        !(self.ready.is_empty()
            && self.dirty.is_empty()
            && self.ended.is_empty()
            && self.wakers.is_empty()
            && self.orphans.is_empty())
    }

    fn keep_queue(&mut self, queue: Box<WriteQueue>) {
        if self.spare_queues.len() < SPARE_QUEUES_MAX && queue.is_small() {
            self.spare_queues.push(queue);
        }
    }
}

/// Why a connection ends that was closed after a flush.
pub(crate) const FLUSHED: &str = "flushed";
/// Of what has no socket: no backend has so many.
pub(crate) const NO_SOURCE: Source = Source(u32::MAX);
/// How much a task gets done at once.
pub(crate) const TASK_SHARE: u32 = 128;
const SPARE_QUEUES_MAX: usize = 64;
