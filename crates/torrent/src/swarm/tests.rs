//! Two and more swarms that talk to each other in virtual time, without a network.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::*;
use crate::metainfo::{FileEntry, FileLayout, RelativePath};
use crate::wire::{Handshake, Inbox, MessageLimits, Reserved};
use crate::{Block, PeerFault};

/// One instant for all tests to start from.
pub(crate) fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    *EPOCH.get_or_init(Instant::now)
}

/// Swarms of one torrent, each with its own disk, joined by pipes that deliver in order.
struct World {
    now: Instant,
    data: Vec<u8>,
    layout: Arc<FileLayout>,
    hosts: Vec<Host>,
    /// Bytes on their way: from, to, what.
    wires: VecDeque<(usize, usize, Bytes)>,
}

struct Host {
    swarm: Swarm,
    disk: Vec<u8>,
    /// The other end, and what has arrived from it.
    links: BTreeMap<PeerKey, (usize, Inbox)>,
    closed: Vec<&'static str>,
    faults: Vec<PeerFault>,
    events: Vec<String>,
    /// Spoils every block that it sends of these pieces.
    lies_about: Vec<PieceIndex>,
    /// Answers no request.
    is_mute: bool,
    /// What it may send in one step of time, and in this one still, in bytes.
    upload_per_step: u64,
    upload_left: u64,
}

impl World {
    fn new(total_len: u64, piece_len: u32) -> Self {
        let mut rng = Rng::from_seed(9);
        let data = (0..total_len).map(|_| rng.u32() as u8).collect();
        let file = FileEntry {
            path: RelativePath::from_components(vec![b"x".to_vec()]).expect("safe"),
            len: total_len,
            is_pad: false,
            is_executable: false,
            is_hidden: false,
        };
        let layout = Arc::new(FileLayout::new(piece_len, vec![file]).expect("in range"));
        Self { now: epoch(), data, layout, hosts: Vec::new(), wires: VecDeque::new() }
    }

    fn add(&mut self, have: Bitfield) -> usize {
        self.add_wanting(have, &vec![4; self.layout.piece_count() as usize])
    }

    fn add_wanting(&mut self, have: Bitfield, priorities: &[u8]) -> usize {
        let index = self.hosts.len();
        let mut peer_id = PeerId([0; 20]);
        peer_id.0[19] = index as u8;
        let config = SwarmConfig {
            peer_id,
            port: Some(6881),
            client: "test".to_owned(),
            slots: Slots::Adaptive,
            seeding: SeedingPolicy::FastestFirst,
        };
        let piece_len = self.layout.piece_len() as usize;
        let mut disk = vec![0; self.data.len()];
        for piece in have.iter() {
            let start = piece.index() * piece_len;
            let end = start + self.layout.len_of(piece) as usize;
            disk[start..end].copy_from_slice(&self.data[start..end]);
        }
        let rng = Rng::from_seed(index as u64);
        let layout = Arc::clone(&self.layout);
        let swarm = Swarm::new(self.now, InfoHash([1; 20]), layout, have, priorities, config, rng);
        self.hosts.push(Host {
            swarm,
            disk,
            links: BTreeMap::new(),
            closed: Vec::new(),
            faults: Vec::new(),
            events: Vec::new(),
            lies_about: Vec::new(),
            is_mute: false,
            upload_per_step: u64::MAX,
            upload_left: u64::MAX,
        });
        index
    }

    fn seed(&mut self) -> usize {
        self.add(Bitfield::all(self.layout.piece_count()))
    }

    fn leech(&mut self) -> usize {
        self.add(Bitfield::none(self.layout.piece_count()))
    }

