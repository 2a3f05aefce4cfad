//! Data connections: streams of bytes of their own between two nodes, for what is too much for messages.
//!
//! Who wants one has the other node expect it, by a name. When that node has surely heard so, it is dialled
//! as for messages, with the same proofs and TLS, but for another protocol, `aemp-dataconn`; what follows
//! the handshake belongs to the two users. A node that does not listen dials back.
//!
//! `pending` is one that is not there yet.

mod pending;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use reactor::task::AsyncStream;
use reactor::{Handler, HandlerError, Reactor, Reason as Ended, Token};

use self::pending::Pending;
use crate::node::context::{Context, arguments};
use crate::{List, Message, Node, NodeId, Outcome, PortId, Reason, Value, wire};

/// Why there is no data connection. A port that wanted one ends with it as its reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DataConnError(String);

impl From<DataConnError> for Value {
    fn from(error: DataConnError) -> Self {
        error.0.into()
    }
}

/// What takes a data connection: its arguments, and the stream.
type Function = Rc<dyn Fn(&Context<'_>, List, AsyncStream) -> Result<(), Reason>>;

/// What is called with a data connection, or with why there is none.
type Done = Box<dyn FnOnce(&Node, Result<AsyncStream, DataConnError>)>;

/// All data connections of a node that are not there yet, and the functions that take them.
#[derive(Default)]
pub(crate) struct DataConns {
    functions: RefCell<BTreeMap<String, Function>>,
    pending: RefCell<BTreeMap<String, Pending>>,
}

impl DataConns {
    /// All that programs gave it.
    pub(crate) fn take(&self) -> impl Sized + use<> {
        (self.functions.take(), self.pending.take())
    }
}

/// The most data connections of a node that are not there yet.
const PENDING_MAX: usize = 1000;

/// The longest time that another node can have us wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The longest name of a data connection, in bytes.
const ID_LEN_MAX: usize = 512;

const EXPECT: &str = "AnyEvent::MP::DataConn::_expect";
const CONNECT: &str = "AnyEvent::MP::DataConn::_connect";
const DATA_CONN: &str = "AnyEvent::MP::DataConn";

impl Node {
    /// Makes a function known that takes data connections, by a name, `module::function`.
    pub fn register_data<T: Message, O: Outcome>(
        &self,
        name: &str,
        function: impl Fn(&Context<'_>, T, AsyncStream) -> O + 'static,
    ) {
        let function: Function = Rc::new(move |context, args, stream| {
            function(context, arguments(args)?, stream).into_result()
        });
        let before =
            self.shared.data_conns.functions.borrow_mut().insert(name.to_owned(), function);
        drop(before);
    }

    /// Opens a data connection with the node of `place`, where a function that was
    /// [registered](Self::register_data) gets `args` and the other end. One of the two nodes has to listen;
    /// with this node it is a pipe. Dropped before, nothing comes of it.
    ///
    /// # Errors
    /// If there is none after `timeout`, or it is known before that there will be none.
    ///
    /// # Panics
    /// As [`send`](Self::send), for the arguments.
    pub fn data_connection<T: Message>(
        &self,
        place: impl Into<PortId>,
        timeout: Duration,
        function: &str,
        args: T,
    ) -> impl Future<Output = Result<AsyncStream, DataConnError>> + 'static {
        // The other node says by its end that nothing will come of it, and whoever waits no more does.
        let port = Asking { node: self.clone(), port: self.bare_port() };
        let slot = Rc::new(RefCell::new(Slot::default()));
        let teller = Rc::clone(&slot);
        self.connect_data(&port.port, &place.into(), timeout, function, args, move |_, result| {
            teller.borrow_mut().result = Some(result);
            let waker = teller.borrow_mut().waker.take();
            waker.into_iter().for_each(Waker::wake);
        });
        async move {
            let _port = port;
            poll_fn(|context| {
                let slot = &mut *slot.borrow_mut();
                if let Some(result) = slot.result.take() {
                    return Poll::Ready(result);
                }
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            })
            .await
        }
    }

    /// Calls once, unless `port` ends before.
    fn connect_data<T: Message>(
        &self,
        port: &PortId,
        place: &PortId,
        timeout: Duration,
        function: &str,
        args: T,
        done: impl FnOnce(&Self, Result<AsyncStream, DataConnError>) + 'static,
    ) {
        let args = wire::to_list(&args).expect("arguments are a list of values");
        let done: Done = Box::new(done);
        if self.is_local(place) {
            let function = function.to_owned();
            let connect = move |node: &Self, reactor: &mut Reactor<()>| {
                node.connect_data_here(&function, args, done, reactor);
            };
            return self.with_reactor(connect);
        }
        let node = place.node();
        let id = self.new_data_id();
        if !self.add_pending(&id, &node, port, timeout, done) {
            return;
        }
        let mut expect: List =
            vec![id.as_str().into(), port.into(), seconds(timeout), function.into()];
        expect.extend(args);
        self.send_to_function(&node, EXPECT, expect);
        self.await_expectation(&id, &node);
    }

    fn connect_data_here(&self, function: &str, args: List, done: Done, reactor: &mut Reactor<()>) {
        let Some(found) = self.data_function(function) else {
            return done(self, Err(unresolved(function)));
        };
        let (here, there) = reactor.pipe(Box::new(Nobody), Box::new(Nobody));
        let streams = (reactor.into_task(here), reactor.into_task(there));
        let (Ok(here), Ok(there)) = streams else { unreachable!("the pipe has just been made") };
        self.call_data_function(function, &found, args, there, None);
        done(self, Ok(here));
    }

    fn data_function(&self, name: &str) -> Option<Function> {
        let functions = &self.shared.data_conns.functions;
        let name = name.strip_prefix("::").unwrap_or(name);
        let find = || functions.borrow().get(name).cloned();
        // To look for a function is to load its module.
        find().or_else(|| {
            let _other = self.function(name);
            find()
        })
    }

    fn call_data_function(
        &self,
        name: &str,
        function: &Function,
        args: List,
        stream: AsyncStream,
        from: Option<&NodeId>,
    ) {
        let context = Context::of_name(self, self.id().port(), from);
        let call = std::panic::AssertUnwindSafe(|| function(&context, args, stream));
        let result = std::panic::catch_unwind(call)
            .unwrap_or_else(|panic| Err(Reason::die(crate::node::port::panic_text(&*panic))));
        if let Err(reason) = result {
            tracing::error!("{name}: {reason}");
        }
    }

    /// Makes known what other nodes call for data connections.
    pub(crate) fn register_data_conns(&self) {
        self.register_module(DATA_CONN, |node| {
            node.register(EXPECT, |context, mut args: List| {
                if args.len() < 4 {
                    let expected = "a name, a port, a time, a function and its arguments";
                    return Err(Reason::die(format!("expected {expected}")));
                }
                let rest = args.split_off(4);
                context.node().expect_data(context.from(), arguments(args)?, rest)
            });
            node.register(CONNECT, |context, (id, node): (String, NodeId)| {
                context.node().dial_back(context.from(), &id, &node);
            });
        });
    }

    /// Another node has us expect a data connection.
    fn expect_data(
        &self,
        from: Option<&NodeId>,
        (id, port, timeout, function): (String, PortId, Value, String),
        args: List,
    ) -> Result<(), Reason> {
        let Some(from) = from.cloned() else {
            return Err(Reason::die("only another node opens a data connection"));
        };
        if id.len() > ID_LEN_MAX || port.is_node() {
            return Err(Reason::die("no name for a data connection, or no port that wants it"));
        }
        // One of our own could not begin then.
        if id.strip_suffix(self.id().as_str()).is_some_and(|rest| rest.ends_with('@')) {
            return Err(Reason::die("only this node makes such names for data connections"));
        }
        let Some(found) = self.data_function(&function) else {
            self.kill(&port, reason_of(unresolved(&function)));
            return Ok(());
        };
        // Perl may send a number as a text.
        let seconds = timeout.as_f64().or_else(|| timeout.as_str()?.parse().ok());
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let timeout = timeout.map_or(TIMEOUT_MAX, |timeout| timeout.min(TIMEOUT_MAX));
        let caller = port.clone();
        let node = from.clone();
        let done = move |here: &Self, result| match result {
            Ok(stream) => here.call_data_function(&function, &found, args, stream, Some(&node)),
            Err(error) => here.kill(&caller, reason_of(error)),
        };
        self.add_pending(&id, &from, &port, timeout, Box::new(done));
        Ok(())
    }
}

impl Context<'_> {
    /// Opens a data connection as [`Node::data_connection`] does, and calls with it in this port's context,
    /// if the port is still there. If there is none, the port ends with the reason
    /// `AnyEvent::MP::DataConn` and a text.
    ///
    /// # Panics
    /// As [`Node::send`], for the arguments.
    pub fn data_connection<T: Message, O: Outcome>(
        &self,
        place: impl Into<PortId>,
        timeout: Duration,
        function: &str,
        args: T,
        then: impl FnOnce(&Context<'_>, AsyncStream) -> O + 'static,
    ) {
        let port = self.this();
        let own = port.clone();
        let done = move |node: &Node, result| match result {
            Ok(stream) => node.run_in(&own, |context| then(context, stream)),
            Err(error) => node.kill(&own, reason_of(error)),
        };
        self.node().connect_data(&port, &place.into(), timeout, function, args, done);
    }
}

fn reason_of(error: DataConnError) -> Reason {
    Reason::new(DATA_CONN, error)
}

fn unresolved(function: &str) -> DataConnError {
    let name: String = function.chars().take(100).collect();
    DataConnError(format!("unable to resolve function '{name}'"))
}

/// A whole number, if it is one: Perl's nodes do not care, but people do who read along.
fn seconds(time: Duration) -> Value {
    if time.subsec_nanos() == 0 { time.as_secs().into() } else { time.as_secs_f64().into() }
}

/// The port of somebody who waits for a data connection.
struct Asking {
    node: Node,
    port: PortId,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.node.kill(&self.port, Reason::NORMAL);
    }
}

#[derive(Default)]
struct Slot {
    result: Option<Result<AsyncStream, DataConnError>>,
    waker: Option<Waker>,
}

/// The handler of a connection that is about to be a task's.
struct Nobody;

impl Handler<()> for Nobody {
    fn readable(&mut self, _: Token, (): &mut (), _: &mut Reactor<()>) -> Result<(), HandlerError> {
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Ended, (): &mut (), _: &mut Reactor<()>) {}
}

impl fmt::Debug for DataConns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataConns")
            .field("pending", &self.pending.borrow().len())
            .finish_non_exhaustive()
    }
}
