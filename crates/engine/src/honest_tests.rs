//! Whole engines that all mean well, mixed at random: versions of torrents, links and files, roads and encryption, pauses,
//! stops and checks. Nobody is blamed for anything, and nobody waits for nothing.
//!
//! A failure names its seed. `HONEST_SEEDS=500` tries so many mixtures, `HONEST_SEED=17` only that one.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::simulated::{Turn, World, WorldOptions};
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Format;
use torrent::{InfoHashes, Magnet, PeerFault, Rng};

use crate::encryption::Encryption;
use crate::event::EventKind;
use crate::parting::DisconnectReason;
use crate::settings::{AddOptions, CheckOptions, SessionConfig, SessionLimits};
use crate::simulation::{Machine, PORT, Payload, blame, quiet};

/// How somebody comes to know of a torrent.
#[derive(Clone, Copy, Debug)]
enum Begins {
    WithTorrent,
    /// As the torrent, without the hashes of version 2 that peers have.
    Bare,
    ByName {
        v1: bool,
        v2: bool,
    },
}

/// What happens to somebody in the middle.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    Pause,
    GoOn,
    Stop,
    Check,
    Want([u8; 2]),
    /// Forgets the torrent, and hears of it anew.
    Again(Begins),
}

impl Mishap {
    /// Whether it costs its victim all connections.
    const fn hangs_up(self) -> bool {
        matches!(self, Self::Stop | Self::Check | Self::Again(_))
    }
}

#[derive(Clone, Debug)]
struct Part {
    begins: Begins,
    priorities: Vec<u8>,
    peers: Vec<u8>,
    encryption: Encryption,
    exchange: bool,
    lsd: bool,
    tcp: bool,
    utp: bool,
    upload: Option<u64>,
    download: Option<u64>,
    memory_max: Option<u64>,
    slots: Option<usize>,
    is_paused: bool,
    is_seed: bool,
    super_seeding: bool,
    peers_max: Option<usize>,
}

#[derive(Clone, Debug)]
struct Mix {
    format: Format,
    latency: Duration,
    rate: Option<u64>,
    loss: f64,
    resets: f64,
    len: usize,
    parts: Vec<Part>,
    /// When, to whom, what.
    mishaps: Vec<(Duration, usize, Mishap)>,
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len())]
}

impl Mix {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let rng = &mut rng;
        let format = pick(rng, &[Format::V1, Format::V2, Format::Hybrid]);
        let count = 2 + rng.below(4);
        let seeds = 1 + rng.below(2);
        let way = rng.below(3);
        let ciphers: &[Encryption] = match rng.below(3) {
            0 => &[Encryption::Off, Encryption::Allowed, Encryption::Preferred],
            1 => &[Encryption::Allowed, Encryption::Preferred, Encryption::Required],
            _ => &[Encryption::Allowed],
        };
        let has_super_seeds = seeds == 1 && rng.below(6) == 0;
        let part = |rng: &mut Rng, at: usize| {
            let is_seed = at < seeds;
            let begins = match (format, if is_seed { 9 } else { rng.below(4) }) {
                (Format::V1, 0 | 1) => Begins::ByName { v1: true, v2: false },
                (Format::V2, 0 | 1) => Begins::ByName { v1: false, v2: true },
                (Format::Hybrid, 0) => Begins::ByName { v1: true, v2: true },
                (Format::Hybrid, 1) => Begins::ByName { v1: true, v2: false },
                (Format::Hybrid, 2) => Begins::ByName { v1: false, v2: true },
                (Format::V2, 2) => Begins::Bare,
                _ => Begins::WithTorrent,
            };
            let is_whole = is_seed || rng.below(4) > 0;
            let priorities = match is_whole {
                true => Vec::new(),
                false => pick(rng, &[[4, 0], [0, 4], [1, 7]]).to_vec(),
            };
            let mut peers: Vec<u8> = (1..=count as u8)
                .filter(|&other| usize::from(other) != at + 1 && rng.below(3) == 0)
                .collect();
            // Everyone knows somebody who has everything.
            if !is_seed && !peers.iter().any(|&peer| usize::from(peer) <= seeds) {
                peers.push(1 + rng.below(seeds) as u8);
            }
            Part {
                begins,
                priorities: if matches!(begins, Begins::ByName { .. }) {
                    Vec::new()
                } else {
                    priorities
                },
                peers,
                encryption: pick(rng, ciphers),
                exchange: rng.below(3) > 0,
                lsd: rng.below(3) == 0,
                tcp: way != 1,
                utp: match way {
                    0 => false,
                    1 => true,
                    _ => rng.below(2) == 0,
                },
                upload: (rng.below(3) == 0).then_some(60_000),
                download: (rng.below(4) == 0).then_some(80_000),
                memory_max: (rng.below(4) == 0).then_some(100_000),
                slots: (rng.below(6) == 0).then(|| 1 + rng.below(2)),
                is_paused: rng.below(10) == 0,
                is_seed,
                super_seeding: is_seed && has_super_seeds,
                peers_max: (rng.below(8) == 0).then_some(2 + rng.below(3)),
            }
        };
        let parts: Vec<Part> = (0..count + seeds - 1).map(|at| part(rng, at)).collect();
        let mut mishaps = Vec::new();
        for _ in 0..rng.below(4) {
            let who = rng.below(parts.len());
            let at = Duration::from_millis(rng.below(12_000) as u64);
            let later = at + Duration::from_millis(rng.below(4_000) as u64);
            match rng.below(7) {
                6 if who >= seeds => {
                    let (v1, v2) = match format {
                        Format::V1 => (true, false),
                        Format::V2 => (false, true),
                        Format::Hybrid => pick(rng, &[(true, true), (true, false), (false, true)]),
                    };
                    let again = [Begins::WithTorrent, Begins::Bare, Begins::ByName { v1, v2 }];
                    mishaps.push((at, who, Mishap::Again(pick(rng, &again))));
                }
                0 | 1 => mishaps.extend([(at, who, Mishap::Pause), (later, who, Mishap::GoOn)]),
                2 | 3 => mishaps.extend([(at, who, Mishap::Stop), (later, who, Mishap::GoOn)]),
                4 => mishaps.push((at, who, Mishap::Check)),
                _ if who < seeds => {}
                _ => {
                    let wishes = [pick(rng, &[[4, 0], [0, 4], [0, 0]]), [4, 4]];
                    mishaps.extend([
                        (at, who, Mishap::Want(wishes[0])),
                        (later, who, Mishap::Want(wishes[1])),
                    ]);
                }
            }
        }
        for (at, part) in parts.iter().enumerate() {
            if part.is_paused {
                mishaps.push((Duration::from_millis(rng.below(6_000) as u64), at, Mishap::GoOn));
            }
        }
        mishaps.sort_by_key(|(at, ..)| *at);
        Self {
            format,
            latency: Duration::from_millis(1 + rng.below(100) as u64),
            rate: (rng.below(4) > 0).then_some(100_000 + rng.below(200_000) as u64),
            resets: if rng.below(6) == 0 { 0.003 } else { 0.0 },
            loss: if rng.below(4) == 0 { 0.02 } else { 0.0 },
            len: 100_000 + rng.below(1_500_000),
            parts,
            mishaps,
        }
    }
}

