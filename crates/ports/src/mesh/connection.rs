//! A socket between two nodes: first the handshake, then frames.

use std::rc::{Rc, Weak};
use std::{fmt, io};

use reactor::{Address, Handler, HandlerError, Reactor, Read, Reason as Ended, Token};

use super::peer::Counts;
use super::{Link, Peer};
use crate::handshake::{Established, Greeting, Handshake, HandshakeError, Output, Protocol};
use crate::node::Shared;
use crate::wire::{Frame, Framing, Splitter};
use crate::{Node, NodeId};

/// What the reactor calls for a connection between two nodes.
pub(super) struct Connection {
    node: Weak<Shared>,
    pub(super) origin: Origin,
    phase: Phase,
    /// Our proof, where it is for us to [decide](Node::decides) whether this connection stays: it goes
    /// out when the other has proved itself.
    withheld: Option<Vec<u8>>,
    /// Begins with the beginning of a frame whose end is still to come.
    partial: Vec<u8>,
    /// How much of `partial` that is.
    partial_len: usize,
}

/// How a connection came to be.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// It came to us, from there.
    Accepted(Address),
    /// We dialled a node.
    Node(NodeId),
    /// We dialled a seed.
    Seed(usize),
    /// We dialled for the data connection of this name.
    Data(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(address) => write!(f, "from {address}"),
            Self::Node(id) => write!(f, "to {id}"),
            Self::Seed(index) => write!(f, "to seed {index}"),
            Self::Data(id) => write!(f, "for data connection {id:?}"),
        }
    }
}

enum Phase {
    Handshake(Box<Handshake>),
    Up(Up),
    /// A data connection of this name, with that node.
    Data(String, NodeId),
    Over,
}

struct Up {
    peer: Rc<Peer>,
    link: Rc<Link>,
    framing: Framing,
    splitter: Splitter,
}

/// What the handshake wanted done.
#[derive(PartialEq, Eq)]
enum Drained {
    All,
    /// And bytes go through TLS from now on, which has what has come already.
    TlsHasBegun,
}

/// How much is read at once, at least.
const READ_BYTES: usize = 64 << 10;

/// The beginning of a frame that is longer than this has a buffer of its own to grow in.
const PARTIAL_COPIED_MAX: usize = 64 << 10;

impl Connection {
    pub(super) fn new(node: &Node, origin: Origin, handshake: Handshake) -> Self {
        Self {
            node: Rc::downgrade(&node.shared),
            origin,
            phase: Phase::Handshake(Box::new(handshake)),
            withheld: None,
            partial: Vec::new(),
            partial_len: 0,
        }
    }

    /// The first words: they go out as soon as the connection stands.
    pub(super) fn greeting(&mut self) -> Vec<u8> {
        match &mut self.phase {
            Phase::Handshake(handshake) => match handshake.poll_output() {
                Some(Output::Send(bytes)) => bytes,
                _ => unreachable!("a handshake begins with a greeting"),
            },
            Phase::Up(_) | Phase::Data(..) | Phase::Over => Vec::new(),
        }
    }

    /// Does what the handshake wants done. `rest` has come behind what it has taken.
    fn drain(
        &mut self,
        node: &Node,
        token: Token,
        rest: &[u8],
        reactor: &mut Reactor<()>,
    ) -> Result<Drained, HandlerError> {
        let mut drained = Drained::All;
        loop {
            let Phase::Handshake(handshake) = &mut self.phase else { return Ok(drained) };
            let Some(output) = handshake.poll_output() else { return Ok(drained) };
            match output {
                Output::Send(bytes) => match &mut self.withheld {
                    Some(proof) => *proof = bytes,
                    // At once: what is still queued when TLS begins would go through it.
                    None => drop(reactor.write_now(token, &bytes)?),
                },
                Output::Peer(greeting) => self.greeted(node, &greeting)?,
                Output::StartTls(role) => {
                    let tls = node.shared.mesh.tls.as_ref();
                    let tls = tls.expect("TLS begins only if we have a certificate");
                    let tls = tls.transport(role)?.with_received(rest.to_vec());
                    reactor.set_transport(token, Box::new(tls));
                    drained = Drained::TlsHasBegun;
                }
                Output::Done(established) => {
                    self.established(node, token, &established, reactor)?;
                }
            }
        }
    }

