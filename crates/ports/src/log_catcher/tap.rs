//! Where a node gets the records of its own log from, for those who catch them.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;

use super::CAUGHT;
use crate::{Node, NodeHandle, PortId, Reason};

/// Takes records of this program's log to the nodes that catch them. A clone is the same one; any thread may
/// use it.
///
/// It is a layer of `tracing-subscriber`. Left out are records that were caught themselves, and what the
/// node and its loop say of their own work below the level info: to send such a record would make more of them.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let tap = ports::LogTap::new();
/// let subscriber = tracing_subscriber::registry().with(tap.clone());
/// // And when there is a node: node.offer_log(&tap);
/// # drop(subscriber);
/// ```
#[derive(Clone, Default)]
pub struct LogTap {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The least important level that anyone wants; 0 if nobody wants any.
    level: AtomicU8,
    sinks: Mutex<Arc<Vec<Arc<Sink>>>>,
}

/// Somebody who catches.
struct Sink {
    level: u8,
    node: NodeHandle,
    port: PortId,
    /// How many records are on their way to the node's thread.
    waiting: AtomicUsize,
}

thread_local! {
    /// This thread is passing a record on: what that makes others log is not.
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// The most who catch from one tap.
const SINKS_MAX: usize = 100;
/// The most records that wait for the node's thread; more are lost.
const WAITING_MAX: usize = 1000;
/// While more bytes than this wait to be sent to a node, it gets no records.
const UNSENT_MAX: usize = 1 << 20;
/// The most of a record's text that is sent, in bytes.
const TEXT_LEN_MAX: usize = 8 << 10;

impl LogTap {
    /// A tap from which nobody catches yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes a record on. For the level see [`CaughtLog`](super::CaughtLog).
    pub fn log(&self, level: u8, title: &str, text: &str) {
        if level > self.shared.level.load(Ordering::Relaxed) || IS_LOGGING.replace(true) {
            return;
        }
        let sinks = Arc::clone(&self.sinks());
        for sink in sinks.iter().filter(|sink| level <= sink.level) {
            Sink::log(sink, level, title, text);
        }
        IS_LOGGING.set(false);
    }

    /// Has a port get records until it ends.
    pub(super) fn attach(&self, node: &Node, port: &PortId, level: u8) -> Result<(), Reason> {
        let sink = Arc::new(Sink {
            level,
            node: node.handle(),
            port: port.clone(),
            waiting: AtomicUsize::new(0),
        });
        let is_full = self.change(|sinks| {
            let is_full = sinks.len() >= SINKS_MAX;
            if !is_full {
                sinks.push(Arc::clone(&sink));
            }
            is_full
        });
        if is_full {
            return Err(Reason::die("too many others catch this log already"));
        }
        let tap = self.clone();
        node.monitor(port, move |_, _| {
            tap.change(|sinks| sinks.retain(|other| !Arc::ptr_eq(other, &sink)));
        })
        .detach();
        Ok(())
    }

    fn change<T>(&self, act: impl FnOnce(&mut Vec<Arc<Sink>>) -> T) -> T {
        let mut sinks = self.sinks();
        let mut changed = Vec::clone(&sinks);
        let result = act(&mut changed);
        let level = changed.iter().map(|sink| sink.level).max().unwrap_or(0);
        self.shared.level.store(level, Ordering::Relaxed);
        let before = std::mem::replace(&mut *sinks, Arc::new(changed));
        drop(sinks);
        drop(before);
        result
    }

    fn sinks(&self) -> MutexGuard<'_, Arc<Vec<Arc<Sink>>>> {
        self.shared.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    fn log(sink: &Arc<Self>, level: u8, title: &str, text: &str) {
        if sink.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            sink.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let text = text[..text.floor_char_boundary(TEXT_LEN_MAX)].to_owned();
        let title = title[..title.floor_char_boundary(TEXT_LEN_MAX)].to_owned();
        let to = Arc::clone(sink);
        let posted = sink.node.post(move |node| {
            to.waiting.fetch_sub(1, Ordering::Relaxed);
            // Who reads slowly loses records, not the connection.
            let is_slow =
                !node.is_local(&to.port) && node.peer(&to.port.node()).waiting(node) > UNSENT_MAX;
            if !is_slow {
                node.send(&to.port, (node.seconds_since_1970(), title, level, text));
            }
        });
        if posted.is_err() {
            sink.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for LogTap {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let metadata = event.metadata();
        let level = number(*metadata.level());
        if level > self.shared.level.load(Ordering::Relaxed)
            || is_about_sending(metadata.target(), level)
        {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.log(level, metadata.target(), &(text.message + &text.fields));
    }
}

/// Whether it is one of the records that sending records makes.
fn is_about_sending(target: &str, level: u8) -> bool {
    let is_of = |name: &str| {
        target == name || target.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"))
    };
    target == CAUGHT
        || target == "ports::trace"
        || level > number(Level::INFO) && (is_of("ports") || is_of("reactor") || is_of("rustls"))
}

/// The number that AnyEvent has for a level.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 4,
        Level::WARN => 5,
        Level::INFO => 7,
        Level::DEBUG => 8,
        Level::TRACE => 9,
    }
}

/// What a record says: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        written.expect("a text takes what it is given");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }
}

impl fmt::Debug for LogTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogTap").field("sinks", &self.sinks().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sending_makes_is_not_sent() {
        for (target, level, is_left_out) in [
            ("ports::caught", 4, true),
            ("ports::trace", 7, true),
            ("ports::mesh::dial", 8, true),
            ("reactor", 9, true),
            ("ports::mesh::dial", 7, false),
            ("portsmouth", 9, false),
            ("chat", 9, false),
        ] {
            assert_eq!(is_about_sending(target, level), is_left_out, "{target} {level}");
        }
    }
}
