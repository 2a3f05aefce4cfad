//! All state of a session, owned by its one thread.
//!
//! The files beside this one add to [`Engine`] by what they do: `activity` looks after those that are
//! awake, `dial` opens connections, `swarm` carries out what the brains
//! ask for, `dht` finds peers without trackers, `check` looks at what is on disk, `tracker` announces, `save` remembers, `listen` takes
//! in who comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Closed, PoolKey, PoolOptions, Reactor, Reason, TimerId, Token};
use torrent::metainfo::create::Format;
use torrent::mse::SkeyTable;
use torrent::rate::TokenBucket;
use torrent::swarm::{Direction, Ending, NewPeer, PeerKey, Refused, Swarm, SwarmConfig};
use torrent::wire::{Handshake, Reserved};
use torrent::{
    Bitfield, ExternalIp, InfoHash, InfoHashV2, InfoHashes, PeerFault, PeerId, PieceIndex, Rng,
    Witness,
};

use crate::activity::Activity;
use crate::buffer::{Buffer, BufferPool};
use crate::check_queue::{CheckQueue, DiskId, DiskTraits};
use crate::command::ACTIVE;
use crate::dht::Dht;
use crate::dial::Road;
use crate::disk::{Crew, Disk, Disks, FilePool};
use crate::encryption::KeyBudget;
use crate::event::{EventKind, EventMask, FilterPoint, Packet, Publisher, Severity};
use crate::http::Http;
use crate::lsd::Lsd;
use crate::nat::Nat;
use crate::parting::{DisconnectReason, Parted};
use crate::proxy::Proxy;
use crate::rate_class::LocalNetwork;
use crate::restore::Loads;
use crate::resume::ResumeStore;
use crate::room::least_useful;
use crate::save::Writes;
use crate::schedule::ScheduledLimits;
use crate::settings::{SEEDING_POLICY, SessionConfig};
use crate::task::{DiskPools, Failure, Stage, Task, TaskId, piece_priorities};
use crate::tracker::UdpExchange;
use crate::utp::Utp;
use crate::web_seed::WebSeeds;

/// The state that every handler of the engine's reactor gets.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: SessionConfig,
    pub(crate) peer_id: PeerId,
    /// What trackers know us by when our address changes.
    pub(crate) key: u32,
    pub(crate) rng: Rng,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) by_hash: BTreeMap<InfoHash, TaskId>,
    /// The same names, as those have them whose connections look like noise.
    pub(crate) skeys: SkeyTable,
    pub(crate) key_budget: KeyBudget,
    next_task: u64,
    pub(crate) subscribers: Publisher,
    /// The files that are open on each disk.
    files: BTreeMap<DiskId, Arc<FilePool>>,
    pub(crate) store: Option<Arc<ResumeStore>>,
    /// Made when first needed.
    pub(crate) http: Option<Http>,
    pub(crate) nat: Nat,
    /// Found before the session begins.
    pub(crate) proxy: Option<Proxy>,
    /// The port that peers can reach us on, once we listen.
    pub(crate) port: Option<u16>,
    pub(crate) udp: Vec<(SocketAddr, Token)>,
    /// Peers on the local network, if they are looked for.
    pub(crate) lsd: Option<Lsd>,
    /// Once we listen, if it is wanted.
    pub(crate) utp: Option<Utp>,
    /// What others say about where we are.
    pub(crate) external: ExternalIp,
    pub(crate) udp_exchanges: Vec<UdpExchange>,
    /// Once we listen, unless it is off.
    pub(crate) dht: Option<Box<Dht>>,
    /// Every connection, incoming and outgoing.
    pub(crate) connections: BTreeSet<Token>,
    /// Those that came to us, with their host.
    pub(crate) incoming: BTreeMap<Token, IpAddr>,
    pub(crate) incoming_per_host: BTreeMap<IpAddr, usize>,
    /// Those that we open and that have not shaken hands, all torrents together.
    pub(crate) half_open: BTreeSet<Token>,
    pub(crate) down: TokenBucket,
    pub(crate) up: TokenBucket,
    /// What the schedule says of this hour.
    pub(crate) scheduled: Option<ScheduledLimits>,
    pub(crate) schedule_at: Instant,
    pub(crate) local_network: LocalNetwork,
    pub(crate) read_buffers: BufferPool,
    pub(crate) disk_buffers: BufferPool,
    pub(crate) scratch: Option<Buffer>,
    /// Connections that would read, were there room in memory.
    pub(crate) waiting_for_disk: VecDeque<(TaskId, PeerKey, Token)>,
    /// Connections that would read, were there allowance.
    pub(crate) waiting_to_read: VecDeque<(TaskId, PeerKey, Token)>,
    /// Peers that would be sent to, were there allowance.
    pub(crate) waiting_to_send: VecDeque<(TaskId, PeerKey)>,
    pub(crate) throttle: Option<TimerId>,
    /// What is mounted, as of then, and what is known of each disk.
    pub(crate) disks: (Disks, Instant),
    pub(crate) disk_pools: BTreeMap<Disk, DiskPools>,
    /// Of each disk on which something is checked, or was.
    pub(crate) crews: BTreeMap<DiskId, Weak<Crew>>,
    pub(crate) checks: CheckQueue,
    pub(crate) check_timer: Option<TimerId>,
    /// Jobs that threads of checks are at.
    pub(crate) check_jobs: usize,
    pub(crate) is_stopping: bool,
    pub(crate) activity: Activity,
    pub(crate) loads: Loads,
    pub(crate) writes: Writes,
    pub(crate) web_seeds: WebSeeds,
    /// Torrents that would dial, were there room.
    pub(crate) waiting_to_dial: VecDeque<TaskId>,
    /// When the snapshots for people are due.
    pub(crate) tell_at: Instant,
    /// No torrent that begins may announce itself before.
    pub(crate) announce_at: Instant,
}

