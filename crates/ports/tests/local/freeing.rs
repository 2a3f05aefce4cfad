//! When a node and its loop go, all that they held goes too, whatever held what.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ports::{Inbox, List, Node, Port, PortId, Reason};

use super::harness::{Counted, World};

/// Gives a node all kinds of things that hold the node itself, and one another.
fn fill(world: &World, count: &Rc<Cell<i32>>) {
    let node = &world.node;
    let held = || (Counted::new(count), node.clone());
    let touch = |(counted, node): &(Counted, Node)| {
        counted.touch();
        assert!(!node.id().as_str().is_empty());
    };
    let own = held();
    let first = node.port(move |_, _: Port<u64>| touch(&own));
    let slot: Rc<RefCell<Option<Port<u64>>>> = Rc::default();
    let (own, itself) = (held(), Rc::clone(&slot));
    let second = node.port(move |_, n: u64| {
        touch(&own);
        if let Some(port) = &*itself.borrow() {
            port.send(n);
        }
    });
    *slot.borrow_mut() = Some(second.clone());
    first.send(second.clone());
    second.send(1);
    let own = held();
    node.receive_tag(&first.id(), "tag", move |_, _: List| touch(&own)).expect("here");
    let own = held();
    node.monitor(&first, move |_, _| touch(&own)).detach();
    let own = held();
    node.monitor(node.id(), move |_, _| touch(&own)).detach();
    let own = held();
    node.monitor(PortId::new("elsewhere#a").expect("an ID"), move |_, _| touch(&own)).detach();
    node.keep_until(&second, held()).detach();
    node.run_in(&first.id(), |context| context.keep(held()));
    let own = held();
    node.after(Duration::from_secs(1000), move |_| touch(&own));
    let own = held();
    node.soon(move |node| {
        touch(&own);
        node.after(Duration::from_secs(1000), move |_| touch(&own));
    });
    let own = held();
    node.register("mod::f", move |_, (): ()| touch(&own));
    let own = held();
    node.register_module("other", move |_| touch(&own));
    let own = held();
    node.register_command("c", "", move |_, _| {
        touch(&own);
        Ok(Vec::new())
    });
    let own = held();
    node.monitor_nodes(move |_, _| touch(&own)).detach();
    let own = held();
    node.db_mon("family", move |_, _| touch(&own)).expect("a family").detach();
    let own = held();
    node.call(&first, |_| second.clone(), None, move |_, _: Result<List, _>| touch(&own));
    let own = held();
    node.port_async(move |mut inbox: Inbox<u64>| async move {
        touch(&own);
        inbox.next().await;
        touch(&own);
    });
    let own = held();
    node.run_in(&first.id(), |context| {
        context.spawn_task(async move {
            touch(&own);
            std::future::pending::<()>().await;
        });
    });
    node.spawn(node.id(), "mod::f", ()).expect("a name");
    let own = held();
    let port = node.spawn(node.id(), "mod::f", ()).expect("a name");
    node.monitor(&port, move |_, _| touch(&own)).detach();
}

#[test]
fn all_goes_with_the_loop_and_the_node_in_either_order_and_at_any_time() {
    for (turns, is_loop_first) in
        [(0, true), (0, false), (1, true), (1, false), (50, true), (50, false)]
    {
        let mut world = World::new();
        let count = Rc::default();
        fill(&world, &count);
        assert!(count.get() >= 15, "{}", count.get());
        for _ in 0..turns {
            world.reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
        }
        let World { reactor, node, .. } = world;
        if is_loop_first {
            drop(reactor);
            drop(node);
        } else {
            drop(node);
            drop(reactor);
        }
        assert_eq!(count.get(), 0, "after {turns} turns, loop first: {is_loop_first}");
    }
}

#[test]
fn a_node_goes_without_its_loop_if_nothing_holds_it() {
    let mut world = World::new();
    let count = Rc::default();
    // Two ports that hold each other.
    let slot: Rc<RefCell<Option<Port<u64>>>> = Rc::default();
    let (own, other) = (Counted::new(&count), Rc::clone(&slot));
    let first = world.node.port(move |_, n: u64| {
        own.touch();
        if let Some(port) = &*other.borrow() {
            port.send(n);
        }
    });
    let (own, to) = (Counted::new(&count), first.clone());
    let second = world.node.port(move |_, n: u64| {
        own.touch();
        to.send(n);
    });
    *slot.borrow_mut() = Some(second);
    first.send(1);
    world.settle();
    let handle = world.node.handle();
    let World { mut reactor, node, .. } = world;
    let id = first.id();
    drop(node);
    assert_eq!(count.get(), 0);
    // What is left are handles of a port that is nowhere.
    first.send(1);
    assert!(handle.kill(&id, Reason::NORMAL).is_ok());
    for _ in 0..5 {
        reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(first, first.clone());
    assert_eq!(first.id(), id, "it was asked for before");
}

#[test]
fn a_handle_whose_name_was_never_asked_for_can_still_be_shown() {
    let world = World::new();
    let port = world.node.port(|_, (): ()| {});
    drop(world);
    assert_eq!(format!("{port:?}"), "Port(of a node that is gone)");
    assert_eq!(port, port.clone());
    assert!(ports::wire::to_list(&(port,)).is_err());
}

#[test]
fn a_node_without_its_loop_takes_everything_and_does_nothing() {
    let World { reactor, node, .. } = World::new();
    let port = node.port(|_, (): ()| -> () { unreachable!("there is no loop") });
    drop(reactor);
    port.send(());
    node.after(Duration::ZERO, |_| unreachable!("there is no loop"));
    node.kill(&port, Reason::NORMAL);
    node.send(&node.port(|_, (): ()| -> () { unreachable!("there is no loop") }).id(), ());
    assert_eq!(node.ports_count(), 1);
}

#[test]
fn what_is_dropped_at_the_end_may_use_the_node() {
    struct Uses(Node, Rc<Cell<i32>>);
    impl Drop for Uses {
        fn drop(&mut self) {
            let port = self.0.bare_port();
            let counted = Counted::new(&self.1);
            self.0.soon(move |_| counted.touch());
            let counted = Counted::new(&self.1);
            self.0.monitor(&port, move |_, _| counted.touch()).detach();
            self.0.kill(&port, Reason::NORMAL);
            panic!("a test panics in a destructor");
        }
    }
    let mut world = World::new();
    let count = Rc::default();
    for _ in 0..3 {
        let uses = Uses(world.node.clone(), Rc::clone(&count));
        world.node.port(move |_, (): ()| assert!(uses.1.get() > 0));
    }
    world.settle();
    drop(world);
    assert_eq!(count.get(), 0);
}
