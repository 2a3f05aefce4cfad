//! What a supervisor does, one thing after another.
//!
//! While it waits for a child's end, whatever else happens waits in its inbox. That a child has ended is
//! told with the number of its life, so that news of a former one harms nobody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::spec::{BackOff, ChildSpec, Restart, Stop, Strategy, SupervisorSpec};
use super::{Answer, ChildStatus, Event, SupervisorError};
use crate::node::port::panic_text;
use crate::node::timer::Timer;
use crate::{Inbox, List, Monitor, Node, PortId, Reason};

/// A supervisor's work. Dropped, it kills the children that are left.
pub(super) struct Body {
    node: Node,
    port: PortId,
    strategy: Strategy,
    restarts_max: usize,
    period: Duration,
    back_off: Option<BackOff>,
    /// In the order in which they are started. Only this changes it.
    children: Rc<RefCell<Vec<Child>>>,
    /// When there were restarts within the period.
    restarts: VecDeque<Instant>,
    next_number: u64,
}

/// A child, whether it is there or not.
pub(super) struct Child {
    number: u64,
    spec: ChildSpec,
    /// Counts its lives.
    incarnation: u64,
    life: Option<Life>,
    /// Starts it again.
    timer: Option<Timer>,
    /// How often it failed in a row.
    failures: u32,
    restarts_count: u64,
}

struct Life {
    port: PortId,
    since: Instant,
    _monitor: Monitor,
}

impl Child {
    pub(super) fn status(&self) -> ChildStatus {
        ChildStatus {
            name: self.spec.name.clone(),
            port: self.life.as_ref().map(|life| life.port.clone()),
            restarts_count: self.restarts_count,
        }
    }
}

impl Body {
    /// Starts all children.
    pub(super) fn start(
        node: &Node,
        port: &PortId,
        spec: SupervisorSpec,
    ) -> Result<Self, SupervisorError> {
        let mut body = Self {
            node: node.clone(),
            port: port.clone(),
            strategy: spec.strategy,
            restarts_max: spec.restarts_max,
            period: spec.period,
            back_off: spec.back_off,
            children: Rc::default(),
            restarts: VecDeque::new(),
            next_number: 0,
        };
        for child in spec.children {
            body.add(child)?;
        }
        Ok(body)
    }

    pub(super) fn children(&self) -> Rc<RefCell<Vec<Child>>> {
        Rc::clone(&self.children)
    }

    /// Obeys until it is told to stop, or there are too many failures.
    pub(super) async fn run(mut self, mut inbox: Inbox<Event>) -> Result<(), Reason> {
        let reason = loop {
            let result = match inbox.next().await {
                Event::Stop => break Reason::NORMAL,
                Event::Children(to) => {
                    self.tell_children(&to);
                    Ok(())
                }
                Event::Ended { child, incarnation, reason } => {
                    self.ended(child, incarnation, reason, &mut inbox).await
                }
                Event::Due { child, incarnation } => self.due(child, incarnation, &mut inbox).await,
                Event::Add(spec, answer) => {
                    self.add_and_tell(spec, answer);
                    Ok(())
                }
                Event::Remove(name) => {
                    self.remove(&name, &mut inbox).await;
                    Ok(())
                }
            };
            if let Err(reason) = result {
                break reason;
            }
        };
        let all = 0..self.children.borrow().len();
        self.end_range(all, &mut inbox).await;
        if reason.is_normal() { Ok(()) } else { Err(reason) }
    }

    fn tell_children(&self, to: &PortId) {
        let children: Vec<(String, Option<PortId>)> = (self.children.borrow().iter())
            .map(|child| {
                (child.spec.name.clone(), child.life.as_ref().map(|life| life.port.clone()))
            })
            .collect();
        self.node.send(to, children);
    }

    fn add_and_tell(&mut self, spec: ChildSpec, answer: Answer) {
        let result = self.add(spec);
        answer.give(result);
    }

    fn add(&mut self, spec: ChildSpec) -> Result<PortId, SupervisorError> {
        let name = spec.name.clone();
        if self.children.borrow().iter().any(|child| child.spec.name == name) {
            return Err(SupervisorError::NameTaken(name));
        }
        self.next_number += 1;
        self.children.borrow_mut().push(Child {
            number: self.next_number,
            spec,
            incarnation: 0,
            life: None,
            timer: None,
            failures: 0,
            restarts_count: 0,
        });
        let index = self.children.borrow().len() - 1;
        self.start_child(index).map_err(|reason| {
            let failed = self.children.borrow_mut().pop();
            drop(failed);
            SupervisorError::Child { name, reason }
        })
    }

