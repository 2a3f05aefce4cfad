//! Nodes in a pretended world: they are started, crash, and are cut off from each other.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{Node, NodeId};
use reactor::simulated::{Node as Site, Turn, World, WorldOptions};

/// A world of nodes. Where one has crashed there is none.
pub(crate) struct Net {
    pub(crate) world: World,
    pub(crate) sites: Vec<Option<Alive>>,
    /// These get no turns.
    pub(crate) stalled: Vec<bool>,
}

/// A node that runs.
pub(crate) struct Alive {
    pub(crate) node: Node,
    pub(crate) site: Site<()>,
}

impl Net {
    pub(crate) fn new(seed: u64, options: WorldOptions) -> Self {
        Self { world: World::new(seed, options), sites: Vec::new(), stalled: Vec::new() }
    }

    /// Adds a host with a node.
    pub(crate) fn add(&mut self, config: Config) -> usize {
        let index = self.sites.len();
        let host = self.world.host(&[ip(index)]);
        self.sites.push(Some(Alive::new(Site::new(host, ()), index, config)));
        self.stalled.push(false);
        index
    }

    /// As if the process were killed.
    pub(crate) fn crash(&mut self, index: usize) {
        self.sites[index] = None;
    }

    pub(crate) fn restart(&mut self, index: usize, config: Config) {
        let host = self.world.reactor_on(ip(index));
        self.sites[index] = Some(Alive::new(Site::new(host, ()), index, config));
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.alive(index).node
    }

    pub(crate) fn alive(&self, index: usize) -> &Alive {
        self.sites[index].as_ref().expect("it runs")
    }

    pub(crate) fn cut(&self, a: usize, b: usize) {
        self.world.cut(ip(a), ip(b));
    }

    pub(crate) fn mend(&self, a: usize, b: usize) {
        self.world.mend(ip(a), ip(b));
    }

    pub(crate) fn reset(&self, a: usize, b: usize) {
        self.world.reset_between(ip(a), ip(b));
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Lets time pass until something is so, at most so much. Says whether it is.
    pub(crate) fn run_until(&mut self, time: Duration, is_done: impl FnMut() -> bool) -> bool {
        let running = self.sites.iter_mut().zip(&self.stalled);
        let mut turns: Vec<&mut dyn Turn> = running
            .filter(|(_, is_stalled)| !**is_stalled)
            .filter_map(|(site, _)| Some(&mut site.as_mut()?.site as &mut dyn Turn))
            .collect();
        self.world.run_until(&mut turns, time, is_done)
    }

    /// Whether these two have a connection, as both of them see it.
    pub(crate) fn are_connected(&self, a: usize, b: usize) -> bool {
        let sees = |a: usize, b: usize| self.node(a).up_nodes().contains(self.node(b).id());
        sees(a, b) && sees(b, a)
    }

    /// How many sockets a node has open, without its listener.
    pub(crate) fn sockets_count(&self, index: usize) -> usize {
        self.alive(index).site.reactor.len() - 1
    }
}

impl Alive {
    fn new(mut site: Site<()>, index: usize, config: Config) -> Self {
        let settings = resolve(config.bind(&address(index)));
        let node = Node::start(&mut site.reactor, &settings).expect("starts");
        Self { node, site }
    }
}

/// What most nodes are like.
pub(crate) fn config(name: &str, seeds: &[usize]) -> Config {
    let config = Config::new().norc().node_id(name).secret("geheim");
    seeds.iter().fold(config, |config, seed| config.seed(&address(*seed)))
}

pub(crate) fn resolve(config: Config) -> Settings {
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

pub(crate) fn ip(index: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(index + 1).expect("not so many")])
}

pub(crate) fn address(index: usize) -> String {
    SocketAddr::new(ip(index), 4040).to_string()
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

/// Chance that follows from a seed: SplitMix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % limit as u64) as usize
    }

    pub(crate) fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}