impl Engine {
    pub(crate) fn new(
        config: SessionConfig,
        store: Option<Arc<ResumeStore>>,
        now: Instant,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::from_seed(config.seed.unwrap_or(seed));
        let subscribers = Publisher::default();
        if let Some(sink) = config.events.clone() {
            subscribers.add(sink, None);
        }
        let (peer_id, key) = (config.new_peer_id(&mut rng), rng.u32());
        let lsd = (config.lsd && !config.is_hidden()).then(|| Lsd::new(now, &mut rng));
        Self {
            peer_id,
            key,
            rng,
            lsd,
            tasks: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            skeys: SkeyTable::default(),
            key_budget: KeyBudget::new(now),
            next_task: 0,
            subscribers,
            files: BTreeMap::new(),
            store,
            http: None,
            nat: Nat::default(),
            proxy: None,
            port: None,
            udp: Vec::new(),
            utp: None,
            external: ExternalIp::default(),
            udp_exchanges: Vec::new(),
            dht: None,
            connections: BTreeSet::new(),
            incoming: BTreeMap::new(),
            incoming_per_host: BTreeMap::new(),
            half_open: BTreeSet::new(),
            down: TokenBucket::new(now, config.limits.download),
            up: TokenBucket::new(now, config.limits.upload),
            scheduled: None,
            schedule_at: now,
            local_network: LocalNetwork::default(),
            read_buffers: BufferPool::new(READ_BUFFER_LEN),
            disk_buffers: BufferPool::new(DISK_BUFFER_LEN),
            scratch: None,
            waiting_for_disk: VecDeque::new(),
            waiting_to_read: VecDeque::new(),
            waiting_to_send: VecDeque::new(),
            throttle: None,
            disks: (Disks::now(), now),
            disk_pools: BTreeMap::new(),
            crews: BTreeMap::new(),
            checks: CheckQueue::new(now, config.check.rate),
            check_timer: None,
            check_jobs: 0,
            is_stopping: false,
            activity: Activity::default(),
            loads: Loads::default(),
            writes: Writes::default(),
            web_seeds: WebSeeds::default(),
            waiting_to_dial: VecDeque::new(),
            tell_at: now,
            announce_at: now,
            config,
        }
    }

