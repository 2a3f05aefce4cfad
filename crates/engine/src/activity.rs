//! Which torrents are looked at ten times a second: only those where something happens.
//!
//! A torrent is *awake* from the moment something happens to it ([`Engine::wake`]) until nothing is
//! left to do: no connections, nothing to save, nobody to dial, rates back at zero. Then it *rests*,
//! and costs no time: a timer wakes it when somebody may be dialled again, another when a tracker is
//! due. So thousands of torrents that nobody asks for cost what the few do that somebody wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reactor::Reactor;

use crate::engine::Engine;
use crate::task::{Stage, Task, TaskId};

/// What is known of all torrents without looking at each.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    awake: BTreeSet<TaskId>,
    /// Bytes of blocks in memory; torrents without any are not listed.
    held: BTreeMap<TaskId, u64>,
    held_len: u64,
    running: BTreeSet<TaskId>,
    checking: BTreeSet<TaskId>,
    /// Those whose trackers have yet to hear or to say something.
    announcing: BTreeSet<TaskId>,
}

impl Activity {
    /// Bytes of received blocks in memory, of all torrents.
    pub(crate) const fn held_len(&self) -> u64 {
        self.held_len
    }

    /// The torrents that have such blocks.
    pub(crate) fn holding(&self) -> impl Iterator<Item = (TaskId, u64)> {
        self.held.iter().map(|(&id, &len)| (id, len))
    }

    /// Whether any torrent downloads or seeds.
    pub(crate) fn is_any_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether what is on disk of any torrent is being hashed.
    pub(crate) fn is_any_checking(&self) -> bool {
        !self.checking.is_empty()
    }

    /// Whether any tracker still has to hear of something.
    pub(crate) fn is_announcing(&self) -> bool {
        !self.announcing.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn awake_count(&self) -> usize {
        self.awake.len()
    }

    /// Returns whether it has begun or ended.
    fn note(&mut self, id: TaskId, task: &Task) -> bool {
        let held = task.swarm.held_len();
        let before = if held > 0 { self.held.insert(id, held) } else { self.held.remove(&id) };
        self.held_len = self.held_len + held - before.unwrap_or(0);
        let has_changed = note_member(&mut self.running, id, task.is_running());
        note_member(&mut self.checking, id, matches!(task.stage, Stage::Checking(_)));
        note_member(&mut self.announcing, id, task.announcer.is_busy());
        has_changed
    }

    fn forget(&mut self, id: TaskId) {
        self.held_len -= self.held.remove(&id).unwrap_or(0);
        let Self { awake, running, checking, announcing, .. } = self;
        for set in [awake, running, checking, announcing] {
            set.remove(&id);
        }
    }
}

/// Returns whether that is new.
fn note_member(set: &mut BTreeSet<TaskId>, id: TaskId, is_member: bool) -> bool {
    if is_member { set.insert(id) } else { set.remove(&id) }
}

impl Engine {
    /// Something happened to a torrent: the next tick looks at it.
    pub(crate) fn wake(&mut self, id: TaskId) {
        self.activity.awake.insert(id);
    }

    /// A torrent changed in what is counted over all of them. Called after whatever may change that.
    pub(crate) fn note_activity(&mut self, id: TaskId) {
        match self.tasks.get(&id) {
            Some(task) => {
                if self.activity.note(id, task) {
                    self.note_for_lsd(id);
                }
            }
            None => self.activity.forget(id),
        }
    }

    /// Called a few times a second while the session lives.
    pub(crate) fn tick(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        // First, so that nothing that goes wrong below ends the ticking.
        if !self.is_stopping {
            reactor.add_timer(now + TICK, |engine, reactor| engine.tick(reactor));
        }
        let is_telling = now >= self.tell_at;
        if is_telling {
            self.tell_at = now + TELL_EVERY;
        }
        if now >= self.schedule_at && !self.config.schedule.is_empty() {
            self.schedule_at = now + SCHEDULE_EVERY;
            self.follow_schedule(reactor);
        }
        self.dial_waiting(reactor);
        self.drive_lsd(reactor);
        self.tick_dht(reactor);
        let awake: Vec<TaskId> = self.activity.awake.iter().copied().collect();
        for id in awake {
            self.tick_task(id, is_telling, reactor);
        }
        self.resume_reading(reactor);
    }

    fn tick_task(&mut self, id: TaskId, is_telling: bool, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else {
            self.activity.forget(id);
            return;
        };
        match task.stage {
            Stage::Running | Stage::Fetching => {}
            Stage::Checking(_) => {
                if is_telling {
                    task.published.publish(task.status(now));
                }
                return;
            }
            Stage::Opening | Stage::Stopped { .. } | Stage::Failed(_) | Stage::Ended { .. } => {
                self.activity.awake.remove(&id);
                return;
            }
        }
        task.swarm.handle_timeout(now);
        if is_telling {
            task.published.publish(task.status(now));
            if !task.swarm.is_completed() && task.connections.is_empty() {
                self.drive_trackers(id, reactor);
            }
        }
        self.drain(id, reactor);
        self.drive_web_seeds(id, reactor);
        self.dial(id, reactor);
        self.pump_all_uploads(id, reactor);
        self.save_if_due(id, reactor);
        if is_telling {
            self.rest_if_idle(id, reactor);
        }
    }

    /// Looks at a torrent no more until something happens to it, if nothing does now.
    fn rest_if_idle(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let is_saved_somewhere = self.store.is_some();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_busy = !task.connections.is_empty()
            || !task.half_open.is_empty()
            || task.web_seeds_active() > 0
            || (task.is_dirty && is_saved_somewhere)
            || task.swarm.download_rate(now) > 0
            || task.swarm.upload_rate(now) > 0;
        if is_busy {
            return;
        }
        let may_dial = task.is_moving() && !task.is_waiting_to_dial;
        let dial_at = task.swarm.known.next_dial_at(now).filter(|_| may_dial);
        let dial_at = dial_at.into_iter().chain(task.web_seeds_at()).min();
        if dial_at.is_some_and(|at| at <= now) {
            return;
        }
        if let Some(before) = task.dial_timer.take() {
            reactor.cancel_timer(before);
        }
        task.dial_timer = dial_at.map(|at| reactor.add_timer(at, move |engine, _| engine.wake(id)));
        self.activity.awake.remove(&id);
    }

    /// There was no room for another connection. The torrents that wanted one come in turn.
    fn dial_waiting(&mut self, reactor: &mut Reactor<Self>) {
        for _ in 0..self.waiting_to_dial.len() {
            if !self.has_room_to_dial() {
                return;
            }
            let Some(id) = self.waiting_to_dial.pop_front() else { return };
            if let Some(task) = self.tasks.get_mut(&id) {
                task.is_waiting_to_dial = false;
                self.wake(id);
                self.dial(id, reactor);
            }
        }
    }

    /// When the next torrent that begins may announce itself: thousands that begin at once must not
    /// fall upon their trackers, nor our own sockets, all in one moment.
    pub(crate) fn next_announce(&mut self, now: Instant) -> Instant {
        let at = self.announce_at.max(now);
        self.announce_at = at + ANNOUNCE_EVERY;
        at
    }
}

const TICK: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_millis(400);
/// How often it is looked at what hour it is.
const SCHEDULE_EVERY: Duration = Duration::from_secs(5);
const ANNOUNCE_EVERY: Duration = Duration::from_millis(5);
