//! Addresses that we deal with, and that we do not: what lists of bad addresses say.
//!
//! An [`IpFilterBuilder`] takes rules one by one ([`IpFilterBuilder::add`]) or by the list
//! ([`IpFilterBuilder::load`]) and makes an [`IpFilter`] of them, which answers fast and cannot be changed.
//!
//! - `rule`: [`Rule`], a range of addresses with a level and a text.
//! - `builder`: [`IpFilterBuilder`]. `ranges`: overlapping ranges made into ranges side by side.
//! - `labels`: the texts of all rules. `fault`: what can be wrong with a list.
//! - `text`, `p2b`: the forms that lists have.

mod builder;
mod fault;
mod labels;
mod p2b;
mod ranges;
mod rule;
mod text;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use builder::{IpFilterBuilder, Loaded};
pub use fault::{Fault, FaultKind, Place};
pub use rule::{LEVEL_BANNED_BELOW, Rule, RuleError};

use labels::Labels;
use ranges::Ranges;

/// Which addresses are banned, and by which rule. A million IPv4 rules take at most 30 MB, of which
/// clones share everything, and a question is a binary search.
///
/// Where rules overlapped, the one of the lowest level holds, so an address is banned if any rule bans
/// it. What is listed by [`iter`](Self::iter) are the ranges that came of it, side by side.
///
/// ```
/// use torrent::ip_filter::IpFilterBuilder;
///
/// let mut rules = IpFilterBuilder::default();
/// rules.load(b"001.002.003.000 - 001.002.003.255 , 000 , nobody we know\n")?;
/// let filter = rules.build();
/// assert!(filter.is_banned("1.2.3.255".parse()?));
/// assert!(!filter.is_banned("1.2.4.0".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct IpFilter {
    tables: Arc<Tables>,
}

#[derive(Default)]
struct Tables {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    labels: Labels,
}

impl IpFilter {
    /// Whether a rule of a level below [`LEVEL_BANNED_BELOW`] holds the address. An IPv4 address inside
    /// an IPv6 one (`::ffff:1.2.3.4`) is the IPv4 address.
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        let Tables { v4, v6, .. } = &*self.tables;
        let label = match ip.to_canonical() {
            IpAddr::V4(ip) => v4.find(ip.to_bits()).map(|(_, range)| range.label),
            IpAddr::V6(ip) => v6.find(ip.to_bits()).map(|(_, range)| range.label),
        };
        label.is_some_and(labels::bans)
    }

    /// The rule that bans the address, if one does.
    pub fn banned_by(&self, ip: IpAddr) -> Option<Rule<'_>> {
        self.rule_of(ip).filter(Rule::is_ban)
    }

    /// The rule that holds the address, whatever its level.
    pub fn rule_of(&self, ip: IpAddr) -> Option<Rule<'_>> {
        let Tables { v4, v6, .. } = &*self.tables;
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.get(v4.find(ip.to_bits())?.0),
            IpAddr::V6(ip) => self.get(v4.len() + v6.find(ip.to_bits())?.0),
        }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.tables.v4.len() + self.tables.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A range by its place: IPv4 first, each family by address.
    pub fn get(&self, index: usize) -> Option<Rule<'_>> {
        let Tables { v4, v6, labels } = &*self.tables;
        let (first, last, label) = match index.checked_sub(v4.len()) {
            None => {
                v4.get(index).map(|range| (v4_addr(range.first), v4_addr(range.last), range.label))
            }
            Some(index) => {
                v6.get(index).map(|range| (v6_addr(range.first), v6_addr(range.last), range.label))
            }
        }?;
        let (level, text) = labels.get(label);
        Some(Rule { first, last, level, text })
    }

    /// All ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Rule<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The ranges as an `ipfilter.dat`, a line each. To write a long one bit by bit, print the rules of
    /// [`iter`](Self::iter).
    pub fn save(&self) -> String {
        self.iter().map(|rule| format!("{rule}\n")).collect()
    }
}

impl PartialEq for IpFilter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tables, &other.tables) || self.iter().eq(other.iter())
    }
}

impl Eq for IpFilter {}

impl fmt::Debug for IpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpFilter({} ranges)", self.len())
    }
}

fn v4_addr(bits: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(bits).into()
}

