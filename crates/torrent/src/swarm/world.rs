//! A world for tests: two and more swarms that talk to each other in virtual time, without a network.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::*;
use crate::metainfo::create::Builder;
use crate::metainfo::{FileEntry, FileLayout, Metainfo, RelativePath};
use crate::wire::{Inbox, MessageLimits, Reserved};
use crate::{Block, Magnet, PeerFault, PeerId};

/// One instant for all tests to start from.
pub(crate) fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    *EPOCH.get_or_init(Instant::now)
}

/// Swarms of one torrent, each with its own disk, joined by pipes that deliver in order.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) data: Vec<u8>,
    pub(super) layout: Arc<FileLayout>,
    pub(super) hosts: Vec<Host>,
    /// For hosts that are added from now on.
    pub(super) choking: ChokingTimers,
    pub(super) exchange: bool,
    pub(super) is_private: bool,
    pub(super) prefers_encryption: bool,
    /// Bytes on their way: from, to, what.
    pub(super) wires: VecDeque<(usize, usize, Bytes)>,
}

pub(super) struct Host {
    pub(super) swarm: Swarm,
    pub(super) disk: Vec<u8>,
    /// The other end, and what has arrived from it.
    pub(super) links: BTreeMap<PeerKey, (usize, Inbox)>,
    pub(super) closed: Vec<&'static str>,
    pub(super) faults: Vec<PeerFault>,
    pub(super) events: Vec<String>,
    /// What came of the fetch for metadata.
    pub(super) metadata: Option<Bytes>,
    /// Spoils every block that it sends of these pieces.
    pub(super) lies_about: Vec<PieceIndex>,
    /// Words were put into its mouth: others may find fault with it, and it with what they answer.
    is_played: bool,
    /// Answers no request.
    pub(super) is_mute: bool,
    /// What is said to it is written down here, and not heard by its swarm.
    pub(super) heard: Option<Vec<Message>>,
    /// What it may send in one step of time, and in this one still, in bytes.
    pub(super) upload_per_step: u64,
    pub(super) upload_left: u64,
}

impl World {
    pub(super) fn new(total_len: u64, piece_len: u32) -> Self {
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
        Self {
            now: epoch(),
            data,
            layout,
            hosts: Vec::new(),
            choking: ChokingTimers::default(),
            exchange: true,
            is_private: false,
            prefers_encryption: false,
            wires: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, have: Bitfield) -> usize {
        self.add_wanting(have, &vec![4; self.layout.piece_count() as usize])
    }

    pub(super) fn add_wanting(&mut self, have: Bitfield, priorities: &[u8]) -> usize {
        let index = self.hosts.len();
        let mut peer_id = PeerId([0; 20]);
        peer_id.0[19] = index as u8;
        let config = SwarmConfig {
            peer_id,
            ports: [OwnPorts { listen: Some(6881), dht: None }; 2],
            prefers_encryption: self.prefers_encryption,
            client: "test".to_owned(),
            slots: Slots::Adaptive,
            seeding: SeedingPolicy::FastestFirst,
            choking: self.choking,
            exchange: self.exchange,
            is_private: self.is_private,
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
            metadata: None,
            lies_about: Vec::new(),
            is_played: false,
            is_mute: false,
            heard: None,
            upload_per_step: u64::MAX,
            upload_left: u64::MAX,
        });
        index
    }

    /// What the torrent is.
    pub(super) fn metainfo(&self) -> Arc<Metainfo> {
        let builder = Builder {
            name: b"x".to_vec(),
            files: vec![(Vec::new(), self.data.len() as u64)],
            piece_len: Some(self.layout.piece_len()),
            ..Builder::default()
        };
        let pieces = self.data.chunks(self.layout.piece_len() as usize);
        let hashes: Vec<[u8; 20]> = pieces.map(|piece| Sha1::digest(piece).into()).collect();
        let file = builder.finish(&hashes).expect("a torrent");
        Arc::new(Metainfo::parse(&file).expect("valid"))
    }

    /// One that knows only what the torrent is called.
    pub(super) fn stranger(&mut self) -> usize {
        let index = self.leech();
        let (config, names) =
            (self.hosts[index].swarm.config.clone(), Magnet::of(&self.metainfo()));
        let rng = Rng::from_seed(index as u64);
        self.hosts[index].swarm = Swarm::awaiting(self.now, names.info_hashes, config, rng);
        index
    }

    pub(super) fn seed(&mut self) -> usize {
        self.add(Bitfield::all(self.layout.piece_count()))
    }

    pub(super) fn leech(&mut self) -> usize {
        self.add(Bitfield::none(self.layout.piece_count()))
    }

