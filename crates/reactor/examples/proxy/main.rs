//! A reverse proxy for HTTP/1.1: requests go to a pool of backends, or are answered with files.
//!
//! Each connection's handler is what it is doing: a `Client` awaits a request, and becomes an
//! `Upload` while a backend has that; a backend's connection is a `Fetch`, and `Idle` between
//! two. Whichever side is slower sets the pace: when its queue does not empty, the other is not read.
//!
//! Try it: `cargo run --release -p reactor --example proxy -- 127.0.0.1:8080 --root .`

mod backend;
mod client;
mod files;
mod http;

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use reactor::signal::{SIGINT, SIGTERM};
use reactor::{Accepted, Acceptor, HandlerError, ListenOptions, Reactor, Token};

use backend::{IDLE, IDLE_BACKEND, Pool};
use client::{Client, IDLE_CLIENT, part};

/// What all connections share.
struct Proxy {
    pool: Pool,
    root: Option<OwnedFd>,
    /// Where everything is read into, and written out from unless it has to wait.
    buffer: Vec<u8>,
    clients: usize,
    is_stopping: bool,
}

impl Proxy {
    fn client_ended(&mut self, reactor: &mut Loop) {
        self.clients -= 1;
        if self.is_stopping && self.clients == 0 {
            reactor.stop();
        }
    }
}

type Loop = Reactor<Proxy>;
type Outcome = Result<(), HandlerError>;

struct Door;

impl Acceptor<Proxy> for Door {
    fn accepted(&mut self, _: Token, connection: Accepted, state: &mut Proxy, reactor: &mut Loop) {
        if state.clients < CLIENTS_MAX
            && let Ok(token) = reactor.attach(connection, Box::new(Client::default()))
        {
            state.clients += 1;
            reactor.set_idle_timeout(token, Some(IDLE));
            // What the kernel does not take is all that waits here.
            reactor.set_water(token, 1, 0);
        }
    }
}

struct Args {
    listen: SocketAddr,
    backends: Vec<SocketAddr>,
    root: Option<OwnedFd>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut addrs, mut root) = (Vec::new(), None);
    while let Some(word) = words.next() {
        if word == "--root" {
            let path = words.next().ok_or("--root needs a folder")?;
            let opened = files::open_root(&path).map_err(|error| format!("{path}: {error}"))?;
            root = Some(opened);
        } else if word.starts_with('-') {
            return Err(format!("{word} is no option"));
        } else {
            let found = word.to_socket_addrs().map_err(|error| format!("{word}: {error}"))?;
            addrs.extend(found.take(1));
        }
    }
    if addrs.is_empty() || addrs.len() == 1 && root.is_none() {
        return Err("an address to listen on is needed, and a backend or a folder".into());
    }
    let backends = addrs.split_off(1);
    Ok(Args { listen: addrs[0], backends, root })
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let mut reactor = Loop::new()?;
    let listener = reactor
        .listen(args.listen, &ListenOptions::default(), Box::new(Door))
        .map_err(|error| format!("{}: {error}", args.listen))?;
    for signal in [SIGINT, SIGTERM] {
        let stop = move |state: &mut Proxy, reactor: &mut Loop| {
            stop(listener, state, reactor);
        };
        reactor.on_signal(signal, stop)?.detach();
    }
    let addr = reactor.local_addr(listener).ok_or("it does not listen")?;
    say(&format!("listening on http://{addr}"));
    let mut proxy = Proxy {
        pool: Pool::new(args.backends),
        root: args.root,
        buffer: vec![0; BUFFER_LEN],
        clients: 0,
        is_stopping: false,
    };
    reactor.run(&mut proxy)?;
    Ok(())
}

/// Requests that are under way are answered, then we go; at a second signal, at once.
fn stop(listener: Token, state: &mut Proxy, reactor: &mut Loop) {
    reactor.close(listener, "we are closing");
    if state.clients == 0 || std::mem::replace(&mut state.is_stopping, true) {
        return reactor.stop();
    }
    for token in reactor.tokens() {
        match reactor.info(token).map(|info| info.kind) {
            Some(IDLE_CLIENT) => part(token, reactor),
            Some(IDLE_BACKEND) => reactor.close(token, "we are closing"),
            _ => {}
        }
    }
    reactor.add_timer(reactor.now() + STOP_MAX, |_, reactor| reactor.stop());
}

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "-h" || word == "--help") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let (status, message) = match parse(std::env::args().skip(1)) {
        Ok(args) => match run(args) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => (1, error.to_string()),
        },
        Err(message) => (2, format!("{message}\n{USAGE}")),
    };
    say(&format!("proxy: {message}"));
    ExitCode::from(status)
}

#[expect(clippy::print_stderr, reason = "here a program speaks to its user")]
fn say(message: &str) {
    eprintln!("{message}");
}

const USAGE: &str = "usage: proxy LISTEN [BACKEND]... [--root DIR]
Passes requests on to the backends, and serves the files of DIR under /static/, or everywhere if there
are no backends. Addresses are HOST:PORT.";
const BUFFER_LEN: usize = 64 * 1024;
/// More than that are turned away.
const CLIENTS_MAX: usize = 10_000;
/// How long requests may take when we are to stop.
const STOP_MAX: Duration = Duration::from_secs(10);
