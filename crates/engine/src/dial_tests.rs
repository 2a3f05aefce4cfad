//! Whole engines on networks that swallow what they do not like.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reactor::simulated::{Node, TraceKind, Turn, World, WorldOptions};
use reactor::{ConnectOptions, Handler, HandlerError, ListenOptions, Reactor, Read, Reason, Token};
use torrent::swarm::Source;
use torrent::wire::PeerFlags;

use crate::event::EventKind;
use crate::settings::SessionConfig;
use crate::simulation::{Machine, PORT, Payload, quiet};

/// What stands between two: it lets everything through but what begins as BitTorrent does, which gets no answer.
#[derive(Debug, Default)]
struct Wall {
    pipes: BTreeMap<Token, Token>,
}

#[derive(Debug)]
struct Pipe {
    /// Where it leads.
    to: SocketAddr,
}

impl Handler<Wall> for Pipe {
    fn readable(
        &mut self,
        token: Token,
        wall: &mut Wall,
        reactor: &mut Reactor<Wall>,
    ) -> Result<(), HandlerError> {
        let mut bytes = [0; 16 * 1024];
        let count = match reactor.read(token, &mut bytes)? {
            Read::Data(count) => count,
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                reactor.close(token, "the end");
                return Ok(());
            }
        };
        let other = match wall.pipes.get(&token) {
            Some(&other) => other,
            None if bytes[0] == 19 => {
                reactor.pause(token);
                return Ok(());
            }
            None => {
                let pipe = Box::new(Self { to: self.to });
                let other = reactor.connect(self.to, &ConnectOptions::default(), pipe)?;
                wall.pipes.extend([(token, other), (other, token)]);
                other
            }
        };
        reactor.write(other, Bytes::copy_from_slice(&bytes[..count]))?;
        Ok(())
    }

    fn closed(&mut self, token: Token, _: Reason, wall: &mut Wall, reactor: &mut Reactor<Wall>) {
        if let Some(other) = wall.pipes.remove(&token) {
            reactor.close_after_flush(other, Duration::from_secs(1));
        }
    }
}

/// Walls before the machines 1 to `count`, and where to knock.
fn walls(world: &World, count: u8) -> (Node<Wall>, Vec<SocketAddr>) {
    let addr = |number: u8| SocketAddr::from(([10, 0, 0, number], PORT));
    let mut node = Node::new(world.host(&[addr(99).ip()]), Wall::default());
    let doors = (1..=count).map(|number| {
        let door = SocketAddr::new(addr(99).ip(), 7000 + u16::from(number));
        let to = addr(number);
        let accept = move |_, connection, _: &mut Wall, reactor: &mut Reactor<Wall>| {
            reactor.attach(connection, Box::new(Pipe { to })).expect("there is room");
        };
        node.reactor.listen(door, &ListenOptions::default(), Box::new(accept)).expect("free");
        door
    });
    let doors = doors.collect();
    (node, doors)
}

/// Lets everyone go on until something is so. Returns when that was.
fn until(
    world: &World,
    machines: &mut [Machine],
    wall: Option<&mut Node<Wall>>,
    mut is_so: impl FnMut(&mut [Machine]) -> bool,
) -> Duration {
    let mut wall = wall;
    while !is_so(machines) {
        let mut turns: Vec<&mut dyn Turn> = Vec::new();
        for machine in machines.iter_mut() {
            turns.push(&mut machine.node);
        }
        if let Some(wall) = &mut wall {
            turns.push(*wall);
        }
        assert!(world.elapsed() < Duration::from_secs(300) && world.step(&mut turns));
    }
    world.elapsed()
}

/// So many that have everything, and one that wants it and knows nobody.
fn machines(world: &World, payload: &Payload, seeds: u8, config: &SessionConfig) -> Vec<Machine> {
    let mut machines: Vec<Machine> = (1..=seeds + 1)
        .map(|number| Machine::with_config(world, number, None, config.clone()))
        .collect();
    let leech = machines.pop().expect("the last");
    for machine in &mut machines {
        machine.add(&payload.metainfo, payload.dir.path(), &[]);
    }
    machines.push(leech);
    let leech = machines.last_mut().expect("the last");
    let dir = leech.dir.path().to_owned();
    leech.add(&payload.metainfo, &dir, &[]);
    machines
}

#[test]
fn what_a_network_swallows_is_hidden_after_seconds_and_soon_at_once() {
    let payload = Payload::new(300_000);
    let world = World::new(1, WorldOptions::default());
    let mut machines = machines(&world, &payload, 4, &quiet());
    let (mut wall, doors) = walls(&world, 4);
    let leech = machines.last_mut().expect("the last");
    let id = leech.task.expect("a torrent");
    leech.node.with(|engine, reactor| engine.add_addresses(id, &doors, Source::Manual, reactor));
    let took = until(&world, &mut machines, Some(&mut wall), |machines| machines[4].is_complete());
    assert!(took < Duration::from_secs(5), "{took:?}");
    until(&world, &mut machines, Some(&mut wall), |machines| {
        machines[4].node.state.lessons.is_plain_hopeless()
    });
}

#[test]
fn datagrams_that_are_swallowed_cost_seconds_and_leave_one_connection() {
    let payload = Payload::new(300_000);
    let options = WorldOptions { datagram_loss_share: 1.0, ..WorldOptions::default() };
    let world = World::new(2, options);
    let config = SessionConfig { utp: true, ..quiet() };
    let mut machines = machines(&world, &payload, 1, &config);
    let addr = SocketAddr::from(([10, 0, 0, 1], PORT));
    let id = machines[1].task.expect("a torrent");
    machines[1].node.with(|engine, reactor| {
        let task = engine.tasks.get_mut(&id).expect("there");
        task.swarm.known.add_exchanged(addr, PeerFlags::UTP);
        engine.dial(id, reactor);
    });
    let mut most = 0;
    let took = until(&world, &mut machines, None, |machines| {
        most = most.max(machines[0].node.state.connections.len());
        machines[1].is_complete()
    });
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(most, 1);
}