    /// A name for a torrent: `wanted` if it is free.
    pub(crate) fn new_task_id(&mut self, wanted: Option<TaskId>) -> TaskId {
        let is_free = |id: &TaskId| id.0 < TASK_IDS_MAX && !self.tasks.contains_key(id);
        let id = wanted.filter(is_free).unwrap_or(TaskId(self.next_task + 1));
        self.next_task = self.next_task.max(id.0);
        id
    }

    /// A brain for a torrent of which `have` is on disk.
    pub(crate) fn new_swarm(
        &mut self,
        now: Instant,
        metainfo: &Arc<torrent::metainfo::Metainfo>,
        have: Bitfield,
        file_priorities: &[u8],
    ) -> Swarm {
        let layout = Arc::clone(metainfo.layout());
        let priorities = piece_priorities(&layout, file_priorities);
        let (config, rng) = (self.swarm_config(metainfo.is_private()), self.fork_rng());
        let mut swarm =
            Swarm::new(now, metainfo.info_hash(), layout, have, &priorities, config, rng);
        swarm.set_metadata(Arc::clone(metainfo));
        if let Some(layers) = metainfo.layers() {
            swarm.set_hashes(layers, metainfo.format() == Format::V2);
        }
        swarm.set_upload_capacity(self.up.rate());
        swarm.known.set_ours(&self.external_addrs());
        swarm
    }

    /// What a brain is told at birth.
    pub(crate) fn swarm_config(&self, is_private: bool) -> SwarmConfig {
        SwarmConfig {
            peer_id: self.peer_id,
            port: self.port.map(|_| self.announced_port()),
            client: self.config.client_name(),
            slots: self.config.limits.slots(None),
            seeding: SEEDING_POLICY,
            choking: self.config.choking,
            exchange: self.config.exchange,
            is_private,
            dht_port: self.dht_port(is_private),
        }
    }

    /// A generator of its own for something.
    pub(crate) const fn fork_rng(&mut self) -> Rng {
        Rng::from_seed(self.rng.u64())
    }

    /// Where others see us, and the port that we listen on.
    pub(crate) fn external_addrs(&self) -> Vec<SocketAddr> {
        let ips = [self.external.v4(), self.external.v6()];
        ips.into_iter().flatten().map(|ip| (ip, self.port.unwrap_or(0)).into()).collect()
    }

    /// Somebody says at which address he sees us.
    pub(crate) fn seen_as(&mut self, witness: Witness, ours: IpAddr) {
        let Some(ip) = self.external.vote(witness, ours) else { return };
        let ours = self.external_addrs();
        for task in self.tasks.values_mut() {
            task.swarm.known.set_ours(&ours);
        }
        self.tell(None, &EventKind::ExternalAddress { ip });
    }

    /// Who we are, and for which torrent: what a connection begins with. It is told as sent.
    pub(crate) fn greeting(&self, addr: SocketAddr, info_hash: InfoHash) -> [u8; Handshake::LEN] {
        let ours = Reserved::ours();
        let ours = if self.names(info_hash).v2.is_some() { ours.with_v2() } else { ours };
        let has_dht = self.dht.is_some() && !self.is_private(info_hash);
        let reserved = if has_dht { ours.with_dht() } else { ours };
        let ours = Handshake { reserved, info_hash, peer_id: self.peer_id };
        self.tell_packet(Some(info_hash), addr, || Packet::Handshake(ours), true);
        self.tell_written(Some(info_hash), addr, Handshake::LEN);
        ours.encode()
    }

    fn is_private(&self, info_hash: InfoHash) -> bool {
        let task = self.by_hash.get(&info_hash).and_then(|id| self.tasks.get(id));
        task.is_some_and(|task| task.metainfo.is_private())
    }