    fn addr(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host as u8 + 1], 6881))
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.connect_with(a, b, Reserved::ours());
    }

    fn connect_with(&mut self, a: usize, b: usize, reserved: Reserved) {
        for (from, to, direction) in [(a, b, Direction::Outgoing), (b, a, Direction::Incoming)] {
            let peer_id = self.hosts[to].swarm.config.peer_id;
            let new = NewPeer { addr: Self::addr(to), direction, peer_id, reserved };
            let host = &mut self.hosts[from];
            let key = host.swarm.add_peer(self.now, &new).expect("welcome");
            host.links.insert(key, (to, Inbox::new(MessageLimits::default())));
        }
        self.drain(a);
        self.drain(b);
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let host = &mut self.hosts[from];
            let key = host.links.iter().find(|(_, (other, _))| *other == to).map(|(&key, _)| key);
            if let Some(key) = key {
                host.links.remove(&key);
                host.swarm.remove_peer(key);
            }
        }
        self.wires.retain(|(from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
        self.drain(a);
        self.drain(b);
    }

    /// Does what a driver does.
    fn drain(&mut self, at: usize) {
        let now = self.now;
        let mut ended = Vec::new();
        loop {
            let host = &mut self.hosts[at];
            if !host.is_mute {
                let keys: Vec<PeerKey> = host.links.keys().copied().collect();
                for key in keys {
                    while host.upload_left > 0
                        && let Some(run) = host.swarm.next_read(key, 64 * 1024)
                    {
                        host.upload_left = host.upload_left.saturating_sub(run.span.len.into());
                        let mut data = slice_of(&self.layout, &host.disk, run.span).to_vec();
                        if host.lies_about.contains(&run.span.piece) {
                            data[0] ^= 1;
                        }
                        host.swarm.handle_read(now, run, &data.into());
                    }
                }
            }
            let Some(output) = host.swarm.poll_output(now) else { break };
            match output {
                Output::Send { peer, bytes } => {
                    self.wires.extend(host.links.get(&peer).map(|(to, _)| (at, *to, bytes)));
                }
                Output::SendBlock { peer, head, data } => {
                    let bytes = Bytes::from([&head[..], &data].concat());
                    self.wires.extend(host.links.get(&peer).map(|(to, _)| (at, *to, bytes)));
                }
                Output::Verify(job) => {
                    let start = job.piece.index() * self.layout.piece_len() as usize;
                    let len = job.blocks.iter().map(|(_, data)| data.len() as u64).sum();
                    let whole =
                        Block { piece: job.piece, offset: 0, len: self.layout.len_of(job.piece) };
                    for (offset, data) in &job.blocks {
                        let from = start + *offset as usize;
                        host.disk[from..from + data.len()].copy_from_slice(data);
                    }
                    let (ours, right) = (
                        slice_of(&self.layout, &host.disk, whole),
                        slice_of(&self.layout, &self.data, whole),
                    );
                    let digests =
                        || ours.chunks(16384).map(|block| Sha1::digest(block).into()).collect();
                    let verdict = if ours == right {
                        Verdict::Good(job.wants_digests.then(digests))
                    } else {
                        Verdict::Bad(digests())
                    };
                    host.swarm.handle_verdict(job.piece, len, verdict);
                }
                Output::Store(job) => {
                    let start = job.piece.index() * self.layout.piece_len() as usize;
                    let len = job.blocks.iter().map(|(_, data)| data.len() as u64).sum();
                    for (offset, data) in &job.blocks {
                        let from = start + *offset as usize;
                        host.disk[from..from + data.len()].copy_from_slice(data);
                    }
                    host.swarm.handle_stored(len);
                    host.events.push(format!("stored {}", job.piece));
                }
                Output::Close { peer, reason } => {
                    host.closed.push(reason);
                    ended.extend(host.links.get(&peer).map(|(to, _)| *to));
                }
                Output::PieceVerified(piece) => host.events.push(format!("verified {piece}")),
                Output::PieceFailed(piece) => host.events.push(format!("failed {piece}")),
                Output::Banned(ip) => host.events.push(format!("banned {ip}")),
                Output::Completed => host.events.push("completed".to_owned()),
            }
        }
        for other in ended {
            self.disconnect(at, other);
        }
    }

    /// Delivers what is under way, a step of time each, until nothing moves; then lets timers run.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let mut delivered = 0;
            while let Some((from, to, bytes)) = self.wires.pop_front() {
                self.deliver(from, to, bytes);
                delivered += 1;
                if delivered == 200 {
                    break;
                }
            }
            self.now += Duration::from_millis(10);
            for at in 0..self.hosts.len() {
                let host = &mut self.hosts[at];
                host.upload_left = host.upload_per_step;
                host.swarm.handle_timeout(self.now);
                self.drain(at);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
        let now = self.now;
        let host = &mut self.hosts[to];
        let Some((&key, (_, inbox))) = host.links.iter_mut().find(|(_, (other, _))| *other == from)
        else {
            return;
        };
        let pending = inbox.pending_mut();
        let count = pending.len().min(bytes.len());
        pending[..count].copy_from_slice(&bytes[..count]);
        let mut messages = Vec::new();
        let result = inbox.received(count, bytes.slice(count..), &mut messages);
        let result = result.and_then(|()| host.swarm.handle_messages(now, key, &mut messages));
        match result {
            Ok(()) => self.drain(to),
            Err(fault) => {
                host.faults.push(fault);
                self.disconnect(to, from);
            }
        }
    }

    /// Sends bytes as if host `from` had.
    fn inject(&mut self, from: usize, to: usize, messages: &[Message]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.wires.push_back((from, to, bytes.into()));
        self.run(0);
        while let Some((from, to, bytes)) = self.wires.pop_front() {
            self.deliver(from, to, bytes);
        }
    }

    fn is_done(&self, at: usize) -> bool {
        self.hosts[at].swarm.is_completed() && self.hosts[at].disk == self.data
    }
}

