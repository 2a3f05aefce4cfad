//! What other threads have of a node.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use reactor::{Gone, Remote};

use crate::node::Shared;
use crate::node::port::panic_text;
use crate::{CallError, Message, Node, NodeId, Port, PortId, Reason};

/// A node, for other threads, and for tasks of other executors, such as tokio's: to send, to watch ports,
/// and to call. Nothing here waits, but for what says so. A clone is the same node.
#[derive(Clone)]
pub struct NodeHandle {
    node: Arc<Far>,
}

/// A port, for other threads: the fast way to send there. A clone is the same port.
///
/// Messages of one thread arrive in the order in which it sent them this way.
pub struct PortHandle<M> {
    lane: Arc<Lane<M>>,
}

/// What all handles share.
pub(crate) struct Far {
    id: NodeId,
    number: u64,
    remote: Remote<()>,
    calls: Mutex<Vec<Call>>,
}

type Call = Box<dyn FnOnce(&Node) + Send>;

struct Lane<M> {
    node: NodeHandle,
    to: PortId,
    messages: Mutex<Vec<M>>,
}

thread_local! {
    /// This thread's nodes that others have handles of.
    static NODES: RefCell<BTreeMap<u64, Weak<Shared>>> = const { RefCell::new(BTreeMap::new()) };
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl Node {
    /// A handle for other threads.
    pub fn handle(&self) -> NodeHandle {
        let node = self.shared.handle.get_or_init(|| {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            NODES.with_borrow_mut(|nodes| nodes.insert(number, Rc::downgrade(&self.shared)));
            let (id, remote) = (self.id().clone(), self.shared.remote.clone());
            Arc::new(Far { id, number, remote, calls: Mutex::default() })
        });
        NodeHandle { node: Arc::clone(node) }
    }
}

impl Far {
    /// The node is gone. This is its thread.
    pub(crate) fn forget(&self) {
        // The thread itself may be about to end.
        let _ended = NODES.try_with(|nodes| nodes.borrow_mut().remove(&self.number));
    }
}

impl NodeHandle {
    /// The node's ID.
    pub fn id(&self) -> &NodeId {
        &self.node.id
    }

    /// Acts on the node's thread, soon, behind what this thread asked for before.
    ///
    /// # Errors
    /// If the node's loop is gone. It may end before it acts.
    pub fn post(&self, call: impl FnOnce(&Node) + Send + 'static) -> Result<(), Gone> {
        let mut calls = lock(&self.node.calls);
        calls.push(Box::new(call));
        let is_first = calls.len() == 1;
        drop(calls);
        if !is_first {
            return Ok(());
        }
        let drain = Drain { far: Arc::clone(&self.node), is_done: false };
        self.node.remote.post(move |(), _| drain.run())
    }

    /// Sends a message, as [`Node::send`] does.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub fn send<M: Message + Send>(&self, to: &PortId, message: M) -> Result<(), Gone> {
        let to = to.clone();
        self.post(move |node| node.send(&to, message))
    }

    /// Ends a port, as [`Node::kill`] does.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub fn kill(&self, port: &PortId, reason: Reason) -> Result<(), Gone> {
        let port = port.clone();
        self.post(move |node| node.kill(port, reason))
    }

    /// Calls when a port ends, on the node's thread, as [`Node::monitor`] does; until then nothing takes
    /// the monitor back. If the node ends before, the call is dropped.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub fn monitor(
        &self,
        port: &PortId,
        call: impl FnOnce(Reason) + Send + 'static,
    ) -> Result<(), Gone> {
        let port = port.clone();
        self.post(move |node| node.monitor(port, |_, reason| call(reason)).detach())
    }

    /// The fast way to a port.
    pub fn port<M: Message + Send>(&self, to: &PortId) -> PortHandle<M> {
        let lane = Lane { node: self.clone(), to: to.clone(), messages: Mutex::default() };
        PortHandle { lane: Arc::new(lane) }
    }

    /// Calls a port, as [`Node::call`] does, and is the answer, on any executor.
    ///
    /// # Errors
    /// [`CallError`]; a node that is gone is a port that has ended.
    pub fn call<M: Message, R: Message + Send>(
        &self,
        port: &PortId,
        message: impl FnOnce(PortId) -> M + Send + 'static,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<R, CallError>> + Send + 'static {
        Waiting { answer: self.begin_call(port, message, timeout), node: self.clone() }
    }

    fn begin_call<M: Message, R: Message + Send>(
        &self,
        port: &PortId,
        message: impl FnOnce(PortId) -> M + Send + 'static,
        timeout: Option<Duration>,
    ) -> Arc<Answer<R>> {
        let answer = Arc::new(Answer::default());
        let teller = Teller(Some(Arc::clone(&answer)));
        let port = port.clone();
        // If the node is gone, the teller has said so.
        let _gone = self.post(move |node| {
            let answer = teller.0.clone();
            let reply = node.call(port, message, timeout, move |_, result| teller.tell(result));
            if let Some(answer) = answer {
                lock(&answer.state).reply = Some(reply);
            }
        });
        answer
    }

    /// The same, for a thread that waits.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// On the node's own thread, which would wait for itself.
    pub fn call_blocking<M: Message, R: Message + Send>(
        &self,
        port: &PortId,
        message: impl FnOnce(PortId) -> M + Send + 'static,
        timeout: Option<Duration>,
    ) -> Result<R, CallError> {
        let is_own = NODES.with_borrow(|nodes| nodes.contains_key(&self.node.number));
        assert!(!is_own, "a node's own thread cannot wait for an answer: it has to bring it");
        let answer = self.begin_call(port, message, timeout);
        let mut state = lock(&answer.state);
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            state = answer.has_come.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Takes what was asked for to the node. Dropped before, it drops that: nobody will do it any more.
struct Drain {
    far: Arc<Far>,
    is_done: bool,
}

impl Drain {
    fn run(mut self) {
        let node = NODES.with_borrow(|nodes| nodes.get(&self.far.number).and_then(Weak::upgrade));
        let Some(shared) = node else { return };
        let node = Node { shared };
        crate::port::enter(&node);
        // What comes from now on has a drain of its own.
        self.is_done = true;
        let calls = std::mem::take(&mut *lock(&self.far.calls));
        for call in calls {
            node.run_call(call);
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if !self.is_done {
            let calls = std::mem::take(&mut *lock(&self.far.calls));
            drop(calls);
        }
    }
}

impl<M: Message + Send> PortHandle<M> {
    /// Sends a message. It is lost if the node's loop is gone.
    pub fn send(&self, message: M) {
        let mut messages = lock(&self.lane.messages);
        messages.push(message);
        let is_first = messages.len() == 1;
        drop(messages);
        if is_first {
            let delivery = Delivery { lane: Arc::clone(&self.lane), is_done: false };
            // If the node is gone, the delivery has dropped what there was.
            let _gone = self.lane.node.post(move |node| delivery.run(node));
        }
    }

    /// Its name.
    pub fn id(&self) -> &PortId {
        &self.lane.to
    }
}

/// As [`Drain`], for one port's messages.
struct Delivery<M> {
    lane: Arc<Lane<M>>,
    is_done: bool,
}

impl<M: Message> Delivery<M> {
    fn run(mut self, node: &Node) {
        self.is_done = true;
        let messages = std::mem::take(&mut *lock(&self.lane.messages));
        let port = Port::to(node, &self.lane.to);
        let mut messages = messages.into_iter();
        // One that cannot be sent does not keep back the others.
        while !messages.as_slice().is_empty() {
            let sent = catch_unwind(AssertUnwindSafe(|| {
                messages.by_ref().for_each(|message| port.send(message));
            }));
            if let Err(panic) = sent {
                tracing::error!("{}", panic_text(&*panic));
            }
        }
    }
}

impl<M> Drop for Delivery<M> {
    fn drop(&mut self) {
        if !self.is_done {
            let messages = std::mem::take(&mut *lock(&self.lane.messages));
            drop(messages);
        }
    }
}

impl<M> Clone for PortHandle<M> {
    fn clone(&self) -> Self {
        Self { lane: Arc::clone(&self.lane) }
    }
}

struct Answer<R> {
    state: Mutex<AnswerState<R>>,
    has_come: Condvar,
}

struct AnswerState<R> {
    result: Option<Result<R, CallError>>,
    waker: Option<Waker>,
    /// The port that awaits the answer.
    reply: Option<PortId>,
}

impl<R> Default for Answer<R> {
    fn default() -> Self {
        let state = AnswerState { result: None, waker: None, reply: None };
        Self { state: Mutex::new(state), has_come: Condvar::new() }
    }
}

/// Tells the answer, once; dropped before, that there will be none.
struct Teller<R>(Option<Arc<Answer<R>>>);

impl<R> Teller<R> {
    fn tell(mut self, result: Result<R, CallError>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<R, CallError>) {
        let Some(answer) = self.0.take() else { return };
        let mut state = lock(&answer.state);
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        answer.has_come.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R> Drop for Teller<R> {
    fn drop(&mut self) {
        self.give(Err(CallError::Ended(Reason::new("gone", "the node is gone"))));
    }
}

struct Waiting<R: Message + Send> {
    answer: Arc<Answer<R>>,
    node: NodeHandle,
}

impl<R: Message + Send> Drop for Waiting<R> {
    fn drop(&mut self) {
        if Arc::strong_count(&self.answer) > 1 {
            let answer = Arc::clone(&self.answer);
            // Behind the call itself. If the node is gone, so is the port.
            let _gone = self.node.post(move |node| {
                let reply = lock(&answer.state).reply.take();
                if let Some(reply) = reply {
                    node.kill(reply, Reason::NORMAL);
                }
            });
        }
    }
}

impl<R: Message + Send> Future for Waiting<R> {
    type Output = Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.answer.state);
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What a thread that panicked left is as good as ever: every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeHandle").field(&self.node.id).finish()
    }
}

impl<M> fmt::Debug for PortHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PortHandle").field(&self.lane.to).finish()
    }
}
