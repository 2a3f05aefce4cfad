//! Room for another connection when all places are taken: whoever is of least use gives way.
//!
//! Who has no use for us nor we for it goes first, then who has moved nothing for minutes
//! ([`Swarm::least_useful`](torrent::swarm::Swarm::least_useful)): one a minute, if there is somebody to dial. Of those
//! that are of use the least useful few go every five minutes
//! ([`Swarm::turn_over`](torrent::swarm::Swarm::turn_over)). Whoever went is not dialled for half an hour: others come
//! first.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use reactor::{Reactor, Token};

use crate::engine::Engine;
use crate::parting::DisconnectReason;
use crate::task::{Task, TaskId};

impl Engine {
    /// There is no place for a peer of this torrent that could be dialled. If there is one, somebody goes; when that
    /// connection is gone, it is dialled.
    pub(crate) fn turn_over(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_moving()) else { return };
        let is_time = task.turned_over_at.is_none_or(|at| now >= at + USELESS_EVERY);
        let useless = is_time.then(|| least_useful(now, task)).flatten();
        let may_go = useless.is_some() || task.swarm.may_turn_over(now);
        if !may_go || task.swarm.known.next_dial_at(now).is_none_or(|at| at > now) {
            return;
        }
        if let Some(token) = useless {
            task.turned_over_at = Some(now);
            reactor.close(token, DisconnectReason::Useless.words());
        } else {
            task.let_few_go(now, reactor);
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

impl Task {
    /// A stranger has come, and all places are taken. Returns whether somebody gives way.
    pub(crate) fn makes_room(&mut self, reactor: &mut Reactor<Engine>) -> bool {
        let now = reactor.now();
        if let Some(token) = least_useful(now, self) {
            reactor.close(token, DisconnectReason::Useless.words());
            return true;
        }
        self.let_few_go(now, reactor)
    }

    /// Closes the few that are of least use, if it is time. Returns whether there are any.
    fn let_few_go(&mut self, now: Instant, reactor: &mut Reactor<Engine>) -> bool {
        let keys = self.swarm.turn_over(now);
        for token in keys.iter().filter_map(|key| self.connections.get(key)) {
            reactor.close(*token, DisconnectReason::GaveWay.words());
        }
        !keys.is_empty()
    }
}

/// The peer of a torrent that gives way first.
fn least_useful(now: Instant, task: &Task) -> Option<Token> {
    let key = task.swarm.least_useful(now)?;
    task.connections.get(&key).copied()
}

const USELESS_EVERY: Duration = Duration::from_secs(60);
