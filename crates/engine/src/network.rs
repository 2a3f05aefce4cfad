//! Which way everything goes, and how much of us is told: one interface, no name, nothing of our own network.

use torrent::locality::{host_of, is_public_host, may_be_local};
use torrent::swarm::OwnPorts;
use torrent::web_seed::WebRequest;
use torrent::{PeerId, Rng};

use crate::engine::Engine;
use crate::http_client::{Bounds, HttpOptions};
use crate::nat::Family;
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
///   network has all of them there. The path of such a tracker must end in `announce` or `scrape`, and a web seed
///   at home has no query; neither may lead on to where that does not hold.
/// - What is asked in the world cannot send us to such an address, neither by a redirect nor by a name that
///   means something else the second time.
/// - Trackers that the program or the user adds are asked wherever they are.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    /// The one network interface to use, such as `tun0`: for peers, trackers, web seeds, the router, and to listen. If
    /// there is no interface of this name, the session does not start.
    ///
    /// Names are looked up by the system's resolver, whichever way that goes: which host has a tracker or a web seed
    /// may be seen on other interfaces. Where that matters, have the system ask its name servers through this
    /// interface, or take a SOCKS5 [proxy](SessionConfig::proxy), which looks them up itself.
    pub interface: Option<String>,
    /// Tell nobody which program this is, which port it listens on, or what address a peer has, and have another
    /// name in each torrent. Trackers and the DHT still hear of the port, or nobody could come. Switches off
    /// what makes us known around here: NAT mapping and local discovery. It does not hide the address: for
    /// that take a [proxy](SessionConfig::proxy) too.
    pub is_anonymous: bool,
    /// Ask trackers and web seeds of our own network, whatever torrent names them.
    pub allow_local: bool,
}

/// What we are called: in all torrents, or in one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// By peers and trackers.
    pub(crate) peer_id: PeerId,
    /// What trackers know us by when our address changes.
    pub(crate) key: u32,
}

impl Identity {
    pub(crate) fn new(config: &SessionConfig, rng: &mut Rng) -> Self {
        let peer_id = if config.network.is_anonymous {
            PeerId::generate_with_prefix(&[], rng)
        } else {
            PeerId::generate(rng)
        };
        Self { peer_id, key: rng.u32() }
    }
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

    /// Our program's name as peers are told it; empty if they are told nothing.
    pub(crate) fn client_name(&self) -> String {
        if self.network.is_anonymous { String::new() } else { self.user_agent.replace('/', " ") }
    }
}

impl Engine {
    /// What we are to be called in a torrent that begins: if nobody is to know us, by another name in each, or they
    /// would be seen to be of one hand.
    pub(crate) fn identity_for_torrent(&mut self) -> Identity {
        if self.config.network.is_anonymous {
            Identity::new(&self.config, &mut self.rng)
        } else {
            self.identity
        }
    }

    /// Where a tracker or web seed of a torrent may be. Whoever is not known to be the user's wish is a stranger's.
    pub(crate) fn bounds(&self, id: TaskId, url: &str) -> Bounds {
        let Some(task) = self.tasks.get(&id).filter(|_| !self.config.network.allow_local) else {
            return Bounds::Anywhere;
        };
        let metainfo = &task.metainfo;
        let trackers = metainfo.trackers().iter().flatten();
        let seeds = metainfo.web_seeds().iter().chain(metainfo.http_seeds());
        let named: Vec<&str> = trackers.chain(seeds).map(String::as_str).collect();
        let mut given = task.trackers.iter().flatten().flatten().chain(&task.web_seed_urls);
        if given.any(|given| given == url) && !named.contains(&url.trim()) {
            Bounds::Anywhere
        } else if may_be_local(url, named) {
            Bounds::HomeTracker
        } else {
            Bounds::World
        }
    }

    /// Where a part of a torrent may be, that a web seed has or sends us to: one in the world sends us nowhere at
    /// home, and at home nothing is asked with a query of a stranger's making, that may be an order.
    pub(crate) fn bounds_of_part(&self, id: TaskId, seed: &str, request: &WebRequest) -> Bounds {
        let WebRequest { url, is_redirected, .. } = request;
        match self.bounds(id, seed) {
            Bounds::Anywhere => Bounds::Anywhere,
            Bounds::World => Bounds::World,
            Bounds::Home | Bounds::HomeTracker => {
                let is_elsewhere = host_of(seed) != host_of(url);
                let is_from_world = is_elsewhere && host_of(seed).is_none_or(is_public_host);
                let is_order = seed.contains('?') || (*is_redirected && url.contains('?'));
                if is_from_world || is_order { Bounds::World } else { Bounds::Home }
            }
        }
    }

