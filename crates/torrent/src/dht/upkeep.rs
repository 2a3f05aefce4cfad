//! What a node does without being asked: finding its place, looking after its nodes, learning its own
//! address.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::krpc::Question;
use super::lookup::Lookup;
use super::node_id::{Contact, NodeId, asker};
use super::query::Purpose;
use super::routing_table::{K, RoutingTable};
use super::search::is_plausible;
use super::{Node, Output, SearchId, State};
use crate::{Rng, Witness};

/// Our place in the network of one family of addresses.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) table: RoutingTable,
    is_v6: bool,
    /// Nodes of the last run, for the first search.
    saved: Vec<Contact>,
    /// These have been searched, and we are still alone.
    has_tried_saved: bool,
    /// Where to begin when nobody else is known; at most [`BOOT_MAX`].
    boot: Vec<SocketAddr>,
    /// Who may be a node, and has not been asked; at most [`CANDIDATES_MAX`].
    candidates: VecDeque<SocketAddr>,
    /// Who has been asked lately whether it is there, because it had asked us; at most [`CANDIDATES_MAX`].
    asked: VecDeque<SocketAddr>,
    /// When somebody last answered a question of ours.
    pub(super) heard_at: Option<Instant>,
    /// When to look for our own neighbourhood, if there are too few nodes.
    boot_at: Instant,
    boot_wait: Duration,
    /// The search of the upkeep that is under way.
    search: Option<SearchId>,
    is_bootstrapped: bool,
}

impl Family {
    pub(super) fn new(now: Instant, is_v6: bool, state: Option<&State>, rng: &mut Rng) -> Self {
        let id = state.and_then(|state| state.ids[usize::from(is_v6)]);
        let saved = state.iter().flat_map(|state| &state.nodes);
        Self {
            table: RoutingTable::new(id.unwrap_or_else(|| NodeId::random(rng))),
            is_v6,
            saved: saved.filter(|node| node.addr.is_ipv6() == is_v6).copied().collect(),
            has_tried_saved: false,
            boot: Vec::new(),
            candidates: VecDeque::new(),
            asked: VecDeque::new(),
            heard_at: None,
            boot_at: now,
            boot_wait: BOOT_WAIT,
            search: None,
            is_bootstrapped: false,
        }
    }

    /// Whether next to nobody is known to be there.
    pub(super) fn is_lonely(&self) -> bool {
        self.table.usable() < K / 2
    }

    pub(super) fn boot_nodes(&self) -> impl Iterator<Item = SocketAddr> {
        self.boot.iter().copied()
    }

    /// The nodes to begin a search with.
    pub(super) fn known(&self, target: &NodeId) -> Vec<Contact> {
        let known = self.table.closest(target, 2 * K);
        if known.len() >= K {
            return known;
        }
        // Who has failed may be back: perhaps it was our own network that was away.
        self.table.contacts().chain(self.saved.iter().copied()).collect()
    }

    fn add_candidate(&mut self, addr: SocketAddr) {
        if !self.candidates.contains(&addr) && self.candidates.len() < CANDIDATES_MAX {
            self.candidates.push_back(addr);
        }
    }
}

impl Node {
    /// There may be a node at `addr`: it is asked soon. Does nothing if we take no part in the network
    /// of its family.
    pub fn add_node(&mut self, now: Instant, addr: SocketAddr) {
        if !is_plausible(addr, addr.ip()) {
            return;
        }
        if let Some(family) = self.family_mut(addr) {
            family.add_candidate(addr);
            self.upkeep_at = self.upkeep_at.min(now);
        }
    }

    /// Begins with these when nobody else is known: now, and whenever that happens again.
    pub fn add_boot_nodes(&mut self, now: Instant, addrs: &[SocketAddr]) {
        for &addr in addrs {
            let Some(family) = self.family_mut(addr) else { continue };
            if family.boot.len() < BOOT_MAX && !family.boot.contains(&addr) {
                family.boot.push(addr);
                family.boot_at = now;
                family.boot_wait = BOOT_WAIT;
            }
        }
        self.upkeep_at = self.upkeep_at.min(now);
    }

    /// Someone has asked us something and may be worth knowing.
    pub(super) fn heard_of(&mut self, now: Instant, contact: Contact) {
        let Some(family) = self.family_mut(contact.addr) else { return };
        // Who asks without end and never answers is not asked back each time.
        if family.table.asked(now, contact) && !family.asked.contains(&asker(contact.addr)) {
            family.asked.truncate(CANDIDATES_MAX - 1);
            family.asked.push_front(asker(contact.addr));
            family.add_candidate(contact.addr);
            self.upkeep_at = self.upkeep_at.min(now + HURRY_AFTER);
        }
    }

