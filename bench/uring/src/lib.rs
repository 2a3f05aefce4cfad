//! What the programs of this comparison share: their arguments, a listening socket, and memory that the
//! kernel may write to while we are not looking.

mod buffer_ring;
mod pages;

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};

pub use buffer_ring::BufferRing;
pub use pages::Pages;

/// The value that follows `name` on the command line, or `default`.
///
/// # Panics
/// If the value cannot be read.
pub fn option<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    let given = std::env::args().skip_while(|arg| arg != name).nth(1);
    given.map_or(default, |value| value.parse().expect("an option has a value that can be read"))
}

/// Whether `name` stands on the command line.
pub fn flag(name: &str) -> bool {
    std::env::args().any(|arg| arg == name)
}

/// A non-blocking listener. What it accepts inherits `TCP_NODELAY`.
///
/// # Errors
/// If the address cannot be had.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// CPU time of all threads of this process, those that the kernel adds for io_uring among them.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