    /// The other has said who it is.
    fn greeted(&mut self, node: &Node, greeting: &Greeting) -> Result<(), HandlerError> {
        if let Some(id) = self.data_id(greeting) {
            if !node.expects_data(id, &greeting.node) {
                return Err(format!("no data connection {id:?} is expected").into());
            }
        } else {
            self.check_double(node, &greeting.node)?;
            self.withheld = node.decides(greeting).then(Vec::new);
        }
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.accept();
        }
        Ok(())
    }

    /// The name of the data connection that this is to be, if it is to be one.
    fn data_id<'a>(&'a self, greeting: &'a Greeting) -> Option<&'a str> {
        match (&greeting.protocol, &self.origin) {
            (Protocol::DataConn { id }, _) | (Protocol::Aemp, Origin::Data(id)) => Some(id),
            (Protocol::Aemp, _) => None,
        }
    }

    /// Refuses to be a second connection with a node. If it is a seed, we know now who that is.
    fn check_double(&self, node: &Node, id: &NodeId) -> Result<(), HandshakeError> {
        node.check_double(id).inspect_err(|_| self.note_seed(node, id))
    }

    /// Who is at a seed's address has proved to be this node.
    fn note_seed(&self, node: &Node, id: &NodeId) {
        if let Origin::Seed(index) = self.origin {
            node.seed_has_greeted(index, id);
        }
    }

    /// The other has proved who it is. If we agree, messages may go.
    fn established(
        &mut self,
        node: &Node,
        token: Token,
        established: &Established,
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        if let Some(proof) = self.withheld.take() {
            self.check_double(node, &established.peer.node)?;
            reactor.write_now(token, &proof)?;
        }
        reactor.set_deadline(token, None);
        node.shared.mesh.forget_stranger(token);
        if let Some(id) = self.data_id(&established.peer) {
            self.phase = Phase::Data(id.to_owned(), established.peer.node.clone());
            return Ok(());
        }
        self.note_seed(node, &established.peer.node);
        let (peer, link) = node.link_up(token, established, reactor)?;
        self.phase = Phase::Up(Up {
            peer,
            link,
            framing: established.framing_in,
            splitter: Splitter::new(established.framing_in),
        });
        Ok(())
    }

    /// Takes bytes that came. Returns how many were of use.
    fn take(
        &mut self,
        node: &Node,
        token: Token,
        bytes: &[u8],
        reactor: &mut Reactor<()>,
    ) -> Result<usize, HandlerError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match &mut self.phase {
                Phase::Handshake(handshake) => {
                    if rest.is_empty() {
                        return Ok(used);
                    }
                    if node.shared.mesh.tls.is_some() && reactor.queued(token) > 0 {
                        // What is still to go out of our greeting must not go through TLS.
                        reactor.unread(token, rest.to_vec())?;
                        reactor.pause(token);
                        reactor.notify_writable(token);
                        return Ok(bytes.len());
                    }
                    let result = handshake.handle_bytes(rest);
                    if let (Err(HandshakeError::Myself), Origin::Seed(index)) =
                        (&result, &self.origin)
                    {
                        node.seed_has_greeted(*index, node.id());
                        if let Some(address) = reactor.peer_addr(token)
                            && !node.listens_at(address)
                        {
                            let id = node.id();
                            tracing::warn!(
                                "the node at {address} is called {id} as this one is: unless it is this one, give it another nodeid"
                            );
                        }
                    }
                    let count = result?;
                    used += count;
                    if self.drain(node, token, &bytes[used..], reactor)? == Drained::TlsHasBegun {
                        return Ok(bytes.len());
                    }
                    if count == 0 {
                        return Ok(used);
                    }
                }
                Phase::Up(up) => {
                    return Ok(used + up.take(node, rest)?);
                }
                Phase::Data(id, with) => {
                    // What follows is for its users.
                    if !rest.is_empty() {
                        reactor.unread(token, rest.to_vec())?;
                    }
                    reactor.pause(token);
                    let (id, with) = (id.clone(), with.clone());
                    node.with_reactor(move |node, reactor| {
                        node.data_is_there(&id, &with, token, reactor);
                    });
                    return Ok(bytes.len());
                }
                Phase::Over => return Ok(bytes.len()),
            }
        }
    }
}

impl Up {
    /// Takes whole frames to their ports.
    fn take(&mut self, node: &Node, bytes: &[u8]) -> Result<usize, HandlerError> {
        let mut used = 0;
        let mut counts = self.link.received.get();
        let result = loop {
            let rest = &bytes[used..];
            let len = match self.splitter.next(rest) {
                Ok(Some(len)) => len,
                Ok(None) => break Ok(used),
                Err(error) => break Err(error.into()),
            };
            counts.messages += 1;
            let frame = match Frame::open(self.framing, &rest[..len]) {
                Ok(frame) => frame,
                Err(error) => break Err(error.into()),
            };
            if node.shared.mesh.limits.has_trace {
                trace("RCV", self.peer.id(), "->", &frame);
            }
            if let Err(error) = node.deliver(self.peer.id(), &frame) {
                break Err(error);
            }
            used += len;
        };
        self.link.received.set(Counts { bytes: counts.bytes + used as u64, ..counts });
        result
    }
}

impl Node {
    /// Sends the first words. The rest of the handshake has so long.
    pub(super) fn greet(&self, token: Token, greeting: &[u8], reactor: &mut Reactor<()>) {
        let patience = self.shared.mesh.limits.monitor_timeout;
        reactor.set_deadline(token, reactor.now().checked_add(patience));
        if let Err(over) = reactor.write_now(token, greeting) {
            tracing::debug!("no greeting: {over}");
        }
    }
}

