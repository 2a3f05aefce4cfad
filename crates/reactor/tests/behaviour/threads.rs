//! Other threads: posting, stopping, and work that is done elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};
use reactor::{Gone, PoolKey, PoolOptions, Reactor};

use crate::stage::{everywhere, on_the_real_network, turn_until};

#[test]
fn what_another_thread_posts_wakes_the_loop_and_runs_in_order() {
    on_the_real_network(|mut reactor: Reactor<Vec<usize>>, _| {
        let remote = reactor.remote();
        let sender = thread::spawn(move || {
            for number in 0..1000 {
                remote.post(move |log: &mut Vec<usize>, _| log.push(number)).unwrap();
            }
            remote.post(|_, reactor| reactor.stop()).unwrap();
        });
        let mut log = Vec::new();
        // With nothing else to wait for: a lost wake-up would be for ever.
        reactor.run(&mut log).unwrap();
        sender.join().unwrap();
        assert_eq!(log, Vec::from_iter(0..1000));
    });
}

#[test]
fn no_stop_is_lost() {
    on_the_real_network(|mut reactor: Reactor<()>, _| {
        for _ in 0..500 {
            let remote = reactor.remote();
            let stopper = thread::spawn(move || remote.stop());
            reactor.remote().post(|(), _| {}).unwrap();
            reactor.run(&mut ()).unwrap();
            stopper.join().unwrap();
        }
    });
}

#[test]
fn a_reactor_that_is_gone_takes_no_posts_and_drops_what_it_had() {
    everywhere(|reactor: Reactor<()>, _| {
        let (remote, held) = (reactor.remote(), Arc::new(()));
        let weak = Arc::downgrade(&held);
        remote.post(move |(), _| drop(held)).unwrap();
        drop(reactor);
        assert!(weak.upgrade().is_none());
        assert_eq!(remote.post(|(), _| {}), Err(Gone));
        remote.stop();
    });
}

#[test]
fn the_result_of_a_job_comes_back_to_the_loop() {
    everywhere(|mut reactor: Reactor<Vec<u64>>, _| {
        let home = thread::current().id();
        for number in 0..20 {
            reactor.offload(
                move || number * 2,
                move |double, log: &mut Vec<u64>, _| {
                    assert_eq!(thread::current().id(), home);
                    log.push(double);
                },
            );
        }
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 20);
        log.sort_unstable();
        assert_eq!(log, Vec::from_iter((0..40).step_by(2)));
    });
}

#[test]
fn a_job_that_panics_loses_its_result_and_nothing_else() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        reactor.set_worker_threads(1);
        reactor.offload(
            || std::panic::resume_unwind(Box::new("on purpose")),
            |(), log: &mut Vec<&str>, _| log.push("impossible"),
        );
        reactor.offload(|| "fine", |result, log, _| log.push(result));
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["fine"]);
    });
}

#[test]
fn jobs_run_beside_each_other() {
    on_the_real_network(|mut reactor: Reactor<usize>, _| {
        reactor.set_worker_threads(2);
        let meeting = Arc::new(std::sync::Barrier::new(2));
        for _ in 0..2 {
            let meeting = Arc::clone(&meeting);
            reactor.offload(move || meeting.wait(), |_, met: &mut usize, _| *met += 1);
        }
        turn_until(&mut reactor, &mut 0, |met| *met == 2);
    });
}

#[test]
fn a_pool_of_its_own_goes_on_while_the_others_hang() {
    on_the_real_network(|mut reactor: Reactor<Vec<&str>>, _| {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let hanging = || {
            let hang = Arc::clone(&hang);
            move || _ = hang.lock().map(|hang| hang.recv())
        };
        reactor.set_pool(PoolKey(1), PoolOptions { threads: 1, ..PoolOptions::default() });
        reactor.offload_on(PoolKey(1), hanging(), |(), log: &mut Vec<&str>, _| log.push("1"));
        (0..2).for_each(|_| reactor.offload(hanging(), |(), log, _| log.push("general")));
        reactor.offload_on(PoolKey(2), || "fine", |result, log, _| log.push(result));
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["fine"]);
        drop(release);
        turn_until(&mut reactor, &mut log, |log| log.len() == 4);
    });
}

#[test]
fn jobs_of_pools_come_back_to_the_loop_in_every_world() {
    everywhere(|mut reactor: Reactor<Vec<u64>>, _| {
        for pool in 0..100 {
            reactor.offload_on(
                PoolKey(pool),
                move || pool,
                |pool, log: &mut Vec<u64>, _| {
                    log.push(pool);
                },
            );
        }
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 100);
        if reactor.backend() == "simulated" {
            assert!(log.is_sorted(), "in the order that they were asked for");
        }
    });
}

#[test]
fn an_address_resolves_to_itself_but_not_before_the_next_turn() {
    everywhere(|mut reactor: Reactor<Vec<SocketAddr>>, _| {
        for host in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"] {
            reactor.resolve(host, 80, |found, log: &mut Vec<SocketAddr>, _| {
                log.extend(found.unwrap());
            });
        }
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 3);
        let v6 = "[2001:db8::7]:80".parse().unwrap();
        assert_eq!(log, ["192.0.2.7:80".parse().unwrap(), v6, v6]);
    });
}

#[test]
fn names_are_looked_up_in_the_system_and_simulated_ones_in_their_world() {
    on_the_real_network(|mut reactor: Reactor<Vec<IpAddr>>, _| {
        reactor.resolve("localhost", 80, |found, log: &mut Vec<IpAddr>, _| {
            log.extend(found.unwrap().iter().map(SocketAddr::ip));
        });
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert!(log.iter().all(IpAddr::is_loopback));
    });
    let world = World::new(1, WorldOptions::default());
    world.set_name("tracker.example", &[[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
    let mut reactor: Reactor<Vec<String>> = Reactor::simulated(world.host(&[]));
    for name in ["tracker.example", "localhost"] {
        reactor.resolve(name, 80, move |found, log: &mut Vec<String>, _| {
            log.push(format!("{found:?}"));
        });
    }
    let mut log = Vec::new();
    reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
    assert_eq!(log[0], "Ok([10.0.0.1:80, 10.0.0.2:80])");
    assert!(log[1].starts_with("Err") && log[1].contains("NotFound"));
}

#[test]
fn a_panic_in_a_callback_ends_that_callback_and_nothing_else() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        let on_purpose = || std::panic::resume_unwind(Box::new("on purpose"));
        let now = reactor.now();
        reactor.add_timer(now, move |_, _| on_purpose());
        reactor.offload(|| (), move |(), _, _| on_purpose());
        reactor.remote().post(move |_, _| on_purpose()).unwrap();
        reactor.offload(|| "a job", |word, log, _| log.push(word));
        reactor.add_timer(now + Duration::from_millis(1), |log, _| log.push("a timer"));
        reactor.remote().post(|log: &mut Vec<&str>, _| log.push("a post")).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 3);
        log.sort_unstable();
        assert_eq!(log, ["a job", "a post", "a timer"]);
    });
}
