//! What a task is: a future that the loop polls, and that ends before the loop does.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use async_task::FallibleTask;

use crate::inbox::Inbox;
use crate::remote::Post;

/// A future, with the name of its type for the profile.
pub(crate) type Runnable = async_task::Runnable<&'static str>;

/// Waits for a task, and is what came of it. Dropped, it leaves the task alone: an error that the task
/// returns is then nobody's.
pub struct JoinHandle<T> {
    /// Here until it is dropped.
    task: Option<FallibleTask<Result<T, JoinError>, &'static str>>,
}

/// Why nothing came of a task or job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked; that is in the log.
    Panicked,
    /// It was cancelled, or the reactor is gone.
    Cancelled,
}

impl<T> JoinHandle<T> {
    /// Ends the task: it is dropped soon, unless it has ended by itself.
    pub fn cancel(mut self) {
        drop(self.task.take());
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.task else { return Poll::Ready(Err(JoinError::Cancelled)) };
        Pin::new(task).poll(context).map(|result| result.unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Cancelled => "the task was cancelled",
        })
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}

/// All tasks of a reactor, so that they end when it does.
#[derive(Default)]
pub(crate) struct Tasks {
    /// By the order they were spawned in.
    wakers: RefCell<BTreeMap<u64, Waker>>,
    spawned: Cell<u64>,
    is_over: Cell<bool>,
}

impl Tasks {
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub(crate) fn len(&self) -> usize {
        self.wakers.borrow().len()
    }

    pub(super) fn spawn<S: 'static, F: Future + 'static>(
        self: &Rc<Self>,
        inbox: &Arc<Inbox<Post<S>>>,
        future: F,
    ) -> JoinHandle<F::Output> {
        let number = self.spawned.get();
        self.spawned.set(number + 1);
        let task = Task { future: Some(Box::pin(future)), number, tasks: Rc::clone(self) };
        let inbox = Arc::clone(inbox);
        let schedule = move |runnable| {
            let pushed = inbox.push(Post::Run(runnable));
            debug_assert!(pushed.is_ok(), "no task outlives its loop");
        };
        let builder = async_task::Builder::new().metadata(type_name::<F>());
        let (runnable, task) = builder.spawn_local(|_| task, schedule);
        if self.is_over() {
            drop(runnable);
        } else {
            self.wakers.borrow_mut().insert(number, runnable.waker());
            runnable.schedule();
        }
        JoinHandle { task: Some(task.fallible()) }
    }

    /// Drops all tasks, and lets no more begin. Their destructors run here, on the loop's thread, with
    /// nothing borrowed.
    pub(crate) fn end<S>(&self, inbox: &Inbox<Post<S>>) {
        self.is_over.set(true);
        let mut posts = Vec::new();
        loop {
            let wakers: Vec<Waker> = self.wakers.borrow().values().cloned().collect();
            if wakers.is_empty() {
                return;
            }
            // Each that is woken comes into the inbox, and what is dropped there is the task itself.
            wakers.into_iter().for_each(Waker::wake);
            inbox.take(&mut posts);
            if posts.is_empty() {
                // Another thread is waking the last, and has not put it there yet.
                thread::yield_now();
            }
            posts.clear();
        }
    }
}

/// A task's future. A panic of it ends it, and nothing else.
struct Task<T> {
    /// Here until it has ended.
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    number: u64,
    tasks: Rc<Tasks>,
}

impl<T> Task<T> {
    fn end(&mut self) {
        let waker = self.tasks.wakers.borrow_mut().remove(&self.number);
        drop(waker);
        let future = self.future.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::error!("a task panicked as it was dropped");
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Ready(Err(JoinError::Cancelled)) };
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(_panic) => {
                tracing::error!("a task panicked");
                Err(JoinError::Panicked)
            }
        };
        self.end();
        Poll::Ready(result)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.end();
    }
}