/// Logs a message as AnyEvent::MP does: a list that begins with the port, which is null for the node's own.
pub(super) fn trace(what: &str, node: &NodeId, arrow: &str, frame: &Frame<'_>) {
    if let Ok(mut list) = frame.list() {
        let port = frame.port();
        list.insert(0, if port.is_empty() { crate::Value::Null } else { port.into() });
        let list = crate::Value::List(list);
        tracing::info!(target: "ports::trace", "{what} {node} {arrow} {list}");
    }
}

impl Handler<()> for Connection {
    fn connected(
        &mut self,
        token: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        let Some(shared) = self.node.upgrade() else { return Err("the node is gone".into()) };
        let greeting = self.greeting();
        Node { shared }.greet(token, &greeting, reactor);
        Ok(())
    }

    fn readable(
        &mut self,
        token: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        let Some(shared) = self.node.upgrade() else { return Err("the node is gone".into()) };
        let node = Node { shared };
        crate::port::enter(&node);
        let shared_buffer = &node.shared.mesh.read_buffer;
        let before = std::mem::take(&mut self.partial_len);
        // The node's buffer, so that a connection that rests holds none. But what is long is not copied to
        // and fro for each piece that comes.
        let mut buffer = std::mem::take(&mut self.partial);
        let is_long = before > PARTIAL_COPIED_MAX;
        if !is_long {
            let mut common = shared_buffer.take();
            common.resize(common.len().max(READ_BYTES + before), 0);
            common[..before].copy_from_slice(&buffer[..before]);
            buffer = common;
        } else if buffer.len() < before + READ_BYTES {
            buffer.resize(2 * before + READ_BYTES, 0);
        }
        let read = reactor.read(token, &mut buffer[before..]);
        let (mut used, mut len) = (0, before);
        let result = match read {
            Ok(Read::Data(count)) => {
                len += count;
                self.take(&node, token, &buffer[..len], reactor).map(|count| used = count)
            }
            Ok(Read::WouldBlock) => Ok(()),
            Ok(Read::Eof) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) => Err(error.into()),
        };
        self.partial_len = len - used;
        if is_long && self.partial_len > 0 {
            // Not for each byte of a long frame.
            if used > 0 {
                buffer.copy_within(used..len, 0);
            }
            self.partial = buffer;
        } else if !is_long {
            self.partial = buffer[used..len].to_vec();
            shared_buffer.replace(buffer);
        }
        result?;
        if node.has_read(used) {
            reactor.pause(token);
            node.shared.mesh.paused.borrow_mut().push(token);
        }
        Ok(())
    }

    fn writable(
        &mut self,
        token: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        reactor.resume(token);
        Ok(())
    }

    fn drained(
        &mut self,
        _: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        if let (Phase::Up(up), Some(shared)) = (&self.phase, self.node.upgrade()) {
            up.peer.look_at_queue(&Node { shared }, reactor, &up.link);
        }
        Ok(())
    }

    fn closed(&mut self, token: Token, reason: Ended, (): &mut (), _: &mut Reactor<()>) {
        let Some(shared) = self.node.upgrade() else { return };
        let node = Node { shared };
        let text = text_of(&reason);
        if let Phase::Up(up) = &self.phase {
            // It may have been replaced, and that told, before.
            if up.peer.has_link(&up.link) {
                up.peer.fail(&node, &text);
            }
        } else {
            node.shared.mesh.forget_stranger(token);
            match &reason {
                Ended::Handler(error) if is_refusal(&**error) => {
                    tracing::warn!("{}: no connection: {text}", self.origin);
                }
                _ => tracing::debug!("{}: no connection: {text}", self.origin),
            }
        }
        self.phase = Phase::Over;
        match &self.origin {
            Origin::Seed(index) => node.seed_is_lost(*index, &text),
            Origin::Data(id) => node.data_dial_failed(id, &text),
            Origin::Accepted(_) | Origin::Node(_) => {}
        }
    }

    fn kind(&self) -> &'static str {
        "connection between nodes"
    }
}

/// Whether somebody should know of it, since it will not go well by itself: a wrong secret, for one.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<HandshakeError>().is_some_and(|error| {
        !matches!(error, HandshakeError::Myself | HandshakeError::AlreadyConnected(_))
    })
}

/// What a monitor hears of a connection's end.
fn text_of(reason: &Ended) -> String {
    let from_io = |error: &io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "Unexpected end-of-file".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    };
    match reason {
        Ended::Reset => "Connection reset by peer".to_owned(),
        Ended::Timeout => "Connection timed out".to_owned(),
        Ended::Error(error) => from_io(error),
        Ended::Handler(error) => match error.downcast_ref::<io::Error>() {
            Some(error) => from_io(error),
            None => error.to_string(),
        },
        Ended::Local(text) => (*text).to_owned(),
    }
}
