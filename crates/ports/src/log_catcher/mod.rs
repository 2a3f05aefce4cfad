//! Logs of other nodes, caught as they are written: AnyEvent::MP::LogCatcher.
//!
//! Who catches makes a port for each node that the database knows, and has that node send its records there.
//! Nothing is kept for later, and nothing is sent again. `tap` is the other side: where a node gets its own
//! records from.

mod tap;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

pub use self::tap::LogTap;
use crate::node::Shared;
use crate::node::timer::Timer;
use crate::{Context, FamilyWatch, List, Message, Monitor, Node, NodeId, PortId, Reason, Value};

/// A record of another node's log.
#[derive(Clone, Debug, PartialEq)]
pub struct CaughtLog {
    /// Whose.
    pub node: NodeId,
    /// How long ago it was written, in seconds, by both nodes' clocks.
    pub age: f64,
    /// Which part of the program wrote it: in Rust a module.
    pub title: String,
    /// From 2, alert, over 4 error, 5 warning, 7 info and 8 debug, to 9, trace.
    pub level: u8,
    /// What it says. Control characters are replaced, but for tabs and line ends.
    pub text: String,
}

/// Catches logs. Dropped, it does no more.
#[must_use = "dropped, it catches no more"]
pub struct LogCatcher {
    catcher: Rc<Catcher>,
    _watch: FamilyWatch,
}

type OnRecord = Box<dyn FnMut(&CaughtLog)>;

struct Catcher {
    level: u8,
    call: RefCell<OnRecord>,
    nodes: RefCell<BTreeMap<NodeId, Caught>>,
}

/// A node whose log is caught, or would be if it were there.
#[derive(Default)]
struct Caught {
    _port: Option<CaughtPort>,
    _lost: Option<Monitor>,
    _again: Option<Timer>,
}

/// Where a node's records come in. With it, they end.
struct CaughtPort {
    /// The node itself may be what keeps this.
    node: Weak<Shared>,
    port: PortId,
}

impl Drop for CaughtPort {
    fn drop(&mut self) {
        if let Some(shared) = self.node.upgrade() {
            Node { shared }.kill(&self.port, Reason::NORMAL);
        }
    }
}

const MODULE: &str = "AnyEvent::MP::LogCatcher";
const CATCH: &str = "AnyEvent::MP::LogCatcher::catch";
const CONNECT: &str = "AnyEvent::MP::LogCatcher::connect";
/// What both sides have to speak.
const VERSION: i64 = 0;
/// How long after its loss a node is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What caught records are logged as, so that they are not passed on.
const CAUGHT: &str = "ports::caught";

impl Node {
    /// Catches the logs of all other nodes, from now on: records of this level and of all that are more
    /// important, which have lower ones. See [`CaughtLog`].
    ///
    /// # Errors
    /// If too many families of the database are watched.
    pub fn catch_logs(
        &self,
        level: u8,
        call: impl FnMut(&CaughtLog) + 'static,
    ) -> Result<LogCatcher, crate::database::DatabaseError> {
        let call: OnRecord = Box::new(call);
        let nodes = RefCell::default();
        let catcher = Rc::new(Catcher { level, call: RefCell::new(call), nodes });
        let weak = Rc::downgrade(&catcher);
        let watch = self.db_mon("'l", move |node, difference| {
            let Some(catcher) = weak.upgrade() else { return };
            for id in difference.deleted.iter().filter_map(|id| NodeId::new(id).ok()) {
                let gone = catcher.nodes.borrow_mut().remove(&id);
                drop(gone);
            }
            for id in difference.added.iter().filter_map(|id| NodeId::new(id).ok()) {
                if id != *node.id() {
                    catcher.begin(node, &id);
                }
            }
        })?;
        Ok(LogCatcher { catcher, _watch: watch })
    }

    /// Lets other nodes catch what a tap gives. Only then can they.
    pub fn offer_log(&self, tap: &LogTap) {
        let tap = tap.clone();
        self.register(CONNECT, move |context, args: List| {
            let [version, port, level, ..] = args.as_slice() else {
                return Err(Reason::die("expected a version, a port and a level"));
            };
            let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
            if number(version) != Some(VERSION as f64) {
                return Err(Reason::die(format!(
                    "version mismatch (requested {version}; we have {VERSION})"
                )));
            }
            let port = port.as_port().ok_or_else(|| Reason::die("expected a port"))?;
            let level = number(level).unwrap_or(LEVEL_MAX).clamp(0.0, LEVEL_MAX) as u8;
            tap.attach(context.node(), &port, level)
        });
    }

