//! What the tests share: two machines, and calls of a backend in fewer words.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::time::Duration;

use reactor::simulated::{Host, World, WorldOptions};
use reactor::{Address, Backend, ConnectOptions, Event, ListenOptions, Source, Token};

pub(crate) const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
/// Longer than anything takes between two hosts.
pub(crate) const A_WHILE: Duration = Duration::from_millis(100);

pub(crate) fn token(number: u64) -> Token {
    Token::from_u64(number)
}

/// A world in which everything that was asked for is done in full.
pub(crate) fn tame(seed: u64) -> World {
    World::new(seed, WorldOptions { partial_share: 0.0, ..WorldOptions::default() })
}

pub(crate) fn hosts(world: &World) -> (Host, Host) {
    (world.host(&[HERE]), world.host(&[THERE]))
}

pub(crate) fn listen(host: &mut Host, addr: impl Into<Address>) -> Source {
    host.listen(&addr.into(), &ListenOptions::default(), token(LISTENER)).unwrap()
}

pub(crate) fn connect(host: &mut Host, addr: &Address) -> io::Result<Source> {
    host.connect(addr, &ConnectOptions::default(), token(CLIENT))
}

/// Takes the next connection, and has it report.
pub(crate) fn accept(host: &mut Host, listener: Source) -> io::Result<Source> {
    let (source, _) = host.accept(listener)?;
    host.register(source, token(SERVER)).unwrap();
    Ok(source)
}

/// A connection from here to there: the listener, and both ends.
pub(crate) fn pair(here: &mut Host, there: &mut Host) -> (Source, Source, Source) {
    let listener = listen(there, std::net::SocketAddr::from((THERE, 80)));
    let client = connect(here, &there.local_addr(listener).unwrap()).unwrap();
    pass(here, A_WHILE);
    pass(there, Duration::ZERO);
    here.finish_connect(client).unwrap();
    let server = accept(there, listener).unwrap();
    pass(there, Duration::ZERO);
    (listener, client, server)
}

/// Lets time pass. What is told to this reactor meanwhile, in order.
pub(crate) fn pass(host: &mut Host, time: Duration) -> Vec<Event> {
    let until = host.now() + time;
    let mut events = Vec::new();
    loop {
        host.wait(&mut events, Some(until.saturating_duration_since(host.now()))).unwrap();
        if host.now() >= until {
            return events;
        }
    }
}

pub(crate) fn write(host: &mut Host, source: Source, data: &[u8]) -> io::Result<usize> {
    host.write(source, &[IoSlice::new(data)], false)
}

/// Reads once.
pub(crate) fn read(host: &mut Host, source: Source) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 * 1024];
    let count = host.read(source, &mut [IoSliceMut::new(&mut buffer)])?;
    buffer.truncate(count);
    Ok(buffer)
}

/// Why a call failed, if it did.
pub(crate) fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

pub(crate) const LISTENER: u64 = 1;
pub(crate) const CLIENT: u64 = 2;
pub(crate) const SERVER: u64 = 3;
