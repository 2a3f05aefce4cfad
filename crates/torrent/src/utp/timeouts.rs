//! What a connection does when nothing comes.

use super::CloseReason;
use super::connection::{Ack, Connection, State};
use super::packet::Header;

impl Connection {
    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn timeout(&self) -> Option<u64> {
        let ack_at = match self.ack {
            Ack::At(at) => Some(at),
            Ack::Nothing | Ack::Now => None,
        };
        let by_state = match self.state {
            State::Closed(_) => return None,
            State::Asking { .. } => None,
            State::Asked { since } => Some(since + ASKED_MAX),
            State::Open if self.ack == Ack::Now => None,
            State::Open => Some(self.sent_at + KEEPALIVE_AFTER),
        };
        let times = [ack_at, by_state, self.give_up_at, self.repeat_at, self.pace_at];
        times.into_iter().chain([self.lingers_until]).flatten().min()
    }

    /// A time has come that [`timeout`](Self::timeout) gave. Harmless if it has not.
    pub(super) fn handle_timeout(&mut self, now: u64) {
        if self.lingers_until.is_some_and(|at| at <= now) {
            self.close_with(CloseReason::TimedOut);
        }
        match self.state {
            State::Closed(_) => return,
            State::Asking { attempts, .. } => {
                if self.give_up_at.is_none_or(|at| at > now) {
                    return;
                }
                if attempts >= ASK_ATTEMPTS {
                    return self.close_with(CloseReason::TimedOut);
                }
                self.give_up_at = None;
                if let State::Asking { is_due, .. } = &mut self.state {
                    *is_due = true;
                }
                return;
            }
            State::Asked { since } if since + ASKED_MAX <= now => {
                return self.close_with(CloseReason::TimedOut);
            }
            State::Asked { .. } => {}
            State::Open if self.sent_at + KEEPALIVE_AFTER <= now => {
                self.ack = Ack::Now;
                self.receive.shrink();
            }
            State::Open => {}
        }
        if let Ack::At(at) = self.ack
            && at <= now
        {
            self.ack = Ack::Now;
        }
        if self.pace_at.is_some_and(|at| at <= now) {
            self.pace_at = None;
        }
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.give_up(now);
        }
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.repeat_last(now);
        }
    }

    /// Nothing came for a while, as when the last packets are lost.
    fn repeat_last(&mut self, now: u64) {
        (self.repeat_at, self.has_repeated) = (None, true);
        if let Some(len) = self.send.repeat_last() {
            self.mtu.probe_lost(len);
        }
        self.give_up_at = Some(now + self.round_trip.timeout());
        self.pace_at = None;
    }

    /// Nothing came for too long.
    fn give_up(&mut self, now: u64) {
        (self.give_up_at, self.repeat_at, self.has_repeated) = (None, None, true);
        let silences = self.round_trip.silence();
        if silences > SILENCES_MAX {
            return self.close_with(CloseReason::TimedOut);
        }
        if self.send.has_unanswered() {
            if let Some(len) = self.send.lose_all() {
                self.mtu.probe_lost(len);
            }
            if silences > 1 {
                self.mtu.nothing_arrives();
            }
            self.ledbat.set_packet_len(self.mtu.len() - Header::LEN);
            self.ledbat.handle_timeout(now);
            self.recovered_at = self.send.order();
            self.pace_at = None;
        }
        self.tests_window = true;
    }
}

/// Routers forget a connection over which nothing goes.
const KEEPALIVE_AFTER: u64 = 29_000_000;
const ASK_ATTEMPTS: u32 = 3;
/// Who asked for a connection has to use it within this time.
const ASKED_MAX: u64 = 10_000_000;
/// After so many silences in succession the other end is gone: about a minute.
const SILENCES_MAX: u32 = 7;
