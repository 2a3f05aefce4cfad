//! Whole engines in a simulated world: a swarm whose every step follows from one number.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reactor::Reactor;
use reactor::simulated::{Node, World, WorldOptions};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Builder;

use crate::disk::hash_files;
use crate::engine::Engine;
use crate::settings::{AddOptions, ListenConfig, SessionConfig};
use crate::task::TaskId;

/// A torrent of two files and its data.
struct Payload {
    dir: TempDir,
    metainfo: Metainfo,
}

impl Payload {
    fn new(len: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("payload");
        std::fs::create_dir(&root).expect("made");
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
        std::fs::write(root.join("a"), &bytes).expect("written");
        std::fs::write(root.join("b"), &bytes[..1000]).expect("written");
        let files = vec![(vec![b"a".to_vec()], len as u64), (vec![b"b".to_vec()], 1000)];
        let builder = Builder {
            name: b"payload".to_vec(),
            files,
            piece_len: Some(64 * 1024),
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout().expect("a layout"));
        let hashes = hash_files(&layout, dir.path(), 1, &AtomicBool::new(false), |_| {});
        let torrent = builder.finish(&hashes.expect("hashed")).expect("a torrent");
        Self { dir, metainfo: Metainfo::parse(&torrent).expect("valid") }
    }
}

/// One machine with an engine on it.
struct Machine {
    node: Node<Engine>,
    dir: TempDir,
    task: Option<TaskId>,
}

impl Machine {
    fn new(world: &World, number: u8) -> Self {
        let ip = IpAddr::from([10, 0, 0, number]);
        let config = SessionConfig {
            listen: ListenConfig { ports: PORT..=PORT, bind: Some(ip) },
            ..SessionConfig::default()
        };
        let mut reactor = Reactor::simulated(world.host(&[ip]));
        let seed = reactor.random();
        let mut engine = Engine::new(config, None, reactor.now(), seed);
        engine.listen(&mut reactor).expect("a free port");
        engine.tick(&mut reactor);
        let node = Node::from_parts(reactor, engine);
        Self { node, dir: tempfile::tempdir().expect("a folder"), task: None }
    }

    fn add(&mut self, metainfo: &Metainfo, dir: &Path, peers: &[u8]) {
        let addr = |number: &u8| (IpAddr::from([10, 0, 0, *number]), PORT).into();
        let options = AddOptions {
            dir: dir.to_owned(),
            peers: peers.iter().map(addr).collect(),
            ..AddOptions::default()
        };
        let metainfo = metainfo.clone();
        let added = self.node.with(move |engine, reactor| engine.add(metainfo, options, reactor));
        self.task = added.map(|(id, _)| id);
    }

    fn is_complete(&self) -> bool {
        let task = self.task.and_then(|id| self.node.state.tasks.get(&id));
        task.is_some_and(|task| task.is_running() && task.swarm.is_completed())
    }
}

/// A seeder and three leechers that know one another. Returns what the world saw.
fn play(seed: u64, options: WorldOptions, payload: &Payload) -> (Duration, u64) {
    let world = World::new(seed, options);
    let mut machines: Vec<Machine> = (1..=4).map(|number| Machine::new(&world, number)).collect();
    machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
    for (at, peers) in [(1, &[1_u8, 3][..]), (2, &[1, 4]), (3, &[2])] {
        let dir = machines[at].dir.path().to_owned();
        machines[at].add(&payload.metainfo, &dir, peers);
    }
    while !machines.iter().all(Machine::is_complete) {
        assert!(world.elapsed() < VIRTUAL_PATIENCE, "seed {seed} does not end");
        let mut turns: Vec<&mut dyn reactor::simulated::Turn> = Vec::new();
        for machine in &mut machines {
            turns.push(&mut machine.node);
        }
        assert!(world.step(&mut turns), "seed {seed}: nothing can happen any more");
    }
    for machine in &machines[1..] {
        for name in ["a", "b"] {
            let copy = std::fs::read(machine.dir.path().join("payload").join(name)).expect("there");
            let original = std::fs::read(payload.dir.path().join("payload").join(name));
            assert!(copy == original.expect("there"), "seed {seed}: {name} differs");
        }
    }
    (world.elapsed(), world.trace_digest())
}

#[test]
fn equal_seeds_give_equal_traces() {
    let payload = Payload::new(700_000);
    let play = |seed| play(seed, WorldOptions::default(), &payload);
    assert_eq!(play(1), play(1));
    assert_ne!(play(1).1, play(2).1);
}

#[test]
fn a_swarm_ends_well_on_a_bad_network() {
    let payload = Payload::new(400_000);
    for seed in 0..10 {
        let options =
            WorldOptions { reset_share: 0.005, partial_share: 0.5, ..WorldOptions::default() };
        play(seed, options, &payload);
    }
}

const PORT: u16 = 6881;
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(3600);
