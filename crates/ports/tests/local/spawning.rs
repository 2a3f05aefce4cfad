//! Ports that are made by functions with a name, here and elsewhere.

use std::cell::Cell;
use std::rc::Rc;

use ports::{Context, List, Node, PortId, Reason, SpawnError};

use super::harness::{World, list, logged};

/// Functions that make ports, or not.
fn register(node: &Node, note: impl Fn(&str) + Clone + 'static) {
    let made = note.clone();
    node.register("mod::echo", move |context: &Context<'_>, word: String| {
        made(&format!("made {word}"));
        let heard = made.clone();
        context.receive(move |_, n: u64| heard(&format!("{word} {n}")));
    });
    node.register("mod::nothing", |_, (): ()| {});
    node.register("mod::early", |_, (): ()| Err::<(), _>(Reason::die("before there was a port")));
    node.register("mod::late", |context: &Context<'_>, (): ()| -> Result<(), Reason> {
        context.receive(|_, (): ()| {});
        panic!("after there was one")
    });
    let asked = note.clone();
    node.register("::own", move |context: &Context<'_>, (): ()| {
        asked(&format!("own, from {:?}", context.from().map(ToString::to_string)));
        context.receive_tag("a", |_, (): ()| {});
    });
    node.register("mod::body", move |context: &Context<'_>, (): ()| {
        let note = note.clone();
        context.receive_async(move |mut inbox| async move {
            let n: u64 = inbox.next().await;
            note(&format!("body {n}"));
        });
    });
}

fn gone(port: &PortId) -> String {
    format!("no_such_port cannot monitor nonexistent port {port}")
}

#[test]
fn a_local_spawn_is_done_after_it_has_returned_and_messages_wait_for_it() {
    let mut world = World::new();
    register(&world.node, world.note());
    let port = world.node.spawn(world.node.id(), "mod::echo", "x".to_owned()).expect("a name");
    assert!(world.seen.borrow().is_empty() && !world.node.has_port(&port));
    // Also by handles, and by guards that are given up before or after.
    let typed = ports::Port::<u64>::to(&world.node, &port);
    typed.send(1);
    let (early, late) = (world.guard(&port, "early "), world.guard(&port, "late "));
    let linked = world.listener();
    world.node.link(&port, &linked).detach();
    world.watch(&linked);
    drop(early);
    assert_eq!(world.settle(), ["made x", "x 1"]);
    typed.send(2);
    drop(late);
    world.node.kill(&port, Reason::new("why", "not"));
    assert_eq!(world.settle(), ["x 2", "why not"]);
    assert_eq!(port.node_str(), world.node.id().as_str());
}

#[test]
fn here_a_monitor_hears_why_a_port_could_not_begin() {
    let mut world = World::new();
    register(&world.node, world.note());
    let port = world.node.spawn(world.node.id(), "mod::late", ()).expect("a name");
    world.watch(&port);
    assert_eq!(world.settle(), ["die after there was one"]);
}

/// What `spawn` does is the same here and elsewhere.
fn spawn_tells(world: &mut World, place: &Node) {
    register(place, world.note());
    let spawn = |world: &World, name: &str, args: List| {
        world.node.spawn(place.id(), name, args).expect("a name of a module")
    };
    let port = spawn(world, "mod::echo", list(["x".into()]));
    world.send(&port, 1u64);
    world.watch(&port);
    world.node.kill(&port, Reason::new("why", "not"));
    assert_eq!(world.until(3), ["made x", "x 1", "why not"]);
    for (name, args) in [
        ("mod::nothing", list([])),
        ("mod::early", list([])),
        ("mod::unknown", list([])),
        ("unknown::early", list([])),
        ("mod::echo", list([1.into(), 2.into()])),
        ("mod::echo", list([])),
    ] {
        let port = spawn(world, name, args);
        world.send(&port, 1u64);
        world.watch(&port);
        assert_eq!(world.until(1), [gone(&port)], "{name}");
    }
    let port = spawn(world, "mod::late", list([]));
    world.watch(&port);
    // Elsewhere the monitor may come too late for the reason.
    let seen = world.until(1);
    assert!(seen == ["die after there was one"] || seen == [gone(&port)], "{seen:?}");
    let port = spawn(world, "mod::body", list([]));
    world.send(&port, 7u64);
    world.watch(&port);
    assert_eq!(world.until(2), ["body 7", "normal"]);
}

