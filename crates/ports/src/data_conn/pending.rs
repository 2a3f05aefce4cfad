//! A data connection that is not there yet: who waits for it, and which addresses are still to be tried.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Reactor, Token};

use super::{CONNECT, DataConnError, Done, ID_LEN_MAX, PENDING_MAX};
use crate::mesh::Origin;
use crate::node::timer::Timer;
use crate::{Context, List, Monitor, Node, NodeId, PortId, Reason};

/// A data connection that is not there yet.
pub(super) struct Pending {
    /// The node at its other end.
    with: NodeId,
    done: Option<Done>,
    stage: Stage,
    addresses: VecDeque<SocketAddr>,
    /// How many addresses are being tried.
    dialled: usize,
    /// The port that hears when the other node expects the connection.
    barrier: Option<PortId>,
    next: Option<Timer>,
    _timeout: Timer,
    _lost: Monitor,
    /// Watches the port that wants it, if that is ours.
    _ended: Option<Monitor>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The other side is to do something.
    Waiting,
    /// We ask for its addresses. If it has none, it is asked to dial us.
    Finding,
    /// The same, but it has asked us, so that one of the two has to have some.
    FindingBack,
    Dialling,
}

/// How long an address has before the next one is tried too.
const SPACING: Duration = Duration::from_secs(2);

impl Node {
    pub(super) fn new_data_id(&self) -> String {
        let id = format!("{:x}@{}", self.next_number(), self.id());
        debug_assert!(id.len() <= ID_LEN_MAX, "node IDs are short");
        id
    }

    /// Waits for a data connection. Returns whether it does.
    pub(super) fn add_pending(
        &self,
        id: &str,
        with: &NodeId,
        port: &PortId,
        timeout: Duration,
        done: Done,
    ) -> bool {
        let error = {
            let pending = self.shared.data_conns.pending.borrow();
            if pending.contains_key(id) {
                Some("there is one of that name already")
            } else if pending.len() >= PENDING_MAX {
                Some("too many others are not there yet")
            } else {
                None
            }
        };
        if let Some(error) = error {
            let error = DataConnError(format!("{}: {error}", self.id()));
            self.soon(move |node| done(node, Err(error)));
            return false;
        }
        let end = |text: fn(&NodeId, Duration) -> String| {
            let (id, with) = (id.to_owned(), with.clone());
            move |node: &Self| node.end_data(&id, Err(DataConnError(text(&with, timeout))))
        };
        let late = end(|with, timeout| {
            let seconds = timeout.as_secs_f64();
            format!("{with}: unable to establish connection within {seconds} seconds")
        });
        let lost = end(|with, _| format!("{with}: the node is lost"));
        let forgotten = id.to_owned();
        let pending = Pending {
            with: with.clone(),
            done: Some(done),
            stage: Stage::Waiting,
            addresses: VecDeque::new(),
            dialled: 0,
            barrier: None,
            next: None,
            _timeout: self.timer(timeout, late),
            _lost: self.monitor(with, move |node, _| lost(node)),
            // The other side's port may end when it has its end of the connection, before we have ours.
            _ended: self.is_local(port).then(|| {
                self.monitor(port, move |node, reason| {
                    let text = reason.values().get(1).and_then(|text| text.as_str());
                    let text = text.unwrap_or("the port that wanted it has ended").to_owned();
                    node.end_data(&forgotten, Err(DataConnError(text)));
                })
            }),
        };
        self.shared.data_conns.pending.borrow_mut().insert(id.to_owned(), pending);
        true
    }

    fn with_pending<T>(&self, id: &str, act: impl FnOnce(&mut Pending) -> T) -> Option<T> {
        self.shared.data_conns.pending.borrow_mut().get_mut(id).map(act)
    }

    /// Nobody waits any more, whatever came of it.
    fn end_data(&self, id: &str, result: Result<reactor::task::AsyncStream, DataConnError>) {
        let pending = self.shared.data_conns.pending.borrow_mut().remove(id);
        let Some(mut pending) = pending else { return };
        if let Some(barrier) = pending.barrier.take() {
            self.kill(barrier, Reason::NORMAL);
        }
        if let Some(done) = pending.done.take() {
            done(self, result);
        }
    }

