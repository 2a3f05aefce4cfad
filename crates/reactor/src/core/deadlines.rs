//! When connections end by themselves.

use super::{Core, Due, FLUSHED, State};
use crate::{Reason, Token};
use std::time::Duration;
use std::time::Instant;

impl Core {
    pub(crate) fn set_deadline(&mut self, token: Token, at: Option<Instant>) {
        let Some(stream) = self.stream_mut(token) else { return };
        (stream.deadline, stream.has_connect_deadline) = (at, false);
        if let (Some(at), Some((_, timer_at))) = (at, stream.timer)
            && timer_at <= at
            && stream.idle_max_millis == 0
        {
            return;
        }
        self.arm(token);
    }

    pub(crate) fn set_idle_timeout(&mut self, token: Token, silence: Option<Duration>) {
        let now = self.tick();
        let Some(stream) = self.stream_mut(token) else { return };
        let millis = silence.map_or(0, |silence| silence.as_millis().max(1));
        // What is too long to be counted is as good as for ever.
        stream.idle_max_millis = u32::try_from(millis).unwrap_or(0);
        stream.alive_at = now;
        self.arm(token);
    }

    /// Sets a connection's timer so that it does not come too late. One that comes too early is no harm:
    /// so what only moves later costs nothing.
    pub(crate) fn arm(&mut self, token: Token) {
        let Some(stream) = self.stream(token) else { return };
        let (ends_at, timer) = (stream.ends_at(), stream.timer);
        match (ends_at, timer) {
            (Some(ends_at), Some((_, timer_at))) if timer_at <= ends_at => return,
            (None, None) => return,
            (Some(_) | None, _) => {}
        }
        if let Some((timer, _)) = timer {
            self.timers.cancel(timer);
        }
        let timer = ends_at.map(|at| (self.timers.add(at, Due::Stream(token)), at));
        if let Some(stream) = self.stream_mut(token) {
            stream.timer = timer;
        }
    }

    /// A connection's timer has come.
    pub(crate) fn check_deadline(&mut self, token: Token) {
        let now = self.now;
        let Some(stream) = self.stream_mut(token) else { return };
        stream.timer = None;
        match stream.ends_at() {
            Some(at) if at <= now => {
                let reason = match stream.state {
                    State::Lingering => Reason::Local(FLUSHED),
                    State::Connecting | State::Open | State::Flushing | State::Ended => {
                        Reason::Timeout
                    }
                };
                self.end(token, reason);
            }
            Some(_) => self.arm(token),
            None => {}
        }
    }
}
