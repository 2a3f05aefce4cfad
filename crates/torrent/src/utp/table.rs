//! The table of connections: which is whose, and what follows from what happens to one.

use std::net::SocketAddr;
use std::time::Instant;

use super::connection::Connection;
use super::{Event, Mux, Slot, StreamId, Times};

impl Mux {
    pub(super) fn times(&mut self, now: Instant) -> Times {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        self.now = micros;
        Times { now: micros, stamp: (micros as u32).wrapping_add(self.stamp_offset) }
    }

    /// How much one stream may have in memory now.
    pub(super) fn window(&self) -> usize {
        let left = self.config.memory_max.saturating_sub(self.buffered);
        self.config.window.min(left.max(WINDOW_MIN))
    }

    pub(super) fn add(&mut self, connection: Connection) -> StreamId {
        let key = (connection.addr, connection.receive_id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None, timer: None, is_ready: false });
            self.slots.len() as u32 - 1
        });
        self.by_id.insert(key, slot);
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(Box::new(connection));
        let id = StreamId { slot, generation: entry.generation };
        self.settle(slot, true);
        id
    }

    pub(super) fn slot_of(&self, id: StreamId) -> Option<u32> {
        let entry = self.slots.get(id.slot as usize)?;
        let connection = entry.connection.as_ref().filter(|_| entry.generation == id.generation)?;
        // Once let go of, it is nobody's.
        (!connection.is_lingering()).then_some(id.slot)
    }

    pub(super) fn connection(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.connection.as_deref()
    }

    pub(super) fn look_up(&mut self, from: SocketAddr, id: u16) -> Option<u32> {
        let key = (from, id);
        match self.latest {
            Some((latest, slot)) if latest == key => Some(slot),
            _ => {
                let slot = *self.by_id.get(&key)?;
                self.latest = Some((key, slot));
                Some(slot)
            }
        }
    }

    /// Who knows nothing of a connection sends back the mark of the packet that it got: ours to them.
    pub(super) fn look_up_reset(&mut self, from: SocketAddr, id: u16) -> Option<u32> {
        let near = [id.wrapping_sub(1), id.wrapping_add(1)];
        let slots = near.map(|id| self.by_id.get(&(from, id)).copied());
        slots.into_iter().flatten().find(|&slot| {
            self.connection(slot).is_some_and(|connection| connection.send_id() == id)
        })
    }

    /// Does something to a connection, and sees to what follows.
    pub(super) fn with<T>(
        &mut self,
        slot: u32,
        act: impl FnOnce(&mut Connection) -> T,
    ) -> Option<T> {
        let connection = self.slots.get_mut(slot as usize)?.connection.as_mut()?;
        let (buffered, half_open_since) = (connection.buffered(), connection.half_open_since());
        let result = act(connection);
        self.buffered = (self.buffered + connection.buffered()).saturating_sub(buffered);
        if let (Some(since), None) = (half_open_since, connection.half_open_since()) {
            self.half_open.remove(&(since, slot));
        }
        self.settle(slot, true);
        Some(result)
    }

    /// Something happened to a connection: tells of it, and sets its timer.
    pub(super) fn settle(&mut self, slot: u32, may_send: bool) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        let Some(connection) = &mut entry.connection else { return };
        let id = StreamId { slot, generation: entry.generation };
        let addr = connection.addr;
        let news = std::mem::take(&mut connection.news);
        if !connection.is_lingering() && !connection.was_never_told() {
            let accepted = news.was_accepted.then_some(Event::Accepted(id, addr));
            let connected = news.has_connected.then_some(Event::Connected(id));
            let readable = news.is_readable.then_some(Event::Readable(id));
            let writable = news.is_writable.then_some(Event::Writable(id));
            let closed = news.closed.map(|reason| Event::Closed(id, reason));
            let all = [accepted, connected, readable, writable, closed];
            self.events.extend(all.into_iter().flatten());
        }
        let timer = connection.timeout();
        let is_over = connection.is_over() || connection.is_closed() && connection.was_never_told();
        if entry.timer != timer {
            if let Some(at) = entry.timer {
                self.timers.remove(&(at, slot));
            }
            self.timers.extend(timer.map(|at| (at, slot)));
            entry.timer = timer;
        }
        if may_send && !std::mem::replace(&mut entry.is_ready, true) {
            self.ready.push_back(slot);
        }
        if is_over {
            self.forget(slot);
        }
    }

    pub(super) fn forget(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        let Some(connection) = entry.connection.take() else { return };
        entry.generation = entry.generation.wrapping_add(1);
        if let Some(at) = entry.timer.take() {
            self.timers.remove(&(at, slot));
        }
        self.buffered = self.buffered.saturating_sub(connection.buffered());
        self.by_id.remove(&(connection.addr, connection.receive_id));
        self.latest = None;
        self.free.push(slot);
    }
}

/// What each stream may have in memory, however little is left.
const WINDOW_MIN: usize = 32 * 1024;
