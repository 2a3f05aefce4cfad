//! What a program gives the reactor to call.

use std::any::type_name;
use std::net::SocketAddr;
use std::{fmt, io};

use crate::backend::Source;
use crate::{Address, Reactor, Token};

/// Why a handler gives up its connection.
pub type HandlerError = Box<dyn std::error::Error>;

/// One connection's side of the program. An error that it returns, or a panic, ends its connection
/// and nothing else.
pub trait Handler<S> {
    /// The connection that we opened stands. Not called for those that came to us.
    ///
    /// # Errors
    /// End the connection.
    fn connected(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError> {
        let _ = (token, state, reactor);
        Ok(())
    }

    /// There may be something to read. Called at most once a turn, and again next turn while there
    /// still may be; read as much as suits. One that does not read at all is called later and later, up
    /// to ten times a second: to leave bytes where they are, [pause](Reactor::pause).
    ///
    /// # Errors
    /// End the connection.
    fn readable(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError>;

    /// Nothing is queued and the kernel has room. Called once after
    /// [`notify_writable`](Reactor::notify_writable) asked for it.
    ///
    /// # Errors
    /// End the connection.
    fn writable(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError> {
        let _ = (token, state, reactor);
        Ok(())
    }

    /// The write queue was at the high-water mark, and writing it out did not bring it to the low one:
    /// the peer is slower than we are. `drained` follows.
    ///
    /// # Errors
    /// End the connection.
    fn full(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError> {
        let _ = (token, state, reactor);
        Ok(())
    }

    /// The write queue has fallen to the low-water mark, after it had been at the high one.
    ///
    /// # Errors
    /// End the connection.
    fn drained(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError> {
        let _ = (token, state, reactor);
        Ok(())
    }

    /// The connection is over, or never came to be. Called exactly once, last of all, unless the
    /// connection was [taken](Reactor::take) out.
    fn closed(&mut self, token: Token, reason: Reason, state: &mut S, reactor: &mut Reactor<S>);

    /// What the profile and [`Info`](crate::Info) call it. Default: the name of its type.
    fn kind(&self) -> &'static str {
        type_name::<Self>()
    }
}

/// Takes in connections. A closure of the same arguments is one, too.
pub trait Acceptor<S> {
    /// A connection has come. [`Reactor::attach`] keeps it; dropped, it is closed.
    fn accepted(
        &mut self,
        listener: Token,
        connection: Accepted,
        state: &mut S,
        reactor: &mut Reactor<S>,
    );

    /// What the profile and [`Info`](crate::Info) call it. Default: the name of its type.
    fn kind(&self) -> &'static str {
        type_name::<Self>()
    }
}

impl<S, F: FnMut(Token, Accepted, &mut S, &mut Reactor<S>)> Acceptor<S> for F {
    fn accepted(
        &mut self,
        listener: Token,
        connection: Accepted,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) {
        self(listener, connection, state, reactor);
    }
}

/// Takes in datagrams.
pub trait DatagramHandler<S> {
    /// A datagram has come.
    fn datagram(
        &mut self,
        token: Token,
        from: SocketAddr,
        data: &[u8],
        state: &mut S,
        reactor: &mut Reactor<S>,
    );

    /// The kernel has room again. Called once after [`notify_writable`](Reactor::notify_writable).
    fn writable(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) {
        let _ = (token, state, reactor);
    }

    /// What the profile and [`Info`](crate::Info) call it. Default: the name of its type.
    fn kind(&self) -> &'static str {
        type_name::<Self>()
    }
}

/// A connection that has come and has no handler yet.
#[derive(Debug)]
pub struct Accepted {
    /// Who came.
    pub peer: Address,
    pub(crate) source: Source,
    /// Its number: a source is used again.
    pub(crate) offer: u64,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Data(usize),
    /// Nothing for now: nothing has come, or this turn's share or a rate limit is used up.
    WouldBlock,
    /// The peer will send nothing more; writing may still work. `readable` is called no more, and the
    /// connection stays until it is closed.
    Eof,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is with the kernel.
    Sent,
    /// So many bytes are queued now, and go out at the end of the turn if there is room.
    Queued(usize),
    /// So many are queued, and that is at or above the high-water mark: wait for
    /// [`drained`](Handler::drained).
    Full(usize),
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Reason {
    /// The peer reset it.
    Reset,
    /// The system says so; also why a connection could not be opened.
    Error(io::Error),
    /// Its deadline passed, or it was silent for too long.
    Timeout,
    /// The program closed it, for this reason; `flushed` after a
    /// [`close_after_flush`](Reactor::close_after_flush).
    Local(&'static str),
    /// Its handler returned an error or panicked.
    Handler(HandlerError),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("reset by the peer"),
            Self::Error(error) => error.fmt(f),
            Self::Timeout => f.write_str("timed out"),
            Self::Local(why) => f.write_str(why),
            Self::Handler(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Reason {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Error(error) => error.source(),
            Self::Handler(error) => error.source(),
            Self::Reset | Self::Timeout | Self::Local(_) => None,
        }
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Error(error),
        }
    }
}

impl From<Reason> for io::Error {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Reset => io::ErrorKind::ConnectionReset.into(),
            Reason::Error(error) => error,
            Reason::Timeout => io::ErrorKind::TimedOut.into(),
            Reason::Local(why) => Self::new(io::ErrorKind::NotConnected, why),
            Reason::Handler(error) => Self::other(error.to_string()),
        }
    }
}

/// The connection is over, or the token is of another kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is over")
    }
}

impl std::error::Error for Closed {}

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        Self::new(io::ErrorKind::NotConnected, closed)
    }
}
