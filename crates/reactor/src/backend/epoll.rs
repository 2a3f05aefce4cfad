//! The real world, on Linux: edge-triggered epoll.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Backend, Event, Source, Wake};
use crate::{ConnectOptions, ListenOptions, Token};

pub(crate) struct Epoll {
    epoll: OwnedFd,
    sockets: Vec<Option<Entry>>,
    free: Vec<u32>,
    ready: Vec<epoll::Event>,
    waker: Arc<EventFd>,
    /// Given up for a moment to accept, and so get rid of, a connection when there are no descriptors.
    reserve: Option<OwnedFd>,
}

#[derive(Debug)]
struct Entry {
    socket: Socket,
    /// What accepted connections get.
    accepts: Option<(bool, Option<String>)>,
}

#[derive(Debug)]
struct EventFd(OwnedFd);

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoll({} sockets)", self.sockets.len() - self.free.len())
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // It can only be full, and then the loop is awake anyway.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event_fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &event_fd, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            epoll,
            sockets: Vec::new(),
            free: Vec::new(),
            ready: Vec::with_capacity(EVENTS_MAX),
            waker: Arc::new(EventFd(event_fd)),
            reserve: reserve(),
        })
    }

    fn socket(&self, source: Source) -> io::Result<&Entry> {
        let entry = self.sockets.get(source.0 as usize).and_then(Option::as_ref);
        entry.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn fd(&self, source: Source) -> io::Result<BorrowedFd<'_>> {
        Ok(self.socket(source)?.socket.as_fd())
    }

    fn keep(&mut self, entry: Entry) -> Source {
        match self.free.pop() {
            Some(at) => {
                self.sockets[at as usize] = Some(entry);
                Source(at)
            }
            None => {
                self.sockets.push(Some(entry));
                Source(self.sockets.len() as u32 - 1)
            }
        }
    }

    /// Keeps a socket and has it report.
    fn open(
        &mut self,
        socket: Socket,
        accepts: Option<(bool, Option<String>)>,
        token: Token,
    ) -> io::Result<Source> {
        let source = self.keep(Entry { socket, accepts });
        if let Err(error) = self.register(source, token) {
            self.close(source);
            return Err(error);
        }
        Ok(source)
    }
}

impl Backend for Epoll {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random(&mut self) -> u64 {
        // The standard library seeds each of these from the system's source of randomness.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.sockets.len())
    }

