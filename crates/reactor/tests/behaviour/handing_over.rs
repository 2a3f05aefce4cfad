//! Connections that change hands: to another loop, to nobody's, and back.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{Accepted, ConnectOptions, ListenOptions, RawSocket, Reactor, Remote};

use crate::parts::{HERE, THERE, pair};
use crate::stage::{Door, Script, everywhere, noise, read, script, turn_for, turn_until};

/// What a connection has brought to its second owner.
#[derive(Default)]
struct Heir {
    received: Vec<u8>,
    has_ended: bool,
}

const ANSWER_LEN: usize = 5_000_000;

/// Hands each connection over to the heir when its first byte has come: with some bytes put back, and an
/// answer queued that no buffer holds.
fn first_owner(heir: Remote<Heir>) -> Door<impl FnMut(Accepted, &mut (), &mut Reactor<()>)> {
    Door(move |accepted, (): &mut (), reactor: &mut Reactor<()>| {
        let heir = heir.clone();
        let server = script().readable(move |token, (), reactor| {
            let mut first = [0];
            if reactor.read(token, &mut first)? == reactor::Read::Data(0) {
                return Ok(());
            }
            reactor.unread(token, first.to_vec())?;
            reactor.write(token, noise(ANSWER_LEN))?;
            reactor.kick(token)?;
            let taken = reactor.take(token)?;
            assert!(taken.handler.is_none(), "it is being called");
            assert!(reactor.write(token, "to nobody").is_err());
            let connection = taken.connection;
            heir.post(move |_, reactor| {
                let token = reactor.adopt(connection, second_owner().boxed()).unwrap();
                reactor.write(token, "and goodbye").unwrap();
                reactor.close_after_flush(token, Duration::from_secs(30));
            })?;
            Ok(())
        });
        reactor.attach(accepted, server.boxed()).unwrap();
    })
}

fn second_owner() -> Script<Heir> {
    script()
        .readable(|token, heir: &mut Heir, reactor| {
            heir.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, heir, reactor| {
            assert_eq!(reason.to_string(), "flushed");
            heir.has_ended = true;
            reactor.stop();
        })
}

fn expected() -> Vec<u8> {
    [noise(ANSWER_LEN).as_slice(), b"and goodbye"].concat()
}

#[test]
fn a_connection_goes_to_another_thread_with_all_that_is_its_own() {
    let mut heir: Reactor<Heir> = Reactor::new().unwrap();
    let remote = heir.remote();
    let (sender, receiver) = std::sync::mpsc::channel();
    let first = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let door = Box::new(first_owner(remote));
        let listener = reactor.listen(any, &ListenOptions::default(), door).unwrap();
        sender.send((reactor.local_addr(listener).unwrap(), reactor.remote())).unwrap();
        reactor.run(&mut ()).unwrap();
        assert_eq!(reactor.len(), 1, "only the listener is left");
    });
    let (addr, first_remote) = receiver.recv().unwrap();
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(&noise(10_000)).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let mut state = Heir::default();
    heir.run(&mut state).unwrap();
    assert!(client.join().unwrap() == expected());
    // What it had no time to hear of before it said goodbye is no loss.
    assert!(noise(10_000).starts_with(&state.received) && state.has_ended);
    first_remote.stop();
    first.join().unwrap();
}

#[test]
fn a_connection_goes_to_another_loop_of_its_simulated_host() {
    for seed in 0..10 {
        let options = WorldOptions { partial_share: 0.5, ..WorldOptions::default() };
        let world = World::new(seed, options);
        let mut here = Node::new(world.host(&[HERE]), Vec::new());
        let mut there = Node::new(world.host(&[THERE]), ());
        let mut heir = Node::new(world.reactor_on(THERE), Heir::default());
        let door = Box::new(first_owner(heir.reactor.remote()));
        let addr = SocketAddr::from((THERE, 80));
        there.reactor.listen(addr, &ListenOptions::default(), door).unwrap();
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, noise(10_000))?;
                Ok(())
            })
            .readable(|token, answer: &mut Vec<u8>, reactor| {
                answer.extend(read(token, reactor)?);
                Ok(())
            });
        here.reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        world.run_for(&mut [&mut here, &mut there, &mut heir], Duration::from_secs(60));
        assert!(here.state == expected(), "{}", here.state.len());
        assert!(noise(10_000).starts_with(&heir.state.received) && heir.state.has_ended);
        assert_eq!((there.reactor.len(), heir.reactor.len()), (1, 0));
    }
}

#[test]
fn one_that_is_taken_out_and_put_back_is_another_with_the_same_bytes() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let collector = || {
            script().readable(|token, received: &mut Vec<u8>, reactor| {
                received.extend(read(token, reactor)?);
                Ok(())
            })
        };
        let mut received = Vec::new();
        let nothing = || script().closed(|_, reason, _, _| panic!("{reason}")).boxed();
        let (mut here, mut there) =
            pair(&mut reactor, &mut received, ip, nothing(), collector().boxed());
        let all = noise(3_000_000);
        for part in all.chunks(300_000) {
            reactor.write(here, part.to_vec()).unwrap();
            for (token, collects) in [(&mut here, false), (&mut there, true)] {
                turn_for(&mut reactor, &mut received, Duration::from_micros(100));
                let taken = reactor.take(*token).unwrap();
                assert!(taken.handler.is_some());
                assert_eq!(
                    reactor.take(*token).unwrap_err().kind(),
                    std::io::ErrorKind::NotConnected
                );
                let handler = if collects { collector().boxed() } else { nothing() };
                let new = reactor.adopt(taken.connection, handler).unwrap();
                assert_ne!(*token, new);
                // The old name is nobody's.
                reactor.close(*token, "stale");
                *token = new;
            }
        }
        turn_until(&mut reactor, &mut received, |received| received.len() >= 3_000_000);
        assert!(received == all);
        assert_eq!(reactor.len(), 2);
    });
}

#[test]
fn a_socket_that_was_taken_out_serves_whoever_has_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut reactor: Reactor<bool> = Reactor::new().unwrap();
    let client = script().connected(|_, is_connected: &mut bool, _| {
        *is_connected = true;
        Ok(())
    });
    let addr = listener.local_addr().unwrap();
    let token = reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    turn_until(&mut reactor, &mut false, |is_connected| *is_connected);
    let RawSocket::Fd(socket) = reactor.take(token).unwrap().connection.socket else {
        panic!("this world is real");
    };
    drop(reactor);
    let mut socket = TcpStream::from(socket);
    socket.set_nonblocking(false).unwrap();
    socket.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    peer.read_exact(&mut bytes).unwrap();
    peer.write_all(b"pong").unwrap();
    socket.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"pong");
}
