//! A lock server that speaks the line protocol of ddlockd, so that its clients can use it.
//!
//! `cargo run -p reactor --example lockd`, then `nc 127.0.0.1 7002` and type:
//!
//! | line | answer |
//! | --- | --- |
//! | `trylock lock=NAME` | `OK`; `ERR taken` if anybody has it |
//! | `releaselock lock=NAME` | `OK`; `ERR didnthave` if it is not yours |
//! | `locks` | `LOCKS:`, then a line for each: `  NAME = CLIENT` |
//! | `noop` | `OK` |
//!
//! Arguments are `key=value`, URL-encoded, joined by `&`. Whoever disconnects releases what it held.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Bound;
use std::process::ExitCode;
use std::time::Duration;

use reactor::{
    Accepted, Acceptor, Closed, Handler, HandlerError, ListenOptions, Reactor, Read, Reason, Token,
};
use socket2::{SockRef, TcpKeepalive};

/// Who holds what: the state of the program. Names are bytes, as in ddlockd.
#[derive(Default)]
struct Locks {
    holders: BTreeMap<Vec<u8>, Token>,
}

/// One connection.
#[derive(Default)]
struct Client {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// What it holds, so that its end need not search all locks.
    held: BTreeSet<Vec<u8>>,
    /// The last name it was told of a list that had no room at once.
    listed: Option<Vec<u8>>,
}

impl Handler<Locks> for Client {
    fn readable(
        &mut self,
        token: Token,
        locks: &mut Locks,
        reactor: &mut Reactor<Locks>,
    ) -> Result<(), HandlerError> {
        let mut buffer = [0; LINE_MAX];
        let count = match reactor.read(token, &mut buffer)? {
            Read::Data(count) => count,
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                reactor.close_after_flush(token, PATIENCE);
                return Ok(());
            }
        };
        let mut input = mem::take(&mut self.partial);
        input.extend_from_slice(&buffer[..count]);
        let mut rest = input.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if reactor.is_full(token) {
                // It asks and asks, and does not read the answers. What it asked is put back, to be
                // read when it is resumed.
                reactor.pause(token);
                reactor.unread(token, rest.to_vec())?;
                return Ok(());
            }
            let answer = self.answer(token, &rest[..end], locks);
            reactor.write(token, answer)?;
            rest = &rest[end + 1..];
            self.list(token, locks, reactor)?;
        }
        if rest.len() > LINE_MAX {
            reactor.write(token, error("line_too_long"))?;
            reactor.close_after_flush(token, PATIENCE);
            return Ok(());
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn drained(
        &mut self,
        token: Token,
        locks: &mut Locks,
        reactor: &mut Reactor<Locks>,
    ) -> Result<(), HandlerError> {
        self.list(token, locks, reactor)?;
        if self.listed.is_none() {
            reactor.resume(token);
        }
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, locks: &mut Locks, _: &mut Reactor<Locks>) {
        for name in &self.held {
            locks.holders.remove(name);
        }
    }
}

impl Client {
    fn answer(&mut self, token: Token, line: &[u8], locks: &mut Locks) -> Vec<u8> {
        let line = line.trim_ascii();
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (command, arguments) = line.split_at(end);
        match command.to_ascii_lowercase().as_slice() {
            b"trylock" => self.try_lock(token, lock_name(arguments), locks),
            b"releaselock" => self.release_lock(&lock_name(arguments), locks),
            // Without locks it ends with an empty line, with some it does not: so ddlockd has it.
            b"locks" if locks.holders.is_empty() => b"LOCKS:\n\n".to_vec(),
            b"locks" => {
                self.listed = Some(Vec::new());
                b"LOCKS:\n".to_vec()
            }
            b"noop" => OK.to_vec(),
            _ => error("unknown_command Unknown+server+command"),
        }
    }

    /// Goes on with a list that was asked for, in the order of names, as far as there is room: all lists
    /// of all clients together would be far more than there are locks.
    fn list(
        &mut self,
        token: Token,
        locks: &Locks,
        reactor: &mut Reactor<Locks>,
    ) -> Result<(), Closed> {
        let Some(mut last) = self.listed.take() else { return Ok(()) };
        let behind = (Bound::Excluded(last.clone()), Bound::Unbounded);
        for (name, holder) in locks.holders.range(behind) {
            if reactor.is_full(token) {
                reactor.pause(token);
                self.listed = Some(last);
                break;
            }
            let client =
                reactor.peer_addr(*holder).map_or_else(String::new, |addr| addr.to_string());
            reactor.write(token, format!("  {} = {client}\n", printable(name)))?;
            last.clone_from(name);
        }
        Ok(())
    }

