//! Echo on the reactor: one shared read buffer, and nothing more is read while the peer does not read.
//!
//! ```text
//! echo [--port PORT]     listens on 127.0.0.1; with a port, it shares that with others of its kind
//! ```
#![expect(clippy::print_stdout, reason = "it says where it listens, and is no part of the product")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use reactor::{
    Accepted, Acceptor, Closed, Handler, HandlerError, ListenOptions, Progress, Reactor, Read,
    Reason, Token,
};

/// The read buffer that all connections share.
type Buffer = Vec<u8>;

struct Echo;

impl Handler<Buffer> for Echo {
    fn readable(
        &mut self,
        token: Token,
        buffer: &mut Buffer,
        reactor: &mut Reactor<Buffer>,
    ) -> Result<(), HandlerError> {
        match reactor.read(token, buffer)? {
            Read::Data(len) => send_back(token, &buffer[..len], reactor)?,
            Read::WouldBlock => {}
            Read::Eof => reactor.close(token, "the peer is done"),
        }
        Ok(())
    }

    fn drained(
        &mut self,
        token: Token,
        _: &mut Buffer,
        reactor: &mut Reactor<Buffer>,
    ) -> Result<(), HandlerError> {
        reactor.resume(token);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut Buffer, _: &mut Reactor<Buffer>) {}
}

/// The one place that knows how bytes go out.
fn send_back(token: Token, bytes: &[u8], reactor: &mut Reactor<Buffer>) -> Result<(), Closed> {
    if let Progress::Full(_) = reactor.write_now(token, bytes)? {
        reactor.pause(token);
    }
    Ok(())
}

struct Door;

impl Acceptor<Buffer> for Door {
    fn accepted(
        &mut self,
        _: Token,
        connection: Accepted,
        _: &mut Buffer,
        reactor: &mut Reactor<Buffer>,
    ) {
        if let Ok(token) = reactor.attach(connection, Box::new(Echo)) {
            reactor.set_water(token, HIGH, LOW);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let port = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--port", port] => Some(port.parse()?),
        _ => return Err("usage: echo [--port PORT]".into()),
    };
    let mut reactor = Reactor::new()?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    let options =
        ListenOptions { backlog: 4096, reuse_port: port.is_some(), ..ListenOptions::default() };
    let door = reactor.listen(addr, &options, Box::new(Door))?;
    let addr = reactor.local_addr(door).ok_or("it listens nowhere")?;
    println!("listening {}", addr.port());
    reactor.run(&mut vec![0; BUFFER_LEN])?;
    Ok(())
}

/// As the other servers of this measurement have it.
const BUFFER_LEN: usize = 16 * 1024;
/// With two reads' worth queued, the peer is not reading.
const HIGH: usize = 2 * BUFFER_LEN;
const LOW: usize = 0;
