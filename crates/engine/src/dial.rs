//! Opens connections to peers, by the road that is likeliest to lead there, then by the others.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reactor::{Reactor, Token};
use torrent::swarm::Source;
use torrent::wire::PeerFlags;
use torrent::{InfoHash, InfoHashes};

use crate::engine::Engine;
use crate::event::{EventKind, FilterPoint};
use crate::parting::Parted;
use crate::peer::PeerConnection;
use crate::task::TaskId;

/// What carries a connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Road {
    /// TCP, as it is.
    Tcp,
    /// TCP, with a handshake that hides what it is for.
    TcpEncrypted,
    /// uTP, as it is.
    Utp,
    /// uTP, with that handshake.
    UtpEncrypted,
}

impl Road {
    /// What an address remembers it by.
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Tcp => 1,
            Self::TcpEncrypted => 2,
            Self::Utp => 4,
            Self::UtpEncrypted => 8,
        }
    }

    /// Whether it looks like noise.
    pub(crate) const fn is_encrypted(self) -> bool {
        match self {
            Self::Tcp | Self::Utp => false,
            Self::TcpEncrypted | Self::UtpEncrypted => true,
        }
    }

    /// The same way, as it is.
    const fn plain(self) -> Self {
        match self {
            Self::Tcp | Self::TcpEncrypted => Self::Tcp,
            Self::Utp | Self::UtpEncrypted => Self::Utp,
        }
    }

    /// The same way, looking like noise.
    pub(crate) const fn encrypted(self) -> Self {
        match self {
            Self::Tcp | Self::TcpEncrypted => Self::TcpEncrypted,
            Self::Utp | Self::UtpEncrypted => Self::UtpEncrypted,
        }
    }

    /// As well hidden, over uTP.
    pub(crate) const fn over_utp(self) -> Self {
        if self.is_encrypted() { Self::UtpEncrypted } else { Self::Utp }
    }

    /// Whether uTP carries it.
    pub(crate) const fn is_utp(self) -> bool {
        matches!(self, Self::Utp | Self::UtpEncrypted)
    }

    /// What other peers are told of it.
    pub(crate) const fn flags(self) -> PeerFlags {
        match self {
            Self::Tcp => PeerFlags(0),
            Self::TcpEncrypted => PeerFlags::ENCRYPTION,
            Self::Utp => PeerFlags::UTP,
            Self::UtpEncrypted => PeerFlags(PeerFlags::UTP.0 | PeerFlags::ENCRYPTION.0),
        }
    }

    /// The roads that end where this one did, if it was not even open.
    const fn same_way(self) -> u8 {
        match self {
            Self::Tcp | Self::TcpEncrypted => Self::Tcp.bit() | Self::TcpEncrypted.bit(),
            Self::Utp | Self::UtpEncrypted => Self::Utp.bit() | Self::UtpEncrypted.bit(),
        }
    }
}

/// What this network does to roads, going by the peers that were reached by another one than was tried first. Those
/// that were not reached at all tell nothing: most such addresses are dead.
#[derive(Debug, Default)]
pub(crate) struct Lessons {
    /// So many in succession that did not answer by uTP, and did by TCP.
    utp_misses: u32,
    /// So many that did not answer what is not encrypted, and did what is.
    plain_misses: u32,
}

impl Lessons {
    /// A peer has answered by a road, after these had led nowhere.
    pub(crate) const fn learn(&mut self, road: Road, tried: u8) {
        if road.is_utp() {
            self.utp_misses = 0;
        } else if tried & Road::Utp.same_way() != 0 {
            self.utp_misses = self.utp_misses.saturating_add(1);
        }
        if !road.is_encrypted() {
            self.plain_misses = 0;
        } else if tried & road.plain().bit() != 0 {
            self.plain_misses = self.plain_misses.saturating_add(1);
        }
    }

    /// Whether uTP never works here, as where datagrams are dropped.
    pub(crate) const fn is_utp_hopeless(&self) -> bool {
        self.utp_misses >= HOPELESS_FROM
    }

    /// Whether only what is encrypted works here.
    pub(crate) const fn is_plain_hopeless(&self) -> bool {
        self.plain_misses >= HOPELESS_FROM
    }
}

impl Engine {
    /// The roads to an address that our settings allow, the one to try first in front.
    fn roads(&self, now: Instant, addr: SocketAddr, flags: PeerFlags) -> Vec<Road> {
        let hidden = PeerFlags::ENCRYPTION.only_if(self.lessons.is_plain_hopeless());
        let tcp = self.config.encryption.roads_to(flags | hidden);
        let utp = tcp.iter().map(|road| road.over_utp());
        let (has_tcp, has_utp) = (self.config.tcp, self.has_utp(now));
        let tcp = tcp.iter().copied().filter(|_| has_tcp);
        let utp = utp.filter(|_| has_utp);
        // A proxy that carries datagrams is rarer than one that carries connections.
        if self.prefers_utp(addr, flags) && self.proxy_of_peers().is_none() {
            utp.chain(tcp).collect()
        } else {
            tcp.chain(utp).collect()
        }
    }

