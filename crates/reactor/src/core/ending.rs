//! How connections end.

use super::limits::drop_bucket_user;
use super::reading::{SocketWire, guarded};
use super::{Core, Due, Entry, FLUSHED, NO_SOURCE, Orphan, State, Stream};
use crate::timer_wheel::TimerWheel;
use crate::{Read, Reason, Token};
use std::io;
use std::io::IoSliceMut;
use std::time::Duration;

impl Core {
    /// Ends a connection, which is told at the end of this turn; closes anything else.
    pub(crate) fn end(&mut self, token: Token, reason: Reason) {
        match self.entry_mut(token) {
            Some(Entry::Stream(stream)) if stream.state != State::Ended => {
                tracing::debug!(?token, peer = ?stream.peer, %reason, "ends");
                stream.state = State::Ended;
                stream.extras().ended = Some(reason);
                self.ended.push(token);
            }
            Some(Entry::Stream(_)) => {}
            Some(Entry::Other(other)) => {
                let source = other.source;
                self.backend.close(source);
                if let Some(mut entry) = self.vacate(token) {
                    self.wake_all_of(&mut entry);
                }
            }
            None => {}
        }
    }

    /// A connection is over: its socket is closed, and its slot free. Of a task's the slot stays, until
    /// the task has heard of it.
    pub(crate) fn bury(&mut self, token: Token) -> Option<Reason> {
        let Some(Entry::Stream(mut stream)) = self.take_entry(token) else { return None };
        self.unsent = stream.queued();
        self.release(&mut stream);
        if stream.has_task {
            self.put_entry(token, Entry::Stream(stream));
            self.wake_stream(token, true, true);
            return None;
        }
        self.put_entry(token, Entry::Stream(stream));
        match self.vacate(token) {
            Some(Entry::Stream(stream)) => stream.extras.and_then(|extras| extras.ended),
            Some(Entry::Other(_)) | None => None,
        }
    }

    /// Closes the socket of a connection that is over and lets go of all that belonged to it.
    pub(crate) fn release(&mut self, stream: &mut Stream) {
        if let Some((timer, _)) = stream.timer.take() {
            self.timers.cancel(timer);
        }
        let source = std::mem::replace(&mut stream.source, NO_SOURCE);
        let transport = stream.extras.as_mut().and_then(|extras| extras.transport.take());
        if let Some(mut transport) = transport {
            // It may have a last word, such as what the peer did wrong. If there is no room, there is not.
            let mut wire = SocketWire { backend: &mut self.backend, source, is_full: false };
            guarded(|| transport.flush(&mut wire)).ok();
            // It may hold guards, which want to borrow what is borrowed now.
            self.orphans.push(Orphan::Transport(transport));
        }
        self.backend.close(source);
        if let Some(mut queue) = stream.queue.take() {
            let (_, marks) = queue.take();
            self.orphans.extend(marks.into_iter().map(Orphan::Mark));
            self.keep_queue(queue);
        }
        if let Some(extras) = &mut stream.extras {
            for bucket in extras.read_buckets.drain(..).chain(extras.write_buckets.drain(..)) {
                drop_bucket_user(&mut self.buckets, &mut self.timers, bucket);
            }
            if let Some(pipe) = extras.pipe.take() {
                self.pipe_ends(pipe.peer, pipe.is_finished);
            }
        }
    }

    /// Closes everything: the reactor ends. Whoever waits for something is told. What is returned may
    /// hold guards, and is to be dropped when nothing is borrowed.
    #[must_use]
    pub(crate) fn close_all(&mut self) -> Vec<Entry> {
        let timers = std::mem::replace(&mut self.timers, TimerWheel::new(self.now));
        for due in timers.into_items() {
            if let Due::Wake(waker) = due {
                self.wakers.push(waker);
            }
        }
        let tokens: Vec<Token> = self.tokens().collect();
        let mut closed = Vec::new();
        for token in tokens {
            if let Some(source) = self.source(token) {
                self.backend.close(source);
            }
            if let Some(mut entry) = self.vacate(token) {
                self.wake_all_of(&mut entry);
                closed.push(entry);
            }
        }
        closed
    }

    pub(crate) fn wake_all_of(&mut self, entry: &mut Entry) {
        let (reader, writer) = match entry {
            Entry::Stream(stream) => match &mut stream.extras {
                Some(extras) => (extras.read_waker.take(), extras.write_waker.take()),
                None => (None, None),
            },
            Entry::Other(other) => (other.read_waker.take(), other.write_waker.take()),
        };
        self.wakers.extend(reader.into_iter().chain(writer));
    }

