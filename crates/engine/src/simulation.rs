//! Whole engines in a simulated world: a swarm whose every step follows from one number.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reactor::Reactor;
use reactor::simulated::{Node, World, WorldOptions};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Builder;
use torrent::{Bitfield, PieceIndex};

use crate::disk::hash_files;
use crate::engine::Engine;
use crate::restore;
use crate::resume::ResumeRecord;
use crate::settings::{AddOptions, CheckOptions, ListenConfig, SessionConfig};
use crate::store::ResumeStore;
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
        Self::with_store(world, number, None)
    }

    /// One that remembers its torrents, if it has somewhere to.
    fn with_store(world: &World, number: u8, store: Option<Arc<ResumeStore>>) -> Self {
        let ip = IpAddr::from([10, 0, 0, number]);
        let config = SessionConfig {
            listen: ListenConfig { ports: vec![PORT..=PORT], bind: Some(ip) },
            restore: store.is_some(),
            ..SessionConfig::default()
        };
        let mut reactor = Reactor::simulated(world.host(&[ip]));
        let seed = reactor.random();
        let mut engine = Engine::new(config, store, reactor.now(), seed);
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

/// A torrent of one byte that nobody has.
fn wanted_by_nobody(number: u32) -> Metainfo {
    let builder = Builder {
        name: number.to_string().into_bytes(),
        files: vec![(Vec::new(), 1)],
        ..Builder::default()
    };
    Metainfo::parse(&builder.finish(&[[0; 20]]).expect("a torrent")).expect("valid")
}

#[test]
fn torrents_are_looked_at_only_while_something_happens_to_them() {
    let payload = Payload::new(300_000);
    let world = World::new(1, WorldOptions::default());
    let mut machines = [Machine::new(&world, 1), Machine::new(&world, 2)];
    let run = |machines: &mut [Machine; 2], seconds| {
        let end = world.elapsed() + Duration::from_secs(seconds);
        while world.elapsed() < end {
            let [one, two] = machines.each_mut();
            assert!(world.step(&mut [&mut one.node, &mut two.node]), "the ticking does not end");
        }
    };
    let awake = |machine: &Machine| machine.node.state.activity.awake_count();
    let dir = machines[0].dir.path().to_owned();
    let idle: Vec<TaskId> = (0..1000)
        .map(|number| {
            machines[0].add(&wanted_by_nobody(number), &dir, &[]);
            machines[0].task.expect("added")
        })
        .collect();
    run(&mut machines, 2);
    assert_eq!(awake(&machines[0]), 0, "nobody is there");
    machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
    let dir = machines[1].dir.path().to_owned();
    machines[1].add(&payload.metainfo, &dir, &[1]);
    let mut most = 0;
    while !machines[1].is_complete() {
        run(&mut machines, 1);
        most = most.max(awake(&machines[0]));
    }
    assert_eq!(most, 1, "one of a thousand has a peer");
    run(&mut machines, 60);
    assert_eq!((awake(&machines[0]), awake(&machines[1])), (0, 0), "both are seeds");
    machines[0].node.with(move |engine, reactor| {
        idle.iter().for_each(|&id| engine.remove(id, reactor));
    });
    assert_eq!(machines[0].node.state.tasks.len(), 1);
    assert_eq!(awake(&machines[0]), 0, "what is gone is not looked at");
}

#[test]
fn what_is_remembered_of_hundreds_takes_a_few_transactions() {
    let state = tempfile::tempdir().expect("a folder");
    let store = Arc::new(ResumeStore::open(state.path()).expect("opened"));
    let world = World::new(1, WorldOptions::default());
    let mut machine = Machine::with_store(&world, 1, Some(Arc::clone(&store)));
    let run = |machine: &mut Machine| {
        let end = world.elapsed() + Duration::from_secs(10);
        while world.elapsed() < end {
            assert!(world.step(&mut [&mut machine.node]), "the ticking does not end");
        }
    };
    let dir = machine.dir.path().to_owned();
    let ids: Vec<TaskId> = (0..300)
        .map(|number| {
            machine.add(&wanted_by_nobody(number), &dir, &[]);
            machine.task.expect("added")
        })
        .collect();
    run(&mut machine);
    assert!(store.commits() <= 4, "added in {} transactions", store.commits());
    assert_eq!(store.list().expect("read").len(), ids.len());
    assert_eq!(restore::members(&store).expect("read").len(), ids.len());
    let before = store.commits();
    machine.node.with(|engine, reactor| {
        ids[1..].iter().for_each(|&id| engine.remove(id, reactor));
    });
    run(&mut machine);
    assert!(store.commits() - before <= 2, "removed in {} transactions", store.commits() - before);
    assert_eq!(restore::members(&store).expect("read").len(), 1);
    let before = store.commits();
    machine.node.with(|engine, reactor| engine.stop_all(std::sync::mpsc::channel().0, reactor));
    assert!(store.commits() == before, "nothing has changed, so nothing is saved");
}

#[test]
fn what_a_check_looks_at_is_not_believed_by_the_run_after_one_that_died_of_it() {
    let payload = Payload::new(300_000);
    let state = tempfile::tempdir().expect("a folder");
    let store = Arc::new(ResumeStore::open(state.path()).expect("opened"));
    let world = World::new(1, WorldOptions::default());
    let mut dies = Machine::with_store(&world, 1, Some(Arc::clone(&store)));
    dies.add(&payload.metainfo, payload.dir.path(), &[]);
    world.run_for(&mut [&mut dies.node], Duration::from_secs(10));
    assert!(dies.is_complete());
    let path = payload.dir.path().join("payload/a");
    let file = File::options().write(true).open(path).expect("opened");
    let modified = file.metadata().and_then(|about| about.modified()).expect("known");
    file.write_all_at(b"?", 0).expect("written");
    file.set_modified(modified).expect("as before");
    let id = dies.task.expect("added");
    let slow = CheckOptions { rate: Some(1), ..CheckOptions::default() };
    dies.node.with(|engine, reactor| engine.check(id, slow, reactor)).expect("begun");
    world.run_for(&mut [&mut dies.node], Duration::from_secs(1));
    drop(dies);

    let mut next = Machine::with_store(&world, 2, Some(store));
    next.add(&payload.metainfo, payload.dir.path(), &[]);
    world.run_for(&mut [&mut next.node], Duration::from_secs(10));
    let task = &next.node.state.tasks[&next.task.expect("added")];
    let have = task.swarm.have();
    assert!(task.is_running() && !have.has(PieceIndex(0)));
    assert_eq!(have.count(), have.len() - 1);
}

#[test]
fn what_is_remembered_outlives_a_check_that_ends_before_it_is_read() {
    let payload = Payload::new(300_000);
    let state = tempfile::tempdir().expect("a folder");
    let store = Arc::new(ResumeStore::open(state.path()).expect("opened"));
    let record = ResumeRecord {
        dir: payload.dir.path().to_owned(),
        bits: Bitfield::none(payload.metainfo.layout().piece_count()),
        stamps: vec![None; 2],
        downloaded: 7,
        uploaded: 9,
        peers: vec![(IpAddr::from([10, 0, 0, 9]), PORT).into()],
    };
    let hash = payload.metainfo.info_hash();
    store.save(&hash, &record).expect("saved");
    let world = World::new(1, WorldOptions::default());
    let mut machine = Machine::with_store(&world, 1, Some(Arc::clone(&store)));
    machine.add(&payload.metainfo, payload.dir.path(), &[]);
    let id = machine.task.expect("added");
    machine.node.with(|engine, reactor| {
        engine.check(id, CheckOptions::default(), reactor).expect("begun");
        engine.cancel_check(id, reactor);
    });
    world.run_for(&mut [&mut machine.node], Duration::from_secs(10));
    let saved = store.load(&hash).expect("read").expect("there");
    assert_eq!((saved.downloaded, saved.uploaded, saved.peers), (7, 9, record.peers));
    assert_eq!(machine.node.state.tasks[&id].totals(), (7, 9, 1));
}

const PORT: u16 = 6881;
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(3600);
