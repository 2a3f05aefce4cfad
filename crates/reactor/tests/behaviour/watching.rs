//! Descriptors of others, and signals.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{Interest, Reactor, WatchGuard};
use rustix::process::{Signal, getpid, kill_process};

use crate::parts::{HERE, count_turns, few_turns};
use crate::stage::{on_the_real_network, turn_for, turn_until};

const A_WHILE: Duration = Duration::from_millis(200);

fn loops<S: 'static>(story: impl Fn(Reactor<S>)) {
    on_the_real_network(|reactor, _| story(reactor));
}

#[test]
fn a_pipe_is_watched_as_long_as_there_is_something_and_its_owner_keeps_it() {
    loops(|mut reactor: Reactor<usize>| {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let watched = reader.try_clone().unwrap();
        let guard = reactor.watch(&reader, Interest::Readable, move |readiness, calls, _| {
            assert!(readiness.readable && !readiness.hung_up);
            *calls += 1;
            (&watched).read_exact(&mut [0; 2]).unwrap();
        });
        let guard = guard.unwrap();
        let mut calls = 0;
        turn_for(&mut reactor, &mut calls, Duration::from_millis(5));
        assert_eq!(calls, 0);
        writer.write_all(b"twice").unwrap();
        turn_until(&mut reactor, &mut calls, |calls| *calls == 2);
        drop(guard);
        writer.write_all(b" and no more").unwrap();
        turn_for(&mut reactor, &mut calls, Duration::from_millis(5));
        assert_eq!((calls, reactor.len()), (2, 0));
        drop(reactor);
        let mut rest = [0; 13];
        reader.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"e and no more");
    });
}

#[test]
fn a_watch_begins_within_a_callback_and_ends_within_its_own() {
    loops(|mut reactor: Reactor<Vec<&str>>| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"there all the time").unwrap();
        let at = reactor.now();
        reactor.add_timer(at, move |_, reactor: &mut Reactor<Vec<&str>>| {
            let guard: Rc<RefCell<Option<WatchGuard>>> = Rc::default();
            let own = Rc::clone(&guard);
            let watch =
                reactor.watch(&reader, Interest::Readable, move |_, log: &mut Vec<&str>, _| {
                    log.push("called");
                    drop(own.take());
                    // Nothing that belongs to the callback is gone while it runs.
                    log.push("still here");
                });
            guard.replace(Some(watch.unwrap()));
            // The descriptor may be closed by its owner at any time.
            drop(reader);
        });
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log, ["called", "still here"]);
        assert!(reactor.is_empty());
        assert!(writer.write(b"nobody").is_err(), "the watch was the last reader");
    });
}

#[test]
fn a_hang_up_of_what_is_watched_keeps_no_loop_busy() {
    loops(|mut reactor: Reactor<usize>| {
        let (reader, writer) = std::io::pipe().unwrap();
        for interest in [Interest::Readable, Interest::Both] {
            let watch = reactor.watch(&reader, interest, |readiness, calls: &mut usize, _| {
                assert!(readiness.hung_up);
                *calls += 1;
            });
            watch.unwrap().detach();
        }
        let (full_reader, full_writer) = std::io::pipe().unwrap();
        let watch = reactor.watch(&full_writer, Interest::Writable, |readiness, calls, _| {
            *calls += usize::from(readiness.hung_up);
        });
        watch.unwrap().detach();
        drop((writer, full_reader));
        let mut calls = 0;
        let turns = count_turns(&mut reactor, &mut calls, A_WHILE);
        assert_eq!(calls, 3);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
    });
}

#[test]
fn a_watch_that_panics_goes_on() {
    loops(|mut reactor: Reactor<usize>| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let watched = reader.try_clone().unwrap();
        let watch = reactor.watch(&reader, Interest::Readable, move |_, calls, _| {
            (&watched).read_exact(&mut [0]).unwrap();
            *calls += 1;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        let _guard = watch.unwrap();
        writer.write_all(b"abc").unwrap();
        turn_until(&mut reactor, &mut 0, |calls| *calls == 3);
    });
}

#[test]
fn what_is_always_ready_cannot_be_watched() {
    loops(|mut reactor: Reactor<()>| {
        let file = tempfile::tempfile().unwrap();
        let error = reactor.watch(&file, Interest::Readable, |_, (), _| {}).unwrap_err();
        assert!(error.to_string().contains("always ready"));
        assert!(reactor.is_empty());
    });
}

#[test]
fn a_signal_is_a_call_for_all_that_wait_for_it() {
    let mut reactor: Reactor<Vec<&str>> = Reactor::new().unwrap();
    let signal = Signal::USR2.as_raw();
    let first = reactor.on_signal(signal, |log: &mut Vec<&str>, _| log.push("first")).unwrap();
    let second = reactor.on_signal(signal, |log, _| log.push("second")).unwrap();
    let mut log = Vec::new();
    turn_for(&mut reactor, &mut log, Duration::from_millis(1));
    assert!(log.is_empty());
    kill_process(getpid(), Signal::USR2).unwrap();
    turn_until(&mut reactor, &mut log, |log| log.len() == 2);
    log.sort_unstable();
    assert_eq!(log, ["first", "second"]);
    drop(first);
    kill_process(getpid(), Signal::USR2).unwrap();
    turn_until(&mut reactor, &mut log, |log| log.len() == 3);
    assert_eq!(log, ["first", "second", "second"]);
    drop(second);
    assert!(reactor.is_empty());
    // Nobody waits for it, and it does no harm.
    kill_process(getpid(), Signal::USR2).unwrap();
    assert!(reactor.on_signal(Signal::KILL.as_raw(), |_, _| {}).is_err());
}

#[test]
fn a_simulated_signal_reaches_its_host() {
    let world = World::new(1, WorldOptions::default());
    let mut node = Node::new(world.host(&[HERE]), 0);
    let guard = node.reactor.on_signal(15, |count, _| *count += 1).unwrap();
    assert_eq!((world.raise(HERE, 15), world.raise(HERE, 15), world.raise(HERE, 2)), (1, 1, 0));
    world.run_for(&mut [&mut node], Duration::from_secs(1));
    assert_eq!(node.state, 1, "what comes in one turn is one call");
    world.raise(HERE, 15);
    world.run_for(&mut [&mut node], Duration::from_secs(1));
    assert_eq!(node.state, 2);
    drop(guard);
    assert_eq!(world.raise(HERE, 15), 0);
}
