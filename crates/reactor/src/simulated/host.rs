//! One host of a world: what a reactor runs on.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::network::{Arrival, Network};
use super::ports::{Claim, Protocol};
use super::signal::can_be_caught;
use super::socket::{Family, Kind, Owner, canonical};
use super::stream::{Phase, Stream};
use crate::backend::{Backend, DatagramBatch, Event, RawSocket, Source, Wake};
use crate::{Address, ConnectOptions, Interest, Interface, ListenOptions, Token};

/// A reactor's place on a machine in a [`World`](super::World). The machine is also the loopback of
/// itself: `127.0.0.1` and `::1`. Dropping the place closes its sockets.
#[derive(Debug)]
pub struct Host {
    network: Rc<RefCell<Network>>,
    number: usize,
    /// Which of the world's reactors this is.
    reactor: usize,
    /// Sockets by the numbers that the reactor knows them by. As descriptors, these are used again,
    /// while those of the network name one socket for ever.
    handles: Vec<Option<u32>>,
}

/// Nobody waits in a simulation: whoever turns the reactors asks each for its next wake.
#[derive(Debug)]
struct NoWait;

impl Wake for NoWait {
    fn wake(&self) {}
}

impl Host {
    pub(super) fn new(network: Rc<RefCell<Network>>, number: usize) -> Self {
        let reactor = network.borrow_mut().add_reactor();
        Self { network, number, reactor, handles: Vec::new() }
    }

    /// A place for another reactor on the same machine. They share its addresses, ports, paths and
    /// limits, and may hand each other sockets.
    pub fn another(&self) -> Self {
        Self::new(Rc::clone(&self.network), self.number)
    }

    fn id(&self, source: Source) -> io::Result<u32> {
        let id = self.handles.get(source.0 as usize).copied().flatten();
        id.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    const fn owner(&self, token: Token) -> Owner {
        Owner { reactor: self.reactor, token }
    }

    /// Adds a socket.
    fn open(
        &mut self,
        local: SocketAddr,
        family: Family,
        token: Token,
        kind: Kind,
    ) -> (u32, Source) {
        let (number, owner) = (self.number, self.owner(token));
        let id = self.network.borrow_mut().add_socket(number, local, family, Some(owner), kind);
        (id, self.hold(id))
    }

    /// Counts a socket as its host's, and keeps it.
    fn hold(&mut self, id: u32) -> Source {
        self.network.borrow_mut().hosts[self.number].descriptors += 1;
        self.keep(id)
    }

    /// Gives a socket the lowest number that is free.
    fn keep(&mut self, id: u32) -> Source {
        let free = self.handles.iter().position(Option::is_none);
        let number = free.unwrap_or(self.handles.len());
        if free.is_none() {
            self.handles.push(None);
        }
        self.handles[number] = Some(id);
        Source(number as u32)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Ok(mut network) = self.network.try_borrow_mut() else { return };
        self.handles.iter().flatten().for_each(|id| network.close(*id));
    }
}

impl Backend for Host {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn now(&self) -> Instant {
        self.network.borrow().instant()
    }

    fn random(&mut self) -> u64 {
        self.network.borrow_mut().hosts[self.number].chance.next()
    }

    fn connect(
        &mut self,
        addr: &Address,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Source> {
        let host = self.number;
        self.network.borrow_mut().check_descriptors(host)?;
        let (family, local, to) = self.network.borrow_mut().route(host, addr, options.bind)?;
        let stream = Kind::Stream(Stream::new(Phase::Connecting, to, None));
        let (from, source) = self.open(local, family, token, stream);
        let network = &mut *self.network.borrow_mut();
        network.bind(from);
        let to_host = network.find_host(to.ip(), host).unwrap_or(host);
        let at = network.departure(host, 0) + network.travel_time(host, to_host);
        network.plan(at, Arrival::Connect { from, to });
        Ok(source)
    }

    fn finish_connect(&mut self, source: Source) -> io::Result<()> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        network.stream_mut(id).ok_or(io::ErrorKind::NotConnected)?.finish_connect()
    }

