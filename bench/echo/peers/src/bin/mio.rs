//! Echo on mio: edge-triggered, one shared read buffer, a list of those that have more to read.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

struct Connection {
    stream: TcpStream,
    /// What the kernel had no room for.
    unsent: Vec<u8>,
    /// The peer's end has been announced, and will not be again.
    has_end: bool,
}

enum Next {
    Wait,
    /// There is more: one read a turn, so that a peer that floods holds up no other.
    Again,
    End,
}

fn main() -> io::Result<()> {
    let listener = peers::listen()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let (mut ready, mut again) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; peers::BUFFER_LEN];
    loop {
        poll.poll(&mut events, (!again.is_empty()).then_some(Duration::ZERO))?;
        ready.append(&mut again);
        for event in &events {
            let Token(index) = event.token();
            match connections.get_mut(index) {
                Some(Some(connection)) => {
                    connection.has_end |= event.is_read_closed();
                    ready.push(index);
                }
                Some(None) => {}
                None => accept(&listener, &poll, &mut connections, &mut free)?,
            }
        }
        for index in ready.drain(..) {
            let Some(connection) = &mut connections[index] else { continue };
            match serve(connection, &mut buffer) {
                Ok(Next::Wait) => {}
                Ok(Next::Again) => again.push(index),
                Ok(Next::End) | Err(_) => {
                    connections[index] = None;
                    free.push(index);
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        connections[index] = Some(Connection { stream, unsent: Vec::new(), has_end: false });
    }
}

fn serve(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<Next> {
    let Connection { stream, unsent, has_end } = connection;
    if !unsent.is_empty() {
        let count = unblocked(stream.write(unsent))?.unwrap_or(0);
        unsent.drain(..count);
        if !unsent.is_empty() {
            return Ok(Next::Wait);
        }
    }
    let count = match unblocked(stream.read(buffer))? {
        Some(0) => return Ok(Next::End),
        Some(count) => count,
        None => return Ok(Next::Wait),
    };
    let sent = unblocked(stream.write(&buffer[..count]))?.unwrap_or(0);
    unsent.extend_from_slice(&buffer[sent..count]);
    let may_have_more = count == buffer.len() || *has_end;
    Ok(if may_have_more && unsent.is_empty() { Next::Again } else { Next::Wait })
}

fn unblocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

const LISTENER: Token = Token(usize::MAX);
