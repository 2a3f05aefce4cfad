//! What our address looks like from outside ([BEP 24], and `yourip` of BEP 10): put to the vote, since anyone may lie.
//!
//! [BEP 24]: https://www.bittorrent.org/beps/bep_0024.html

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Reach;

/// The votes on our addresses, one of each family.
#[derive(Clone, Debug, Default)]
pub struct ExternalIp {
    v4: Ballot,
    v6: Ballot,
}

/// Who says what our address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The tracker of this name: somebody chose it for the torrent, so one is enough until others contradict.
    Tracker(String),
    /// The router that leads to the world, which has the address: as good as a tracker.
    Router,
    /// A peer or a node of the DHT: anyone may be one, so it takes two. Its network has one vote, its latest: 256
    /// addresses of IPv4, 2^64 of IPv6.
    Peer(IpAddr),
}

#[derive(Clone, Debug, Default)]
struct Ballot {
    /// Who says it, and what; the latest last.
    votes: VecDeque<(Witness, IpAddr)>,
    winner: Option<IpAddr>,
}

impl ExternalIp {
    /// Somebody says that we are at `ours`. Returns our address if it is another than before.
    ///
    /// Of equal votes the earlier decision stands. An address of a private network loses to any that reaches farther,
    /// and only who is in a private network is believed about one.
    pub fn vote(&mut self, witness: Witness, ours: IpAddr) -> Option<IpAddr> {
        let ours = ours.to_canonical();
        let witness = match witness {
            Witness::Peer(ip) if !Reach::is_credible(ours, ip) => return None,
            Witness::Peer(ip) => Witness::Peer(network(ip.to_canonical())),
            known @ (Witness::Tracker(_) | Witness::Router) => known,
        };
        if Reach::of(ours) < Reach::Private {
            return None;
        }
        let ballot = if ours.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        ballot.add(witness, ours)
    }

    /// Our IPv4 address, if it is known.
    pub const fn v4(&self) -> Option<IpAddr> {
        self.v4.winner
    }

    /// Our IPv6 address, if it is known.
    pub const fn v6(&self) -> Option<IpAddr> {
        self.v6.winner
    }
}

impl Ballot {
    fn add(&mut self, witness: Witness, ours: IpAddr) -> Option<IpAddr> {
        self.votes.retain(|(other, _)| *other != witness);
        if self.votes.len() >= VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((witness, ours));
        let rank = |ip: IpAddr| {
            let votes = self.votes.iter().filter(|(_, of)| *of == ip);
            (Reach::of(ip), votes.map(|(witness, _)| witness.weight()).sum::<usize>())
        };
        let (of_new, of_old) = (rank(ours), self.winner.map(rank));
        let is_won = of_new.1 >= WINS_WITH && of_old.is_none_or(|of_old| of_new > of_old);
        if !is_won || self.winner == Some(ours) {
            return None;
        }
        self.winner = Some(ours);
        self.winner
    }
}

impl Witness {
    const fn weight(&self) -> usize {
        match self {
            Self::Tracker(_) | Self::Router => WINS_WITH,
            Self::Peer(_) => 1,
        }
    }
}

/// Who is behind an address, as far as that can be told.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() >> 8 << 8).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// Votes that are remembered, for each family; the oldest go first.
const VOTES_MAX: usize = 100;
const WINS_WITH: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn peer_says(external: &mut ExternalIp, from: &str, ours: &str) -> Option<IpAddr> {
        external.vote(Witness::Peer(ip(from)), ip(ours))
    }

    fn tracker_says(external: &mut ExternalIp, name: &str, ours: &str) -> Option<IpAddr> {
        external.vote(Witness::Tracker(name.to_owned()), ip(ours))
    }

    #[test]
    fn it_takes_two_peers_of_different_networks_or_one_tracker() {
        let mut external = ExternalIp::default();
        assert_eq!(peer_says(&mut external, "8.0.0.1", "9.9.9.9"), None);
        assert_eq!(peer_says(&mut external, "8.0.0.1", "9.9.9.9"), None, "twice the same");
        assert_eq!(peer_says(&mut external, "8.0.0.7", "9.9.9.9"), None, "of the same network");
        assert_eq!(peer_says(&mut external, "8.0.1.1", "9.9.9.9"), Some(ip("9.9.9.9")));
        assert_eq!(peer_says(&mut external, "8.0.2.1", "9.9.9.9"), None, "nothing has changed");
        assert_eq!(external.v4(), Some(ip("9.9.9.9")));
        let tracker = tracker_says(&mut external, "a", "2001:db8::9");
        assert_eq!((tracker, external.v6()), (Some(ip("2001:db8::9")), tracker));
    }

    #[test]
    fn a_liar_alone_changes_nothing_and_the_many_do() {
        let mut external = ExternalIp::default();
        tracker_says(&mut external, "a", "9.9.9.9");
        for host in 0..50 {
            assert_eq!(peer_says(&mut external, &format!("8.1.1.{host}"), "6.6.6.6"), None);
            assert_eq!(tracker_says(&mut external, "b", "7.7.7.7"), None);
        }
        let mut changes = (1..=3)
            .filter_map(|network| peer_says(&mut external, &format!("7.1.{network}.1"), "5.5.5.5"));
        assert_eq!(changes.next(), Some(ip("5.5.5.5")), "our address has changed");
        assert_eq!(changes.next(), None);
    }

    #[test]
    fn what_nobody_can_know_does_not_count() {
        let mut external = ExternalIp::default();
        for ours in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "fe80::1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(tracker_says(&mut external, "a", ours), None, "{ours}");
        }
        peer_says(&mut external, "8.8.8.8", "10.0.0.1");
        assert_eq!(peer_says(&mut external, "9.8.8.8", "::ffff:10.0.0.1"), None);
        peer_says(&mut external, "10.0.2.9", "10.0.0.1");
        let private = peer_says(&mut external, "10.0.1.9", "10.0.0.1");
        assert_eq!(private, Some(ip("10.0.0.1")), "in a network of our own it is the one we have");
        peer_says(&mut external, "10.0.3.9", "10.0.0.1");
        let public = tracker_says(&mut external, "a", "9.9.9.9");
        assert_eq!(public, Some(ip("9.9.9.9")), "which counts for less than what all can see");
    }

    #[test]
    fn a_router_is_believed_until_others_see_farther() {
        let mut external = ExternalIp::default();
        let mut router_says = |ours| external.vote(Witness::Router, ip(ours));
        assert_eq!(router_says("0.0.0.0"), None, "it has none yet");
        assert_eq!(router_says("100.64.1.1"), Some(ip("100.64.1.1")), "behind another router");
        assert_eq!(tracker_says(&mut external, "a", "9.9.9.9"), Some(ip("9.9.9.9")));
        assert_eq!(external.vote(Witness::Router, ip("8.8.8.8")), None, "the earlier one stands");
    }

    #[test]
    fn whatever_is_said_little_is_remembered() {
        let mut external = ExternalIp::default();
        let mut rng = Rng::from_seed(1);
        for _ in 0..10_000 {
            let (from, ours) = (IpAddr::from(rng.bytes::<4>()), IpAddr::from(rng.bytes::<4>()));
            external.vote(Witness::Peer(from), ours);
            let (from, ours) = (IpAddr::from(rng.bytes::<16>()), IpAddr::from(rng.bytes::<16>()));
            external.vote(Witness::Peer(from), ours);
        }
        assert!(external.v4.votes.len() <= VOTES_MAX && external.v6.votes.len() <= VOTES_MAX);
    }
}
