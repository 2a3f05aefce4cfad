//! A handle to one connected peer of a torrent, for any thread.

use std::net::SocketAddr;

use reactor::{Reactor, Remote, Token};
use torrent::swarm::{PeerKey, PeerStatus};
use torrent::{Bitfield, PeerId};

use crate::engine::Engine;
use crate::parting::DisconnectReason;
use crate::session::{Gone, ask};
use crate::task::{Task, TaskId};

/// A peer that has shaken hands. Clones are handles to the same connection; when that is over, they know
/// its address and name, and no more.
#[derive(Clone, Debug)]
pub struct Peer {
    remote: Remote<Engine>,
    task: TaskId,
    key: PeerKey,
    /// A torrent that was checked counts its peers from 0 again; the connection is still another.
    token: Token,
    addr: SocketAddr,
    peer_id: PeerId,
}

impl Peer {
    /// Where it is.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The name it gave itself.
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// How it stands now; `None` if it is gone.
    pub fn status(&self) -> Option<PeerStatus> {
        self.look(|task, key, reactor| task.swarm.peer_status(reactor.now(), key))
    }

    /// Which pieces it has; `None` if it is gone.
    pub fn bitfield(&self) -> Option<Bitfield> {
        self.look(|task, key, _| task.swarm.peer_bitfield(key).cloned())
    }

    /// Closes the connection, if it is not over. It may be opened again, by either side.
    ///
    /// # Errors
    /// If the session has ended.
    pub fn disconnect(&self) -> Result<(), Gone> {
        let (task, key, token) = (self.task, self.key, self.token);
        ask(&self.remote, move |engine, reactor| {
            if engine.tasks.get(&task).is_some_and(|task| is_it(task, key, token)) {
                reactor.close(token, DisconnectReason::Requested.words());
            }
        })
    }

    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Task, PeerKey, &Reactor<Engine>) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (task, key, token) = (self.task, self.key, self.token);
        let seen = ask(&self.remote, move |engine, reactor| {
            let task = engine.tasks.get(&task).filter(|task| is_it(task, key, token))?;
            look(task, key, reactor)
        });
        seen.ok().flatten()
    }
}

impl PartialEq for Peer {
    /// Whether they are handles to the same connection.
    fn eq(&self, other: &Self) -> bool {
        (self.task, self.key, self.token) == (other.task, other.key, other.token)
    }
}

impl Eq for Peer {}

impl Engine {
    /// Handles to the connected peers of a torrent.
    pub(crate) fn peers(&self, id: TaskId, reactor: &Reactor<Self>) -> Vec<Peer> {
        // Of others the connections are ending, if there are any.
        let task = self.tasks.get(&id).filter(|task| task.is_running());
        let Some(task) = task else { return Vec::new() };
        let handle = |(&key, &token): (&PeerKey, &Token)| {
            let status = task.swarm.peer_status(reactor.now(), key)?;
            let (addr, peer_id) = (status.addr, status.peer_id);
            Some(Peer { remote: reactor.remote(), task: id, key, token, addr, peer_id })
        };
        task.connections.iter().filter_map(handle).collect()
    }
}

fn is_it(task: &Task, key: PeerKey, token: Token) -> bool {
    task.is_running() && task.connections.get(&key) == Some(&token)
}
