//! All state of a session, owned by its one thread.
//!
//! The files beside this one add to [`Engine`] by what they do: `swarm` carries out what the brains
//! ask for, `check` looks at what is on disk, `tracker` announces, `save` remembers, `listen` takes
//! in who comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{ConnectOptions, Reactor, Reason, TimerId, Token};
use torrent::rate::TokenBucket;
use torrent::swarm::{Ending, NewPeer, PeerKey, Refused, Source, Swarm, SwarmConfig};
use torrent::wire::{Handshake, Reserved};
use torrent::{Bitfield, InfoHash, PeerFault, PeerId, PieceIndex, Rng};

use crate::buffer::{Buffer, BufferPool};
use crate::disk::FilePool;
use crate::event::{EventKind, Subscribers};
use crate::http::Http;
use crate::peer::{GREETING_PATIENCE, PeerConnection};
use crate::resume::ResumeStore;
use crate::settings::{SEEDING_POLICY, SessionConfig};
use crate::task::{Failure, Stage, Task, TaskId, piece_priorities};
use crate::tracker::UdpExchange;

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
    next_task: u64,
    pub(crate) subscribers: Subscribers,
    pub(crate) files: Arc<FilePool>,
    pub(crate) store: Option<Arc<ResumeStore>>,
    /// Made when first needed.
    pub(crate) http: Option<Http>,
    /// The port that peers can reach us on, once we listen.
    pub(crate) port: Option<u16>,
    pub(crate) udp: Vec<(SocketAddr, Token)>,
    pub(crate) udp_exchanges: Vec<UdpExchange>,
    /// Every connection, incoming and outgoing.
    pub(crate) connections: BTreeSet<Token>,
    /// Those that came to us, with their host.
    pub(crate) incoming: BTreeMap<Token, IpAddr>,
    pub(crate) incoming_per_host: BTreeMap<IpAddr, usize>,
    /// Those that we open and that have not shaken hands, all torrents together.
    pub(crate) half_open: BTreeSet<Token>,
    pub(crate) down: TokenBucket,
    pub(crate) up: TokenBucket,
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
    pub(crate) is_stopping: bool,
    /// When the snapshots for people are due.
    tell_at: Instant,
}

impl Engine {
    pub(crate) fn new(
        config: SessionConfig,
        store: Option<Arc<ResumeStore>>,
        now: Instant,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::from_seed(config.seed.unwrap_or(seed));
        Self {
            peer_id: PeerId::generate(&mut rng),
            key: rng.u32(),
            rng,
            tasks: BTreeMap::new(),
            by_hash: BTreeMap::new(),
            next_task: 0,
            subscribers: Subscribers::default(),
            files: Arc::new(FilePool::new(config.open_files_max)),
            store,
            http: None,
            port: None,
            udp: Vec::new(),
            udp_exchanges: Vec::new(),
            connections: BTreeSet::new(),
            incoming: BTreeMap::new(),
            incoming_per_host: BTreeMap::new(),
            half_open: BTreeSet::new(),
            down: TokenBucket::new(now, config.limits.download),
            up: TokenBucket::new(now, config.limits.upload),
            read_buffers: BufferPool::new(READ_BUFFER_LEN),
            disk_buffers: BufferPool::new(DISK_BUFFER_LEN),
            scratch: None,
            waiting_for_disk: VecDeque::new(),
            waiting_to_read: VecDeque::new(),
            waiting_to_send: VecDeque::new(),
            throttle: None,
            is_stopping: false,
            tell_at: now,
            config,
        }
    }

