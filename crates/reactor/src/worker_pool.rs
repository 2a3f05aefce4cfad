//! A few threads for what would block the loop.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that start when there is work for them, and end when the pool is dropped. Jobs that have
/// not begun by then are dropped.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    threads_max: usize,
    name: &'static str,
    is_awaited: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    is_work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    is_over: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} jobs, {} idle)", self.jobs.len(), self.idle)
    }
}

impl WorkerPool {
    pub(crate) fn new(name: &'static str, threads_max: usize) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), is_work: Condvar::new() });
        Self { shared, threads: Vec::new(), threads_max, name, is_awaited: true }
    }

    /// A pool whose jobs may hang in the system: it ends without waiting for them.
    pub(crate) fn detached(name: &'static str, threads_max: usize) -> Self {
        let mut pool = Self::new(name, threads_max);
        pool.is_awaited = false;
        pool
    }

    pub(crate) fn set_threads_max(&mut self, threads_max: usize) {
        self.threads_max = threads_max.max(1);
    }

    pub(crate) fn run(&mut self, job: Job) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push_back(job);
        let is_short = queue.jobs.len() > queue.idle;
        drop(queue);
        if is_short && self.threads.len() < self.threads_max {
            let shared = Arc::clone(&self.shared);
            let thread =
                std::thread::Builder::new().name(self.name.to_owned()).spawn(move || work(&shared));
            match thread {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => {
                    panic!("the system gives us no thread: {error}")
                }
                Err(error) => tracing::warn!(%error, "the system gives us no more threads"),
            }
        }
        self.shared.is_work.notify_one();
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if queue.is_over {
            return;
        }
        if let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a worker thread panicked");
            }
            queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        queue.idle += 1;
        queue = shared.is_work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.is_over = true;
        let unbegun = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(unbegun);
        self.shared.is_work.notify_all();
        for thread in self.threads.drain(..).filter(|_| self.is_awaited) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}
