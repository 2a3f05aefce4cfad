//! Which way everything goes, and how much of us is told: one interface, no name, nothing of our own network.

use torrent::locality::{host_of, is_public_host, may_be_local};
use torrent::{PeerId, Rng};

use crate::engine::Engine;
use crate::http_client::{HttpOptions, Reach};
use crate::settings::SessionConfig;
use crate::task::TaskId;

/// Which way everything goes, and how much of us is told. The default leaves it to the system, and hides nothing.
///
/// # Addresses of our own network
///
/// Trackers and web seeds are named by whoever made the torrent, and that may be a stranger who wants us to
/// ask things of a router, or of a service on this machine. So unless [`allow_local`](Self::allow_local) is set:
///
/// - An address that is loopback, private or link-local, written as such or found by looking up the name, is
///   asked only if the torrent names no tracker or web seed of the world: a torrent that is shared within a
///   network has all of them there. The path of a tracker on this machine itself must end in `announce` or
///   `scrape`, and a web seed at home has no query.
/// - What is asked in the world cannot send us to such an address, neither by a redirect nor by a name that
///   means something else the second time.
/// - Trackers that the program or the user adds are asked wherever they are.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// The one network interface to use, such as `tun0`: for peers, trackers, web seeds, and to listen. What
    /// the system's own resolver does to look up a name is not ours to direct. If there is no interface of
    /// this name, the session does not start.
    pub interface: Option<String>,
    /// Tell nobody which program this is, which port it listens on, or what address a peer has. Switches off
    /// what makes us known around here: NAT mapping and local discovery. It does not hide the address: for
    /// that take a [proxy](SessionConfig::proxy) too.
    pub is_anonymous: bool,
    /// Ask trackers and web seeds of our own network, whatever torrent names them.
    pub allow_local: bool,
}

impl SessionConfig {
    /// How documents are fetched in such a session: by the same proxy and interface, under the same name.
    pub fn http_options(&self) -> HttpOptions {
        HttpOptions {
            user_agent: (!self.network.is_anonymous).then(|| self.user_agent.clone()),
            bind: self.listen.bind,
            interface: self.network.interface.clone(),
            proxy: self
                .proxy
                .as_ref()
                .filter(|proxy| proxy.takes_trackers())
                .map(|proxy| proxy.url.clone()),
        }
    }

    /// Whether we are to be found by nobody but those we go to: no local discovery, no NAT mapping.
    pub(crate) fn is_hidden(&self) -> bool {
        self.network.is_anonymous || self.is_strictly_proxied()
    }

    /// Whether nothing may leave beside the proxy.
    pub(crate) fn is_strictly_proxied(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.strict)
    }

    /// What peers and trackers know us by.
    pub(crate) fn new_peer_id(&self, rng: &mut Rng) -> PeerId {
        if self.network.is_anonymous {
            PeerId::generate_with_prefix(&[], rng)
        } else {
            PeerId::generate(rng)
        }
    }

    /// Our program's name as peers are told it; empty if they are told nothing.
    pub(crate) fn client_name(&self) -> String {
        if self.network.is_anonymous { String::new() } else { self.user_agent.replace('/', " ") }
    }
}

impl Engine {
    /// Where a tracker or web seed of a torrent may be.
    pub(crate) fn reach(&self, id: TaskId, url: &str) -> Reach {
        let Some(task) = self.tasks.get(&id).filter(|_| !self.config.network.allow_local) else {
            return Reach::Anywhere;
        };
        let metainfo = &task.metainfo;
        let trackers = metainfo.trackers().iter().flatten();
        let seeds = metainfo.web_seeds().iter().chain(metainfo.http_seeds());
        let named: Vec<&str> = trackers.chain(seeds).map(String::as_str).collect();
        if !named.contains(&url) {
            // Not a stranger's wish.
            Reach::Anywhere
        } else if may_be_local(url, named) {
            Reach::HomeTracker
        } else {
            Reach::World
        }
    }

    /// Where a part of a torrent may be, that a web seed has or sends us to: one in the world sends us nowhere at
    /// home, and at home nothing is asked with a query of a stranger's making, that may be an order.
    pub(crate) fn reach_of_part(&self, id: TaskId, seed: &str, url: &str) -> Reach {
        let is_elsewhere = host_of(seed) != host_of(url);
        match self.reach(id, seed) {
            Reach::Anywhere => Reach::Anywhere,
            Reach::World => Reach::World,
            Reach::Home | Reach::HomeTracker => {
                let is_from_world = is_elsewhere && host_of(seed).is_none_or(is_public_host);
                if is_from_world || seed.contains('?') { Reach::World } else { Reach::Home }
            }
        }
    }

    /// The port that trackers and peers are told: the router's, if it leads to ours.
    pub(crate) fn announced_port(&self) -> u16 {
        // Many trackers refuse who has none, and a peer that tries the first port finds nobody.
        self.nat.mapped.map(|ports| ports.tcp).or(self.port).unwrap_or(PORT_OF_NOBODY)
    }
}

const PORT_OF_NOBODY: u16 = 1;
