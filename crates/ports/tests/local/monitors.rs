//! Who is told when a port ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ports::{List, NodeId, PortId, Reason, Value};

use super::harness::{World, list};

#[test]
fn a_monitor_is_told_of_normal_and_other_ends_once() {
    let mut world = World::new();
    for reason in [Reason::NORMAL, Reason::new("why", "not")] {
        let port = world.listener();
        world.watch(&port);
        world.node.kill(&port, reason.clone());
        world.node.kill(&port, reason);
    }
    assert_eq!(world.settle(), ["normal", "why not"]);
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_monitor_that_is_dropped_is_told_nothing() {
    let mut world = World::new();
    let port = world.listener();
    let kept = world.guard(&port, "kept ");
    drop(world.guard(&port, "dropped "));
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["kept normal"]);
    drop(kept);
}

#[test]
fn all_monitors_of_a_port_are_told() {
    let mut world = World::new();
    let port = world.listener();
    let guards: Vec<_> = (0..100).map(|n| world.guard(&port, &format!("{n} "))).collect();
    let guards: Vec<_> = guards.into_iter().enumerate().filter(|(n, _)| n % 10 == 0).collect();
    world.node.kill(&port, Reason::NORMAL);
    let expected: Vec<String> = (0..10).map(|n| format!("{} normal", n * 10)).collect();
    assert_eq!(world.settle(), expected);
    drop(guards);
}

#[test]
fn a_hundred_thousand_monitors_of_one_port_can_be_taken_back_in_any_order() {
    let mut world = World::new();
    let port = world.listener();
    let mut guards: Vec<_> = (0..100_000).map(|_| Some(world.guard(&port, ""))).collect();
    for step in [2, 1] {
        for guard in guards.iter_mut().step_by(step) {
            drop(guard.take());
        }
    }
    world.watch(&port);
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["normal"]);
}

#[test]
fn a_link_ends_the_other_port_for_the_same_reason_unless_that_is_normal() {
    let mut world = World::new();
    for reason in [Reason::NORMAL, Reason::new("why", "not")] {
        let (port, linked) = (world.listener(), world.listener());
        world.node.link(&port, &linked).detach();
        world.watch(&linked);
        world.node.kill(&port, reason);
    }
    assert_eq!(world.settle(), ["why not"]);
}

#[test]
fn a_handler_links_its_own_port() {
    let mut world = World::new();
    let watched = world.listener();
    let port = world.node.port(move |context, (): ()| context.link_to(&watched).detach());
    world.watch(&port);
    port.send(());
    world.settle();
    let watched = world.listener();
    let other = watched.clone();
    let port = world.node.port(move |context, (): ()| context.link_to(&other).detach());
    world.watch(&port);
    port.send(());
    world.settle();
    world.node.kill(&watched, Reason::new("why", "not"));
    assert_eq!(world.settle(), ["why not"]);
}

#[test]
fn links_make_chains_and_circles() {
    let mut world = World::new();
    let ports: Vec<_> = (0..50_000).map(|_| world.listener()).collect();
    for pair in ports.windows(2) {
        world.node.link(&pair[0], &pair[1]).detach();
    }
    let last = ports.last().expect("there are some");
    world.node.link(last, &ports[0]).detach();
    world.node.link(last, last).detach();
    world.watch(last);
    world.node.kill(&ports[0], Reason::new("why", "not"));
    assert_eq!(world.until(1), ["why not"]);
    world.settle();
    assert_eq!(world.node.ports_count(), 0);
}

#[test]
fn a_message_can_be_sent_at_a_ports_end() {
    let mut world = World::new();
    let listener = world.listener();
    for reason in [Reason::NORMAL, Reason::new("why", "not")] {
        let port = world.listener();
        let message = |reason: Reason| {
            let mut list = list(["lost".into(), 1.into()]);
            list.extend_from_slice(reason.values());
            list
        };
        world.node.monitor_message(&port, &listener, message).detach();
        world.node.kill(&port, reason);
    }
    assert_eq!(world.settle(), ["[\"lost\",1]", "[\"lost\",1,\"why\",\"not\"]"]);
}

#[test]
fn a_port_that_is_not_there_has_ended_with_no_such_port() {
    let mut world = World::new();
    let (dead, never) = (world.listener(), PortId::of(world.node.id(), "never"));
    world.node.kill(&dead, Reason::NORMAL);
    world.settle();
    let linked = world.listener();
    world.node.link(&dead, &linked).detach();
    world.watch(&linked);
    world.watch(&dead);
    world.watch(&never);
    drop(world.guard(&never, "dropped "));
    assert!(world.seen.borrow().is_empty(), "not before the monitor is there");
    let reason = |port: &PortId| format!("no_such_port cannot monitor nonexistent port {port}");
    assert_eq!(world.settle(), [reason(&dead), reason(&never), reason(&dead)]);
}

#[test]
fn a_nodes_own_port_never_ends_for_itself() {
    let mut world = World::new();
    let own = world.node.id().port();
    let kept = Rc::new(());
    world.watch(&own);
    let guard = world.node.keep_until(&own, Rc::clone(&kept));
    world.node.keep_until(&own, Rc::clone(&kept)).detach();
    assert_eq!(world.settle(), [""; 0]);
    assert_eq!(Rc::strong_count(&kept), 3);
    drop(guard);
    assert_eq!(Rc::strong_count(&kept), 2);
    drop(world);
    assert_eq!(Rc::strong_count(&kept), 1);
}

