//! A shard: the entries that one node vouches for. Also used for what is merged of them, and for copies.

use std::collections::BTreeSet;

use super::Limit;
use super::entry::{Entries, Families, entry_weight};
use crate::Value;

/// Families with their entries, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    families: Families,
    /// How many entries there are in all families.
    entries: usize,
    /// What they weigh.
    weight: usize,
}

/// What is to become of one family. No key is in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    pub(super) set: Entries,
    pub(super) deleted: BTreeSet<String>,
}

/// What has become of one family: keys in order, none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Keys that were not there before.
    pub added: Vec<String>,
    /// Keys that have another value than before.
    pub changed: Vec<String>,
    /// Keys that are there no longer.
    pub deleted: Vec<String>,
}

/// How much one shard may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maxima {
    entries: usize,
    families: usize,
    weight: usize,
}

impl Maxima {
    /// For the entries of one node.
    pub(super) const NODE: Self =
        Self { entries: ENTRIES_MAX, families: FAMILIES_MAX, weight: SHARD_WEIGHT_MAX };

    /// For what a global node tells of all its slaves.
    pub(super) const GLOBAL: Self = Self {
        entries: ENTRIES_MAX * SLAVES_COUNTED,
        families: FAMILIES_MAX * SLAVES_COUNTED,
        weight: SHARD_WEIGHT_MAX * SLAVES_COUNTED,
    };
}

/// The most entries that one node may have.
pub const ENTRIES_MAX: usize = 1_000_000;

/// The most families that one node may have entries in.
pub const FAMILIES_MAX: usize = 65_536;

/// The most that all entries of one node may weigh, about in bytes on the wire.
pub const SHARD_WEIGHT_MAX: usize = 256 << 20;

/// A global node may tell us as much as this many slaves could tell it.
const SLAVES_COUNTED: usize = 16;

impl Change {
    pub(super) fn setting(key: &str, value: Value) -> Self {
        Self { set: [(key.to_owned(), value)].into(), ..Self::default() }
    }

    pub(super) fn deleting(key: &str) -> Self {
        Self { deleted: [key.to_owned()].into(), ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.deleted.is_empty()
    }
}

impl Difference {
    /// Whether nothing has changed.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }

    /// What someone must do who holds the family as it was, to hold it as it is now, in `entries`.
    pub(super) fn to_change(&self, entries: &Entries) -> Change {
        let present = self.added.iter().chain(&self.changed);
        Change {
            set: present.map(|key| (key.clone(), entries[key].clone())).collect(),
            deleted: self.deleted.iter().cloned().collect(),
        }
    }
}

impl Shard {
    pub(super) const fn families(&self) -> &Families {
        &self.families
    }

    pub(super) fn family(&self, family: &str) -> Option<&Entries> {
        self.families.get(family)
    }

    pub(super) fn value(&self, family: &str, key: &str) -> Option<&Value> {
        self.families.get(family)?.get(key)
    }

    /// What makes a family hold `entries` and nothing else.
    pub(super) fn change_into(&self, family: &str, entries: Entries) -> Change {
        let old = self.families.get(family);
        let gone =
            old.into_iter().flat_map(|old| old.keys()).filter(|key| !entries.contains_key(*key));
        Change { deleted: gone.cloned().collect(), set: entries }
    }

    /// What takes each family away that is not in `families`.
    pub(super) fn changes_without(&self, families: &Families) -> Vec<(String, Change)> {
        let gone = self.families.iter().filter(|(family, _)| !families.contains_key(*family));
        gone.map(|(family, entries)| {
            (
                family.clone(),
                Change { deleted: entries.keys().cloned().collect(), set: Entries::new() },
            )
        })
        .collect()
    }

