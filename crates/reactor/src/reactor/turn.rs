//! One turn of the loop: sockets, timers, posts, writes, endings.

use std::io;
use std::time::{Duration, Instant};

use super::{Hooks, Reactor};
use crate::core::{Due, Orphan, TASK_SHARE};
use crate::profile::Phase;
use crate::remote::Post;
use crate::task::Runnable;

impl<S: 'static> Reactor<S> {
    /// Turns until [`stop`](Self::stop), also when no socket, timer or task is left: another thread may
    /// [post](crate::Remote::post) something.
    ///
    /// # Errors
    /// If waiting for sockets is impossible; nothing that a peer does causes that.
    pub fn run(&mut self, state: &mut S) -> io::Result<()> {
        while self.turn(state, None)? {}
        Ok(())
    }

    /// Turns until [`stop`](Self::stop), or until `is_done`, which is asked after each turn. Returns
    /// whether it was done.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_until(
        &mut self,
        state: &mut S,
        mut is_done: impl FnMut(&S) -> bool,
    ) -> io::Result<bool> {
        loop {
            let goes_on = self.turn(state, None)?;
            if is_done(state) {
                return Ok(true);
            }
            if !goes_on {
                return Ok(false);
            }
        }
    }

    /// One turn, that waits at most `wait_max`. Returns whether to go on; after a stop, the next turn
    /// is a new beginning.
    ///
    /// # Errors
    /// As [`run`](Self::run); and if it is called from within a turn.
    pub fn turn(&mut self, state: &mut S, wait_max: Option<Duration>) -> io::Result<bool> {
        if std::mem::replace(&mut self.is_turning, true) {
            return Err(io::Error::other("a turn within a turn: return to the loop instead"));
        }
        let result = self.turn_once(state, wait_max);
        self.is_turning = false;
        result
    }

    fn turn_once(&mut self, state: &mut S, wait_max: Option<Duration>) -> io::Result<bool> {
        self.begin();
        self.wait(wait_max)?;
        let began = self.profiler.is_on().then(Instant::now);
        // Nothing of the program's is called before the wait: whatever it does, it is looked at, by hooks
        // and by `is_done`, before the loop sleeps.
        self.dispatch(state);
        self.run_timers(state);
        self.run_posts(state);
        self.run_hooks(state, |reactor| &mut reactor.hooks);
        self.flush(state);
        self.tell_ended(state);
        self.run_hooks(state, |reactor| &mut reactor.flush_hooks);
        self.sweep();
        if let Some(began) = began {
            self.profiler.record_lag(began.elapsed());
        }
        Ok(!self.inbox.take_stopped())
    }

    /// When the next turn has something to do, if nothing comes from outside: at once, or at the time
    /// of the next timer.
    pub fn next_wake(&self) -> Option<Instant> {
        let core = &mut *self.core.borrow_mut();
        let is_now = core.has_work()
            || !self.calls.borrow().is_empty()
            || !self.inbox.is_empty()
            || self.inbox.is_stopped()
            || core.backend.has_events();
        if is_now { Some(core.now) } else { core.timers.next_at() }
    }

    fn begin(&mut self) {
        let core = &mut *self.core.borrow_mut();
        core.turn = core.turn.wrapping_add(1);
        core.task_share = TASK_SHARE;
        core.tick();
    }

    /// Reads the clock: after every call of the program's, since it may have taken long.
    pub(super) fn tick(&self) {
        self.core.borrow_mut().tick();
    }

    fn run_timers(&mut self, state: &mut S) {
        let (mark, budget) = {
            let core = &mut *self.core.borrow_mut();
            (core.timers.mark(), core.budgets.timers)
        };
        for _ in 0..budget {
            let due = {
                let core = &mut *self.core.borrow_mut();
                let now = core.now;
                core.timers.take_due(now, mark)
            };
            let Some((timer, due)) = due else { return };
            match due {
                Due::Call => {
                    let Some(call) = self.take_timer_call(timer) else { continue };
                    self.guarded("timer", Phase::Timer, |reactor| call(state, reactor));
                }
                Due::Wake(waker) => waker.wake(),
                Due::Stream(token) => self.core.borrow_mut().check_deadline(token),
                Due::Unpark(token) => self.core.borrow_mut().unpark(token),
                Due::Accept(token) => self.core.borrow_mut().accept_again(token),
                Due::Bucket(number) => self.core.borrow_mut().bucket_filled(number),
            }
        }
    }

    fn run_calls(&mut self, state: &mut S) {
        let count = self.calls.borrow().len();
        for _ in 0..count {
            let Some(call) = self.calls.borrow_mut().pop_front() else { return };
            self.guarded("call", Phase::Post, |reactor| call(state, reactor));
        }
    }

    /// What other threads and tasks have brought. What that brings in turn is looked at too, a few
    /// times: a task that wakes another should not wait for the sockets.
    fn run_posts(&mut self, state: &mut S) {
        let mut posts = std::mem::take(&mut self.posts);
        for _ in 0..POST_ROUNDS_PER_TURN {
            self.wake_tasks();
            self.inbox.take(&mut posts);
            if posts.is_empty() && self.calls.borrow().is_empty() {
                break;
            }
            for post in posts.drain(..) {
                match post {
                    Post::Call(call) => {
                        self.guarded("post", Phase::Post, |reactor| call(state, reactor));
                    }
                    Post::Done(id, result) => {
                        if let Some(finish) = self.offloaded.remove(&id) {
                            self.guarded("job", Phase::Post, |reactor| {
                                finish(result, state, reactor);
                            });
                        }
                    }
                    Post::Run(runnable) => self.run_task(runnable),
                }
            }
            self.run_calls(state);
        }
        self.posts = posts;
    }

    fn run_task(&mut self, runnable: Runnable) {
        self.core.borrow_mut().task_share = TASK_SHARE;
        let kind = *runnable.metadata();
        self.guarded(kind, Phase::Task, |_| _ = runnable.run());
    }

    /// Wakes tasks, now that nothing is borrowed.
    fn wake_tasks(&self) {
        let wakers = std::mem::take(&mut self.core.borrow_mut().wakers);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    fn run_hooks(&mut self, state: &mut S, which: fn(&mut Self) -> &mut Hooks<S>) {
        if which(self).is_empty() {
            return;
        }
        let mut hooks = std::mem::take(which(self));
        for (is_wanted, hook) in &mut hooks {
            if is_wanted.get() {
                self.guarded("hook", Phase::Hook, |reactor| hook(state, reactor));
            }
        }
        hooks.append(which(self));
        hooks.retain(|(is_wanted, _)| is_wanted.get());
        *which(self) = hooks;
    }

    fn wait(&mut self, wait_max: Option<Duration>) -> io::Result<()> {
        self.wake_tasks();
        let mut events = std::mem::take(&mut self.events);
        let result = {
            let core = &mut *self.core.borrow_mut();
            let is_idle = self.calls.borrow().is_empty() && !core.has_work();
            let sleeps = is_idle && self.inbox.begin_wait();
            let wait_max = match (wait_max, self.max_wait) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let result = if !sleeps {
                core.backend.wait(&mut events, Some(Duration::ZERO))
            } else {
                core.sleep(&mut events, wait_max, || self.inbox.has_news())
            };
            self.inbox.end_wait();
            core.tick();
            for event in events.drain(..) {
                core.note(event);
            }
            result
        };
        self.events = events;
        result
    }

    /// Drops callbacks that nothing will call any more.
    fn sweep(&mut self) {
        if self.core.borrow().orphans.is_empty() {
            return;
        }
        let orphans = std::mem::take(&mut self.core.borrow_mut().orphans);
        for orphan in orphans {
            match orphan {
                Orphan::Transport(_) => {}
                Orphan::Timer(timer) => drop(self.take_timer_call(timer)),
                Orphan::Watch(token) => {
                    let owner = self.take_owner(token);
                    match owner {
                        super::Owner::Watcher(generation, _) if generation == token.generation => {}
                        other => self.return_owner_of_slot(token, other),
                    }
                }
                Orphan::Mark(mark) => {
                    self.free_marks.push(mark);
                    drop(self.marks[mark as usize].take());
                }
            }
        }
    }

    fn return_owner_of_slot(&mut self, token: crate::Token, owner: super::Owner<S>) {
        if let Some(slot) = self.owners.get_mut(token.slot as usize) {
            *slot = owner;
        }
    }
}

