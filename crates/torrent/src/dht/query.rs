//! Questions under way: to whom, what for, and until when they wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::krpc::{Body, Message, Query, Question, Reply, Want};
use super::node_id::Contact;
use super::{Node, Output, SearchId};

/// Questions that have not been answered. Bounded by the searches and how many nodes each asks.
#[derive(Debug, Default)]
pub(super) struct Queries {
    pending: BTreeMap<u32, Pending>,
    /// Exactly those of `pending`.
    deadlines: BTreeSet<(Instant, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    to: SocketAddr,
    purpose: Purpose,
    asked_at: Instant,
    deadline: Instant,
    is_late: bool,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know whether it is there.
    Ping,
    /// A step of a search.
    Lookup(SearchId),
    /// The end of one: something is stored.
    Store(SearchId),
}

impl Queries {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn insert(&mut self, id: u32, pending: Pending) {
        self.deadlines.insert((pending.deadline, id));
        self.pending.insert(id, pending);
    }

    fn remove(&mut self, id: u32) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline, id));
        Some(pending)
    }

    /// The question that `from` answers. Only who was asked can.
    fn answered(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<Purpose> {
        let id = u32::from_be_bytes(transaction.try_into().ok()?);
        if self.pending.get(&id)?.to != from {
            return None;
        }
        self.remove(id).map(|pending| pending.purpose)
    }

    fn overdue(&mut self, now: Instant) -> Option<(u32, Pending)> {
        let &(at, id) = self.deadlines.first()?;
        if at > now {
            return None;
        }
        self.remove(id).map(|pending| (id, pending))
    }
}

impl Node {
    /// Asks a node. That it may fail, or be late, is told to the search.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        question: Question<'_>,
        purpose: Purpose,
    ) {
        let Some(family) = self.family(to) else { return };
        let id = *family.table.own();
        let want = self.want();
        let mut transaction = self.rng.u32();
        while self.queries.pending.contains_key(&transaction) {
            transaction = transaction.wrapping_add(1);
        }
        let message = Message {
            transaction: &transaction.to_be_bytes(),
            body: Body::Query(Query { id, want, question }),
            is_read_only: self.config.is_read_only,
            external: None,
        };
        self.outputs.push_back(Output::Send { to, bytes: message.encode() });
        self.counts.asked += 1;
        let deadline = now + LATE_AFTER;
        let pending = Pending { to, purpose, asked_at: now, deadline, is_late: false };
        self.queries.insert(transaction, pending);
    }

    /// While one family knows next to nobody, nodes of the other are asked for it, too.
    fn want(&self) -> Want {
        let [Some(v4), Some(v6)] = &self.families else { return Want::default() };
        if v4.is_lonely() || v6.is_lonely() { Want { v4: true, v6: true } } else { Want::default() }
    }

    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        reply: &Reply<'_>,
        external: Option<IpAddr>,
        is_read_only: bool,
    ) {
        let Some(purpose) = self.queries.answered(from, transaction) else {
            self.counts.stray += 1;
            return;
        };
        if let Some(family) = self.family_mut(from) {
            family.heard_at = Some(now);
        }
        let contact = Contact { id: reply.id, addr: from };
        let is_us = self.family(from).is_some_and(|family| *family.table.own() == reply.id);
        if is_us {
            return self.fail(now, from, purpose);
        }
        if !is_read_only {
            self.answered(now, contact);
        }
        if let Some(external) = external {
            self.vote(from, external);
        }
        self.hear_of_other_family(now, from, &reply.nodes);
        match purpose {
            Purpose::Ping => {}
            Purpose::Lookup(search) => self.handle_found(now, search, contact, reply),
            Purpose::Store(search) => self.handle_stored(now, search, true),
        }
    }

    /// A node has refused.
    pub(super) fn handle_error(&mut self, now: Instant, from: SocketAddr, transaction: &[u8]) {
        match self.queries.answered(from, transaction) {
            Some(purpose) => {
                // Everyone understands a ping, and not everyone all that is asked in a search.
                if purpose == Purpose::Ping
                    && let Some(family) = self.family_mut(from)
                {
                    family.table.failed(from, false);
                }
                self.fail(now, from, purpose);
            }
            None => self.counts.stray += 1,
        }
    }

    pub(super) fn handle_deadlines(&mut self, now: Instant) {
        while let Some((id, pending)) = self.queries.overdue(now) {
            if !pending.is_late {
                let deadline = pending.deadline + GIVE_UP_AFTER;
                self.queries.insert(id, Pending { deadline, is_late: true, ..pending });
                if let Purpose::Lookup(search) = pending.purpose {
                    self.handle_late(now, search, pending.to);
                }
                continue;
            }
            self.counts.unanswered += 1;
            if let Some(family) = self.family_mut(pending.to) {
                // If nobody else has answered since, it may be our own network that is gone.
                let is_cut_off = family.heard_at.is_none_or(|at| at < pending.asked_at);
                family.table.failed(pending.to, is_cut_off);
            }
            self.fail(now, pending.to, pending.purpose);
        }
    }

    fn fail(&mut self, now: Instant, from: SocketAddr, purpose: Purpose) {
        match purpose {
            Purpose::Ping => {}
            Purpose::Lookup(search) => self.handle_not_found(now, search, from),
            Purpose::Store(search) => self.handle_stored(now, search, false),
        }
    }
}

/// After this another node is asked, too.
const LATE_AFTER: Duration = Duration::from_millis(1500);
/// After this, once late, no answer is waited for.
const GIVE_UP_AFTER: Duration = Duration::from_millis(4500);
