//! Connections that are wanted at all times: with the seeds, and, for global nodes, with each other.
//! A try that fails is repeated, later and later.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::Reactor;

use super::connection::Origin;
use super::dial::ADDRESSES_MAX;
use crate::node::timer::Timer;
use crate::{Node, NodeId};

/// A seed: an address where a node is that knows others.
pub(crate) struct Seed {
    host: String,
    port: u16,
    /// Who is there, since it has greeted.
    node: Option<NodeId>,
    delay: Duration,
    /// Tries that have not ended.
    dialled: usize,
    retry: Option<Timer>,
    /// It turned out to be this node.
    is_self: bool,
}

/// A node that a connection is to be kept with.
pub(super) struct Keepalive {
    delay: Duration,
    retry: Option<Timer>,
}

/// The first delay between tries of a seed, before chance makes it up to twice as long.
const SEED_DELAY: Duration = Duration::from_millis(600);

/// The same for global nodes among themselves.
const KEEPALIVE_DELAY: Duration = Duration::from_millis(300);

/// With so many nodes are connections kept, which others say are global; with the rest there is one when
/// there is something to send.
const KEEPALIVES_MAX: usize = 4096;

impl Node {
    /// Wants connections with seeds, from now on.
    pub(crate) fn begin_seeding(&self, seeds: Vec<(String, u16)>) {
        let count = seeds.len();
        *self.shared.mesh.seeds.borrow_mut() = seeds
            .into_iter()
            .map(|(host, port)| Seed {
                host,
                port,
                node: None,
                delay: SEED_DELAY,
                dialled: 0,
                retry: None,
                is_self: false,
            })
            .collect();
        for index in 0..count {
            self.try_seed(index);
        }
    }

    fn with_seed<T>(&self, index: usize, act: impl FnOnce(&mut Seed) -> T) -> T {
        act(&mut self.shared.mesh.seeds.borrow_mut()[index])
    }

    fn try_seed(&self, index: usize) {
        let (host, port, is_wanted) = self.with_seed(index, |seed| {
            let is_up = seed.node.as_ref().is_some_and(|id| self.shared.mesh.link(id).is_some());
            let is_wanted = !seed.is_self && !is_up && seed.dialled == 0;
            if is_wanted {
                seed.dialled = 1;
            }
            (seed.host.clone(), seed.port, is_wanted)
        });
        if !is_wanted {
            return;
        }
        self.with_reactor(move |node, reactor| {
            let (here, name) = (node.clone(), host.clone());
            reactor.resolve(&host, port, move |found, (), reactor| match found {
                Ok(addresses) => here.dial_seed(index, &addresses, reactor),
                Err(error) => {
                    tracing::warn!("seed {name}: {error}");
                    here.seed_is_lost(index, "its address is not known");
                }
            });
        });
    }

    fn dial_seed(&self, index: usize, addresses: &[SocketAddr], reactor: &mut Reactor<()>) {
        if addresses.is_empty() {
            return self.seed_is_lost(index, "its name has no address");
        }
        let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        self.with_seed(index, |seed| seed.dialled = addresses.len());
        for address in addresses {
            self.dial(*address, Origin::Seed(index), reactor);
        }
    }

    /// A seed has said who it is.
    pub(super) fn seed_has_greeted(&self, index: usize, id: &NodeId) {
        self.with_seed(index, |seed| {
            seed.node = Some(id.clone());
            seed.is_self = id == self.id();
        });
        self.with_database(|database| database.seed_greeted(id));
    }

    /// A connection with a seed is over, or did not come to be.
    pub(super) fn seed_is_lost(&self, index: usize, text: &str) {
        let is_over = self.with_seed(index, |seed| {
            seed.dialled = seed.dialled.saturating_sub(1);
            tracing::debug!("seed {}:{}: {text}", seed.host, seed.port);
            seed.dialled == 0 && !seed.is_self
        });
        if is_over {
            self.retry_seed(index);
        }
    }

    fn retry_seed(&self, index: usize) {
        if self.shared.mesh.is_over.get() {
            return;
        }
        let delay_max = self.shared.mesh.limits.monitor_timeout;
        let chance = self.chance();
        let delay = self.with_seed(index, |seed| {
            let delay = seed.delay.mul_f64(1.0 + chance);
            seed.delay = (seed.delay * 2).min(delay_max);
            delay
        });
        let timer = self.timer(delay, move |node| {
            // It may be up by a connection that it opened.
            node.try_seed(index);
        });
        self.with_seed(index, |seed| seed.retry = Some(timer));
    }

    /// A node is connected with.
    pub(super) fn node_is_up_now(&self, id: &NodeId) {
        for seed in self.shared.mesh.seeds.borrow_mut().iter_mut() {
            if seed.node.as_ref() == Some(id) {
                seed.delay = SEED_DELAY;
            }
        }
        if let Some(keepalive) = self.shared.mesh.keepalives.borrow_mut().get_mut(id) {
            keepalive.delay = KEEPALIVE_DELAY;
        }
        self.with_database(|database| database.node_up(id));
    }

    /// A node is connected with no more.
    pub(super) fn node_is_down_now(&self, id: &NodeId) {
        self.with_database(|database| database.node_down(id));
        let seeds = self.shared.mesh.seeds.borrow();
        let lost: Vec<usize> = (0..seeds.len())
            .filter(|index| seeds[*index].node.as_ref() == Some(id) && seeds[*index].dialled == 0)
            .collect();
        drop(seeds);
        for index in lost {
            self.retry_seed(index);
        }
        self.retry_keepalive(id);
    }

    /// Wants, or no longer wants, a connection with a node at all times.
    pub(crate) fn keep_alive(&self, id: &NodeId, is_wanted: bool) {
        if is_wanted {
            let mut keepalives = self.shared.mesh.keepalives.borrow_mut();
            if keepalives.len() >= KEEPALIVES_MAX {
                tracing::warn!("{id} is not kept connected with: {KEEPALIVES_MAX} nodes are");
                return;
            }
            let keepalive = Keepalive { delay: KEEPALIVE_DELAY, retry: None };
            keepalives.entry(id.clone()).or_insert(keepalive);
            drop(keepalives);
            self.try_keepalive(id);
        } else {
            let before = self.shared.mesh.keepalives.borrow_mut().remove(id);
            drop(before);
        }
    }

    fn try_keepalive(&self, id: &NodeId) {
        if id != self.id() && self.shared.mesh.keepalives.borrow().contains_key(id) {
            let peer = self.peer(id);
            self.connect_to(&peer);
        }
    }

    /// A node that is to be kept connected with is not.
    pub(super) fn retry_keepalive(&self, id: &NodeId) {
        if self.shared.mesh.is_over.get() {
            return;
        }
        let delay_max = self.shared.mesh.limits.monitor_timeout;
        let chance = self.chance();
        let mut keepalives = self.shared.mesh.keepalives.borrow_mut();
        let Some(keepalive) = keepalives.get_mut(id) else { return };
        let delay = keepalive.delay.mul_f64(1.0 + chance);
        keepalive.delay = (keepalive.delay * 2).min(delay_max);
        let id = id.clone();
        let before =
            keepalive.retry.replace(self.timer(delay, move |node| node.try_keepalive(&id)));
        drop(keepalives);
        drop(before);
    }
}
