//! A loop with a node, and a list of what was seen.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Debug, Write};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{List, Monitor, Node, PortId, Value, wire};
use reactor::Reactor;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span;

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) reactor: Reactor<()>,
    pub(crate) seen: Rc<RefCell<Vec<String>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Log::listen();
        let mut reactor = Reactor::new().expect("a loop");
        let node = Node::alone(&mut reactor);
        Self { node, reactor, seen: Rc::default() }
    }

    /// Writes into the list.
    pub(crate) fn note(&self) -> impl Fn(&str) + Clone + 'static {
        let seen = Rc::clone(&self.seen);
        move |text| seen.borrow_mut().push(text.to_owned())
    }

    /// Notes how a port ends.
    pub(crate) fn watch(&self, port: impl Into<PortId>) {
        self.guard(port, "").detach();
    }

    /// The same with a word before it, while the guard is held.
    pub(crate) fn guard(&self, port: impl Into<PortId>, word: &str) -> Monitor {
        let (note, word) = (self.note(), word.to_owned());
        self.node.monitor(port, move |_, reason| note(&format!("{word}{reason}")))
    }

    /// A port that notes the messages that come.
    pub(crate) fn listener(&self) -> PortId {
        let note = self.note();
        self.node.port(move |_, list: List| note(&shown(list))).id()
    }

    /// Sends what has the shape of a message, also if it owns nothing.
    pub(crate) fn send(&self, to: &PortId, message: impl Serialize) {
        self.node.send(to, wire::to_list(&message).expect("a list of values"));
    }

    /// Runs until nothing is left to do at once.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        for _ in 0..30 {
            self.reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
        }
        self.seen.take()
    }

    /// Runs until so much was seen.
    pub(crate) fn until(&mut self, count: usize) -> Vec<String> {
        let seen = Rc::clone(&self.seen);
        self.until_true(|| seen.borrow().len() >= count);
        self.seen.take()
    }

    pub(crate) fn until_true(&mut self, is_so: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            self.reactor.turn(&mut (), Some(Duration::from_millis(10))).expect("a turn");
        }
        panic!("it never came: {:?}", self.seen.borrow());
    }

    /// A second node on the same loop, which meets the first.
    pub(crate) fn pair() -> (Self, Node) {
        Self::pair_with(|config| config)
    }

    /// The same, with settings for the first.
    pub(crate) fn pair_with(change: impl FnOnce(Config) -> Config) -> (Self, Node) {
        Log::listen();
        let mut reactor = Reactor::new().expect("a loop");
        let config = Config::new().norc().node_id("first").bind("127.0.0.1:0").secret("geheim");
        let node = Node::start(&mut reactor, &resolved(change(config))).expect("starts");
        let address = node.listeners()[0].clone();
        let config = Config::new()
            .norc()
            .node_id("second")
            .bind("127.0.0.1:0")
            .secret("geheim")
            .seed(&address);
        let other = Node::start(&mut reactor, &resolved(config)).expect("starts");
        let mut world = Self { node, reactor, seen: Rc::default() };
        let node = world.node.clone();
        world.until_true(|| !node.up_nodes().is_empty());
        (world, other)
    }
}

fn resolved(config: Config) -> Settings {
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

pub(crate) fn shown(list: List) -> String {
    Value::List(list).to_string()
}

pub(crate) fn list<const N: usize>(values: [Value; N]) -> List {
    values.into()
}

/// Counts how many of it are there.
pub(crate) struct Counted(Rc<Cell<i32>>);

impl Counted {
    pub(crate) fn new(count: &Rc<Cell<i32>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }

    /// Is there where this is called.
    pub(crate) fn touch(&self) {
        assert!(self.0.get() > 0, "it is here itself");
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What this thread logs while something is done.
pub(crate) fn logged(act: impl FnOnce()) -> Vec<String> {
    LINES.replace(Some(Vec::new()));
    act();
    LINES.take().expect("nobody else takes it")
}

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Hears what all threads log: one for each would miss what another thread logs first.
struct Log;

impl Log {
    fn listen() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::subscriber::set_global_default(Self).expect("there is no other");
        });
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let written: fmt::Result = write!(self.0, "{value:?}");
            written.expect("a text takes all");
        }
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        LINES
            .with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.push(line.0.clone())));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
