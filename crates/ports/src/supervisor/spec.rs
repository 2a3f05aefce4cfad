//! What a supervisor and its children are to be.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::{List, Message, Node, PortId, Reason, wire};

/// One child of a supervisor: how it is started, and whether again. By default it is permanent, and ended
/// by a kill.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) start: Start,
    pub(super) restart: Restart,
    pub(super) stop: Stop,
    pub(super) patience: Duration,
}

type Start = Rc<dyn Fn(&Node) -> Result<PortId, Reason>>;

/// Whether a child that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Permanent,
    Transient,
    Temporary,
}

/// How a child is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Kill,
    /// By the message `["stop"]`; killed only if that does not help.
    Ask,
}

/// A supervisor: its children, and what it does when one fails. By default more than 3 restarts within 5 s
/// are too many, and nothing waits before it is started again.
#[derive(Debug)]
pub struct SupervisorSpec {
    pub(super) strategy: Strategy,
    pub(super) restarts_max: usize,
    pub(super) period: Duration,
    pub(super) back_off: Option<BackOff>,
    pub(super) children: Vec<ChildSpec>,
}

/// Who is started again when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
}

/// How long a child waits before it is started again.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    first: Duration,
    longest: Duration,
}

impl ChildSpec {
    /// A child of that name. `start` makes its port, here or by [`spawn`](Node::spawn) elsewhere; it is
    /// called again for each restart.
    pub fn new(name: &str, start: impl Fn(&Node) -> Result<PortId, Reason> + 'static) -> Self {
        Self {
            name: name.to_owned(),
            start: Rc::new(start),
            restart: Restart::Permanent,
            stop: Stop::Kill,
            patience: PATIENCE,
        }
    }

    /// A child that is [spawned](Node::spawn) on the node of `place`. A node that is lost or not there is a
    /// failure as any other, so such a supervisor had better [wait](SupervisorSpec::back_off) between
    /// restarts.
    ///
    /// # Panics
    /// If the arguments are not a list of values.
    pub fn spawned<T: Message>(
        name: &str,
        place: impl Into<PortId>,
        function: &str,
        args: T,
    ) -> Self {
        let (place, function) = (place.into(), function.to_owned());
        let args: List = wire::to_list(&args).expect("arguments are a list of values");
        Self::new(name, move |node| Ok(node.spawn(&place, &function, args.clone())?))
    }

    /// A supervisor as a child. It ends its own children before itself, in good order, for which it has a
    /// minute.
    pub fn supervisor(name: &str, spec: impl Fn() -> SupervisorSpec + 'static) -> Self {
        let start = move |node: &Node| Ok(node.supervise(spec())?.port().clone());
        Self::new(name, start).stop_by_message().patience(Duration::from_secs(60))
    }

    /// It is started again however it ends. This is the default.
    #[must_use]
    pub const fn permanent(mut self) -> Self {
        self.restart = Restart::Permanent;
        self
    }

    /// It is started again unless it ends normally, or with the reason `shutdown`.
    #[must_use]
    pub const fn transient(mut self) -> Self {
        self.restart = Restart::Transient;
        self
    }

    /// It is never started again: when it ends it is forgotten.
    #[must_use]
    pub const fn temporary(mut self) -> Self {
        self.restart = Restart::Temporary;
        self
    }

    /// It is asked to end, by the message `["stop"]`, before it is killed.
    #[must_use]
    pub const fn stop_by_message(mut self) -> Self {
        self.stop = Stop::Ask;
        self
    }

    /// How long its supervisor waits for its end: after the message, and again after the kill, which only
    /// a node can delay that is gone without a word. Then it is taken for dead. Default: 5 s.
    #[must_use]
    pub const fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

impl SupervisorSpec {
    /// Only the child that failed is started again.
    pub const fn one_for_one() -> Self {
        Self::new(Strategy::OneForOne)
    }

    /// When one fails, all are ended and started again.
    pub const fn one_for_all() -> Self {
        Self::new(Strategy::OneForAll)
    }

    /// When one fails, those after it are ended, and with it started again.
    pub const fn rest_for_one() -> Self {
        Self::new(Strategy::RestForOne)
    }

    const fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            restarts_max: 3,
            period: Duration::from_secs(5),
            back_off: None,
            children: Vec::new(),
        }
    }

    /// Adds a child, behind the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// How many restarts within a period are bearable. With one more, the supervisor ends its children and
    /// itself, with the reason `restart_intensity`.
    #[must_use]
    pub const fn restarts(mut self, max: usize, period: Duration) -> Self {
        self.restarts_max = max;
        self.period = period;
        self
    }

    /// How long a child that has failed waits before it is started again: `first`, then always twice as
    /// long, up to `longest`. One that has lived for longer than `longest` begins anew.
    #[must_use]
    pub const fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.back_off = Some(BackOff { first, longest });
        self
    }
}

impl BackOff {
    /// How long to wait after so many failures in a row.
    pub(super) fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Whether one that has lived for so long is as good as new.
    pub(super) fn is_forgiven(self, lived: Duration) -> bool {
        lived > self.longest
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