    fn listen(
        &mut self,
        addr: &Address,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let backlog = usize::try_from(options.backlog).unwrap_or(0).max(1);
        let claim = Claim { v6_only: options.v6_only, reuse_port: options.reuse_port };
        self.network.borrow_mut().check_descriptors(self.number)?;
        let (family, local) = self.network.borrow_mut().claim_listener(self.number, addr, claim)?;
        let kind = Kind::Listener { claim, waiting: Default::default(), backlog };
        let (id, source) = self.open(local, family, token, kind);
        self.network.borrow_mut().bind(id);
        Ok(source)
    }

    fn accept(&mut self, listener: Source) -> io::Result<(Source, Address)> {
        let network = Rc::clone(&self.network);
        let network = &mut *network.borrow_mut();
        let socket = network.socket_mut(self.id(listener)?)?;
        let Kind::Listener { waiting, .. } = &mut socket.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some(id) = waiting.pop_front() else {
            socket.told.readable = false;
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if let Err(error) = network.check_descriptors(self.number) {
            // Whoever waits is told at once, rather than left waiting.
            network.turn_away(id);
            return Err(error);
        }
        let (socket, stream) = network.stream(id).ok_or(io::ErrorKind::ConnectionAborted)?;
        let peer = network.shown(socket, stream.remote);
        network.hosts[self.number].descriptors += 1;
        Ok((self.keep(id), peer))
    }

    fn register(&mut self, source: Source, token: Token) -> io::Result<()> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        network.socket_mut(id)?.owner = Some(self.owner(token));
        network.touch(id);
        Ok(())
    }

    fn adopt(&mut self, socket: RawSocket, token: Token) -> io::Result<Source> {
        match socket {
            RawSocket::Simulated(socket) => {
                let owner = self.owner(token);
                let id = self.network.borrow_mut().adopt(self.number, socket, owner)?;
                Ok(self.keep(id))
            }
            RawSocket::Fd(_) => Err(no_descriptors()),
        }
    }

    fn detach(&mut self, source: Source) -> io::Result<RawSocket> {
        let id = self.id(source)?;
        let socket = self.network.borrow_mut().detach(id).ok_or(io::ErrorKind::NotConnected)?;
        self.handles[source.0 as usize] = None;
        Ok(RawSocket::Simulated(socket))
    }

    fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        // Whoever joins a group has the port at one address, so that it is known on which network.
        let (reuse_port, addr) = match &options.multicast {
            Some(multicast) => (true, SocketAddr::new(multicast.interface.addr, addr.port())),
            None => (options.reuse_port, addr),
        };
        let claim = Claim { v6_only: options.v6_only, reuse_port };
        let (host, local) = (self.number, canonical(addr));
        self.network.borrow_mut().check_descriptors(host)?;
        let local = self.network.borrow_mut().claim(host, Protocol::Udp, local, claim)?;
        let group = options.multicast.as_ref().map(|multicast| multicast.group);
        let kind = Kind::Datagrams { claim, group, received: Default::default(), received_len: 0 };
        let (id, source) = self.open(local, Family::of(addr), token, kind);
        let network = &mut *self.network.borrow_mut();
        network.bind(id);
        network.touch(id);
        Ok(source)
    }

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let ips = &self.network.borrow().hosts[self.number].ips;
        let interface = |(index, &addr)| Interface { name: format!("net{index}"), index, addr };
        Ok((1..).zip(ips).map(interface).collect())
    }

    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.network.borrow_mut().read(self.id(source)?, slices)
    }

    fn write(&mut self, source: Source, slices: &[IoSlice<'_>], _more: bool) -> io::Result<usize> {
        self.network.borrow_mut().write(self.id(source)?, slices)
    }

    fn send_file(
        &mut self,
        source: Source,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        self.network.borrow_mut().send_file(self.id(source)?, file, offset, len)
    }

    fn set_cork(&mut self, _source: Source, _is_corked: bool) {}

    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.network.borrow_mut().send_datagram(self.id(source)?, addr, data)
    }

    fn send_segments(
        &mut self,
        source: Source,
        addr: SocketAddr,
        data: &[u8],
        segment_len: usize,
    ) -> io::Result<usize> {
        if segment_len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let segments = Vec::from_iter(data.chunks(segment_len).map(|segment| (addr, segment)));
        let count = self.send_many(source, &segments)?;
        Ok(data.len().min(count * segment_len))
    }

    fn send_many(
        &mut self,
        source: Source,
        datagrams: &[(SocketAddr, &[u8])],
    ) -> io::Result<usize> {
        for (number, (addr, data)) in datagrams.iter().enumerate() {
            match self.send_to(source, *addr, data) {
                Ok(()) => {}
                Err(error) if number == 0 => return Err(error),
                Err(_) => return Ok(number),
            }
        }
        Ok(datagrams.len())
    }

    fn receive(&mut self, source: Source, batch: &mut DatagramBatch) -> io::Result<()> {
        self.network.borrow_mut().receive_datagrams(self.id(source)?, batch)
    }

    fn shutdown_write(&mut self, source: Source) {
        if let Ok(id) = self.id(source) {
            self.network.borrow_mut().finish(id);
        }
    }

    fn close(&mut self, source: Source) {
        if let Some(id) = self.handles.get_mut(source.0 as usize).and_then(Option::take) {
            self.network.borrow_mut().close(id);
        }
    }

    fn local_addr(&self, source: Source) -> io::Result<Address> {
        let network = self.network.borrow();
        let socket = network.socket(self.id(source)?)?;
        Ok(network.shown(socket, socket.local))
    }

    fn peer_addr(&self, source: Source) -> io::Result<Address> {
        let network = self.network.borrow();
        match network.stream(self.id(source)?) {
            Some((socket, stream)) if stream.phase == Phase::Open => {
                Ok(network.shown(socket, stream.remote))
            }
            Some(_) | None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn take_error(&mut self, source: Source) -> Option<io::Error> {
        let id = self.id(source).ok()?;
        self.network.borrow_mut().stream_mut(id)?.take_error().map(io::Error::from)
    }

    fn fd(&self, _source: Source) -> Option<BorrowedFd<'_>> {
        None
    }

    fn watch(&mut self, _: BorrowedFd<'_>, _: Interest, _: Token) -> io::Result<Source> {
        Err(no_descriptors())
    }

    fn rewatch(&mut self, _: Source, _: Interest, _: Token) -> io::Result<()> {
        Err(no_descriptors())
    }

    fn watch_signal(&mut self, signal: i32, token: Token) -> io::Result<Source> {
        if !can_be_caught(signal) {
            return Err(Errno::INVAL.into());
        }
        self.network.borrow_mut().check_descriptors(self.number)?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let kind = Kind::Signal { signal, has_come: false };
        Ok(self.open(nowhere, Family::V4, token, kind).1)
    }

    fn take_signal(&mut self, source: Source) -> bool {
        self.id(source).is_ok_and(|id| self.network.borrow_mut().take_signal(id))
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let network = &mut *self.network.borrow_mut();
        network.advance(network.now + network.options.turn_takes);
        let until = timeout.and_then(|timeout| network.now.checked_add(timeout));
        while !network.has_news(self.reactor) {
            match (network.next_arrival_at(), until) {
                (Some(at), until) if until.is_none_or(|until| at <= until) => network.advance(at),
                (_, Some(until)) => {
                    network.advance(until);
                    break;
                }
                (_, None) => return Err(io::Error::other("nothing will ever happen here again")),
            }
        }
        network.take_news(self.reactor, events);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWait)
    }

    fn is_single_threaded(&self) -> bool {
        true
    }

    fn has_events(&self) -> bool {
        self.network.borrow().has_news(self.reactor)
    }

    fn look_up(&mut self, name: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let found = self.network.borrow().names.get(name).cloned();
        Some(found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name")))
    }
}

fn no_descriptors() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a simulated world has no descriptors")
}