    /// Changes one family, and says what is really different now.
    pub(super) fn apply(&mut self, family: &str, change: Change) -> Difference {
        let mut difference = Difference::default();
        if !self.families.contains_key(family) {
            if change.set.is_empty() {
                return difference;
            }
            self.families.insert(family.to_owned(), Entries::new());
        }
        let entries = self.families.get_mut(family).expect("it has just been put there");
        for (key, value) in change.set {
            match entries.get_mut(&key) {
                Some(old) if *old == value => {}
                Some(old) => {
                    self.weight =
                        self.weight - entry_weight(&key, old) + entry_weight(&key, &value);
                    *old = value;
                    difference.changed.push(key);
                }
                None => {
                    self.weight += entry_weight(&key, &value);
                    self.entries += 1;
                    entries.insert(key.clone(), value);
                    difference.added.push(key);
                }
            }
        }
        for key in change.deleted {
            if let Some(old) = entries.remove(&key) {
                self.weight -= entry_weight(&key, &old);
                self.entries -= 1;
                difference.deleted.push(key);
            }
        }
        if entries.is_empty() {
            self.families.remove(family);
        }
        difference
    }

    /// Whether a change may be made without growing over the maxima. What it deletes is not counted.
    pub(super) fn check(&self, family: &str, change: &Change, maxima: Maxima) -> Result<(), Limit> {
        let old = self.families.get(family);
        let mut entries = self.entries;
        let mut weight = self.weight;
        for (key, value) in &change.set {
            match old.and_then(|old| old.get(key)) {
                Some(old) => weight -= entry_weight(key, old),
                None => entries += 1,
            }
            weight += entry_weight(key, value);
        }
        let grows = old.is_none() && !change.set.is_empty();
        maxima.check(entries, self.families.len() + usize::from(grows), weight)
    }

    #[cfg(test)]
    pub(super) fn assert_is_counted(&self) {
        let entries = || self.families.values().flatten();
        assert_eq!(entries().count(), self.entries);
        assert_eq!(
            entries().map(|(key, value)| entry_weight(key, value)).sum::<usize>(),
            self.weight
        );
        assert!(self.families.values().all(|entries| !entries.is_empty()));
    }
}

impl Maxima {
    /// Whether these families, and nothing else, may make up a shard.
    pub(super) fn check_all(self, families: &Families) -> Result<(), Limit> {
        let entries = || families.values().flatten();
        let weight = entries().map(|(key, value)| entry_weight(key, value)).sum();
        self.check(entries().count(), families.len(), weight)
    }

    const fn check(self, entries: usize, families: usize, weight: usize) -> Result<(), Limit> {
        if entries > self.entries {
            return Err(Limit { what: "entries of one node", max: self.entries });
        }
        if families > self.families {
            return Err(Limit { what: "families of one node", max: self.families });
        }
        if weight > self.weight {
            return Err(Limit { what: "bytes in the entries of one node", max: self.weight });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reports_only_what_is_different() {
        let mut shard = Shard::default();
        let set = |keys: &[(&str, i64)]| -> Entries {
            keys.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect()
        };
        shard.apply("f", Change { set: set(&[("a", 1), ("b", 2), ("c", 3)]), ..Change::default() });
        let change = shard.change_into("f", set(&[("a", 1), ("b", 0), ("d", 4)]));
        let difference = shard.apply("f", change);
        assert_eq!((difference.added, difference.changed), (vec!["d".into()], vec!["b".into()]));
        assert_eq!(difference.deleted, ["c"]);
        shard.assert_is_counted();
        shard.apply("f", shard.change_into("f", Entries::new()));
        assert!(shard.families().is_empty());
        shard.assert_is_counted();
    }

    #[test]
    fn one_entry_too_many_is_refused_and_a_replaced_one_is_not_counted() {
        let maxima = Maxima { entries: 2, families: 1, weight: 1000 };
        let mut shard = Shard::default();
        shard.apply("f", Change::setting("a", 1.into()));
        shard.apply("f", Change::setting("b", 1.into()));
        assert!(shard.check("f", &Change::setting("b", 2.into()), maxima).is_ok());
        assert!(shard.check("f", &Change::setting("c", 2.into()), maxima).is_err());
        assert!(shard.check("g", &Change::deleting("c"), maxima).is_ok());
        assert!(shard.check("f", &Change::setting("b", "x".repeat(1000).into()), maxima).is_err());
        let maxima = Maxima { entries: 3, ..maxima };
        assert!(shard.check("g", &Change::setting("c", 2.into()), maxima).is_err());
    }
}
