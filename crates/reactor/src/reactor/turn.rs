//! One turn of the loop: timers, sockets, posts, writes, endings.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{Reactor, list, stream_mut};
use crate::Token;
use crate::backend::{Backend, Event, Source};
use crate::handler::{Accepted, Handler, HandlerError, Reason};
use crate::remote::Post;
use crate::stream::{Entry, Stream};
use crate::write_queue::SLICES_MAX;

impl<S: 'static> Reactor<S> {
    /// Turns until [`stop`](Self::stop).
    ///
    /// # Errors
    /// If waiting for sockets is impossible; nothing that a peer does causes that.
    pub fn run(&mut self, state: &mut S) -> io::Result<()> {
        while self.turn(state, None)? {}
        Ok(())
    }

    /// One turn, that waits at most `wait_max`. Returns whether to go on; after a stop, the next turn
    /// is a new beginning.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self, state: &mut S, wait_max: Option<Duration>) -> io::Result<bool> {
        self.now = self.backend.now();
        self.run_timers(state);
        self.run_calls(state);
        self.wait(wait_max)?;
        self.dispatch(state);
        self.run_posts(state);
        self.run_calls(state);
        let mut hooks = std::mem::take(&mut self.hooks);
        hooks.iter_mut().for_each(|hook| hook(state, self));
        hooks.append(&mut self.hooks);
        self.hooks = hooks;
        self.flush(state);
        self.tell_ended(state);
        Ok(!self.shared.take_stopped())
    }

    /// When the next turn has something to do, if nothing comes from outside: at once, or at the time
    /// of the next timer.
    pub fn next_wake(&self) -> Option<Instant> {
        let is_now = self.has_work() || self.backend.has_events();
        if is_now { Some(self.now) } else { self.timers.next_at() }
    }

    fn has_work(&self) -> bool {
        !(self.ready.is_empty()
            && self.dirty.is_empty()
            && self.ended.is_empty()
            && self.calls.is_empty()
            && self.shared.is_empty()
            && !self.shared.is_stopped())
    }

    fn run_timers(&mut self, state: &mut S) {
        let mark = self.timers.mark();
        for _ in 0..TIMERS_PER_TURN {
            let Some(call) = self.timers.take_due(self.now, mark) else { return };
            guarded("a timer", || call(state, self));
            self.now = self.backend.now();
        }
    }

    fn run_calls(&mut self, state: &mut S) {
        for _ in 0..self.calls.len() {
            let Some(call) = self.calls.pop_front() else { return };
            guarded("a call", || call(state, self));
            self.now = self.backend.now();
        }
    }

    fn run_posts(&mut self, state: &mut S) {
        for post in self.shared.take() {
            match post {
                Post::Call(call) => guarded("a posted call", || call(state, self)),
                Post::Done(id, result) => {
                    if let Some(finish) = self.offloaded.remove(&id) {
                        guarded("what follows a job", || finish(result, state, self));
                    }
                }
            }
            self.now = self.backend.now();
        }
    }

    fn wait(&mut self, wait_max: Option<Duration>) -> io::Result<()> {
        let until_timer = self.timers.next_at().map(|at| at.saturating_duration_since(self.now));
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            match (until_timer, wait_max) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        let mut events = std::mem::take(&mut self.events);
        let result = self.backend.wait(&mut events, timeout);
        self.now = self.backend.now();
        for event in events.drain(..) {
            self.note(event);
        }
        self.events = events;
        result
    }

    /// Remembers what the kernel says only once.
    fn note(&mut self, event: Event) {
        let slot = self
            .slots
            .get_mut(event.token.slot as usize)
            .filter(|slot| slot.generation == event.token.generation);
        match slot.and_then(|slot| slot.entry.as_mut()) {
            Some(Entry::Stream(stream)) => {
                stream.may_read |= event.readable;
                stream.may_write |= event.writable;
                stream.has_end |= event.ended;
                stream.is_hung_up |= event.hung_up;
                list(stream, event.token, &mut self.ready);
                if stream.may_write
                    && stream.queue.len() > 0
                    && !stream.is_dirty
                    && !stream.is_connecting
                {
                    stream.is_dirty = true;
                    self.dirty.push(event.token);
                }
            }
            Some(Entry::Listener { is_ready, .. } | Entry::Datagrams { is_ready, .. })
                if !*is_ready =>
            {
                *is_ready = true;
                self.ready.push_back(event.token);
            }
            Some(Entry::Listener { .. } | Entry::Datagrams { .. }) => {}
            // Of a connection that was closed in this very turn.
            None => {}
        }
    }

    /// Calls the handler of each connection that is ready, once.
    fn dispatch(&mut self, state: &mut S) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            match self.entry(token) {
                Some(Entry::Stream(_)) => self.dispatch_stream(token, state),
                Some(&Entry::Listener { source, .. }) => {
                    self.dispatch_listener(token, source, state);
                }
                Some(&Entry::Datagrams { source, .. }) => {
                    self.dispatch_datagrams(token, source, state);
                }
                None => {}
            }
            self.now = self.backend.now();
        }
    }

    fn dispatch_stream(&mut self, token: Token, state: &mut S) {
        let Some(stream) = stream_mut(&mut self.slots, token) else { return };
        stream.is_listed = false;
        if stream.wants_connecting() {
            let source = stream.source;
            match self.backend.finish_connect(source) {
                Ok(()) => self.connected(token, state),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.end(token, error.into()),
            }
        }
        let Some(stream) = stream_mut(&mut self.slots, token) else { return };
        if stream.wants_reading() {
            self.call(token, state, |handler, state, reactor| {
                handler.readable(token, state, reactor)
            });
        } else if stream.is_abandoned() {
            self.end(token, Reason::Reset);
        }
        if let Some(stream) = stream_mut(&mut self.slots, token) {
            list(stream, token, &mut self.ready);
        }
    }

    fn connected(&mut self, token: Token, state: &mut S) {
        self.set_deadline(token, None);
        let Some(stream) = stream_mut(&mut self.slots, token) else { return };
        (stream.is_connecting, stream.may_write) = (false, true);
        self.call(token, state, |handler, state, reactor| handler.connected(token, state, reactor));
        if let Some(stream) = stream_mut(&mut self.slots, token)
            && stream.queue.len() > 0
            && !stream.is_dirty
        {
            stream.is_dirty = true;
            self.dirty.push(token);
        }
    }

    fn dispatch_listener(&mut self, token: Token, source: Source, state: &mut S) {
        for _ in 0..ACCEPTS_PER_TURN {
            // Closed from within, its source may be another's by now.
            if self.entry(token).is_none() {
                return;
            }
            match self.backend.accept(source) {
                Ok((source, peer)) => self.accepted(token, Accepted { peer, source }, state),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_ready(token, false);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Most likely out of descriptors: try again soon, not at once.
                    tracing::warn!(%error, "cannot accept");
                    self.set_ready(token, false);
                    self.add_timer(self.now + ACCEPT_BACKOFF, move |_, reactor| {
                        if reactor.set_ready(token, true) {
                            reactor.ready.push_back(token);
                        }
                    });
                    return;
                }
            }
        }
        self.ready.push_back(token);
    }

    fn accepted(&mut self, token: Token, accepted: Accepted, state: &mut S) {
        self.unclaimed = Some(accepted.source);
        let Some(Entry::Listener { acceptor, .. }) = self.entry_mut(token) else {
            self.backend.close(accepted.source);
            return;
        };
        let Some(mut taken) = acceptor.take() else { return };
        let result =
            catch_unwind(AssertUnwindSafe(|| taken.accepted(token, accepted, state, self)));
        if result.is_err() {
            tracing::error!("an acceptor panicked");
        }
        if let Some(Entry::Listener { acceptor, .. }) = self.entry_mut(token) {
            *acceptor = Some(taken);
        }
        if let Some(source) = self.unclaimed.take() {
            self.backend.close(source);
        }
    }

    fn dispatch_datagrams(&mut self, token: Token, source: Source, state: &mut S) {
        let mut buffer = std::mem::take(&mut self.datagram);
        for _ in 0..DATAGRAMS_PER_TURN {
            // Closed from within, its source may be another's by now.
            if self.entry(token).is_none() {
                break;
            }
            match self.backend.receive_from(source, &mut buffer) {
                Ok((len, from)) => {
                    let Some(Entry::Datagrams { handler, .. }) = self.entry_mut(token) else {
                        break;
                    };
                    let Some(mut taken) = handler.take() else { break };
                    let call = AssertUnwindSafe(|| {
                        taken.datagram(token, from, &buffer[..len], state, self);
                    });
                    if catch_unwind(call).is_err() {
                        tracing::error!(%from, "the handler of a datagram panicked");
                    }
                    if let Some(Entry::Datagrams { handler, .. }) = self.entry_mut(token) {
                        *handler = Some(taken);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_ready(token, false);
                    break;
                }
                // What an earlier datagram met on its way, such as a closed port; it is told once.
                Err(error) => tracing::trace!(%error, "a datagram was not delivered"),
            }
        }
        self.datagram = buffer;
        if let Some(Entry::Datagrams { is_ready: true, .. }) = self.entry(token) {
            self.ready.push_back(token);
        }
    }

    /// Returns whether that changed it.
    fn set_ready(&mut self, token: Token, ready: bool) -> bool {
        match self.entry_mut(token) {
            Some(Entry::Listener { is_ready, .. } | Entry::Datagrams { is_ready, .. }) => {
                std::mem::replace(is_ready, ready) != ready
            }
            Some(Entry::Stream(_)) | None => false,
        }
    }

    /// Calls a connection's handler. What it does wrong ends the connection and nothing else.
    fn call(
        &mut self,
        token: Token,
        state: &mut S,
        call: impl FnOnce(&mut dyn Handler<S>, &mut S, &mut Self) -> Result<(), HandlerError>,
    ) {
        let Some(mut handler) =
            stream_mut(&mut self.slots, token).and_then(|stream| stream.handler.take())
        else {
            return;
        };
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut *handler, state, self)));
        if let Some(stream) = stream_mut(&mut self.slots, token) {
            stream.handler = Some(handler);
        }
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let reason = match error.downcast::<io::Error>() {
                    Ok(error) => (*error).into(),
                    Err(error) => Reason::Handler(error),
                };
                self.end(token, reason);
            }
            Err(_panic) => self.end(token, Reason::Handler("its handler panicked".into())),
        }
    }

    /// Writes out what was queued.
    fn flush(&mut self, state: &mut S) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(stream) = stream_mut(&mut self.slots, token) else { continue };
            stream.is_dirty = false;
            if stream.ended.is_some() {
                continue;
            }
            if let Err(error) = write_out(&mut *self.backend, stream) {
                self.end(token, error.into());
                continue;
            }
            if stream.may_write && stream.queue.len() > 0 {
                // Its share of this turn is used up.
                stream.is_dirty = true;
                self.dirty.push(token);
            }
            if stream.queue.len() == 0 && stream.closes_when_flushed {
                self.backend.shutdown_write(stream.source);
                self.end(token, Reason::Local("flushed"));
            } else if stream.was_full && stream.queue.len() <= stream.low {
                stream.was_full = false;
                self.call(token, state, |handler, state, reactor| {
                    handler.drained(token, state, reactor)
                });
            }
        }
    }

    pub(super) fn end(&mut self, token: Token, reason: Reason) {
        match self.entry_mut(token) {
            Some(Entry::Stream(stream)) if stream.ended.is_none() => {
                stream.ended = Some(reason);
                self.ended.push(token);
            }
            Some(Entry::Stream(_)) => {}
            Some(Entry::Listener { source, .. } | Entry::Datagrams { source, .. }) => {
                let source = *source;
                self.backend.close(source);
                self.vacate(token);
            }
            None => {}
        }
    }

    /// Closes what is over, and tells its handlers.
    fn tell_ended(&mut self, state: &mut S) {
        for token in std::mem::take(&mut self.ended) {
            self.set_deadline(token, None);
            let Some(Entry::Stream(stream)) = self.vacate(token) else { continue };
            let Stream { source, handler, ended, .. } = *stream;
            self.backend.close(source);
            let (Some(mut handler), Some(reason)) = (handler, ended) else { continue };
            if catch_unwind(AssertUnwindSafe(|| handler.closed(token, reason, state, self)))
                .is_err()
            {
                tracing::error!("a handler panicked as its connection ended");
            }
        }
    }
}

/// Writes until the queue is empty, the kernel is full, or the turn's share is used up.
fn write_out<S>(backend: &mut dyn Backend, stream: &mut Stream<S>) -> io::Result<()> {
    let mut share = FLUSH_PER_TURN;
    while stream.may_write && stream.queue.len() > 0 && share > 0 {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (count, len) = stream.queue.gather(&mut slices);
        match backend.write(stream.source, &slices[..count]) {
            Ok(written) => {
                // The kernel took what it had room for.
                stream.may_write = written == len;
                stream.queue.advance(written);
                share = share.saturating_sub(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.may_write = false,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A panic in one callback ends that callback, and nothing else.
fn guarded(what: &str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("{what} panicked");
    }
}

const TIMERS_PER_TURN: usize = 1024;
const ACCEPTS_PER_TURN: usize = 64;
const DATAGRAMS_PER_TURN: usize = 64;
/// What one connection may write in a turn, in bytes, before the others have their turn.
const FLUSH_PER_TURN: usize = 1024 * 1024;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
