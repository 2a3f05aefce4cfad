//! What waits for one subscriber: bounded, whoever strangers are and however slow the subscriber is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::{Event, EventKind};

/// The events of a subscription, oldest first: to be waited for, polled, iterated over, or awaited as a
/// [`Stream`]. They end with the session, when those that are left have been taken.
///
/// At most 16,384 events wait, and 16 MiB of what peers sent; what is told beyond is lost, and an
/// [`EventKind::Lagged`] in its place says how many.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something has come for a thread that waits.
    has_come: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Bytes that the events keep beside their own.
    extra_len: usize,
    /// Events after the last of `events` that were not kept.
    lost: u64,
    /// The task that waits.
    waker: Option<Waker>,
    /// Nothing more will come.
    is_ended: bool,
    /// Nobody reads any more.
    is_abandoned: bool,
}

impl Queue {
    /// Whether somebody still reads.
    pub(super) fn push(&self, event: &Event) -> bool {
        let mut waiting = self.lock();
        if waiting.is_abandoned {
            return false;
        }
        waiting.keep(event);
        let waker = waiting.waker.take();
        drop(waiting);
        self.has_come.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_ended = true;
        let waker = waiting.waker.take();
        drop(waiting);
        self.has_come.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody will read what is left.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        let left = std::mem::take(&mut *waiting);
        (waiting.is_ended, waiting.is_abandoned) = (true, true);
        drop(waiting);
        drop(left);
        self.has_come.notify_all();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic is done under the lock, so what it guards is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn keep(&mut self, event: &Event) {
        let extra_len = event.kind.extra_len();
        // Room for the note of what was lost, too.
        let has_room = self.events.len() + usize::from(self.lost > 0) < QUEUED_MAX
            && self.extra_len + extra_len <= EXTRA_LEN_MAX;
        if !has_room {
            self.lost += 1;
            return;
        }
        self.note_lost();
        self.extra_len += extra_len;
        self.events.push_back(event.clone());
    }

    fn note_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let kind = EventKind::Lagged(lost);
            self.events.push_back(Event { torrent: None, at: Instant::now(), kind });
        }
    }

    fn take(&mut self) -> Result<Event, TryRecvError> {
        if self.events.is_empty() {
            self.note_lost();
        }
        match self.events.pop_front() {
            Some(event) => {
                self.extra_len -= event.kind.extra_len();
                Ok(event)
            }
            None if self.is_ended => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

impl Events {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// The next event; waits for it.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn recv(&self) -> Result<Event, RecvError> {
        let mut waiting = self.queue.lock();
        loop {
            match waiting.take() {
                Ok(event) => return Ok(event),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => {
                    let woken = self.queue.has_come.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The next event; waits so long for it.
    ///
    /// # Errors
    /// If none has come, or the session has ended.
    pub fn recv_timeout(&self, patience: Duration) -> Result<Event, RecvTimeoutError> {
        let since = Instant::now();
        let mut waiting = self.queue.lock();
        loop {
            match waiting.take() {
                Ok(event) => return Ok(event),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            let woken = self.queue.has_come.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next event, if it is here.
    ///
    /// # Errors
    /// If it is not, or the session has ended.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.queue.lock().take()
    }

    /// All events until the session ends; waits for each.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The events that are here.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Waits; `None` when the session has ended.
    fn next(&mut self) -> Option<Event> {
        self.recv().ok()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut waiting = self.queue.lock();
        match waiting.take() {
            Ok(event) => Poll::Ready(Some(event)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Events that wait for one subscriber.
const QUEUED_MAX: usize = 16 * 1024;
/// Bytes that those keep beside their own: bitfields and messages that peers sent.
const EXTRA_LEN_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::Bytes;
    use torrent::wire::Message;

    use super::*;
    use crate::event::Packet;

    fn event(kind: EventKind) -> Event {
        Event { torrent: None, at: Instant::now(), kind }
    }

    fn events() -> (Arc<Queue>, Events) {
        let queue = Arc::new(Queue::default());
        (Arc::clone(&queue), Events::new(queue))
    }

    #[test]
    fn a_slow_subscriber_loses_the_newest_and_is_told_how_many_where_they_are_missing() {
        let (queue, events) = events();
        for _ in 0..QUEUED_MAX + 5 {
            queue.push(&event(EventKind::Completed));
        }
        for _ in 0..2 {
            assert!(matches!(events.recv().unwrap().kind, EventKind::Completed));
        }
        queue.push(&event(EventKind::DiskFailed(String::new())));
        let rest: Vec<EventKind> = events.try_iter().map(|event| event.kind).collect();
        assert_eq!(rest.len(), QUEUED_MAX);
        let [.., EventKind::Completed, EventKind::Lagged(5), EventKind::DiskFailed(_)] = &rest[..]
        else {
            panic!("{:?}", &rest[rest.len() - 3..]);
        };
    }

    #[test]
    fn a_loss_is_told_even_if_nothing_more_happens() {
        let (queue, events) = events();
        for _ in 0..=QUEUED_MAX {
            queue.push(&event(EventKind::Completed));
        }
        assert!(matches!(events.try_iter().last().unwrap().kind, EventKind::Lagged(1)));
    }

    #[test]
    fn long_messages_are_bounded_by_their_bytes() {
        let (queue, events) = events();
        let payload = Bytes::from(vec![0; 64 * 1024]);
        let packet = Packet::Message(Message::Extended { id: 1, payload });
        let addr = ([127, 0, 0, 1], 1).into();
        for _ in 0..300 {
            queue.push(&event(EventKind::PacketReceived { addr, packet: packet.clone() }));
        }
        assert_eq!(events.try_iter().count(), 256 + 1);
        queue.push(&event(EventKind::PacketReceived { addr, packet }));
        assert_eq!(events.try_iter().count(), 1, "what was taken counts no more");
    }

    #[test]
    fn long_names_of_trackers_are_bounded_too() {
        let (queue, events) = events();
        for _ in 0..300 {
            let url = "x".repeat(64 * 1024);
            queue.push(&event(EventKind::TrackerDisconnected { url }));
        }
        assert_eq!(events.try_iter().count(), 256 + 1);
    }

    #[test]
    fn what_is_left_is_still_read_after_the_end() {
        let (queue, mut events) = events();
        queue.push(&event(EventKind::Completed));
        queue.end();
        assert!(events.next().is_some());
        assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Disconnected);
        assert_eq!(
            events.recv_timeout(Duration::from_secs(60)).unwrap_err(),
            RecvTimeoutError::Disconnected
        );
        assert!(events.next().is_none() && events.iter().next().is_none());
    }

    #[test]
    fn a_waiting_thread_is_woken_by_an_event_and_by_the_end() {
        let (queue, events) = events();
        let waiting = std::thread::spawn(move || events.iter().count());
        queue.push(&event(EventKind::Completed));
        queue.end();
        assert_eq!(waiting.join().unwrap(), 1);
    }

    #[test]
    fn a_waiting_task_is_woken_by_an_event_and_by_the_end() {
        #[derive(Default)]
        struct Wakes(AtomicUsize);
        impl Wake for Wakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (queue, mut events) = events();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut poll = || Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        queue.push(&event(EventKind::Completed));
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(matches!(poll(), Poll::Ready(Some(_))));
        assert!(poll().is_pending());
        queue.end();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
        assert!(matches!(poll(), Poll::Ready(None)));
    }

    #[test]
    fn patience_ends() {
        let (_queue, events) = events();
        let outcome = events.recv_timeout(Duration::from_millis(1));
        assert_eq!(outcome.unwrap_err(), RecvTimeoutError::Timeout);
        assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Empty);
    }
}
