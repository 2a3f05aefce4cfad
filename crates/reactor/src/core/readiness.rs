//! Who is to be called: what the kernel says, and what follows from it.

use super::{Act, Core, Due, Entry, OtherKind, State};
use crate::backend::Source;
use crate::{Address, DatagramBatch, Event, Readiness, Token};
use std::io;
use std::time::Duration;

impl Core {
    /// Puts a socket on the list of those to be called, if it has reason to be there.
    pub(crate) fn list(&mut self, token: Token) {
        let is_new = match self.entry_mut(token) {
            Some(Entry::Stream(stream)) => {
                let has_reason = stream.wants_reading()
                    || stream.wants_connecting()
                    || stream.is_abandoned()
                    || stream.wants_writable && stream.may_write && !stream.has_queue();
                has_reason && !std::mem::replace(&mut stream.is_listed, has_reason)
            }
            Some(Entry::Other(other)) if !other.has_task => {
                let has_reason = match other.kind {
                    OtherKind::Listener | OtherKind::Signal(_) => other.may_read,
                    OtherKind::Datagrams => {
                        other.may_read || other.wants_writable && other.may_write
                    }
                    OtherKind::Watch(_) => other.may_read || other.may_write || other.is_hung_up,
                };
                has_reason && !std::mem::replace(&mut other.is_listed, has_reason)
            }
            Some(Entry::Other(_)) | None => false,
        };
        if is_new {
            self.ready.push_back(token);
        }
    }

    /// Has what is queued written out at the end of this turn.
    pub(crate) fn soil(&mut self, token: Token) {
        if let Some(stream) = self.stream_mut(token)
            && !stream.is_dirty
            && stream.state != State::Connecting
        {
            stream.is_dirty = true;
            self.dirty.push(token);
        }
    }

    /// Remembers what the kernel says only once.
    pub(crate) fn note(&mut self, event: Event) {
        let token = event.token;
        match self.entry_mut(token) {
            Some(Entry::Stream(stream)) => {
                stream.may_read |= event.readable;
                stream.is_parked &= !event.readable;
                stream.may_write |= event.writable;
                stream.has_end |= event.ended;
                stream.is_hung_up |= event.hung_up;
                let is_open = stream.state != State::Connecting;
                let is_for_task = stream.is_for_task();
                let flushes = stream.may_write && stream.has_queue()
                    || !stream.is_plain && (event.readable || event.writable);
                if is_for_task {
                    self.wake_stream(token, event.readable, event.writable);
                } else {
                    self.list(token);
                }
                if flushes && is_open {
                    self.soil(token);
                }
            }
            Some(Entry::Other(other)) => {
                other.may_read |= event.readable;
                other.may_write |= event.writable;
                other.is_hung_up |= event.hung_up;
                let read = event.readable.then(|| other.read_waker.take()).flatten();
                let write = event.writable.then(|| other.write_waker.take()).flatten();
                self.wakers.extend(read.into_iter().chain(write));
                self.list(token);
            }
            // Of one that was closed in this very turn.
            None => {}
        }
    }

    pub(crate) fn wake_stream(&mut self, token: Token, reader: bool, writer: bool) {
        let Some(extras) = self.stream_mut(token).and_then(|stream| stream.extras.as_mut()) else {
            return;
        };
        let reader = reader.then(|| extras.read_waker.take()).flatten();
        let writer = writer.then(|| extras.write_waker.take()).flatten();
        self.wakers.extend(reader.into_iter().chain(writer));
    }

