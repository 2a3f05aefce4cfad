//! Ports on other nodes, and functions there.

use super::Node;
use super::name::push_number;
use crate::{List, Message, PortId, Value, wire};

/// Why something could not be spawned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// A name without `::`.
    #[error("{0}: spawn init function must be a fully-qualified name, as module::function")]
    Unqualified(String),
}

impl Node {
    /// Makes a port on the node of `place` by calling a function there, which was
    /// [registered](Self::register) under that name, with `args`. The port's name is made here and is
    /// good at once: what is sent to it travels behind the call. Monitor it: if there is no such function,
    /// it fails or makes no port, the monitor says so.
    ///
    /// # Errors
    /// If the name is not that of a function of a module; `::name` is one of the program's own.
    ///
    /// # Panics
    /// As [`send`](Self::send), for the arguments.
    pub fn spawn<T: Message>(
        &self,
        place: impl Into<PortId>,
        function: &str,
        args: T,
    ) -> Result<PortId, SpawnError> {
        if !function.contains("::") {
            return Err(SpawnError::Unqualified(function.to_owned()));
        }
        let place = place.into();
        let mut name = self.shared.spawn_unique.clone();
        push_number(&mut name, self.next_number());
        let port = PortId::of(&place.node(), &name);
        let args = wire::to_list(&args).expect("arguments are a list of values");
        if self.is_local(&place) {
            self.shared.spawning.borrow_mut().insert(name, Vec::new());
            let (port, function) = (port.clone(), function.to_owned());
            self.soon(move |node| {
                let result = node.spawn_here(&port, &function, args, None);
                let waiting = node.shared.spawning.borrow_mut().remove(port.name());
                waiting.into_iter().flatten().for_each(|call| node.run_call(call));
                node.end_spawned(&port, result);
            });
        } else {
            let mut list: List =
                vec!["AnyEvent::MP::_spawn".into(), name.as_str().into(), function.into()];
            list.extend(args);
            self.peer(&place.node()).send(self, "", &list);
        }
        Ok(port)
    }

    /// Whether a port is to be spawned here soon.
    pub(super) fn is_spawning(&self, port: &PortId) -> bool {
        self.shared.spawning.borrow().contains_key(port.name())
    }

    /// Calls when a port was spawned here, or was not after all, before anything else reaches it.
    pub(super) fn when_spawned(&self, port: &PortId, call: impl FnOnce(&Self) + 'static) {
        let mut spawning = self.shared.spawning.borrow_mut();
        spawning.entry(port.name().to_owned()).or_default().push(Box::new(call));
    }

    /// Calls a function on the node of `place`. Nothing comes back.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_to_function<T: Message>(&self, place: impl Into<PortId>, function: &str, args: T) {
        let mut list: List = vec![function.into()];
        list.extend(wire::to_list(&args).expect("arguments are a list of values"));
        self.send(&place.into().node().port(), list);
    }

    /// Has the node of `place` send a message: behind all that was sent there before.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_on<M: Message>(&self, place: impl Into<PortId>, to: &PortId, message: M) {
        let mut list: List = vec!["snd".into(), to.into()];
        list.extend(wire::to_list(&message).expect("a message is a list of values"));
        self.send(&place.into().node().port(), list);
    }

    /// Has a node do a command of its [set](Self::register_command), and send `reply`, then an error's
    /// text, which is empty if there was none, then what came of it.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn eval_on(&self, place: impl Into<PortId>, command: &str, reply: Option<(&PortId, List)>) {
        let mut list: List = vec!["eval".into(), command.into()];
        if let Some((port, message)) = reply {
            list.push(Value::from(port));
            list.extend(message);
        }
        self.send(&place.into().node().port(), list);
    }
}
