//! Who lives in a world: reactors with their state, and how they take turns.

use std::time::{Duration, Instant};

use super::{Host, World};
use crate::Reactor;

/// Whatever acts in a world: a [`Node`], or what a test makes of one.
pub trait Turn {
    /// When there is something to do; `None` if nothing is planned.
    fn next_wake(&self) -> Option<Instant>;
    /// Does what is due.
    fn turn(&mut self);
}

/// A reactor and its state.
#[derive(Debug)]
pub struct Node<S> {
    /// The loop. It is turned by [`World::step`], not by its own `run`.
    pub reactor: Reactor<S>,
    /// The program's state.
    pub state: S,
    is_stopped: bool,
}

impl<S: 'static> Node<S> {
    /// A new reactor on this host.
    pub fn new(host: Host, state: S) -> Self {
        Self::from_parts(Reactor::simulated(host), state)
    }

    /// A reactor that was made before its state.
    pub const fn from_parts(reactor: Reactor<S>, state: S) -> Self {
        Self { reactor, state, is_stopped: false }
    }

    /// Whether the reactor has been [stopped](Reactor::stop). It gets no turns then.
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Does something with the reactor and the state, as a handler would.
    pub fn with<T>(&mut self, act: impl FnOnce(&mut S, &mut Reactor<S>) -> T) -> T {
        act(&mut self.state, &mut self.reactor)
    }
}

impl<S: 'static> Turn for Node<S> {
    fn next_wake(&self) -> Option<Instant> {
        if self.is_stopped { None } else { self.reactor.next_wake() }
    }

    fn turn(&mut self) {
        let goes_on = self.reactor.turn(&mut self.state, Some(Duration::ZERO));
        self.is_stopped = !goes_on.expect("a wait of no time cannot fail in a simulation");
    }
}

impl World {
    /// Gives a turn to each node that has something to do, or else moves the clock to whatever comes
    /// next. Returns whether there was anything; if not, nothing will ever happen again.
    pub fn step(&self, nodes: &mut [&mut dyn Turn]) -> bool {
        self.step_before(nodes, None)
    }

    /// Lets so much time pass.
    pub fn run_for(&self, nodes: &mut [&mut dyn Turn], time: Duration) {
        self.run_until(nodes, time, || false);
    }

    /// Steps until `is_done`, for at most so much time. Returns whether that came to be.
    pub fn run_until(
        &self,
        nodes: &mut [&mut dyn Turn],
        time_max: Duration,
        mut is_done: impl FnMut() -> bool,
    ) -> bool {
        let limit = self.now() + time_max;
        while !is_done() {
            if self.now() >= limit {
                return false;
            }
            if !self.step_before(nodes, Some(limit)) {
                let network = &mut *self.network.borrow_mut();
                network.advance(limit - network.base);
            }
        }
        true
    }

    fn step_before(&self, nodes: &mut [&mut dyn Turn], limit: Option<Instant>) -> bool {
        if self.turn_due(nodes) {
            return true;
        }
        let timers = nodes.iter().filter_map(|node| node.next_wake()).min();
        let network = &mut *self.network.borrow_mut();
        let arrival = network.next_arrival_at().map(|at| network.base + at);
        let Some(next) = timers.into_iter().chain(arrival).min() else { return false };
        let next = limit.map_or(next, |limit| next.min(limit));
        network.advance(next.saturating_duration_since(network.base));
        true
    }

    /// Begins with a node by chance: no program may count on the order.
    fn turn_due(&self, nodes: &mut [&mut dyn Turn]) -> bool {
        if nodes.is_empty() {
            return false;
        }
        let first = self.network.borrow_mut().chance.below(nodes.len());
        let mut has_turned = false;
        for number in 0..nodes.len() {
            let node = &mut nodes[(first + number) % nodes.len()];
            if node.next_wake().is_some_and(|at| at <= self.now()) {
                node.turn();
                has_turned = true;
            }
        }
        has_turned
    }
}
