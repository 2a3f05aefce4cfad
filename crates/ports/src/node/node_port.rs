//! The node's own port: what other nodes ask of this one.

use std::borrow::Cow;
use std::rc::Rc;

use super::context::Context;
use super::monitor::Action;
use super::name;
use super::registry::FunctionError;
use super::{Node, loggable};
use crate::mesh::Link;
use crate::wire::EncodeError;
use crate::{List, NodeId, PortId, Reason, Value};

/// Why a message to the node was not obeyed: it is logged, and nothing goes back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeMessageError {
    #[error("{tag}: expected {expected}")]
    Shape { tag: String, expected: &'static str },
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error("no more than {NODES_KNOWN_MAX} nodes are made acquaintance with for others")]
    ManyNodes,
    #[error("remote execution not allowed")]
    Secure,
    #[error("{0}")]
    Failed(Reason),
    #[error(transparent)]
    Database(#[from] crate::database::Fault),
    #[error("{tag}: what is to be sent on cannot be: {error}")]
    Unsendable { tag: String, error: EncodeError },
    #[error("more than {MONITORS_MAX} monitors on ports here")]
    ManyMonitors,
}

/// The most monitors that one node may have on this one's ports.
const MONITORS_MAX: usize = 4_000_000;

/// With so many nodes known, nothing is sent on to further ones.
const NODES_KNOWN_MAX: usize = 1024;

/// What may wait for a node that is not connected with, once something was sent on to it: with more, the
/// attempt has failed.
const UNCONNECTED_BYTES_MAX: usize = 256 << 10;

/// What is built in, besides the database's.
const BUILT_IN: [&str; 12] = [
    "",
    "AnyEvent::MP::_spawn",
    "can",
    "devnull",
    "eval",
    "kil",
    "kil0",
    "kil1",
    "mon0",
    "mon1",
    "snd",
    "time",
];

/// Those that send their arguments on.
const RELAYING: [&str; 4] = ["can", "eval", "snd", "time"];

