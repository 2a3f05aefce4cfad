//! The loop: what it is made of, and how it is told what to do.
//!
//! `turn` is one round of it and `dispatch` the calls of a round; `connections` and `sockets` are what
//! a program does with what it has opened; `jobs` is work for other threads.

mod connections;
mod dispatch;
mod info;
mod jobs;
mod sockets;
mod turn;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use connections::{Detached, Taken};
pub use info::Info;
pub(crate) use jobs::read_at;

use crate::backend::epoll::Epoll;
use crate::backend::{Backend, DatagramBatch, Event, Source};
use crate::core::{Core, Due, Entry};
use crate::guard::{HookGuard, IntervalGuard, RateGroup, TimerGuard};
use crate::handler::{Acceptor, DatagramHandler, Handler};
use crate::inbox::Inbox;
use crate::profile::{Profile, Profiler, Slow};
use crate::remote::{Post, Remote};
use crate::simulated::Host;
use crate::task::Tasks;
use crate::timer_wheel::TimerId;
use crate::{Budgets, Rate, Readiness, Token};

/// An event loop. `S` is the program's state: every handler gets it as an argument.
pub struct Reactor<S> {
    pub(crate) core: Rc<RefCell<Core>>,
    /// Who is called for what, by the sockets' slots.
    owners: Vec<Owner<S>>,
    /// Callbacks of timers, by their slots.
    timer_calls: Vec<Option<(TimerId, Call<S>)>>,
    /// Callbacks that stand in write queues.
    marks: Vec<Option<Call<S>>>,
    free_marks: Vec<u32>,
    /// Calls for this turn or the next.
    pub(crate) calls: Rc<RefCell<VecDeque<Call<S>>>>,
    pub(crate) tasks: Rc<Tasks>,
    hooks: Hooks<S>,
    flush_hooks: Hooks<S>,
    pub(crate) inbox: Arc<Inbox<Post<S>>>,
    /// What to do with the results of offloaded jobs.
    offloaded: BTreeMap<u64, Finish<S>>,
    next_job: u64,
    max_wait: Option<Duration>,
    /// A connection that is being offered to its acceptor.
    unclaimed: Option<(Source, u64)>,
    /// How many connections were offered.
    offers: u64,
    is_turning: bool,
    profiler: Profiler,
    on_slow: Option<Box<dyn FnMut(Slow)>>,
    events: Vec<Event>,
    posts: Vec<Post<S>>,
    batch: DatagramBatch,
}

/// Who is called for a socket.
enum Owner<S> {
    /// Nobody: it has a task, or its owner is being called right now.
    Nobody,
    Handler(Box<dyn Handler<S>>),
    Acceptor(Box<dyn Acceptor<S>>),
    Datagrams(Box<dyn DatagramHandler<S>>),
    /// With the generation of its token, since guards drop it late.
    Watcher(u32, Watcher<S>),
}

pub(crate) type Call<S> = Box<dyn FnOnce(&mut S, &mut Reactor<S>)>;
/// With what says whether they are still wanted.
type Hooks<S> = Vec<(Rc<Cell<bool>>, Hook<S>)>;
type Hook<S> = Box<dyn FnMut(&mut S, &mut Reactor<S>)>;
type Finish<S> = Box<dyn FnOnce(Box<dyn Any + Send>, &mut S, &mut Reactor<S>)>;
type Watcher<S> = Box<dyn FnMut(Readiness, &mut S, &mut Reactor<S>)>;

