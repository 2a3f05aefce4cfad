//! What there is in a world: hosts, links, sockets, and what is on its way.
//!
//! `host` has the calls of a backend, `departure` puts something on its way, and `delivery` is what
//! happens on arrival.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::WorldOptions;
use super::chance::Chance;
use super::socket::{Kind, Socket, Stream, Told};
use super::trace::{Trace, TraceEntry, TraceKind};
use crate::{Event, Token};

#[derive(Debug)]
pub(super) struct Network {
    pub(super) options: WorldOptions,
    /// The instant at which the world began. Only differences to it mean anything.
    pub(super) base: Instant,
    pub(super) now: Duration,
    pub(super) hosts: Vec<HostState>,
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) sockets: BTreeMap<u32, Socket>,
    pub(super) wires: BTreeMap<u32, Wire>,
    pub(super) chance: Chance,
    pub(super) trace: Trace,
    links: BTreeMap<(usize, usize), Link>,
    /// By time, then in the order they were planned.
    arrivals: BTreeMap<(Duration, u64), Arrival>,
    next_arrival: u64,
    next_socket: u32,
}

#[derive(Debug)]
pub(super) struct HostState {
    pub(super) ips: Vec<IpAddr>,
    pub(super) chance: Chance,
    pub(super) bytes_per_second: Option<u64>,
    /// Sockets with news, in the order they got them.
    listed: VecDeque<u32>,
    /// Sockets by protocol and port, without accepted connections.
    bound: BTreeMap<(Protocol, u16), Vec<u32>>,
    next_port: u16,
    /// Until then it is sending what it was given before.
    pub(super) busy_until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// What is special between two hosts.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) latency: Option<Duration>,
    is_cut: bool,
}

/// What is on its way to one end of a connection, in order.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) to_host: usize,
    pub(super) parcels: VecDeque<Parcel>,
    pub(super) last_arrival: Duration,
}

#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) at: Duration,
    pub(super) from: u32,
    pub(super) from_host: usize,
    pub(super) from_addr: SocketAddr,
    pub(super) to_addr: SocketAddr,
    pub(super) packet: Packet,
}

#[derive(Debug)]
pub(super) enum Packet {
    /// The connection stands.
    Welcome,
    Refusal,
    Data(Bytes),
    End,
    Reset,
}

#[derive(Debug)]
pub(super) enum Arrival {
    /// The first packet of a connection.
    Connect {
        from: u32,
        to: SocketAddr,
    },
    /// The next parcel of the wire to this socket.
    Parcel {
        to: u32,
    },
    /// So many bytes have been read: there is room for as many. It overtakes what is on the wire.
    Room {
        from_host: usize,
        to: u32,
        len: usize,
    },
    Datagram {
        from_host: usize,
        from: SocketAddr,
        to: SocketAddr,
        data: Bytes,
    },
}

impl Network {
    pub(super) fn new(seed: u64, options: WorldOptions) -> Self {
        Self {
            base: Instant::now(),
            now: Duration::ZERO,
            hosts: Vec::new(),
            names: BTreeMap::new(),
            sockets: BTreeMap::new(),
            wires: BTreeMap::new(),
            chance: Chance::new(seed),
            trace: Trace::new(options.trace_len_max),
            links: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next_arrival: 0,
            next_socket: 0,
            options,
        }
    }

    pub(super) fn add_host(&mut self, ips: &[IpAddr]) -> usize {
        let host = HostState {
            ips: ips.to_vec(),
            chance: Chance::new(self.chance.next()),
            bytes_per_second: self.options.bytes_per_second,
            listed: VecDeque::new(),
            bound: BTreeMap::new(),
            next_port: EPHEMERAL_FIRST,
            busy_until: Duration::ZERO,
        };
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// The host of an address, as seen from `from`.
    pub(super) fn find_host(&self, ip: IpAddr, from: usize) -> Option<usize> {
        if ip.is_loopback() { Some(from) } else { self.host_of(ip) }
    }

    pub(super) fn host_of(&self, ip: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.ips.contains(&ip))
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + self.now
    }

    /// When the next thing arrives anywhere.
    pub(super) fn next_arrival_at(&self) -> Option<Duration> {
        self.arrivals.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock, and lets arrive what does so on the way.
    pub(super) fn advance(&mut self, to: Duration) {
        while let Some(first) = self.arrivals.first_entry().filter(|first| first.key().0 <= to) {
            let at = first.key().0;
            let arrival = first.remove();
            self.now = self.now.max(at);
            self.deliver(arrival);
        }
        self.now = self.now.max(to);
    }

    pub(super) fn plan(&mut self, at: Duration, arrival: Arrival) {
        self.arrivals.insert((at, self.next_arrival), arrival);
        self.next_arrival += 1;
    }

    pub(super) fn link(&self, a: usize, b: usize) -> Option<&Link> {
        self.links.get(&(a.min(b), a.max(b)))
    }

    fn link_mut(&mut self, a: usize, b: usize) -> &mut Link {
        self.links.entry((a.min(b), a.max(b))).or_default()
    }

    pub(super) fn set_cut(&mut self, a: usize, b: usize, is_cut: bool) {
        self.link_mut(a, b).is_cut = is_cut;
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.link(a, b).is_some_and(|link| link.is_cut)
    }

    pub(super) fn set_latency(&mut self, a: usize, b: usize, latency: Duration) {
        self.link_mut(a, b).latency = Some(latency);
    }

    pub(super) fn stream(&self, id: u32) -> Option<(&Socket, &Stream)> {
        let socket = self.sockets.get(&id)?;
        Some((socket, socket.stream()?))
    }

    pub(super) fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.sockets.get_mut(&id)?.stream_mut()
    }

