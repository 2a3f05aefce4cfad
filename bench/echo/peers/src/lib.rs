//! What every server here starts with.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// As the other servers of this measurement have it.
pub const BUFFER_LEN: usize = 16 * 1024;

/// Listens on a free port of 127.0.0.1, and says which: the script that measures reads it.
pub fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    println!("listening {}", listener.local_addr()?.port());
    Ok(listener)
}

const BACKLOG: i32 = 4096;
