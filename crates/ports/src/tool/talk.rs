//! What is asked of other nodes: the tool becomes a node for as long as that takes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use reactor::Reactor;
use reactor::task::Handle;

use super::arguments::Arguments;
use super::command::Talk as Asked;
use super::{Failure, STATUS_FAILED, Tool, log, output, shell, top, trace};
use crate::config::{Config, Endpoint, Facts, Host, Settings};
use crate::node::context::Context;
use crate::{CallError, List, Node, NodeId, PortId, Reason, StartError, Value, wire};

/// Which profile the tool is, and what it is called unless that says otherwise.
const PROFILE: &str = "aemp";
const NODE_ID: &str = "aemp/%n/%u";

/// Where the tool looks for a node if it was not told.
const SEED: Endpoint =
    Endpoint { host: Host::Ip(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 4040 };

/// What `restart` has a node call, as Perl's nodes know it.
pub(super) const RESTART: &str = "AnyEvent::Watchdog::Util::restart";

/// How long an answer may take.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// The tool as a node.
pub(super) struct Talk {
    pub(super) node: Node,
    pub(super) handle: Handle<()>,
    seeds: String,
    timeout: Option<Duration>,
    pub(super) is_json: bool,
}

impl Tool {
    pub(super) fn talk(&mut self, asked: Asked, arguments: &mut Arguments) -> Result<u8, Failure> {
        match asked {
            Asked::Send => {
                let (port, message) = (arguments.port()?, arguments.message()?);
                self.on_node(async move |talk| talk.send(&port, message).await)
            }
            Asked::Call => {
                let (port, message) = (arguments.port()?, arguments.message()?);
                self.on_node(async move |talk| talk.call(&port, message).await)
            }
            Asked::Monitor => {
                let port = arguments.port()?;
                self.on_node(async move |talk| talk.monitor(&port).await)
            }
            Asked::Eval => {
                let (node, command) = (arguments.node()?, arguments.line()?);
                self.on_node(async move |talk| {
                    let values = talk.eval(&node, &command, PATIENCE).await?;
                    talk.print(&values);
                    Ok(0)
                })
            }
            Asked::Restart => {
                let node = arguments.node()?;
                self.on_node(async move |talk| talk.restart(&node).await)
            }
            Asked::Trace => {
                let node = arguments.node()?;
                self.on_node(async move |talk| trace::trace(&talk, node).await)
            }
            Asked::Shell => {
                let node = if arguments.is_empty() { None } else { Some(arguments.node()?) };
                self.on_node(async move |talk| shell::shell(&talk, node).await)
            }
            Asked::Top => {
                let options = top::Options::read(arguments, self.is_json)?;
                self.on_node(async move |talk| top::top(&talk, options).await)
            }
        }
    }

    /// Becomes a node, and acts as one.
    fn on_node(
        &mut self,
        act: impl AsyncFnOnce(Talk) -> Result<u8, Failure> + 'static,
    ) -> Result<u8, Failure> {
        log::begin("error");
        let mut settings = self.talk_settings()?;
        let mut reactor = Reactor::new()?;
        let node = match Node::start(&mut reactor, &settings) {
            // The file means another node, which is there already.
            Err(StartError::Bind { address, error }) => {
                tracing::debug!("cannot listen on {address}: {error}; listening nowhere");
                settings.binds.clear();
                Node::start(&mut reactor, &settings)?
            }
            started => started?,
        };
        let seeds: Vec<String> = settings.seeds.iter().map(ToString::to_string).collect();
        let talk = Talk {
            node,
            handle: reactor.handle(),
            seeds: seeds.join(", "),
            timeout: self.timeout,
            is_json: self.is_json,
        };
        reactor.block_on(&mut (), async move { act(talk).await })?
    }

    fn talk_settings(&mut self) -> Result<Settings, Failure> {
        let file = self.file()?;
        let mut config = Config::new().profile(PROFILE);
        if file.value(Some(PROFILE), "nodeid").is_none() {
            // What stands in the global part is for other nodes: there cannot be two of that name.
            config = config.node_id(NODE_ID).force();
        }
        let mut settings = config.resolve(file, &Facts::of_machine()?)?;
        if settings.seeds.is_empty() {
            settings.seeds.push(SEED);
        }
        Ok(settings)
    }
}

impl Talk {
    /// How long something may take that by itself is given so long.
    pub(super) fn patience(&self, usual: Option<Duration>) -> Option<Duration> {
        match self.timeout {
            None => usual,
            Some(time) => (!time.is_zero()).then_some(time),
        }
    }

    /// Waits until a node is connected with.
    pub(super) async fn reach(&self, id: &NodeId, usual: Option<Duration>) -> Result<(), Failure> {
        let until = self.patience(usual).and_then(|time| self.handle.now().checked_add(time));
        loop {
            let lost = Slot::new();
            let tell = lost.clone();
            // It wants the connection, and tells why there is none.
            let _monitor = self.node.monitor(id, move |_, reason| tell.put(reason));
            let reason = loop {
                if self.node.node_is_up(id) == Some(true) {
                    return Ok(());
                }
                if until.is_some_and(|until| self.handle.now() >= until) {
                    return Err(self.unreachable(id, None));
                }
                if let Ok(reason) = self.handle.timeout(LOOK_EVERY, lost.wait()).await {
                    break reason;
                }
            };
            let why = reason.values().last().and_then(Value::as_str).unwrap_or_default();
            if why == "no known address" && !self.node.up_nodes().is_empty() {
                return Err(self.unreachable(id, Some(why)));
            }
            self.handle.sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until any node is connected with, and says which.
    pub(super) async fn reach_any(&self) -> Result<NodeId, Failure> {
        let time = self.patience(PATIENCE);
        let until = time.and_then(|time| self.handle.now().checked_add(time));
        loop {
            if let Some(id) = self.node.up_nodes().into_iter().next() {
                return Ok(id);
            }
            if until.is_some_and(|until| self.handle.now() >= until) {
                return Err(Failure::failed(self.no_seed()));
            }
            self.handle.sleep(LOOK_EVERY).await;
        }
    }

    fn unreachable(&self, id: &NodeId, why: Option<&str>) -> Failure {
        let nodes: Vec<String> = self.node.up_nodes().iter().map(ToString::to_string).collect();
        if nodes.is_empty() {
            return Failure::failed(format!("cannot reach {id}: {}", self.no_seed()));
        }
        let why = why.unwrap_or("it does not answer");
        Failure::failed(format!(
            "cannot reach {id}: {why} (connected with {}); is it spelt right, and does it run?",
            nodes.join(", ")
        ))
    }

    fn no_seed(&self) -> String {
        format!(
            "no node answers at {}\n\
             Start one there ('aemp run binds 127.0.0.1:4040'), or say where one is ('aemp seeds HOST:PORT').\n\
             Its secret must be the same; 'aemp showconfig aemp' shows ours.",
            self.seeds
        )
    }

    async fn send(&self, port: &PortId, message: List) -> Result<u8, Failure> {
        self.reach(&port.node(), PATIENCE).await?;
        let outcome: Slot<Result<(), Reason>> = Slot::new();
        let tell = outcome.clone();
        let _monitor = self.node.monitor(port, move |_, reason| {
            let is_fine = reason.is_normal();
            tell.put(if is_fine { Ok(()) } else { Err(reason) });
        });
        self.node.send(port, message);
        // It comes back behind whatever becomes of the message.
        let back = self.node.request::<List, List>(
            port.node().port(),
            |reply| vec!["snd".into(), (&reply).into()],
            self.patience(PATIENCE),
        );
        let arrived = back.await;
        match self.handle.timeout(Duration::ZERO, outcome.wait()).await {
            Ok(Err(reason)) => Err(Failure::failed(format!("{port}: {reason}"))),
            Ok(Ok(())) | Err(_) => {
                arrived.map_err(|error| self.no_answer(&port.node(), &error))?;
                output::line("message sent successfully");
                Ok(0)
            }
        }
    }

    async fn call(&self, port: &PortId, mut message: List) -> Result<u8, Failure> {
        self.reach(&port.node(), PATIENCE).await?;
        let ask = |reply: PortId| {
            message.push((&reply).into());
            message
        };
        let answer = self.node.request::<List, List>(port, ask, self.patience(PATIENCE)).await;
        match answer {
            Ok(values) => {
                self.print(&values);
                Ok(0)
            }
            Err(CallError::Ended(reason)) => Err(Failure::failed(format!("{port}: {reason}"))),
            Err(error @ CallError::TimedOut) => Err(Failure::failed(format!("{port}: {error}"))),
        }
    }

    async fn monitor(&self, port: &PortId) -> Result<u8, Failure> {
        self.reach(&port.node(), PATIENCE).await?;
        let ended = Slot::new();
        let tell = ended.clone();
        let _monitor = self.node.monitor(port, move |_, reason| tell.put(reason));
        let reason = ended.wait().await;
        self.print(reason.values());
        let has_ended = !matches!(reason.identifier(), Some("no_such_port" | "transport_error"));
        Ok(if has_ended { 0 } else { STATUS_FAILED })
    }

    async fn restart(&self, node: &NodeId) -> Result<u8, Failure> {
        let result = self.eval(node, RESTART, PATIENCE).await;
        result.map_err(|failure| match failure.text.contains("no such command") {
            true => Failure::failed(format!(
                "{node} was not started by 'aemp run', which could start it anew"
            )),
            false => failure,
        })?;
        output::line(&format!("{node} starts anew"));
        Ok(0)
    }

    /// Has a node do a command.
    pub(super) async fn eval(
        &self,
        node: &NodeId,
        command: &str,
        usual: Option<Duration>,
    ) -> Result<List, Failure> {
        self.reach(node, usual).await?;
        let ask = |reply: PortId| vec!["eval".into(), command.into(), (&reply).into()];
        let answer = self.node.request::<List, List>(node.port(), ask, self.patience(usual));
        let mut values = answer.await.map_err(|error| match error {
            CallError::TimedOut => Failure::failed(format!(
                "{node}: {error}; it does no commands at all if it is 'secure'"
            )),
            CallError::Ended(_) => self.no_answer(node, &error),
        })?;
        let error = if values.is_empty() { Value::Null } else { values.remove(0) };
        match error.as_str() {
            Some("") => Ok(values),
            None if error == Value::Null => Ok(values),
            Some(text) => Err(Failure::died(text.trim_end())),
            None => Err(Failure::died(error.to_string())),
        }
    }

    fn no_answer(&self, node: &NodeId, error: &CallError) -> Failure {
        match error {
            CallError::Ended(reason) => Failure::failed(format!("{node}: {reason}")),
            CallError::TimedOut => Failure::failed(format!("{node}: {error}")),
        }
    }

    /// Prints values as Perl's tool does: as JSON, with commas.
    fn print(&self, values: &[Value]) {
        let list = Value::List(values.to_vec()).to_string();
        output::line(if self.is_json { &list } else { &list[1..list.len() - 1] });
    }

    /// A port that calls with each message.
    pub(super) fn listener(&self, mut call: impl FnMut(&List) + 'static) -> PortId {
        self.node.port(move |_: &Context<'_>, message: List| call(&message)).id()
    }

    /// Waits until all that a node has sent so far is here.
    pub(super) async fn catch_up(&self, node: &NodeId) -> Result<(), Failure> {
        let ask = |reply: PortId| vec!["snd".into(), (&reply).into()];
        let back = self.node.request::<List, List>(node.port(), ask, self.patience(PATIENCE)).await;
        back.map(drop).map_err(|error| self.no_answer(node, &error))
    }
}

/// Values for people: each on lines of its own.
pub(super) fn pretty(values: &[Value]) -> String {
    values.iter().map(wire::to_json_pretty).collect::<Vec<_>>().join("\n")
}

/// What comes later. Who waits gets the latest.
pub(super) struct Slot<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new((None, None))))
    }

    pub(super) fn put(&self, value: T) {
        let mut slot = self.0.borrow_mut();
        slot.0 = Some(value);
        let waker = slot.1.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) async fn wait(&self) -> T {
        poll_fn(|context| {
            let mut slot = self.0.borrow_mut();
            if let Some(value) = slot.0.take() {
                return Poll::Ready(value);
            }
            slot.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// While a connection is awaited, it is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
