//! Finding peers on the local network ([BEP 14]): says there what we have, and hears what others have.
//!
//! There is a socket for each network that we are on, and for each family. Networks are looked for now and then, since
//! they come and go.
//!
//! [BEP 14]: https://www.bittorrent.org/beps/bep_0014.html

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reactor::{DatagramHandler, Interface, ListenOptions, Multicast, Reactor, Token};
use torrent::lsd::{Announcement, GROUP_V4, GROUP_V6, LocalAnnouncer};
use torrent::rate::TokenBucket;
use torrent::swarm::Source;
use torrent::{InfoHash, Rng};

use crate::engine::Engine;
use crate::settings::SessionConfig;
use crate::task::{Task, TaskId};

/// Our part in local discovery.
#[derive(Debug)]
pub(crate) struct Lsd {
    announcer: LocalAnnouncer,
    /// What we know our own words by when we hear them.
    cookie: String,
    /// By the number of the network interface, and whether it is for IPv6.
    sockets: BTreeMap<(u32, bool), Token>,
    /// When to look for networks again.
    look_at: Instant,
    /// So many datagrams are listened to.
    heard: TokenBucket,
}

/// Hears what others on a local network have.
#[derive(Debug)]
struct LocalDatagrams;

impl DatagramHandler<Engine> for LocalDatagrams {
    fn datagram(
        &mut self,
        _token: Token,
        from: SocketAddr,
        data: &[u8],
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) {
        engine.lsd_datagram(from, data, reactor);
    }
}

impl Lsd {
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        Self {
            announcer: LocalAnnouncer::new(now),
            cookie: format!("{:016x}", rng.u64()),
            sockets: BTreeMap::new(),
            look_at: now,
            heard: TokenBucket::new(now, Some(HEARD_PER_SECOND)),
        }
    }

    /// Opens sockets on networks that are new, and closes those of networks that are gone.
    fn look(&mut self, now: Instant, config: &SessionConfig, reactor: &mut Reactor<Engine>) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let mut found = reactor.interfaces().unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot tell on which networks we are");
            Vec::new()
        });
        let (ip, name) = (config.listen.bind, config.network.interface.as_ref());
        found.retain(|found| {
            ip.is_none_or(|ip| ip == found.addr) && name.is_none_or(|name| *name == found.name)
        });
        let there: BTreeMap<(u32, bool), Interface> =
            found.into_iter().map(|found| ((found.index, found.addr.is_ipv6()), found)).collect();
        for (_, token) in self.sockets.extract_if(.., |key, _| !there.contains_key(key)) {
            reactor.close(token, "the network is gone");
        }
        for (key, interface) in there {
            if self.sockets.contains_key(&key) {
                continue;
            }
            let group = group(interface.addr.is_ipv6());
            let multicast = Some(Multicast { group: group.ip(), interface });
            let options = ListenOptions { v6_only: true, multicast, ..ListenOptions::default() };
            match reactor.bind_udp(group, &options, Box::new(LocalDatagrams)) {
                Ok(token) => _ = self.sockets.insert(key, token),
                Err(error) => tracing::debug!(%group, %error, "no local discovery on a network"),
            }
        }
    }
}

impl Engine {
    /// A torrent has begun or ended.
    pub(crate) fn note_for_lsd(&mut self, id: TaskId) {
        let (Some(lsd), Some(task)) = (&mut self.lsd, self.tasks.get(&id)) else { return };
        // A hybrid may be known by either name.
        for name in task.metainfo.info_hashes().on_the_wire() {
            if is_announced(task) {
                lsd.announcer.add(name);
            } else {
                lsd.announcer.remove(name);
            }
        }
    }

    /// Announces what is due on the local networks. Called every tick.
    pub(crate) fn drive_lsd(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let (Some(lsd), Some(port)) = (&mut self.lsd, self.port) else { return };
        if lsd.announcer.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let Some(mut info_hashes) = lsd.announcer.poll_output(now) else { return };
        let (by_hash, tasks) = (&self.by_hash, &self.tasks);
        let is_here = |hash: &InfoHash| {
            by_hash.get(hash).and_then(|id| tasks.get(id)).is_some_and(is_announced)
        };
        for gone in info_hashes.extract_if(.., |hash| !is_here(hash)) {
            lsd.announcer.remove(gone);
        }
        if info_hashes.is_empty() {
            return;
        }
        lsd.look(now, &self.config, reactor);
        let said = Announcement { port, info_hashes, cookie: Some(lsd.cookie.clone()) };
        for (&(_, is_v6), &token) in &lsd.sockets {
            let group = group(is_v6);
            if let Err(error) = reactor.send_to(token, group, &said.encode(group)) {
                tracing::debug!(%group, %error, "cannot announce on a local network");
            }
        }
    }

    /// Somebody on a local network says what he has.
    fn lsd_datagram(&mut self, from: SocketAddr, data: &[u8], reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(lsd) = &mut self.lsd else { return };
        if lsd.heard.available(now) == 0 {
            return;
        }
        lsd.heard.take(now, 1);
        let Some(said) = Announcement::decode(data) else { return };
        if said.cookie.as_ref() == Some(&lsd.cookie) {
            return;
        }
        let mut addr = from;
        addr.set_port(said.port);
        for hash in said.info_hashes {
            let id = self.by_hash.get(&hash).copied();
            if let Some(id) = id.filter(|id| self.tasks.get(id).is_some_and(is_announced)) {
                self.add_addresses(id, &[addr], Source::Lsd, reactor);
            }
        }
    }
}

/// Only trackers are asked for peers of a private torrent (BEP 27).
fn is_announced(task: &Task) -> bool {
    task.is_running() && !task.metainfo.is_private()
}

fn group(is_v6: bool) -> SocketAddr {
    if is_v6 { GROUP_V6.into() } else { GROUP_V4.into() }
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
const HEARD_PER_SECOND: u64 = 100;
