//! Whole engines whose only way to each other is the DHT, on networks that fail.

use std::net::IpAddr;
use std::time::Duration;

use reactor::simulated::{Turn, World, WorldOptions};

use super::DhtConfig;
use crate::port_mapper::{MappedPorts, MappingProtocol};
use crate::settings::SessionConfig;
use crate::simulation::{Machine, PORT, Payload, quiet};

const SECOND: Duration = Duration::from_secs(1);

fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

fn run_for(world: &World, machines: &mut [Machine], time: Duration) {
    let mut turns: Vec<&mut dyn Turn> = Vec::new();
    for machine in machines {
        turns.push(&mut machine.node);
    }
    world.run_for(&mut turns, time);
}

/// Lets everyone go on, for some minutes, until it is so. Returns how long that took.
fn until(world: &World, machines: &mut [Machine], is_so: impl Fn(&[Machine]) -> bool) -> Duration {
    let begun = world.elapsed();
    while !is_so(machines) {
        assert!(world.elapsed() < begun + SECOND * 1200, "it does not come to be");
        run_for(world, machines, SECOND / 500);
    }
    world.elapsed() - begun
}

/// Five that have found each other; all begin with the first.
fn network(world: &World) -> Vec<Machine> {
    let mut machines: Vec<Machine> = (1..=5).map(|n| Machine::with_dht(world, n)).collect();
    run_for(world, &mut machines, SECOND * 20);
    assert!(machines.iter().all(|machine| nodes(machine) == 4));
    machines
}

/// How many nodes it has heard of lately.
fn nodes(machine: &Machine) -> usize {
    let dht = machine.node.state.dht.as_ref().expect("on");
    dht.status(machine.node.reactor.now()).stats.good_nodes[0]
}

/// How many peers others have announced to these.
fn announced(machines: &[Machine]) -> usize {
    let peers = machines.iter().map(|machine| {
        let dht = machine.node.state.dht.as_ref().expect("on");
        dht.status(machine.node.reactor.now()).stats.peers
    });
    peers.sum()
}

fn add(machine: &mut Machine, payload: &Payload) {
    let dir = machine.dir.path().to_owned();
    machine.add(&payload.metainfo, &dir, &[]);
}

#[test]
fn a_torrent_that_is_stopped_while_it_is_searched_for_is_not_announced() {
    for is_removed in [false, true] {
        let payload = Payload::new(1000);
        let world = World::new(1, WorldOptions::default());
        let mut machines = network(&world);
        add(&mut machines[1], &payload);
        let is_searching = |machines: &[Machine]| {
            let dht = machines[1].node.state.dht.as_ref().expect("on");
            dht.torrents > 0
        };
        until(&world, &mut machines, is_searching);
        let id = machines[1].task.expect("added");
        machines[1].node.with(move |engine, reactor| {
            if is_removed { engine.remove(id, reactor) } else { engine.stop(id, reactor) }
        });
        run_for(&world, &mut machines, SECOND * 60);
        assert_eq!(announced(&machines), 0);
        assert!(!is_searching(&machines));
    }
}

#[test]
fn who_comes_back_from_an_outage_is_found_again_soon() {
    let payload = Payload::new(100_000);
    let world = World::new(2, WorldOptions::default());
    let mut machines = network(&world);
    machines[1].add(&payload.metainfo, payload.dir.path(), &[]);
    run_for(&world, &mut machines, SECOND * 60);
    assert!(announced(&machines) > 0);
    let others = [1, 3, 4, 5].map(ip);
    for other in others {
        world.cut(ip(2), other);
    }
    run_for(&world, &mut machines, SECOND * 3 * 3600);
    assert_eq!((nodes(&machines[1]), announced(&machines)), (0, 0), "it is forgotten");
    for other in others {
        world.mend(ip(2), other);
    }
    let took = until(&world, &mut machines, |machines| announced(machines) > 0);
    assert!(took < SECOND * 90, "{took:?}");
    add(&mut machines[2], &payload);
    let took = until(&world, &mut machines, |machines| machines[2].is_complete());
    assert!(took < SECOND * 60, "{took:?}");
}

#[test]
fn names_that_cannot_be_looked_up_are_tried_again() {
    let world = World::new(3, WorldOptions::default());
    let mut machines = vec![Machine::with_dht(&world, 1)];
    let boot = vec![format!("node.example:{PORT}")];
    let dht = DhtConfig { boot, ..DhtConfig::default() };
    let config = SessionConfig { dht, ..quiet() };
    machines.push(Machine::with_config(&world, 2, None, config));
    run_for(&world, &mut machines, SECOND * 3600);
    assert_eq!(nodes(&machines[1]), 0);
    world.set_name("node.example", &[ip(1)]);
    let took = until(&world, &mut machines, |machines| nodes(&machines[1]) == 1);
    assert!(took < SECOND * 150, "{took:?}");
}

#[test]
fn a_search_goes_on_when_nodes_vanish_in_its_midst() {
    let payload = Payload::new(100_000);
    let world = World::new(4, WorldOptions::default());
    let mut machines = network(&world);
    machines[1].add(&payload.metainfo, payload.dir.path(), &[]);
    run_for(&world, &mut machines, SECOND * 60);
    add(&mut machines[2], &payload);
    // Two of those who may know are gone from now on.
    for gone in [4, 5] {
        for other in [1, 2, 3] {
            world.cut(ip(gone), ip(other));
        }
    }
    let took = until(&world, &mut machines, |machines| machines[2].is_complete());
    assert!(took < SECOND * 60, "{took:?}");
}

#[test]
fn the_port_is_that_of_our_datagrams_unless_a_router_has_said_which() {
    let world = World::new(5, WorldOptions::default());
    let mut machine = Machine::with_dht(&world, 1);
    let announce = |machine: &Machine| {
        let announce = machine.node.state.dht_announce(true).expect("it listens");
        assert!(announce.is_seed);
        (announce.port, announce.is_port_implied)
    };
    assert_eq!(announce(&machine), (PORT, false), "without uTP it would tell nothing");
    machine.node.state.config.utp = true;
    assert_eq!(announce(&machine), (PORT, true));
    machine.node.state.nat.mapped[0] =
        Some(MappedPorts { by: MappingProtocol::Upnp, external_ip: None, tcp: 4001, udp: 4002 });
    assert_eq!(announce(&machine), (4001, false));
    let over_v6 = machine.node.state.dht_announce(true).and_then(|announce| announce.port_v6);
    assert_eq!(over_v6, Some(PORT));
}
