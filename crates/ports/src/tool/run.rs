//! A node in a process of its own, which another one looks after: see `keeper`.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::signal::{SIGHUP, SIGINT, SIGTERM};
use reactor::{Interest, Reactor};
use serde_json::Value as Json;

use super::keeper::{BEAT, END, READY, RESTART};
use super::{Failure, log, talk};
use crate::Node;
use crate::config::{Config, Facts, RcFile};

/// How often the node says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// How long connections have to send what is left, when the node ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the node and its keeper say to each other.
type Line = Rc<RefCell<UnixStream>>;

/// Runs a node until the keeper wants its end, or has ended itself.
pub(super) fn child(
    arguments: Vec<Json>,
    register: impl FnOnce(&Node) + 'static,
) -> Result<u8, Failure> {
    let tap = log::begin("info");
    let line = line().map_err(|error| {
        Failure::died(format!("only 'aemp run' starts this: its input is no socket: {error}"))
    })?;
    let arguments = match arguments.into_iter().next() {
        Some(Json::Array(list)) => list,
        _ => Vec::new(),
    };
    let file = RcFile::of_environment()?;
    let settings = Config::from_args(arguments)?.resolve(&file, &Facts::of_machine()?)?;
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &settings)?;
    node.offer_log(&tap);
    node.register_standard_commands();
    for name in ["restart", talk::RESTART] {
        let line = Rc::clone(&line);
        node.register_command(name, "starts this node anew", move |_, _| {
            line.borrow_mut().write_all(&[RESTART])?;
            Ok(Vec::new())
        });
    }
    register(&node);
    node.start_services(&settings.services)?;
    if let Some(command) = &settings.eval {
        node.evaluate(command, node.id())
            .map_err(|error| Failure::died(format!("eval: {error}")))?;
    }

    let ending = node.clone();
    let listener = Rc::clone(&line);
    let _line =
        reactor.watch(line.borrow().as_fd(), Interest::Readable, move |_, (), reactor| {
            if is_to_end(&listener) {
                end(&ending, reactor);
            }
        })?;
    let ending = node;
    let _signals = [
        reactor.on_signal(SIGTERM, move |(), reactor| end(&ending, reactor))?,
        // The keeper has these too, and says what is to be.
        reactor.on_signal(SIGINT, |(), _| {})?,
        reactor.on_signal(SIGHUP, |(), _| {})?,
    ];
    let beating = Rc::clone(&line);
    let first = reactor.now() + BEAT_EVERY;
    let _beats = reactor.add_interval(first, BEAT_EVERY, move |(), _| say(&beating, BEAT));
    say(&line, READY);
    reactor.run(&mut ())?;
    Ok(0)
}

/// The socket that is our input. From then on that is empty, so that no program which we start has the
/// socket, and holds it open when we have ended.
fn line() -> io::Result<Line> {
    let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    line.local_addr()?;
    line.set_nonblocking(true)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Rc::new(RefCell::new(line)))
}

/// If the keeper does not hear it, it has ended, or has not heard what we said before either.
fn say(line: &Line, byte: u8) {
    if let Err(error) = line.borrow_mut().write_all(&[byte]) {
        tracing::debug!("the keeper does not hear: {error}");
    }
}

fn is_to_end(line: &Line) -> bool {
    let mut bytes = [0; 64];
    match line.borrow_mut().read(&mut bytes) {
        Ok(count) => count == 0 || bytes[..count].contains(&END),
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// Parts in good order, then stops the loop.
fn end(node: &Node, reactor: &mut Reactor<()>) {
    tracing::info!("node {} ends", node.id());
    node.shut_down();
    let until = reactor.now() + FLUSH_PATIENCE;
    let first = reactor.now() + LOOK_EVERY;
    let looks = reactor.add_interval(first, LOOK_EVERY, move |(), reactor| {
        if reactor.closing().is_empty() || reactor.now() >= until {
            reactor.stop();
        }
    });
    looks.detach();
}
