//! What the loop says its time went to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reactor::{
    Accepted, Acceptor, ConnectOptions, Handler, HandlerError, ListenOptions, Phase, Reactor,
    Reason, Slow, Token,
};

use crate::stage::{Inbox, everywhere, noise, on_the_real_network, read, turn_until};

/// Counts its own calls by phase, as the profile should.
#[derive(Default)]
struct Counts {
    calls: BTreeMap<(&'static str, Phase), u64>,
    closed: u64,
}

impl Counts {
    fn count(&mut self, kind: &'static str, phase: Phase) {
        *self.calls.entry((kind, phase)).or_default() += 1;
    }
}

struct Peer(&'static str);

impl Handler<Counts> for Peer {
    fn connected(
        &mut self,
        token: Token,
        counts: &mut Counts,
        reactor: &mut Reactor<Counts>,
    ) -> Result<(), HandlerError> {
        counts.count(self.0, Phase::Connected);
        reactor.set_water(token, 1000, 100);
        reactor.notify_writable(token);
        reactor.write(token, noise(3_000_000))?;
        Ok(())
    }

    fn readable(
        &mut self,
        token: Token,
        counts: &mut Counts,
        reactor: &mut Reactor<Counts>,
    ) -> Result<(), HandlerError> {
        counts.count(self.0, Phase::Readable);
        read(token, reactor).map(drop)
    }

    fn writable(
        &mut self,
        token: Token,
        counts: &mut Counts,
        reactor: &mut Reactor<Counts>,
    ) -> Result<(), HandlerError> {
        counts.count(self.0, Phase::Writable);
        reactor.close_after_flush(token, Duration::from_secs(9));
        Ok(())
    }

    fn full(
        &mut self,
        _: Token,
        counts: &mut Counts,
        _: &mut Reactor<Counts>,
    ) -> Result<(), HandlerError> {
        counts.count(self.0, Phase::Full);
        Ok(())
    }

    fn drained(
        &mut self,
        _: Token,
        counts: &mut Counts,
        _: &mut Reactor<Counts>,
    ) -> Result<(), HandlerError> {
        counts.count(self.0, Phase::Drained);
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, counts: &mut Counts, _: &mut Reactor<Counts>) {
        counts.count(self.0, Phase::Closed);
        counts.closed += 1;
    }

    fn kind(&self) -> &'static str {
        self.0
    }
}

struct Door;

impl Acceptor<Counts> for Door {
    fn accepted(
        &mut self,
        _: Token,
        accepted: Accepted,
        counts: &mut Counts,
        reactor: &mut Reactor<Counts>,
    ) {
        counts.count("door", Phase::Accepted);
        reactor.attach(accepted, Box::new(Peer("server"))).unwrap();
    }

    fn kind(&self) -> &'static str {
        "door"
    }
}

/// A little of everything.
fn story(reactor: &mut Reactor<Counts>, ip: std::net::IpAddr) -> Counts {
    let mut counts = Counts::default();
    let options = ListenOptions::default();
    let listener = reactor.listen(SocketAddr::new(ip, 0), &options, Box::new(Door)).unwrap();
    let addr = reactor.local_addr(listener).unwrap();
    for _ in 0..3 {
        let client = Box::new(Peer("client"));
        reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
    }
    let inbox = Inbox(|_, _, _: &[u8], counts: &mut Counts, _: &mut Reactor<Counts>| {
        counts.count("datagrams", Phase::Datagrams);
    });
    let udp = reactor.bind_udp((ip, 0).into(), &options, Box::new(inbox)).unwrap();
    let udp_addr = reactor.local_addr(udp).unwrap();
    for number in 0..5 {
        let at = reactor.now() + Duration::from_millis(number);
        reactor.add_timer(at, |counts: &mut Counts, _| counts.count("timer", Phase::Timer));
        reactor.remote().post(|counts, _| counts.count("post", Phase::Post)).unwrap();
        reactor.send_to(udp, udp_addr, b"datagram").unwrap();
    }
    let hook = reactor.on_turn_end(|counts: &mut Counts, _| counts.count("hook", Phase::Hook));
    turn_until(reactor, &mut counts, |counts| {
        let is_over = |key| counts.calls.get(key).is_some_and(|calls| *calls == 5);
        counts.closed == 6
            && is_over(&("timer", Phase::Timer))
            && is_over(&("datagrams", Phase::Datagrams))
    });
    drop(hook);
    counts
}

#[test]
fn every_call_is_counted_in_the_row_of_its_kind_and_phase() {
    everywhere(|mut reactor: Reactor<Counts>, ip| {
        reactor.enable_profile();
        let expected = story(&mut reactor, ip).calls;
        let profile = reactor.profile();
        let rows = profile.rows().map(|((kind, phase), row)| {
            assert!(row.wall >= row.longest && row.longest * row.calls as u32 >= row.wall);
            // The test's own doors go by long names.
            (if kind.contains("Inbox") { "datagrams" } else { kind }, phase, row.calls)
        });
        let expected = expected.iter().map(|((kind, phase), calls)| (*kind, *phase, *calls));
        let (mut rows, mut expected) = (Vec::from_iter(rows), Vec::from_iter(expected));
        rows.sort_unstable();
        expected.sort_unstable();
        assert_eq!(rows, expected);
        let turns = rows.iter().find(|row| row.1 == Phase::Hook).unwrap().2;
        assert!(profile.lag().count() >= turns);
        let table = profile.to_string();
        assert!(
            ["client", "server", "door", "timer", "hook"].iter().all(|kind| table.contains(kind))
        );
    });
}

#[test]
fn a_profile_that_was_ended_stays_and_a_new_one_is_empty() {
    everywhere(|mut reactor: Reactor<Counts>, ip| {
        story(&mut reactor, ip);
        assert_eq!((reactor.profile().rows().count(), reactor.profile().lag().count()), (0, 0));
        reactor.enable_profile();
        story(&mut reactor, ip);
        reactor.disable_profile();
        let before = reactor.profile().to_string();
        story(&mut reactor, ip);
        assert_eq!(reactor.profile().to_string(), before);
        reactor.enable_profile();
        assert_eq!(reactor.profile().rows().count(), 0);
    });
}

#[test]
fn a_call_that_takes_long_is_told_with_a_profile_or_without_and_the_quick_ones_are_not() {
    on_the_real_network(|mut reactor: Reactor<u32>, _| {
        for profiles in [false, true] {
            if profiles {
                reactor.enable_profile();
            }
            let (sender, told) = std::sync::mpsc::channel();
            reactor.on_slow(Duration::from_millis(20), move |slow: Slow| {
                sender.send(slow).unwrap();
                // Its own mistakes are nobody else's.
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            let mut calls = 0;
            let now = reactor.now();
            for millis in [0, 25, 0] {
                reactor.add_timer(now, move |calls: &mut u32, _| {
                    std::thread::sleep(Duration::from_millis(millis));
                    *calls += 1;
                });
            }
            turn_until(&mut reactor, &mut calls, |calls| *calls == 3);
            // On a slow machine others may be slow too.
            let slow = told.try_iter().find(|slow| slow.wall >= Duration::from_millis(25)).unwrap();
            assert_eq!((slow.kind, slow.phase), ("timer", Phase::Timer));
        }
    });
}