    /// Says who we are, and for which torrent.
    ///
    /// # Errors
    /// If the connection is over.
    pub(crate) fn greet(
        &self,
        token: Token,
        addr: SocketAddr,
        info_hash: InfoHash,
        reactor: &mut Reactor<Self>,
    ) -> Result<(), Closed> {
        let greeting = self.greeting(addr, info_hash);
        reactor.write(token, Bytes::copy_from_slice(&greeting)).map(drop)
    }

    /// The disk that a folder is on, with threads of its own: should it hang, others do not.
    pub(crate) fn disk_of(&mut self, dir: &Path, reactor: &mut Reactor<Self>) -> DiskPools {
        let now = reactor.now();
        if now.saturating_duration_since(self.disks.1) >= MOUNTS_FRESH {
            self.disks = (Disks::now(), now);
        }
        let disk = self.disks.0.disk_of(dir);
        if let Some(&known) = self.disk_pools.get(&disk) {
            return known;
        }
        let number = disk.number();
        let check = &self.config.check;
        let threads = Crew::threads(check.threads);
        let pools = DiskPools {
            data: PoolKey(number << 1),
            check: PoolKey(number << 1 | 1),
            traits: DiskTraits {
                id: DiskId(number),
                is_rotational: disk.is_rotational(),
                batches_max: threads.saturating_mul(2),
            },
        };
        let data_threads = self.config.disk_threads.max(1);
        let data = PoolOptions {
            threads: data_threads,
            patience: DATA_PATIENCE,
            ..PoolOptions::default()
        };
        reactor.set_pool(pools.data, data);
        let nice = if check.low_priority { NICE_MAX } else { 0 };
        let idle_io = check.low_priority;
        // What it finds after the end nobody wants to know.
        let patience = Duration::ZERO;
        reactor.set_pool(pools.check, PoolOptions { threads, nice, idle_io, patience });
        self.disk_pools.insert(disk, pools);
        pools
    }

    /// The files that are open on a disk.
    pub(crate) fn files_of(&mut self, disk: DiskId) -> Arc<FilePool> {
        if let Some(files) = self.files.get(&disk) {
            return Arc::clone(files);
        }
        let first = self.files.values().next();
        let new =
            first.map_or_else(|| FilePool::new(self.config.open_files_max), |first| first.beside());
        let files = Arc::new(new);
        self.files.insert(disk, Arc::clone(&files));
        files
    }

    /// All names of the torrent that has this one.
    pub(crate) fn names(&self, info_hash: InfoHash) -> InfoHashes {
        let task = self.by_hash.get(&info_hash).and_then(|id| self.tasks.get(id));
        let none = InfoHashes { v1: None, v2: None };
        task.map_or(none, |task| task.metainfo.info_hashes())
    }

    /// By which name we answer a peer: who knows version 2 too is told so by that of version 2 (BEP 52).
    pub(crate) fn name_for(&self, theirs: &Handshake) -> InfoHash {
        let v2 = self.names(theirs.info_hash).v2.filter(|_| theirs.reserved.has_v2());
        v2.map_or(theirs.info_hash, InfoHashV2::truncated)
    }

    /// Whether two names are of one torrent.
    pub(crate) fn is_same_torrent(&self, one: InfoHash, other: InfoHash) -> bool {
        one == other
            || self.by_hash.get(&one).is_some_and(|id| self.by_hash.get(&other) == Some(id))
    }