#[test]
fn what_is_kept_goes_when_the_port_or_the_guard_does() {
    let mut world = World::new();
    let (port, kept) = (world.listener(), Rc::new(()));
    let guard = world.node.keep_until(&port, Rc::clone(&kept));
    world.node.keep_until(&port, Rc::clone(&kept)).detach();
    world.node.run_in(&port, |context| context.keep(Rc::clone(&kept)));
    assert_eq!(Rc::strong_count(&kept), 4);
    drop(guard);
    assert_eq!(Rc::strong_count(&kept), 3);
    world.node.kill(&port, Reason::NORMAL);
    world.settle();
    assert_eq!(Rc::strong_count(&kept), 1);
    world.node.keep_until(&port, Rc::clone(&kept)).detach();
    world.settle();
    assert_eq!(Rc::strong_count(&kept), 1, "there is no such port");
}

#[test]
fn monitors_fire_when_the_port_is_gone_and_may_do_anything() {
    let mut world = World::new();
    let port = world.listener();
    let (note, watched, slot) = (world.note(), port.clone(), Rc::new(RefCell::new(None)));
    let own_guard = Rc::clone(&slot);
    let guard = world.node.monitor(&port, move |node, _| {
        note(&format!("there: {}", node.has_port(&watched)));
        drop(own_guard.take());
        let again = note.clone();
        node.monitor(&watched, move |_, reason| again(reason.identifier().unwrap_or_default()))
            .detach();
        node.send(&watched, 1u64);
        node.kill(&watched, Reason::NORMAL);
        note("done");
    });
    *slot.borrow_mut() = Some(guard);
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["there: false", "done", "no_such_port"]);
}

#[test]
fn a_monitor_that_another_drops_before_it_was_told_is_told_nothing() {
    let mut world = World::new();
    let port = world.listener();
    let slot = Rc::new(RefCell::new(Vec::new()));
    let (note, others) = (world.note(), Rc::clone(&slot));
    world
        .node
        .monitor(&port, move |_, _| {
            note("first");
            others.take();
        })
        .detach();
    *slot.borrow_mut() = vec![world.guard(&port, "second "), world.guard(&port, "third ")];
    world.watch(&port);
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["first", "normal"]);
}

#[test]
fn a_monitor_that_panics_leaves_the_others_alone() {
    let mut world = World::new();
    let port = world.listener();
    world.node.monitor(&port, |_, _| panic!("a test panics")).detach();
    world.watch(&port);
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["normal"]);
}

#[test]
fn an_end_is_seen_between_the_messages_that_were_sent_around_it() {
    let mut world = World::new();
    let (port, other) = (world.listener(), world.listener());
    world.watch(&port);
    world.send(&port, 1u64);
    world.node.kill(&port, Reason::NORMAL);
    world.send(&other, 2u64);
    assert_eq!(world.settle(), ["[1]", "normal", "[2]"]);
}

#[test]
fn a_port_of_another_node_is_watched_too() {
    let (mut world, other) = World::pair();
    let port = other.port(|_, _: List| {}).id();
    let dropped = world.guard(&port, "dropped ");
    world.watch(&port);
    world.watch(&port);
    drop(dropped);
    let nobody = PortId::of(other.id(), "nobody");
    world.watch(&nobody);
    assert_eq!(world.until(1), [format!("no_such_port cannot monitor nonexistent port {nobody}")]);
    let linked = world.listener();
    world.node.link(&port, &linked).detach();
    world.watch(&linked);
    world.node.kill(&port, Reason::of(vec![1.into(), Value::Null]));
    assert_eq!(world.until(3), ["1 null", "1 null", "1 null"]);
    assert!(!other.has_port(&port));
}

#[test]
fn monitors_of_a_lost_node_fire_once_and_skip_those_that_are_dropped_meanwhile() {
    let (mut world, other) = World::pair();
    let (first, second) = (other.bare_port(), other.bare_port());
    let (first, second) = if first < second { (first, second) } else { (second, first) };
    let slot = Rc::new(RefCell::new(None));
    let (note, guard) = (world.note(), Rc::clone(&slot));
    world
        .node
        .monitor(&first, move |_, reason| {
            note(reason.identifier().unwrap_or_default());
            drop(guard.take());
        })
        .detach();
    *slot.borrow_mut() = Some(world.guard(&second, "dropped "));
    let told = Rc::new(Cell::new(0));
    let count = Rc::clone(&told);
    world.node.monitor(other.id(), move |_, _| count.set(count.get() + 1)).detach();
    world.settle();
    // Its connection finds out by the first thing that it reads.
    drop(other);
    world.node.send(&second, (1u64,));
    world.until_true(|| told.get() > 0);
    assert_eq!(world.settle(), ["transport_error"]);
    assert_eq!(told.get(), 1);
}

#[test]
fn to_watch_a_node_is_to_connect_with_it() {
    let mut world = World::new();
    let unknown = NodeId::new("nobody/knows").expect("an ID");
    world.watch(&unknown);
    assert_eq!(world.until(1), ["transport_error nobody/knows no known address"]);
}
