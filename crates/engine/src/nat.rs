//! Has the router let peers in that come from outside, and knows where they come to.
//!
//! When it is asked, and when again, is for [`PortKeeper`] to say; how, for a [`Router`]: the one of this machine
//! (`port_mapper`), or one that a test pretends.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use reactor::{Reactor, TimerId};
use torrent::Witness;

use crate::engine::Engine;
use crate::event::EventKind;
use crate::gateway::Gateway;
use crate::port_keeper::{KeeperOutput, PortKeeper};
use crate::port_mapper::{FAREWELL_PATIENCE, Lease, MappedPorts, SystemRouter};
use crate::task::TaskId;

/// Whether the router is asked to let peers in. By PCP, NAT-PMP or UPnP, whichever it knows. What was mapped is taken
/// back when the session ends.
///
/// Over IPv4 it is asked for ports of its own that lead to ours, unless our address is one of the world's. Over IPv6,
/// if ours is, it is asked to let through what comes for our port: by UPnP (`WANIPv6FirewallControl`), and by PCP if
/// its address is not one of the link alone, since to such a one we would come from one of the link as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Whether to ask. Default: yes.
    pub is_on: bool,
    /// The router for IPv4, which then is the only one. Default: those of the default routes.
    pub gateway: Option<Ipv4Addr>,
}

impl Default for NatConfig {
    fn default() -> Self {
        Self { is_on: true, gateway: None }
    }
}

impl NatConfig {
    /// Leaves the router alone.
    pub const OFF: Self = Self { is_on: false, gateway: None };
}

/// Over which family a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Whoever speaks with routers.
pub(crate) trait Router: Debug {
    /// The one that leads to the world, and how it knows us. A few system calls; nothing is sent.
    ///
    /// # Errors
    /// Why there is none to ask.
    fn find(&mut self, family: Family) -> Result<Gateway, String>;

    /// Has it map the ports, in place of what was mapped before. `done` may be called on any thread.
    fn map(&mut self, family: Family, gateway: Gateway, port: NonZeroU16, done: Done);

    /// Has it renew what is mapped.
    fn renew(&mut self, family: Family, done: Done);

    /// Has it take back all that is mapped. The other end hangs up when that is done.
    fn leave(&mut self) -> Receiver<()>;
}

/// Hears what became of a question to a router.
pub(crate) type Done = Box<dyn FnOnce(Result<Lease, String>) + Send>;

/// How it stands with the router.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    /// What it hands on to us, over IPv4 and over IPv6.
    pub(crate) mapped: [Option<MappedPorts>; 2],
    router: Option<Box<dyn Router>>,
    keepers: Vec<(Family, PortKeeper)>,
    timer: Option<TimerId>,
    /// Once what was mapped is to be taken back: whoever hangs up when that is done, and since when.
    leaving: Option<(Receiver<()>, Instant)>,
}

impl Nat {
    /// What the router hands on to us, if it does.
    pub(crate) const fn mapped(&self, family: Family) -> Option<MappedPorts> {
        self.mapped[family as usize]
    }
}

impl Engine {
    /// Begins to have ports mapped, if that is wanted and of use.
    pub(crate) fn map_ports(&mut self, reactor: &mut Reactor<Self>) {
        let config = self.config.nat;
        if !config.is_on || self.config.is_hidden() {
            return;
        }
        let (bind, interface) = (self.config.listen.bind, self.config.network.interface.clone());
        match self.http().map(|http| http.runtime().clone()) {
            Ok(runtime) => {
                let router = SystemRouter::new(runtime, config.gateway, bind, interface);
                self.keep_mapped(Box::new(router), reactor);
            }
            Err(error) => tracing::warn!(%error, "no thread to map ports on"),
        }
    }

    /// Has this router map our port, if we have one, and keeps it mapped.
    pub(crate) fn keep_mapped(&mut self, router: Box<dyn Router>, reactor: &mut Reactor<Self>) {
        let keeper = || PortKeeper::new(reactor.now());
        self.nat.router = Some(router);
        self.nat.keepers = vec![(Family::V4, keeper()), (Family::V6, keeper())];
        self.drive_nat(reactor);
    }

