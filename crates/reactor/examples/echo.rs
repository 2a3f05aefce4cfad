//! An echo server: sends back whatever comes, no faster than it is read.
//!
//! `cargo run -p reactor --example echo`, then `nc 127.0.0.1 7007` and type.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::env;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use reactor::{
    Accepted, Acceptor, Handler, HandlerError, ListenOptions, Reactor, Read, Reason, Token,
};

/// One connection. There is nothing to remember of it, nor of the program: the state is `()`.
struct Echo;

impl Handler<()> for Echo {
    fn readable(
        &mut self,
        token: Token,
        _: &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        let mut buffer = [0; 16 * 1024];
        match reactor.read(token, &mut buffer)? {
            Read::Data(count) => {
                reactor.write_now(token, &buffer[..count])?;
            }
            Read::WouldBlock => {}
            Read::Eof => reactor.close_after_flush(token, PATIENCE),
        }
        Ok(())
    }

    // The peer sends and does not read. If we read on, all of that would pile up here; left in the
    // kernel, it makes the peer wait.
    fn full(
        &mut self,
        token: Token,
        _: &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        reactor.pause(token);
        Ok(())
    }

    fn drained(
        &mut self,
        token: Token,
        _: &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        reactor.resume(token);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut (), _: &mut Reactor<()>) {}
}

struct Door;

impl Acceptor<()> for Door {
    fn accepted(&mut self, _: Token, connection: Accepted, _: &mut (), reactor: &mut Reactor<()>) {
        if let Err(error) = reactor.attach(connection, Box::new(Echo)) {
            eprintln!("echo: a connection is lost: {error}");
        }
    }
}

fn serve(addr: SocketAddr) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = reactor.listen(addr, &ListenOptions::default(), Box::new(Door))?;
    if let Some(addr) = reactor.local_addr(listener) {
        println!("listening on {addr}");
    }
    reactor.run(&mut ())
}

fn main() -> ExitCode {
    let arguments: Vec<_> =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let name = match arguments.as_slice() {
        [] => DEFAULT_ADDR,
        [flag] if flag == "-h" || flag == "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        [name] => name,
        [_, more, ..] => return refuse(&format!("one address is enough, and {more} is another")),
    };
    let addr = match name.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(addr)) => addr,
        Ok(None) => return refuse(&format!("{name} has no address")),
        Err(error) => return refuse(&format!("{name} is not HOST:PORT: {error}")),
    };
    match serve(addr) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: cannot listen at {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("echo: {why}\n{USAGE}");
    ExitCode::from(2)
}

const DEFAULT_ADDR: &str = "127.0.0.1:7007";
/// How long what is on its way back is waited for, when the peer has sent all it had.
const PATIENCE: Duration = Duration::from_secs(60);
const USAGE: &str = "\
usage: echo [ADDR]

Sends back whatever comes. ADDR is a host and a port, by default 127.0.0.1:7007;
port 0 is any that is free.";
