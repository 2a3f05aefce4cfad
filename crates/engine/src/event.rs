//! What happens in a session, told to whoever subscribed.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use torrent::{InfoHash, PieceIndex};

use crate::status::TorrentState;

/// Something happened to a torrent.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which torrent.
    pub torrent: InfoHash,
    /// What.
    pub kind: EventKind,
}

/// What may happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// It is in another state now.
    StateChanged(TorrentState),
    /// A piece is on disk, and its hash is right.
    PieceVerified(PieceIndex),
    /// A piece came from peers and its hash is wrong, or the check found it wrong on disk.
    PieceFailed(PieceIndex),
    /// Everything that is wanted is here.
    Completed,
    /// A tracker answered.
    TrackerAnswered {
        /// The tracker.
        url: String,
        /// How many addresses it gave.
        peers: usize,
    },
    /// A tracker did not help.
    TrackerFailed {
        /// The tracker.
        url: String,
        /// Why.
        error: String,
    },
    /// A peer has shaken hands.
    PeerConnected {
        /// Where it is.
        addr: SocketAddr,
    },
    /// A connection to a peer that had shaken hands is over.
    PeerDisconnected {
        /// Where it was.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A peer sent data that was proven wrong.
    PeerBanned {
        /// Its address, on any port.
        ip: IpAddr,
    },
    /// The disk let us down; the torrent has stopped until it is resumed.
    DiskFailed(String),
    /// The subscriber was too slow: so many events before this one are lost.
    Lagged(u64),
}

/// Those who want to know.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    list: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    sender: SyncSender<Event>,
    lost: u64,
}

impl Subscribers {
    pub(crate) fn subscribe(&mut self) -> Receiver<Event> {
        let (sender, receiver) = sync_channel(QUEUED_EVENTS_MAX);
        self.list.push(Subscriber { sender, lost: 0 });
        receiver
    }

    pub(crate) fn publish(&mut self, torrent: InfoHash, kind: &EventKind) {
        self.list.retain_mut(|subscriber| {
            if subscriber.lost > 0 {
                let lagged = Event { torrent, kind: EventKind::Lagged(subscriber.lost) };
                match subscriber.sender.try_send(lagged) {
                    Ok(()) => subscriber.lost = 0,
                    Err(TrySendError::Full(_)) => {
                        subscriber.lost += 1;
                        return true;
                    }
                    Err(TrySendError::Disconnected(_)) => return false,
                }
            }
            match subscriber.sender.try_send(Event { torrent, kind: kind.clone() }) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.lost += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }
}

/// Events that wait for a slow subscriber; past it they are counted, not kept.
const QUEUED_EVENTS_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_loses_events_and_is_told_how_many() {
        let mut subscribers = Subscribers::default();
        let events = subscribers.subscribe();
        let hash = InfoHash([1; 20]);
        for _ in 0..QUEUED_EVENTS_MAX + 5 {
            subscribers.publish(hash, &EventKind::Completed);
        }
        assert_eq!(events.try_iter().count(), QUEUED_EVENTS_MAX);
        subscribers.publish(hash, &EventKind::Completed);
        assert!(matches!(events.recv().expect("told").kind, EventKind::Lagged(5)));
        assert!(matches!(events.recv().expect("told").kind, EventKind::Completed));
    }

    #[test]
    fn a_subscriber_that_is_gone_costs_nothing() {
        let mut subscribers = Subscribers::default();
        drop(subscribers.subscribe());
        subscribers.publish(InfoHash([1; 20]), &EventKind::Completed);
        assert!(subscribers.list.is_empty());
    }
}
