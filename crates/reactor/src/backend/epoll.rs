//! The real world, on Linux: edge-triggered epoll.
//!
//! `streams`, `datagrams`, `signals` and `watched` open what there is to wait for; `entries` gives it a
//! number; here it is waited for, read and written.
//!
//! A write to a socket whose peer is gone raises no `SIGPIPE`. One to a pipe, or from a file, cannot be
//! told not to; a program whose `main` is Rust's ignores that signal from its start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use socket2::SockRef;

use super::datagrams::{DatagramSocket, Headers};
use super::entries::{Entries, Entry, Stream};
use super::signals::SignalSocket;
use super::streams::{self, Listener, invalid};
use super::waiting;
use super::watched::{self, Watched};
use super::{Backend, DatagramBatch, Event, RawSocket, Source, Wake};
use crate::{Address, ConnectOptions, Interest, Interface, ListenOptions, Token, multicast};

pub(crate) struct Epoll {
    epoll: OwnedFd,
    entries: Entries,
    ready: Vec<epoll::Event>,
    /// The watched descriptors, by token: their events must be remembered.
    watched: BTreeMap<Token, Source>,
    headers: Headers,
    waker: Arc<EventFd>,
    /// Given up for a moment to accept, and so get rid of, a connection when there are no descriptors.
    reserve: Option<OwnedFd>,
}

#[derive(Debug)]
struct EventFd(OwnedFd);

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoll({} sources)", self.entries.len())
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
            entries: Entries::default(),
            ready: Vec::with_capacity(EVENTS_MAX),
            watched: BTreeMap::new(),
            headers: Headers::default(),
            waker: Arc::new(EventFd(event_fd)),
            reserve: reserve(),
        })
    }

    /// Keeps what was opened and has it report.
    fn open(&mut self, entry: Entry, token: Token, flags: EventFlags) -> io::Result<Source> {
        self.add(&entry, token, flags)?;
        Ok(self.entries.keep(entry))
    }

    fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> io::Result<()> {
        match epoll::add(&self.epoll, fd, EventData::new_u64(token.to_u64()), flags) {
            Err(Errno::PERM) => Err(invalid(
                "a regular file or folder is always ready: read it with read_at or offload",
            )),
            result => Ok(result?),
        }
    }

    /// Takes out of epoll what closing alone may leave there: a file that others have open too.
    fn forget(&self, fd: impl AsFd) {
        epoll::delete(&self.epoll, fd).ok();
    }
}

