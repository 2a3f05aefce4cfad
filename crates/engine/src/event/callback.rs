//! A function that is called for each event, on a thread of its own: it may take its time.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::queue::Queue;
use super::{Event, EventMask, EventSink};
use crate::session::Gone;

/// Calls a function for each event while it is held. Dropping it waits until a call that runs is over;
/// then there are no more. The function itself may drop it, too; that waits for nothing.
#[derive(Debug)]
#[must_use = "the function is called while this is held"]
pub struct Subscription {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// Why a function will not be called.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The session is over.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The system gives us no thread to call it on.
    #[error("no thread to tell of events on: {0}")]
    Thread(#[from] io::Error),
}

impl Subscription {
    /// A thread that calls `function` for what comes into the sink.
    pub(crate) fn start(
        mask: EventMask,
        mut function: impl FnMut(&Event) + Send + 'static,
    ) -> io::Result<(EventSink, Self)> {
        let (sink, events) = EventSink::new(mask);
        let queue = sink.queue();
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || events.iter().for_each(|event| function(&event)))?;
        Ok((sink, Self { queue, thread: Some(thread) }))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.abandon();
        let Some(thread) = self.thread.take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        if let Err(_panic) = thread.join() {
            tracing::error!("a function that was told of events panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::event::{EventKind, Publisher};

    #[test]
    fn the_function_is_called_until_the_subscription_is_dropped() {
        let publisher = Publisher::default();
        let (sender, receiver) = channel();
        let (sink, subscription) = Subscription::start(EventMask::ALL, move |event| {
            sender.send(event.kind.name()).unwrap();
        })
        .unwrap();
        publisher.add(sink, None);
        publisher.publish(None, &EventKind::Completed);
        assert_eq!(receiver.recv(), Ok("completed"));
        drop(subscription);
        publisher.publish(None, &EventKind::Completed);
        assert!(receiver.recv().is_err(), "the function is gone with its thread");
        assert!(!publisher.wants(EventMask::ALL));
    }

    #[test]
    fn the_function_may_end_its_own_subscription() {
        let publisher = Publisher::default();
        let slot = Arc::new(Mutex::new(None));
        let (sender, receiver) = channel();
        let own = Arc::clone(&slot);
        let (sink, subscription) = Subscription::start(EventMask::ALL, move |_| {
            own.lock().unwrap_or_else(PoisonError::into_inner).take();
            sender.send(()).unwrap();
        })
        .unwrap();
        *slot.lock().unwrap() = Some(subscription);
        publisher.add(sink, None);
        publisher.publish(None, &EventKind::Completed);
        publisher.publish(None, &EventKind::Completed);
        assert_eq!(receiver.iter().count(), 1);
    }

    #[test]
    fn the_thread_ends_with_what_it_listens_to() {
        let publisher = Publisher::default();
        let (sender, receiver) = channel();
        let (sink, mut subscription) = Subscription::start(EventMask::ALL, move |_| {
            sender.send(()).unwrap();
        })
        .unwrap();
        publisher.add(sink, None);
        publisher.publish(None, &EventKind::Completed);
        drop(publisher);
        subscription.thread.take().unwrap().join().unwrap();
        assert_eq!(receiver.iter().count(), 1, "what was told before the end is heard");
    }
}
