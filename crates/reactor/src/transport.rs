//! What lies between a connection's bytes and the socket's: nothing, TLS, or what a program makes.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};

/// The socket under a transport. Its calls never block: they say [`io::ErrorKind::WouldBlock`].
pub trait Wire {
    /// Reads into `slices` in turn; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; what the system says.
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes from `slices` in turn, as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; what the system says.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// What a program made itself and a connection takes for its socket, set up by
/// [`Reactor::attach_channel`](crate::Reactor::attach_channel): a protocol over datagrams, say.
///
/// It may not call the reactor itself, nor may its drop, which is when the connection is over. When it may
/// be read or written again after a call fell short or would have blocked, the program says
/// [`channel_ready`](crate::Reactor::channel_ready).
pub trait Channel: Wire + fmt::Debug {
    /// How connecting ended, if it was to be waited for.
    ///
    /// # Errors
    /// `WouldBlock` if it has not ended; anything else ends the connection.
    fn finish_connect(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Nothing more will be written; the other end is to hear of it after what was.
    fn finish(&mut self);
}

/// A layer between a connection and its socket, set by [`Reactor::set_transport`](crate::Reactor::set_transport).
///
/// It is called from within [`read`](crate::Reactor::read) and when queued bytes go out, and may not
/// call the reactor itself. It need not remember readiness: whenever the socket may have become ready,
/// it is called again.
pub trait Transport: fmt::Debug {
    /// Reads what the peer meant for us; 0 is the end. May write, if the protocol asks for an answer;
    /// what the socket does not take of that is left for [`flush`](Self::flush).
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; anything else ends the connection.
    fn read(&mut self, wire: &mut dyn Wire, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Takes bytes for the peer, and sends what it can. What it took and could not send is left for
    /// [`flush`](Self::flush); it takes nothing more while there is much of that.
    ///
    /// # Errors
    /// `WouldBlock` if it can take nothing; anything else ends the connection.
    fn write(&mut self, wire: &mut dyn Wire, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends what it has held back. Called after every other call, first of all when the connection
    /// stands, so that it may greet, and whenever the socket may have become ready: a handshake reads
    /// the wire here, so that it goes on even if nobody reads the connection.
    ///
    /// # Errors
    /// `WouldBlock` if something is left; anything else ends the connection.
    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()>;

    /// Says goodbye: nothing more will be written. [`flush`](Self::flush) sends it.
    fn finish(&mut self) {}

    /// Whether a read would give something, without any from the socket.
    fn has_input(&self) -> bool {
        false
    }
}