    fn start_child(&self, index: usize) -> Result<PortId, Reason> {
        let (start, number, incarnation) = {
            let child = &mut self.children.borrow_mut()[index];
            child.incarnation += 1;
            (Rc::clone(&child.spec.start), child.number, child.incarnation)
        };
        // It may do what it likes: nothing is borrowed.
        let port = catch_unwind(AssertUnwindSafe(|| start(&self.node)))
            .unwrap_or_else(|panic| Err(Reason::die(panic_text(&*panic))))?;
        if port.is_node() {
            return Err(Reason::die(format!("{port} is a node's own port, which cannot be ended")));
        }
        let supervisor = self.port.clone();
        let monitor = self.node.monitor(&port, move |node, reason| {
            node.send(&supervisor, Event::Ended { child: number, incarnation, reason });
        });
        let life = Life { port: port.clone(), since: self.node.now(), _monitor: monitor };
        self.children.borrow_mut()[index].life = Some(life);
        Ok(port)
    }

    fn index_of(&self, number: u64, incarnation: u64) -> Option<usize> {
        self.children
            .borrow()
            .iter()
            .position(|child| child.number == number && child.incarnation == incarnation)
    }

    /// A child's port is gone, and it was not we who ended it.
    async fn ended(
        &mut self,
        number: u64,
        incarnation: u64,
        reason: Reason,
        inbox: &mut Inbox<Event>,
    ) -> Result<(), Reason> {
        let Some(index) = self.index_of(number, incarnation) else { return Ok(()) };
        let (life, restart) = {
            let child = &mut self.children.borrow_mut()[index];
            (child.life.take(), child.spec.restart)
        };
        // One that we gave up has ended after all.
        let Some(life) = life else { return Ok(()) };
        let is_clean = reason.is_normal() || reason.identifier() == Some(SHUTDOWN);
        match restart {
            Restart::Temporary => {
                self.forget(index);
                return Ok(());
            }
            Restart::Transient if is_clean => return Ok(()),
            Restart::Transient | Restart::Permanent => {}
        }
        let lived = self.node.now().saturating_duration_since(life.since);
        if self.back_off.is_none_or(|back_off| back_off.is_forgiven(lived)) {
            self.children.borrow_mut()[index].failures = 0;
        }
        self.restart(index, reason, inbox).await
    }

    /// Starts a child again, and those that go with it; now, or after a while.
    async fn restart(
        &mut self,
        mut index: usize,
        mut reason: Reason,
        inbox: &mut Inbox<Event>,
    ) -> Result<(), Reason> {
        loop {
            self.count_restart(index, &reason)?;
            let number = self.children.borrow()[index].number;
            let affected = self.affected(index);
            self.end_range(affected, inbox).await;
            // Temporary ones have gone.
            let children = self.children.borrow();
            index = children.iter().position(|child| child.number == number).expect("it is kept");
            drop(children);
            if self.put_off(index) {
                return Ok(());
            }
            match self.start_affected(index) {
                Ok(()) => return Ok(()),
                Err((failed, why)) => (index, reason) = (failed, why),
            }
        }
    }

    /// The time of a child that waited has come.
    async fn due(
        &mut self,
        number: u64,
        incarnation: u64,
        inbox: &mut Inbox<Event>,
    ) -> Result<(), Reason> {
        let Some(index) = self.index_of(number, incarnation) else { return Ok(()) };
        let timer = self.children.borrow_mut()[index].timer.take();
        if timer.is_none() {
            return Ok(());
        }
        match self.start_affected(index) {
            Ok(()) => Ok(()),
            Err((failed, reason)) => self.restart(failed, reason, inbox).await,
        }
    }

