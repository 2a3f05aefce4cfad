//! Messages that are answered.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use super::Node;
use super::monitor::Monitor;
use super::timer::Timer;
use crate::{Message, PortId, Reason};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// It did not come in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The port that was asked has ended, or what came was no answer.
    #[error("there will be no answer: {0}")]
    Ended(Reason),
}

/// What a call that waits keeps.
struct Waiting<F> {
    done: F,
    _monitor: Monitor,
    _timer: Option<Timer>,
}

type Done<R> = Box<dyn FnOnce(&Node, Result<R, CallError>)>;

impl Node {
    /// Sends a message with a port to answer to, and calls once with the answer, or with why there is
    /// none: the port that was asked has ended, or the time is over, if there is one. Returns the port
    /// that awaits the answer.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn call<M: Message, R: Message>(
        &self,
        port: impl Into<PortId>,
        message: impl FnOnce(PortId) -> M,
        timeout: Option<Duration>,
        done: impl FnOnce(&Self, Result<R, CallError>) + 'static,
    ) -> PortId {
        let asked = port.into();
        let slot = Rc::new(RefCell::new(None));
        let finish = {
            let slot = Rc::clone(&slot);
            move |node: &Self, result| {
                let waiting: Option<Waiting<_>> = slot.borrow_mut().take();
                if let Some(waiting) = waiting {
                    let done: Done<R> = waiting.done;
                    // A panic is the program's, and none of the port's that awaits the answer.
                    node.run_call(Box::new(move |node| done(node, result)));
                }
            }
        };
        let answered = finish.clone();
        let reply = self.port(move |context, answer: R| {
            context.end(Reason::NORMAL);
            answered(context.node(), Ok(answer));
        });
        let reply = reply.id();
        // Whatever ends the port that awaits the answer ends the call, also a message that is no answer.
        let ended = finish.clone();
        self.monitor(&reply, move |node, reason| ended(node, Err(CallError::Ended(reason))))
            .detach();
        let timer = timeout.map(|time| {
            let (late, reply) = (finish.clone(), reply.clone());
            self.timer(time, move |node| {
                late(node, Err(CallError::TimedOut));
                node.kill(&reply, Reason::NORMAL);
            })
        });
        let monitor = {
            let reply = reply.clone();
            self.monitor(&asked, move |node, reason| {
                // Behind the answer, if that is under way.
                node.kill(&reply, reason);
            })
        };
        *slot.borrow_mut() =
            Some(Waiting { done: Box::new(done) as Box<_>, _monitor: monitor, _timer: timer });
        self.send(&asked, message(reply.clone()));
        reply
    }

    /// The same, as a future. Dropped before, it is as if there were no answer.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn request<M: Message, R: Message>(
        &self,
        port: impl Into<PortId>,
        message: impl FnOnce(PortId) -> M,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<R, CallError>> + 'static {
        let shared = Rc::new(Shared { answer: Cell::new(None), waker: RefCell::new(None) });
        let teller = Rc::clone(&shared);
        let reply = self.call(port, message, timeout, move |_, result| {
            teller.answer.set(Some(result));
            let waker = teller.waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        Request { shared, reply, node: self.clone() }
    }
}

struct Shared<R> {
    answer: Cell<Option<Result<R, CallError>>>,
    waker: RefCell<Option<Waker>>,
}

struct Request<R> {
    shared: Rc<Shared<R>>,
    reply: PortId,
    node: Node,
}

impl<R> Future for Request<R> {
    type Output = Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.shared.answer.take() {
            return Poll::Ready(answer);
        }
        let before = self.shared.waker.borrow_mut().replace(context.waker().clone());
        drop(before);
        Poll::Pending
    }
}

impl<R> Drop for Request<R> {
    fn drop(&mut self) {
        self.node.kill(&self.reply, Reason::NORMAL);
    }
}
