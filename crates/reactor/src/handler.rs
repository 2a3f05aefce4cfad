//! What a program gives the reactor to call.

use std::net::SocketAddr;
use std::{fmt, io};

use crate::backend::Source;
use crate::{Reactor, Token};

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
    /// still may be; read as much as suits.
    ///
    /// # Errors
    /// End the connection.
    fn readable(
        &mut self,
        token: Token,
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) -> Result<(), HandlerError>;

    /// The write queue has fallen to the low-water mark, after it had been above the high one.
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

    /// The connection is over, or never came to be. Called exactly once, last of all.
    fn closed(&mut self, token: Token, reason: Reason, state: &mut S, reactor: &mut Reactor<S>);
}

/// Takes in connections.
pub trait Acceptor<S> {
    /// A connection has come. [`Reactor::attach`] keeps it; dropped, it is closed.
    fn accepted(
        &mut self,
        listener: Token,
        connection: Accepted,
        state: &mut S,
        reactor: &mut Reactor<S>,
    );
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
}

/// A connection that has come and has no handler yet.
#[derive(Debug)]
pub struct Accepted {
    /// Who came.
    pub peer: SocketAddr,
    pub(crate) source: Source,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Data(usize),
    /// Nothing for now.
    WouldBlock,
    /// The peer will send nothing more; writing may still work.
    Eof,
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Reason {
    /// The peer reset it.
    Reset,
    /// The system says so; also why a connection could not be opened.
    Error(io::Error),
    /// Its deadline passed.
    Timeout,
    /// The program closed it.
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

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Error(error),
        }
    }
}

/// The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is over")
    }
}

impl std::error::Error for Closed {}