    /// The port that others are told over one family of addresses: the router's, if it leads to ours.
    pub(crate) fn announced_port(&self, family: Family) -> u16 {
        // Many trackers refuse who has none, and a peer that tries the first port finds nobody.
        self.nat.mapped(family).map(|ports| ports.tcp).or(self.port).unwrap_or(PORT_OF_NOBODY)
    }

    /// What peers of a torrent are told of our ports, over IPv4 and over IPv6.
    pub(crate) fn own_ports(&self, is_private: bool) -> [OwnPorts; 2] {
        [Family::V4, Family::V6].map(|family| OwnPorts {
            listen: self.port.map(|_| self.announced_port(family)),
            dht: self.dht_port(family, is_private),
        })
    }
}

const PORT_OF_NOBODY: u16 = 1;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use reactor::simulated::{World, WorldOptions};
    use torrent::metainfo::Metainfo;
    use torrent::metainfo::create::Builder;

    use super::*;
    use crate::settings::AddOptions;
    use crate::simulation::{Machine, quiet};

    fn torrent(name: &str, trackers: &[&str]) -> Metainfo {
        let builder = Builder {
            name: name.as_bytes().to_vec(),
            files: vec![(Vec::new(), 1)],
            trackers: trackers.iter().map(|&url| vec![url.to_owned()]).collect(),
            ..Builder::default()
        };
        Metainfo::parse(&builder.finish(&[[0; 20]]).expect("a torrent")).expect("valid")
    }

    fn add(machine: &mut Machine, metainfo: Metainfo, options: AddOptions) -> TaskId {
        let options = AddOptions { dir: machine.dir.path().to_owned(), ..options };
        let added = machine.node.with(|engine, reactor| engine.add(metainfo, options, reactor));
        added.expect("new").0
    }

    #[test]
    fn only_what_the_user_has_given_may_be_anywhere() {
        let world = World::new(1, WorldOptions::default());
        let mut machine = Machine::new(&world, 1);
        let (home, mine) = ("http://10.0.0.7/announce", "http://10.0.0.8/files/");
        let given = || AddOptions { web_seeds: vec![mine.to_owned()], ..AddOptions::default() };
        let public = torrent("public", &["http://tracker.example.org/announce", home]);
        let public = add(&mut machine, public, given());
        let at_home = add(&mut machine, torrent("at home", &[home]), given());
        let bounds = |id, url: &str| machine.node.state.bounds(id, url);
        assert_eq!([bounds(public, mine), bounds(at_home, mine)], [Bounds::Anywhere; 2]);
        assert_eq!(bounds(public, home), Bounds::World);
        assert_eq!(bounds(at_home, home), Bounds::HomeTracker);
        // What a link named may not look as it does in the torrent.
        assert_eq!(bounds(public, &format!(" {home}")), Bounds::World);
        assert_eq!(bounds(public, "http://10.0.0.9/reboot"), Bounds::World);
    }

    #[test]
    fn a_server_at_home_does_not_send_us_on_with_an_order() {
        let world = World::new(1, WorldOptions::default());
        let mut machine = Machine::new(&world, 1);
        let seed = "http://10.0.0.7/files";
        let id = add(&mut machine, torrent("at home", &[]), AddOptions::default());
        let bounds = |url: &str, is_redirected| {
            let request = WebRequest { url: url.to_owned(), range: None, is_redirected };
            machine.node.state.bounds_of_part(id, seed, &request)
        };
        assert_eq!(bounds("http://10.0.0.7/files?info_hash=x", false), Bounds::Home);
        assert_eq!(bounds("http://10.0.0.7/elsewhere", true), Bounds::Home);
        assert_eq!(bounds("http://10.0.0.7/files?reboot=1", true), Bounds::World);
    }

    #[test]
    fn whoever_is_not_to_be_known_has_another_name_in_each_torrent() {
        for is_anonymous in [false, true] {
            let world = World::new(1, WorldOptions::default());
            let network = NetworkConfig { is_anonymous, ..NetworkConfig::default() };
            let config = SessionConfig { network, ..quiet() };
            let mut machine = Machine::with_config(&world, 1, None, config);
            let ids = ["one", "two"]
                .map(|name| add(&mut machine, torrent(name, &[]), AddOptions::default()));
            let engine = &machine.node.state;
            let addr = SocketAddr::from(([10, 0, 0, 2], 1));
            let [one, two] = ids.map(|id| &engine.tasks[&id]).map(|task| {
                let greeting = engine.greeting(addr, task.info_hash());
                (greeting[48..].to_vec(), task.identity.key)
            });
            assert_eq!((one.0 != two.0, one.1 != two.1), (is_anonymous, is_anonymous));
            let own = engine.identity.peer_id.0;
            assert_eq!((one.0 == own, two.0 == own), (!is_anonymous, !is_anonymous));
        }
    }
}
