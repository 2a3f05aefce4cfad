//! The process that looks after a node's: it starts it, hears its signs of life, and starts it anew.
//!
//! The two talk over a socket that is the node's standard input, a byte for each thing that there is to
//! say. When the keeper is gone, however that came, the node finds the socket at its end and ends too.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use reactor::signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use reactor::{Interest, Reactor, TimerGuard, WatchGuard};
use serde_json::Value as Json;

use super::arguments::Arguments;
use super::watchdog::{Output, Watchdog};
use super::{Failure, Tool, log};
use crate::config::{Config, Facts};

/// The first argument of the process of a node. Nobody is to type this.
pub(super) const CHILD: &str = "a-node-with-a-keeper";

/// The node says that it works, that it is there, and that it wants to be started anew.
pub(super) const READY: u8 = b'+';
pub(super) const BEAT: u8 = b'.';
pub(super) const RESTART: u8 = b'r';
/// The keeper says that the node is to end.
pub(super) const END: u8 = b'q';

struct Keeper {
    watchdog: Watchdog,
    program: PathBuf,
    arguments: String,
    child: Option<Running>,
    timer: Option<TimerGuard>,
    status: u8,
}

struct Running {
    process: Child,
    line: UnixStream,
    _watch: WatchGuard,
}

impl Tool {
    pub(super) fn run(&mut self, arguments: &mut Arguments) -> Result<u8, Failure> {
        self.save()?;
        let arguments = arguments.rest();
        // What is wrong is said before anything is begun.
        Config::from_args(arguments.clone())?.resolve(self.file()?, &Facts::of_machine()?)?;
        log::begin("info");
        Ok(keep(arguments)?)
    }
}

/// Looks after a node until it is to end.
fn keep(arguments: Vec<Json>) -> io::Result<u8> {
    let mut reactor = Reactor::new()?;
    let mut keeper = Keeper {
        watchdog: Watchdog::new(reactor.now()),
        // As it is called now: after an update that is the new one.
        program: std::env::current_exe()?,
        arguments: Json::Array(arguments).to_string(),
        child: None,
        timer: None,
        status: 0,
    };
    let end = |keeper: &mut Keeper, reactor: &mut Reactor<Keeper>| {
        keeper.watchdog.handle_end(reactor.now());
        keeper.act(reactor);
    };
    let hang_up = move |keeper: &mut Keeper, reactor: &mut Reactor<Keeper>| {
        // The terminal is gone, or, without one, someone wants the file to be read again.
        if io::stderr().is_terminal() {
            end(keeper, reactor);
        } else {
            keeper.watchdog.handle_restart(reactor.now());
            keeper.act(reactor);
        }
    };
    let _signals = [
        reactor.on_signal(SIGTERM, end)?,
        reactor.on_signal(SIGINT, end)?,
        reactor.on_signal(SIGHUP, hang_up)?,
        reactor.on_signal(SIGCHLD, Keeper::look_for_end)?,
    ];
    keeper.act(&mut reactor);
    reactor.run(&mut keeper)?;
    Ok(keeper.status)
}

impl Keeper {
    /// Does what the watchdog wants done, and comes back when it wants something next.
    fn act(&mut self, reactor: &mut Reactor<Self>) {
        self.watchdog.handle_timeout(reactor.now());
        while let Some(output) = self.watchdog.poll_output() {
            match output {
                Output::Start => {
                    if let Err(error) = self.start(reactor) {
                        tracing::error!("{}: {error}", self.program.display());
                        self.watchdog.handle_exit(reactor.now(), super::STATUS_DIED);
                    }
                }
                Output::AskToEnd => {
                    let line = self.child.as_mut().map(|child| child.line.write_all(&[END]));
                    if let Some(Err(error)) = line {
                        tracing::debug!("the node cannot be asked to end: {error}");
                    }
                }
                Output::Kill => {
                    tracing::warn!("the node does not answer, and is killed");
                    if let Some(Err(error)) = self.child.as_mut().map(|child| child.process.kill())
                    {
                        tracing::debug!("the node cannot be killed: {error}");
                    }
                }
                Output::Over(status) => {
                    self.status = status;
                    reactor.stop();
                }
            }
        }
        self.timer = self
            .watchdog
            .poll_timeout()
            .map(|at| reactor.guard_timer(at, |keeper: &mut Self, reactor| keeper.act(reactor)));
    }

    fn start(&mut self, reactor: &mut Reactor<Self>) -> io::Result<()> {
        let (line, theirs) = UnixStream::pair()?;
        line.set_nonblocking(true)?;
        let process = Command::new(&self.program)
            .args([CHILD, &self.arguments])
            .stdin(OwnedFd::from(theirs))
            .spawn()?;
        let watch = reactor.watch(&line, Interest::Readable, |_, keeper: &mut Self, reactor| {
            keeper.listen(reactor);
        })?;
        self.child = Some(Running { process, line, _watch: watch });
        Ok(())
    }

    /// Hears what the node has to say.
    fn listen(&mut self, reactor: &mut Reactor<Self>) {
        let Some(child) = &mut self.child else { return };
        let mut bytes = [0; 64];
        let count = match child.line.read(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_lost) => 0,
        };
        if count == 0 {
            // It has ended, or is about to.
            self.look_for_end(reactor);
            return;
        }
        for byte in &bytes[..count] {
            match *byte {
                READY => self.watchdog.handle_ready(reactor.now()),
                RESTART => {
                    tracing::info!("the node is to start anew");
                    self.watchdog.handle_restart(reactor.now());
                }
                _ => self.watchdog.handle_beat(reactor.now()),
            }
        }
        self.act(reactor);
    }

    /// Looks whether the node has ended.
    fn look_for_end(&mut self, reactor: &mut Reactor<Self>) {
        let Some(child) = &mut self.child else { return };
        let Ok(Some(status)) = child.process.try_wait() else { return };
        self.child = None;
        let now = reactor.now();
        self.watchdog.handle_exit(now, byte_of(status));
        let wait = self.watchdog.poll_timeout().map(|at| at.saturating_duration_since(now));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            let seconds = wait.as_secs_f64();
            tracing::warn!("the node has ended ({status}), and starts anew in {seconds} s");
        }
        self.act(reactor);
    }
}

/// A status for our own end: as shells have it after a signal.
fn byte_of(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(super::STATUS_DIED)
}
