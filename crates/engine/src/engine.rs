//! All state of a session, owned by its one thread.
//!
//! The files beside this one add to [`Engine`] by what they do: `command` is what handles ask for, `activity` looks
//! after those that are awake, `dial` opens connections, `listen` takes in who comes, `connections` says who may and
//! what follows when they end, `swarm` carries out what the brains ask for, `dht` finds peers without trackers, `check`
//! looks at what is on disk, `tracker` announces, `save` remembers, `tell` says what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Instant;

use reactor::{Reactor, TimerId, Token};
use torrent::metainfo::create::Format;
use torrent::mse::SkeyTable;
use torrent::rate::TokenBucket;
use torrent::swarm::{PeerKey, Swarm, SwarmConfig};
use torrent::{Bitfield, ExternalIp, InfoHash, PeerId, PieceIndex, Rng, Witness};

use crate::activity::Activity;
use crate::buffer::{Buffer, BufferPool};
use crate::check_queue::{CheckQueue, DiskId};
use crate::command::ACTIVE;
use crate::dht::Dht;
use crate::dial::Lessons;
use crate::disk::{Crew, Disk, Disks, FilePool};
use crate::disk_pools::DiskPools;
use crate::encryption::KeyBudget;
use crate::event::{EventKind, Publisher};
use crate::http::Http;
use crate::lsd::Lsd;
use crate::nat::Nat;
use crate::network::Identity;
use crate::parting::DisconnectReason;
use crate::proxy::Proxy;
use crate::rate_class::LocalNetwork;
use crate::restore::Loads;
use crate::resume::ResumeStore;
use crate::save::Writes;
use crate::schedule::ScheduledLimits;
use crate::settings::{SEEDING_POLICY, SessionConfig};
use crate::task::{Failure, Stage, Task, TaskId, piece_priorities};
use crate::tracker::UdpExchange;
use crate::utp::Utp;
use crate::web_seed::WebSeeds;

/// The state that every handler of the engine's reactor gets.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: SessionConfig,
    pub(crate) identity: Identity,
    pub(crate) rng: Rng,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) by_hash: BTreeMap<InfoHash, TaskId>,
    /// The same names, as those have them whose connections look like noise.
    pub(crate) skeys: SkeyTable,
    pub(crate) key_budget: KeyBudget,
    next_task: u64,
    pub(crate) subscribers: Publisher,
    /// The files that are open on each disk.
    pub(crate) files: BTreeMap<DiskId, Arc<FilePool>>,
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
    /// What this network does to roads.
    pub(crate) lessons: Lessons,
    /// What others say about where we are.
    pub(crate) external: ExternalIp,
    pub(crate) udp_exchanges: Vec<UdpExchange>,
    /// Names that are being looked up.
    pub(crate) lookups: usize,
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
        let identity = Identity::new(&config, &mut rng);
        let lsd = (config.lsd && !config.is_hidden()).then(|| Lsd::new(now, &mut rng));
        Self {
            identity,
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
            lessons: Lessons::default(),
            external: ExternalIp::default(),
            udp_exchanges: Vec::new(),
            lookups: 0,
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
        peer_id: PeerId,
    ) -> Swarm {
        let layout = Arc::clone(metainfo.layout());
        let priorities = piece_priorities(&layout, file_priorities);
        let (config, rng) = (self.swarm_config(metainfo.is_private(), peer_id), self.fork_rng());
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
    pub(crate) fn swarm_config(&self, is_private: bool, peer_id: PeerId) -> SwarmConfig {
        SwarmConfig {
            peer_id,
            ports: self.own_ports(is_private),
            prefers_encryption: self.config.encryption.is_preferred(),
            client: self.config.client_name(),
            slots: self.config.limits.slots(None),
            seeding: SEEDING_POLICY,
            choking: self.config.choking,
            exchange: self.config.exchange,
            is_private,
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
}

/// All pieces of `layout`, in order.
pub(crate) fn all_pieces(piece_count: u32) -> impl Iterator<Item = PieceIndex> {
    (0..piece_count).map(PieceIndex)
}

/// What is read from one socket at once, at most.
const READ_BUFFER_LEN: usize = 256 * 1024;
/// What is read from disk at once for one peer, at most.
pub(crate) const DISK_BUFFER_LEN: usize = 256 * 1024;
/// Names that come from a database are smaller, so that new ones do not run out.
const TASK_IDS_MAX: u64 = 1 << 62;