impl Backend for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn random(&mut self) -> u64 {
        // The standard library seeds each of these from the system's source of randomness.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.entries.len())
    }

    fn connect(
        &mut self,
        addr: &Address,
        options: &ConnectOptions,
        token: Token,
    ) -> io::Result<Source> {
        let fd = streams::connect(addr, options)?;
        self.open(Entry::Stream(Stream::new(fd)), token, EDGES)
    }

    fn finish_connect(&mut self, source: Source) -> io::Result<()> {
        let socket = SockRef::from(&self.entries.stream(source)?.fd);
        match socket.take_error()? {
            Some(error) => Err(error),
            // Writable without an address at the other end: it was hung up in between.
            None => socket.peer_addr().map(drop),
        }
    }

    fn listen(
        &mut self,
        addr: &Address,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        let listener = Listener::open(addr, options)?;
        self.open(Entry::Listener(Box::new(listener)), token, EDGES)
    }

    fn accept(&mut self, listener: Source) -> io::Result<(Source, Address)> {
        let listener = self.entries.listener(listener)?;
        let mut result = listener.accept();
        if result.as_ref().is_err_and(is_out_of_descriptors) && self.reserve.take().is_some() {
            // Whoever waits longest is told at once, rather than left waiting. One a call: the loop
            // backs off after an error, and those behind may find room then.
            match listener.accept() {
                // The system asks for a descriptor before it looks whether anybody waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => result = Err(error),
                turned_away => drop(turned_away),
            }
        }
        // Another thread may have been faster to take the place.
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        let (fd, addr) = result?;
        Ok((self.entries.keep(Entry::Stream(Stream::new(fd))), addr))
    }

    fn register(&mut self, source: Source, token: Token) -> io::Result<()> {
        self.add(self.entries.any(source)?, token, EDGES)
    }

    fn adopt(&mut self, socket: RawSocket, token: Token) -> io::Result<Source> {
        let RawSocket::Fd(fd) = socket else {
            return Err(invalid("a socket of a simulated world cannot be used in the real one"));
        };
        rustix::io::ioctl_fionbio(&fd, true)?;
        let is_socket = rustix::net::sockopt::socket_type(&fd).is_ok();
        self.open(Entry::Stream(Stream { fd, is_socket, is_adopted: true }), token, EDGES)
    }

    fn detach(&mut self, source: Source) -> io::Result<RawSocket> {
        self.entries.stream(source)?;
        let Some(Entry::Stream(stream)) = self.entries.take(source) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        self.forget(&stream.fd);
        Ok(RawSocket::Fd(stream.fd))
    }

    fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<Source> {
        self.open(Entry::Datagrams(DatagramSocket::bind(addr, options)?), token, EDGES)
    }

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        multicast::interfaces()
    }

    fn read(&mut self, source: Source, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let fd = &self.entries.stream(source)?.fd;
        let result = match slices {
            [one] => retry(|| rustix::io::read(fd, &mut **one)),
            several => retry(|| rustix::io::readv(fd, several)),
        };
        Ok(result?)
    }

    fn write(&mut self, source: Source, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let stream = self.entries.stream(source)?;
        let fd = &stream.fd;
        if !stream.is_socket {
            return Ok(retry(|| rustix::io::writev(fd, slices))?);
        }
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        let flags = SendFlags::NOSIGNAL | more;
        let result = match slices {
            [one] => retry(|| rustix::net::send(fd, one, flags)),
            several => retry(|| sendmsg(fd, several, &mut SendAncillaryBuffer::default(), flags)),
        };
        Ok(result?)
    }

    fn send_file(
        &mut self,
        source: Source,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let fd = &self.entries.stream(source)?.fd;
        let mut offset = offset;
        Ok(retry(|| rustix::fs::sendfile(fd, file, Some(&mut offset), len))?)
    }

    fn set_cork(&mut self, source: Source, is_corked: bool) {
        if let Ok(stream) = self.entries.stream(source) {
            // Unix sockets, pipes and the like have none, and need none.
            rustix::net::sockopt::set_tcp_cork(&stream.fd, is_corked).ok();
        }
    }

    fn send_to(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.entries.datagrams(source)?.send_to(addr, data)
    }

    fn send_whole(&mut self, source: Source, addr: SocketAddr, data: &[u8]) -> io::Result<()> {
        self.entries.datagrams(source)?.send_whole(addr, data)
    }

    fn send_segments(
        &mut self,
        source: Source,
        addr: SocketAddr,
        data: &[u8],
        segment_len: usize,
    ) -> io::Result<usize> {
        self.entries.datagrams(source)?.send_segments(addr, data, segment_len)
    }

    fn send_many(
        &mut self,
        source: Source,
        datagrams: &[(SocketAddr, &[u8])],
    ) -> io::Result<usize> {
        self.entries.datagrams(source)?.send_many(datagrams)
    }

    fn receive(&mut self, source: Source, batch: &mut DatagramBatch) -> io::Result<()> {
        self.entries.datagrams(source)?.receive(&mut self.headers, batch)
    }

    fn shutdown_write(&mut self, source: Source) {
        if let Ok(stream) = self.entries.stream(source) {
            // It may be gone already, which is as good.
            rustix::net::shutdown(&stream.fd, rustix::net::Shutdown::Write).ok();
        }
    }

    fn close(&mut self, source: Source) {
        // Closing the descriptor takes it out of epoll, unless there are duplicates.
        match self.entries.take(source) {
            Some(Entry::Watched(watched)) => {
                self.watched.remove(&watched.token);
                self.forget(&*watched);
            }
            Some(Entry::Stream(Stream { fd, is_adopted: true, .. })) => self.forget(fd),
            _ => {}
        }
    }

    fn local_addr(&self, source: Source) -> io::Result<Address> {
        streams::local_addr(self.entries.any(source)?)
    }

    fn peer_addr(&self, source: Source) -> io::Result<Address> {
        streams::peer_addr(self.entries.any(source)?)
    }

    fn take_error(&mut self, source: Source) -> Option<io::Error> {
        SockRef::from(self.entries.any(source).ok()?).take_error().ok()?
    }

    fn fd(&self, source: Source) -> Option<BorrowedFd<'_>> {
        Some(self.entries.any(source).ok()?.as_fd())
    }

    fn watch(
        &mut self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        token: Token,
    ) -> io::Result<Source> {
        let entry = Entry::Watched(Box::new(Watched::new(fd, token)?));
        let source = self.open(entry, token, watched::flags(interest))?;
        self.watched.insert(token, source);
        Ok(source)
    }

    fn rewatch(&mut self, source: Source, interest: Interest, token: Token) -> io::Result<()> {
        let watched = self.entries.watched(source)?;
        let known = std::mem::replace(&mut watched.token, token);
        let flags = watched.next_flags(interest)?;
        if known != token {
            self.watched.remove(&known);
            self.watched.insert(token, source);
        }
        if let Some(flags) = flags {
            let data = EventData::new_u64(token.to_u64());
            epoll::modify(&self.epoll, self.entries.any(source)?, data, flags)?;
        }
        Ok(())
    }

    fn watch_signal(&mut self, signal: i32, token: Token) -> io::Result<Source> {
        let entry = Entry::Signal(Box::new(SignalSocket::open(signal)?));
        self.open(entry, token, EventFlags::IN | EventFlags::ET)
    }

    fn take_signal(&mut self, source: Source) -> bool {
        matches!(self.entries.any(source), Ok(Entry::Signal(signal)) if signal.take())
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        waiting::wait(&self.epoll, &mut self.ready, timeout)?;
        for event in self.ready.iter() {
            let (flags, data) = (event.flags, event.data.u64());
            if data == WAKER {
                let mut count = [0; 8];
                // Edge-triggered: reading it only keeps it from overflowing.
                rustix::io::read(&self.waker.0, &mut count).ok();
                continue;
            }
            let token = Token::from_u64(data);
            if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
                && let Some(source) = self.watched.get(&token)
                && let Ok(watched) = self.entries.watched(*source)
            {
                watched.has_told_end = true;
            }
            events.push(Event {
                token,
                readable: flags.intersects(
                    EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR,
                ),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                ended: flags.intersects(
                    EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR | EventFlags::PRI,
                ),
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

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn reserve() -> Option<OwnedFd> {
    File::open("/dev/null").ok().map(OwnedFd::from)
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// With urgent data, since a read stops short of it, whatever follows.
const EDGES: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);
const EVENTS_MAX: usize = 1024;
/// No token: its generation would take years to reach.
const WAKER: u64 = u64::MAX;

#[cfg(test)]
#[path = "epoll_tests.rs"]
mod tests;
