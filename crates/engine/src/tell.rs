//! What is told of what happens: to those who listen, to the log, and in the numbers that anyone may look at.

use std::net::SocketAddr;

use reactor::Reactor;
use torrent::InfoHash;

use crate::engine::Engine;
use crate::event::{EventKind, EventMask, Packet, Severity};
use crate::task::TaskId;

impl Engine {
    /// Something happened to a torrent.
    pub(crate) fn publish(&self, id: TaskId, kind: &EventKind) {
        if let Some(task) = self.tasks.get(&id) {
            self.tell(Some(task.info_hash()), kind);
        }
    }

    /// Something happened, perhaps to a torrent.
    pub(crate) fn tell(&self, torrent: Option<InfoHash>, kind: &EventKind) {
        let name = || {
            let id = torrent.and_then(|torrent| self.by_hash.get(&torrent));
            id.and_then(|id| self.tasks.get(id)).map(|task| task.metainfo.name())
        };
        match kind {
            EventKind::PieceVerified(_)
            | EventKind::PieceFailed(_)
            | EventKind::StatusChanged(_)
            | EventKind::PeerConnected { .. }
            | EventKind::PeerDisconnected { .. } => tracing::debug!(torrent = name(), ?kind),
            _ if kind.severity() == Severity::Debug => tracing::trace!(torrent = name(), ?kind),
            _ => tracing::info!(torrent = name(), ?kind),
        }
        self.subscribers.publish(torrent, kind);
    }

    /// Bytes are on their way to a peer.
    pub(crate) fn tell_written(&self, torrent: Option<InfoHash>, addr: SocketAddr, len: usize) {
        if self.subscribers.wants(EventMask::TRANSFER) {
            self.tell(torrent, &EventKind::PeerWritten { addr, len });
        }
    }

    /// A peer was sent a message, or sent us one.
    pub(crate) fn tell_packet(
        &self,
        torrent: Option<InfoHash>,
        addr: SocketAddr,
        packet: impl FnOnce() -> Packet,
        is_ours: bool,
    ) {
        if self.subscribers.wants(EventMask::PACKETS) {
            let packet = packet();
            let kind = if is_ours {
                EventKind::PacketSent { addr, packet }
            } else {
                EventKind::PacketReceived { addr, packet }
            };
            self.tell(torrent, &kind);
        }
    }

    /// Tells everyone the state that a torrent is in now.
    pub(crate) fn state_changed(&mut self, id: TaskId, reactor: &Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        task.published.publish(task.status(reactor.now()));
        let (word, state) = (task.word(), task.state());
        if task.published.set_word(word) {
            self.publish(id, &EventKind::StatusChanged(word));
        }
        self.publish(id, &EventKind::StateChanged(state));
        self.note_activity(id);
        self.note_dht(id, reactor.now());
    }
}