    /// The torrent that a peer asks for, if it may have it now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn task_for_peer(
        &self,
        info_hash: InfoHash,
        reactor: &mut Reactor<Self>,
    ) -> Result<TaskId, DisconnectReason> {
        let id = self.by_hash.get(&info_hash).ok_or(DisconnectReason::UnknownTorrent)?;
        let task = self.tasks.get(id).ok_or(DisconnectReason::UnknownTorrent)?;
        match task.stage {
            Stage::Checking(_) => return Err(DisconnectReason::HashChecking),
            _ if !task.is_running() => return Err(DisconnectReason::UnknownTorrent),
            _ => {}
        }
        let max = task.peers_max.unwrap_or(self.config.limits.connections_per_torrent_max);
        let count = task.connections.len();
        if count >= max {
            let useless = least_useful(reactor.now(), task).filter(|_| count == max);
            let token = useless.ok_or(DisconnectReason::TooManyPeers)?;
            reactor.close(token, DisconnectReason::Useless.words());
        }
        Ok(*id)
    }

    /// Of a torrent that may have peers now and knows its pieces.
    pub(crate) fn piece_count(&self, id: TaskId) -> Option<u32> {
        let task = self.tasks.get(&id).filter(|task| matches!(task.stage, Stage::Running))?;
        Some(task.metainfo.layout().piece_count())
    }

    /// How long a bitfield may be that a peer of this torrent sends, if it may have any now.
    pub(crate) fn bitfield_len_max(&self, id: TaskId) -> Option<usize> {
        let task = self.tasks.get(&id).filter(|task| task.is_running())?;
        Some(task.swarm.bitfield_len_max())
    }

    /// A peer has shaken hands.
    pub(crate) fn add_peer(
        &mut self,
        id: TaskId,
        token: Token,
        new: &NewPeer,
        road: Road,
        reactor: &Reactor<Self>,
    ) -> Result<PeerKey, Refused> {
        let Some(task) = self.tasks.get_mut(&id) else { return Err(Refused::Duplicate) };
        let key = task.swarm.add_peer(reactor.now(), new)?;
        self.half_open.remove(&token);
        task.half_open.remove(&token);
        task.connections.insert(key, token);
        task.swarm.known.connected(new.addr);
        task.swarm.set_carrier(key, road.flags());
        if new.direction == Direction::Outgoing {
            task.swarm.known.road_was_good(new.addr, road.bit());
            self.proxy_worked();
        }
        self.classify(token, new.addr.ip(), reactor.now());
        self.wake(id);
        let NewPeer { addr, direction, peer_id, reserved, is_encrypted } = *new;
        let is_utp = road.is_utp();
        let kind =
            EventKind::PeerConnected { addr, peer_id, direction, reserved, is_encrypted, is_utp };
        self.publish(id, &kind);
        Ok(key)
    }

    /// A connection is over, whoever ended it and however far it had come.
    pub(crate) fn connection_closed(
        &mut self,
        token: Token,
        parted: &Parted,
        reason: &Reason,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        let addr = parted.addr;
        self.connections.remove(&token);
        self.declassify(token);
        self.half_open.remove(&token);
        if let Some(host) = self.incoming.remove(&token)
            && let Some(count) = self.incoming_per_host.get_mut(&host)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.incoming_per_host.remove(&host);
            }
        }
        let (why, detail) = parted.reason(reason);
        let fault_of_proxy = self.fault_of_proxy(parted, reason);
        if let Some(id) = parted.task
            && let Some(task) = self.tasks.get_mut(&id)
        {
            if let Some(key) = parted.key {
                task.connections.remove(&key);
                task.reading.remove(&key);
                let is_useless = task.swarm.is_useless(key);
                let had_no_use =
                    matches!(why, DisconnectReason::ClosedByRemote | DisconnectReason::BothSeeds);
                let is_late = had_no_use
                    && task.wants_more_since.is_some_and(|at| now < at + NEWS_SPREAD_WITHIN);
                let ending = match why.ending(reason) {
                    _ if is_useless => Ending::NoUse,
                    // That was meant for us as we were before.
                    _ if is_late => Ending::Ours,
                    ending => ending,
                };
                task.swarm.remove_peer(key);
                task.swarm.known.disconnected(now, addr, ending);
            } else if task.half_open.remove(&token) {
                match fault_of_proxy {
                    Some(why) => {
                        // The address has nothing to do with it.
                        task.swarm.known.disconnected(now, addr, Ending::Ours);
                        self.proxy_failed(why, reactor);
                    }
                    None => self.road_failed(id, parted, now),
                }
            }
        }
        if let Reason::Handler(error) = reason
            && let Some(&fault) = error.downcast_ref::<PeerFault>()
        {
            self.tell(parted.torrent, &EventKind::PeerFailed { addr, fault });
        }
        let kind =
            EventKind::PeerDisconnected { addr, peer_id: parted.peer_id, reason: why, detail };
        self.tell(parted.torrent, &kind);
        if let Some(id) = parted.task {
            self.wake(id);
            self.drain(id, reactor);
        }
    }

    /// A connection came in. May it stay until it has shaken hands?
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admits(
        &self,
        addr: SocketAddr,
        reactor: &mut Reactor<Self>,
    ) -> Result<(), DisconnectReason> {
        let ip = addr.ip();
        let limits = &self.config.limits;
        let from_host = self.incoming_per_host.get(&host_of(ip)).copied().unwrap_or(0);
        if self.is_stopping {
            Err(DisconnectReason::Shutdown)
        } else if self.connections.len() > limits.connections_max
            || from_host >= limits.connections_per_host_max
        {
            Err(DisconnectReason::TooManyPeers)
        } else if !self.activity.is_any_running() {
            Err(if self.activity.is_any_checking() {
                DisconnectReason::HashChecking
            } else {
                DisconnectReason::UnknownTorrent
            })
        } else if self.tasks.values().all(|task| task.swarm.known.is_banned(ip)) {
            Err(DisconnectReason::Banned)
        } else if !self.may_talk_to(None, addr, FilterPoint::Incoming) {
            Err(DisconnectReason::Filtered)
        } else if self.connections.len() == limits.connections_max {
            let useless = self.least_useful_of_all(reactor.now());
            let token = useless.ok_or(DisconnectReason::TooManyPeers)?;
            reactor.close(token, DisconnectReason::Useless.words());
            Ok(())
        } else {
            Ok(())
        }
    }

    /// An admitted connection has its token.
    pub(crate) fn admitted(&mut self, token: Token, ip: IpAddr, reactor: &mut Reactor<Self>) {
        self.connections.insert(token);
        self.incoming.insert(token, host_of(ip));
        *self.incoming_per_host.entry(host_of(ip)).or_default() += 1;
        let patience = self.config.limits.handshake_patience;
        reactor.set_deadline(token, Some(reactor.now() + patience));
    }

    /// Closes every connection of a torrent.
    pub(crate) fn close_peers(
        &mut self,
        id: TaskId,
        reason: DisconnectReason,
        reactor: &mut Reactor<Self>,
    ) {
        self.stop_web_seeds(id, reactor);
        let Some(task) = self.tasks.get(&id) else { return };
        let tokens: Vec<Token> =
            task.connections.values().chain(&task.half_open).copied().collect();
        for token in tokens {
            reactor.close(token, reason.words());
        }
    }

    /// Stops a torrent because of its disk; it goes on when it is started.
    pub(crate) fn fail(&mut self, id: TaskId, why: String, reactor: &mut Reactor<Self>) {
        self.fail_with(id, why, EventKind::DiskFailed, reactor);
    }

    /// The same for another reason, told as such.
    pub(crate) fn fail_with(
        &mut self,
        id: TaskId,
        why: String,
        kind: impl FnOnce(String) -> EventKind,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let was_checking = match task.stage {
            Stage::Failed(_) | Stage::Ended { .. } => return,
            Stage::Opening | Stage::Fetching | Stage::Checking(_) => true,
            Stage::Stopped { ref doubtful } => !doubtful.is_empty(),
            Stage::Running => false,
        };
        tracing::warn!(torrent = %task.info_hash(), %why, "stopped");
        self.leave_check(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.swarm.abandon_open();
        task.published.set_error(why.clone());
        task.flags = task.flags.without(ACTIVE);
        task.stage = Stage::Failed(Failure { why: why.clone(), was_checking });
        task.announcer.stop(reactor.now());
        self.publish(id, &kind(why));
        self.state_changed(id, reactor);
        self.close_peers(id, DisconnectReason::DiskFailed, reactor);
        self.drive_trackers(id, reactor);
    }

    /// The loop is over, in order or not: handles that are left shall see that nothing goes on.
    pub(crate) fn end(&mut self, reactor: &mut Reactor<Self>) {
        self.is_stopping = true;
        self.unmap_ports();
        self.end_utp(reactor);
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            self.leave_check(id, reactor);
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            if !matches!(task.stage, Stage::Ended { .. }) {
                task.stage = Stage::Ended { is_in_doubt: true };
                task.flags = task.flags.without(ACTIVE);
                self.state_changed(id, reactor);
            }
        }
    }

    /// Something happened to a torrent.
    pub(crate) fn publish(&self, id: TaskId, kind: &EventKind) {
        if let Some(task) = self.tasks.get(&id) {
            self.tell(Some(task.info_hash()), kind);
        }
    }

    /// Something happened, perhaps to a torrent.
    pub(crate) fn tell(&self, torrent: Option<InfoHash>, kind: &EventKind) {
        let name = || {
            let id = torrent.and_then(|torrent| self.by_hash.get(&torrent));
            id.and_then(|id| self.tasks.get(id)).map(|task| task.metainfo.name())
        };
        match kind {
            EventKind::PieceVerified(_)
            | EventKind::PieceFailed(_)
            | EventKind::StatusChanged(_)
            | EventKind::PeerConnected { .. }
            | EventKind::PeerDisconnected { .. } => tracing::debug!(torrent = name(), ?kind),
            _ if kind.severity() == Severity::Debug => tracing::trace!(torrent = name(), ?kind),
            _ => tracing::info!(torrent = name(), ?kind),
        }
        self.subscribers.publish(torrent, kind);
    }

    /// Bytes are on their way to a peer.
    pub(crate) fn tell_written(&self, torrent: Option<InfoHash>, addr: SocketAddr, len: usize) {
        if self.subscribers.wants(EventMask::TRANSFER) {
            self.tell(torrent, &EventKind::PeerWritten { addr, len });
        }
    }

    /// A peer was sent a message, or sent us one.
    pub(crate) fn tell_packet(
        &self,
        torrent: Option<InfoHash>,
        addr: SocketAddr,
        packet: impl FnOnce() -> Packet,
        is_ours: bool,
    ) {
        if self.subscribers.wants(EventMask::PACKETS) {
            let packet = packet();
            let kind = if is_ours {
                EventKind::PacketSent { addr, packet }
            } else {
                EventKind::PacketReceived { addr, packet }
            };
            self.tell(torrent, &kind);
        }
    }

    /// Tells everyone the state that a torrent is in now.
    pub(crate) fn state_changed(&mut self, id: TaskId, reactor: &Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        task.published.publish(task.status(reactor.now()));
        let (word, state) = (task.word(), task.state());
        if task.published.set_word(word) {
            self.publish(id, &EventKind::StatusChanged(word));
        }
        self.publish(id, &EventKind::StateChanged(state));
        self.note_activity(id);
        self.note_dht(id, reactor.now());
    }
}

/// Who is behind an address: with IPv6 everyone has a network of 2^64 of them.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// All pieces of `layout`, in order.
pub(crate) fn all_pieces(piece_count: u32) -> impl Iterator<Item = PieceIndex> {
    (0..piece_count).map(PieceIndex)
}

/// So long what is mounted is taken to be as it was.
const MOUNTS_FRESH: Duration = Duration::from_secs(2);
const NICE_MAX: u8 = 19;
/// How long the end of a session waits for reads and writes that have begun. `shutdown` has waited by
/// then: what still runs hangs.
const DATA_PATIENCE: Duration = Duration::from_secs(1);
/// So long after more is wanted, peers may still hang up on a torrent that needed nothing.
const NEWS_SPREAD_WITHIN: Duration = Duration::from_secs(5);
/// What is read from one socket at once, at most.
const READ_BUFFER_LEN: usize = 256 * 1024;
/// What is read from disk at once for one peer, at most.
pub(crate) const DISK_BUFFER_LEN: usize = 256 * 1024;
/// Names that come from a database are smaller, so that new ones do not run out.
const TASK_IDS_MAX: u64 = 1 << 62;
