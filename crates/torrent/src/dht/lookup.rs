//! One search through the network: ask the nearest that are known, hear of nearer ones, until the
//! nearest have all answered ([BEP 5]).
//!
//! A few questions are under way at once. One that is late no longer holds up the next, but its answer
//! is still welcome. Among the nearest only some may have names that do not fit their address
//! ([BEP 42]), and two may be in one subnet: who invents nodes next to the target cannot push out all
//! others. However much is invented, a search ends: it asks so many nodes and no more.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 42]: https://www.bittorrent.org/beps/bep_0042.html

use std::net::SocketAddr;

use super::node_id::{Contact, Distance, NodeId, is_local, subnet};
use super::routing_table::K;

/// A search for the nodes nearest to a place.
#[derive(Debug)]
pub(super) struct Lookup {
    target: NodeId,
    /// Nearest first; those whose name is not known before all.
    candidates: Vec<Candidate>,
    asked: usize,
}

#[derive(Debug)]
struct Candidate {
    id: Option<NodeId>,
    addr: SocketAddr,
    /// Over how many others we have heard of it.
    hops: u8,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    /// Asked some time ago.
    Late,
    Replied {
        token: Option<Vec<u8>>,
    },
    Failed,
}

impl Lookup {
    pub(super) fn new(
        target: NodeId,
        known: Vec<Contact>,
        unnamed: impl Iterator<Item = SocketAddr>,
    ) -> Self {
        let mut lookup = Self { target, candidates: Vec::new(), asked: 0 };
        for contact in known {
            lookup.insert(Some(contact.id), contact.addr, 0);
        }
        for addr in unnamed.take(UNNAMED_MAX) {
            lookup.insert(None, addr, 0);
        }
        lookup
    }

    pub(super) const fn target(&self) -> &NodeId {
        &self.target
    }

    /// Whom to ask now, if anyone. It counts as asked.
    pub(super) fn next(&mut self) -> Option<SocketAddr> {
        let is_asked = |candidate: &&Candidate| candidate.state == State::Asked;
        if self.asked >= ASKED_MAX || self.candidates.iter().filter(is_asked).count() >= ALPHA {
            return None;
        }
        let nearest = self.nearest();
        let fresh =
            || nearest.iter().copied().filter(|at| self.candidates[*at].state == State::Fresh);
        // A ladder of invented nodes must not keep us from those who can be what they say.
        let at = fresh().find(|at| self.candidates[*at].fits()).or_else(|| fresh().next())?;
        let candidate = &mut self.candidates[at];
        candidate.state = State::Asked;
        self.asked += 1;
        Some(candidate.addr)
    }

    /// A node has told its name, others, and perhaps a token.
    pub(super) fn handle_reply(
        &mut self,
        from: Contact,
        token: Option<&[u8]>,
        nodes: impl Iterator<Item = Contact>,
    ) {
        let Some(at) = self.position(from.addr) else { return };
        let mut candidate = self.candidates.remove(at);
        candidate.id = Some(from.id);
        candidate.state = State::Replied { token: token.map(<[u8]>::to_vec) };
        let hops = candidate.hops.saturating_add(1);
        self.place(candidate);
        for node in nodes {
            self.insert(Some(node.id), node.addr, hops);
        }
    }

    /// A node has not answered for a while.
    pub(super) fn handle_late(&mut self, addr: SocketAddr) {
        if let Some(at) = self.position(addr)
            && self.candidates[at].state == State::Asked
        {
            self.candidates[at].state = State::Late;
        }
    }

    /// A node has refused, or will not answer any more.
    pub(super) fn handle_failure(&mut self, addr: SocketAddr) {
        if let Some(at) = self.position(addr) {
            self.candidates[at].state = State::Failed;
        }
    }

    /// Whether there is nothing to wait for: those nearest have all answered, or there is nobody else.
    pub(super) fn is_done(&self) -> bool {
        let nearest = self.nearest();
        let is = |at: &usize, state: State| self.candidates[*at].state == state;
        if nearest.iter().any(|at| is(at, State::Asked)) {
            return false;
        }
        if nearest.iter().any(|at| is(at, State::Fresh)) && self.asked < ASKED_MAX {
            return false;
        }
        let is_late = |candidate: &Candidate| candidate.state == State::Late;
        nearest.len() >= K || !self.candidates.iter().any(is_late)
    }

