//! Signals that interrupt system calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use reactor::Reactor;

use crate::parts::{is_alone, pair};
use crate::stage::{echo, noise, on_the_real_network, read, script, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    signals: u32,
    ticks: u32,
    turns: u32,
}

#[test]
fn a_storm_of_signals_is_not_noticed_by_anybody_else() {
    if !is_alone() {
        return;
    }
    on_the_real_network(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let signal =
            reactor.on_signal(Signal::SIGUSR1 as i32, |log: &mut Log, _| log.signals += 1).unwrap();
        let client = script()
            .readable(|token, log: &mut Log, reactor| {
                log.received.extend(read(token, reactor)?);
                Ok(())
            })
            .closed(|_, reason, _, _| panic!("{reason}"));
        let (here, _) = pair(&mut reactor, &mut log, ip, client.boxed(), echo().boxed());
        let (loop_thread, is_over) = (pthread_self(), Arc::new(AtomicBool::new(false)));
        let is_done = Arc::clone(&is_over);
        let storm = thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                pthread_kill(loop_thread, Signal::SIGUSR1).unwrap();
                thread::sleep(Duration::from_micros(20));
            }
        });
        reactor.on_turn_end(|log, _| log.turns += 1).detach();
        for round in 1..=20 {
            // Some of it waits for timers, some for the network.
            let at = reactor.now() + Duration::from_millis(2);
            reactor.add_timer(at, move |log: &mut Log, reactor| {
                assert!(reactor.now() >= at);
                log.ticks += 1;
            });
            reactor.write(here, noise(500_000)).unwrap();
            turn_until(&mut reactor, &mut log, |log| {
                log.received.len() == 500_000 && log.ticks == round
            });
            assert!(log.received == noise(500_000));
            log.received.clear();
        }
        is_over.store(true, Ordering::Relaxed);
        storm.join().unwrap();
        // Those that come in one turn are one.
        assert!((1..=log.turns).contains(&log.signals), "{} signals", log.signals);
        drop(signal);
    });
}