    /// Makes the service known that catches logs and writes them to this node's own.
    pub(crate) fn register_log_catcher(&self) {
        self.register_module(MODULE, |node| {
            let current = RefCell::new(None);
            node.register(CATCH, move |context, args: List| {
                // Whoever else may call functions here has no business with what is caught.
                if context.from().is_some() {
                    return Err(Reason::die("only a node's own configuration has it catch logs"));
                }
                let before = current.borrow_mut().take();
                drop(before);
                let level = match args.first() {
                    None => LEVEL_MAX as u8,
                    Some(Value::Null) => return Ok(()),
                    Some(level) => level
                        .as_f64()
                        .or_else(|| level.as_str()?.parse().ok())
                        .ok_or_else(|| {
                            Reason::die(format!("{level} is no level: a number from 0 to 9 is"))
                        })?
                        .clamp(0.0, LEVEL_MAX) as u8,
                };
                *current.borrow_mut() = Some(context.node().catch_logs(level, log)?);
                Ok(())
            });
        });
    }
}

/// The least important level.
const LEVEL_MAX: f64 = 9.0;

impl Catcher {
    fn begin(self: &Rc<Self>, node: &Node, id: &NodeId) {
        let (weak, from) = (Rc::downgrade(self), id.clone());
        let port = node.port(move |context: &Context<'_>, list: List| {
            let caught = weak.upgrade().zip(read(context.node(), &from, &list));
            if let Some((catcher, record)) = caught {
                (catcher.call.borrow_mut())(&record);
            }
        });
        let port = port.id();
        send(node, id, (VERSION, port.clone(), self.level));
        let (weak, lost) = (Rc::downgrade(self), id.clone());
        let caught = Caught {
            _port: Some(CaughtPort { node: Rc::downgrade(&node.shared), port }),
            _lost: Some(node.monitor(id, move |node, _| Self::lost(&weak, node, &lost))),
            _again: None,
        };
        let before = self.nodes.borrow_mut().insert(id.clone(), caught);
        drop(before);
    }

    /// A node is lost: it is tried again, as long as the database has it.
    fn lost(weak: &Weak<Self>, node: &Node, id: &NodeId) {
        let Some(catcher) = weak.upgrade() else { return };
        let (weak, again) = (Weak::clone(weak), id.clone());
        let timer = node.timer(AGAIN, move |node| {
            if let Some(catcher) = weak.upgrade() {
                catcher.begin(node, &again);
            }
        });
        let before = catcher.nodes.borrow_mut().get_mut(id).map(|caught| {
            std::mem::replace(caught, Caught { _again: Some(timer), ..Caught::default() })
        });
        drop(before);
    }
}

fn send<T: Message>(node: &Node, id: &NodeId, args: T) {
    node.send_to_function(id, CONNECT, args);
}

/// Takes a message for a record: `(time, title, level, text)`.
fn read(node: &Node, from: &NodeId, list: &[Value]) -> Option<CaughtLog> {
    let [time, title, level, text, ..] = list else { return None };
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    let age = node.seconds_since_1970() - number(time)?;
    Some(CaughtLog {
        node: from.clone(),
        age,
        title: shown(title.as_str().unwrap_or_default()),
        // What is fatal elsewhere is not so here.
        level: number(level)?.clamp(2.0, LEVEL_MAX) as u8,
        text: shown(text.as_str()?),
    })
}

/// A terminal must not obey what others wrote.
fn shown(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && !matches!(c, '\t' | '\n') { char::REPLACEMENT_CHARACTER } else { c }
    };
    text.chars().map(shown).collect()
}

impl fmt::Display for CaughtLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, age, title, text, .. } = self;
        if age.abs() < 0.001 {
            write!(f, "[{node}] {title}: {text}")
        } else {
            write!(f, "[{node}{age:+.3}s] {title}: {text}")
        }
    }
}

/// Writes a record to the own log.
fn log(record: &CaughtLog) {
    match record.level {
        0..=4 => tracing::error!(target: CAUGHT, "{record}"),
        5 => tracing::warn!(target: CAUGHT, "{record}"),
        6 | 7 => tracing::info!(target: CAUGHT, "{record}"),
        8 => tracing::debug!(target: CAUGHT, "{record}"),
        _ => tracing::trace!(target: CAUGHT, "{record}"),
    }
}

impl fmt::Debug for LogCatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogCatcher").field("level", &self.catcher.level).finish_non_exhaustive()
    }
}
