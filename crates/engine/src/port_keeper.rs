//! When a router is asked to let peers in, when again, and what is told of that: a core without I/O.
//!
//! A mapping is renewed at half its life. In between it is looked whether the router is still the same: a laptop gets
//! about, and what was mapped elsewhere is of no use here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::gateway::Gateway;
use crate::port_mapper::{Lease, MappedPorts};

/// Keeps the ports of one family mapped.
///
/// When [`poll_timeout`](Self::poll_timeout) says so, [`handle_timeout`](Self::handle_timeout) with the router that
/// there is now; after each call, do all that [`poll_output`](Self::poll_output) has.
#[derive(Debug)]
pub(crate) struct PortKeeper {
    phase: Phase,
    /// The router that was asked last.
    gateway: Option<Gateway>,
    /// When to renew, or to ask again one that refused.
    ask_at: Instant,
    /// When to look whether it is another.
    look_at: Instant,
    told: Option<Result<MappedPorts, String>>,
    outputs: VecDeque<KeeperOutput>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle,
    Asking,
    Mapped,
    Renewing,
}

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeeperOutput {
    /// Have this router map the ports; what was mapped before is to be taken back. Then
    /// [`handle_answer`](PortKeeper::handle_answer).
    Map(Gateway),
    /// Have what is mapped last longer. Then the same.
    Renew,
    /// Tell that the ports are mapped, or why not: this is new.
    Tell(Result<MappedPorts, String>),
}

