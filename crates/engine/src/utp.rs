//! Connections to peers over uTP: carries datagrams and time between the sockets, the table of
//! connections ([`torrent::utp::Mux`]) and the reactor, where each connection looks like any other.
//!
//! What comes in a turn is looked at, and answered, at its end, when all that was written in the turn is in
//! the table too: so that what came together is acknowledged together, and what goes to one peer goes
//! out in one call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Channel, HookGuard, Reactor, TimerId, Token, Wire};
use torrent::Rng;
use torrent::locality::is_local;
use torrent::swarm::Direction;
use torrent::utp::{Event, Mux, MuxConfig, StreamId, Transmit};
use torrent::wire::PeerFlags;

use crate::dial::{CONNECT_PATIENCE, Road};
use crate::engine::Engine;
use crate::event::EventKind;
use crate::peer::PeerConnection;

/// All uTP connections of a session.
pub(crate) struct Utp {
    shared: Rc<RefCell<Shared>>,
    timer: Option<(TimerId, Instant)>,
    /// Datagrams to many peers, to go out together.
    bytes: Vec<u8>,
    singles: Vec<(SocketAddr, Range<usize>)>,
    _hook: HookGuard,
}

/// What the connections have in common.
#[derive(Debug)]
struct Shared {
    mux: Mux,
    tokens: BTreeMap<StreamId, Token>,
}

/// A stream, as a connection sees it.
#[derive(Debug)]
struct UtpChannel {
    shared: Rc<RefCell<Shared>>,
    id: StreamId,
}

impl Wire for UtpChannel {
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.shared.borrow_mut().mux.read(self.id, slices)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.shared.borrow_mut().mux.write(self.id, slices)
    }
}

impl Channel for UtpChannel {
    fn finish_connect(&mut self) -> io::Result<()> {
        self.shared.borrow().mux.connected(self.id)
    }

    fn finish(&mut self) {
        self.shared.borrow_mut().mux.finish(self.id);
    }
}

impl Drop for UtpChannel {
    fn drop(&mut self) {
        let shared = &mut *self.shared.borrow_mut();
        shared.mux.close(self.id);
        shared.tokens.remove(&self.id);
    }
}

impl Engine {
    /// Whether peers can be dialled by uTP: not where they are behind a proxy that carries no datagrams.
    pub(crate) fn has_utp(&self, now: Instant) -> bool {
        self.utp.is_some() && (self.proxy_of_peers().is_none() || self.has_relay(now))
    }

    /// Begins to talk uTP, if that is wanted.
    pub(crate) fn start_utp(&mut self, reactor: &mut Reactor<Self>) {
        if !self.config.utp {
            return;
        }
        let config = MuxConfig {
            accepts: !self.config.is_strictly_proxied(),
            // Beside those that peers have, there are some that are being closed.
            streams_max: self.config.limits.connections_max.saturating_add(CLOSING_MAX),
            ..MuxConfig::default()
        };
        let mux = Mux::new(reactor.now(), config, Rng::from_seed(self.rng.u64()));
        let shared = Rc::new(RefCell::new(Shared { mux, tokens: BTreeMap::new() }));
        let hook = reactor.on_flushed(|engine: &mut Self, reactor| engine.run_utp(reactor));
        self.utp =
            Some(Utp { shared, timer: None, bytes: Vec::new(), singles: Vec::new(), _hook: hook });
    }

    /// Whether to try uTP before TCP. Not on the local network, where there is nobody to give way to; not when
    /// it never works, as where datagrams are dropped.
    pub(crate) fn prefers_utp(&self, addr: SocketAddr, flags: PeerFlags) -> bool {
        let is_hopeless = self.lessons.is_utp_hopeless();
        self.utp.is_some()
            && !is_hopeless
            && (flags.contains(PeerFlags::UTP) || !is_local(addr.ip()))
    }