    /// The nearest that have answered.
    pub(super) fn closest(&self) -> impl Iterator<Item = Closest<'_>> {
        self.nearest().into_iter().filter_map(|at| {
            let candidate = &self.candidates[at];
            let State::Replied { token } = &candidate.state else { return None };
            let contact = Contact { id: candidate.id?, addr: candidate.addr };
            Some(Closest { contact, token: token.as_deref(), hops: candidate.hops })
        })
    }

    /// How many questions it took so far.
    pub(super) const fn asked(&self) -> usize {
        self.asked
    }

    /// The indices of the best [`K`] that have answered or may yet.
    fn nearest(&self) -> Vec<usize> {
        let mut nearest = Vec::with_capacity(K);
        let mut strangers = 0;
        for (at, candidate) in self.candidates.iter().enumerate() {
            if nearest.len() == K {
                break;
            }
            if matches!(candidate.state, State::Failed | State::Late) {
                continue;
            }
            if !candidate.fits() {
                if strangers == STRANGERS_MAX {
                    continue;
                }
                strangers += 1;
            }
            let ip = candidate.addr.ip();
            if !is_local(ip) {
                let others =
                    || nearest.iter().map(|other: &usize| self.candidates[*other].addr.ip());
                let neighbours = others().filter(|other| subnet(*other) == subnet(ip)).count();
                // One of several ports of an address, until it has been asked in vain: who names a wrong one
                // must not hide the node at the right one.
                if neighbours >= SUBNET_MAX || others().any(|other| other == ip) {
                    continue;
                }
            }
            nearest.push(at);
        }
        nearest
    }

    fn insert(&mut self, id: Option<NodeId>, addr: SocketAddr, hops: u8) {
        if let Some(at) = self.position(addr) {
            // One lies about the name, and nobody was asked yet: who hides a node by calling it far away
            // must not succeed.
            let known = &self.candidates[at];
            if known.state != State::Fresh || self.distance(id) >= self.distance(known.id) {
                return;
            }
            self.candidates.remove(at);
        }
        let is_open = |known: &&Candidate| !matches!(known.state, State::Failed | State::Late);
        let open = self.candidates.iter().filter(is_open);
        let ports = open.filter(|known| known.addr.ip() == addr.ip()).count();
        if is_local(addr.ip()) || ports < PORTS_MAX {
            self.place(Candidate { id, addr, hops, state: State::Fresh });
        }
        let is_spare = |candidate: &Candidate| candidate.state == State::Fresh;
        if self.candidates.len() > CANDIDATES_MAX
            && let Some(farthest) = self.candidates.iter().rposition(is_spare)
        {
            self.candidates.remove(farthest);
        }
    }

    fn place(&mut self, candidate: Candidate) {
        let distance = self.distance(candidate.id);
        let at = self.candidates.partition_point(|other| self.distance(other.id) < distance);
        self.candidates.insert(at, candidate);
    }

    fn distance(&self, id: Option<NodeId>) -> Option<Distance> {
        id.map(|id| id.distance(&self.target))
    }

    fn position(&self, addr: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|candidate| candidate.addr == addr)
    }
}

/// A node that has answered and is near.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closest<'a> {
    pub(super) contact: Contact,
    pub(super) token: Option<&'a [u8]>,
    pub(super) hops: u8,
}

impl Candidate {
    /// Whether its name fits its address. One whose name is not known may yet.
    fn fits(&self) -> bool {
        self.id.is_none_or(|id| id.fits(self.addr.ip()))
    }
}