    /// The road to take now to an address, and by which of its names to ask for the torrent: those that led there
    /// last, or the first that have not failed. A hybrid has two names, and who has got it by a link may know but one.
    fn next_way(
        &self,
        roads: &[Road],
        names: InfoHashes,
        (tried, good): (u8, u8),
    ) -> Option<(Road, InfoHash)> {
        let by_name = |name| roads.iter().map(move |&road| (road, name));
        let ways = names.on_the_wire().flat_map(by_name);
        let left: Vec<(Road, InfoHash)> =
            ways.filter(|&(road, name)| tried & way_bit(road, name, names) == 0).collect();
        let known = left.iter().find(|(road, name)| way_bit(*road, *name, names) == good);
        known.or_else(|| left.first()).copied()
    }

    /// A peer that we dialled has shaken hands: what led there is tried first the next time.
    pub(crate) fn way_was_good(
        &mut self,
        id: TaskId,
        addr: SocketAddr,
        road: Road,
        name: InfoHash,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let bit = way_bit(road, name, task.metainfo.info_hashes());
        let (tried, _) = task.swarm.known.roads(addr);
        // What was asked for by the other name may have failed for the name.
        self.lessons.learn(road, if bit == road.bit() { tried } else { tried >> OTHER_NAME });
        task.swarm.known.road_was_good(addr, bit);
    }