    /// Does what is due.
    fn drive_nat(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(port) = self.port.and_then(NonZeroU16::new) else { return };
        let Nat { router: Some(router), keepers, timer, .. } = &mut self.nat else { return };
        let mut told = Vec::new();
        for (family, keeper) in keepers.iter_mut() {
            if keeper.poll_timeout().is_some_and(|at| at <= now) {
                keeper.handle_timeout(now, router.find(*family));
            }
            while let Some(output) = keeper.poll_output() {
                match output {
                    KeeperOutput::Map(gateway) => {
                        router.map(*family, gateway, port, answer(*family, reactor));
                    }
                    KeeperOutput::Renew => router.renew(*family, answer(*family, reactor)),
                    KeeperOutput::Tell(result) => told.push((*family, result)),
                }
            }
        }
        let next = keepers.iter().filter_map(|(_, keeper)| keeper.poll_timeout()).min();
        if let Some(before) = timer.take() {
            reactor.cancel_timer(before);
        }
        *timer = next.map(|at| reactor.add_timer(at, Self::drive_nat));
        for (family, result) in told {
            self.ports_mapped(family, result, reactor);
        }
    }

    fn router_answered(
        &mut self,
        family: Family,
        answer: Result<Lease, String>,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        if let Some((_, keeper)) = self.nat.keepers.iter_mut().find(|(of, _)| *of == family) {
            keeper.handle_answer(now, answer);
        }
        self.drive_nat(reactor);
    }

    fn ports_mapped(
        &mut self,
        family: Family,
        result: Result<MappedPorts, String>,
        reactor: &mut Reactor<Self>,
    ) {
        let before = self.own_ports(false);
        self.nat.mapped[family as usize] = result.as_ref().ok().copied();
        match (family, result) {
            (Family::V6, Err(error)) => {
                // Few routers know of such a thing there and many need none, so that is no news.
                tracing::debug!(error, "no way opened over IPv6");
            }
            (_, result) => self.tell_mapped(result),
        }
        if self.own_ports(false) != before {
            self.announce_to_dht_again(reactor.now());
            let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
            for id in ids {
                let Some(task) = self.tasks.get(&id) else { continue };
                let ports = self.own_ports(task.metainfo.is_private());
                let Some(task) = self.tasks.get_mut(&id) else { continue };
                task.swarm.set_ports(ports);
                task.announcer.moved(reactor.now());
                self.drain(id, reactor);
                self.drive_trackers(id, reactor);
            }
        }
    }

    fn tell_mapped(&mut self, result: Result<MappedPorts, String>) {
        if let Some(ours) = result.as_ref().ok().and_then(|ports| ports.external_ip) {
            self.seen_as(Witness::Router, ours);
        }
        self.tell(
            None,
            &match result {
                Ok(ports) => EventKind::PortMapped { port: self.port.unwrap_or(0), ports },
                Err(error) => EventKind::PortNotMapped { error },
            },
        );
    }

    /// Has what was mapped taken back.
    pub(crate) fn begin_unmapping(&mut self) {
        if let Some(mut router) = self.nat.router.take() {
            self.nat.leaving = Some((router.leave(), Instant::now()));
        }
    }

    /// Whether what was mapped is being taken back still.
    pub(crate) fn is_unmapping(&self) -> bool {
        let leaving = self.nat.leaving.as_ref();
        leaving.is_some_and(|(is_done, _)| is_done.try_recv() == Err(TryRecvError::Empty))
    }

    /// Has what was mapped taken back, and waits a moment for that, unless that has been waited for.
    pub(crate) fn unmap_ports(&mut self) {
        self.begin_unmapping();
        let Some((is_done, since)) = self.nat.leaving.take() else { return };
        let patience = FAREWELL_PATIENCE.saturating_sub(since.elapsed());
        if is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("the router does not take back the ports; it forgets them by itself");
        }
    }
}

/// Brings an answer to the engine's thread.
fn answer(family: Family, reactor: &Reactor<Engine>) -> Done {
    let remote = reactor.remote();
    Box::new(move |answer| {
        let posted = remote.post(move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
            engine.router_answered(family, answer, reactor);
        });
        if posted.is_err() {
            tracing::trace!("a port was mapped after the session ended");
        }
    })
}
