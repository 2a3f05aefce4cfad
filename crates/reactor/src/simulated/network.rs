//! What there is in a world: hosts, links, sockets, and what is on its way.
//!
//! `host` has the calls of a backend; `stream` and `datagram` are what they do. `ports` says who gets
//! what, `departure` puts something on its way, and `delivery` is what happens on arrival.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;

use super::WorldOptions;
use super::chance::Chance;
use super::detached::Dropped;
use super::ports::Ports;
use super::socket::{Family, Kind, Owner, Socket, Told};
use super::stream::Stream;
use super::trace::{Trace, TraceEntry, TraceKind};
use crate::Event;

#[derive(Debug)]
pub(super) struct Network {
    pub(super) options: WorldOptions,
    pub(super) seed: u64,
    /// The instant at which the world began. Only differences to it mean anything.
    pub(super) base: Instant,
    pub(super) now: Duration,
    pub(super) hosts: Vec<HostState>,
    /// Of each reactor the sockets with news, in the order they got them.
    pub(super) reactors: Vec<VecDeque<u32>>,
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) sockets: BTreeMap<u32, Socket>,
    pub(super) wires: BTreeMap<u32, Wire>,
    pub(super) chance: Chance,
    pub(super) trace: Trace,
    pub(super) dropped: Dropped,
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
    pub(super) ports: Ports,
    /// How many sockets its reactors have, and how many are between two.
    pub(super) descriptors: usize,
    pub(super) descriptors_max: usize,
    /// Until then it is sending what it was given before.
    pub(super) busy_until: Duration,
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
            seed,
            base: Instant::now(),
            now: Duration::ZERO,
            hosts: Vec::new(),
            reactors: Vec::new(),
            names: BTreeMap::new(),
            sockets: BTreeMap::new(),
            wires: BTreeMap::new(),
            chance: Chance::new(seed),
            trace: Trace::new(options.trace_len_max),
            dropped: Dropped::default(),
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
            ports: Ports::new(),
            descriptors: 0,
            descriptors_max: self.options.descriptors_max,
            busy_until: Duration::ZERO,
        };
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    pub(super) fn add_reactor(&mut self) -> usize {
        self.reactors.push(VecDeque::new());
        self.reactors.len() - 1
    }

    /// Whether a host may have one more socket.
    pub(super) fn check_descriptors(&mut self, host: usize) -> io::Result<()> {
        self.sweep();
        let host = &self.hosts[host];
        if host.descriptors < host.descriptors_max { Ok(()) } else { Err(Errno::MFILE.into()) }
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
    pub(super) fn next_arrival_at(&mut self) -> Option<Duration> {
        self.sweep();
        self.arrivals.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock, and lets arrive what does so on the way.
    pub(super) fn advance(&mut self, to: Duration) {
        self.sweep();
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

    pub(super) fn socket(&self, id: u32) -> io::Result<&Socket> {
        self.sockets.get(&id).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn socket_mut(&mut self, id: u32) -> io::Result<&mut Socket> {
        self.sockets.get_mut(&id).ok_or_else(|| io::ErrorKind::NotConnected.into())
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
        family: Family,
        owner: Option<Owner>,
        kind: Kind,
    ) -> u32 {
        let id = self.next_socket;
        self.next_socket += 1;
        let told = Told::default();
        let socket = Socket { host, local, family, owner, is_listed: false, told, kind };
        self.sockets.insert(id, socket);
        id
    }

    /// Puts a socket on its owner's list if it has news.
    pub(super) fn touch(&mut self, id: u32) {
        let buffer_len = self.options.buffer_len;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if let Some(owner) = socket.owner
            && !socket.is_listed
            && socket.news(buffer_len).is_some()
        {
            socket.is_listed = true;
            self.reactors[owner.reactor].push_back(id);
        }
    }

    pub(super) fn has_news(&self, reactor: usize) -> bool {
        !self.reactors[reactor].is_empty()
    }

    pub(super) fn take_news(&mut self, reactor: usize, events: &mut Vec<Event>) {
        for id in std::mem::take(&mut self.reactors[reactor]) {
            // Whatever is closed meanwhile has no news.
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.is_listed = false;
            events.extend(socket.tell(self.options.buffer_len));
        }
    }

    pub(super) fn note(&mut self, kind: TraceKind, from: SocketAddr, to: SocketAddr, len: usize) {
        let at_micros = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        self.trace.push(TraceEntry { at_micros, kind, from, to, len });
    }
}
