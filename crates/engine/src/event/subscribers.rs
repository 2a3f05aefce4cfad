//! Those who want to know. Any thread may tell them: the engine's, or one that works for the disk.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use torrent::InfoHash;

use super::queue::Queue;
use super::{Event, EventKind, EventMask, Events};

/// Everyone who subscribed.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// What any of them wants: most events are not built at all.
    wanted: AtomicU32,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    sinks: Vec<Sink>,
    is_ended: bool,
}

#[derive(Debug)]
struct Sink {
    /// The one torrent of interest; `None` is everything.
    torrent: Option<InfoHash>,
    mask: EventMask,
    queue: Arc<Queue>,
}

/// A place for events that a session can be given before it starts: [`SessionConfig::events`]. So its
/// owner hears of all that happens from the beginning, and why it could not start.
///
/// [`SessionConfig::events`]: crate::SessionConfig::events
#[derive(Clone, Debug)]
pub struct EventSink {
    mask: EventMask,
    queue: Arc<Queue>,
}

impl EventSink {
    /// A place for the events of `mask`, and where to read them.
    pub fn new(mask: EventMask) -> (Self, Events) {
        let queue = Arc::new(Queue::default());
        (Self { mask, queue: Arc::clone(&queue) }, Events::new(queue))
    }

    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

impl Subscribers {
    /// The events of `mask` from now on, of one torrent or of all that happens. If all is over already,
    /// they end at once.
    pub(crate) fn subscribe(&self, mask: EventMask, torrent: Option<InfoHash>) -> Events {
        let (sink, events) = EventSink::new(mask);
        self.add(sink, torrent);
        events
    }

    pub(crate) fn add(&self, sink: EventSink, torrent: Option<InfoHash>) {
        let mut list = self.lock();
        if list.is_ended {
            sink.queue.end();
            return;
        }
        // Of a torrent where nothing happens, nothing else would show who is gone.
        if list.sinks.len() == list.sinks.capacity() {
            list.sinks.retain(|sink| !sink.queue.is_abandoned());
        }
        list.sinks.push(Sink { torrent, mask: sink.mask, queue: sink.queue });
        self.update_wanted(&list);
    }

    /// Whether anybody wants to hear of such events.
    pub(crate) fn wants(&self, mask: EventMask) -> bool {
        EventMask::from_bits(self.wanted.load(Ordering::Relaxed)).intersects(mask)
    }

    /// Tells everyone who wants to hear it.
    pub(crate) fn publish(&self, torrent: Option<InfoHash>, kind: &EventKind) {
        let group = kind.group();
        if !self.wants(group) {
            return;
        }
        let event = Event { torrent, at: Instant::now(), kind: kind.clone() };
        let mut list = self.lock();
        let count = list.sinks.len();
        list.sinks.retain(|sink| {
            let is_wanted =
                sink.mask.intersects(group) && (sink.torrent.is_none() || sink.torrent == torrent);
            !is_wanted || sink.queue.push(&event)
        });
        if list.sinks.len() < count {
            self.update_wanted(&list);
        }
    }

    /// Nothing more will happen.
    fn end(&self) {
        let mut list = self.lock();
        list.is_ended = true;
        let sinks = std::mem::take(&mut list.sinks);
        self.update_wanted(&list);
        drop(list);
        sinks.iter().for_each(|sink| sink.queue.end());
    }

    fn update_wanted(&self, list: &List) {
        let union = list.sinks.iter().fold(EventMask::NONE, |union, sink| union | sink.mask);
        self.wanted.store(union.bits(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscribers, held by whatever they subscribed to: they hear of its end, however it ends.
#[derive(Debug, Default)]
pub(crate) struct Publisher(Arc<Subscribers>);

impl Publisher {
    /// For another thread that has something to tell.
    pub(crate) fn share(&self) -> Arc<Subscribers> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Publisher {
    type Target = Subscribers;

    fn deref(&self) -> &Subscribers {
        &self.0
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use torrent::PieceIndex;

    use super::*;

    const HASH: InfoHash = InfoHash([1; 20]);

    #[test]
    fn everyone_hears_what_they_asked_for_and_no_more() {
        let publisher = Publisher::default();
        let all = publisher.subscribe(EventMask::ALL, None);
        let pieces = publisher.subscribe(EventMask::PIECES, None);
        let other = publisher.subscribe(EventMask::ALL, Some(InfoHash([2; 20])));
        publisher.publish(Some(HASH), &EventKind::Completed);
        publisher.publish(Some(HASH), &EventKind::PieceVerified(PieceIndex(1)));
        drop(publisher);
        assert_eq!((all.count(), pieces.count(), other.count()), (2, 1, 0));
    }

    #[test]
    fn what_nobody_wants_is_known_not_to_be_wanted() {
        let publisher = Publisher::default();
        assert!(!publisher.wants(EventMask::ALL));
        let events = publisher.subscribe(EventMask::PIECES, None);
        assert!(publisher.wants(EventMask::PIECES) && !publisher.wants(EventMask::PACKETS));
        drop(events);
        publisher.publish(None, &EventKind::PieceVerified(PieceIndex(1)));
        assert!(!publisher.wants(EventMask::ALL), "who is gone costs nothing");
    }

    #[test]
    fn who_comes_and_goes_while_nothing_happens_leaves_nothing_behind() {
        let publisher = Publisher::default();
        for _ in 0..100 {
            drop(publisher.subscribe(EventMask::PIECES, Some(HASH)));
        }
        assert!(publisher.lock().sinks.len() < 10);
    }

    #[test]
    fn who_comes_after_the_end_hears_of_it() {
        let publisher = Publisher::default();
        let shared = publisher.share();
        drop(publisher);
        assert_eq!(shared.subscribe(EventMask::ALL, None).count(), 0);
    }
}