/// How many questions are under way at once.
const ALPHA: usize = 4;
/// How many are asked in all. In a network of millions it takes thirty to fifty.
const ASKED_MAX: usize = 150;
/// How many are remembered, but for those that were asked; further ones push out those farthest away.
const CANDIDATES_MAX: usize = 64;
/// How many of the nearest may have names that do not fit.
const STRANGERS_MAX: usize = K / 2;
/// How many of the nearest may be in one subnet.
const SUBNET_MAX: usize = 2;
/// Of the ports that others name for one address: they are asked one after another, which takes its time.
const PORTS_MAX: usize = 4;
/// How many may be asked whose name is not known.
const UNNAMED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const TARGET: NodeId = NodeId([0; 20]);

    fn node(number: u8, bits: usize) -> Contact {
        let mut rng = Rng::from_seed(u64::from(number));
        Contact { id: TARGET.random_sharing(bits, &mut rng), addr: ([10, 0, 0, number], 1).into() }
    }

    fn lookup(known: &[Contact]) -> Lookup {
        Lookup::new(TARGET, known.to_vec(), std::iter::empty())
    }

    #[test]
    fn goes_from_far_to_near_and_ends_when_the_nearest_have_answered() {
        let mut lookup = lookup(&[node(1, 0)]);
        for number in 1..20_u8 {
            assert!(!lookup.is_done());
            assert_eq!(lookup.next(), Some(node(number, usize::from(number) - 1).addr));
            assert_eq!(lookup.next(), None, "nobody else is known");
            let told = (number < 19).then(|| node(number + 1, usize::from(number)));
            let from = node(number, usize::from(number) - 1);
            lookup.handle_reply(from, Some(b"token"), told.into_iter());
        }
        assert!(lookup.is_done());
        let closest: Vec<u8> = lookup.closest().map(|found| found.hops).collect();
        assert_eq!(closest, [18, 17, 16, 15, 14, 13, 12, 11]);
        assert!(lookup.closest().all(|found| found.token == Some(b"token")));
    }

    #[test]
    fn many_ports_of_one_address_hold_up_nobody() {
        let mut lookup = lookup(&[node(1, 0)]);
        let mut rng = Rng::from_seed(1);
        let ports = (1..=32_u16).map(|port| Contact {
            id: TARGET.random_sharing(60, &mut rng),
            addr: ([9, 9, 9, 9], port).into(),
        });
        let ports: Vec<Contact> = ports.collect();
        let from = lookup.next().expect("the one we know");
        lookup.handle_reply(Contact { addr: from, ..node(1, 0) }, None, ports.into_iter());
        let mut asked = 0;
        while let Some(addr) = lookup.next() {
            lookup.handle_late(addr);
            asked += 1;
        }
        assert_eq!(asked, PORTS_MAX);
    }

    #[test]
    fn four_are_asked_at_once_and_who_is_late_holds_up_nobody() {
        let known: Vec<Contact> = (1..=20).map(|number| node(number, 3)).collect();
        let mut lookup = lookup(&known);
        let first: Vec<_> = std::iter::from_fn(|| lookup.next()).collect();
        assert_eq!(first.len(), ALPHA);
        lookup.handle_late(first[0]);
        let fifth = lookup.next().expect("another in its place");
        assert!(!first.contains(&fifth) && lookup.next().is_none());
        // It comes at last.
        let late = known.iter().find(|contact| contact.addr == first[0]).expect("known");
        lookup.handle_reply(*late, None, std::iter::empty());
        assert!(lookup.closest().any(|found| found.contact == *late));
    }

    #[test]
    fn ends_when_nobody_answers() {
        let mut lookup = lookup(&[node(1, 0), node(2, 0)]);
        while let Some(addr) = lookup.next() {
            lookup.handle_late(addr);
        }
        assert!(!lookup.is_done(), "they may still answer");
        (1..=2).for_each(|number| lookup.handle_failure(node(number, 0).addr));
        assert!(lookup.is_done() && lookup.closest().next().is_none());
    }

    #[test]
    fn a_ladder_of_inventions_ends_and_does_not_hide_the_honest() {
        let mut rng = Rng::from_seed(1);
        let mut honest: Vec<Contact> = Vec::new();
        while honest.len() < 8 {
            let addr = SocketAddr::from((rng.bytes::<4>(), 1));
            let id = NodeId::for_address(addr.ip(), &mut rng);
            honest.push(Contact { id, addr });
        }
        let mut lookup = Lookup::new(TARGET, honest.clone(), std::iter::empty());
        let mut asked = 0;
        while !lookup.is_done() {
            let Some(addr) = lookup.next() else { break };
            asked += 1;
            let id = honest.iter().find(|contact| contact.addr == addr).map(|contact| contact.id);
            let id = id.unwrap_or_else(|| TARGET.random_sharing(50 + asked, &mut rng));
            // Everyone tells of three inventions, each nearer than all before.
            let mut invent = |bits| Contact {
                id: TARGET.random_sharing(bits, &mut rng),
                addr: SocketAddr::from((rng.bytes::<4>(), 1)),
            };
            let told = [invent(60 + asked), invent(61 + asked), invent(62 + asked)];
            let told = told.into_iter().filter(|contact| !is_local(contact.addr.ip()));
            lookup.handle_reply(Contact { id, addr }, Some(b"t"), told);
        }
        assert!(asked <= ASKED_MAX && lookup.candidates.len() <= CANDIDATES_MAX + ASKED_MAX);
        let found = lookup.closest().filter(|found| honest.contains(&found.contact)).count();
        assert!(found >= K - STRANGERS_MAX, "{found}");
    }

    #[test]
    fn a_lie_about_the_name_of_a_node_does_not_hide_it() {
        let liar = node(1, 0);
        let mut lookup = lookup(&[liar]);
        assert_eq!(lookup.next(), Some(liar.addr));
        let near = node(2, 30);
        let far = Contact { id: node(3, 0).id, ..near };
        lookup.handle_reply(liar, None, [far, near].into_iter());
        assert_eq!(lookup.next(), Some(near.addr));
        lookup.handle_reply(near, None, std::iter::empty());
        assert_eq!(lookup.closest().next().map(|found| found.contact), Some(near));
    }

    /// A node of the world, at an address that its name fits.
    fn global(host: u8, rng: &mut Rng) -> Contact {
        let addr = SocketAddr::from(([80 + host, 1, 1, 1], 6881));
        Contact { id: NodeId::for_address(addr.ip(), rng), addr }
    }

    #[test]
    fn a_lie_about_the_port_of_a_node_delays_it_and_does_not_hide_it() {
        let mut rng = Rng::from_seed(7);
        let (liar, honest) = (global(1, &mut rng), global(2, &mut rng));
        let mut lookup = lookup(&[liar]);
        assert_eq!(lookup.next(), Some(liar.addr));
        // The same host at ports where nobody is, by names nearer than the true one that fit as well.
        let lie = |port| Contact {
            id: NodeId(std::array::from_fn(|at| match at {
                0..3 | 19 => honest.id.0[at],
                18 => port as u8,
                _ => 0,
            })),
            addr: SocketAddr::new(honest.addr.ip(), port),
        };
        lookup.handle_reply(liar, None, [lie(1), lie(2), honest].into_iter());
        for port in [1, 2] {
            assert_eq!(lookup.next(), Some(lie(port).addr));
            assert_eq!(lookup.next(), None, "one port of it at a time");
            lookup.handle_late(lie(port).addr);
        }
        assert_eq!(lookup.next(), Some(honest.addr));
        lookup.handle_reply(honest, Some(b"token"), std::iter::empty());
        assert!(lookup.closest().any(|found| found.contact == honest));
    }

    #[test]
    fn who_takes_the_name_of_another_does_not_take_its_place() {
        let mut rng = Rng::from_seed(8);
        let (liar, honest) = (global(1, &mut rng), global(2, &mut rng));
        let mut lookup = lookup(&[liar, honest]);
        while lookup.next().is_some() {}
        lookup.handle_reply(Contact { id: honest.id, ..liar }, None, std::iter::empty());
        lookup.handle_reply(honest, Some(b"token"), std::iter::empty());
        assert!(lookup.closest().any(|found| found.contact == honest));
    }

    #[test]
    fn nodes_without_a_name_are_asked_first() {
        let boot: SocketAddr = ([10, 9, 9, 9], 1).into();
        let mut lookup = Lookup::new(TARGET, vec![node(1, 9)], [boot].into_iter());
        assert_eq!(lookup.next(), Some(boot));
        lookup.handle_reply(Contact { id: node(7, 2).id, addr: boot }, None, std::iter::empty());
        assert_eq!(lookup.next(), Some(node(1, 9).addr));
    }
}
