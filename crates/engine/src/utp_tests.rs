//! Whole engines that talk uTP, or TCP, or both.

use std::time::Duration;

use reactor::simulated::{Turn, World, WorldOptions};

use crate::encryption::Encryption;
use crate::settings::SessionConfig;
use crate::simulation::{Machine, Payload};

/// What a session may use: TCP, uTP.
type Roads = (bool, bool);

const TCP: Roads = (true, false);
const UTP: Roads = (false, true);
const BOTH: Roads = (true, true);

fn machine(world: &World, number: u8, (tcp, utp): Roads, encryption: Encryption) -> Machine {
    let config = SessionConfig { tcp, utp, encryption, ..SessionConfig::default() };
    Machine::with_config(world, number, None, config)
}

/// One that has everything, and one that wants it and knows where it is.
fn pair(payload: &Payload, seed: Machine, leech: Machine) -> [Machine; 2] {
    let mut machines = [seed, leech];
    machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
    let dir = machines[1].dir.path().to_owned();
    machines[1].add(&payload.metainfo, &dir, &[1]);
    machines
}

/// Lets everyone go on, until it is so or nothing will come of it. Returns whether it is.
fn until(
    world: &World,
    machines: &mut [Machine],
    mut is_so: impl FnMut(&mut [Machine]) -> bool,
) -> bool {
    let end = world.elapsed() + Duration::from_secs(600);
    while !is_so(machines) {
        let mut turns: Vec<&mut dyn Turn> = Vec::new();
        for machine in machines.iter_mut() {
            turns.push(&mut machine.node);
        }
        if world.elapsed() >= end || !world.step(&mut turns) {
            return false;
        }
    }
    true
}

/// Whether uTP carries the connection that a machine has, and whether it is encrypted; `None` if it has none.
fn road(machine: &mut Machine) -> Option<(bool, bool)> {
    let id = machine.task?;
    machine.node.with(move |engine, reactor| {
        let task = engine.tasks.get(&id)?;
        let (&key, _) = task.connections.first_key_value()?;
        let status = task.swarm.peer_status(reactor.now(), key)?;
        Some((status.is_utp, status.is_encrypted))
    })
}

#[test]
fn two_find_the_road_that_both_have_if_there_is_one() {
    let payload = Payload::new(200_000);
    for (seed, leech, expected) in [
        (UTP, UTP, Some(true)),
        (UTP, BOTH, Some(true)),
        (BOTH, UTP, Some(true)),
        (TCP, BOTH, Some(false)),
        // On a local network, as this one.
        (BOTH, BOTH, Some(false)),
        (TCP, UTP, None),
        (UTP, TCP, None),
    ] {
        let world = World::new(1, WorldOptions::default());
        let seed = machine(&world, 1, seed, Encryption::Off);
        let leech = machine(&world, 2, leech, Encryption::Off);
        let mut machines = pair(&payload, seed, leech);
        let mut found = None;
        let is_complete = until(&world, &mut machines, |machines| {
            found = found.or_else(|| road(&mut machines[1]).map(|(is_utp, _)| is_utp));
            machines[1].is_complete()
        });
        assert_eq!((found, is_complete), (expected, expected.is_some()));
    }
}

#[test]
fn utp_can_be_encrypted() {
    let payload = Payload::new(200_000);
    let world = World::new(2, WorldOptions::default());
    let seed = machine(&world, 1, UTP, Encryption::Allowed);
    let leech = machine(&world, 2, UTP, Encryption::Required);
    let mut machines = pair(&payload, seed, leech);
    let mut found = None;
    assert!(until(&world, &mut machines, |machines| {
        found = found.or_else(|| road(&mut machines[1]));
        machines[1].is_complete()
    }));
    assert_eq!(found, Some((true, true)));
}

#[test]
fn a_swarm_over_utp_ends_well_on_a_bad_network() {
    let payload = Payload::new(300_000);
    for seed in 0..5 {
        let options = WorldOptions { datagram_loss_share: 0.03, ..WorldOptions::default() };
        let world = World::new(seed, options);
        let mut machines: Vec<Machine> =
            (1..=4).map(|number| machine(&world, number, UTP, Encryption::Off)).collect();
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        for (at, peers) in [(1, &[1_u8, 3][..]), (2, &[1, 4]), (3, &[2])] {
            let dir = machines[at].dir.path().to_owned();
            machines[at].add(&payload.metainfo, &dir, peers);
        }
        let is_complete = |machines: &mut [Machine]| machines.iter().all(Machine::is_complete);
        assert!(until(&world, &mut machines, is_complete), "seed {seed}");
    }
}