    /// A node has answered us.
    pub(super) fn answered(&mut self, now: Instant, contact: Contact) {
        let Some(family) = self.family_mut(contact.addr) else { return };
        family.table.replied(now, contact);
        if !family.is_bootstrapped && family.search.is_none() && family.boot_at > now {
            family.boot_at = now;
            self.upkeep_at = self.upkeep_at.min(now);
        }
    }

    /// A node of one family has told of nodes of the other (BEP 32), which may be in need of them.
    pub(super) fn hear_of_other_family(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nodes: &[Contact],
    ) {
        let Some(other) = &mut self.families[usize::from(from.is_ipv4())] else { return };
        if !other.is_lonely() {
            return;
        }
        for node in nodes.iter().filter(|node| node.addr.is_ipv4() != from.is_ipv4()) {
            if is_plausible(node.addr, from.ip()) {
                other.add_candidate(node.addr);
                self.upkeep_at = self.upkeep_at.min(now + HURRY_AFTER);
            }
        }
    }

    /// A node says what our address looks like from outside. When enough agree we take a name that fits.
    pub(super) fn vote(&mut self, from: SocketAddr, said: IpAddr) {
        let Some(ip) = self.external.vote(Witness::Peer(from.ip()), said) else { return };
        let Some(family) = &mut self.families[usize::from(ip.is_ipv6())] else { return };
        if !family.table.own().fits(ip) {
            family.table.rename(NodeId::for_address(ip, &mut self.rng));
        }
        self.outputs.push_back(Output::ExternalAddress(ip));
    }

    /// What is due every few seconds.
    pub(super) fn upkeep(&mut self, now: Instant) {
        self.upkeep_at = now + UPKEEP_EVERY;
        self.peers.expire(now);
        self.items.expire(now);
        for is_v6 in [false, true] {
            self.ask_candidates(now, is_v6);
            if let Some(lookup) = self.lookup_due(now, is_v6) {
                let search = self.begin_upkeep(now, is_v6, lookup);
                // One that has nobody to ask has ended already.
                let is_running = self.searches.contains_key(&search);
                if let Some(family) = &mut self.families[usize::from(is_v6)] {
                    family.search = is_running.then_some(search);
                }
            }
        }
    }

    /// Asks who may be a node, and the one that has been silent for longest, whether they are there.
    fn ask_candidates(&mut self, now: Instant, is_v6: bool) {
        let Some(family) = &mut self.families[usize::from(is_v6)] else { return };
        let count = family.candidates.len().min(PINGS_MAX);
        let mut addrs: Vec<SocketAddr> = family.candidates.drain(..count).collect();
        addrs.extend(family.table.questionable(now).map(|contact| contact.addr));
        let is_hurried = !family.candidates.is_empty();
        for addr in addrs {
            self.ask(now, addr, Question::Ping, Purpose::Ping);
        }
        if is_hurried {
            self.upkeep_at = self.upkeep_at.min(now + HURRY_AFTER);
        }
    }

    /// A search that is due in a family: for our own neighbourhood, or in a bucket that is too old.
    fn lookup_due(&mut self, now: Instant, is_v6: bool) -> Option<Lookup> {
        let family = self.families[usize::from(is_v6)].as_mut()?;
        if family.search.is_some() {
            return None;
        }
        let is_small = family.table.usable() < K || !family.is_bootstrapped;
        let target = if is_small && now >= family.boot_at {
            family.boot_at = now + family.boot_wait;
            family.boot_wait = (family.boot_wait * 2).min(BOOT_WAIT_MAX);
            *family.table.own()
        } else {
            family.table.refresh(now, &mut self.rng)?
        };
        let known = family.known(&target);
        // What the last run knew goes first: boot nodes are few, and asked by all the world.
        let is_first = !family.saved.is_empty() && !family.has_tried_saved;
        family.has_tried_saved = true;
        let boot = (family.is_lonely() && !is_first).then_some(family.boot_nodes());
        Some(Lookup::new(target, known, boot.into_iter().flatten()))
    }

    /// A search of the upkeep has ended.
    pub(super) fn handle_upkeep_done(&mut self, search: SearchId) {
        let is_its = |family: &&mut Family| family.search == Some(search);
        let Some(family) = self.families.iter_mut().flatten().find(is_its) else { return };
        family.search = None;
        if family.table.len() > 0 && !family.is_bootstrapped {
            family.is_bootstrapped = true;
            family.saved = Vec::new();
            self.outputs.push_back(Output::Bootstrapped { is_v6: family.is_v6 });
        }
    }
}

const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// The same when there is more to do than once was allowed.
const HURRY_AFTER: Duration = Duration::from_secs(1);
/// How many possible nodes are asked at once.
const PINGS_MAX: usize = 8;
const CANDIDATES_MAX: usize = 64;
const BOOT_MAX: usize = 32;
/// How long to wait before looking for our neighbourhood again; it doubles.
const BOOT_WAIT: Duration = Duration::from_secs(10);
const BOOT_WAIT_MAX: Duration = Duration::from_secs(2 * 60);
