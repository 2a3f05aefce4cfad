//! Stream sockets of the system, TCP and Unix: how they are opened, and what their addresses are.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::interface::hold_to;
use crate::{Address, ConnectOptions, ListenOptions};

/// A socket that listens, and what those that it accepts are to get.
#[derive(Debug)]
pub(super) struct Listener {
    /// Goes with the listener. Before it: once that is closed another program may take the place, and
    /// the file's number with it.
    _path: Option<BoundPath>,
    pub(super) fd: OwnedFd,
    nodelay: bool,
    congestion: Option<String>,
}

/// The file that a Unix socket is bound to, removed when the socket is closed.
#[derive(Debug)]
struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    pub(super) fn open(addr: &Address, options: &ListenOptions) -> io::Result<Self> {
        let (socket, path) = match addr {
            Address::Ip(addr) => {
                let socket = new_socket(Domain::for_address(*addr), Type::STREAM)?;
                bind(&socket, *addr, options)?;
                (socket, None)
            }
            Address::Unix(path) => {
                let path = named(path.as_deref())?;
                let socket = new_socket(Domain::UNIX, Type::STREAM)?;
                bind_unix(&socket, path)?;
                (socket, BoundPath::of(path).ok())
            }
            Address::Pipe => return Err(pipe_has_no_address()),
        };
        socket.listen(options.backlog)?;
        Ok(Self {
            _path: path,
            fd: socket.into(),
            nodelay: options.nodelay,
            congestion: options.congestion.clone(),
        })
    }

    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Address)> {
        let (stream, addr) =
            rustix::net::acceptfrom_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        match addr.and_then(|addr| SocketAddr::try_from(addr).ok()) {
            Some(addr) => {
                tune(&SockRef::from(&stream), self.nodelay, self.congestion.as_deref())?;
                Ok((stream, addr.into()))
            }
            None => {
                let addr = peer_addr(&stream)?;
                Ok((stream, addr))
            }
        }
    }
}

impl BoundPath {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        // Absolute, for the working directory may be another by the time it is removed.
        let path = std::path::absolute(path)?;
        Ok(Self { path, device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        // Another program may have taken the place since.
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == (self.device, self.inode)
        {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Begins to connect.
pub(super) fn connect(addr: &Address, options: &ConnectOptions) -> io::Result<OwnedFd> {
    let socket = match addr {
        Address::Ip(addr) => connect_tcp(*addr, options)?,
        Address::Unix(path) => connect_unix(named(path.as_deref())?)?,
        Address::Pipe => return Err(pipe_has_no_address()),
    };
    Ok(socket.into())
}

fn connect_tcp(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Socket> {
    let socket = new_socket(Domain::for_address(addr), Type::STREAM)?;
    tune(&socket, options.nodelay, options.congestion.as_deref())?;
    let any = if addr.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let mut from = SocketAddr::new(options.bind.unwrap_or(any), 0);
    if let Some(interface) = &options.interface {
        from = hold_to(&socket, interface, from)?;
    }
    if !from.ip().is_unspecified() {
        socket.bind(&from.into())?;
    }
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

fn connect_unix(path: &Path) -> io::Result<Socket> {
    let socket = new_socket(Domain::UNIX, Type::STREAM)?;
    match socket.connect(&SockAddr::unix(path)?) {
        // Nothing tells when there is room again, so this is as final as a refusal.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "too many connections wait to be accepted there",
        )),
        result => result.map(|()| socket),
    }
}

/// Binds to a path, over the file of a socket that nobody listens at any more.
fn bind_unix(socket: &Socket, path: &Path) -> io::Result<()> {
    let addr = SockAddr::unix(path)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            socket.bind(&addr)
        }
        result => result,
    }
}

/// Whether a path is that of a socket whose program is gone. A plain file refuses connections too.
fn is_stale(path: &Path) -> bool {
    let is_refused = |path| -> io::Result<()> {
        new_socket(Domain::UNIX, Type::STREAM)?.connect(&SockAddr::unix(path)?)
    };
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && is_refused(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

pub(super) fn new_socket(domain: Domain, kind: Type) -> io::Result<Socket> {
    let protocol = match (domain, kind) {
        (Domain::UNIX, _) => None,
        (_, Type::DGRAM) => Some(Protocol::UDP),
        _ => Some(Protocol::TCP),
    };
    Socket::new(domain, kind.nonblocking().cloexec(), protocol)
}

pub(super) fn bind(socket: &Socket, addr: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    if addr.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    if options.reuse_addr {
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    let addr = match &options.interface {
        Some(interface) => hold_to(socket, interface, addr)?,
        None => addr,
    };
    socket.bind(&addr.into())
}

pub(super) fn local_addr(socket: &impl AsFd) -> io::Result<Address> {
    address(&SockRef::from(socket).local_addr()?)
}

pub(super) fn peer_addr(socket: &impl AsFd) -> io::Result<Address> {
    address(&SockRef::from(socket).peer_addr()?)
}

fn address(addr: &SockAddr) -> io::Result<Address> {
    match addr.as_socket() {
        Some(addr) => Ok(addr.into()),
        None if addr.is_unix() => Ok(Address::Unix(addr.as_pathname().map(Path::to_owned))),
        None => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

fn tune(socket: &Socket, nodelay: bool, congestion: Option<&str>) -> io::Result<()> {
    socket.set_tcp_nodelay(nodelay)?;
    if let Some(congestion) = congestion {
        rustix::net::sockopt::set_tcp_congestion(socket, congestion)?;
    }
    Ok(())
}

fn named(path: Option<&Path>) -> io::Result<&Path> {
    path.ok_or_else(|| invalid("a Unix socket without a name cannot be reached by it"))
}

fn pipe_has_no_address() -> io::Error {
    invalid("a pipe is inside of one reactor, and has no address")
}

pub(super) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
