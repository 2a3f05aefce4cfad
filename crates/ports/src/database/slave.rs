//! A slave node: it has its own entries, tells them to its master, and knows of others what it monitors.

use std::collections::BTreeSet;

use super::Limit;
use super::entry::Entries;
use super::message::{self, G_SLAVE, G_UPD, families_value};
use super::outbox::Outbox;
use super::shard::{Change, Maxima, Shard};
use crate::NodeId;

#[derive(Debug, Default)]
pub(super) struct Slave {
    pub(super) master: Option<NodeId>,
    pub(super) shard: Shard,
    /// The monitored families, as the last master told of them.
    copies: Shard,
    /// Of which families a master has told, be it that they are empty.
    known: BTreeSet<String>,
}

impl Slave {
    pub(super) fn is_master(&self, node: &NodeId) -> bool {
        self.master.as_ref() == Some(node)
    }

    /// Changes our own entries, and tells the master what is different.
    pub(super) fn update_own(&mut self, family: &str, change: Change, outbox: &mut Outbox) {
        let difference = self.shard.apply(family, change);
        let Some(master) = &self.master else { return };
        let change =
            difference.to_change(self.shard.family(family).unwrap_or(&super::entry::NOTHING));
        outbox.send_update(master, family, change);
    }

    /// Takes a node for the master.
    pub(super) fn follow(&mut self, master: NodeId, outbox: &mut Outbox) {
        let (first, rest) = message::cut(self.shard.families().clone());
        outbox.send(&master, G_SLAVE, vec![families_value(first)]);
        for (family, change) in rest {
            outbox.send(&master, G_UPD, message::update(&family, change));
        }
        self.master = Some(master);
    }

    /// A monitored family as it was when we last heard of it. Nothing if we never have.
    pub(super) fn copy(&self, family: &str) -> Option<&Entries> {
        let known = self.known.contains(family);
        known.then(|| self.copies.family(family).unwrap_or(&super::entry::NOTHING))
    }

    /// The master tells all of a monitored family. The first time every monitor hears, later only of what
    /// is different.
    pub(super) fn set_copy(
        &mut self,
        family: &str,
        entries: Entries,
        outbox: &mut Outbox,
    ) -> Result<(), Limit> {
        let change = self.copies.change_into(family, entries);
        self.copies.check(family, &change, Maxima::GLOBAL)?;
        let difference = self.copies.apply(family, change);
        if self.known.insert(family.to_owned()) {
            outbox.begin(family, self.copies.family(family));
        } else {
            outbox.changed(family, difference);
        }
        Ok(())
    }

    /// The master tells what has changed. What came too early belongs to a monitor that has ended.
    pub(super) fn update_copy(
        &mut self,
        family: &str,
        change: Change,
        outbox: &mut Outbox,
    ) -> Result<(), Limit> {
        if !self.known.contains(family) {
            return Ok(());
        }
        self.copies.check(family, &change, Maxima::GLOBAL)?;
        outbox.changed(family, self.copies.apply(family, change));
        Ok(())
    }

    /// The last monitor on a family has ended.
    pub(super) fn forget_copy(&mut self, family: &str) {
        self.known.remove(family);
        self.copies.apply(family, self.copies.change_into(family, Entries::new()));
    }

    /// Reports to all monitors what is different in `merged` from what they last heard, since from now on
    /// they see that.
    pub(super) fn hand_over(mut self, merged: &Shard, outbox: &mut Outbox) {
        let families: Vec<String> = outbox.monitored().cloned().collect();
        for family in families {
            let entries = merged.family(&family);
            if self.known.contains(&family) {
                let change = self.copies.change_into(&family, entries.cloned().unwrap_or_default());
                outbox.changed(&family, self.copies.apply(&family, change));
            } else {
                outbox.begin(&family, entries);
            }
        }
    }
}
