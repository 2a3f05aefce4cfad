//! One connection: its socket, its handler, its write queue, and what it is waiting for.

use std::fmt;
use std::net::SocketAddr;

use crate::backend::Source;
use crate::timer::TimerId;
use crate::write_queue::WriteQueue;
use crate::{Acceptor, DatagramHandler, Handler, Reason};

/// What a slot of the reactor holds.
pub(crate) enum Entry<S> {
    Stream(Box<Stream<S>>),
    Listener { source: Source, acceptor: Option<Box<dyn Acceptor<S>>>, is_ready: bool },
    Datagrams { source: Source, handler: Option<Box<dyn DatagramHandler<S>>>, is_ready: bool },
}

pub(crate) struct Stream<S> {
    pub(crate) source: Source,
    pub(crate) peer: SocketAddr,
    /// Not here only while it is being called.
    pub(crate) handler: Option<Box<dyn Handler<S>>>,
    pub(crate) queue: WriteQueue,
    pub(crate) high: usize,
    pub(crate) low: usize,
    /// The queue was above the high-water mark, and has not been below the low one since.
    pub(crate) was_full: bool,
    pub(crate) is_connecting: bool,
    /// Reading may not block. What the kernel said once stays true until a read falls short.
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
    pub(crate) is_paused: bool,
    /// It stands on the list of those to be read from.
    pub(crate) is_listed: bool,
    /// It stands on the list of those to be written to.
    pub(crate) is_dirty: bool,
    /// The peer's end is known, which is told only once: reading goes on until it is met.
    pub(crate) has_end: bool,
    /// Both directions are over; if nobody reads, it is closed for that.
    pub(crate) is_hung_up: bool,
    pub(crate) closes_when_flushed: bool,
    pub(crate) deadline: Option<TimerId>,
    /// It is over; `closed` is to be called.
    pub(crate) ended: Option<Reason>,
}

impl<S> Stream<S> {
    pub(crate) fn new(
        source: Source,
        peer: SocketAddr,
        handler: Box<dyn Handler<S>>,
        is_connecting: bool,
    ) -> Self {
        Self {
            source,
            peer,
            handler: Some(handler),
            queue: WriteQueue::default(),
            high: HIGH,
            low: LOW,
            was_full: false,
            is_connecting,
            may_read: false,
            may_write: !is_connecting,
            is_paused: false,
            is_listed: false,
            is_dirty: false,
            has_end: false,
            is_hung_up: false,
            closes_when_flushed: false,
            deadline: None,
            ended: None,
        }
    }

    pub(crate) const fn wants_connecting(&self) -> bool {
        self.is_connecting && self.may_write && self.ended.is_none()
    }

    /// Nobody reads, and there is nobody to write to.
    pub(crate) const fn is_abandoned(&self) -> bool {
        self.is_paused && self.is_hung_up && !self.is_connecting && self.ended.is_none()
    }

    pub(crate) const fn wants_reading(&self) -> bool {
        self.may_read && !self.is_paused && !self.is_connecting && self.ended.is_none()
    }
}

impl<S> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .field("queued", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Entry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(stream) => stream.fmt(f),
            Self::Listener { source, .. } => write!(f, "Listener({source:?})"),
            Self::Datagrams { source, .. } => write!(f, "Datagrams({source:?})"),
        }
    }
}

const HIGH: usize = 1024 * 1024;
const LOW: usize = 256 * 1024;
