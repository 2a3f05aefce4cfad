//! What becomes of the process of a node: when it is started, given up, and started anew. Without any
//! process, so that its story can be told in a test.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Decides over a node's process.
#[derive(Debug)]
pub(super) struct Watchdog {
    phase: Phase,
    wish: Wish,
    /// It has worked once: what fails from now on is worth another try.
    is_proven: bool,
    /// How long to wait after the next failure.
    delay: Duration,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        start_at: Instant,
    },
    Running {
        started_at: Instant,
        heard_at: Instant,
    },
    /// It was asked to end.
    Ending {
        kill_at: Instant,
    },
    Killed,
    Over,
}

/// What is to be when the process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Restart,
    End,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Start,
    AskToEnd,
    Kill,
    /// All is over, with this status.
    Over(u8),
}

/// A node that is silent for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// The first wait after a failure, and the longest; each is twice the one before.
const DELAY_FIRST: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(60);

/// After so long a run, a failure is a first one again.
const LONG_RUN: Duration = Duration::from_secs(120);

/// One that was asked to end has so long to do so.
const END_PATIENCE: Duration = Duration::from_secs(10);

impl Watchdog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Waiting { start_at: now },
            wish: Wish::Run,
            is_proven: false,
            delay: DELAY_FIRST,
            outputs: VecDeque::new(),
        }
    }

    /// The node works.
    pub(super) fn handle_ready(&mut self, now: Instant) {
        self.is_proven = true;
        self.handle_beat(now);
    }

    /// The node has given a sign of life.
    pub(super) fn handle_beat(&mut self, now: Instant) {
        if let Phase::Running { heard_at, .. } = &mut self.phase {
            *heard_at = now;
        }
    }

    /// It is to be started anew.
    pub(super) fn handle_restart(&mut self, now: Instant) {
        match self.phase {
            Phase::Running { .. } => self.ask_to_end(now, Wish::Restart),
            Phase::Waiting { .. } => self.phase = Phase::Waiting { start_at: now },
            Phase::Ending { .. } | Phase::Killed | Phase::Over => {}
        }
    }

    /// It is to end for good. To ask twice is to want it now.
    pub(super) fn handle_end(&mut self, now: Instant) {
        match self.phase {
            Phase::Running { .. } => self.ask_to_end(now, Wish::End),
            Phase::Waiting { .. } => self.end(0),
            Phase::Ending { .. } if self.wish == Wish::End => self.kill(),
            Phase::Ending { .. } | Phase::Killed => self.wish = Wish::End,
            Phase::Over => {}
        }
    }

    /// The process has ended, or could not be started, with that status.
    pub(super) fn handle_exit(&mut self, now: Instant, status: u8) {
        match self.wish {
            Wish::End => self.end(0),
            Wish::Restart => {
                self.wish = Wish::Run;
                self.delay = DELAY_FIRST;
                self.phase = Phase::Waiting { start_at: now };
            }
            Wish::Run if !self.is_proven => self.end(status),
            Wish::Run => {
                if let Phase::Running { started_at, .. } = self.phase
                    && now.saturating_duration_since(started_at) >= LONG_RUN
                {
                    self.delay = DELAY_FIRST;
                }
                self.phase = Phase::Waiting { start_at: now + self.delay };
                self.delay = (self.delay * 2).min(DELAY_MAX);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Running { started_at: now, heard_at: now };
                self.outputs.push_back(Output::Start);
            }
            Phase::Running { .. } | Phase::Ending { .. } => self.kill(),
            Phase::Killed | Phase::Over => {}
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { start_at } => Some(start_at),
            Phase::Running { heard_at, .. } => Some(heard_at + SILENCE_MAX),
            Phase::Ending { kill_at } => Some(kill_at),
            Phase::Killed | Phase::Over => None,
        }
    }

    fn ask_to_end(&mut self, now: Instant, wish: Wish) {
        self.wish = wish;
        self.phase = Phase::Ending { kill_at: now + END_PATIENCE };
        self.outputs.push_back(Output::AskToEnd);
    }

    fn kill(&mut self) {
        self.phase = Phase::Killed;
        self.outputs.push_back(Output::Kill);
    }

    fn end(&mut self, status: u8) {
        self.phase = Phase::Over;
        self.outputs.push_back(Output::Over(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that has been started and works.
    fn running() -> (Watchdog, Instant) {
        let now = Instant::now();
        let mut dog = Watchdog::new(now);
        dog.handle_timeout(now);
        assert_eq!(dog.poll_output(), Some(Output::Start));
        dog.handle_ready(now);
        (dog, now)
    }

    #[test]
    fn one_that_never_worked_is_not_tried_again() {
        let now = Instant::now();
        let mut dog = Watchdog::new(now);
        dog.handle_timeout(now);
        dog.handle_exit(now, 255);
        assert_eq!(dog.poll_output(), Some(Output::Start));
        assert_eq!(dog.poll_output(), Some(Output::Over(255)));
        assert_eq!(dog.poll_timeout(), None);
    }

    #[test]
    fn one_that_crashes_is_started_later_and_later_until_it_has_run_for_long() {
        let (mut dog, mut now) = running();
        let mut waits = Vec::new();
        for run in 0..10 {
            if run == 9 {
                now += LONG_RUN;
            }
            dog.handle_exit(now, 137);
            let start_at = dog.poll_timeout().unwrap();
            waits.push((start_at - now).as_secs_f64());
            now = start_at;
            dog.handle_timeout(now);
            assert_eq!(dog.poll_output(), Some(Output::Start));
        }
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 0.5]);
    }

    #[test]
    fn one_that_is_silent_for_300_seconds_is_killed_and_started_anew() {
        let (mut dog, mut now) = running();
        for _ in 0..10 {
            now += SILENCE_MAX - Duration::from_secs(1);
            dog.handle_timeout(now);
            dog.handle_beat(now);
        }
        assert_eq!(dog.poll_output(), None);
        dog.handle_timeout(now + SILENCE_MAX);
        assert_eq!(dog.poll_output(), Some(Output::Kill));
        dog.handle_exit(now + SILENCE_MAX, 137);
        dog.handle_timeout(dog.poll_timeout().unwrap());
        assert_eq!(dog.poll_output(), Some(Output::Start));
    }

    #[test]
    fn one_that_is_to_start_anew_ends_first_and_starts_at_once() {
        let (mut dog, now) = running();
        dog.handle_restart(now);
        dog.handle_restart(now);
        assert_eq!(dog.poll_output(), Some(Output::AskToEnd));
        dog.handle_exit(now, 0);
        dog.handle_timeout(now);
        assert_eq!(dog.poll_output(), Some(Output::Start));
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let (mut dog, now) = running();
        dog.handle_end(now);
        assert_eq!(dog.poll_output(), Some(Output::AskToEnd));
        dog.handle_timeout(dog.poll_timeout().unwrap());
        assert_eq!(dog.poll_output(), Some(Output::Kill));
        dog.handle_exit(now, 137);
        assert_eq!(dog.poll_output(), Some(Output::Over(0)));
    }

    #[test]
    fn to_ask_twice_for_the_end_is_to_want_it_now() {
        let (mut dog, now) = running();
        dog.handle_restart(now);
        dog.handle_end(now);
        assert_eq!(dog.poll_output(), Some(Output::AskToEnd));
        assert_eq!(dog.poll_output(), None);
        dog.handle_end(now);
        assert_eq!(dog.poll_output(), Some(Output::Kill));
        dog.handle_exit(now, 137);
        assert_eq!(dog.poll_output(), Some(Output::Over(0)));
    }

    #[test]
    fn one_that_waits_for_its_next_try_ends_at_once() {
        let (mut dog, now) = running();
        dog.handle_exit(now, 1);
        dog.handle_end(now);
        assert_eq!(dog.poll_output(), Some(Output::Over(0)));
    }
}
