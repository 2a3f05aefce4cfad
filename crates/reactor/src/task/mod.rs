//! Tasks: futures that run on the loop's thread, beside the handlers and on the same sockets.
//!
//! A program may be made of handlers, of tasks, or of both: [`Handle::with`] lets a task act as a
//! handler does, [`Reactor::spawn`] begins a task from within a handler, and a connection may go from
//! one to the other by [`Reactor::into_task`] and [`AsyncStream::into_handler`].
//!
//! ```
//! use std::net::SocketAddr;
//! use futures_lite::{AsyncReadExt, AsyncWriteExt, io};
//! use reactor::{ConnectOptions, ListenOptions, Reactor};
//!
//! let mut reactor = Reactor::<String>::new()?;
//! let handle = reactor.handle();
//! let any = SocketAddr::from(([127, 0, 0, 1], 0));
//! let mut listener = handle.listen(any, &ListenOptions::default())?;
//! let addr = listener.local_addr().expect("bound");
//! reactor.spawn(async move {
//!     let (stream, _) = listener.accept().await?;
//!     io::copy(&stream, &stream).await
//! });
//! reactor.spawn(async move {
//!     let mut stream = handle.connect(addr, &ConnectOptions::default()).await?;
//!     stream.write_all(b"hello").await?;
//!     stream.close().await?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer).await?;
//!     handle.with(|state, reactor| {
//!         *state = answer;
//!         reactor.stop();
//!     }).await?;
//!     std::io::Result::Ok(())
//! });
//! let mut state = String::new();
//! reactor.run(&mut state)?;
//! assert_eq!(state, "hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is promised
//!
//! Everything here may be dropped before it is ready, as in a race of two futures, and nothing is
//! lost by that. Wakers may be called on any thread. A panic ends its task and nothing else; the
//! [`JoinHandle`] tells. A task that never has to wait gets done so much, and then others have their
//! turn; a connection's task reads no more in a turn than its handler could.
//!
//! All tasks are dropped with their reactor. What is left of it in other hands then fails with
//! [`Gone`] or `NotConnected`.
//!
//! `join` is what a task is, `socket` what all sockets have in common, and `job` work for other threads.

mod answer;
mod file;
mod job;
mod join;
mod listener;
mod socket;
mod stream;
mod time;
mod udp;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

pub use file::AsyncFile;
pub use join::{JoinError, JoinHandle};
pub(crate) use join::{Runnable, Tasks};
pub use listener::AsyncListener;
pub use stream::AsyncStream;
pub use time::{Elapsed, Interval, Sleep};
pub use udp::AsyncUdp;

use crate::core::{Core, Stream};
use crate::inbox::Inbox;
use crate::reactor::Call;
use crate::remote::Post;
use crate::{Address, Closed, ConnectOptions, Gone, ListenOptions, Reactor, Token};

/// What tasks have of their reactor. It stays on the reactor's thread.
pub struct Handle<S> {
    core: Weak<RefCell<Core>>,
    inbox: Arc<Inbox<Post<S>>>,
    calls: Rc<RefCell<VecDeque<Call<S>>>>,
    tasks: Rc<Tasks>,
}

impl<S: 'static> Reactor<S> {
    /// A handle for tasks.
    pub fn handle(&self) -> Handle<S> {
        Handle {
            core: Rc::downgrade(&self.core),
            inbox: Arc::clone(&self.inbox),
            calls: Rc::clone(&self.calls),
            tasks: Rc::clone(&self.tasks),
        }
    }

    /// Runs a future on the loop, until it or the reactor ends.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.tasks.spawn(&self.inbox, future)
    }

    /// Runs a future on the loop, and the loop until that has ended. The other tasks, handlers and timers
    /// go on meanwhile, and stay where they are afterwards.
    ///
    /// # Errors
    /// As [`run`](Self::run); `Interrupted` if the loop was [stopped](Self::stop) before; if the future
    /// panicked.
    pub fn block_on<T: 'static>(
        &mut self,
        state: &mut S,
        future: impl Future<Output = T> + 'static,
    ) -> io::Result<T> {
        let result = Rc::new(Cell::new(None));
        let slot = Rc::clone(&result);
        let task = self.spawn(async move { slot.set(Some(future.await)) });
        let is_done = self.run_until(state, |_| task.is_finished())?;
        result.take().ok_or_else(|| match is_done {
            true => JoinError::Panicked.into(),
            false => io::ErrorKind::Interrupted.into(),
        })
    }

    /// How many tasks there are that have not ended.
    pub fn tasks_count(&self) -> usize {
        self.tasks.len()
    }

    /// Makes a handler's connection a task's. The handler is dropped; it does not hear `closed`. What it
    /// queued still goes out, as long as the stream lives.
    ///
    /// # Errors
    /// If the connection is over or about to be.
    pub fn into_task(&mut self, token: Token) -> Result<AsyncStream, Closed> {
        if !self.core.borrow_mut().give_to_task(token) {
            return Err(Closed);
        }
        self.drop_owner(token);
        Ok(AsyncStream::new(Rc::downgrade(&self.core), token))
    }
}