    /// A datagram has come that looks like uTP.
    pub(crate) fn utp_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) {
        if let Some(utp) = &self.utp {
            utp.shared.borrow_mut().mux.handle_datagram(reactor.now(), from, data);
        }
    }

    /// A socket has room again.
    pub(crate) fn utp_writable(&mut self) {
        if let Some(utp) = &self.utp {
            utp.shared.borrow_mut().mux.handle_writable();
        }
    }

    /// Asks for a connection.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn connect_utp(
        &mut self,
        addr: SocketAddr,
        handler: Box<PeerConnection>,
        reactor: &mut Reactor<Self>,
    ) -> io::Result<Token> {
        let utp = self.utp.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let id = utp.shared.borrow_mut().mux.connect(reactor.now(), addr);
        let id = id.ok_or_else(|| io::Error::other("too many uTP connections"))?;
        let patience = if self.config.tcp { UTP_PATIENCE } else { CONNECT_PATIENCE };
        Ok(utp.attach(id, addr, Some(patience), handler, reactor))
    }

    /// Somebody connected, and has begun to talk: it is taken in as over TCP.
    fn accept_utp(&mut self, id: StreamId, addr: SocketAddr, reactor: &mut Reactor<Self>) {
        let admitted = self.admits(addr, reactor);
        let Some(utp) = &self.utp else { return };
        if let Err(reason) = admitted {
            utp.shared.borrow_mut().mux.reset(reactor.now(), id);
            let detail = reason.to_string();
            self.tell(None, &EventKind::PeerDisconnected { addr, peer_id: None, reason, detail });
            return;
        }
        let handler = Box::new(PeerConnection::incoming(addr, Road::Utp));
        let token = utp.attach(id, addr, None, handler, reactor);
        self.admitted(token, addr.ip(), reactor);
        let direction = Direction::Incoming;
        self.tell(None, &EventKind::ConnectionOpened { addr, direction });
    }

    /// Called at the end of each turn.
    fn run_utp(&mut self, reactor: &mut Reactor<Self>) {
        let Some(utp) = &self.utp else { return };
        utp.shared.borrow_mut().mux.handle_timeout(reactor.now());
        while let Some(event) = self.utp.as_ref().and_then(Utp::poll_event) {
            match event {
                Event::Accepted(id, addr) => self.accept_utp(id, addr, reactor),
                Event::Connected(id)
                | Event::Readable(id)
                | Event::Writable(id)
                | Event::Closed(id, _) => {
                    if let Some(utp) = &self.utp {
                        utp.wake(id, reactor);
                    }
                }
            }
        }
        self.send_utp(reactor);
        if let Some(utp) = &mut self.utp {
            utp.set_timer(reactor);
        }
    }

    fn send_utp(&mut self, reactor: &mut Reactor<Self>) {
        if self.proxy_of_peers().is_some() {
            return self.relay_utp(reactor);
        }
        if let Some(utp) = &mut self.utp {
            utp.send(&self.udp, reactor);
        }
    }

    /// Sends all that there is to send through the proxy, and drops it if that carries no datagrams.
    fn relay_utp(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        loop {
            let Some(utp) = &self.utp else { return };
            let next = utp
                .shared
                .borrow_mut()
                .mux
                .poll_output(now)
                .map(|transmit| (transmit.to, transmit.bytes.to_vec(), transmit.segment_len));
            let Some((to, bytes, segment_len)) = next else { return };
            for datagram in bytes.chunks(segment_len) {
                if !self.has_relay(now) {
                    break;
                }
                if let Err(error) = self.send_datagram(to, datagram, reactor) {
                    tracing::trace!(%to, %error, "not sent");
                }
            }
        }
    }

    /// The session ends: peers need not wait for us.
    pub(crate) fn end_utp(&mut self, reactor: &mut Reactor<Self>) {
        if let Some(utp) = &self.utp {
            utp.shared.borrow_mut().mux.reset_all(reactor.now());
        }
        self.send_utp(reactor);
    }
}

impl Utp {
    fn attach(
        &self,
        id: StreamId,
        addr: SocketAddr,
        patience: Option<Duration>,
        handler: Box<PeerConnection>,
        reactor: &mut Reactor<Engine>,
    ) -> Token {
        let channel = UtpChannel { shared: Rc::clone(&self.shared), id };
        let token = reactor.attach_channel(Box::new(channel), addr, patience, handler);
        self.shared.borrow_mut().tokens.insert(id, token);
        token
    }

    fn poll_event(&self) -> Option<Event> {
        self.shared.borrow_mut().mux.poll_event()
    }

    fn wake(&self, id: StreamId, reactor: &mut Reactor<Engine>) {
        if let Some(&token) = self.shared.borrow().tokens.get(&id) {
            reactor.channel_ready(token);
        }
    }

