//! One connection: its socket, its write queue, and what it is waiting for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::pipe::Pipe;
use crate::backend::Source;
use crate::timer_wheel::TimerId;
use crate::write_queue::WriteQueue;
use crate::{Reason, Transport};

/// A connection. There may be very many, most of them idle: what few need is boxed.
pub(crate) struct Stream {
    pub(crate) source: Source,
    /// Unless it is a Unix socket's or a pipe's.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) state: State,
    /// Here while something is queued.
    pub(crate) queue: Option<Box<WriteQueue>>,
    pub(crate) extras: Option<Box<Extras>>,
    /// When bytes last went either way.
    pub(crate) alive_at: Instant,
    pub(crate) deadline: Option<Instant>,
    /// That is until when it is to stand, and no longer holds then.
    pub(crate) has_connect_deadline: bool,
    /// For how long it may be silent; 0 is for ever.
    pub(crate) idle_max_millis: u32,
    /// Stands for whichever comes first of deadline and silence, or earlier; and for when it is set.
    pub(crate) timer: Option<(TimerId, Instant)>,
    pub(crate) high: u32,
    pub(crate) low: u32,
    /// How much it may still read in the turn of this number.
    pub(crate) read_share: u32,
    pub(crate) share_turn: u32,
    /// How often in succession its handler was called and did not read.
    pub(crate) fruitless_calls: u8,
    /// The queue was above the high-water mark, and has not been below the low one since.
    pub(crate) was_full: bool,
    /// And its handler has been told.
    pub(crate) has_told_full: bool,
    /// Reading may not block. What the kernel said once stays true until a read falls short.
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
    pub(crate) is_paused: bool,
    /// Its handler left bytes unread again and again: it is called again by a timer.
    pub(crate) is_parked: bool,
    /// A rate limit holds it back, until a bucket has filled.
    pub(crate) reads_wait: bool,
    pub(crate) writes_wait: bool,
    /// It stands on the list of those to be read from.
    pub(crate) is_listed: bool,
    /// It stands on the list of those to be written to.
    pub(crate) is_dirty: bool,
    /// Its handler asked to hear when it may write.
    pub(crate) wants_writable: bool,
    /// The peer's end is known, which is told only once; or reads may fall short for other reasons, as of
    /// what is no socket, or has urgent data: reading goes on until it is met, or until there is nothing.
    pub(crate) has_end: bool,
    /// Both directions are over; if nobody reads, it is closed for that.
    pub(crate) is_hung_up: bool,
    /// There is nothing between it and its socket.
    pub(crate) is_plain: bool,
    /// A task has it, not a handler.
    pub(crate) has_task: bool,
    /// Whether its handler has read since it was called.
    pub(crate) has_read: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Open,
    /// It ends when all that is queued is with the kernel.
    Flushing,
    /// All is with the kernel; the peer's end is awaited, so that what it still sends does no harm.
    Lingering,
    /// It is over; `closed` is to be called.
    Ended,
}

/// What few connections need.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) unread: VecDeque<Bytes>,
    pub(crate) transport: Option<Box<dyn Transport>>,
    pub(crate) pipe: Option<Pipe>,
    /// Buckets that reading, and writing, draws on.
    pub(crate) read_buckets: Vec<u32>,
    pub(crate) write_buckets: Vec<u32>,
    /// The number of the latest draw on them, reading and writing.
    pub(crate) read_drawn: u64,
    pub(crate) write_drawn: u64,
    pub(crate) read_waker: Option<Waker>,
    pub(crate) write_waker: Option<Waker>,
    /// Guards that hold it back.
    pub(crate) corks: usize,
    /// It is to be closed after a flush, and does not stand yet.
    pub(crate) closes_when_open: bool,
    pub(crate) is_corked: bool,
    /// The transport has been told that nothing more will be written.
    pub(crate) has_finished: bool,
    /// The socket has not, since the transport has something left.
    pub(crate) owes_goodbye: bool,
    pub(crate) ended: Option<Reason>,
}

impl Stream {
    pub(crate) fn new(
        source: Source,
        peer: Option<SocketAddr>,
        state: State,
        now: Instant,
    ) -> Self {
        Self {
            source,
            peer,
            state,
            queue: None,
            extras: None,
            alive_at: now,
            deadline: None,
            has_connect_deadline: false,
            idle_max_millis: 0,
            timer: None,
            high: HIGH,
            low: LOW,
            read_share: 0,
            share_turn: 0,
            fruitless_calls: 0,
            was_full: false,
            has_told_full: false,
            may_read: false,
            may_write: state == State::Open,
            is_paused: false,
            is_parked: false,
            reads_wait: false,
            writes_wait: false,
            is_listed: false,
            is_dirty: false,
            wants_writable: false,
            has_end: false,
            is_hung_up: false,
            is_plain: true,
            has_task: false,
            has_read: false,
        }
    }

    pub(crate) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// How many bytes are queued.
    pub(crate) fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    pub(crate) fn has_queue(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    /// Whether the program may still write.
    pub(crate) const fn takes_writes(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open)
    }

    /// Whether what happens is told to a task. One that is closing looks after itself.
    pub(crate) const fn is_for_task(&self) -> bool {
        self.has_task && matches!(self.state, State::Open | State::Flushing | State::Ended)
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| !extras.unread.is_empty())
    }

    pub(crate) const fn wants_connecting(&self) -> bool {
        self.may_write && matches!(self.state, State::Connecting)
    }

    pub(crate) fn wants_reading(&self) -> bool {
        match self.state {
            State::Open | State::Flushing => {
                (self.may_read && !self.reads_wait || self.has_unread())
                    && !self.is_paused
                    && !self.is_parked
            }
            State::Lingering => self.may_read && !self.reads_wait,
            State::Connecting | State::Ended => false,
        }
    }

    /// Nobody reads, and there is nobody to write to.
    pub(crate) const fn is_abandoned(&self) -> bool {
        self.is_paused
            && self.is_hung_up
            && matches!(self.state, State::Open | State::Flushing | State::Lingering)
    }

    /// When it is to end unless something happens before.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        let silence = Duration::from_millis(self.idle_max_millis.into());
        let silent_at = (self.idle_max_millis > 0).then(|| self.alive_at + silence);
        self.deadline.into_iter().chain(silent_at).min()
    }

    /// Bytes that were put back. Never more than one piece of them.
    pub(crate) fn take_unread(&mut self, buffer: &mut [u8]) -> usize {
        let Some(extras) = &mut self.extras else { return 0 };
        let Some(first) = extras.unread.front_mut() else { return 0 };
        let len = first.len().min(buffer.len());
        buffer[..len].copy_from_slice(&first[..len]);
        first.advance(len);
        if first.is_empty() {
            extras.unread.pop_front();
        }
        len
    }
}

const HIGH: u32 = 1024 * 1024;
const LOW: u32 = 256 * 1024;
