//! Room for another connection when all places are taken: whoever is of least use gives way.
//!
//! Who has no use for us nor we for it goes first, then who has moved nothing for minutes
//! ([`Swarm::least_useful`](torrent::swarm::Swarm::least_useful)). Somebody of use never gives way to a
//! stranger, and a full torrent tries no more than one stranger a minute.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use reactor::{Reactor, Token};

use crate::engine::Engine;
use crate::parting::DisconnectReason;
use crate::task::{Task, TaskId};

impl Engine {
    /// A torrent has all the peers that it may have. If others are known, one that is of no use goes; when
    /// it is gone, one of these is dialled.
    pub(crate) fn turn_over(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_time = task.turned_over_at.is_none_or(|at| now >= at + TURN_OVER_EVERY);
        let is_somebody = || task.swarm.known.next_dial_at(now).is_some_and(|at| at <= now);
        if task.is_moving()
            && is_time
            && is_somebody()
            && let Some(token) = least_useful(now, task)
        {
            task.turned_over_at = Some(now);
            reactor.close(token, DisconnectReason::Useless.words());
        }
    }

    /// The connection that gives way when there are as many as there may be in all: of the torrent that has
    /// most.
    pub(crate) fn least_useful_of_all(&self, now: Instant) -> Option<Token> {
        let mut tasks: Vec<&Task> =
            self.tasks.values().filter(|task| !task.connections.is_empty()).collect();
        tasks.sort_by_key(|task| Reverse(task.connections.len()));
        tasks.into_iter().find_map(|task| least_useful(now, task))
    }
}

/// The peer of a torrent that gives way first.
pub(crate) fn least_useful(now: Instant, task: &Task) -> Option<Token> {
    let key = task.swarm.least_useful(now)?;
    task.connections.get(&key).copied()
}

const TURN_OVER_EVERY: Duration = Duration::from_secs(60);