impl PortKeeper {
    /// Nothing is mapped, and the router shall be asked now.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Idle,
            gateway: None,
            ask_at: now,
            look_at: now,
            told: None,
            outputs: VecDeque::new(),
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` while an answer is awaited.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle | Phase::Mapped if self.gateway.is_some() => {
                Some(self.look_at.min(self.ask_at))
            }
            Phase::Idle | Phase::Mapped => Some(self.look_at),
            Phase::Asking | Phase::Renewing => None,
        }
    }

    /// It is time to look. `found` is the router that leads to the world, or why there is none to ask. Harmless if it
    /// is not time.
    pub(crate) fn handle_timeout(&mut self, now: Instant, found: Result<Gateway, String>) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let is_due = now >= self.ask_at;
        match (found, self.phase) {
            (Ok(gateway), _) if self.gateway != Some(gateway) => {
                self.gateway = Some(gateway);
                self.phase = Phase::Asking;
                self.outputs.push_back(KeeperOutput::Map(gateway));
            }
            (Ok(gateway), Phase::Idle) if is_due => {
                self.phase = Phase::Asking;
                self.outputs.push_back(KeeperOutput::Map(gateway));
            }
            (Ok(_), Phase::Mapped) if is_due => {
                self.phase = Phase::Renewing;
                self.outputs.push_back(KeeperOutput::Renew);
            }
            // For a while it may well be there without a way to it.
            (Err(_), Phase::Mapped) if !is_due => {}
            (Err(why), _) => {
                self.gateway = None;
                self.phase = Phase::Idle;
                self.tell(Err(why));
            }
            (Ok(_), _) => {}
        }
    }

    /// The router has done what was asked, or not.
    pub(crate) fn handle_answer(&mut self, now: Instant, answer: Result<Lease, String>) {
        match (answer, self.phase) {
            (Ok(lease), Phase::Asking | Phase::Renewing) => {
                // One that grants seconds would have us ask without end, and one that grants years may be
                // switched off any day.
                let life = lease.lifetime.clamp(LIFETIME_MIN, LIFETIME_MAX);
                self.ask_at = now + life / 2;
                self.phase = Phase::Mapped;
                self.tell(Ok(lease.ports));
            }
            (Err(why), Phase::Asking) => {
                self.ask_at = now + TRY_AGAIN_AFTER;
                self.phase = Phase::Idle;
                self.tell(Err(why));
            }
            // It has forgotten all, perhaps: from the beginning.
            (Err(_), Phase::Renewing) => {
                self.ask_at = now;
                self.phase = Phase::Idle;
            }
            (_, Phase::Idle | Phase::Mapped) => {}
        }
    }

    /// The next thing to do, until there is none.
    pub(crate) fn poll_output(&mut self) -> Option<KeeperOutput> {
        self.outputs.pop_front()
    }

    fn tell(&mut self, what: Result<MappedPorts, String>) {
        if self.told.as_ref() != Some(&what) {
            self.told = Some(what.clone());
            self.outputs.push_back(KeeperOutput::Tell(what));
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(600);
const LIFETIME_MIN: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port_mapper::MappingProtocol;

    fn gateway(number: u8) -> Gateway {
        let [addr, ours] = [[10, 0, number, 1], [10, 0, number, 2]].map(Into::into);
        Gateway { addr, ours, link: None }
    }

    fn ports(tcp: u16) -> MappedPorts {
        MappedPorts { by: MappingProtocol::NatPmp, external_ip: None, tcp, udp: tcp }
    }

    fn lease(tcp: u16, seconds: u64) -> Lease {
        Lease { ports: ports(tcp), lifetime: Duration::from_secs(seconds) }
    }

    /// A keeper in virtual time.
    struct Story {
        now: Instant,
        keeper: PortKeeper,
    }

    impl Story {
        fn new() -> Self {
            let now = Instant::now();
            Self { now, keeper: PortKeeper::new(now) }
        }

        /// Waits for the next time that something is done, with this router there. Returns after how many seconds.
        fn until_done(&mut self, found: &Result<Gateway, String>) -> (u64, Vec<KeeperOutput>) {
            let began_at = self.now;
            for _ in 0..1000 {
                self.now = self.now.max(self.keeper.poll_timeout().expect("it waits for time"));
                self.keeper.handle_timeout(self.now, found.clone());
                let outputs = self.outputs();
                if !outputs.is_empty() {
                    return ((self.now - began_at).as_secs(), outputs);
                }
            }
            panic!("nothing is ever done");
        }

        fn answer(&mut self, answer: Result<Lease, String>) -> Vec<KeeperOutput> {
            self.keeper.handle_answer(self.now, answer);
            self.outputs()
        }

        fn outputs(&mut self) -> Vec<KeeperOutput> {
            std::iter::from_fn(|| self.keeper.poll_output()).collect()
        }
    }

    #[test]
    fn what_is_mapped_is_renewed_at_half_its_life_and_told_when_it_changes() {
        let (mut story, here) = (Story::new(), Ok(gateway(1)));
        assert_eq!(story.until_done(&here), (0, vec![KeeperOutput::Map(gateway(1))]));
        assert_eq!(story.keeper.poll_timeout(), None, "the router thinks");
        let told = |tcp| vec![KeeperOutput::Tell(Ok(ports(tcp)))];
        assert_eq!(story.answer(Ok(lease(7, 600))), told(7));
        assert_eq!(story.until_done(&here), (300, vec![KeeperOutput::Renew]));
        assert_eq!(story.answer(Ok(lease(7, u64::MAX))), []);
        assert_eq!(story.until_done(&here), (1800, vec![KeeperOutput::Renew]), "not in years");
        assert_eq!(story.answer(Ok(lease(8, 0))), told(8));
        assert_eq!(story.until_done(&here), (30, vec![KeeperOutput::Renew]), "not at once");
        assert_eq!(story.answer(Err("forgotten".to_owned())), []);
        assert_eq!(story.until_done(&here), (0, vec![KeeperOutput::Map(gateway(1))]));
        assert_eq!(story.answer(Ok(lease(8, 600))), []);
    }

    #[test]
    fn another_router_is_asked_within_a_minute() {
        let mut story = Story::new();
        story.until_done(&Ok(gateway(1)));
        story.answer(Ok(lease(7, 3600)));
        let (waited, asked) = story.until_done(&Ok(gateway(2)));
        assert_eq!((waited, asked), (60, vec![KeeperOutput::Map(gateway(2))]));
        story.answer(Err("no".to_owned()));
        let (waited, asked) = story.until_done(&Ok(gateway(1)));
        assert_eq!((waited, asked), (60, vec![KeeperOutput::Map(gateway(1))]));
    }

    #[test]
    fn one_that_refuses_is_asked_again_later_and_that_is_told_once() {
        let (mut story, here) = (Story::new(), Ok(gateway(1)));
        story.until_done(&here);
        let no = || Err("no".to_owned());
        assert_eq!(story.answer(no()), [KeeperOutput::Tell(Err("no".to_owned()))]);
        for _ in 0..3 {
            assert_eq!(story.until_done(&here), (600, vec![KeeperOutput::Map(gateway(1))]));
            assert_eq!(story.answer(no()), []);
        }
    }

    #[test]
    fn without_a_way_to_it_what_is_mapped_stands_until_it_would_be_renewed() {
        let (mut story, gone) = (Story::new(), Err("no route".to_owned()));
        assert_eq!(story.until_done(&gone), (0, vec![KeeperOutput::Tell(Err("no route".into()))]));
        story.keeper.handle_timeout(story.now, Ok(gateway(1)));
        assert_eq!(story.outputs(), [], "it has just been looked at");
        assert_eq!(story.until_done(&Ok(gateway(1))).0, 60);
        story.answer(Ok(lease(7, 600)));
        assert_eq!(
            story.until_done(&gone),
            (300, vec![KeeperOutput::Tell(Err("no route".into()))])
        );
        assert_eq!(story.until_done(&Ok(gateway(1))), (60, vec![KeeperOutput::Map(gateway(1))]));
    }
}