impl Node {
    /// Obeys a message to this node's own port. An error is one after which nothing that comes from there
    /// can be trusted; others are logged.
    pub(crate) fn handle_node_message(
        &self,
        from: &NodeId,
        list: List,
    ) -> Result<(), NodeMessageError> {
        match self.obey(from, list) {
            Err(error @ (NodeMessageError::Database(_) | NodeMessageError::ManyMonitors)) => {
                Err(error)
            }
            Err(error) => {
                let error = loggable(&error.to_string());
                tracing::warn!("error processing node message from {from}: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The same when what is under way has been handled; nobody is left then to be told of an error.
    pub(super) fn obey_soon(&self, from: &NodeId, list: List) {
        let from = from.clone();
        // It counts as other messages do that wait here, so that no peer brings more than is handled.
        self.shared.run_queue.count_sent();
        self.soon(move |node| {
            node.shared.run_queue.count_handled(1);
            if let Err(error) = node.handle_node_message(&from, list) {
                let error = loggable(&error.to_string());
                tracing::warn!("error processing node message from {from}: {error}");
            }
        });
    }

    fn obey(&self, from: &NodeId, list: List) -> Result<(), NodeMessageError> {
        let mut args = list.into_iter();
        let Some(tag) = args.next() else { return Ok(()) };
        let tag = match &tag {
            Value::Null => "",
            tag => {
                tag.as_str().ok_or_else(|| shape("node message", "a text as its first value"))?
            }
        };
        let args: List = args.collect();
        match tag {
            "" | "devnull" => {}
            "mon1" => self.monitor_for(from, &text(tag, &args, 0)?)?,
            "mon0" => self.unmonitor_for(from, &text(tag, &args, 0)?),
            "kil0" => {
                let name = text(tag, &args, 0)?;
                let reason = Reason::of(args[1..].to_vec());
                self.peer_unless_self(from, |peer| peer.handle_death(self, &name, &reason));
            }
            // 1.x says `kil` for what 2.x calls `kil1`.
            "kil" | "kil1" => {
                let name = text(tag, &args, 0)?;
                if name.is_empty() {
                    return Err(shape(tag, "the name of a port, not the node's own"));
                }
                if let Some(port) = self.local_port(&name) {
                    port.push_kill(Reason::of(args[1..].to_vec()));
                }
            }
            "snd" => self.relay(from, tag, args, &[])?,
            "time" => {
                let seconds = self.seconds_since_1970();
                self.relay(from, tag, args, &[seconds.into()])?;
            }
            "can" => {
                let asked = text(tag, &args, 0)?;
                let can = BUILT_IN.contains(&&*asked)
                    || crate::database::TAGS.contains(&&*asked)
                    || self.functions().iter().any(|name| *name == asked);
                let answer = Value::from(if can { "1" } else { "" });
                self.relay(from, tag, args[1..].to_vec(), &[answer])?;
            }
            "AnyEvent::MP::_spawn" => self.spawn_for(from, args)?,
            "eval" => self.evaluate_for(from, args)?,
            tag if crate::database::TAGS.contains(&tag) => {
                self.with_database(|database| database.handle_message(from, tag, args))?;
            }
            name => {
                self.check_remote_execution(from)?;
                let function = self.function(name)?;
                let context = Context::of_name(self, self.id().port(), Some(from));
                context.call_function(&function, args).map_err(NodeMessageError::Failed)?;
            }
        }
        Ok(())
    }

    /// Sends on `[PORT, message…]`, with `more` behind it.
    fn relay(
        &self,
        from: &NodeId,
        tag: &str,
        mut args: List,
        more: &[Value],
    ) -> Result<(), NodeMessageError> {
        let port = args.first().and_then(Value::as_port);
        let Some(port) = port else { return Err(shape(tag, "a port ID, then a message")) };
        args.remove(0);
        args.extend_from_slice(more);
        if !self.is_local(&port) {
            let node = port.node();
            let is_known = self.shared.mesh.known(&node).is_some();
            if !is_known && self.known_nodes_count() >= NODES_KNOWN_MAX {
                return Err(NodeMessageError::ManyNodes);
            }
            let peer = self.peer(&node);
            let sent = peer.try_send(self, port.name(), &args);
            peer.bound_unconnected(self, UNCONNECTED_BYTES_MAX);
            return sent.map_err(|error| NodeMessageError::Unsendable { tag: tag.into(), error });
        }
        if port.is_node() {
            // Nor from there again: a long message could go round a million times.
            if args.first().and_then(Value::as_str).is_some_and(|tag| RELAYING.contains(&tag)) {
                return Err(shape(tag, "what is sent on to a node not to be sent on again"));
            }
            // It is still that node which wants it: we must not do for others what they may not.
            self.obey_soon(from, args);
        } else {
            self.send(&port, args);
        }
        Ok(())
    }

    fn spawn_for(&self, from: &NodeId, args: List) -> Result<(), NodeMessageError> {
        let tag = "AnyEvent::MP::_spawn";
        let name = text(tag, &args, 0)?;
        let function = text(tag, &args, 1)?;
        if name.is_empty() || name.len() > crate::id::PORT_NAME_MAX {
            return Err(shape(tag, "a name for the new port"));
        }
        self.check_remote_execution(from)?;
        // We say such names to others when we spawn there, so that they could guess the next.
        if from != self.id() && name.starts_with(&self.shared.spawn_unique) {
            return Err(shape(tag, "a name that this node does not make itself"));
        }
        let port = PortId::of(self.id(), &name);
        let result = self.spawn_here(&port, &function, args[2..].to_vec(), Some(from));
        self.end_spawned(&port, result);
        Ok(())
    }

    /// Calls what is to make the port. If it makes none, there is none.
    pub(super) fn spawn_here(
        &self,
        port: &PortId,
        function: &str,
        args: List,
        from: Option<&NodeId>,
    ) -> Result<(), Reason> {
        // Nobody may take over a port, nor the name of one that is to be or was.
        if name::slot_of(&self.shared.unique, port.name()).is_some() || self.has_port(port) {
            tracing::warn!("spawn: {port} is not a name for a new port");
            return Ok(());
        }
        let found = match self.function(function) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("spawn: {error}");
                return Ok(());
            }
        };
        Context::of_name(self, port.clone(), from).call_function(&found, args)
    }

    /// Ends a port if what was to make it has failed.
    pub(super) fn end_spawned(&self, port: &PortId, result: Result<(), Reason>) {
        if let Err(reason) = result {
            match self.local_port(port.name()) {
                Some(made) => self.end_port(&*made, &reason),
                None => tracing::error!(
                    "unmonitored local port {} died with reason: {reason}",
                    port.name()
                ),
            }
        }
    }

    fn check_remote_execution(&self, from: &NodeId) -> Result<(), NodeMessageError> {
        if from == self.id() {
            return Ok(());
        }
        let link = self.shared.mesh.known(from).and_then(|peer| peer.link());
        let is_trusted = link.is_some_and(|link| !link.is_untrusted);
        if is_trusted && !self.shared.mesh.limits.is_secure {
            return Ok(());
        }
        Err(NodeMessageError::Secure)
    }

    fn evaluate_for(&self, from: &NodeId, args: List) -> Result<(), NodeMessageError> {
        self.check_remote_execution(from)?;
        let command = text("eval", &args, 0)?;
        let mut answer: List = Vec::new();
        match self.evaluate(&command, from) {
            Ok(values) => {
                answer.push("".into());
                answer.extend(values);
            }
            Err(error) => answer.push(error.into()),
        }
        if args.len() > 1 {
            self.relay(from, "eval", args[1..].to_vec(), &answer)?;
        }
        Ok(())
    }

    fn monitor_for(&self, from: &NodeId, name: &str) -> Result<(), NodeMessageError> {
        if name.len() > crate::id::PORT_NAME_MAX {
            return Err(shape("mon1", "the name of a port, which is short"));
        }
        let Some(port) = self.local_port(name) else {
            // The node itself is always there.
            if !name.is_empty() {
                let reason = Reason::no_such_port(&PortId::of(self.id(), name));
                self.peer_unless_self(from, |peer| peer.send_death(self, name, &reason));
            }
            return Ok(());
        };
        let mut is_too_many = false;
        self.link_unless_self(from, |link| {
            is_too_many = link.monitors.get() >= MONITORS_MAX;
            if !is_too_many {
                let (number, action) = (self.next_number(), Action::Tell(Rc::downgrade(link)));
                link.add_monitor(port.head().place(), number);
                port.head().with_extras(|extras| extras.watchers.add(number, action));
            }
        });
        if is_too_many { Err(NodeMessageError::ManyMonitors) } else { Ok(()) }
    }

    fn unmonitor_for(&self, from: &NodeId, name: &str) {
        let Some(port) = self.local_port(name) else { return };
        self.link_unless_self(from, |link| {
            if let Some(number) = link.take_monitor(port.head().place()) {
                drop(port.head().with_extras(|extras| extras.watchers.remove(number)));
            }
        });
    }

    fn peer_unless_self(&self, from: &NodeId, act: impl FnOnce(&Rc<crate::mesh::Peer>)) {
        if from != self.id() {
            act(&self.peer(from));
        }
    }

    fn link_unless_self(&self, from: &NodeId, act: impl FnOnce(&Rc<Link>)) {
        self.peer_unless_self(from, |peer| {
            if let Some(link) = peer.link() {
                act(&link);
            }
        });
    }
}

fn shape(tag: &str, expected: &'static str) -> NodeMessageError {
    NodeMessageError::Shape { tag: tag.chars().take(100).collect(), expected }
}

/// The text at an index of a node message's arguments. Perl may write one that looks like a number as a
/// number.
fn text<'a>(tag: &str, args: &'a [Value], index: usize) -> Result<Cow<'a, str>, NodeMessageError> {
    match args.get(index) {
        Some(Value::Null) => Ok("".into()),
        Some(Value::Integer(number)) => Ok(number.to_string().into()),
        Some(value) => value.as_str().map(Cow::from).ok_or_else(|| shape(tag, "a text")),
        None => Err(shape(tag, "more arguments")),
    }
}