    /// What a connection's handler is to be called for. It leaves the list.
    pub(crate) fn begin_dispatch(&mut self, token: Token) -> Act {
        match self.entry_mut(token) {
            Some(Entry::Stream(stream)) => {
                stream.is_listed = false;
                if stream.wants_connecting() {
                    return Act::Connect;
                }
                if stream.is_for_task() {
                    self.wake_stream(token, true, false);
                    return Act::Nothing;
                }
                if stream.is_abandoned() {
                    return Act::Abandon;
                }
                let writable = stream.wants_writable && stream.may_write && !stream.has_queue();
                stream.wants_writable &= !writable;
                match (stream.state, stream.wants_reading()) {
                    (State::Lingering, true) => Act::Linger,
                    (_, readable) => {
                        stream.has_read = false;
                        Act::Call { readable, writable }
                    }
                }
            }
            Some(Entry::Other(other)) => {
                other.is_listed = false;
                Act::Other(other.kind)
            }
            None => Act::Nothing,
        }
    }

    /// A connection's handler has been called to read. One that does not, again and again, is called
    /// again only after a while.
    pub(crate) fn end_reading(&mut self, token: Token) {
        let unpark_at = match self.stream_mut(token) {
            Some(stream) if stream.has_read || stream.is_paused => {
                stream.fruitless_calls = 0;
                None
            }
            Some(stream) if stream.fruitless_calls < FRUITLESS_CALLS_MAX => {
                stream.fruitless_calls += 1;
                None
            }
            Some(stream) => {
                let doublings = stream.fruitless_calls - FRUITLESS_CALLS_MAX;
                stream.fruitless_calls = stream.fruitless_calls.saturating_add(1);
                stream.is_parked = true;
                Some(Duration::from_millis(1 << doublings.min(7)).min(PARKED_MAX))
            }
            None => None,
        };
        if let Some(after) = unpark_at {
            tracing::trace!(?token, ?after, "its handler leaves bytes unread");
            self.timers.add(self.now + after, Due::Unpark(token));
        }
        self.list(token);
    }

    pub(crate) fn unpark(&mut self, token: Token) {
        if let Some(stream) = self.stream_mut(token) {
            stream.is_parked = false;
            self.list(token);
        }
    }

    pub(crate) fn accept(&mut self, token: Token) -> io::Result<(Source, Address)> {
        let source = self.source(token).ok_or(io::ErrorKind::NotConnected)?;
        let result = self.backend.accept(source);
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::WouldBlock
            && let Some(listener) = self.other_mut(token)
        {
            listener.may_read = false;
        }
        result
    }

    /// A listener that could not accept tries again soon, not at once: most likely there are no
    /// descriptors left.
    pub(crate) fn accept_later(&mut self, token: Token) {
        if let Some(listener) = self.other_mut(token) {
            listener.may_read = false;
            self.timers.add(self.now + ACCEPT_BACKOFF, Due::Accept(token));
        }
    }

    pub(crate) fn accept_again(&mut self, token: Token) {
        let Some(listener) = self.other_mut(token) else { return };
        listener.may_read = true;
        let waker = listener.read_waker.take();
        self.wakers.extend(waker);
        self.list(token);
    }

    /// Returns whether there were any datagrams.
    pub(crate) fn receive(&mut self, token: Token, batch: &mut DatagramBatch) -> io::Result<bool> {
        let Some(source) = self.source(token) else { return Ok(false) };
        match self.backend.receive(source, batch) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(socket) = self.other_mut(token) {
                    socket.may_read = false;
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a datagram socket's handler asked to write, and may.
    pub(crate) fn takes_writable(&mut self, token: Token) -> bool {
        let Some(socket) = self.other_mut(token) else { return false };
        let is_writable = socket.wants_writable && socket.may_write;
        socket.wants_writable &= !is_writable;
        is_writable
    }

    pub(crate) fn take_readiness(&mut self, token: Token) -> Readiness {
        let Some(other) = self.other_mut(token) else {
            return Readiness { readable: false, writable: false, hung_up: false };
        };
        let readiness = Readiness {
            readable: other.may_read,
            writable: other.may_write,
            hung_up: other.is_hung_up,
        };
        (other.may_read, other.may_write, other.is_hung_up) = (false, false, false);
        readiness
    }
}

/// How often a handler is called in succession that does not read.
const FRUITLESS_CALLS_MAX: u8 = 3;
const PARKED_MAX: Duration = Duration::from_millis(100);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