    /// Opens connections while there are addresses to try and room for them.
    pub(crate) fn dial(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let usual_max = self.config.limits.connections_per_torrent_max;
        if self.is_proxy_down(now) {
            return;
        }
        loop {
            let has_room = self.has_room_to_dial();
            let Some(task) = self.tasks.get_mut(&id) else { return };
            let peers_max = task.peers_max.unwrap_or(usual_max);
            let is_full = task.connections.len() + task.half_open.len() >= peers_max;
            if !task.is_moving() || task.swarm.known.is_empty() {
                return;
            }
            if is_full {
                return self.turn_over(id, reactor);
            }
            if !has_room {
                if self.connections.len() >= self.config.limits.connections_max {
                    self.turn_over(id, reactor);
                }
                let Some(task) = self.tasks.get_mut(&id) else { return };
                if !std::mem::replace(&mut task.is_waiting_to_dial, true) {
                    self.waiting_to_dial.push_back(id);
                }
                return;
            }
            let Some(addr) = task.swarm.known.next_to_dial(now) else { return };
            let known = &task.swarm.known;
            let (names, tried, flags) =
                (task.metainfo.info_hashes(), known.roads(addr), known.flags(addr));
            let way = self.next_way(&self.roads(now, addr, flags), names, tried);
            let is_possible = self.may_dial(names.first(), addr);
            let Some(task) = self.tasks.get_mut(&id) else { return };
            let (true, Some((road, info_hash))) = (is_possible, way) else {
                task.swarm.known.failed(now, addr);
                continue;
            };
            task.swarm.known.dialing(addr);
            if let Err(error) = self.open_road(road, addr, id, info_hash, reactor) {
                tracing::debug!(%addr, %error, "cannot dial");
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.swarm.known.failed(now, addr);
                }
            }
        }
    }

    fn may_dial(&self, info_hash: InfoHash, addr: SocketAddr) -> bool {
        let bind = self.config.listen.bind.filter(|_| self.proxy_of_peers().is_none());
        bind.is_none_or(|bind| bind.is_ipv4() == addr.is_ipv4())
            && self.may_talk_to(Some(info_hash), addr, FilterPoint::Outgoing)
    }

    /// Begins to connect.
    fn open_road(
        &mut self,
        road: Road,
        addr: SocketAddr,
        id: TaskId,
        info_hash: InfoHash,
        reactor: &mut Reactor<Self>,
    ) -> io::Result<Token> {
        let now = reactor.now();
        let handler = Box::new(PeerConnection::outgoing(addr, road, id, info_hash, now));
        let token = match road {
            Road::Tcp | Road::TcpEncrypted => self.open_tcp(addr, handler, reactor)?,
            Road::Utp | Road::UtpEncrypted => self.connect_utp(addr, handler, reactor)?,
        };
        if let Some(task) = self.tasks.get_mut(&id) {
            task.half_open.insert(token);
        }
        self.half_open.insert(token);
        self.connections.insert(token);
        Ok(token)
    }

    /// A connection that we opened ended before its handshake: the next road is taken at once, if there
    /// is one.
    pub(crate) fn road_failed(&mut self, id: TaskId, parted: &Parted, now: Instant) {
        let road = parted.road;
        let failed = match parted.torrent {
            // Whatever it would have been asked for.
            _ if parted.is_unopened => road.same_way() | road.same_way() << OTHER_NAME,
            Some(name) => self.way_bit(id, road, name),
            None => road.bit(),
        };
        // Who has told its name can be reached by this one, and is not what we look for.
        let is_answered = parted.peer_id.is_some();
        let has_other = !is_answered && self.has_other_way(id, parted.addr, failed, now);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if has_other {
            task.swarm.known.road_failed(parted.addr, failed);
        } else {
            task.swarm.known.failed(now, parted.addr);
            if self.punching_road(now).is_some()
                && let Some(task) = self.tasks.get_mut(&id)
            {
                task.swarm.seek_introduction(now, parted.addr);
            }
        }
    }

    /// Whether an address is to be dialled at once, should these ways lead nowhere.
    fn has_other_way(&self, id: TaskId, addr: SocketAddr, failed: u8, now: Instant) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        let known = &task.swarm.known;
        let (tried, good) = known.roads(addr);
        let roads = self.roads(now, addr, known.flags(addr));
        self.next_way(&roads, task.metainfo.info_hashes(), (tried | failed, good)).is_some()
    }

    fn way_bit(&self, id: TaskId, road: Road, name: InfoHash) -> u8 {
        let task = self.tasks.get(&id);
        task.map_or_else(|| road.bit(), |task| way_bit(road, name, task.metainfo.info_hashes()))
    }

    /// How long a peer may take to shake hands, when it took so long until the connection stood. Where another road
    /// is left it is a few seconds, for there are networks that swallow what they do not like: a peer answers
    /// within one or two round trips, unless it is very busy.
    pub(crate) fn patience(
        &self,
        (id, addr): (TaskId, SocketAddr),
        (road, name): (Road, InfoHash),
        opening: Duration,
        now: Instant,
    ) -> Duration {
        let most = self.config.limits.handshake_patience;
        if self.has_other_way(id, addr, self.way_bit(id, road, name), now) {
            most.min((8 * opening).clamp(ROAD_PATIENCE_MIN, ROAD_PATIENCE_MAX))
        } else {
            most
        }
    }

    /// The road that two may take to each other through what hides them (BEP 55).
    fn punching_road(&self, now: Instant) -> Option<Road> {
        let first = self.config.encryption.roads().first().filter(|_| self.has_utp(now))?;
        Some(first.over_utp())
    }

    /// A peer introduces us to another, which dials us now.
    pub(crate) fn meet(&mut self, id: TaskId, addr: SocketAddr, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let (Some(road), Some(task)) = (self.punching_road(now), self.tasks.get(&id)) else {
            return;
        };
        let info_hash = task.info_hash();
        if !task.is_moving() || !self.has_room_to_dial() || !self.may_dial(info_hash, addr) {
            return;
        }
        tracing::debug!(%addr, "meeting through a third");
        if let Some(task) = self.tasks.get_mut(&id) {
            task.swarm.known.dialing(addr);
        }
        if let Err(error) = self.open_road(road, addr, id, info_hash, reactor) {
            tracing::debug!(%addr, %error, "cannot meet");
            if let Some(task) = self.tasks.get_mut(&id) {
                task.swarm.known.failed(reactor.now(), addr);
            }
        }
    }

    /// Whether another connection may be opened.
    pub(crate) fn has_room_to_dial(&self) -> bool {
        let limits = &self.config.limits;
        self.half_open.len() < limits.half_open_max
            && self.connections.len() < limits.connections_max
    }

    /// Addresses of peers have come from somewhere. Those that the filter bans are not even remembered.
    pub(crate) fn add_addresses(
        &mut self,
        id: TaskId,
        addrs: &[SocketAddr],
        source: Source,
        reactor: &mut Reactor<Self>,
    ) {
        for &addr in addrs {
            let Some(task) = self.tasks.get_mut(&id) else { return };
            match self.config.ip_filter.banned_by(addr.ip()) {
                None => {
                    task.swarm.known.add(addr, source);
                }
                Some(rule) => {
                    let (rule, point) = (Some(rule.text.to_owned()), FilterPoint::Outgoing);
                    self.publish(id, &EventKind::IpFiltered { addr, point, rule });
                }
            }
        }
        self.wake(id);
        self.dial(id, reactor);
    }
}

const ROAD_PATIENCE_MIN: Duration = Duration::from_secs(3);
const ROAD_PATIENCE_MAX: Duration = Duration::from_secs(8);
/// After so many that were reached by another road, that one comes first.
const HOPELESS_FROM: u32 = 4;
/// What an address remembers a road by, and by which of its names the torrent was asked for there.
fn way_bit(road: Road, name: InfoHash, names: InfoHashes) -> u8 {
    if names.first() == name { road.bit() } else { road.bit() << OTHER_NAME }
}

/// The bits of the roads on which a torrent is asked for by its second name are so much further up.
const OTHER_NAME: u8 = 4;
/// So long a connection may take to stand.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
