//! Signals to the programs of a host.

use super::network::Network;
use super::socket::Kind;

impl Network {
    /// Returns how many watch the signal there.
    pub(super) fn raise(&mut self, host: usize, raised: i32) -> usize {
        let mut ids = Vec::new();
        for (id, socket) in self.sockets.iter_mut().filter(|(_, socket)| socket.host == host) {
            if let Kind::Signal { signal, has_come } = &mut socket.kind
                && *signal == raised
            {
                *has_come = true;
                // It is told again, even if the last one was not asked for yet.
                socket.told.readable = false;
                ids.push(*id);
            }
        }
        ids.iter().for_each(|id| self.touch(*id));
        ids.len()
    }

    pub(super) fn take_signal(&mut self, id: u32) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        let Kind::Signal { has_come, .. } = &mut socket.kind else { return false };
        socket.told.readable = false;
        std::mem::take(has_come)
    }
}

/// Neither the ones that no program catches, nor numbers that mean none.
pub(super) fn can_be_caught(signal: i32) -> bool {
    (1..=SIGNAL_MAX).contains(&signal) && ![SIGKILL, SIGSTOP].contains(&signal)
}

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const SIGNAL_MAX: i32 = 64;
