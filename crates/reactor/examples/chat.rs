//! A chat: what one says in a line, all others read.
//!
//! `cargo run -p reactor --example chat`, then `nc 127.0.0.1 7008` in two terminals or more. On a Unix
//! socket: `cargo run -p reactor --example chat -- /tmp/chat`, then `nc -U /tmp/chat`.
//!
//! Nobody has to wait for anybody: a line is one allocation that all queues share, and whoever reads
//! so slowly that its queue is full is dropped, and the others are told.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::mem;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use reactor::signal::{SIGINT, SIGTERM};
use reactor::{
    Accepted, Acceptor, Address, Handler, HandlerError, ListenOptions, Progress, Reactor, Read,
    Reason, Token,
};

/// The state of the program.
#[derive(Default)]
struct Room {
    /// Who is here, and by what nick. Whoever is saying goodbye is not here any more.
    nicks: BTreeMap<Token, String>,
    /// How many have come, ever.
    guest_count: u64,
    /// With those that are saying goodbye.
    connection_count: usize,
    idle_after: Option<Duration>,
    is_closing: bool,
}

impl Room {
    fn enter(&mut self, connection: Accepted, reactor: &mut Reactor<Self>) -> io::Result<()> {
        let token = reactor.attach(connection, Box::new(Guest::default()))?;
        self.connection_count += 1;
        reactor.set_water(token, QUEUE_MAX, QUEUE_MAX / 2);
        reactor.set_idle_timeout(token, self.idle_after);
        if self.nicks.len() == GUESTS_MAX {
            whisper(token, "there is no room left, come again", reactor);
            reactor.close_after_flush(token, PATIENCE);
            return Ok(());
        }
        self.guest_count += 1;
        let mut nick = format!("guest{}", self.guest_count);
        while self.is_taken(&nick) {
            nick.push('_');
        }
        whisper(token, &format!("welcome, {nick}. {COMMANDS}"), reactor);
        self.tell_others(token, format!("* {nick} is here"), reactor);
        self.nicks.insert(token, nick);
        Ok(())
    }

    /// For whatever reason. Harmless if it has left already.
    fn leave(&mut self, token: Token, why: &str, reactor: &mut Reactor<Self>) {
        if let Some(nick) = self.nicks.remove(&token) {
            self.tell_others(token, format!("* {nick} {why}"), reactor);
        }
    }

    fn tell_others(&self, token: Token, line: String, reactor: &mut Reactor<Self>) {
        let line = Bytes::from(line + "\n");
        for other in self.nicks.keys().filter(|other| **other != token) {
            send(*other, line.clone(), reactor);
        }
    }

    fn rename(&mut self, token: Token, nick: &str, reactor: &mut Reactor<Self>) {
        let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        if nick.is_empty() || nick.chars().count() > NICK_MAX || !nick.chars().all(is_name) {
            let rule = format!("a nick is 1 to {NICK_MAX} letters, digits, - and _");
            whisper(token, &rule, reactor);
        } else if self.is_taken(nick) {
            whisper(token, &format!("{nick} is taken"), reactor);
        } else if let Some(before) = self.nicks.insert(token, nick.to_owned()) {
            whisper(token, &format!("you are {nick} now"), reactor);
            self.tell_others(token, format!("* {before} is {nick} now"), reactor);
        }
    }

    fn is_taken(&self, nick: &str) -> bool {
        self.nicks.values().any(|taken| taken == nick)
    }

    /// Says goodbye to all, and ends when that has arrived; at once when told a second time.
    fn close(&mut self, listener: Token, reactor: &mut Reactor<Self>) {
        if self.is_closing || self.connection_count == 0 {
            reactor.stop();
        }
        self.is_closing = true;
        reactor.close(listener, "the chat is closing");
        for token in mem::take(&mut self.nicks).into_keys() {
            whisper(token, "the chat is closing, goodbye", reactor);
            reactor.close_after_flush(token, PATIENCE);
        }
    }
}

/// Tells something to one.
fn whisper(token: Token, text: &str, reactor: &mut Reactor<Room>) {
    send(token, format!("* {text}\n").into(), reactor);
}

/// One that is over hears no more, and leaves at the end of this turn. So does one whose queue is full
/// before: all that many say in one turn is far more than may wait.
fn send(token: Token, line: Bytes, reactor: &mut Reactor<Room>) {
    if let Ok(Progress::Full(_)) = reactor.write(token, line)
        && let Ok(Progress::Full(_)) = reactor.kick(token)
    {
        reactor.close(token, TOO_SLOW);
    }
}

/// One connection.
#[derive(Default)]
struct Guest {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// That line was too long already: the rest of it is dropped.
    is_too_long: bool,
}

