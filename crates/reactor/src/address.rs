//! Where a stream socket is, or who is at its other end.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The address of a stream socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix socket. `None` is one without a name, such as most that connect.
    Unix(Option<PathBuf>),
    /// The other end is in this reactor: see [`Reactor::pipe`](crate::Reactor::pipe).
    Pipe,
}

impl Address {
    /// The address, if it is one of TCP.
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) | Self::Pipe => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(addr: (I, u16)) -> Self {
        Self::Ip(addr.into())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(Some(path.to_owned()))
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(Some(path))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(Some(path)) => path.display().fmt(f),
            Self::Unix(None) => f.write_str("an unnamed socket"),
            Self::Pipe => f.write_str("a pipe"),
        }
    }
}
