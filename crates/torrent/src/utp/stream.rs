//! What a [`Mux`](super::Mux) is told and tells: its settings, streams by name, what becomes of them, and what is to
//! be sent.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// What a [`Mux`](super::Mux) may do.
#[derive(Clone, Debug)]
pub struct MuxConfig {
    /// Others may connect to us. Default: yes.
    pub accepts: bool,
    /// Streams at once; beyond, whoever asks gets no answer, or takes the place of one that sent nothing yet.
    /// Default: 1000.
    pub streams_max: usize,
    /// Streams that were asked for by somebody who sent nothing yet; beyond, the one that waits longest is forgotten.
    /// Default: 128.
    pub half_open_max: usize,
    /// Bytes of received data in memory for one stream. Default: 2 MiB.
    pub window: usize,
    /// Bytes of received data in memory for all streams together, beside a little for each. Default: 64 MiB.
    pub memory_max: usize,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            accepts: true,
            streams_max: 1000,
            half_open_max: 128,
            window: 2 * 1024 * 1024,
            memory_max: 64 * 1024 * 1024,
        }
    }
}

/// A stream of a [`Mux`](super::Mux). Harmless after it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What has become of a stream. Reading and writing are told once, and again only after a call would have
/// blocked or fell short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end said yes.
    Connected(StreamId),
    /// Somebody connected to us, and has begun to send.
    Accepted(StreamId, SocketAddr),
    /// There is something to read, or the end.
    Readable(StreamId),
    /// There is room to write.
    Writable(StreamId),
    /// It is over. What has come may still be read; [`Mux::close`](super::Mux::close) then forgets it.
    Closed(StreamId, CloseReason),
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both ends have said all.
    Finished,
    /// The other end does not want this connection.
    Refused,
    /// The other end knows nothing of this connection, or wants to know nothing.
    Reset,
    /// The other end does not answer.
    TimedOut,
    /// Nothing gets to the other end: the network says so.
    Unreachable,
}

impl CloseReason {
    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Finished => io::ErrorKind::BrokenPipe,
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::Reset => io::ErrorKind::ConnectionReset,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Unreachable => io::ErrorKind::HostUnreachable,
        }
        .into()
    }
}

/// Datagrams to send.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// To whom.
    pub to: SocketAddr,
    /// All of them, one after another.
    pub bytes: &'a [u8],
    /// How long each is; the last may be shorter.
    pub segment_len: usize,
    /// It shall not be cut up on its way, if that can be said: it is there to find out whether it gets
    /// through.
    pub is_probe: bool,
}

/// What is to be known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Who is at the other end.
    pub addr: SocketAddr,
    /// Bytes that may be under way.
    pub window: usize,
    /// How long our packets wait in queues.
    pub queueing: Duration,
    /// How long the way there and back takes, once that is known.
    pub round_trip: Option<Duration>,
    /// How long datagrams are.
    pub packet_len: usize,
}