impl crate::core::Core {
    /// Waits until something happens, the next timer is due, or `wait_max` is over.
    fn sleep(
        &mut self,
        events: &mut Vec<crate::Event>,
        wait_max: Option<Duration>,
        has_news: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        if !self.timers.is_next_exact() {
            // When exactly the next timer is due takes time to find out. First a look whether we
            // need to know.
            self.backend.wait(events, Some(Duration::ZERO))?;
            // A call from another thread ends that wait, not the next.
            if !events.is_empty() || has_news() {
                return Ok(());
            }
        }
        let until_timer = self.timers.next_at().map(|at| at.saturating_duration_since(self.now));
        let timeout = match (until_timer, wait_max) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.backend.wait(events, timeout)
    }
}

/// How often in a turn it is looked whether posts brought posts.
const POST_ROUNDS_PER_TURN: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::epoll::Epoll;
    use crate::core::Core;
    use crate::inbox::Inbox;

    #[test]
    fn a_call_that_ends_the_first_look_ends_the_sleep() {
        let mut core = Core::new(Box::new(Epoll::new().unwrap()));
        let inbox: Arc<Inbox<()>> = Inbox::new(core.backend.waker());
        let start = core.now;
        core.timers.add(start + Duration::from_secs(31), Due::Call);
        let earlier = core.timers.add(start + Duration::from_secs(30), Due::Call);
        core.timers.cancel(earlier);
        assert!(!core.timers.is_next_exact());
        assert!(inbox.begin_wait());
        inbox.push(()).unwrap();
        core.sleep(&mut Vec::new(), None, || inbox.has_news()).unwrap();
        assert!(core.backend.now() < start + Duration::from_secs(20), "it slept");
    }
}