    /// Sends all that there is to send.
    fn send(&mut self, sockets: &[(SocketAddr, Token)], reactor: &mut Reactor<Engine>) {
        let mux = &mut self.shared.borrow_mut().mux;
        let now = reactor.now();
        let socket_for = |to: SocketAddr| {
            let socket = sockets.iter().find(|(local, _)| local.is_ipv4() == to.is_ipv4());
            socket.map(|&(_, token)| token)
        };
        let mut unreachable = Vec::new();
        while let Some(transmit) = mux.poll_output(now) {
            let Transmit { to, bytes, segment_len, is_probe } = transmit;
            let Some(socket) = socket_for(to) else {
                mux.handle_unreachable(to);
                continue;
            };
            if bytes.len() <= segment_len && !is_probe {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                self.singles.push((to, start..self.bytes.len()));
                if self.singles.len() >= SINGLES_MAX {
                    let singles = (&mut self.bytes, &mut self.singles);
                    send_singles(singles, &mut unreachable, socket_for, reactor);
                }
                continue;
            }
            // None overtakes another of the same connection.
            let singles = (&mut self.bytes, &mut self.singles);
            send_singles(singles, &mut unreachable, socket_for, reactor);
            let len = bytes.len();
            let result = if is_probe {
                reactor.send_whole(socket, to, bytes).map(|is_sent| if is_sent { len } else { 0 })
            } else {
                reactor.send_segments(socket, to, bytes, segment_len)
            };
            match result {
                Ok(sent) if sent < len => {
                    mux.refused(sent / segment_len);
                    reactor.notify_writable(socket);
                }
                Ok(_) => {}
                Err(error) if is_probe && is_too_long(&error) => mux.too_long(),
                Err(error) => tracing::trace!(%to, %error, "not sent"),
            }
        }
        let singles = (&mut self.bytes, &mut self.singles);
        send_singles(singles, &mut unreachable, socket_for, reactor);
        for addr in unreachable {
            mux.handle_unreachable(addr);
        }
    }

    /// Sees to it that the loop wakes when there is something to do.
    fn set_timer(&mut self, reactor: &mut Reactor<Engine>) {
        let Some(at) = self.shared.borrow().mux.poll_timeout() else { return };
        // One that fires too early does no harm.
        if self.timer.is_some_and(|(_, set)| set <= at) {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            reactor.cancel_timer(timer);
        }
        let wake = |engine: &mut Engine, _: &mut Reactor<Engine>| {
            // The end of the turn does the rest.
            if let Some(utp) = &mut engine.utp {
                utp.timer = None;
            }
        };
        self.timer = Some((reactor.add_timer(at, wake), at));
    }
}

/// Sends single datagrams together. One that finds no room is lost, as on the network. Addresses that nothing can
/// be sent to are added to `unreachable`.
fn send_singles(
    (bytes, singles): (&mut Vec<u8>, &mut Vec<(SocketAddr, Range<usize>)>),
    unreachable: &mut Vec<SocketAddr>,
    socket_for: impl Fn(SocketAddr) -> Option<Token>,
    reactor: &mut Reactor<Engine>,
) {
    for is_ipv4 in [true, false] {
        let of_family = singles.iter().filter(|(to, _)| to.is_ipv4() == is_ipv4);
        let datagrams: Vec<(SocketAddr, &[u8])> =
            of_family.filter_map(|(to, range)| Some((*to, bytes.get(range.clone())?))).collect();
        let mut rest = &datagrams[..];
        while let Some(&(first, _)) = rest.first() {
            let Some(socket) = socket_for(first) else { break };
            match reactor.send_many(socket, rest) {
                Ok(0) => break,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) => {
                    tracing::trace!(to = %first, %error, "not sent");
                    unreachable.extend(is_hopeless(&error).then_some(first));
                    rest = &rest[1..];
                }
            }
        }
    }
    bytes.clear();
    singles.clear();
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// Whether the system says that there is no way to an address.
fn is_hopeless(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, InvalidInput, NetworkUnreachable, PermissionDenied};
    matches!(error.kind(), HostUnreachable | InvalidInput | NetworkUnreachable | PermissionDenied)
}

impl fmt::Debug for Utp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.borrow();
        f.debug_struct("Utp").field("streams", &shared.mux.len()).finish_non_exhaustive()
    }
}

/// How long a peer may take to answer, where TCP can be tried after: it is asked twice.
const UTP_PATIENCE: Duration = Duration::from_secs(2);
const CLOSING_MAX: usize = 256;
/// Datagrams that go out in one call.
const SINGLES_MAX: usize = 64;
