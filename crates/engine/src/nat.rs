//! Has the router let peers in that come from outside, and knows where they come to.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use reactor::Reactor;
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::event::EventKind;
use crate::gateway::{Gateway, is_behind_nat, is_mappable};
use crate::port_mapper::{FAREWELL_PATIENCE, MappedPorts, Wanted, keep_mapped};
use crate::task::TaskId;

/// Whether the router is asked to let peers in. By PCP, NAT-PMP or UPnP, whichever it knows, over IPv4; not if
/// our address is one of the world's anyway. What was mapped is taken back when the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Whether to ask. Default: yes.
    pub is_on: bool,
    /// The router. Default: the one of the default route.
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

/// How it stands with the router.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    /// What it hands on to us.
    pub(crate) mapped: Option<MappedPorts>,
    keeper: Option<Keeper>,
}

/// What keeps ports mapped, on another thread.
#[derive(Debug)]
struct Keeper {
    /// Dropping it has the mapping taken back.
    stop: Option<oneshot::Sender<()>>,
    /// Then the other end hangs up.
    is_done: Receiver<()>,
    /// When it was told to.
    stopped_at: Option<Instant>,
}

impl Engine {
    /// Begins to have ports mapped, if that is wanted and of use. Not in a simulated world: it is done on
    /// another thread.
    pub(crate) fn map_ports(&mut self, reactor: &Reactor<Self>) {
        let config = self.config.nat;
        let Some(port) = self.port.and_then(NonZeroU16::new) else { return };
        let is_of_use = config.gateway.is_some() || is_mappable(self.config.listen.bind);
        if !config.is_on || self.config.is_hidden() || !is_of_use {
            return;
        }
        let interface = self.config.network.interface.clone();
        // Found anew each time: a laptop gets about.
        let find = move || {
            let gateway = match config.gateway {
                Some(addr) => Gateway::at(addr),
                None => Gateway::find(interface.as_deref()),
            };
            let gateway = gateway.map_err(|error| error.to_string())?;
            if config.gateway.is_none() && !is_behind_nat(gateway.ours) {
                return Err(format!("not needed: {} is an address of the world", gateway.ours));
            }
            Ok(Wanted { gateway, port })
        };
        let remote = reactor.remote();
        let tell = move |result| {
            let posted = remote.post(move |engine: &mut Self, reactor: &mut Reactor<Self>| {
                engine.ports_mapped(result, reactor);
            });
            if posted.is_err() {
                tracing::trace!("a port was mapped after the session ended");
            }
        };
        let (stop, stopped) = oneshot::channel();
        let (done, is_done) = channel();
        match self.http() {
            Ok(http) => {
                http.runtime().spawn(keep_mapped(find, tell, stopped, done));
                self.nat.keeper = Some(Keeper { stop: Some(stop), is_done, stopped_at: None });
            }
            Err(error) => tracing::warn!(%error, "no thread to map ports on"),
        }
    }

    fn ports_mapped(&mut self, result: Result<MappedPorts, String>, reactor: &mut Reactor<Self>) {
        let before = self.announced_port();
        self.nat.mapped = result.as_ref().ok().copied();
        self.tell(
            None,
            &match result {
                Ok(ports) => EventKind::PortMapped { port: self.port.unwrap_or(0), ports },
                Err(error) => EventKind::PortNotMapped { error },
            },
        );
        if self.announced_port() != before {
            self.announce_to_dht_again(reactor.now());
            let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
            for id in ids {
                let Some(task) = self.tasks.get_mut(&id) else { continue };
                task.announcer.moved(reactor.now());
                self.drive_trackers(id, reactor);
            }
        }
    }

    /// Has what was mapped taken back.
    pub(crate) fn begin_unmapping(&mut self) {
        if let Some(keeper) = &mut self.nat.keeper {
            keeper.stop = None;
            keeper.stopped_at.get_or_insert_with(Instant::now);
        }
    }

    /// Whether what was mapped is being taken back still.
    pub(crate) fn is_unmapping(&self) -> bool {
        let is_busy = |keeper: &Keeper| keeper.is_done.try_recv() == Err(TryRecvError::Empty);
        self.nat.keeper.as_ref().is_some_and(is_busy)
    }

    /// Has what was mapped taken back, and waits a moment for that, unless that has been waited for.
    pub(crate) fn unmap_ports(&mut self) {
        self.begin_unmapping();
        let Some(Keeper { is_done, stopped_at, .. }) = self.nat.keeper.take() else { return };
        let waited = stopped_at.map_or(Duration::ZERO, |at| at.elapsed());
        let patience = (FAREWELL_PATIENCE + MARGIN).saturating_sub(waited);
        if is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("the router does not take back the ports; it forgets them by itself");
        }
    }
}

const MARGIN: Duration = Duration::from_millis(100);
