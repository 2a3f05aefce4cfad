//! Whole engines in a simulated world: a swarm whose every step follows from one number.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reactor::Reactor;
use reactor::simulated::{Node, Turn, World, WorldOptions};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::{Builder, Format};
use torrent::swarm::Source;
use torrent::{Bitfield, PieceIndex, Witness};

use crate::dht::DhtConfig;
use crate::disk::{self, hash_files_as};
use crate::engine::Engine;
use crate::event::{EventKind, EventMask, Events};
use crate::parting::DisconnectReason;
use crate::restore;
use crate::resume::ResumeRecord;
use crate::settings::{AddOptions, CheckOptions, ListenConfig, SessionConfig, SessionLimits};
use crate::store::ResumeStore;
use crate::task::TaskId;

/// A torrent of two files and its data.
pub(crate) struct Payload {
    pub(crate) dir: TempDir,
    pub(crate) metainfo: Metainfo,
}

impl Payload {
    pub(crate) fn new(len: usize) -> Self {
        Self::of(len, false, Format::V1)
    }

    /// A torrent of other versions of BitTorrent.
    pub(crate) fn in_format(len: usize, format: Format) -> Self {
        Self::of(len, false, format)
    }

    fn of(len: usize, is_private: bool, format: Format) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("payload");
        std::fs::create_dir(&root).expect("made");
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
        std::fs::write(root.join("a"), &bytes).expect("written");
        std::fs::write(root.join("b"), &bytes[..1000]).expect("written");
        let files = vec![(vec![b"a".to_vec()], len as u64), (vec![b"b".to_vec()], 1000)];
        let builder = Builder {
            format,
            name: b"payload".to_vec(),
            files,
            piece_len: Some(64 * 1024),
            is_private,
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout().expect("a layout"));
        let is_over = AtomicBool::new(false);
        let check = disk::CheckOptions::default();
        let hashes = hash_files_as(format, &layout, dir.path(), &check, &is_over, |_| {});
        let torrent = builder.finish_as(&hashes.expect("hashed")).expect("a torrent");
        Self { dir, metainfo: Metainfo::parse(&torrent).expect("valid") }
    }
}

/// One machine with an engine on it.
pub(crate) struct Machine {
    pub(crate) node: Node<Engine>,
    pub(crate) dir: TempDir,
    pub(crate) task: Option<TaskId>,
    events: Events,
}

/// A session that finds no peers by itself.
pub(crate) fn quiet() -> SessionConfig {
    SessionConfig { lsd: false, dht: DhtConfig::off(), utp: false, ..SessionConfig::default() }
}

impl Machine {
    pub(crate) fn new(world: &World, number: u8) -> Self {
        Self::with_store(world, number, None)
    }

    /// One that remembers its torrents, if it has somewhere to.
    fn with_store(world: &World, number: u8, store: Option<Arc<ResumeStore>>) -> Self {
        Self::with_config(world, number, store, quiet())
    }

    /// One that finds peers through the DHT, which begins with the first.
    pub(crate) fn with_dht(world: &World, number: u8) -> Self {
        let boot = vec![format!("10.0.0.1:{PORT}")];
        let dht = DhtConfig { boot, ..DhtConfig::default() };
        let config = SessionConfig { dht, ..quiet() };
        Self::with_config(world, number, None, config)
    }

    /// One whose session is told something, beside where to listen.
    pub(crate) fn with_config(
        world: &World,
        number: u8,
        store: Option<Arc<ResumeStore>>,
        config: SessionConfig,
    ) -> Self {
        let ip = IpAddr::from([10, 0, 0, number]);
        let config = SessionConfig {
            listen: ListenConfig { ports: vec![PORT..=PORT], bind: Some(ip) },
            restore: store.is_some(),
            ..config
        };
        let mut reactor = Reactor::simulated(world.host(&[ip]));
        let seed = reactor.random();
        let mut engine = Engine::new(config, store, reactor.now(), seed);
        let events = engine.subscribers.subscribe(EventMask::PEERS | EventMask::STATUS, None);
        engine.find_ways().expect("found");
        engine.listen(&mut reactor).expect("a free port");
        engine.start_dht(&reactor);
        engine.tick(&mut reactor);
        let node = Node::from_parts(reactor, engine);
        Self { node, dir: tempfile::tempdir().expect("a folder"), task: None, events }
    }

