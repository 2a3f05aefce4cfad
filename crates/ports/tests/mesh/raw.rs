//! A node on this machine's loopback, and peers that say what a test has them say.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use ports::config::Config;
use ports::{Context, List, Node, PortId, Value};
use reactor::Reactor;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use crate::net::resolve;

/// A node, and what it logs.
pub(crate) struct Stage {
    pub(crate) reactor: Reactor<()>,
    pub(crate) node: Node,
    /// What came to the port `echo`.
    pub(crate) seen: Rc<RefCell<Vec<String>>>,
    pub(crate) port: PortId,
}

/// What has been logged on this thread, since [`keep_log`].
pub(crate) fn log() -> Vec<String> {
    LOG.with_borrow(Vec::clone)
}

pub(crate) fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Log).expect("there is no other"));
}

/// A peer that is bytes.
pub(crate) struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
    is_over: bool,
}

/// No machine is so slow.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stage {
    pub(crate) fn new(config: Config) -> Self {
        keep_log();
        let mut reactor = Reactor::new().expect("a loop");
        // What a peer can say that does not calculate.
        let config = config.set("auth_accept", vec!["hmac_sha3_512", "cleartext"]);
        let settings = resolve(config.bind("127.0.0.1:0"));
        let node = Node::start(&mut reactor, &settings).expect("starts");
        let seen: Rc<RefCell<Vec<String>>> = Rc::default();
        let note = Rc::clone(&seen);
        let port = node.port(move |_: &Context<'_>, list: List| {
            note.borrow_mut().push(Value::List(list).to_string());
        });
        Self { reactor, node, seen, port: port.id() }
    }

    pub(crate) fn turn(&mut self) {
        self.reactor.turn(&mut (), Some(Duration::from_millis(1))).expect("a turn");
    }

    /// Turns until something is so.
    pub(crate) fn until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !is_done(self) {
            assert!(begin.elapsed() < PATIENCE, "{what}: {:#?}", self.log());
            self.turn();
        }
    }

    fn log(&self) -> Vec<String> {
        log()
    }

    pub(crate) fn until_logged(&mut self, text: &str) {
        self.until(text, |stage| stage.log().iter().any(|line| line.contains(text)));
    }

    /// Waits until nobody is left, and nothing of them.
    pub(crate) fn until_alone(&mut self) {
        self.until("alone", |stage| {
            stage.node.strangers_count() == 0
                && stage.node.known_nodes_count() == 0
                && stage.reactor.len() == 1
        });
    }

    pub(crate) fn connect(&mut self) -> Raw {
        let stream = TcpStream::connect(&self.node.listeners()[0]).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        Raw { stream, received: Vec::new(), is_over: false }
    }

    /// A peer that has done the handshake as a simple one does.
    pub(crate) fn join(&mut self, name: &str, framing: &str) -> Raw {
        let mut raw = self.connect();
        let hello = format!("aemp;1;{name};hmac_sha3_512;json\nnonce of {name}\n");
        raw.send(self, hello.as_bytes());
        raw.send(self, format!("cleartext;67656865696d;{framing}\n").as_bytes());
        for _ in 0..3 {
            raw.line(self);
        }
        self.until("up", |stage| stage.node.up_nodes().iter().any(|node| node.as_str() == name));
        raw
    }
}

impl Raw {
    /// Sends, as fast as it is taken.
    pub(crate) fn send(&mut self, stage: &mut Stage, mut bytes: &[u8]) {
        stage.until("sent", |stage| {
            bytes = &bytes[self.send_some(bytes)..];
            self.take(stage);
            bytes.is_empty() || self.is_over
        });
    }

    /// Sends what is taken at once.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.is_over = true;
                bytes.len()
            }
        }
    }

    fn take(&mut self, _: &mut Stage) {
        let mut buffer = [0; 65_536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_over = true,
            }
            return;
        }
    }

    /// The next line that comes.
    pub(crate) fn line(&mut self, stage: &mut Stage) -> String {
        let mut end = None;
        stage.until("a line", |stage| {
            self.take(stage);
            end = self.received.iter().position(|octet| *octet == b'\n');
            end.is_some()
        });
        let end = end.expect("there is one");
        let line: Vec<u8> = self.received.drain(..=end).collect();
        String::from_utf8(line[..end].to_vec()).expect("text")
    }

    /// Waits until so much has come, and takes all that has.
    pub(crate) fn received(&mut self, stage: &mut Stage, len: usize) -> Vec<u8> {
        stage.until("bytes", |stage| {
            self.take(stage);
            self.received.len() >= len
        });
        std::mem::take(&mut self.received)
    }

    pub(crate) fn until_closed(&mut self, stage: &mut Stage) {
        stage.until("closed", |stage| {
            self.take(stage);
            self.is_over
        });
    }
}

thread_local! {
    /// What was logged on this thread, which is one test.
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl Subscriber for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().starts_with("ports") {
            let mut text = Text(String::new());
            event.record(&mut text);
            LOG.with_borrow_mut(|log| log.push(text.0));
        }
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