impl<S: 'static> Handle<S> {
    /// Runs a future on the loop, until it or the reactor ends. When the reactor is gone it is dropped
    /// at once.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.tasks.spawn(&self.inbox, future)
    }

    /// Acts as a handler does: with the program's state and the reactor, soon. If that panics, so does
    /// this. Dropped before, it is not done.
    ///
    /// # Errors
    /// If the reactor is gone.
    pub async fn with<T: 'static>(
        &self,
        act: impl FnOnce(&mut S, &mut Reactor<S>) -> T + 'static,
    ) -> Result<T, Gone> {
        if self.tasks.is_over() {
            return Err(Gone);
        }
        let (question, answer) = answer::ask();
        self.calls.borrow_mut().push_back(Box::new(move |state, reactor| {
            if question.is_open() {
                question.answer(catch_unwind(AssertUnwindSafe(|| act(state, reactor))));
            }
        }));
        answer.await.ok_or(Gone)?.map_or_else(|panic| resume_unwind(panic), Ok)
    }

    /// Acts as a handler does, soon: in this turn if its sockets and timers have had theirs, else in the
    /// same or the next. Nobody waits for it; if the reactor is gone, it is not done.
    pub fn soon(&self, act: impl FnOnce(&mut S, &mut Reactor<S>) + 'static) {
        if !self.tasks.is_over() {
            self.calls.borrow_mut().push_back(Box::new(act));
        }
    }

    /// Waits for a signal: the first that comes after this is polled first.
    ///
    /// # Errors
    /// For signals that cannot be caught; if the reactor is gone.
    pub async fn signal(&self, signal: i32) -> io::Result<()> {
        let (question, answer) = answer::ask();
        let mut question = Some(question);
        let watch = self.with(move |_, reactor| {
            reactor.on_signal(signal, move |_, _| {
                if let Some(question) = question.take() {
                    question.answer(());
                }
            })
        });
        let _guard = watch.await??;
        answer.await.ok_or_else(|| Gone.into())
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If it cannot be; `TimedOut` after the time in `options`; `NotConnected` if the reactor is gone.
    pub async fn connect(
        &self,
        addr: impl Into<Address>,
        options: &ConnectOptions,
    ) -> io::Result<AsyncStream> {
        let addr = addr.into();
        let stream = self.open(AsyncStream::new, |core| {
            let token = core.connect(&addr, options)?;
            core.give_to_task(token);
            Ok(token)
        })?;
        poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// Listens for connections.
    ///
    /// # Errors
    /// If the address cannot be had; `NotConnected` if the reactor is gone.
    pub fn listen(
        &self,
        addr: impl Into<Address>,
        options: &ListenOptions,
    ) -> io::Result<AsyncListener> {
        self.open(AsyncListener::new, |core| core.listen_for_task(&addr.into(), options))
    }

    /// Opens a datagram socket.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn bind_udp(&self, addr: SocketAddr, options: &ListenOptions) -> io::Result<AsyncUdp> {
        self.open(AsyncUdp::new, |core| core.bind_udp_for_task(addr, options))
    }

    fn open<T>(
        &self,
        make: impl FnOnce(Weak<RefCell<Core>>, Token) -> T,
        open: impl FnOnce(&mut Core) -> io::Result<Token>,
    ) -> io::Result<T> {
        let core = self.core.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let token = open(&mut core.borrow_mut())?;
        Ok(make(Weak::clone(&self.core), token))
    }

    /// The time, as of the latest call of a handler or task. The system's, if the reactor is gone.
    pub fn now(&self) -> Instant {
        self.core.upgrade().map_or_else(Instant::now, |core| core.borrow().now)
    }

    /// How many bytes of a handler's connection are queued and not yet with the kernel.
    pub fn queued(&self, token: Token) -> usize {
        let core = self.core.upgrade();
        core.map_or(0, |core| core.borrow().stream(token).map_or(0, Stream::queued))
    }

    /// Waits for so long. What is too long to be counted is as good as for ever.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(time::later(self.now(), time))
    }

    /// Waits until then.
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep::new(Weak::clone(&self.core), at)
    }

    /// Waits for `first`, and for the times after it that are `every` apart.
    ///
    /// # Panics
    /// If `every` is zero.
    pub fn interval(&self, first: Instant, every: Duration) -> Interval {
        Interval::new(Weak::clone(&self.core), first, every)
    }

    /// Waits for a future, but only for so long.
    ///
    /// # Errors
    /// If it takes longer; it is dropped.
    pub async fn timeout<T>(
        &self,
        time: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let (mut future, mut sleep) = (pin!(future), pin!(self.sleep(time)));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => sleep.as_mut().poll(context).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// Has a worker thread do `job`; in a simulated world it is done at once. Dropped before it began,
    /// it is not done.
    ///
    /// # Errors
    /// If the job panicked, or the reactor is gone.
    pub async fn unblock<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        job::unblock(&self.core, job).await
    }

    /// Looks up a host's addresses. An address is its own answer.
    ///
    /// # Errors
    /// If there are none.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        job::resolve(&self.core, host, port).await
    }

    const fn core(&self) -> &Weak<RefCell<Core>> {
        &self.core
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            core: Weak::clone(&self.core),
            inbox: Arc::clone(&self.inbox),
            calls: Rc::clone(&self.calls),
            tasks: Rc::clone(&self.tasks),
        }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
