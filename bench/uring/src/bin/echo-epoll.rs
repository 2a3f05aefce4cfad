//! An echo server in the manner of the reactor's loop: edge-triggered epoll, 1,024 events a wait, one
//! read and one write for each ready connection.
//!
//! ```text
//! echo-epoll [--addr ADDR] [--buffer-len BYTES] [--send]
//! ```
//!
//! `--send` writes with `send` where the reactor gathers with `sendmsg`. Ends with its last connection,
//! and prints how often it waited and for how many events.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use uring_bench::{flag, listen, option};

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    open: usize,
    buffer: Vec<u8>,
    with_send: bool,
}

struct Connection {
    socket: OwnedFd,
    /// What the kernel had no room for.
    unsent: Vec<u8>,
}

fn main() -> io::Result<()> {
    let addr: SocketAddr = option("--addr", "127.0.0.1:7200".parse().expect("it is an address"));
    let mut server = Server {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        listener: listen(addr)?,
        connections: Vec::new(),
        open: 0,
        buffer: vec![0; option("--buffer-len", 16 * 1024)],
        with_send: flag("--send"),
    };
    epoll::add(
        &server.epoll,
        &server.listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN | EventFlags::ET,
    )?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let (mut waits, mut count, mut accepted) = (0_u64, 0_u64, false);
    while server.open > 0 || !accepted {
        events.clear();
        epoll::wait(&server.epoll, spare_capacity(&mut events), None)?;
        waits += 1;
        count += events.len() as u64;
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept()?,
                fd => server.serve(fd as usize, event.flags),
            }
        }
        accepted |= server.open > 0;
    }
    println!("{{\"waits\": {waits}, \"events\": {count}}}");
    Ok(())
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket: OwnedFd = match self.listener.accept() {
                Ok((socket, _)) => socket.into(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            rustix::io::ioctl_fionbio(&socket, true)?;
            let at = socket.as_raw_fd() as usize;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(at as u64), flags)?;
            if self.connections.len() <= at {
                self.connections.resize_with(at + 1, || None);
            }
            self.connections[at] = Some(Connection { socket, unsent: Vec::new() });
            self.open += 1;
        }
    }

    fn serve(&mut self, at: usize, flags: EventFlags) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        let flushed = flags.contains(EventFlags::OUT) && !connection.unsent.is_empty();
        let result = if flushed { connection.flush() } else { Ok(()) };
        let result = result.and_then(|()| {
            connection.echo(&mut self.buffer, self.with_send, flags.contains(EventFlags::RDHUP))
        });
        if result != Ok(true) {
            self.connections[at] = None;
            self.open -= 1;
        }
    }
}

impl Connection {
    /// Returns whether there may be more to come.
    fn echo(
        &mut self,
        buffer: &mut [u8],
        with_send: bool,
        has_end: bool,
    ) -> rustix::io::Result<bool> {
        loop {
            let len = match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Ok(!self.unsent.is_empty()),
                Ok(len) => len,
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error),
            };
            let data = &buffer[..len];
            if self.unsent.is_empty() {
                let sent = match self.write(data, with_send) {
                    Err(Errno::AGAIN) => Ok(0),
                    other => other,
                }?;
                self.unsent.extend_from_slice(&data[sent..]);
            } else {
                self.unsent.extend_from_slice(data);
            }
            // A read that falls short has emptied the socket; the edge will come again, but for the peer's
            // end, which is told only once.
            if len < buffer.len() && !has_end {
                return Ok(true);
            }
        }
    }

    fn write(&self, data: &[u8], with_send: bool) -> rustix::io::Result<usize> {
        if with_send {
            return send(&self.socket, data, SendFlags::NOSIGNAL);
        }
        let slices = [IoSlice::new(data)];
        sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    }

    fn flush(&mut self) -> rustix::io::Result<()> {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const EVENTS_MAX: usize = 1024;
const LISTENER: u64 = u64::MAX;
