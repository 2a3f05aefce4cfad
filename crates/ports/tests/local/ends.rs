//! How ports end.

use ports::{List, PortId, Reason};

use super::harness::{World, list, logged, shown};

#[test]
fn what_was_sent_before_the_end_arrives_and_what_after_does_not() {
    let mut world = World::new();
    let port = world.listener();
    world.watch(&port);
    world.send(&port, 1u64);
    world.node.kill(&port, Reason::new("why", "not"));
    world.send(&port, 2u64);
    assert_eq!(world.settle(), ["[1]", "why not"]);
}

#[test]
fn an_end_is_never_at_once() {
    let mut world = World::new();
    let port = world.listener();
    world.watch(&port);
    world.node.kill(&port, Reason::NORMAL);
    assert!(world.node.has_port(&port) && world.seen.borrow().is_empty());
    assert_eq!(world.settle(), ["normal"]);
    assert!(!world.node.has_port(&port));
}

#[test]
fn a_port_ends_once_and_with_the_first_reason() {
    let mut world = World::new();
    let port = world.listener();
    world.watch(&port);
    world.node.kill(&port, Reason::new("first", ""));
    world.node.kill(&port, Reason::new("second", ""));
    world.settle();
    world.node.kill(&port, Reason::new("third", ""));
    world.node.kill(PortId::of(world.node.id(), "nobody"), Reason::NORMAL);
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_port_that_ends_itself_still_handles_what_it_had_got_before() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |context, n: u64| {
        note(&n.to_string());
        if n == 1 {
            context.end(Reason::new("enough", ""));
        }
    });
    world.watch(&port);
    for n in 1..4 {
        port.send(n);
    }
    assert_eq!(world.settle(), ["1", "2", "3", "enough "]);
}

#[test]
fn any_values_are_a_reason() {
    let mut world = World::new();
    let port = world.listener();
    let note = world.note();
    world.node.monitor(&port, move |_, reason| note(&shown(reason.values().to_vec()))).detach();
    let values = list([1.into(), list(["a".into()]).into(), ().into()]);
    world.node.kill(&port, Reason::of(values));
    assert_eq!(world.settle(), ["[1,[\"a\"],null]"]);
    assert!(Reason::of(List::new()).is_normal());
}

#[test]
fn the_end_of_a_port_that_nobody_watched_is_logged_unless_it_is_normal() {
    let mut world = World::new();
    let (port, normal, watched) = (world.listener(), world.listener(), world.listener());
    world.watch(&watched);
    let released = world.guard(&port, "");
    drop(released);
    let node = world.node.clone();
    let lines = logged(|| {
        node.kill(&port, Reason::new("why", "not"));
        node.kill(&watched, Reason::new("why", "not"));
        node.kill(&normal, Reason::NORMAL);
        world.settle();
    });
    assert_eq!(
        lines,
        [format!("ERROR unmonitored local port {} died with reason: why not", port.name())]
    );
}

#[test]
fn to_end_a_node_is_logged_and_does_nothing_else() {
    let mut world = World::new();
    let (here, elsewhere) = (world.node.id().port(), PortId::new("elsewhere").expect("an ID"));
    let port = world.node.port(move |context, (): ()| {
        context.kill(&here, Reason::NORMAL);
        context.kill(&elsewhere, Reason::NORMAL);
    });
    let lines = logged(|| {
        port.send(());
        world.settle();
    });
    assert!(lines[0].ends_with("#: killing a node port is not allowed"), "{lines:?}");
    assert!(lines[1].ends_with("elsewhere#: killing a node port is not allowed"), "{lines:?}");
    assert!(world.node.has_port(&port.id()));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a test panics in a destructor");
    }
}

impl Bomb {
    const fn touch(&self) {}
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_hurts_nobody() {
    let mut world = World::new();
    let bomb = Bomb;
    let port = world.node.port(move |_, _: u64| {
        bomb.touch();
        Err::<(), _>(Reason::new("why", "not"))
    });
    world.watch(&port);
    // One that has replaced itself before it fails is dropped by other code.
    let bomb = Bomb;
    let replaced = world.node.port(move |context, _: u64| {
        bomb.touch();
        context.receive(|_, _: u64| {});
        Err::<(), _>(Reason::new("replaced", ""))
    });
    world.watch(&replaced);
    let kept = world.listener();
    world.watch(&kept);
    world.node.run_in(&kept, |context| context.keep(Bomb));
    let node = world.node.clone();
    let mut seen = Vec::new();
    let lines = logged(|| {
        port.send(1);
        replaced.send(1);
        node.kill(&kept, Reason::NORMAL);
        seen = world.settle();
    });
    assert_eq!(seen, ["why not", "replaced ", "normal"]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].contains("panicked when it was dropped: a test panics in a destructor"),
        "{lines:?}"
    );
    let listener = world.listener();
    world.send(&listener, 1u64);
    assert_eq!(world.settle(), ["[1]"]);
}

#[test]
fn what_a_handler_holds_may_send_and_make_ports_when_it_is_dropped() {
    struct Sends(ports::Node, PortId);
    impl Drop for Sends {
        fn drop(&mut self) {
            self.0.send(&self.1, 7u64);
            self.0.kill(self.0.bare_port(), Reason::NORMAL);
        }
    }
    let mut world = World::new();
    let listener = world.listener();
    let sends = Sends(world.node.clone(), listener);
    let port = world.node.port(move |_, (): ()| assert!(!sends.1.is_node()));
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["[7]"]);
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn what_a_reason_says_is_one_line_of_the_log_and_not_a_long_one() {
    let mut world = World::new();
    let port = world.node.bare_port();
    let text = format!("a\nERROR b\x1b[2J{}", "c".repeat(1_000_000));
    let lines = logged(|| {
        world.node.kill(&port, Reason::new("why", text));
        world.settle();
    });
    let line = &lines[0];
    assert!(line.contains("died with reason: why a\u{fffd}ERROR b\u{fffd}[2Jccc"), "{line:.100}");
    assert!(line.len() < 10_000);
}