    /// Whether a failure is one too many.
    fn count_restart(&mut self, index: usize, reason: &Reason) -> Result<(), Reason> {
        let now = self.node.now();
        self.restarts.push_back(now);
        let is_old = |at: &Instant| now.saturating_duration_since(*at) > self.period;
        while self.restarts.front().is_some_and(is_old) {
            self.restarts.pop_front();
        }
        let child = &mut self.children.borrow_mut()[index];
        child.failures = child.failures.saturating_add(1);
        let name = &child.spec.name;
        if self.restarts.len() > self.restarts_max {
            let (max, period) = (self.restarts_max, self.period);
            let text =
                format!("more than {max} restarts within {period:?}, at last of {name}: {reason}");
            return Err(Reason::new("restart_intensity", text));
        }
        tracing::warn!("{}: child {name} has ended: {reason}", self.port);
        Ok(())
    }

    /// Has a child wait before it is started again, if it is to.
    fn put_off(&self, index: usize) -> bool {
        let Some(back_off) = self.back_off else { return false };
        let child = &mut self.children.borrow_mut()[index];
        let due = Event::Due { child: child.number, incarnation: child.incarnation };
        let supervisor = self.port.clone();
        let delay = back_off.delay(child.failures);
        child.timer = Some(self.node.timer(delay, move |node| node.send(&supervisor, due)));
        true
    }

    /// A child and those that go with it.
    fn affected(&self, index: usize) -> Range<usize> {
        match self.strategy {
            Strategy::OneForOne => index..index + 1,
            Strategy::OneForAll => 0..self.children.borrow().len(),
            Strategy::RestForOne => index..self.children.borrow().len(),
        }
    }

    /// Starts those that are not there, in order, until one cannot be started: also those that had ended for
    /// good, as OTP does.
    fn start_affected(&self, index: usize) -> Result<(), (usize, Reason)> {
        for index in self.affected(index) {
            let is_missing = {
                let child = &mut self.children.borrow_mut()[index];
                let is_missing = child.life.is_none();
                child.restarts_count += u64::from(is_missing);
                is_missing
            };
            if is_missing {
                self.start_child(index).map_err(|reason| (index, reason))?;
            }
        }
        Ok(())
    }

    /// Ends children, the last first, each when those after it are gone. Temporary ones are forgotten.
    async fn end_range(&self, range: Range<usize>, inbox: &mut Inbox<Event>) {
        for index in range.rev() {
            let timer = self.children.borrow_mut()[index].timer.take();
            drop(timer);
            if self.end_child(index, inbox).await {
                let restart = self.children.borrow()[index].spec.restart;
                if restart == Restart::Temporary {
                    self.forget(index);
                }
            }
        }
    }

    /// Ends a child, and waits until it is gone. Returns whether it was there.
    async fn end_child(&self, index: usize, inbox: &mut Inbox<Event>) -> bool {
        let (port, number, incarnation, stop, patience) = {
            let child = &self.children.borrow()[index];
            let Some(life) = &child.life else { return false };
            let spec = &child.spec;
            (life.port.clone(), child.number, child.incarnation, spec.stop, spec.patience)
        };
        let is_its_end = |event: &Event| {
            matches!(event, Event::Ended { child, incarnation: life, .. }
                if (*child, *life) == (number, incarnation))
        };
        let mut is_gone = false;
        if stop == Stop::Ask {
            let stop: List = vec!["stop".into()];
            self.node.send(&port, stop);
            is_gone = inbox.receive(Some(patience), is_its_end).await.is_some();
        }
        if !is_gone {
            self.node.kill(&port, Reason::new(SHUTDOWN, "its supervisor has ended it"));
            is_gone = inbox.receive(Some(patience), is_its_end).await.is_some();
        }
        if !is_gone {
            tracing::error!("{}: {port} does not end, and is given up", self.port);
        }
        let life = self.children.borrow_mut()[index].life.take();
        drop(life);
        true
    }

    async fn remove(&mut self, name: &str, inbox: &mut Inbox<Event>) {
        let position = self.children.borrow().iter().position(|child| child.spec.name == name);
        let Some(index) = position else { return };
        self.end_child(index, inbox).await;
        self.forget(index);
    }

    fn forget(&self, index: usize) {
        let child = self.children.borrow_mut().remove(index);
        // What its start function holds may do anything: nothing is borrowed.
        drop(child);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let children = std::mem::take(&mut *self.children.borrow_mut());
        for child in children.iter().rev() {
            if let Some(life) = &child.life {
                self.node.kill(&life.port, Reason::new(SHUTDOWN, "its supervisor has ended"));
            }
        }
    }
}

/// The reason of children that were ended on purpose.
const SHUTDOWN: &str = "shutdown";
