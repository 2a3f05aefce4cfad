//! What a task waits for that the loop is to do: a value that comes once, or not at all.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Whoever waits. Without an answer it is `None`.
pub(super) struct Answer<T> {
    shared: Rc<Shared<T>>,
}

/// Whoever is to answer.
pub(super) struct Question<T> {
    shared: Rc<Shared<T>>,
}

struct Shared<T> {
    value: Cell<Option<T>>,
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

pub(super) fn ask<T>() -> (Question<T>, Answer<T>) {
    let shared = Rc::new(Shared {
        value: Cell::new(None),
        is_over: Cell::new(false),
        waker: RefCell::new(None),
    });
    (Question { shared: Rc::clone(&shared) }, Answer { shared })
}

impl<T> Question<T> {
    /// Whether somebody still wants to know.
    pub(super) fn is_open(&self) -> bool {
        Rc::strong_count(&self.shared) > 1
    }

    pub(super) fn answer(self, value: T) {
        self.shared.value.set(Some(value));
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        self.shared.is_over.set(true);
        let waker = self.shared.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.shared.is_over.get() {
            return Poll::Ready(self.shared.value.take());
        }
        let waker = context.waker().clone();
        let before = self.shared.waker.borrow_mut().replace(waker);
        drop(before);
        Poll::Pending
    }
}
