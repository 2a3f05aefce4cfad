//! The real backend against the real system.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::io::{FdFlags, fcntl_getfd};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::*;

#[path = "watch_tests.rs"]
mod watches;

/// A backend, and the events that nobody asked for yet.
struct World {
    epoll: Epoll,
    events: Vec<Event>,
}

impl World {
    fn new() -> Self {
        Self { epoll: Epoll::new().unwrap(), events: Vec::new() }
    }

    /// Waits until a source says something, which takes as long as it takes.
    fn event(&mut self, number: u64) -> Event {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.token == token(number)) {
                return self.events.remove(at);
            }
            self.epoll.wait(&mut self.events, None).unwrap();
        }
    }

    /// What can be told without waiting.
    fn has_event(&mut self, number: u64) -> bool {
        self.epoll.wait(&mut self.events, Some(Duration::ZERO)).unwrap();
        self.events.iter().any(|event| event.token == token(number))
    }

    fn listen(&mut self, addr: &Address, number: u64) -> io::Result<Source> {
        self.epoll.listen(addr, &ListenOptions::default(), token(number))
    }

    fn connect(&mut self, addr: &Address, number: u64) -> Source {
        self.epoll.connect(addr, &ConnectOptions::default(), token(number)).unwrap()
    }

    fn adopt(&mut self, fd: impl Into<OwnedFd>, number: u64) -> io::Result<Source> {
        self.epoll.adopt(RawSocket::Fd(fd.into()), token(number))
    }

    fn udp(&mut self, number: u64) -> (Source, SocketAddr) {
        let source = self.epoll.bind_udp(local(), &ListenOptions::default(), token(number));
        let source = source.unwrap();
        (source, self.epoll.local_addr(source).unwrap().socket_addr().unwrap())
    }

    fn write(&mut self, source: Source, bytes: &[u8]) -> usize {
        self.epoll.write(source, &[IoSlice::new(bytes)], false).unwrap()
    }

    fn read(&mut self, source: Source) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let count = self.epoll.read(source, &mut [IoSliceMut::new(&mut bytes)])?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Receives so many datagrams.
    fn receive(&mut self, source: Source, number: u64, count: usize) -> Vec<Vec<u8>> {
        let mut batch = DatagramBatch::default();
        let mut all = Vec::new();
        while all.len() < count {
            match self.epoll.receive(source, &mut batch) {
                Ok(()) => all.extend(batch.iter().map(|(_, bytes)| bytes.to_vec())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.event(number);
                }
                Err(error) => panic!("{error}"),
            }
        }
        all
    }
}

#[test]
fn a_unix_socket_carries_bytes_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let addr = Address::from(folder.path().join("socket"));
    let mut world = World::new();
    let door = world.listen(&addr, 1).unwrap();
    let client = world.connect(&addr, 2);
    world.epoll.finish_connect(client).unwrap();
    world.event(1);
    let (server, peer) = world.epoll.accept(door).unwrap();
    world.epoll.register(server, token(3)).unwrap();
    assert_eq!(peer, Address::Unix(None));
    assert_eq!(world.epoll.local_addr(server).unwrap(), addr);
    assert_eq!(world.epoll.peer_addr(client).unwrap(), addr);
    // Neither a cork nor a promise of more holds anything back here.
    world.epoll.set_cork(client, true);
    let slices = [IoSlice::new(b"hel"), IoSlice::new(b"lo")];
    assert_eq!(world.epoll.write(client, &slices, true).unwrap(), 5);
    while !world.event(3).readable {}
    assert_eq!(world.read(server).unwrap(), b"hello");
    world.write(server, b"back");
    assert_eq!(world.read(client).unwrap(), b"back");
    world.epoll.shutdown_write(client);
    while !world.event(3).ended {}
    assert_eq!(world.read(server).unwrap(), b"");
    assert!(world.epoll.take_error(server).is_none());
}

#[test]
fn a_path_that_nobody_listens_at_is_taken_over_and_removed_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let mut world = World::new();
    let door = world.listen(&path.clone().into(), 1).unwrap();
    let error = world.listen(&path.clone().into(), 2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists());
    world.epoll.close(door);
    assert!(!path.exists());
}