    /// What has been told of peers and of the torrent since it was asked last.
    pub(crate) fn heard(&self) -> impl Iterator<Item = EventKind> {
        self.events.try_iter().map(|event| event.kind)
    }

    pub(crate) fn add(&mut self, metainfo: &Metainfo, dir: &Path, peers: &[u8]) {
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

    pub(crate) fn is_complete(&self) -> bool {
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
        let mut turns: Vec<&mut dyn Turn> = Vec::new();
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

/// What becomes of a torrent in three minutes, if nobody but the DHT tells its seeder and its leecher of each other.
fn through_the_dht(metainfo: &Metainfo, dir: &Path) -> Vec<Machine> {
    let world = World::new(3, WorldOptions::default());
    let mut machines: Vec<Machine> = (1..=5).map(|n| Machine::with_dht(&world, n)).collect();
    let mut added = false;
    while world.elapsed() < Duration::from_secs(180) {
        if !added && world.elapsed() > Duration::from_secs(20) {
            added = true;
            machines[1].add(metainfo, dir, &[]);
            let dir = machines[2].dir.path().to_owned();
            machines[2].add(metainfo, &dir, &[]);
        }
        let mut turns: Vec<&mut dyn Turn> = Vec::new();
        for machine in &mut machines {
            turns.push(&mut machine.node);
        }
        assert!(world.step(&mut turns), "nothing can happen any more");
    }
    machines
}

#[test]
fn peers_find_each_other_through_the_dht() {
    let payload = Payload::new(100_000);
    let machines = through_the_dht(&payload.metainfo, payload.dir.path());
    assert!(machines[2].is_complete());
    let status = |machine: &Machine| {
        let dht = machine.node.state.dht.as_ref().expect("on");
        dht.status(machine.node.reactor.now())
    };
    for machine in &machines {
        assert!(status(machine).is_bootstrapped && status(machine).stats.nodes[0] == 4);
    }
    assert!(machines.iter().map(|machine| status(machine).stats.peers).sum::<usize>() >= 2);
}

#[test]
fn a_private_torrent_stays_out_of_the_dht() {
    let files = vec![(b"x".to_vec(), 5)].into_iter().map(|(name, len)| (vec![name], len));
    let builder = Builder {
        name: b"t".to_vec(),
        files: files.collect(),
        is_private: true,
        ..Builder::default()
    };
    let metainfo = builder.finish(&[[0; 20]]).expect("a torrent");
    let metainfo = Metainfo::parse(&metainfo).expect("valid");
    let dir = tempfile::tempdir().expect("a folder");
    for machine in through_the_dht(&metainfo, dir.path()) {
        let now = machine.node.reactor.now();
        let dht = machine.node.state.dht.as_ref().expect("on");
        assert_eq!(dht.status(now).stats.peers, 0);
        let tasks = machine.node.state.tasks.values();
        assert!(tasks.into_iter().all(|task| task.swarm.known.next_dial_at(now).is_none()));
    }
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

/// Whether there is never a reason for an event among those who mean well; if so, what it is.
pub(crate) fn blame(kind: &EventKind) -> Option<String> {
    let is_blame = match kind {
        EventKind::PeerFailed { .. }
        | EventKind::PeerBanned { .. }
        | EventKind::InvalidRequest { .. } => true,
        EventKind::PeerDisconnected { reason, .. } => {
            let never = [
                DisconnectReason::Idle,
                DisconnectReason::DoesNotRead,
                DisconnectReason::EndlessPadding,
                DisconnectReason::Internal,
            ];
            reason.is_fault() || never.contains(reason)
        }
        _ => false,
    };
    is_blame.then(|| format!("{kind:?}"))
}

/// Lets the machines run until all have everything, or so long.
///
/// # Panics
/// If one of them, all of which mean well, is blamed for something.
pub(crate) fn run_until_complete(
    world: &World,
    machines: &mut [Machine],
    patience: Duration,
) -> bool {
    while !machines.iter().all(Machine::is_complete) && world.elapsed() < patience {
        let turns = machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn);
        assert!(world.step(&mut turns.collect::<Vec<_>>()), "nothing can happen any more");
        let blame = machines.iter().flat_map(Machine::heard).find_map(|kind| blame(&kind));
        assert_eq!(blame, None, "all of them mean well");
    }
    machines.iter().all(Machine::is_complete)
}

#[test]
fn those_who_are_told_of_one_peer_hear_from_it_of_the_others() {
    for exchange in [true, false] {
        let payload = Payload::new(700_000);
        let world = World::new(1, WorldOptions::default());
        let machine = |number| {
            let limits = SessionLimits {
                upload: Some(100_000),
                local_too: true,
                ..SessionLimits::default()
            };
            let config = SessionConfig { exchange, limits, ..quiet() };
            Machine::with_config(&world, number, None, config)
        };
        let mut machines: Vec<Machine> = (1..=4).map(machine).collect();
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        for machine in &mut machines[1..] {
            let dir = machine.dir.path().to_owned();
            machine.add(&payload.metainfo, &dir, &[1]);
        }
        assert!(run_until_complete(&world, &mut machines, VIRTUAL_PATIENCE));
        let task = machines[1].task.and_then(|id| machines[1].node.state.tasks.get(&id));
        let known = &task.expect("there").swarm.known;
        let source = known.source((IpAddr::from([10, 0, 0, 3]), PORT).into());
        assert_eq!(source == Some(Source::Exchange), exchange, "{source:?}");
    }
}

#[test]
fn where_others_see_us_decides_about_the_order_of_peers() {
    let payload = Payload::new(1000);
    let world = World::new(1, WorldOptions::default());
    let mut machine = Machine::new(&world, 1);
    let dir = machine.dir.path().to_owned();
    machine.add(&payload.metainfo, &dir, &[]);
    let id = machine.task.expect("added");
    let peer = (IpAddr::from([98, 76, 54, 32]), 1).into();
    let rank = |machine: &Machine| machine.node.state.tasks[&id].swarm.known.rank(peer);
    assert_eq!(rank(&machine), None);
    let tracker = Witness::Tracker("tracker".to_owned());
    machine.node.with(move |engine, _| engine.seen_as(tracker, [123, 213, 32, 10].into()));
    assert_eq!(rank(&machine), Some(!0xec2d_7224));
}

#[test]
fn whoever_is_on_the_same_network_is_found_but_not_for_private_torrents() {
    for (is_private, has_lsd) in [(false, true), (true, true), (false, false)] {
        let payload = Payload::of(300_000, is_private, Format::V1);
        let world = World::new(1, WorldOptions::default());
        let machine = |number| {
            let config = SessionConfig { lsd: has_lsd, ..quiet() };
            Machine::with_config(&world, number, None, config)
        };
        let mut machines: Vec<Machine> = (1..=3).map(machine).collect();
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        for machine in &mut machines[1..] {
            let dir = machine.dir.path().to_owned();
            machine.add(&payload.metainfo, &dir, &[]);
        }
        let is_done = run_until_complete(&world, &mut machines, Duration::from_secs(700));
        assert_eq!(is_done, has_lsd && !is_private);
        let found = machines[1].task.and_then(|id| machines[1].node.state.tasks.get(&id));
        assert_eq!(found.expect("there").swarm.known.is_empty(), !is_done);
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
fn a_full_torrent_trades_a_peer_of_no_use_for_another() {
    let payload = Payload::new(300_000);
    let world = World::new(1, WorldOptions::default());
    let mut machines = [1, 2, 3].map(|number| Machine::new(&world, number));
    let dirs = machines.each_ref().map(|machine| machine.dir.path().to_owned());
    let run = |machines: &mut [Machine; 3], seconds| {
        let end = world.elapsed() + Duration::from_secs(seconds);
        while world.elapsed() < end {
            let [one, two, three] = machines.each_mut();
            assert!(world.step(&mut [&mut one.node, &mut two.node, &mut three.node]));
        }
    };
    machines[1].add(&payload.metainfo, &dirs[1], &[]);
    machines[0].add(&payload.metainfo, &dirs[0], &[2]);
    let id = machines[0].task.expect("added");
    machines[0].node.with(|engine, reactor| engine.set_peers_max(id, Some(1), reactor));
    run(&mut machines, 5);
    machines[2].add(&payload.metainfo, payload.dir.path(), &[]);
    let seed = (IpAddr::from([10, 0, 0, 3]), PORT).into();
    machines[0].node.with(|engine, reactor| {
        engine.add_addresses(id, &[seed], Source::Manual, reactor);
    });
    run(&mut machines, 30);
    assert!(!machines[0].is_complete(), "the other may yet have something");
    run(&mut machines, 90);
    assert!(machines[0].is_complete());
}

#[test]
fn a_full_torrent_keeps_its_speed_and_finds_better_peers() {
    let (slow, fast) = (1_500, 6_000);
    let payload = Payload::new(32_000_000);
    let world = World::new(1, WorldOptions::default());
    let machine = |number, upload| {
        let limits = SessionLimits { upload, local_too: true, ..SessionLimits::default() };
        Machine::with_config(&world, number, None, SessionConfig { limits, ..quiet() })
    };
    let mut machines = vec![machine(1, None)];
    machines.extend((2..=11).map(|number| machine(number, Some(slow))));
    machines.extend((12..=14).map(|number| machine(number, Some(fast))));
    for machine in &mut machines[1..] {
        machine.add(&payload.metainfo, payload.dir.path(), &[]);
    }
    let dir = machines[0].dir.path().to_owned();
    machines[0].add(&payload.metainfo, &dir, &[]);
    let id = machines[0].task.expect("added");
    let run = |machines: &mut [Machine], seconds| {
        let end = world.elapsed() + Duration::from_secs(seconds);
        while world.elapsed() < end {
            let turns = machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn);
            assert!(world.step(&mut turns.collect::<Vec<_>>()), "nothing can happen any more");
        }
    };
    let tell = |machines: &mut [Machine], numbers: std::ops::RangeInclusive<u8>| {
        let addrs: Vec<_> =
            numbers.map(|number| (IpAddr::from([10, 0, 0, number]), PORT).into()).collect();
        machines[0].node.with(move |engine, reactor| {
            engine.add_addresses(id, &addrs, Source::Tracker, reactor);
        });
    };
    machines[0].node.with(|engine, reactor| engine.set_peers_max(id, Some(10), reactor));
    tell(&mut machines, 2..=11);
    run(&mut machines, 30);
    tell(&mut machines, 12..=14);
    let of = |machines: &[Machine]| {
        let swarm = &machines[0].node.state.tasks[&id].swarm;
        let now = machines[0].node.reactor.now();
        let fast =
            swarm.peers(now).filter(|(_, peer)| peer.addr.ip() >= IpAddr::from([10, 0, 0, 12]));
        (fast.count(), swarm.downloaded())
    };
    let (mut before, mut found) = (of(&machines).1, Vec::new());
    // Five minutes to see who is here, then one of the slow goes every five minutes.
    for _ in 0..4 {
        run(&mut machines, 300);
        let (fast, downloaded) = of(&machines);
        found.push(fast);
        let rate = (downloaded - before) / 300;
        assert!(rate > 9 * slow, "{rate} bytes a second of {} with {fast} better ones", 10 * slow);
        before = downloaded;
    }
    assert_eq!(found.last(), Some(&3), "{found:?}");
    assert!(found.is_sorted(), "{found:?}");
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
    machine.node.with(|engine, reactor| {
        engine.stop_all(Duration::ZERO, std::sync::mpsc::channel().0, reactor);
    });
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

pub(crate) const PORT: u16 = 6881;
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(3600);