impl<S: 'static> Reactor<S> {
    /// A loop in the real world.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self::with_backend(Box::new(Epoll::new()?)))
    }

    /// A loop on a host of a [simulated](crate::simulated) world. Left to itself it moves the world's
    /// clock as it waits; several in one world are turned by [`World::step`](crate::simulated::World::step).
    pub fn simulated(host: Host) -> Self {
        Self::with_backend(Box::new(host))
    }

    /// A loop in any world.
    pub fn with_backend(backend: Box<dyn Backend>) -> Self {
        let inbox = Inbox::new(backend.waker());
        Self {
            core: Rc::new(RefCell::new(Core::new(backend))),
            owners: Vec::new(),
            timer_calls: Vec::new(),
            marks: Vec::new(),
            free_marks: Vec::new(),
            calls: Rc::default(),
            tasks: Rc::default(),
            hooks: Vec::new(),
            flush_hooks: Vec::new(),
            inbox,
            offloaded: BTreeMap::new(),
            next_job: 0,
            max_wait: None,
            unclaimed: None,
            offers: 0,
            is_turning: false,
            profiler: Profiler::default(),
            on_slow: None,
            events: Vec::new(),
            posts: Vec::new(),
            batch: DatagramBatch::default(),
        }
    }

    /// What carries it: `epoll` or `simulated`.
    pub fn backend(&self) -> &'static str {
        self.core.borrow().backend.name()
    }

    /// The time, as of the latest call of a handler. In a simulated world `Instant::now` is another.
    pub fn now(&self) -> Instant {
        self.core.borrow().now
    }

    /// A random number, for choices that need not be secret.
    pub fn random(&mut self) -> u64 {
        self.core.borrow_mut().backend.random()
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote { inbox: Arc::clone(&self.inbox) }
    }

    /// Calls back at a time by the reactor's clock, such as `reactor.now() + Duration::from_secs(1)`, or in
    /// the next turn if that has passed. Equal times in the order they were added.
    pub fn add_timer(
        &mut self,
        at: Instant,
        call: impl FnOnce(&mut S, &mut Self) + 'static,
    ) -> TimerId {
        let timer = self.core.borrow_mut().timers.add(at, Due::Call);
        let slot = timer.slot as usize;
        if slot >= self.timer_calls.len() {
            self.timer_calls.resize_with(slot + 1, || None);
        }
        self.timer_calls[slot] = Some((timer, Box::new(call)));
        timer
    }

    /// Takes a timer back. Returns whether it was still to come.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let is_pending = self.core.borrow_mut().timers.cancel(timer).is_some();
        // Dropped when nothing is borrowed: whatever it holds may call us.
        drop(self.take_timer_call(timer));
        is_pending
    }

    /// Calls back at a time, unless the guard is dropped before.
    pub fn guard_timer(
        &mut self,
        at: Instant,
        call: impl FnOnce(&mut S, &mut Self) + 'static,
    ) -> TimerGuard {
        let timer = self.add_timer(at, call);
        TimerGuard::new(&self.core, timer)
    }

    /// Calls back at `first` and then every `every`, until the guard is dropped. After a delay the
    /// calls that were missed are left out, and the rhythm is kept.
    ///
    /// # Panics
    /// If `every` is zero.
    pub fn add_interval(
        &mut self,
        first: Instant,
        every: Duration,
        call: impl FnMut(&mut S, &mut Self) + 'static,
    ) -> IntervalGuard {
        assert!(!every.is_zero(), "an interval needs a length");
        let timer = Rc::new(Cell::new(None));
        let guard = IntervalGuard::new(&self.core, Rc::clone(&timer));
        self.schedule_interval(first, every, timer, Box::new(call));
        guard
    }

    fn schedule_interval(
        &mut self,
        at: Instant,
        every: Duration,
        timer: Rc<Cell<Option<TimerId>>>,
        mut call: Hook<S>,
    ) {
        let shared = Rc::clone(&timer);
        let id = self.add_timer(at, move |state, reactor| {
            let late = reactor.now().saturating_duration_since(at).as_nanos();
            let missed = u32::try_from(late / every.as_nanos()).unwrap_or(u32::MAX);
            let next =
                every.checked_mul(missed.saturating_add(1)).and_then(|later| at.checked_add(later));
            let result = catch_unwind(AssertUnwindSafe(|| call(state, reactor)));
            // Its guard may have been dropped from within. A panic does not end the rhythm.
            if let Some(next) = next.filter(|_| shared.get().is_some()) {
                reactor.schedule_interval(next, every, shared, call);
            }
            if let Err(panic) = result {
                resume_unwind(panic);
            }
        });
        timer.set(Some(id));
    }

    fn take_timer_call(&mut self, timer: TimerId) -> Option<Call<S>> {
        let slot = self.timer_calls.get_mut(timer.slot as usize)?;
        if slot.as_ref()?.0 == timer { slot.take().map(|(_, call)| call) } else { None }
    }

    /// Calls `hook` at the end of each turn, until the guard is dropped. All hooks are called, whatever
    /// each of them does; one that wants the loop to end calls [`stop`](Self::stop).
    pub fn on_turn_end(&mut self, hook: impl FnMut(&mut S, &mut Self) + 'static) -> HookGuard {
        let is_wanted = Rc::new(Cell::new(true));
        self.hooks.push((Rc::clone(&is_wanted), Box::new(hook)));
        HookGuard { is_wanted, is_detached: false }
    }

    /// Calls `hook` last of all in each turn, when everything that was written has gone to its sockets or
    /// [channels](crate::Channel): whoever makes channels sends on from here what they took. What it writes
    /// itself goes out in the next turn, which comes at once.
    pub fn on_flushed(&mut self, hook: impl FnMut(&mut S, &mut Self) + 'static) -> HookGuard {
        let is_wanted = Rc::new(Cell::new(true));
        self.flush_hooks.push((Rc::clone(&is_wanted), Box::new(hook)));
        HookGuard { is_wanted, is_detached: false }
    }

    /// A rate limit for connections to share: see [`join_rate_group`](Self::join_rate_group).
    pub fn rate_group(&mut self, rate: Rate) -> RateGroup {
        let bucket = self.core.borrow_mut().add_bucket(rate);
        RateGroup { core: Rc::downgrade(&self.core), bucket }
    }

    /// How long a turn waits at most, if nothing happens. Default: `None`, for ever.
    pub const fn set_max_wait(&mut self, max_wait: Option<Duration>) {
        self.max_wait = max_wait;
    }

    /// How much one turn does for one before the others have theirs.
    pub fn budgets(&self) -> Budgets {
        self.core.borrow().budgets
    }

    /// Sets how much one turn does for one. What is 0 counts as 1.
    pub fn set_budgets(&mut self, budgets: Budgets) {
        self.core.borrow_mut().budgets = Budgets {
            read_bytes: budgets.read_bytes.max(1),
            write_bytes: budgets.write_bytes.max(1),
            accepts: budgets.accepts.max(1),
            datagrams: budgets.datagrams.max(1),
            timers: budgets.timers.max(1),
        };
    }

    /// Makes [`run`](Self::run) return after this turn; called before `run`, after its first.
    pub fn stop(&mut self) {
        self.inbox.stop();
    }

    /// Begins a new profile: what every kind of handler costs, phase by phase. Each call then costs four
    /// readings of clocks; switched off, it costs a branch.
    pub fn enable_profile(&mut self) {
        self.profiler.enable();
    }

    /// Ends the profile, and keeps what it holds.
    pub fn disable_profile(&mut self) {
        self.profiler.disable();
    }

    /// The profile so far.
    pub const fn profile(&self) -> &Profile {
        self.profiler.data()
    }

    /// Calls `hook` after each call of a handler that took longer than `threshold`, whether or not there
    /// is a profile. It is told real time, also in a simulated world, where it had better not act on it.
    pub fn on_slow(&mut self, threshold: Duration, hook: impl FnMut(Slow) + 'static) {
        self.profiler.set_slow(Some(threshold));
        self.on_slow = Some(Box::new(hook));
    }

    /// Takes the hook of [`on_slow`](Self::on_slow) back.
    pub fn clear_on_slow(&mut self) {
        self.profiler.set_slow(None);
        self.on_slow = None;
    }

    fn set_owner(&mut self, token: Token, owner: Owner<S>) {
        let slot = token.slot as usize;
        if slot >= self.owners.len() {
            self.owners.resize_with(slot + 1, || Owner::Nobody);
        }
        self.owners[slot] = owner;
    }

    fn take_owner(&mut self, token: Token) -> Owner<S> {
        match self.owners.get_mut(token.slot as usize) {
            Some(owner) => std::mem::replace(owner, Owner::Nobody),
            None => Owner::Nobody,
        }
    }

    pub(crate) fn drop_owner(&mut self, token: Token) {
        drop(self.take_owner(token));
    }

    /// Gives an owner back that was taken out to be called, unless it was replaced, or its socket is
    /// gone or a task's.
    fn return_owner(&mut self, token: Token, owner: Owner<S>) {
        let is_wanted = match self.core.borrow().entry(token) {
            Some(Entry::Stream(stream)) => !stream.has_task,
            Some(Entry::Other(_)) => true,
            None => false,
        };
        if is_wanted && matches!(self.owners.get(token.slot as usize), Some(Owner::Nobody)) {
            self.owners[token.slot as usize] = owner;
        }
    }
}

impl<S> Drop for Reactor<S> {
    fn drop(&mut self) {
        self.tasks.end(&self.inbox);
        self.inbox.close();
        // What these hold may have something to say to the core: they go while it is not borrowed.
        self.owners.clear();
        self.timer_calls.clear();
        self.marks.clear();
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        drop(calls);
        self.offloaded.clear();
        self.hooks.clear();
        self.flush_hooks.clear();
        let (closed, wakers) = {
            let core = &mut *self.core.borrow_mut();
            (core.close_all(), std::mem::take(&mut core.wakers))
        };
        drop(closed);
        // Of what is left in other hands.
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl<S> std::fmt::Debug for Reactor<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sockets = self.core.borrow().len();
        f.debug_struct("Reactor").field("sockets", &sockets).finish_non_exhaustive()
    }
}
