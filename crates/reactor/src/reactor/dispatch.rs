//! The calls of a turn: whoever has something is called, once, and nobody's mistake is another's.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Owner, Reactor};
use crate::backend::Source;
use crate::core::{Act, Flushed, OtherKind, State};
use crate::handler::{Accepted, Handler, HandlerError, Reason};
use crate::profile::Phase;
use crate::{Interest, Readiness, Token};

impl<S: 'static> Reactor<S> {
    /// Calls the handler of each socket that is ready, once.
    pub(super) fn dispatch(&mut self, state: &mut S) {
        let count = self.core.borrow().ready.len();
        for _ in 0..count {
            let (token, act) = {
                let core = &mut *self.core.borrow_mut();
                let Some(token) = core.ready.pop_front() else { return };
                (token, core.begin_dispatch(token))
            };
            match act {
                Act::Call { readable, writable } => {
                    self.dispatch_stream(token, readable, writable, state);
                }
                Act::Connect => self.dispatch_connect(token, state),
                Act::Abandon => self.core.borrow_mut().abandon(token),
                Act::Linger => self.core.borrow_mut().linger(token),
                Act::Other(OtherKind::Listener) => self.dispatch_listener(token, state),
                Act::Other(OtherKind::Datagrams) => self.dispatch_datagrams(token, state),
                Act::Other(OtherKind::Watch(interest)) => {
                    self.dispatch_watch(token, interest, state);
                }
                Act::Other(OtherKind::Signal(_)) => self.dispatch_signal(token, state),
                Act::Nothing => {}
            }
        }
    }

    fn dispatch_stream(&mut self, token: Token, readable: bool, writable: bool, state: &mut S) {
        if readable {
            self.call(token, Phase::Readable, state, |handler, state, reactor| {
                handler.readable(token, state, reactor)
            });
        }
        if writable {
            self.call(token, Phase::Writable, state, |handler, state, reactor| {
                handler.writable(token, state, reactor)
            });
        }
        let core = &mut *self.core.borrow_mut();
        if readable {
            core.end_reading(token);
        } else {
            core.list(token);
        }
    }

    fn dispatch_connect(&mut self, token: Token, state: &mut S) {
        let has_connected = self.core.borrow_mut().finish_connect(token);
        if has_connected {
            self.call(token, Phase::Connected, state, |handler, state, reactor| {
                handler.connected(token, state, reactor)
            });
        }
        self.core.borrow_mut().list(token);
    }

    fn dispatch_listener(&mut self, token: Token, state: &mut S) {
        let budget = self.core.borrow().budgets.accepts;
        for _ in 0..budget {
            let result = self.core.borrow_mut().accept(token);
            match result {
                Ok((source, peer)) => self.accepted(token, source, peer, state),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                // Closed from within.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    self.core.borrow_mut().accept_later(token);
                    return;
                }
            }
        }
        self.core.borrow_mut().list(token);
    }

    fn accepted(&mut self, token: Token, source: Source, peer: crate::Address, state: &mut S) {
        self.offers += 1;
        let offer = self.offers;
        self.unclaimed = Some((source, offer));
        match self.take_owner(token) {
            Owner::Acceptor(mut acceptor) => {
                let kind = self.profiler.is_on().then(|| acceptor.kind());
                self.guarded(kind.unwrap_or_default(), Phase::Accepted, |reactor| {
                    acceptor.accepted(token, Accepted { peer, source, offer }, state, reactor);
                });
                self.return_owner(token, Owner::Acceptor(acceptor));
            }
            other => self.return_owner(token, other),
        }
        if let Some((source, _)) = self.unclaimed.take() {
            self.core.borrow_mut().backend.close(source);
        }
    }

    fn dispatch_datagrams(&mut self, token: Token, state: &mut S) {
        let mut handler = match self.take_owner(token) {
            Owner::Datagrams(handler) => handler,
            other => return self.return_owner(token, other),
        };
        let kind = if self.profiler.is_on() { handler.kind() } else { "datagrams" };
        let mut batch = std::mem::take(&mut self.batch);
        let budget = self.core.borrow().budgets.datagrams as usize;
        let mut count = 0;
        while count < budget {
            let result = self.core.borrow_mut().receive(token, &mut batch);
            match result {
                Ok(true) => {}
                Ok(false) => break,
                // What an earlier datagram met on its way, such as a closed port; it is told once.
                Err(error) => {
                    tracing::trace!(%error, "a datagram was not delivered");
                    count += 1;
                    continue;
                }
            }
            for (from, data) in batch.iter() {
                count += 1;
                self.guarded(kind, Phase::Datagrams, |reactor| {
                    handler.datagram(token, from, data, state, reactor);
                });
                if self.core.borrow().other(token).is_none() {
                    break;
                }
            }
        }
        self.batch = batch;
        if self.core.borrow_mut().takes_writable(token) {
            self.guarded(kind, Phase::Writable, |reactor| {
                handler.writable(token, state, reactor);
            });
        }
        self.return_owner(token, Owner::Datagrams(handler));
        self.core.borrow_mut().list(token);
    }

    fn dispatch_watch(&mut self, token: Token, interest: Interest, state: &mut S) {
        let readiness = self.core.borrow_mut().take_readiness(token);
        self.call_watcher(token, readiness, Phase::Watch, state);
        let core = &mut *self.core.borrow_mut();
        if let Some(source) = core.source(token)
            && let Err(error) = core.backend.rewatch(source, interest, token)
        {
            tracing::warn!(%error, "a descriptor can no longer be watched");
        }
    }

    fn dispatch_signal(&mut self, token: Token, state: &mut S) {
        let readiness = {
            let core = &mut *self.core.borrow_mut();
            let Some(source) = core.source(token) else { return };
            let readiness = core.take_readiness(token);
            if !core.backend.take_signal(source) {
                return;
            }
            readiness
        };
        self.call_watcher(token, readiness, Phase::Signal, state);
    }

    fn call_watcher(&mut self, token: Token, readiness: Readiness, phase: Phase, state: &mut S) {
        match self.take_owner(token) {
            Owner::Watcher(generation, mut watcher) if generation == token.generation => {
                self.guarded("watch", phase, |reactor| watcher(readiness, state, reactor));
                self.return_owner(token, Owner::Watcher(generation, watcher));
            }
            other => self.return_owner(token, other),
        }
    }

    /// Calls a connection's handler. What it does wrong ends the connection and nothing else.
    fn call(
        &mut self,
        token: Token,
        phase: Phase,
        state: &mut S,
        act: impl FnOnce(&mut dyn Handler<S>, &mut S, &mut Self) -> Result<(), HandlerError>,
    ) {
        // It may have been closed or taken out a moment ago, and its slot be another's.
        if self.core.borrow().stream(token).is_none_or(|stream| stream.state == State::Ended) {
            return;
        }
        let mut handler = match self.take_owner(token) {
            Owner::Handler(handler) => handler,
            other => return self.return_owner(token, other),
        };
        let started = self.profiler.begin();
        let result = catch_unwind(AssertUnwindSafe(|| act(&mut *handler, state, self)));
        if let Some(started) = started {
            let slow = self.profiler.end(started, handler.kind(), phase);
            self.tell_slow(slow);
        }
        self.tick();
        self.return_owner(token, Owner::Handler(handler));
        let reason = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => match error.downcast::<io::Error>() {
                Ok(error) => (*error).into(),
                Err(error) => Reason::Handler(error),
            },
            Err(_panic) => Reason::Handler("its handler panicked".into()),
        };
        self.core.borrow_mut().end(token, reason);
    }

    /// A panic in a callback ends that callback, and nothing else.
    pub(super) fn guarded(
        &mut self,
        kind: &'static str,
        phase: Phase,
        call: impl FnOnce(&mut Self),
    ) {
        let started = self.profiler.begin();
        if catch_unwind(AssertUnwindSafe(|| call(self))).is_err() {
            tracing::error!(kind, ?phase, "a callback panicked");
        }
        if let Some(started) = started {
            let slow = self.profiler.end(started, kind, phase);
            self.tell_slow(slow);
        }
        self.tick();
    }

    fn tell_slow(&mut self, slow: Option<crate::Slow>) {
        if let (Some(slow), Some(hook)) = (slow, &mut self.on_slow)
            && catch_unwind(AssertUnwindSafe(|| hook(slow))).is_err()
        {
            tracing::error!("the hook for slow calls panicked");
        }
    }

    /// Writes out what was queued.
    pub(super) fn flush(&mut self, state: &mut S) {
        let dirty = std::mem::take(&mut self.core.borrow_mut().dirty);
        for token in dirty {
            let (mut share, mut is_spent) = (self.budgets().write_bytes as usize, false);
            loop {
                let flushed = self.core.borrow_mut().flush(token, &mut share);
                match flushed {
                    Flushed::Done => break,
                    Flushed::Spent => {
                        is_spent = true;
                        break;
                    }
                    Flushed::Mark(mark) => {
                        self.free_marks.push(mark);
                        let call = self.marks[mark as usize].take();
                        if let Some(call) = call {
                            self.guarded("write_then", Phase::Post, |reactor| call(state, reactor));
                        }
                    }
                    Flushed::Failed(error) => {
                        self.core.borrow_mut().end(token, error.into());
                        break;
                    }
                }
            }
            let news = self.core.borrow_mut().settle(token, is_spent);
            if news.full {
                self.call(token, Phase::Full, state, |handler, state, reactor| {
                    handler.full(token, state, reactor)
                });
            }
            if news.drained {
                self.call(token, Phase::Drained, state, |handler, state, reactor| {
                    handler.drained(token, state, reactor)
                });
            }
        }
    }

    /// Closes what is over, and tells its handlers.
    pub(super) fn tell_ended(&mut self, state: &mut S) {
        let ended = std::mem::take(&mut self.core.borrow_mut().ended);
        for token in ended {
            let reason = self.core.borrow_mut().bury(token);
            // A task's, or gone: whoever has the slot now has nothing to do with it.
            let Some(reason) = reason else { continue };
            let Owner::Handler(mut handler) = self.take_owner(token) else { continue };
            let kind = if self.profiler.is_on() { handler.kind() } else { "closed" };
            self.guarded(kind, Phase::Closed, |reactor| {
                handler.closed(token, reason, state, reactor);
            });
        }
    }
}