    fn try_lock(&mut self, token: Token, name: Vec<u8>, locks: &mut Locks) -> Vec<u8> {
        if name.is_empty() {
            error("empty_lock")
        } else if name.len() > NAME_MAX {
            error("lock_too_long")
        } else if locks.holders.contains_key(&name) {
            error("taken")
        } else if locks.holders.len() == LOCKS_MAX {
            error("too_many_locks")
        } else {
            self.held.insert(name.clone());
            locks.holders.insert(name, token);
            OK.to_vec()
        }
    }

    fn release_lock(&mut self, name: &[u8], locks: &mut Locks) -> Vec<u8> {
        if name.is_empty() {
            error("empty_lock")
        } else if !self.held.remove(name) {
            error("didnthave")
        } else {
            locks.holders.remove(name);
            OK.to_vec()
        }
    }
}

/// A name as it is listed: what could pass for another line, or move a terminal's cursor, stays encoded.
fn printable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' | ..b' ' | 127.. => text += &format!("%{byte:02X}"),
            byte => text.push(char::from(*byte)),
        }
    }
    text
}

/// ddlockd would put arguments after the space.
const OK: &[u8] = b"OK \r\n";

/// Likewise: a text for people stands after the space, if there is one.
fn error(code: &str) -> Vec<u8> {
    let space = if code.contains(' ') { "" } else { " " };
    format!("ERR {code}{space}\r\n").into()
}

/// The value of the first `lock=`; empty if there is none.
fn lock_name(arguments: &[u8]) -> Vec<u8> {
    let pairs = arguments.trim_ascii().split(|byte| *byte == b'&');
    let mut values = pairs.filter_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=')?;
        (url_decoded(&pair[..end]) == b"lock").then(|| url_decoded(&pair[end + 1..]))
    });
    values.next().unwrap_or_default()
}

/// A percent sign that begins no code stands for itself.
fn url_decoded(encoded: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..])
                if let (Some(high), Some(low)) = (digit(high), digit(low)) =>
            {
                rest = after;
                (high * 16 + low) as u8
            }
            _ => *first,
        });
    }
    decoded
}

struct Door;

impl Acceptor<Locks> for Door {
    fn accepted(
        &mut self,
        _: Token,
        connection: Accepted,
        _: &mut Locks,
        reactor: &mut Reactor<Locks>,
    ) {
        let kept = reactor.attach(connection, Box::new(Client::default())).and_then(|token| {
            // A client whose machine is gone says no goodbye, and would hold its locks for ever.
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
            let set = reactor.with_fd(token, |fd| SockRef::from(&fd).set_tcp_keepalive(&keepalive));
            set.unwrap_or(Ok(()))
        });
        if let Err(error) = kept {
            eprintln!("lockd: trouble with a connection: {error}");
        }
    }
}

fn serve(addr: SocketAddr) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = reactor.listen(addr, &ListenOptions::default(), Box::new(Door))?;
    if let Some(addr) = reactor.local_addr(listener) {
        println!("listening on {addr}");
    }
    reactor.run(&mut Locks::default())
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
            eprintln!("lockd: cannot listen at {addr}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("lockd: {why}\n{USAGE}");
    ExitCode::from(2)
}

const DEFAULT_ADDR: &str = "127.0.0.1:7002";
/// In bytes. Whoever sends a longer one is told so, and the connection closed.
const LINE_MAX: usize = 4096;
/// In bytes, decoded. A longer one is not locked.
const NAME_MAX: usize = 255;
/// Of all clients together. When there are so many, nobody gets another.
const LOCKS_MAX: usize = 100_000;
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection is silent before the system asks whether the client is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5 * 60);
const USAGE: &str = "\
usage: lockd [ADDR]

A lock server for clients of ddlockd. ADDR is a host and a port, by default
127.0.0.1:7002; port 0 is any that is free.";
