//! Sockets between two reactors.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use super::network::Network;
use super::socket::{Owner, Told};

/// A socket that no reactor has: on its way to another one on the same host, perhaps in another
/// thread's hands. What arrives meanwhile is kept. Dropped, it is closed.
#[derive(Debug)]
pub struct SimulatedSocket {
    /// `None` once it has been taken in.
    id: Option<u32>,
    dropped: Dropped,
}

/// Sockets that were dropped where the network is out of reach. They are closed before time moves.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped(Arc<Mutex<Vec<u32>>>);

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        }
    }
}

impl Network {
    pub(super) fn detach(&mut self, id: u32) -> Option<SimulatedSocket> {
        let socket = self.sockets.get_mut(&id)?;
        socket.is_listed = false;
        if let Some(owner) = socket.owner.take() {
            self.reactors[owner.reactor].retain(|listed| *listed != id);
        }
        Some(SimulatedSocket { id: Some(id), dropped: self.dropped.clone() })
    }

    /// Has a socket report to this owner, all that there is to report.
    pub(super) fn adopt(
        &mut self,
        host: usize,
        mut detached: SimulatedSocket,
        owner: Owner,
    ) -> io::Result<u32> {
        let is_of_this_world = Arc::ptr_eq(&detached.dropped.0, &self.dropped.0);
        let socket = detached
            .id
            .filter(|_| is_of_this_world)
            .and_then(|id| Some((id, self.sockets.get_mut(&id).filter(|s| s.host == host)?)));
        let Some((id, socket)) = socket else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated socket cannot leave its host",
            ));
        };
        detached.id = None;
        (socket.owner, socket.told) = (Some(owner), Told::default());
        self.touch(id);
        Ok(id)
    }

    /// Closes what was dropped.
    pub(super) fn sweep(&mut self) {
        let dropped =
            mem::take(&mut *self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner));
        for id in dropped {
            self.close(id);
        }
    }
}