    pub(crate) const fn new_task_id(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task)
    }

    /// A brain for a torrent of which `have` is on disk.
    pub(crate) fn new_swarm(
        &mut self,
        now: Instant,
        metainfo: &torrent::metainfo::Metainfo,
        have: Bitfield,
        file_priorities: &[u8],
        is_sequential: bool,
    ) -> Swarm {
        let layout = Arc::clone(metainfo.layout());
        let priorities = piece_priorities(&layout, file_priorities);
        let config = SwarmConfig {
            peer_id: self.peer_id,
            port: self.port,
            client: self.config.user_agent.replace('/', " "),
            slots: self.config.limits.slots(),
            seeding: SEEDING_POLICY,
        };
        let rng = Rng::from_seed(self.rng.u64());
        let mut swarm =
            Swarm::new(now, metainfo.info_hash(), layout, have, &priorities, config, rng);
        swarm.set_sequential(is_sequential);
        swarm.set_upload_capacity(self.config.limits.upload);
        swarm
    }

    pub(crate) fn handshake(&self, info_hash: InfoHash) -> Bytes {
        let ours = Handshake { reserved: Reserved::ours(), info_hash, peer_id: self.peer_id };
        Bytes::copy_from_slice(&ours.encode())
    }

    /// The torrent that a peer asks for, if it may have it now.
    pub(crate) fn task_for_peer(&self, info_hash: InfoHash) -> Option<TaskId> {
        let id = *self.by_hash.get(&info_hash)?;
        let task = self.tasks.get(&id)?;
        let has_room = task.connections.len() < self.config.limits.connections_per_torrent_max;
        (task.is_running() && has_room).then_some(id)
    }

    pub(crate) fn piece_count(&self, id: TaskId) -> Option<u32> {
        Some(self.tasks.get(&id)?.metainfo.layout().piece_count())
    }

    /// A peer has shaken hands.
    pub(crate) fn add_peer(
        &mut self,
        id: TaskId,
        token: Token,
        new: &NewPeer,
        reactor: &Reactor<Self>,
    ) -> Result<PeerKey, Refused> {
        let Some(task) = self.tasks.get_mut(&id) else { return Err(Refused::Duplicate) };
        let key = task.swarm.add_peer(reactor.now(), new)?;
        self.half_open.remove(&token);
        task.half_open.remove(&token);
        task.connections.insert(key, token);
        task.swarm.known.connected(new.addr);
        self.publish(id, &EventKind::PeerConnected { addr: new.addr });
        Ok(key)
    }

    /// A connection is over, whoever ended it and however far it had come.
    pub(crate) fn connection_closed(
        &mut self,
        token: Token,
        addr: SocketAddr,
        talking: Option<(TaskId, PeerKey)>,
        reason: &Reason,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        self.connections.remove(&token);
        self.half_open.remove(&token);
        if let Some(host) = self.incoming.remove(&token)
            && let Some(count) = self.incoming_per_host.get_mut(&host)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.incoming_per_host.remove(&host);
            }
        }
        tracing::debug!(%addr, %reason, "connection closed");
        match talking {
            Some((id, key)) => {
                let Some(task) = self.tasks.get_mut(&id) else { return };
                task.connections.remove(&key);
                task.reading.remove(&key);
                let ending =
                    if task.swarm.is_useless(key) { Ending::NoUse } else { ending(reason) };
                task.swarm.remove_peer(key);
                task.swarm.known.disconnected(now, addr, ending);
                self.publish(id, &EventKind::PeerDisconnected { addr, reason: reason.to_string() });
                self.drain(id, reactor);
            }
            None => {
                for task in self.tasks.values_mut() {
                    if task.half_open.remove(&token) {
                        task.swarm.known.failed(now, addr);
                    }
                }
            }
        }
    }

    /// Opens connections while there are addresses to try and room for them.
    pub(crate) fn dial(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let limits = &self.config.limits;
        let options = ConnectOptions {
            bind: self.config.listen.bind,
            timeout: CONNECT_PATIENCE,
            ..ConnectOptions::default()
        };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.is_running() {
            return;
        }
        while self.half_open.len() < limits.half_open_max
            && self.connections.len() < limits.connections_max
            && task.connections.len() + task.half_open.len() < limits.connections_per_torrent_max
        {
            let Some(addr) = task.swarm.known.next_to_dial(now) else { return };
            if options.bind.is_some_and(|bind| bind.is_ipv4() != addr.is_ipv4()) {
                task.swarm.known.failed(now, addr);
                continue;
            }
            task.swarm.known.dialing(addr);
            let handler = PeerConnection::outgoing(addr, id, task.metainfo.info_hash());
            match reactor.connect(addr, &options, Box::new(handler)) {
                Ok(token) => {
                    task.half_open.insert(token);
                    self.half_open.insert(token);
                    self.connections.insert(token);
                }
                Err(error) => {
                    tracing::debug!(%addr, %error, "cannot dial");
                    task.swarm.known.failed(now, addr);
                }
            }
        }
    }

    /// Addresses of peers have come from somewhere.
    pub(crate) fn add_addresses(
        &mut self,
        id: TaskId,
        addrs: &[SocketAddr],
        source: Source,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        for &addr in addrs {
            task.swarm.known.add(addr, source);
        }
        self.dial(id, reactor);
    }

    /// A connection came in. Returns whether it may stay until it has shaken hands.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        let limits = &self.config.limits;
        let from_host = self.incoming_per_host.get(&host_of(ip)).copied().unwrap_or(0);
        !self.is_stopping
            && self.connections.len() < limits.connections_max
            && from_host < limits.connections_per_host_max
            && self.tasks.values().any(Task::is_running)
            && !self.tasks.values().all(|task| task.swarm.known.is_banned(ip))
    }

    /// An admitted connection has its token.
    pub(crate) fn admitted(&mut self, token: Token, ip: IpAddr, reactor: &mut Reactor<Self>) {
        self.connections.insert(token);
        self.incoming.insert(token, host_of(ip));
        *self.incoming_per_host.entry(host_of(ip)).or_default() += 1;
        reactor.set_deadline(token, Some(reactor.now() + GREETING_PATIENCE));
    }

    /// Closes every connection of a torrent.
    pub(crate) fn close_peers(
        &mut self,
        id: TaskId,
        reason: &'static str,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get(&id) else { return };
        let tokens: Vec<Token> =
            task.connections.values().chain(&task.half_open).copied().collect();
        for token in tokens {
            reactor.close(token, reason);
        }
    }

    /// Stops a torrent because of its disk; it goes on after a resume.
    pub(crate) fn fail(&mut self, id: TaskId, why: String, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.stage, Stage::Failed(_) | Stage::Stopped { .. }) {
            return;
        }
        tracing::warn!(torrent = %task.info_hash(), %why, "stopped");
        let was_checking = matches!(task.stage, Stage::Checking(_));
        task.swarm.abandon_open();
        task.stage = Stage::Failed(Failure { why: why.clone(), was_checking });
        task.announcer.stop(reactor.now());
        self.publish(id, &EventKind::DiskFailed(why));
        self.state_changed(id, reactor);
        self.close_peers(id, "the disk failed", reactor);
        self.drive_trackers(id, reactor);
    }

    pub(crate) fn publish(&mut self, id: TaskId, kind: &EventKind) {
        if let Some(task) = self.tasks.get(&id) {
            match kind {
                EventKind::PieceVerified(_)
                | EventKind::PeerConnected { .. }
                | EventKind::PeerDisconnected { .. } => {
                    tracing::debug!(torrent = %task.metainfo.name(), ?kind);
                }
                _ => tracing::info!(torrent = %task.metainfo.name(), ?kind),
            }
            self.subscribers.publish(task.info_hash(), kind);
        }
    }

    /// Tells everyone the state that a torrent is in now.
    pub(crate) fn state_changed(&mut self, id: TaskId, reactor: &Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        task.published.publish(task.status(reactor.now()));
        let state = task.state();
        self.publish(id, &EventKind::StateChanged(state));
    }

    /// Called a few times a second while the session lives.
    pub(crate) fn tick(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        // First, so that nothing that goes wrong below ends the ticking.
        if !self.is_stopping {
            reactor.add_timer(now + TICK, |engine, reactor| engine.tick(reactor));
        }
        let is_telling = now >= self.tell_at;
        if is_telling {
            self.tell_at = now + TELL_EVERY;
        }
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            if !task.is_running() {
                continue;
            }
            task.swarm.handle_timeout(now);
            if is_telling {
                task.published.publish(task.status(now));
                if !task.swarm.is_completed() && task.connections.is_empty() {
                    // Nobody is there: sooner than its interval, as soon as the tracker allows.
                    task.announcer.announce_now(now);
                    self.drive_trackers(id, reactor);
                }
            }
            self.drain(id, reactor);
            self.dial(id, reactor);
            self.pump_all_uploads(id, reactor);
            self.save_if_due(id, reactor);
        }
        self.resume_reading(reactor);
    }
}

/// Who is behind an address: with IPv6 everyone has a network of 2^64 of them.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What the end of a connection says about the peer.
fn ending(reason: &Reason) -> Ending {
    match reason {
        Reason::Handler(error) if error.downcast_ref::<PeerFault>().is_some() => Ending::Fault,
        Reason::Handler(_) | Reason::Local(_) => Ending::Useful,
        Reason::Reset | Reason::Error(_) | Reason::Timeout => Ending::Refused,
    }
}

/// All pieces of `layout`, in order.
pub(crate) fn all_pieces(piece_count: u32) -> impl Iterator<Item = PieceIndex> {
    (0..piece_count).map(PieceIndex)
}

const TICK: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_millis(400);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// What is read from one socket at once, at most.
const READ_BUFFER_LEN: usize = 256 * 1024;
/// What is read from disk at once for one peer, at most.
pub(crate) const DISK_BUFFER_LEN: usize = 256 * 1024;