#[test]
fn what_is_not_the_listeners_own_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("file"), folder.path().join("socket"));
    fs::write(&file, "precious").unwrap();
    let mut world = World::new();
    let error = world.listen(&file.clone().into(), 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let door = world.listen(&path.clone().into(), 2).unwrap();
    fs::rename(&file, &path).unwrap();
    world.epoll.close(door);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_full_unix_backlog_refuses_and_addresses_without_a_place_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let addr = Address::from(folder.path().join("socket"));
    let mut world = World::new();
    let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
    world.epoll.listen(&addr, &options, token(1)).unwrap();
    let options = ConnectOptions::default();
    let error =
        (2..10).find_map(|number| world.epoll.connect(&addr, &options, token(number)).err());
    assert_eq!(error.unwrap().kind(), io::ErrorKind::ConnectionRefused);
    for addr in [Address::Pipe, Address::Unix(None)] {
        let error = world.epoll.connect(&addr, &options, token(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(world.listen(&addr, 21).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn without_descriptors_each_call_turns_one_away_and_with_them_all_is_well_again() {
    // The limit is one of the whole process, so this runs in a process of its own.
    if std::env::var_os("ALONE").is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", &name]).env("ALONE", "1").output().unwrap();
        return assert!(output.status.success(), "{output:?}");
    }
    let mut world = World::new();
    let door = world.listen(&local().into(), 1).unwrap();
    let addr = world.epoll.local_addr(door).unwrap().socket_addr().unwrap();
    let mut clients = [0; 3].map(|_| TcpStream::connect(addr).unwrap());
    let highest = File::open("/dev/null").unwrap().as_raw_fd();
    let limit = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(highest as u64), ..limit };
    setrlimit(Resource::Nofile, none_left).unwrap();
    for client in &mut clients {
        let error = world.epoll.accept(door).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(world.epoll.accept(door).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    setrlimit(Resource::Nofile, limit).unwrap();
    let client = TcpStream::connect(addr).unwrap();
    let (_, peer) = world.epoll.accept(door).unwrap();
    assert_eq!(peer, client.local_addr().unwrap().into());
}

#[test]
fn two_listeners_share_a_port_if_both_agree() {
    let mut world = World::new();
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = world.epoll.listen(&local().into(), &options, token(1)).unwrap();
    let addr = world.epoll.local_addr(first).unwrap();
    world.epoll.listen(&addr, &options, token(2)).unwrap();
    assert_eq!(world.listen(&addr, 3).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_detached_socket_keeps_what_was_not_read() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut world = World::new();
    let source = world.adopt(theirs, 1).unwrap();
    ours.write_all(b"unread").unwrap();
    let socket = world.epoll.detach(source).unwrap();
    assert!(world.epoll.fd(source).is_none());
    ours.write_all(b", and more").unwrap();
    assert!(!world.has_event(1), "it is known here no longer");
    let source = world.epoll.adopt(socket, token(2)).unwrap();
    assert!(world.event(2).readable);
    assert_eq!(world.read(source).unwrap(), b"unread, and more");
}

#[test]
fn pipes_are_streams_and_files_are_not() {
    let mut world = World::new();
    let (reader, writer) = io::pipe().unwrap();
    let (reader, writer) = (world.adopt(reader, 1).unwrap(), world.adopt(writer, 2).unwrap());
    world.write(writer, b"through");
    world.epoll.set_cork(writer, true);
    while !world.event(1).readable {}
    assert_eq!(world.read(reader).unwrap(), b"through");
    assert_eq!(world.read(reader).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    world.epoll.close(writer);
    assert!(world.event(1).hung_up);
    assert_eq!(world.read(reader).unwrap(), b"");
    let error = world.adopt(tempfile::tempfile().unwrap(), 3).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("always ready"));
}

#[test]
fn a_file_goes_out_from_any_offset_to_its_end() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number / 7) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let received = std::thread::spawn(move || {
        let mut received = Vec::new();
        ours.read_to_end(&mut received).unwrap();
        received
    });
    let mut world = World::new();
    let source = world.adopt(theirs, 1).unwrap();
    let mut offset = 10;
    loop {
        match world.epoll.send_file(source, &file, offset, 400_000) {
            Ok(0) => break,
            Ok(count) => offset += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                while !world.event(1).writable {}
            }
            Err(error) => panic!("{error}"),
        }
    }
    world.epoll.close(source);
    assert!(received.join().unwrap() == bytes[10..]);
}

#[test]
fn a_cork_is_set_and_pulled() {
    let mut world = World::new();
    let door = world.listen(&local().into(), 1).unwrap();
    let addr = world.epoll.local_addr(door).unwrap();
    let client = world.connect(&addr, 2);
    for is_corked in [true, false] {
        world.epoll.set_cork(client, is_corked);
        let fd = world.epoll.fd(client).unwrap();
        assert_eq!(rustix::net::sockopt::tcp_cork(fd).unwrap(), is_corked);
    }
}

#[test]
fn a_thousand_datagrams_come_in_order() {
    let mut world = World::new();
    let ((sender, _), (receiver, addr)) = (world.udp(1), world.udp(2));
    let all: Vec<Vec<u8>> = (0..1000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    // As many at once as surely fit into the receiver's buffer.
    for some in all.chunks(100) {
        let datagrams: Vec<_> = some.iter().map(|bytes| (addr, bytes.as_slice())).collect();
        assert_eq!(world.epoll.send_many(sender, &datagrams).unwrap(), 100);
        assert_eq!(world.receive(receiver, 2, 100), some);
    }
    let mut batch = DatagramBatch::default();
    let error = world.epoll.receive(receiver, &mut batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn segments_arrive_as_datagrams_with_their_boundaries() {
    let mut world = World::new();
    let ((sender, _), (receiver, addr)) = (world.udp(1), world.udp(2));
    let data: Vec<u8> = (0..70_500_u32).map(|number| (number / 1000) as u8).collect();
    assert_eq!(world.epoll.send_segments(sender, addr, &data, 1000).unwrap(), data.len());
    let expected: Vec<_> = data.chunks(1000).collect();
    assert_eq!(world.receive(receiver, 2, 71), expected);
    // Merged and single ones, one after another: the room for what the kernel says is not used up.
    for _ in 0..3 {
        world.epoll.send_to(sender, addr, b"single").unwrap();
        assert_eq!(world.receive(receiver, 2, 1), [b"single"]);
        world.epoll.send_segments(sender, addr, b"aabbc", 2).unwrap();
        assert_eq!(world.receive(receiver, 2, 3), [b"aa".as_slice(), b"bb", b"c"]);
    }
    // An empty datagram is one too.
    world.epoll.send_to(sender, addr, b"").unwrap();
    assert_eq!(world.receive(receiver, 2, 1), [b""]);
    let error = world.epoll.send_segments(sender, addr, &data, 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_datagram_that_met_a_closed_port_is_told_once_and_costs_no_other() {
    let mut world = World::new();
    let (source, addr) = world.udp(1);
    let peer = UdpSocket::bind(local()).unwrap();
    // Only a connected socket hears of closed ports.
    rustix::net::connect(world.epoll.fd(source).unwrap(), &peer.local_addr().unwrap()).unwrap();
    peer.send_to(b"before", addr).unwrap();
    let peer_addr = peer.local_addr().unwrap();
    drop(peer);
    world.epoll.send_to(source, peer_addr, b"to nobody").unwrap();
    while !world.event(1).hung_up {}
    let mut batch = DatagramBatch::default();
    let error = world.epoll.receive(source, &mut batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(world.receive(source, 1, 1), [b"before"]);
}

#[test]
fn no_program_that_is_started_inherits_a_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let path = Address::from(folder.path().join("socket"));
    let door = world.listen(&path, 1).unwrap();
    let client = world.connect(&path, 2);
    let (server, _) = world.epoll.accept(door).unwrap();
    let (udp, _) = world.udp(3);
    let (reader, _writer) = io::pipe().unwrap();
    let watch = world.epoll.watch(reader.as_fd(), Interest::Readable, token(4)).unwrap();
    let signal = world.epoll.watch_signal(Signal::USR2.as_raw(), token(5)).unwrap();
    let sources = [door, client, server, udp, watch, signal];
    let mut all: Vec<_> = sources.iter().map(|source| world.epoll.fd(*source).unwrap()).collect();
    all.push(world.epoll.epoll.as_fd());
    all.push(world.epoll.waker.0.as_fd());
    all.push(world.epoll.reserve.as_ref().unwrap().as_fd());
    for fd in all {
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
}

fn token(number: u64) -> Token {
    Token::from_u64(number)
}

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
