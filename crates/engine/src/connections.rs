//! Connections to peers, from the moment when they may be: who may come, whose they are, and what follows when they end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reactor::{Reactor, Reason, Token};
use torrent::swarm::{Direction, Ending, NewPeer, PeerKey, Refused};
use torrent::{InfoHash, PeerFault};

use crate::dial::Road;
use crate::engine::Engine;
use crate::event::{EventKind, FilterPoint};
use crate::parting::{DisconnectReason, Parted};
use crate::task::{Stage, TaskId};

impl Engine {
    /// The torrent that a peer asks for, if it may have it now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn task_for_peer(
        &mut self,
        info_hash: InfoHash,
        reactor: &mut Reactor<Self>,
    ) -> Result<TaskId, DisconnectReason> {
        let id = self.by_hash.get(&info_hash).ok_or(DisconnectReason::UnknownTorrent)?;
        let task = self.tasks.get_mut(id).ok_or(DisconnectReason::UnknownTorrent)?;
        match task.stage {
            Stage::Checking(_) => return Err(DisconnectReason::HashChecking),
            _ if !task.is_running() => return Err(DisconnectReason::UnknownTorrent),
            _ => {}
        }
        let max = task.peers_max.unwrap_or(self.config.limits.connections_per_torrent_max);
        let count = task.connections.len();
        if count > max || (count == max && !task.makes_room(reactor)) {
            return Err(DisconnectReason::TooManyPeers);
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
                let has_hung_up = matches!(reason, Reason::Reset)
                    || matches!(
                        why,
                        DisconnectReason::ClosedByRemote | DisconnectReason::BothSeeds
                    );
                let is_early =
                    has_hung_up && task.changed_at.is_some_and(|at| now < at + NEWS_SPREAD_WITHIN);
                let ending = match why.ending(reason) {
                    _ if is_useless => Ending::NoUse,
                    // That was meant for us as we were before.
                    _ if is_early => Ending::Early,
                    Ending::Ours => {
                        task.changed_at = Some(now);
                        Ending::Ours
                    }
                    // It may have been stopped, or look at its disk: it was of use, and may be so again soon.
                    _ if why == DisconnectReason::ClosedByRemote
                        && task.swarm.is_in_the_middle(key) =>
                    {
                        Ending::Refused
                    }
                    ending => ending,
                };
                let listens_at = task.swarm.remove_peer(key);
                // Of two that dialled each other at once by uTP both connections are with one address.
                if !task.swarm.is_connected_to(addr) {
                    task.swarm.known.disconnected(now, addr, ending);
                }
                if let Some(listens_at) = listens_at {
                    task.swarm.known.came_and_went(now, listens_at, ending);
                }
            } else if task.half_open.remove(&token) {
                let is_ours = why.ending(reason) == Ending::Ours;
                if is_ours || fault_of_proxy.is_some() {
                    // The address has nothing to do with it.
                    task.swarm.known.disconnected(now, addr, Ending::Ours);
                }
                match fault_of_proxy {
                    _ if is_ours => task.changed_at = Some(now),
                    Some(why) => self.proxy_failed(why, reactor),
                    None if task.swarm.is_connected_to(addr) => task.swarm.known.connected(addr),
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
        reactor.set_deadline(token, reactor.now().checked_add(patience));
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
}

/// Who is behind an address: with IPv6 everyone has a network of 2^64 of them.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// So long after more is wanted, peers may still hang up on a torrent that needed nothing; and so long after we have
/// hung up, they may take who comes back for a second connection.
const NEWS_SPREAD_WITHIN: Duration = Duration::from_secs(5);
