//! Signals, as something that becomes readable.
//!
//! The handler of a signal may do next to nothing, so all it does is to send a byte: each watch has a
//! pair of sockets, and all that watch the same signal hear it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::FORBIDDEN;
use signal_hook::low_level;

use super::streams::invalid;

/// Hears a signal until it is dropped. The signal does not get its default effect back then.
#[derive(Debug)]
pub(super) struct SignalSocket {
    id: SigId,
    receiver: UnixStream,
}

impl SignalSocket {
    pub(super) fn open(signal: i32) -> io::Result<Self> {
        if FORBIDDEN.contains(&signal) {
            return Err(invalid("this signal cannot be caught, or the program not go on after it"));
        }
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let id = low_level::pipe::register(signal, sender)?;
        Ok(Self { id, receiver })
    }

    /// Whether the signal came since that was asked last, however often.
    pub(super) fn take(&self) -> bool {
        let mut has_come = false;
        let mut bytes = [0; 64];
        while (&self.receiver).read(&mut bytes).is_ok_and(|count| count > 0) {
            has_come = true;
        }
        has_come
    }
}

impl AsFd for SignalSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Drop for SignalSocket {
    fn drop(&mut self) {
        low_level::unregister(self.id);
    }
}
