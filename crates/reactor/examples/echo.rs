//! An echo server: sends back whatever comes, no faster than it is read.
//!
//! `cargo run -p reactor --example echo`, then `nc 127.0.0.1 7007` and type.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::env;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use reactor::{
    Accepted, Handler, HandlerError, ListenOptions, Progress, Reactor, Read, Reason, Token,
};

type Loop = Reactor<()>;
type Done = Result<(), HandlerError>;

/// One connection. There is nothing to remember of it, nor of the program: the state is `()`.
struct Echo;

impl Handler<()> for Echo {
    fn readable(&mut self, token: Token, _: &mut (), reactor: &mut Loop) -> Done {
        let mut buffer = [0; 16 * 1024];
        match reactor.read(token, &mut buffer)? {
            Read::Data(count) => {
                // A peer that sends and does not read has to wait, or all would pile up here.
                if let Progress::Full(_) = reactor.write_now(token, &buffer[..count])? {
                    reactor.pause(token);
                }
            }
            Read::WouldBlock => {}
            Read::Eof => reactor.close_after_flush(token, Duration::from_secs(60)),
        }
        Ok(())
    }

    fn drained(&mut self, token: Token, _: &mut (), reactor: &mut Loop) -> Done {
        reactor.resume(token);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut (), _: &mut Loop) {}
}

fn serve(addr: SocketAddr) -> io::Result<()> {
    let accept = |_: Token, connection: Accepted, _: &mut (), reactor: &mut Loop| {
        if let Err(error) = reactor.attach(connection, Box::new(Echo)) {
            eprintln!("echo: a connection is lost: {error}");
        }
    };
    let mut reactor = Reactor::new()?;
    let listener = reactor.listen(addr, &ListenOptions::default(), Box::new(accept))?;
    if let Some(addr) = reactor.local_addr(listener) {
        println!("listening on {addr}");
    }
    reactor.run(&mut ())
}

fn main() -> ExitCode {
    let argument = env::args_os().nth(1).map(|argument| argument.to_string_lossy().into_owned());
    let name = argument.as_deref().unwrap_or("127.0.0.1:7007");
    if name == "--help" {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (Ok(addr), true) = (name.parse(), env::args_os().len() <= 2) else {
        eprintln!("echo: {name} is not one IP:PORT\n{USAGE}");
        return ExitCode::from(2);
    };
    if let Err(error) = serve(addr) {
        eprintln!("echo: cannot listen at {addr}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

const USAGE: &str =
    "usage: echo [IP:PORT]   sends back whatever comes; by default at 127.0.0.1:7007";