fn begin(world: &World, mix: &Mix, payload: &Payload) -> Vec<Machine> {
    let make = |(at, part): (usize, &Part)| {
        let limits = SessionLimits {
            upload: part.upload,
            download: part.download,
            memory_max: part.memory_max.unwrap_or(24 * 1024 * 1024),
            upload_slots: part.slots,
            local_too: true,
            ..SessionLimits::default()
        };
        let config = SessionConfig {
            limits,
            encryption: part.encryption,
            exchange: part.exchange,
            lsd: part.lsd,
            tcp: part.tcp,
            utp: part.utp,
            ..quiet()
        };
        Machine::with_config(world, at as u8 + 1, None, config)
    };
    let mut machines: Vec<Machine> = mix.parts.iter().enumerate().map(make).collect();
    for (machine, part) in machines.iter_mut().zip(&mix.parts) {
        hear_of_it(machine, part, part.begins, payload);
    }
    machines
}

fn hear_of_it(machine: &mut Machine, part: &Part, begins: Begins, payload: &Payload) {
    let addr = |number: &u8| SocketAddr::from(([10, 0, 0, *number], PORT));
    let dir = if part.is_seed { payload.dir.path() } else { machine.dir.path() };
    let options = AddOptions {
        dir: dir.to_owned(),
        peers: part.peers.iter().map(addr).collect(),
        priorities: part.priorities.clone(),
        super_seeding: part.super_seeding,
        peers_max: part.peers_max,
        is_paused: part.is_paused,
        ..AddOptions::default()
    };
    let whole = payload.metainfo.clone();
    let bare = || Metainfo::parse(&[b"d4:info", whole.info_bytes(), b"e"].concat());
    let names = whole.info_hashes();
    let added = match begins {
        Begins::WithTorrent => {
            machine.node.with(move |engine, reactor| engine.add(whole, options, reactor))
        }
        Begins::Bare => {
            let bare = bare().expect("valid");
            machine.node.with(move |engine, reactor| engine.add(bare, options, reactor))
        }
        Begins::ByName { v1, v2 } => {
            let names = InfoHashes { v1: names.v1.filter(|_| v1), v2: names.v2.filter(|_| v2) };
            let magnet = Magnet::new(names);
            machine.node.with(move |engine, reactor| engine.add_magnet(magnet, &options, reactor))
        }
    };
    machine.task = added.map(|(id, _)| id);
}