#[test]
fn a_spawned_port_gets_what_was_sent_at_once_and_failures_are_ports_that_are_not_there() {
    let mut world = World::new();
    let node = world.node.clone();
    spawn_tells(&mut world, &node);
    assert_eq!(node.ports_count(), 0);
}

#[test]
fn so_it_is_on_another_node() {
    let (mut world, other) = World::pair();
    spawn_tells(&mut world, &other);
}

#[test]
fn a_function_of_the_programs_own_has_no_module() {
    let (mut world, other) = World::pair();
    register(&other, world.note());
    register(&world.node, world.note());
    world.node.spawn(other.id(), "::own", ()).expect("a name");
    assert_eq!(world.until(1), ["own, from Some(\"first\")"]);
    world.node.spawn(world.node.id(), "::own", ()).expect("a name");
    assert_eq!(world.until(1), ["own, from None"]);
    let unqualified = world.node.spawn(world.node.id(), "own", ());
    assert_eq!(unqualified, Err(SpawnError::Unqualified("own".to_owned())));
}

#[test]
fn modules_are_loaded_once_and_the_longest_name_first() {
    let mut world = World::new();
    let note = world.note();
    for name in ["a", "a::b", "a::b::c"] {
        let note = note.clone();
        world.node.register_module(name, move |node| {
            note(&format!("loaded {name}"));
            if name == "a::b" {
                let note = note.clone();
                node.register("a::b::c::f", move |_, (): ()| note("called"));
            }
        });
    }
    let node = world.node.id().clone();
    world.node.send_to_function(&node, "a::b::c::f", ());
    world.node.send_to_function(&node, "a::b::c::f", ());
    assert_eq!(world.settle(), ["loaded a::b::c", "loaded a::b", "called", "called"]);
    world.node.send_to_function(&node, "a::b::x", ());
    assert_eq!(world.settle(), ["loaded a"]);
    assert_eq!(world.node.load_module("a"), Ok(true));
    assert_eq!(world.node.load_module("x"), Ok(false));
    assert!(world.node.functions().contains(&"a::b::c::f".to_owned()));
}

#[test]
fn a_module_that_fails_fails_whoever_asked_for_it() {
    let mut world = World::new();
    world.node.register_module("a", |_| Err::<(), _>(Reason::die("no such file")));
    world.node.register_module("b", |_| -> () { panic!("a test panics") });
    world.node.register_module("c", |_| Err::<(), _>(Reason::die("neither")));
    let node = world.node.clone();
    let mut ports = Vec::new();
    let lines = logged(|| {
        ports.push(node.spawn(node.id(), "a::f", ()).expect("a name"));
        ports.push(node.spawn(node.id(), "b::f", ()).expect("a name"));
        world.watch(&ports[0]);
        assert_eq!(world.settle(), [gone(&ports[0])]);
    });
    assert_eq!(
        lines,
        [
            "WARN spawn: unable to load the module for function 'a::f': die no such file",
            "WARN spawn: unable to load the module for function 'b::f': die a test panics",
        ]
    );
    let services = [ports::config::Service::Module("c::".to_owned())];
    let error = node.start_services(&services).expect_err("it fails");
    assert_eq!(error.to_string(), "service c::: die neither");
    let error = node.start_services(&services).expect_err("there is none any more");
    assert_eq!(error.to_string(), "service c::: there is no such module");
}

#[test]
fn nobody_can_take_over_a_port_by_a_spawn() {
    let (mut world, other) = World::pair();
    register(&other, world.note());
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let made = other.port(move |_, _: u64| count.set(count.get() + 1)).id();
    let given = world.node.spawn(other.id(), "mod::echo", "given".to_owned()).expect("a name");
    world.until(1);
    for name in [made.name(), given.name(), ""] {
        let spawn = ("AnyEvent::MP::_spawn", name, "mod::echo", "thief");
        let list = ports::wire::to_list(&spawn).expect("a list");
        world.send(&other.id().port(), list);
    }
    world.send(&made, 1u64);
    world.send(&given, 2u64);
    assert_eq!(world.until(1), ["given 2"]);
    assert_eq!(calls.get(), 1);
}

#[test]
fn what_is_spawned_has_a_name_of_its_own_each_time() {
    let mut world = World::new();
    register(&world.node, |_| {});
    let names: std::collections::BTreeSet<PortId> = (0..1000)
        .map(|_| world.node.spawn(world.node.id(), "mod::echo", "x".to_owned()).expect("a name"))
        .collect();
    world.settle();
    assert_eq!((names.len(), world.node.ports_count()), (1000, 1000));
}