    pub(super) fn add_socket(
        &mut self,
        host: usize,
        local: SocketAddr,
        is_v6: bool,
        token: Option<Token>,
        kind: Kind,
    ) -> u32 {
        let id = self.next_socket;
        self.next_socket += 1;
        let told = Told::default();
        self.sockets.insert(id, Socket { host, local, is_v6, token, is_listed: false, told, kind });
        id
    }

    /// Puts a socket on its host's list if it has news.
    pub(super) fn touch(&mut self, id: u32) {
        let buffer_len = self.options.buffer_len;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !socket.is_listed && socket.news(buffer_len).is_some() {
            socket.is_listed = true;
            self.hosts[socket.host].listed.push_back(id);
        }
    }

    pub(super) fn has_news(&self, host: usize) -> bool {
        !self.hosts[host].listed.is_empty()
    }

    pub(super) fn take_news(&mut self, host: usize, events: &mut Vec<Event>) {
        for id in std::mem::take(&mut self.hosts[host].listed) {
            // Whatever is closed meanwhile has no news.
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.is_listed = false;
            events.extend(socket.tell(self.options.buffer_len));
        }
    }

    /// Finds a port for an address, and checks that nobody else has it.
    pub(super) fn claim(
        &mut self,
        host: usize,
        protocol: Protocol,
        local: SocketAddr,
        v6_only: bool,
    ) -> io::Result<SocketAddr> {
        let ip = local.ip();
        let is_ours = ip.is_unspecified() || ip.is_loopback() || self.hosts[host].ips.contains(&ip);
        if !is_ours {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if local.port() != 0 {
            let is_free = self.is_free(host, protocol, local, v6_only);
            return if is_free { Ok(local) } else { Err(io::ErrorKind::AddrInUse.into()) };
        }
        for _ in EPHEMERAL_FIRST..=u16::MAX {
            let port = self.hosts[host].next_port;
            self.hosts[host].next_port = port.checked_add(1).unwrap_or(EPHEMERAL_FIRST);
            let candidate = SocketAddr::new(ip, port);
            if self.is_free(host, protocol, candidate, v6_only) {
                return Ok(candidate);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn is_free(&self, host: usize, protocol: Protocol, addr: SocketAddr, v6_only: bool) -> bool {
        let covers = |taken: &Socket| {
            addr.ip().is_unspecified()
                && (addr.is_ipv6() == taken.local.is_ipv6() || addr.is_ipv6() && !v6_only)
        };
        self.at_port(host, protocol, addr.port())
            .all(|(_, taken)| !taken.takes(addr.ip()) && !covers(taken))
    }

    /// Has a socket be found by its port.
    pub(super) fn bind(&mut self, id: u32, protocol: Protocol) {
        let socket = &self.sockets[&id];
        let key = (protocol, socket.local.port());
        self.hosts[socket.host].bound.entry(key).or_default().push(id);
    }

    pub(super) fn unbind(&mut self, id: u32, protocol: Protocol) {
        let socket = &self.sockets[&id];
        let (host, key) = (socket.host, (protocol, socket.local.port()));
        if let Some(bound) = self.hosts[host].bound.get_mut(&key) {
            bound.retain(|other| *other != id);
            if bound.is_empty() {
                self.hosts[host].bound.remove(&key);
            }
        }
    }

    fn at_port(
        &self,
        host: usize,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = (u32, &Socket)> {
        let ids = self.hosts[host].bound.get(&(protocol, port)).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.sockets.get(id)?)))
    }

    /// The socket that what is sent to an address comes to; one bound to just that address first.
    pub(super) fn find_bound(
        &self,
        host: usize,
        protocol: Protocol,
        addr: SocketAddr,
    ) -> Option<u32> {
        let takers = || {
            self.at_port(host, protocol, addr.port())
                .filter(|(_, socket)| socket.stream().is_none() && socket.takes(addr.ip()))
        };
        let exact = takers().find(|(_, socket)| !socket.local.ip().is_unspecified());
        exact.or_else(|| takers().next()).map(|(id, _)| id)
    }

    /// The address of a host from which it reaches another one.
    pub(super) fn source_ip(&self, host: usize, to: IpAddr) -> Option<IpAddr> {
        if to.is_loopback() {
            return Some(match to {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let ips = &self.hosts[host].ips;
        if ips.contains(&to) {
            return Some(to);
        }
        ips.iter().copied().find(|ip| ip.is_ipv6() == to.is_ipv6())
    }

    pub(super) fn note(&mut self, kind: TraceKind, from: SocketAddr, to: SocketAddr, len: usize) {
        let at_micros = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        self.trace.push(TraceEntry { at_micros, kind, from, to, len });
    }
}

const EPHEMERAL_FIRST: u16 = 49_152;