fn befall(machine: &mut Machine, part: &Part, mishap: Mishap, payload: &Payload) {
    let Some(id) = machine.task else { return };
    if let Mishap::Again(begins) = mishap {
        machine.node.with(move |engine, reactor| engine.remove(id, reactor));
        let part = Part { is_paused: false, priorities: Vec::new(), ..part.clone() };
        hear_of_it(machine, &part, begins, payload);
        return;
    }
    machine.node.with(move |engine, reactor| match mishap {
        Mishap::Pause => engine.pause(id, reactor),
        Mishap::GoOn => engine.start(id, reactor),
        Mishap::Stop => engine.stop(id, reactor),
        Mishap::Check => _ = engine.check(id, CheckOptions::default(), reactor).is_ok(),
        Mishap::Want(priorities) => engine.set_priorities(id, priorities.to_vec(), reactor),
        Mishap::Again(_) => {}
    });
}

/// What somebody has so far; `None` if it waits for nothing.
fn progress(machine: &Machine) -> Option<(u64, u32, bool)> {
    let task = machine.task.and_then(|id| machine.node.state.tasks.get(&id))?;
    let swarm = &task.swarm;
    (task.is_moving() && !swarm.is_completed())
        .then(|| (swarm.downloaded(), swarm.have().count(), task.published.is_known()))
}

/// What one of them waits for, and since when.
type Waits = (Option<(u64, u32, bool)>, Duration);

/// Returns what is wrong, and the story so far.
fn play(seed: u64) -> Result<(), String> {
    let mix = Mix::of(seed);
    let options = WorldOptions {
        latency: mix.latency,
        bytes_per_second: mix.rate,
        datagram_loss_share: mix.loss,
        reset_share: mix.resets,
        ..WorldOptions::default()
    };
    let payload = Payload::in_format(mix.len, mix.format);
    let world = World::new(seed, options);
    let mut machines = begin(&world, &mix, &payload);
    let mut story = format!("HONEST_SEED={seed}\n{mix:#?}\n");
    let mut mishaps = mix.mishaps.iter().peekable();
    let mut waits: Vec<Waits> = vec![(None, Duration::ZERO); machines.len()];
    // What it shows of itself is little, and may be what nobody wants.
    let is_slow_on_purpose = mix
        .parts
        .iter()
        .any(|part| part.super_seeding || (part.is_seed && part.peers_max.is_some()));
    let standstill =
        if mix.mishaps.iter().any(|(_, who, what)| mix.parts[*who].is_seed && what.hangs_up()) {
            // Whoever hangs up before anything has gone either way is left alone for a minute.
            7 * STANDSTILL
        } else if mix.parts.iter().any(|part| part.slots.is_some()) {
            // They are served by turns.
            5 * STANDSTILL
        } else {
            STANDSTILL
        };
    loop {
        let now = world.elapsed();
        while let Some((_, who, mishap)) = mishaps.next_if(|(at, ..)| *at <= now) {
            writeln!(story, "{now:?}: {} {mishap:?}", who + 1).expect("a string");
            befall(&mut machines[*who], &mix.parts[*who], *mishap, &payload);
        }
        for ((at, machine), waits) in machines.iter().enumerate().zip(&mut waits) {
            for kind in machine.heard() {
                writeln!(story, "{now:?}: {} {kind:?}", at + 1).expect("a string");
                if blame(&kind).is_some() && !is_deaf(mix.parts[at].encryption, &kind) {
                    return Err(story);
                }
            }
            let has = progress(machine);
            if has != waits.0 || has.is_none() || is_slow_on_purpose {
                *waits = (has, now);
            } else if now - waits.1 > standstill {
                return Err(format!("{story}{now:?}: {} stands still: {has:?}", at + 1));
            }
        }
        if mishaps.peek().is_none() && machines.iter().all(Machine::is_complete) {
            return Ok(());
        }
        let turns = machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn);
        if now > VIRTUAL_PATIENCE || !world.step(&mut turns.collect::<Vec<_>>()) {
            return Err(format!("{story}it does not end"));
        }
    }
}

/// Who wants nothing encrypted cannot tell it from noise.
fn is_deaf(encryption: Encryption, kind: &EventKind) -> bool {
    encryption == Encryption::Off
        && matches!(
            kind,
            EventKind::PeerFailed { fault: PeerFault::NotBitTorrent, .. }
                | EventKind::PeerDisconnected { reason: DisconnectReason::MalformedHandshake, .. }
        )
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nobody_who_means_well_is_blamed_or_left_waiting() {
    let seeds = match number_of("HONEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_of("HONEST_SEEDS").unwrap_or(8),
    };
    let failed: Vec<String> = seeds.filter_map(|seed| play(seed).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Nothing that anybody has to wait for takes so long.
const STANDSTILL: Duration = Duration::from_secs(10);
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(900);