    fn connect(
        &mut self,
        addr: SocketAddr,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Source> {
        let socket = new_socket(addr, Type::STREAM, Protocol::TCP)?;
        tune(&socket, options.nodelay, options.congestion.as_deref())?;
        if let Some(ip) = options.bind {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        match socket.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        self.open(socket, None, token)
    }

    fn finish_connect(&mut self, source: Source) -> io::Result<()> {
        let socket = &self.socket(source)?.socket;
        match socket.take_error()? {
            Some(error) => Err(error),
            // Writable without an address at the other end: it was hung up in between.
            None => socket.peer_addr().map(drop),
        }
    }

    fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let socket = new_socket(addr, Type::STREAM, Protocol::TCP)?;
        bind(&socket, addr, options)?;
        socket.listen(options.backlog)?;
        self.open(socket, Some((options.nodelay, options.congestion.clone())), token)
    }

    fn accept(&mut self, listener: Source) -> io::Result<(Source, SocketAddr)> {
        let entry = self.socket(listener)?;
        let (stream, addr) = match accept4(&entry.socket) {
            Err(error) if is_out_of_descriptors(&error) => {
                // Whoever waits is told at once, rather than left waiting.
                self.reserve = None;
                let turned_away = accept4(&self.socket(listener)?.socket);
                drop(turned_away);
                self.reserve = reserve();
                return Err(error);
            }
            other => other?,
        };
        let (nodelay, congestion) = entry.accepts.clone().unwrap_or_default();
        tune(&stream, nodelay, congestion.as_deref())?;
        let addr = addr.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((self.keep(Entry { socket: stream, accepts: None }), addr))
    }

    fn register(&mut self, source: Source, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, self.fd(source)?, EventData::new_u64(token.to_u64()), flags)?)
    }

    fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let socket = new_socket(addr, Type::DGRAM, Protocol::UDP)?;
        // Two programs that share a port by accident would each get half of the datagrams.
        bind(&socket, addr, &ListenOptions { reuse_addr: false, ..options.clone() })?;
        self.open(socket, None, token)
    }

    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let fd = self.fd(source)?;
        let result = match slices {
            [one] => retry(|| rustix::io::read(fd, &mut **one)),
            several => retry(|| rustix::io::readv(fd, several)),
        };
        Ok(result?)
    }

    fn write(&mut self, source: Source, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let fd = self.fd(source)?;
        Ok(retry(|| sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))?)
    }

    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        let fd = self.fd(source)?;
        retry(|| rustix::net::sendto(fd, data, SendFlags::NOSIGNAL, &addr))?;
        Ok(())
    }

    fn receive_from(
        &mut self,
        source: Source,
        buffer: &mut [u8],
    ) -> io::Result<(usize, SocketAddr)> {
        let fd = self.fd(source)?;
        let (len, _, addr) = retry(|| rustix::net::recvfrom(fd, &mut *buffer, RecvFlags::empty()))?;
        let addr = addr.and_then(|addr| SocketAddr::try_from(addr).ok());
        Ok((len, addr.ok_or(io::ErrorKind::AddrNotAvailable)?))
    }

    fn shutdown_write(&mut self, source: Source) {
        if let Ok(entry) = self.socket(source) {
            // It may be gone already, which is as good.
            entry.socket.shutdown(std::net::Shutdown::Write).ok();
        }
    }

    fn close(&mut self, source: Source) {
        // Closing the descriptor takes it out of epoll.
        if self.sockets.get_mut(source.0 as usize).and_then(Option::take).is_some() {
            self.free.push(source.0);
        }
    }

    fn local_addr(&self, source: Source) -> io::Result<SocketAddr> {
        let addr = self.socket(source)?.socket.local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        // A timer fires at or after its time: a wait that ended a little early would only spin.
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in self.ready.iter() {
            let (flags, data) = (event.flags, event.data.u64());
            if data == WAKER {
                let mut count = [0; 8];
                // Edge-triggered: reading it only keeps it from overflowing.
                rustix::io::read(&self.waker.0, &mut count).ok();
                continue;
            }
            events.push(Event {
                token: Token::from_u64(data),
                readable: flags.intersects(
                    EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR,
                ),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            });
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::<EventFd>::clone(&self.waker)
    }

    fn is_single_threaded(&self) -> bool {
        false
    }
}

fn new_socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    Socket::new(Domain::for_address(addr), kind.nonblocking().cloexec(), Some(protocol))
}

fn bind(socket: &Socket, addr: SocketAddr, options: &ListenOptions) -> io::Result<()> {
    if addr.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    if options.reuse_addr {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())
}

fn accept4(listener: &Socket) -> io::Result<(Socket, socket2::SockAddr)> {
    // Non-blocking and close-on-exec from birth where the system can: one call, not three.
    let (stream, addr) = listener.accept_raw()?;
    SockRef::from(&stream).set_nonblocking(true)?;
    SockRef::from(&stream).set_cloexec(true)?;
    Ok((stream, addr))
}

fn tune(socket: &Socket, nodelay: bool, congestion: Option<&str>) -> io::Result<()> {
    socket.set_tcp_nodelay(nodelay)?;
    if let Some(congestion) = congestion {
        rustix::net::sockopt::set_tcp_congestion(socket, congestion)?;
    }
    Ok(())
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn reserve() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

const EVENTS_MAX: usize = 1024;
/// No token: its generation would take years to reach.
const WAKER: u64 = u64::MAX;