#[test]
fn a_peer_that_is_here_already_is_not_dialled_by_every_road() {
    let payload = Payload::new(3_000_000);
    let options = WorldOptions { bytes_per_second: Some(250_000), ..WorldOptions::default() };
    let world = World::new(3, options);
    let mut machines = machines(&world, &payload, 1, &quiet());
    let seed = SocketAddr::from(([10, 0, 0, 1], PORT));
    // Another way to the same.
    let door = SocketAddr::from(([10, 0, 0, 3], PORT));
    let mut wall = Node::new(world.host(&[door.ip()]), Wall::default());
    let open = move |_, connection, wall: &mut Wall, reactor: &mut Reactor<Wall>| {
        let here = reactor.attach(connection, Box::new(Pipe { to: seed })).expect("there is room");
        let pipe = Box::new(Pipe { to: seed });
        let there = reactor.connect(seed, &ConnectOptions::default(), pipe).expect("there is room");
        wall.pipes.extend([(here, there), (there, here)]);
    };
    wall.reactor.listen(door, &ListenOptions::default(), Box::new(open)).expect("free");
    let id = machines[1].task.expect("a torrent");
    for addrs in [[seed], [door]] {
        machines[1].node.with(|engine, reactor| {
            engine.add_addresses(id, &addrs, Source::Manual, reactor);
        });
        let end = world.elapsed() + Duration::from_secs(4);
        until(&world, &mut machines, Some(&mut wall), |_| world.elapsed() > end);
    }
    let trace = world.take_trace();
    let dials = trace.iter().filter(|entry| entry.kind == TraceKind::Accept && entry.to == door);
    assert_eq!(dials.count(), 1);
}

/// Lets everyone go on for so long.
fn run(world: &World, machines: &mut [Machine], seconds: u64) {
    let end = world.elapsed() + Duration::from_secs(seconds);
    until(world, machines, None, |_| world.elapsed() > end);
}

#[test]
fn a_peer_that_rests_in_the_middle_is_dialled_again_within_seconds() {
    let payload = Payload::new(3_000_000);
    let options = WorldOptions { bytes_per_second: Some(250_000), ..WorldOptions::default() };
    let world = World::new(4, options);
    // Without the resets that TCP has for what was not read.
    let config = SessionConfig { tcp: false, utp: true, ..quiet() };
    let mut machines = machines(&world, &payload, 1, &config);
    let seed = SocketAddr::from(([10, 0, 0, 1], PORT));
    let [rests, dials] = [0, 1].map(|at| machines[at].task.expect("a torrent"));
    machines[1].node.with(|engine, reactor| {
        engine.add_addresses(dials, &[seed], Source::Manual, reactor);
    });
    run(&world, &mut machines, 3);
    machines[0].node.with(|engine, reactor| engine.stop(rests, reactor));
    run(&world, &mut machines, 1);
    machines[0].node.with(|engine, reactor| engine.start(rests, reactor));
    // Twelve seconds' worth of data, and a wait.
    let took = until(&world, &mut machines, None, |machines| machines[1].is_complete());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn two_that_dialled_each_other_by_utp_at_once_do_not_dial_again_while_they_talk() {
    for seed in 0..3 {
        let payload = Payload::new(2_000_000);
        let options = WorldOptions { bytes_per_second: Some(25_000), ..WorldOptions::default() };
        let world = World::new(seed, options);
        let config = SessionConfig { tcp: false, utp: true, ..quiet() };
        let mut machines = machines(&world, &payload, 1, &config);
        for (at, other) in [(0, 2), (1, 1)] {
            let addr = SocketAddr::from(([10, 0, 0, other], PORT));
            let id = machines[at].task.expect("a torrent");
            machines[at].node.with(|engine, reactor| {
                engine.add_addresses(id, &[addr], Source::Manual, reactor);
            });
        }
        run(&world, &mut machines, 2);
        machines.iter().for_each(|machine| machine.heard().for_each(drop));
        run(&world, &mut machines, 68);
        assert!(!machines[1].is_complete());
        let ended = |kind: &EventKind| matches!(kind, EventKind::PeerDisconnected { .. });
        let again = machines.iter().flat_map(Machine::heard).find(ended);
        assert!(again.is_none(), "seed {seed}: {again:?}");
    }
}

#[test]
fn whoever_stops_and_starts_again_at_once_is_back_in_a_moment() {
    let payload = Payload::new(300_000);
    for millis in (0..200).step_by(7) {
        // The peer may hear of the new connection before it hears that the old one is over.
        let [latency, jitter] = if millis % 2 == 0 { [10, 2] } else { [1, 50] };
        let options = WorldOptions {
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(jitter),
            ..WorldOptions::default()
        };
        let world = World::new(millis, options);
        let mut machines = machines(&world, &payload, 1, &quiet());
        let addr = SocketAddr::from(([10, 0, 0, 1], PORT));
        let id = machines[1].task.expect("a torrent");
        machines[1].node.with(|engine, reactor| {
            engine.add_addresses(id, &[addr], Source::Manual, reactor);
        });
        let at = Duration::from_millis(millis);
        let at = until(&world, &mut machines, None, |_| world.elapsed() >= at);
        machines[1].node.with(|engine, reactor| {
            engine.stop(id, reactor);
            engine.start(id, reactor);
        });
        let took = until(&world, &mut machines, None, |machines| machines[1].is_complete()) - at;
        assert!(took < Duration::from_secs(3), "stopped at {at:?}: {took:?}");
    }
}