impl Handler<Room> for Guest {
    fn readable(
        &mut self,
        token: Token,
        room: &mut Room,
        reactor: &mut Reactor<Room>,
    ) -> Result<(), HandlerError> {
        let mut buffer = [0; LINE_MAX];
        let count = match reactor.read(token, &mut buffer)? {
            Read::Data(count) => count,
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                room.leave(token, "is gone", reactor);
                reactor.close_after_flush(token, PATIENCE);
                return Ok(());
            }
        };
        for part in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if self.partial.len() > LINE_MAX {
                self.partial.clear();
                self.is_too_long = true;
            }
            if part.ends_with(b"\n") {
                let line = mem::take(&mut self.partial);
                if mem::take(&mut self.is_too_long) {
                    let limit = format!("nobody read that: a line is {LINE_MAX} bytes at most");
                    whisper(token, &limit, reactor);
                } else {
                    heed(token, &readable_text(&line), room, reactor);
                }
            }
        }
        Ok(())
    }

    fn full(
        &mut self,
        token: Token,
        _: &mut Room,
        reactor: &mut Reactor<Room>,
    ) -> Result<(), HandlerError> {
        reactor.close(token, TOO_SLOW);
        Ok(())
    }

    fn closed(
        &mut self,
        token: Token,
        reason: Reason,
        room: &mut Room,
        reactor: &mut Reactor<Room>,
    ) {
        let why = match reason {
            Reason::Local(TOO_SLOW) => TOO_SLOW.to_owned(),
            reason => format!("is gone: {reason}"),
        };
        room.leave(token, &why, reactor);
        room.connection_count -= 1;
        if room.is_closing && room.connection_count == 0 {
            reactor.stop();
        }
    }
}

/// Does what a line says, or tells it to the others.
fn heed(token: Token, line: &str, room: &mut Room, reactor: &mut Reactor<Room>) {
    // What came in the same breath as a `/quit`, but after it, is dropped.
    let Some(nick) = room.nicks.get(&token) else { return };
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "/nick" => room.rename(token, rest.trim(), reactor),
        "/who" => {
            let nicks: Vec<&str> = room.nicks.values().map(String::as_str).collect();
            whisper(token, &format!("here: {}", nicks.join(", ")), reactor);
        }
        "/quit" => {
            room.leave(token, "is gone", reactor);
            whisper(token, "goodbye", reactor);
            reactor.close_after_flush(token, PATIENCE);
        }
        "" => {}
        _ if word.starts_with('/') => whisper(token, COMMANDS, reactor),
        _ => room.tell_others(token, format!("{nick}: {line}"), reactor),
    }
}

/// What strangers send goes to other people's terminals: what is no text becomes U+FFFD, and what would
/// move the cursor or turn the direction of writing is left out.
fn readable_text(line: &[u8]) -> String {
    let is_harmless = |c: &char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !c.is_control() && !turns
    };
    let text = String::from_utf8_lossy(line).replace('\t', " ");
    text.chars().filter(is_harmless).collect::<String>().trim().to_owned()
}

struct Door;

impl Acceptor<Room> for Door {
    fn accepted(
        &mut self,
        _: Token,
        connection: Accepted,
        room: &mut Room,
        reactor: &mut Reactor<Room>,
    ) {
        if let Err(error) = room.enter(connection, reactor) {
            eprintln!("chat: a connection is lost: {error}");
        }
    }
}

fn serve(address: &Address, idle_after: Option<Duration>) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let listener = reactor.listen(address.clone(), &ListenOptions::default(), Box::new(Door))?;
    // A signal is heard for as long as its guard lives.
    let close = move |room: &mut Room, reactor: &mut Reactor<Room>| room.close(listener, reactor);
    let _interrupt = reactor.on_signal(SIGINT, close)?;
    let _terminate = reactor.on_signal(SIGTERM, close)?;
    if let Some(address) = reactor.local_address(listener) {
        println!("listening on {address}");
    }
    reactor.run(&mut Room { idle_after, ..Room::default() })
}

fn main() -> ExitCode {
    let mut name = None;
    let mut idle_after = None;
    let mut arguments =
        env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            "--idle" => match arguments.next().map(|seconds| seconds.parse::<u32>()) {
                Some(Ok(seconds @ 1..)) => idle_after = Some(Duration::from_secs(seconds.into())),
                Some(_) | None => return refuse("--idle wants a number of seconds, 1 or more"),
            },
            _ if name.is_some() => return refuse("one address is enough"),
            _ => name = Some(argument),
        }
    }
    let address = match address(name.as_deref().unwrap_or(DEFAULT_ADDR)) {
        Ok(address) => address,
        Err(why) => return refuse(&why),
    };
    match serve(&address, idle_after) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: cannot listen at {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A name with a slash is a path.
fn address(name: &str) -> Result<Address, String> {
    if name.contains('/') {
        return Ok(Address::from(Path::new(name)));
    }
    match name.to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(addr)) => Ok(addr.into()),
        Ok(None) => Err(format!("{name} has no address")),
        Err(error) => Err(format!("{name} is not HOST:PORT: {error}")),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("chat: {why}\n{USAGE}");
    ExitCode::from(2)
}

const DEFAULT_ADDR: &str = "127.0.0.1:7008";
const COMMANDS: &str = "There are /nick NAME, /who and /quit";
/// In bytes, with its end. A longer one is told to nobody, and whoever sent it hears so.
const LINE_MAX: usize = 4096;
/// In characters.
const NICK_MAX: usize = 20;
/// Who comes when so many are here is sent away.
const GUESTS_MAX: usize = 1000;
/// What may wait for one guest, in bytes, beside what the kernel holds. One with more is dropped.
const QUEUE_MAX: usize = 256 * 1024;
const TOO_SLOW: &str = "reads too slowly and was dropped";
/// How long the last words to a guest are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const USAGE: &str = "\
usage: chat [--idle SECONDS] [ADDR]

Tells what each says in a line to all others. ADDR is a host and a port, by default
127.0.0.1:7008, or the path of a Unix socket, which has a slash in it; port 0 is any
that is free. With --idle, connections on which nothing happens, either way, for so
long are dropped.";