fn slice_of<'a>(layout: &FileLayout, disk: &'a [u8], block: Block) -> &'a [u8] {
    let start = block.piece.index() * layout.piece_len() as usize + block.offset as usize;
    &disk[start..start + block.len as usize]
}

fn plain() -> Reserved {
    Reserved::default()
}

#[test]
fn a_leech_gets_everything_from_a_seed_and_they_part() {
    for reserved in [Reserved::ours(), plain()] {
        let mut world = World::new(1_000_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        world.connect_with(leech, seed, reserved);
        world.run(3);
        assert!(world.is_done(leech));
        assert_eq!(world.hosts[leech].closed, ["both are seeds"]);
        assert_eq!(world.hosts[leech].events.last().map(String::as_str), Some("completed"));
        assert_eq!(world.hosts[leech].swarm.wasted(), 0);
        assert_eq!(world.hosts[seed].swarm.uploaded(), 1_000_000);
        assert_eq!(world.hosts[leech].swarm.held_len(), 0);
    }
}

#[test]
fn leeches_trade_what_they_have_and_all_finish() {
    let mut world = World::new(3_000_000, 50_000);
    let seed = world.seed();
    let leeches: Vec<usize> = (0..5).map(|_| world.leech()).collect();
    // Two megabytes a second, as for everyone: too little to serve them all alone.
    world.hosts.iter_mut().for_each(|host| host.upload_per_step = 20_000);
    for (at, &leech) in leeches.iter().enumerate() {
        world.connect(leech, seed);
        leeches[..at].iter().for_each(|&other| world.connect(leech, other));
    }
    world.run(60);
    assert!(leeches.iter().all(|&leech| world.is_done(leech)));
    let from_seed = world.hosts[seed].swarm.uploaded();
    assert!(from_seed < 9_000_000, "the seed sent {from_seed} of 15,000,000");
}

#[test]
fn equal_worlds_run_equally() {
    let run = || {
        let mut world = World::new(500_000, 30_000);
        let (seed, a, b) = (world.seed(), world.leech(), world.leech());
        world.connect(a, seed);
        world.connect(b, seed);
        world.connect(a, b);
        world.run(20);
        (world.hosts[a].events.clone(), world.hosts[b].events.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn unwanted_pieces_are_not_asked_for() {
    let mut world = World::new(400_000, 100_000);
    let seed = world.seed();
    let leech = world.add_wanting(Bitfield::none(4), &[0, 4, 0, 7]);
    world.connect(leech, seed);
    world.run(3);
    assert_eq!(world.hosts[leech].events, ["verified 3", "verified 1", "completed"]);
    world.hosts[leech].swarm.set_priorities(&[4, 4, 4, 4]);
    world.connect_again(leech, seed);
    world.run(3);
    assert!(world.is_done(leech));
}

impl World {
    fn connect_again(&mut self, a: usize, b: usize) {
        self.disconnect(a, b);
        self.connect(a, b);
    }
}

#[test]
fn a_lone_liar_is_banned_and_the_piece_comes_from_another() {
    let mut world = World::new(400_000, 100_000);
    let (liar, leech) = (world.seed(), world.leech());
    world.hosts[liar].lies_about = vec![PieceIndex(2)];
    world.connect(leech, liar);
    world.run(3);
    let events = &world.hosts[leech].events;
    assert!(
        events.contains(&"failed 2".to_owned()) && events.contains(&"banned 10.0.0.1".to_owned()),
        "{events:?}"
    );
    let honest = world.seed();
    world.connect(leech, honest);
    world.run(3);
    assert!(world.is_done(leech));
    let again = NewPeer {
        addr: World::addr(liar),
        direction: Direction::Incoming,
        peer_id: PeerId([77; 20]),
        reserved: Reserved::ours(),
    };
    assert_eq!(world.hosts[leech].swarm.add_peer(world.now, &again), Err(Refused::Banned));
}

#[test]
fn of_several_senders_only_the_liar_is_banned() {
    let mut world = World::new(64 * 16384, 32 * 16384);
    let (liar, leech) = (world.seed(), world.leech());
    let honest: Vec<usize> = (0..3).map(|_| world.seed()).collect();
    world.hosts[liar].lies_about = vec![PieceIndex(0), PieceIndex(1)];
    world.connect(leech, liar);
    honest.iter().for_each(|&seed| world.connect(leech, seed));
    world.run(30);
    assert!(world.is_done(leech));
    let banned: Vec<&String> =
        world.hosts[leech].events.iter().filter(|event| event.starts_with("banned")).collect();
    assert!(banned.iter().all(|event| *event == "banned 10.0.0.1"), "{banned:?}");
}

#[test]
fn a_mute_peer_is_snubbed_and_others_are_asked() {
    let mut world = World::new(300_000, 100_000);
    let (mute, leech, seed) = (world.seed(), world.leech(), world.seed());
    world.hosts[mute].is_mute = true;
    world.connect(leech, mute);
    world.run(5);
    let status = world.hosts[leech].swarm.peers(world.now).next().expect("connected").1;
    assert!(status.requests_outstanding > 0 && !status.is_snubbed);
    world.connect(leech, seed);
    world.run(20);
    assert!(world.is_done(leech));
}

#[test]
fn a_lost_peer_s_blocks_are_asked_of_others() {
    let mut world = World::new(2_000_000, 500_000);
    let (a, b, leech) = (world.seed(), world.seed(), world.leech());
    world.connect(leech, a);
    (0..5).for_each(|_| {
        if let Some((from, to, bytes)) = world.wires.pop_front() {
            world.deliver(from, to, bytes);
        }
    });
    world.disconnect(leech, a);
    world.connect(leech, b);
    world.run(5);
    assert!(world.is_done(leech));
}

#[test]
fn short_memory_sends_unfinished_pieces_to_disk() {
    let mut world = World::new(1_000_000, 1_000_000);
    let (seed, leech) = (world.seed(), world.leech());
    world.connect(leech, seed);
    while world.hosts[leech].swarm.held_len() < 200_000 {
        let (from, to, bytes) = world.wires.pop_front().expect("a transfer");
        world.deliver(from, to, bytes);
    }
    world.hosts[leech].swarm.relieve();
    world.drain(leech);
    assert_eq!(world.hosts[leech].swarm.held_len(), 0);
    world.run(5);
    assert!(world.is_done(leech));
    assert_eq!(world.hosts[leech].events, ["stored 0", "verified 0", "completed"]);
}

#[test]
fn faults_end_the_connection() {
    let block = |piece, offset, len| Block { piece: PieceIndex(piece), offset, len };
    let bits = |bytes: &'static [u8]| Message::Bitfield(Bytes::from_static(bytes));
    let cases: Vec<(Vec<Message>, PeerFault)> = vec![
        (vec![bits(&[0xff, 0])], PeerFault::MalformedBitfield),
        (vec![bits(&[0xff])], PeerFault::MalformedBitfield),
        (vec![bits(&[0xf0]); 1000], PeerFault::ControlFlood),
        (vec![Message::Have(PieceIndex(4))], PeerFault::NoSuchPiece),
        (vec![Message::Request(block(4, 0, 16384))], PeerFault::NoSuchPiece),
        (vec![Message::Request(block(0, 99_999, 2))], PeerFault::BadRequest),
        (vec![Message::Request(block(0, 0, 0))], PeerFault::BadRequest),
        (vec![Message::Request(block(0, 0, 131_073))], PeerFault::BadRequest),
        (vec![Message::Request(block(1, 0, 16384))], PeerFault::RequestForMissingPiece),
        (vec![Message::Reject(block(0, 0, 16384))], PeerFault::UnexpectedReject),
        (vec![Message::Choke; 1000], PeerFault::ControlFlood),
        (vec![Message::KeepAlive; 1000], PeerFault::ControlFlood),
        (
            (0..1000).map(|n| if n % 2 == 0 { Message::Unchoke } else { Message::Choke }).collect(),
            PeerFault::ControlFlood,
        ),
        (
            (0..1000)
                .map(|_| Message::Piece {
                    piece: PieceIndex(1),
                    offset: 0,
                    data: Bytes::from_static(&[1; 64]),
                })
                .collect(),
            PeerFault::UnrequestedData,
        ),
        (
            [Message::Interested]
                .into_iter()
                .chain(vec![Message::Request(block(0, 0, 1)); 30_000])
                .collect(),
            PeerFault::TooManyRequests,
        ),
    ];
    for (messages, fault) in cases {
        let mut world = World::new(400_000, 100_000);
        let mut have = Bitfield::none(4);
        have.set(PieceIndex(0));
        let (victim, hostile) = (world.add(have), world.leech());
        world.hosts[victim].is_mute = true;
        world.connect_with(hostile, victim, Reserved::ours());
        world.wires.clear();
        world.inject(hostile, victim, &messages);
        assert_eq!(world.hosts[victim].faults, [fault], "{:?}", messages.first());
        assert_eq!(world.hosts[victim].swarm.peer_count(), 0);
    }
}

#[test]
fn a_bitfield_may_come_late_and_again() {
    let mut world = World::new(400_000, 100_000);
    let (victim, other) = (world.leech(), world.leech());
    world.connect_with(other, victim, Reserved::ours());
    world.wires.clear();
    let extended = Message::Extended { id: 0, payload: Bytes::from_static(b"de") };
    let bits = |bits: &'static [u8]| Message::Bitfield(Bytes::from_static(bits));
    let have = Message::Have(PieceIndex(2));
    let messages = [extended, Message::HaveNone, have, bits(&[0xe0]), bits(&[0x80]), bits(&[0xf0])];
    world.inject(other, victim, &messages);
    assert_eq!(world.hosts[victim].faults, []);
    // It was believed: the victim asked for pieces, which the other does not have in truth.
    assert_eq!(world.hosts[other].faults, [PeerFault::RequestForMissingPiece]);
}

#[test]
fn fast_messages_need_the_fast_extension() {
    for message in [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(PieceIndex(0)),
        Message::AllowedFast(PieceIndex(0)),
    ] {
        let mut world = World::new(400_000, 100_000);
        let (victim, hostile) = (world.leech(), world.leech());
        world.connect_with(hostile, victim, plain());
        world.wires.clear();
        world.inject(hostile, victim, &[message]);
        assert_eq!(world.hosts[victim].faults, [PeerFault::NotNegotiated]);
    }
}

#[test]
fn ourselves_and_twins_are_turned_away() {
    let mut world = World::new(100_000, 100_000);
    let (a, b) = (world.leech(), world.leech());
    world.connect(a, b);
    let new = |peer_id, port| NewPeer {
        addr: SocketAddr::from(([10, 9, 9, 9], port)),
        direction: Direction::Outgoing,
        peer_id,
        reserved: plain(),
    };
    let (ours, theirs) = (world.hosts[a].swarm.config.peer_id, world.hosts[b].swarm.config.peer_id);
    assert_eq!(world.hosts[a].swarm.add_peer(world.now, &new(ours, 1)), Err(Refused::Ourselves));
    assert!(!world.hosts[a].swarm.known.add(SocketAddr::from(([10, 9, 9, 9], 1)), Source::Tracker));
    assert_eq!(world.hosts[a].swarm.add_peer(world.now, &new(theirs, 2)), Err(Refused::Duplicate));
}

#[test]
fn a_silent_peer_is_closed_and_a_quiet_one_hears_keep_alives() {
    let mut world = World::new(100_000, 100_000);
    let (a, b) = (world.leech(), world.leech());
    world.connect(a, b);
    world.run(400);
    assert_eq!(world.hosts[a].swarm.peer_count(), 1, "keep-alives keep it");
    let key = *world.hosts[a].links.keys().next().expect("linked");
    world.hosts[a].links.remove(&key);
    world.run(400);
    assert!(
        world.hosts[b].closed.contains(&"silent for three minutes")
            || world.hosts[a].swarm.peer_count() == 0
    );
}

#[test]
fn allowed_fast_pieces_are_served_to_the_choked() {
    let mut world = World::new(400_000, 100_000);
    let (seed, leech) = (world.seed(), world.leech());
    world.connect(leech, seed);
    let key = *world.hosts[seed].links.keys().next().expect("linked");
    assert_eq!(world.hosts[seed].swarm.allowed_to(key).len(), 4);
    let block = Block { piece: PieceIndex(0), offset: 0, len: 100 };
    world.wires.clear();
    world.hosts[seed].is_mute = true;
    world.inject(leech, seed, &[Message::Request(block)]);
    assert!(world.hosts[seed].swarm.has_requests(key));
}

#[test]
fn a_peer_that_chokes_may_reject_all_that_it_was_asked_for() {
    // More blocks than a peer may send control messages at once.
    let mut world = World::new(2000 * 16_384, 50 * 16_384);
    let (leech, seed) = (world.leech(), world.seed());
    world.hosts[seed].is_mute = true;
    world.connect(leech, seed);
    world.run(1);
    let key = *world.hosts[leech].links.keys().next().expect("connected");
    let swarm = &mut world.hosts[leech].swarm;
    let asked = |swarm: &Swarm| -> Vec<Block> {
        swarm.peers[&key].asked.iter().map(|asked| asked.block).collect()
    };
    while asked(swarm).len() < 500 {
        let answers = asked(swarm).into_iter().take(100).map(|Block { piece, offset, len }| {
            Message::Piece { piece, offset, data: vec![0; len as usize].into() }
        });
        swarm.handle_messages(world.now, key, &mut answers.collect()).expect("asked for");
        swarm.peers.get_mut(&key).expect("connected").pipeline.set_depth_max(2000);
    }
    let rejects = asked(swarm).into_iter().map(Message::Reject);
    let mut messages: Vec<Message> = std::iter::once(Message::Choke).chain(rejects).collect();
    assert_eq!(swarm.handle_messages(world.now, key, &mut messages), Ok(()));
    let allowed = &swarm.peers[&key].allowed_to_us;
    assert!(asked(swarm).iter().all(|block| allowed.contains(&block.piece)));
}

#[test]
fn the_handshake_is_the_first_thing_said() {
    let hello = Handshake {
        reserved: Reserved::ours(),
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
    };
    assert_eq!(hello.encode().len(), Handshake::LEN);
}
