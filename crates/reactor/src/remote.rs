//! The way into a reactor from other threads.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Reactor;
use crate::inbox::Inbox;
use crate::task::Runnable;

/// A handle that any thread may hold: has closures run on the reactor's thread, or stops it.
pub struct Remote<S> {
    pub(crate) inbox: Arc<Inbox<Post<S>>>,
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

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> Self {
        Self::new(io::ErrorKind::NotConnected, gone)
    }
}

type Call<S> = Box<dyn FnOnce(&mut S, &mut Reactor<S>) + Send>;

/// What other threads have for the loop.
pub(crate) enum Post<S> {
    Call(Call<S>),
    /// An offloaded job has ended with this result.
    Done(u64, Box<dyn Any + Send>),
    /// A task has been woken.
    Run(Runnable),
}

impl<S> Remote<S> {
    /// Has `call` run on the reactor's thread, soon, after what was posted before.
    ///
    /// # Errors
    /// If the reactor is gone; `call` is dropped.
    pub fn post(
        &self,
        call: impl FnOnce(&mut S, &mut Reactor<S>) + Send + 'static,
    ) -> Result<(), Gone> {
        self.inbox.push(Post::Call(Box::new(call))).map_err(|_call| Gone)
    }

    /// Ends the loop's wait, if it waits.
    pub fn wake(&self) {
        self.inbox.wake();
    }

    /// Makes [`Reactor::run`] return after its current turn.
    pub fn stop(&self) {
        self.inbox.stop();
    }
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self { inbox: Arc::clone(&self.inbox) }
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}
