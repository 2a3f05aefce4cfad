//! One host of a world: what a reactor runs on.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;

use super::network::{Arrival, Network, Packet, Protocol};
use super::socket::{Kind, Phase, Socket, Stream, canonical};
use super::trace::TraceKind;
use crate::backend::{Backend, Event, Source, Wake};
use crate::{ConnectOptions, ListenOptions, Token};

/// A machine in a [`World`](super::World). It is also the loopback of itself: `127.0.0.1` and `::1`.
#[derive(Debug)]
pub struct Host {
    pub(super) network: Rc<RefCell<Network>>,
    pub(super) number: usize,
    /// Sockets by the numbers that the reactor knows them by. As descriptors, these are used again,
    /// while those of the network name one socket for ever.
    pub(super) handles: Vec<Option<u32>>,
}

/// Nobody waits in a simulation: whoever turns the reactors asks each for its next wake.
#[derive(Debug)]
struct NoWait;

impl Wake for NoWait {
    fn wake(&self) {}
}

impl Backend for Host {
    fn now(&self) -> Instant {
        self.network.borrow().instant()
    }

    fn random(&mut self) -> u64 {
        self.network.borrow_mut().hosts[self.number].chance.next()
    }

    fn connect(
        &mut self,
        addr: SocketAddr,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Source> {
        let network = Rc::clone(&self.network);
        let network = &mut *network.borrow_mut();
        let (to, host) = (canonical(addr), self.number);
        let ip = match options.bind {
            Some(ip) if ip.is_ipv6() != addr.is_ipv6() => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Some(ip) if !ip.is_unspecified() => ip,
            Some(_) | None => {
                network.source_ip(host, to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?
            }
        };
        let local = network.claim(host, Protocol::Tcp, canonical(SocketAddr::new(ip, 0)), true)?;
        let stream = Kind::Stream(Stream::new(Phase::Connecting, to, None));
        let from = network.add_socket(host, local, addr.is_ipv6(), Some(token), stream);
        network.bind(from, Protocol::Tcp);
        let to_host = network.find_host(to.ip(), host).unwrap_or(host);
        let at = network.departure(host, 0) + network.travel_time(host, to_host);
        network.plan(at, Arrival::Connect { from, to });
        Ok(self.keep(from))
    }

    fn finish_connect(&mut self, source: Source) -> io::Result<()> {
        match stream(&self.network.borrow(), self.id(source)?)?.phase {
            Phase::Connecting => Err(io::ErrorKind::WouldBlock.into()),
            Phase::Failed(kind) => Err(kind.into()),
            Phase::Reset { .. } => Err(io::ErrorKind::ConnectionReset.into()),
            Phase::Open => Ok(()),
        }
    }

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let backlog = usize::try_from(options.backlog).unwrap_or(0).max(1);
        let v6_only = options.v6_only;
        let kind = Kind::Listener { v6_only, waiting: Default::default(), backlog };
        self.open(Protocol::Tcp, addr, v6_only, token, kind)
    }

    fn accept(&mut self, listener: Source) -> io::Result<(Source, SocketAddr)> {
        let network = Rc::clone(&self.network);
        let network = &mut *network.borrow_mut();
        let socket = socket_mut(network, self.id(listener)?)?;
        let Kind::Listener { waiting, .. } = &mut socket.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some(id) = waiting.pop_front() else {
            socket.told.readable = false;
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let (socket, stream) = network.stream(id).ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((self.keep(id), socket.shown(stream.remote)))
    }

    fn register(&mut self, source: Source, token: Token) -> io::Result<()> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        socket_mut(network, id)?.token = Some(token);
        network.touch(id);
        Ok(())
    }

    fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let v6_only = options.v6_only;
        let kind = Kind::Datagrams { v6_only, received: Default::default(), received_len: 0 };
        self.open(Protocol::Udp, addr, v6_only, token, kind)
    }

    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        let room = slices.iter().map(|slice| slice.len()).sum();
        let len_max = network.perhaps_less(room);
        let socket = socket_mut(network, id)?;
        let Some(stream) = socket.stream_mut() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let count = stream.take(slices, len_max);
        if count == 0 && room > 0 {
            return match &mut stream.phase {
                Phase::Reset { is_told } if !*is_told => {
                    *is_told = true;
                    Err(io::ErrorKind::ConnectionReset.into())
                }
                Phase::Open if stream.has_end => Ok(0),
                Phase::Reset { .. } | Phase::Failed(_) => Ok(0),
                Phase::Open | Phase::Connecting => {
                    socket.told.readable = false;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        if count < room {
            socket.told.readable = false;
        }
        network.announce_room(id, count);
        network.touch(id);
        Ok(count)
    }

    fn write(&mut self, source: Source, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        let (buffer_len, segment_len_max) =
            (network.options.buffer_len, network.options.segment_len_max.max(1));
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let stream = stream(network, id)?;
        let room = match stream.phase {
            Phase::Connecting => 0,
            Phase::Open if !stream.is_finished => buffer_len.saturating_sub(stream.outstanding),
            Phase::Open | Phase::Failed(_) | Phase::Reset { .. } => {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        };
        if room == 0 && wanted > 0 {
            socket_mut(network, id)?.told.writable = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = network.perhaps_less(wanted.min(room));
        let mut data = gather(slices, count);
        while !data.is_empty() {
            let segment = data.split_to(segment_len_max.min(data.len()));
            network.send_to_peer(id, Packet::Data(segment));
        }
        let socket = socket_mut(network, id)?;
        if count < wanted {
            socket.told.writable = false;
        }
        if let Some(stream) = socket.stream_mut() {
            stream.outstanding += count;
        }
        network.touch(id);
        Ok(count)
    }

    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        let host = self.number;
        let socket = socket_mut(network, id)?;
        if socket.is_v6 != addr.is_ipv6() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if data.len() > DATAGRAM_LEN_MAX {
            return Err(Errno::MSGSIZE.into());
        }
        let (mut from, to) = (socket.local, canonical(addr));
        if from.ip().is_unspecified() {
            let ip = network.source_ip(host, to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?;
            from.set_ip(ip);
        }
        let options = network.options.clone();
        if network.chance.happens(options.datagram_loss_share) {
            network.note(TraceKind::Loss, from, to, data.len());
            return Ok(());
        }
        let copies = 1 + usize::from(network.chance.happens(options.datagram_duplicate_share));
        for _ in 0..copies {
            let at = network.datagram_arrival(host, to, data.len());
            let data = Bytes::copy_from_slice(data);
            network.plan(at, Arrival::Datagram { from_host: host, from, to, data });
        }
        Ok(())
    }

    fn receive_from(
        &mut self,
        source: Source,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr)> {
        let id = self.id(source)?;
        let network = &mut *self.network.borrow_mut();
        let socket = socket_mut(network, id)?;
        let Kind::Datagrams { received, received_len, .. } = &mut socket.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let Some((from, data)) = received.pop_front() else {
            socket.told.readable = false;
            return Err(io::ErrorKind::WouldBlock.into());
        };
        *received_len -= data.len();
        // What does not fit is lost, as the system does it.
        let len = data.len().min(buffer.len());
        buffer[..len].copy_from_slice(&data[..len]);
        Ok((len, socket.shown(from)))
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

    fn local_addr(&self, source: Source) -> io::Result<SocketAddr> {
        let network = self.network.borrow();
        let socket = network.sockets.get(&self.id(source)?).ok_or(io::ErrorKind::NotConnected)?;
        Ok(socket.shown(socket.local))
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let network = &mut *self.network.borrow_mut();
        network.advance(network.now + network.options.turn_takes);
        let until = timeout.map(|timeout| network.now + timeout);
        while !network.has_news(self.number) {
            match (network.next_arrival_at(), until) {
                (Some(at), until) if until.is_none_or(|until| at <= until) => network.advance(at),
                (_, Some(until)) => {
                    network.advance(until);
                    break;
                }
                (_, None) => return Err(io::Error::other("nothing will ever happen here again")),
            }
        }
        network.take_news(self.number, events);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(NoWait)
    }

    fn is_single_threaded(&self) -> bool {
        true
    }

    fn has_events(&self) -> bool {
        self.network.borrow().has_news(self.number)
    }

    fn look_up(&mut self, name: &str) -> Option<io::Result<Vec<IpAddr>>> {
        let found = self.network.borrow().names.get(name).cloned();
        Some(found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name")))
    }
}

impl Host {
    fn id(&self, source: Source) -> io::Result<u32> {
        let id = self.handles.get(source.0 as usize).copied().flatten();
        id.ok_or_else(|| io::ErrorKind::NotConnected.into())
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

    fn open(
        &mut self,
        protocol: Protocol,
        addr: SocketAddr,
        v6_only: bool,
        token: Token,
        kind: Kind,
    ) -> io::Result<Source> {
        let network = Rc::clone(&self.network);
        let network = &mut *network.borrow_mut();
        let local = network.claim(self.number, protocol, canonical(addr), v6_only)?;
        let id = network.add_socket(self.number, local, addr.is_ipv6(), Some(token), kind);
        network.bind(id, protocol);
        network.touch(id);
        Ok(self.keep(id))
    }
}

fn socket_mut(network: &mut Network, id: u32) -> io::Result<&mut Socket> {
    network.sockets.get_mut(&id).ok_or_else(|| io::ErrorKind::NotConnected.into())
}

fn stream(network: &Network, id: u32) -> io::Result<&Stream> {
    let found = network.stream(id).ok_or(io::ErrorKind::NotConnected)?;
    Ok(found.1)
}

fn gather(slices: &[IoSlice<'_>], len: usize) -> Bytes {
    let mut data = BytesMut::with_capacity(len);
    for slice in slices {
        let part = slice.len().min(len - data.len());
        data.extend_from_slice(&slice[..part]);
    }
    data.freeze()
}

const DATAGRAM_LEN_MAX: usize = 65_507;
