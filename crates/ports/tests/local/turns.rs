//! Whose turn it is, and for how long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ports::{Context, Port};

use super::harness::World;

/// Two ports that answer each other for ever.
fn chatter(world: &World, count: &Rc<Cell<u64>>) {
    let count = Rc::clone(count);
    let answer = move |context: &Context<'_>, to: Port<Port<()>>| {
        count.set(count.get() + 1);
        context.node().send(&to.id(), Port::<()>::to(context.node(), &context.this()));
    };
    let (first, second) = (world.node.port(answer.clone()), world.node.port(answer));
    world.node.send(&first.id(), Port::<()>::to(&world.node, &second.id()));
}

#[test]
fn a_message_arrives_after_the_send_has_returned() {
    let mut world = World::new();
    let port = world.listener();
    world.send(&port, 1u64);
    assert!(world.seen.borrow().is_empty());
    assert_eq!(world.settle(), ["[1]"]);
}

#[test]
fn two_ports_that_chatter_starve_neither_timers_nor_others() {
    let mut world = World::new();
    let count = Rc::default();
    chatter(&world, &count);
    let note = world.note();
    world.node.after(Duration::from_millis(5), move |_| note("timer"));
    assert_eq!(world.until(1), ["timer"]);
    let before = count.get();
    let port = world.listener();
    world.send(&port, 1u64);
    assert_eq!(world.until(1), ["[1]"]);
    assert!(before > 0 && count.get() > before, "they go on");
}

#[test]
fn one_port_that_sends_to_itself_for_ever_starves_nobody() {
    let mut world = World::new();
    let port = world.node.port(|context, n: u64| context.node().send(&context.this(), n + 1));
    port.send(1);
    let note = world.note();
    world.node.after(Duration::from_millis(5), move |_| note("timer"));
    assert_eq!(world.until(1), ["timer"]);
}

#[test]
fn messages_of_one_port_to_another_keep_their_order_however_many() {
    let mut world = World::new();
    let next = Rc::new(Cell::new(0));
    let expected = Rc::clone(&next);
    let port = world.node.port(move |_, n: u64| {
        assert_eq!(n, expected.get());
        expected.set(n + 1);
    });
    world.watch(&port);
    let id = port.id();
    let sender = world.node.port(move |context, from: u64| {
        for n in from..from + 1000 {
            // By name and by handle is the same queue.
            if n % 2 == 0 { port.send(n) } else { context.send(&id, n) }
        }
    });
    for n in 0..100 {
        sender.send(n * 1000);
    }
    world.until_true(|| next.get() == 100_000);
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_million_messages_of_one_turn_all_arrive() {
    let mut world = World::new();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    let port = world.node.port(move |_, n: u64| counted.set(counted.get() + n));
    let sender = world.node.port(move |_, n: u64| (0..n).for_each(|_| port.send(1)));
    sender.send(1_000_000);
    world.until_true(|| count.get() == 1_000_000);
}

#[test]
fn a_thousand_ports_in_a_ring_pass_a_message_on() {
    let mut world = World::new();
    let first = world.node.bare_port();
    let mut next = first.clone();
    for _ in 0..999 {
        let to = next;
        next = world.node.port(move |context, n: u64| context.send(&to, n + 1)).id();
    }
    let note = world.note();
    let to = next;
    let last = move |context: &Context<'_>, n: u64| {
        if n >= 50_000 { note(&n.to_string()) } else { context.send(&to, n + 1) }
    };
    world.node.receive(&first, last).expect("here");
    world.node.send(&first, 0u64);
    assert_eq!(world.until(1), ["50000"]);
}