fn v6_addr(bits: u128) -> IpAddr {
    std::net::Ipv6Addr::from_bits(bits).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn filter(list: &str) -> IpFilter {
        let mut builder = IpFilterBuilder::default();
        let loaded = builder.load(list.as_bytes()).expect("a list");
        assert_eq!(loaded.fault_count, 0, "{:?}", loaded.first_faults);
        builder.build()
    }

    #[test]
    fn both_ends_of_a_range_are_banned_and_their_neighbours_are_not() {
        let filter = filter("1.2.3.4-5.6.7.8\n2001:db8::1 - 2001:db8::ff , 100 , six");
        for (address, is_banned) in [
            ("1.2.3.3", false),
            ("1.2.3.4", true),
            ("3.0.0.0", true),
            ("5.6.7.8", true),
            ("5.6.7.9", false),
            ("2001:db8::", false),
            ("2001:db8::1", true),
            ("2001:db8::ff", true),
            ("2001:db8::100", false),
        ] {
            assert_eq!(filter.is_banned(ip(address)), is_banned, "{address}");
            assert_eq!(filter.banned_by(ip(address)).is_some(), is_banned, "{address}");
        }
    }

    #[test]
    fn the_very_first_and_last_addresses_can_be_banned() {
        let filter = filter(
            "0.0.0.0/32\n255.255.255.255/32\n::/128\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        );
        let all_ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        for address in ["0.0.0.0", "255.255.255.255", "::", all_ones] {
            assert!(filter.is_banned(ip(address)), "{address}");
        }
        assert!(!filter.is_banned(ip("0.0.0.1")) && !filter.is_banned(ip("255.255.255.254")));
        let everything = self::filter("0.0.0.0/0\n::/0");
        assert!(everything.is_banned(ip("255.255.255.255")) && everything.is_banned(ip(all_ones)));
        assert_eq!(everything.len(), 2);
    }

    #[test]
    fn a_level_of_127_and_above_bans_nobody() {
        let filter = filter("1.0.0.0/8,126,no\n2.0.0.0/8,127,yes\n3.0.0.0/8,255,yes");
        assert_eq!(filter.banned_by(ip("1.1.1.1")).map(|rule| rule.text), Some("no"));
        assert_eq!(filter.banned_by(ip("2.1.1.1")), None);
        assert_eq!(filter.rule_of(ip("3.1.1.1")).map(|rule| rule.level), Some(255));
        assert_eq!(filter.rule_of(ip("4.1.1.1")), None);
    }

    #[test]
    fn of_overlapping_rules_the_lowest_level_holds() {
        let filter = filter("1.0.0.0/8,200,all\n1.2.0.0/16,10,some\n1.2.3.0/24,5,few");
        let text = |address| filter.rule_of(ip(address)).map(|rule| rule.text);
        assert_eq!(text("1.0.0.0"), Some("all"));
        assert_eq!(text("1.2.0.0"), Some("some"));
        assert_eq!(text("1.2.3.4"), Some("few"));
        assert_eq!(text("1.2.4.0"), Some("some"));
        assert_eq!(text("1.255.255.255"), Some("all"));
        assert_eq!(filter.len(), 5);
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_the_ipv4_address() {
        let plain = filter("1.2.3.0/24");
        assert!(plain.is_banned(ip("::ffff:1.2.3.4")));
        let mapped = filter("::ffff:1.2.3.0 - ::ffff:1.2.3.255");
        assert!(mapped.is_banned(ip("1.2.3.4")));
    }

    #[test]
    fn what_is_saved_can_be_loaded() {
        let list = "1.2.3.0/24,7,a, b - c: d\n::1/128,0,\n9.9.9.9,127,fine";
        let filter = filter(list);
        assert_eq!(
            filter.save(),
            "001.002.003.000 - 001.002.003.255 , 007 , a, b - c: d\n\
             009.009.009.009 - 009.009.009.009 , 127 , fine\n\
             ::1 - ::1 , 000 , \n"
        );
        assert_eq!(self::filter(&filter.save()), filter);
    }

    #[test]
    fn an_empty_filter_bans_nobody() {
        let filter = IpFilter::default();
        assert!(filter.is_empty() && filter.get(0).is_none() && filter.save().is_empty());
        assert!(!filter.is_banned(ip("127.0.0.1")) && !filter.is_banned(ip("::1")));
    }

    #[test]
    fn agrees_with_asking_every_rule() {
        for seed in 0..1500 {
            let mut rng = Rng::from_seed(seed);
            let mut builder = IpFilterBuilder::default();
            let mut rules = Vec::new();
            for _ in 0..rng.below(12) {
                let mut end = || (u32::MAX - 40) + rng.below(41) as u32;
                let (a, b) = (end(), end());
                let level = [0, 5, 126, 127, 200][rng.below(5)];
                let text = ["", "a", "b"][rng.below(3)];
                let rule = Rule { first: v4_addr(a.min(b)), last: v4_addr(a.max(b)), level, text };
                builder.add(&rule).expect("in order");
                rules.push(rule);
            }
            let filter = builder.build();
            for bits in u32::MAX - 41..=u32::MAX {
                let address = v4_addr(bits);
                let lowest =
                    rules.iter().filter(|rule| rule.contains(address)).map(|rule| rule.level).min();
                let found = filter.rule_of(address);
                assert_eq!(found.map(|rule| rule.level), lowest, "seed {seed}");
                assert_eq!(filter.is_banned(address), lowest.is_some_and(|level| level < 127));
                assert!(found.is_none_or(|found| found.contains(address)), "seed {seed}");
                assert!(
                    found.is_none_or(|found| rules
                        .iter()
                        .any(|rule| rule.text == found.text && rule.contains(address))),
                    "seed {seed}"
                );
            }
        }
    }
}
