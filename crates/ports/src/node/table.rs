//! All ports of a node, by slot and by name.

use std::collections::HashMap;
use std::rc::Rc;

use super::name;
use super::port::{AnyPort, Head};

/// All ports of a node.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Those that somebody else named: spawned ones.
    named: HashMap<Box<str>, u32>,
    count: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    port: Option<Rc<dyn AnyPort>>,
}

impl Table {
    /// A place for a new port: its slot and generation.
    pub(super) fn reserve(&mut self) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("memory ends before the numbers do")
        });
        (slot, self.slots[slot as usize].generation)
    }

    pub(super) fn insert(&mut self, port: Rc<dyn AnyPort>) {
        let slot = port.head().slot as usize;
        self.slots[slot].port = Some(port);
        self.count += 1;
    }

    pub(super) fn set_name(&mut self, name: &str, slot: u32) {
        self.named.insert(name.into(), slot);
    }

    pub(super) fn by_name(&self, unique: &str, name: &str) -> Option<&Rc<dyn AnyPort>> {
        let slot = match name::slot_of(unique, name) {
            Some((slot, generation)) => {
                let found = self.slots.get(slot as usize)?;
                return found.port.as_ref().filter(|_| found.generation == generation);
            }
            None => *self.named.get(name)?,
        };
        self.slots.get(slot as usize)?.port.as_ref()
    }

    /// Takes a port out. Its name is never used again.
    pub(super) fn remove(&mut self, head: &Head) -> Option<Rc<dyn AnyPort>> {
        let slot = &mut self.slots[head.slot as usize];
        if slot.generation != head.generation {
            return None;
        }
        let port = slot.port.take()?;
        self.count -= 1;
        if let Some(name) = head.given_name() {
            self.named.remove(name);
        }
        // A slot that has had all its generations is left empty.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(head.slot);
        }
        Some(port)
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<dyn AnyPort>> {
        self.slots.iter().filter_map(|slot| slot.port.as_ref())
    }
}