    /// Goes on when the other node has heard of it.
    pub(super) fn await_expectation(&self, id: &str, with: &NodeId) {
        let name = id.to_owned();
        let barrier = self.port(move |context: &Context<'_>, _: List| {
            context.end(Reason::NORMAL);
            context.node().find_for_data(&name, Stage::Finding);
        });
        let barrier = barrier.id();
        self.send_on(with, &barrier, List::new());
        self.with_pending(id, |pending| pending.barrier = Some(barrier));
    }

    /// The other node does not listen, or so it says: we are to dial.
    pub(super) fn dial_back(&self, from: Option<&NodeId>, id: &str, node: &NodeId) {
        let is_its = |pending: &mut Pending| from == Some(&pending.with) && *node == pending.with;
        if self.with_pending(id, is_its) == Some(true) {
            self.find_for_data(id, Stage::FindingBack);
        }
    }

    fn find_for_data(&self, id: &str, stage: Stage) {
        let with = self.with_pending(id, |pending| {
            pending.stage = stage;
            pending.with.clone()
        });
        if let Some(with) = with {
            self.find_addresses(&with);
        }
    }

    /// The database has said where a node is.
    pub(crate) fn dial_data(&self, node: &NodeId, addresses: Option<&[String]>) {
        let waiting: Vec<(String, Stage)> = {
            let pending = self.shared.data_conns.pending.borrow();
            let waits = |pending: &Pending| {
                pending.with == *node
                    && matches!(pending.stage, Stage::Finding | Stage::FindingBack)
            };
            (pending.iter().filter(|(_, pending)| waits(pending)))
                .map(|(id, pending)| (id.clone(), pending.stage))
                .collect()
        };
        let addresses: VecDeque<SocketAddr> =
            addresses.into_iter().flatten().filter_map(|text| text.parse().ok()).take(32).collect();
        for (id, stage) in waiting {
            if !addresses.is_empty() {
                self.with_pending(&id, |pending| {
                    pending.stage = Stage::Dialling;
                    pending.addresses = addresses.clone();
                });
                self.dial_next_data(&id);
            } else if stage == Stage::Finding {
                self.with_pending(&id, |pending| pending.stage = Stage::Waiting);
                self.send_to_function(node, CONNECT, (id, self.id().clone()));
            } else {
                self.end_data(&id, Err(DataConnError(format!("{node}: no listeners found"))));
            }
        }
    }

    fn dial_next_data(&self, id: &str) {
        let address = self.with_pending(id, |pending| {
            let address = pending.addresses.pop_front()?;
            pending.dialled += 1;
            Some(address)
        });
        let Some(address) = address.flatten() else { return };
        let origin = Origin::Data(id.to_owned());
        self.with_reactor(move |node, reactor| node.dial(address, origin, reactor));
        let again = id.to_owned();
        let timer = self.timer(SPACING, move |node| node.dial_next_data(&again));
        let before = self.with_pending(id, |pending| pending.next.replace(timer));
        drop(before);
    }

    /// Nothing has come of an address.
    pub(crate) fn data_dial_failed(&self, id: &str, text: &str) {
        let state = self.with_pending(id, |pending| {
            pending.dialled = pending.dialled.saturating_sub(1);
            (pending.addresses.is_empty(), pending.dialled, pending.with.clone())
        });
        match state {
            Some((true, 0, with)) => {
                self.end_data(id, Err(DataConnError(format!("{with}: {text}"))));
            }
            Some((false, _, _)) => self.dial_next_data(id),
            Some((true, _, _)) | None => {}
        }
    }

    /// Whether a data connection of that name with that node is waited for.
    pub(crate) fn expects_data(&self, id: &str, with: &NodeId) -> bool {
        self.with_pending(id, |pending| pending.with == *with) == Some(true)
    }

    /// A data connection stands: the connection is its users' from now on.
    pub(crate) fn data_is_there(
        &self,
        id: &str,
        with: &NodeId,
        token: Token,
        reactor: &mut Reactor<()>,
    ) {
        if !self.expects_data(id, with) {
            return reactor.close(token, "nobody waits for this data connection any more");
        }
        match reactor.into_task(token) {
            Ok(stream) => self.end_data(id, Ok(stream)),
            Err(closed) => tracing::debug!("{id}: {closed}"),
        }
    }
}
