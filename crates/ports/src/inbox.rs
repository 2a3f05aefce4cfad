//! Ports whose messages a task takes in the order that suits it: selective receive.
//!
//! Such a port's body is an `async` function. It ends with the port, and the port with it: normally if the
//! body does, with the reason if that returns an error or panics.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use reactor::task::JoinHandle;

use crate::node::context::Context;
use crate::node::outcome::Outcome;
use crate::node::port::panic_text;
use crate::{List, Message, Node, Port, PortId, Reason, ReceiveError, wire};

/// What a port's body takes its messages from. Each call looks at the oldest first; what it does not
/// take stays, in order, for later ones. Messages that nobody ever asks for stay for ever: with more
/// than [`INBOX_MAX`] of them, or than was [set](Self::set_max), the port ends with the reason `inbox_full`.
pub struct Inbox<M> {
    node: Node,
    port: PortId,
    queue: Rc<Queue<M>>,
}

/// The most messages that wait in an [`Inbox`] that has no other maximum.
pub const INBOX_MAX: usize = 1_000_000;

struct Queue<M> {
    messages: RefCell<VecDeque<M>>,
    max: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl<M: Message> Inbox<M> {
    /// The port that this is the inbox of.
    pub const fn this(&self) -> &PortId {
        &self.port
    }

    /// The node.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Lets at most so many messages wait: with more, the port ends.
    pub fn set_max(&mut self, max: usize) {
        self.queue.max.set(max);
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.queue.messages.borrow().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.messages.borrow().is_empty()
    }

    /// The oldest message, or the next that comes.
    #[expect(clippy::missing_panics_doc, reason = "without a timeout there is no other end")]
    pub async fn next(&mut self) -> M {
        self.receive(None, |_| true).await.expect("there is no time that could be over")
    }

    /// The oldest message for which `condition` says true; one that it refused is not shown to it again in
    /// this call. `None` when `timeout` is over, counted from now, not from the latest message: zero
    /// takes only what is here, `None` waits for ever.
    pub async fn receive(
        &mut self,
        timeout: Option<Duration>,
        mut condition: impl FnMut(&M) -> bool,
    ) -> Option<M> {
        let is_wanted = move |message: &M| condition(message).then_some(());
        self.take(timeout, is_wanted).await.map(|(message, ())| message)
    }

    /// What `condition` makes of the oldest message that it makes something of. That message is removed.
    /// Otherwise as [`receive`](Self::receive).
    pub async fn receive_map<T>(
        &mut self,
        timeout: Option<Duration>,
        condition: impl FnMut(&M) -> Option<T>,
    ) -> Option<T> {
        self.take(timeout, condition).await.map(|(_, made)| made)
    }

    /// The oldest message with this tag. Otherwise as [`receive`](Self::receive).
    pub async fn receive_tag(&mut self, timeout: Option<Duration>, tag: &str) -> Option<M> {
        self.receive(timeout, |message| wire::with_tag(message, |found| found == Some(tag))).await
    }

    async fn take<T>(
        &mut self,
        timeout: Option<Duration>,
        mut condition: impl FnMut(&M) -> Option<T>,
    ) -> Option<(M, T)> {
        let mut seen = 0;
        let queue = Rc::clone(&self.queue);
        let find = poll_fn(move |context| {
            // What the condition sends goes to mailboxes: nothing comes in here before it returns.
            let mut messages = queue.messages.borrow_mut();
            while let Some(message) = messages.get(seen) {
                if let Some(made) = condition(message) {
                    let message = messages.remove(seen).expect("it was just looked at");
                    return Poll::Ready((message, made));
                }
                seen += 1;
            }
            drop(messages);
            drop(queue.waker.replace(Some(context.waker().clone())));
            Poll::Pending
        });
        match timeout {
            None => Some(find.await),
            Some(Duration::ZERO) => {
                let mut find = pin!(find);
                poll_fn(|context| match find.as_mut().poll(context) {
                    Poll::Ready(found) => Poll::Ready(Some(found)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await
            }
            Some(time) => {
                let handle = self.node.shared.run_queue.handle().clone();
                handle.timeout(time, find).await.ok()
            }
        }
    }
}

impl Inbox<List> {
    /// The oldest message with this tag, without it. Otherwise as [`receive`](Self::receive).
    pub async fn get(&mut self, timeout: Option<Duration>, tag: &str) -> Option<List> {
        let mut list = self.receive_tag(timeout, tag).await?;
        list.remove(0);
        Some(list)
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.port).finish()
    }
}

impl Node {
    /// Makes a port with a body: `port_async`.
    pub fn port_async<M: Message, F: Future<Output: Outcome> + 'static>(
        &self,
        body: impl FnOnce(Inbox<M>) -> F + 'static,
    ) -> Port<M> {
        let port = self.port(|_: &Context<'_>, _: M| {});
        // It was made just now, so it is here and has no body.
        self.receive_async(&port.id(), body).unwrap_or(port)
    }

    /// Gives a port of this node a body: `rcv_async`. It gets what no tag takes, from now on.
    ///
    /// # Errors
    /// As [`receive`](Self::receive); and if the port has a body already, since that would wait for ever.
    pub fn receive_async<M: Message, F: Future<Output: Outcome> + 'static>(
        &self,
        port: &PortId,
        body: impl FnOnce(Inbox<M>) -> F + 'static,
    ) -> Result<Port<M>, ReceiveError> {
        let found = self.local_port(port.name()).filter(|_| self.is_local(port));
        if found.is_some_and(|found| found.head().has_kept::<Body>()) {
            return Err(ReceiveError::HasBody(port.clone()));
        }
        let queue = Rc::new(Queue {
            messages: RefCell::default(),
            max: Cell::new(INBOX_MAX),
            waker: Cell::new(None),
        });
        let inbox = Inbox { node: self.clone(), port: port.clone(), queue: Rc::clone(&queue) };
        let receiver = self.receive(port, move |_, message: M| queue.push(message))?;
        let (node, id) = (self.clone(), port.clone());
        let task = self.shared.run_queue.handle().spawn(async move {
            let result = guarded(async move { body(inbox).await.into_result() }).await;
            node.kill(&id, result.err().unwrap_or(Reason::NORMAL));
        });
        self.keep_in(port, Box::new(Body(Task(Some(task)))));
        Ok(receiver)
    }

    /// Runs a task that ends with a port of this node, and whose error ends that: `peval_async`. The
    /// task's own end ends nothing. If the port is not there, neither is the task.
    pub fn spawn_task_in<O: Outcome>(
        &self,
        port: &PortId,
        task: impl Future<Output = O> + 'static,
    ) {
        let (node, id) = (self.clone(), port.clone());
        let task = self.shared.run_queue.handle().spawn(async move {
            match guarded(async move { task.await.into_result() }).await {
                Err(reason) if id.is_node() => tracing::error!("{id}: {reason}"),
                Err(reason) => node.kill(&id, reason),
                Ok(()) => {}
            }
        });
        let task = Task(Some(task));
        if self.is_local(port) {
            self.keep_in(port, Box::new(task));
        }
    }
}

/// What becomes of a future that may panic.
async fn guarded(future: impl Future<Output = Result<(), Reason>>) -> Result<(), Reason> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(Reason::die(panic_text(&*panic)))))
    })
    .await
}

impl<M> Queue<M> {
    fn push(&self, message: M) -> Result<(), Reason> {
        let mut messages = self.messages.borrow_mut();
        if messages.len() >= self.max.get() {
            return Err(Reason::new("inbox_full", "too many messages that nobody asked for"));
        }
        messages.push_back(message);
        drop(messages);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }
}

/// A port's body, of which there is one.
struct Body(#[expect(dead_code, reason = "held to be dropped")] Task);

/// A task that ends with its port.
pub(crate) struct Task(Option<JoinHandle<()>>);

impl Task {
    /// Whether there is nothing left to end.
    pub(crate) fn is_over(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.cancel();
        }
    }
}

impl Context<'_> {
    /// Gives this port a body. See [`Node::receive_async`].
    ///
    /// # Panics
    /// In a node's own port, and if this port has a body.
    pub fn receive_async<M: Message, F: Future<Output: Outcome> + 'static>(
        &self,
        body: impl FnOnce(Inbox<M>) -> F + 'static,
    ) -> Port<M> {
        self.node().receive_async(&self.this(), body).expect("this port is here, and has no body")
    }
}