    pub(super) fn addr(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host as u8 + 1], 6881))
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        self.connect_with(a, b, Reserved::ours());
    }

    pub(super) fn connect_with(&mut self, a: usize, b: usize, reserved: Reserved) {
        for (from, to, direction) in [(a, b, Direction::Outgoing), (b, a, Direction::Incoming)] {
            let peer_id = self.hosts[to].swarm.config.peer_id;
            let new =
                NewPeer { addr: Self::addr(to), direction, peer_id, reserved, is_encrypted: false };
            let host = &mut self.hosts[from];
            let key = host.swarm.add_peer(self.now, &new).expect("welcome");
            host.links.insert(key, (to, Inbox::new(MessageLimits::default())));
        }
        self.drain(a);
        self.drain(b);
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
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

    pub(super) fn connect_again(&mut self, a: usize, b: usize) {
        self.disconnect(a, b);
        self.connect(a, b);
    }

    /// Does what a driver does.
    pub(super) fn drain(&mut self, at: usize) {
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
                        || ours.chunks(16384).map(|block| Sha256::digest(block).into()).collect();
                    let verdict = if ours == right {
                        Verdict::Good(job.wants_digests.then(digests))
                    } else {
                        Verdict::Bad { digests: digests(), blocks: job.blocks }
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
                Output::WebSeedLied(key) => host.events.push(format!("web seed {} lied", key.0)),
                Output::Completed => host.events.push("completed".to_owned()),
                Output::HashesKnown => host.events.push("hashes known".to_owned()),
                Output::Recheck(pieces) => {
                    host.events.push(format!("rechecked {}", pieces.len()));
                    for piece in pieces {
                        let whole = Block { piece, offset: 0, len: self.layout.len_of(piece) };
                        let is_here = slice_of(&self.layout, &host.disk, whole)
                            == slice_of(&self.layout, &self.data, whole);
                        host.swarm.handle_rechecked(piece, is_here);
                    }
                }
                Output::HashBlocks(pieces) => {
                    let hashes = |piece: PieceIndex| {
                        let whole = Block { piece, offset: 0, len: self.layout.len_of(piece) };
                        let blocks = slice_of(&self.layout, &host.disk, whole).chunks(16384);
                        (piece, blocks.map(|block| Sha256::digest(block).into()).collect())
                    };
                    let found = pieces.into_iter().map(hashes).collect();
                    host.swarm.handle_block_hashes(found);
                }
                Output::Metadata(info) => host.metadata = Some(info),
                Output::Rendezvous(addr) => host.events.push(format!("rendezvous {addr}")),
                Output::Found => host.events.push("found".to_owned()),
                Output::SeenAs { .. } | Output::DhtNode(_) => {}
            }
        }
        for other in ended {
            self.disconnect(at, other);
        }
    }

    /// Delivers what is under way, a step of time each, until nothing moves; then lets timers run.
    pub(super) fn run(&mut self, seconds: u64) {
        self.run_for(Duration::from_secs(seconds));
    }

    /// The same, for a time shorter than a second.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
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

    pub(super) fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
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
        if let Some(heard) = &mut host.heard {
            heard.extend(messages);
            return;
        }
        let result = result.and_then(|()| host.swarm.handle_messages(now, key, &mut messages));
        match result {
            Ok(()) => self.drain(to),
            Err(fault) => {
                host.faults.push(fault);
                let means_well = !host.is_played
                    && !self.hosts[from].is_played
                    && self.hosts[from].lies_about.is_empty();
                assert!(!means_well, "host {to} blames host {from}, which means well: {fault}");
                self.disconnect(to, from);
            }
        }
    }

    /// Sends bytes as if host `from` had.
    pub(super) fn inject(&mut self, from: usize, to: usize, messages: &[Message]) {
        self.hosts[from].is_played = true;
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.wires.push_back((from, to, bytes.into()));
        self.run(0);
        while let Some((from, to, bytes)) = self.wires.pop_front() {
            self.deliver(from, to, bytes);
        }
    }

    pub(super) fn is_done(&self, at: usize) -> bool {
        self.hosts[at].swarm.is_completed() && self.hosts[at].disk == self.data
    }
}

pub(super) fn slice_of<'a>(layout: &FileLayout, disk: &'a [u8], block: Block) -> &'a [u8] {
    let start = block.piece.index() * layout.piece_len() as usize + block.offset as usize;
    &disk[start..start + block.len as usize]
}

/// What a peer without extensions says in its handshake.
pub(super) fn plain() -> Reserved {
    Reserved::default()
}
