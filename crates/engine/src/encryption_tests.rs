//! Whole engines that want their connections encrypted, or not, or do not mind.

use std::time::Duration;

use reactor::simulated::{Turn, World, WorldOptions};

use crate::encryption::Encryption;
use crate::settings::SessionConfig;
use crate::simulation::{Machine, Payload, quiet};

/// One that has everything, and one that wants it and knows where it is.
fn pair(world: &World, payload: &Payload, seed: Encryption, leech: Encryption) -> [Machine; 2] {
    let machine = |number, encryption| {
        let config = SessionConfig { encryption, ..quiet() };
        Machine::with_config(world, number, None, config)
    };
    let mut machines = [machine(1, seed), machine(2, leech)];
    machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
    let dir = machines[1].dir.path().to_owned();
    machines[1].add(&payload.metainfo, &dir, &[1]);
    machines
}

/// Lets everyone go on, until it is so or nothing will come of it. Returns whether it is.
fn until(
    world: &World,
    machines: &mut [Machine; 2],
    mut is_so: impl FnMut(&mut [Machine; 2]) -> bool,
) -> bool {
    let end = world.elapsed() + Duration::from_secs(600);
    while !is_so(machines) {
        let [one, two] = machines.each_mut();
        let mut turns: [&mut dyn Turn; 2] = [&mut one.node, &mut two.node];
        if world.elapsed() >= end || !world.step(&mut turns) {
            return false;
        }
    }
    true
}

/// Whether the connection that a machine has is encrypted; `None` if it has none.
fn is_encrypted(machine: &mut Machine) -> Option<bool> {
    let id = machine.task?;
    machine.node.with(move |engine, reactor| {
        let task = engine.tasks.get(&id)?;
        let (&key, _) = task.connections.first_key_value()?;
        task.swarm.peer_status(reactor.now(), key).map(|status| status.is_encrypted)
    })
}

#[test]
fn two_find_the_road_that_both_want_if_there_is_one() {
    use Encryption::{Allowed, Off, Preferred, Required};
    let (plain, hidden, none) = (Some(false), Some(true), None);
    let payload = Payload::new(100_000);
    for (dials, expected) in [
        (Off, [plain, plain, plain, none]),
        (Allowed, [plain, plain, plain, hidden]),
        (Preferred, [plain, hidden, hidden, hidden]),
        (Required, [none, hidden, hidden, hidden]),
    ] {
        for (listens, expected) in Encryption::ALL.into_iter().zip(expected) {
            let world = World::new(1, WorldOptions::default());
            let mut machines = pair(&world, &payload, listens, dials);
            let mut seen = [None; 2];
            let is_done = until(&world, &mut machines, |machines| {
                for (seen, machine) in seen.iter_mut().zip(machines.iter_mut()) {
                    *seen = seen.or(is_encrypted(machine));
                }
                machines[1].is_complete()
            });
            let case = format!("{dials} dials {listens}");
            assert_eq!(is_done, expected.is_some(), "{case}");
            assert_eq!(seen, [expected; 2], "{case}");
        }
    }
}

#[test]
fn what_a_bad_network_cuts_anywhere_is_understood() {
    let payload = Payload::new(300_000);
    for seed in 0..8 {
        let options =
            WorldOptions { reset_share: 0.003, partial_share: 0.7, ..WorldOptions::default() };
        let world = World::new(seed, options);
        let mut machines = pair(&world, &payload, Encryption::Required, Encryption::Required);
        assert!(until(&world, &mut machines, |all| all[1].is_complete()), "seed {seed}");
        let copy = std::fs::read(machines[1].dir.path().join("payload/a")).expect("there");
        let original = std::fs::read(payload.dir.path().join("payload/a")).expect("there");
        assert!(copy == original, "seed {seed}");
    }
}

#[test]
fn equal_seeds_give_equal_noise() {
    let payload = Payload::new(100_000);
    let play = |seed| {
        let world = World::new(seed, WorldOptions::default());
        let mut machines = pair(&world, &payload, Encryption::Required, Encryption::Preferred);
        assert!(until(&world, &mut machines, |all| all[1].is_complete()));
        (world.elapsed(), world.trace_digest())
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1).1, play(2).1);
}
