//! The way into a reactor from other threads.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Reactor;
use crate::backend::Wake;

/// A handle that any thread may hold: has closures run on the reactor's thread, or stops it.
pub struct Remote<S> {
    shared: Arc<Shared<S>>,
}

/// The reactor is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is gone")
    }
}

impl std::error::Error for Gone {}

type Call<S> = Box<dyn FnOnce(&mut S, &mut Reactor<S>) + Send>;

/// What other threads have for the loop.
pub(crate) enum Post<S> {
    Call(Call<S>),
    /// An offloaded job has ended with this result.
    Done(u64, Box<dyn Any + Send>),
}

pub(crate) struct Shared<S> {
    posts: Mutex<Posts<S>>,
    /// The loop has been woken and has not looked yet: one wake-up is enough.
    is_woken: AtomicBool,
    is_stopped: AtomicBool,
    wake: Arc<dyn Wake>,
}

struct Posts<S> {
    list: Vec<Post<S>>,
    is_gone: bool,
}

impl<S> Shared<S> {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        let posts = Mutex::new(Posts { list: Vec::new(), is_gone: false });
        Arc::new(Self {
            posts,
            is_woken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            wake,
        })
    }

    pub(crate) fn post(&self, post: Post<S>) -> Result<(), Gone> {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        if posts.is_gone {
            return Err(Gone);
        }
        posts.list.push(post);
        drop(posts);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// Everything posted so far. Whatever is posted from now on wakes the loop again.
    pub(crate) fn take(&self) -> Vec<Post<S>> {
        self.is_woken.store(false, Ordering::Release);
        std::mem::take(&mut self.posts.lock().unwrap_or_else(PoisonError::into_inner).list)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner).list.is_empty()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopped(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Whether it was stopped; it no longer is. A stop that comes at the same moment is not lost.
    pub(crate) fn take_stopped(&self) -> bool {
        self.is_stopped.swap(false, Ordering::AcqRel)
    }

    /// The reactor is being dropped. What was posted is dropped with it.
    pub(crate) fn end(&self) {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.is_gone = true;
        let dropped = std::mem::take(&mut posts.list);
        drop(posts);
        drop(dropped);
    }
}

impl<S> Remote<S> {
    pub(crate) const fn new(shared: Arc<Shared<S>>) -> Self {
        Self { shared }
    }

    /// Has `call` run on the reactor's thread, soon, after what was posted before.
    ///
    /// # Errors
    /// If the reactor is gone; `call` is dropped.
    pub fn post(
        &self,
        call: impl FnOnce(&mut S, &mut Reactor<S>) + Send + 'static,
    ) -> Result<(), Gone> {
        self.shared.post(Post::Call(Box::new(call)))
    }

    /// Makes [`Reactor::run`] return after its current turn.
    pub fn stop(&self) {
        self.shared.set_stopped();
        self.shared.wake();
    }
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}
