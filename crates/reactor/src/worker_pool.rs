//! A few threads for what would block the loop.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::backend::lower_priority;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// How many threads a pool has, and how they stand beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Threads at most; 0 counts as 1. Default: 2.
    pub threads: usize,
    /// How far they step back when the processor is wanted: 0, the default, to 19. Linux only.
    pub nice: u8,
    /// They read from a disk only when nobody else does, if its scheduler knows of that. Linux only.
    pub idle_io: bool,
    /// How long the reactor's end waits for jobs that have begun, before it leaves them behind. Default: 5 s.
    pub patience: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { threads: 2, nice: 0, idle_io: false, patience: PATIENCE }
    }
}

/// Threads that start when there is work for them, and end when the pool is dropped. Jobs that have
/// not begun by then are dropped, and those that have are waited for: a while, since a disk may hang.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    options: PoolOptions,
    name: &'static str,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    is_work: Condvar,
    has_ended: Condvar,
    /// How long a thread without work stays; `None`: as long as the pool.
    idle_max: Option<Duration>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that live.
    threads: usize,
    /// Those of them that have nothing to do.
    idle: usize,
    is_over: bool,
    /// When the wait for jobs that have begun ends.
    give_up_at: Option<Instant>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} jobs, {} of {} idle)", self.jobs.len(), self.idle, self.threads)
    }
}

impl WorkerPool {
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Self {
        let options = PoolOptions { threads: threads_max, ..PoolOptions::default() };
        Self::with_options(name, options, None)
    }

    /// A pool whose jobs may hang in the system: it ends without waiting for them.
    pub(crate) fn detached(name: &'static str, threads_max: usize) -> Self {
        let mut pool = Self::new(name, threads_max);
        pool.options.patience = Duration::ZERO;
        pool
    }

    /// A pool that gives its threads back after a while without work.
    pub(crate) fn passing(name: &'static str, options: PoolOptions) -> Self {
        Self::with_options(name, options, Some(IDLE_MAX))
    }

    fn with_options(name: &'static str, options: PoolOptions, idle_max: Option<Duration>) -> Self {
        let (queue, is_work, has_ended) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { queue, is_work, has_ended, idle_max });
        Self { shared, threads: Vec::new(), options, name }
    }

    pub(crate) fn set_threads_max(&mut self, threads_max: usize) {
        self.options.threads = threads_max;
    }

    /// Threads that live already keep their priority.
    pub(crate) fn set_options(&mut self, options: PoolOptions) {
        self.options = options;
    }

    /// Has a thread do `job`, or gives it back if the system lets the pool have none.
    pub(crate) fn run(&mut self, job: Job) -> Result<(), Job> {
        // Locked throughout: a thread without work may be about to end.
        let mut queue = self.shared.lock();
        let is_short = queue.jobs.len() >= queue.idle;
        if is_short && queue.threads < self.options.threads.max(1) {
            let (shared, options) = (Arc::clone(&self.shared), self.options);
            let thread = std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
                lower_priority(options.nice, options.idle_io);
                work(&shared);
            });
            match thread {
                Ok(thread) => {
                    queue.threads += 1;
                    self.threads.retain(|thread| !thread.is_finished());
                    self.threads.push(thread);
                }
                Err(error) => {
                    tracing::warn!(%error, "the system gives us no more threads");
                    if queue.threads == 0 {
                        return Err(job);
                    }
                }
            }
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.is_work.notify_one();
        Ok(())
    }

    /// Has the threads end as soon as they are done with what they do.
    pub(crate) fn end(&self) {
        let mut queue = self.shared.lock();
        queue.is_over = true;
        queue.give_up_at.get_or_insert_with(|| Instant::now() + self.options.patience);
        let unbegun = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(unbegun);
        self.shared.is_work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.lock();
    while !queue.is_over {
        if let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a worker thread panicked");
            }
            queue = shared.lock();
            continue;
        }
        queue.idle += 1;
        let is_needless;
        (queue, is_needless) = match shared.idle_max {
            None => (shared.is_work.wait(queue).unwrap_or_else(PoisonError::into_inner), false),
            Some(idle_max) => {
                let waited = shared.is_work.wait_timeout(queue, idle_max);
                let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                let is_needless = timeout.timed_out() && queue.jobs.is_empty();
                (queue, is_needless)
            }
        };
        queue.idle -= 1;
        if is_needless {
            break;
        }
    }
    queue.threads -= 1;
    drop(queue);
    shared.has_ended.notify_all();
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.end();
        let mut queue = self.shared.lock();
        while queue.threads > 0 {
            let left = queue.give_up_at.map(|at| at.saturating_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { break };
            let waited = self.shared.has_ended.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let hanging = queue.threads;
        drop(queue);
        if hanging > 0 && !self.options.patience.is_zero() {
            tracing::warn!(pool = self.name, hanging, "jobs hang: their threads are left behind");
        }
        for thread in self.threads.drain(..).filter(|thread| hanging == 0 || thread.is_finished()) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// How long a thread of a passing pool stays without work.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long the end of a pool waits for jobs that have begun.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_without_work_end_and_come_back_with_it() {
        let (idle_max, options) = (Some(Duration::from_millis(1)), PoolOptions::default());
        let mut pool = WorkerPool::with_options("test", options, idle_max);
        for round in 0..3 {
            let (tx, rx) = mpsc::channel();
            assert!(pool.run(Box::new(move || tx.send(round).unwrap())).is_ok());
            assert_eq!(rx.recv().unwrap(), round);
            let mut queue = pool.shared.lock();
            while queue.threads > 0 {
                queue = pool.shared.has_ended.wait(queue).unwrap();
            }
        }
    }

    #[test]
    fn a_job_that_hangs_does_not_hold_up_the_end() {
        let (begun_tx, begun) = mpsc::channel();
        let (release, hang) = mpsc::channel::<()>();
        let patience = Duration::from_millis(20);
        let options = PoolOptions { threads: 1, patience, ..PoolOptions::default() };
        let mut pool = WorkerPool::with_options("test", options, None);
        let hanging = move || {
            begun_tx.send(()).unwrap();
            hang.recv().ok();
        };
        assert!(pool.run(Box::new(hanging)).is_ok());
        begun.recv().unwrap();
        let (never_tx, never) = mpsc::channel::<()>();
        assert!(pool.run(Box::new(move || drop(never_tx))).is_ok());
        drop(pool);
        assert!(never.recv().is_err(), "what had not begun is dropped");
        drop(release);
    }

    #[test]
    fn what_has_begun_is_waited_for() {
        let (begun_tx, begun) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let done = Arc::new(Mutex::new(false));
        let mut pool = WorkerPool::new("test", 1);
        let is_done = Arc::clone(&done);
        let job = move || {
            begun_tx.send(()).unwrap();
            held.recv().ok();
            *is_done.lock().unwrap() = true;
        };
        assert!(pool.run(Box::new(job)).is_ok());
        begun.recv().unwrap();
        let dropping = std::thread::spawn(move || drop(pool));
        drop(release);
        dropping.join().unwrap();
        assert!(*done.lock().unwrap());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_steps_back_by_itself_alone() {
        let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = nice();
        let mut pool = WorkerPool::passing(
            "test",
            PoolOptions { nice: 7, idle_io: true, threads: 1, ..PoolOptions::default() },
        );
        let (tx, rx) = mpsc::channel();
        assert!(pool.run(Box::new(move || tx.send(nice()).unwrap())).is_ok());
        assert_eq!((rx.recv().unwrap(), nice()), (before.max(7), before));
    }
}