    pub(crate) fn take_entry(&mut self, token: Token) -> Option<Entry> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation == token.generation { slot.entry.take() } else { None }
    }

    pub(crate) fn put_entry(&mut self, token: Token, entry: Entry) {
        self.slots[token.slot as usize].entry = Some(entry);
    }

    /// Whether a connection is being closed after a flush.
    pub(crate) fn is_closing(&self, token: Token) -> bool {
        self.stream(token)
            .is_some_and(|stream| matches!(stream.state, State::Flushing | State::Lingering))
    }

    /// A connection is to be closed when all that is queued is with the kernel.
    pub(crate) fn close_after_flush(&mut self, token: Token, patience: Duration) {
        let deadline = self.tick().checked_add(patience);
        let Some(stream) = self.stream_mut(token).filter(|stream| stream.takes_writes()) else {
            return;
        };
        match (stream.state, stream.has_queue()) {
            // Nothing has been sent, and nothing will be.
            (State::Connecting, false) => return self.end(token, Reason::Local(FLUSHED)),
            (State::Connecting, true) => stream.extras().closes_when_open = true,
            (_, _) => stream.state = State::Flushing,
        }
        self.set_deadline(token, deadline);
        self.soil(token);
    }

    /// A connection that is to be closed has nothing left to write: it says so, and waits for the peer.
    pub(crate) fn finish_flushing(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else { return };
        // The transport may have had something left when it was asked to finish.
        let owes_goodbye = stream.extras.as_ref().is_some_and(|extras| extras.owes_goodbye);
        let is_flushing = stream.state == State::Flushing;
        if !(is_flushing || owes_goodbye && stream.state == State::Open) {
            return;
        }
        match self.say_goodbye(token) {
            Ok(()) if is_flushing => {}
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return self.end(token, error.into()),
        }
        let patience = self.now + LINGER_MAX;
        let Some(stream) = self.stream_mut(token) else { return };
        stream.state = State::Lingering;
        stream.deadline = Some(stream.deadline.map_or(patience, |before| before.min(patience)));
        // What is there already may be the end.
        stream.may_read = true;
        self.arm(token);
        self.list(token);
    }

    /// Tells the peer that nothing more will be written.
    pub(crate) fn say_goodbye(&mut self, token: Token) -> io::Result<()> {
        let Some(stream) = self.stream_mut(token) else { return Ok(()) };
        let source = stream.source;
        if let Some(extras) = &mut stream.extras {
            extras.owes_goodbye = true;
            if let Some(transport) = &mut extras.transport
                && !std::mem::replace(&mut extras.has_finished, true)
            {
                guarded(|| {
                    transport.finish();
                    Ok(())
                })?;
            }
            if let Some(pipe) = &mut extras.pipe {
                (pipe.is_finished, extras.owes_goodbye) = (true, false);
                let peer = pipe.peer;
                self.pipe_finished(peer);
                return Ok(());
            }
        }
        self.flush_transport(token)?;
        self.backend.shutdown_write(source);
        if let Some(extras) = self.stream_mut(token).and_then(|stream| stream.extras.as_mut()) {
            extras.owes_goodbye = false;
        }
        Ok(())
    }

    pub(crate) fn pipe_finished(&mut self, peer: Token) {
        let Some(stream) = self.stream_mut(peer) else { return };
        stream.has_end = true;
        if let Some(pipe) = stream.extras().pipe.as_mut() {
            pipe.has_end = true;
        }
        self.pipe_filled(peer);
    }

    /// Drops what a lingering connection still gets.
    pub(crate) fn linger(&mut self, token: Token) {
        let mut rubbish = [0; 16 * 1024];
        for _ in 0..LINGER_READS_PER_TURN {
            match self.read(token, &mut [IoSliceMut::new(&mut rubbish)]) {
                Ok(Read::Data(_)) => {}
                Ok(Read::WouldBlock) => break,
                Ok(Read::Eof) | Err(_) => return self.end(token, Reason::Local(FLUSHED)),
            }
        }
        self.list(token);
    }

    /// A connection that nobody reads and whose peer is gone. If that was a reset, it is over; if it was
    /// an end in good order, what came before is still to be read.
    pub(crate) fn abandon(&mut self, token: Token) {
        let Some(source) = self.source(token) else { return };
        match self.backend.take_error(source) {
            Some(error) => self.end(token, error.into()),
            None => {
                if let Some(stream) = self.stream_mut(token) {
                    stream.is_hung_up = false;
                }
                self.list(token);
            }
        }
    }
}

/// How long the peer's end is awaited after all was written.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_READS_PER_TURN: usize = 16;
