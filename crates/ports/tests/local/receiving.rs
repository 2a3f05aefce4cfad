//! Messages, tags and defaults.

use ports::{List, NodeId, PortId, ReceiveError, Value};

use super::harness::{World, list, shown};

/// A port with a default and tags that all note what comes.
fn tagged(world: &World, tags: &[&str]) -> PortId {
    let port = world.listener();
    for tag in tags {
        let (note, name) = (world.note(), (*tag).to_owned());
        world
            .node
            .receive_tag(&port, tag, move |_, args: List| {
                note(&format!("{name} took {}", shown(args)));
            })
            .expect("the port is here");
    }
    port
}

#[test]
fn a_tag_takes_its_messages_without_it_and_the_default_takes_the_others_whole() {
    let mut world = World::new();
    let port = tagged(&world, &["a", "b"]);
    world.send(&port, ("a", 1));
    world.send(&port, ("c", 2));
    world.send(&port, ("b", 3));
    assert_eq!(world.settle(), ["a took [1]", "[\"c\",2]", "b took [3]"]);
}

#[test]
fn setting_the_default_leaves_the_tags() {
    let mut world = World::new();
    let port = tagged(&world, &["a"]);
    let note = world.note();
    world
        .node
        .receive(&port, move |_, list: List| note(&format!("new {}", shown(list))))
        .expect("here");
    world.send(&port, ("a", 1));
    world.send(&port, ("b", 2));
    assert_eq!(world.settle(), ["a took [1]", "new [\"b\",2]"]);
}

#[test]
fn a_tag_that_is_set_again_is_replaced_and_one_that_is_forgotten_falls_back_to_the_default() {
    let mut world = World::new();
    let port = tagged(&world, &["a"]);
    let note = world.note();
    world.node.receive_tag(&port, "a", move |_, _: List| note("again")).expect("here");
    world.send(&port, ("a", 1));
    assert_eq!(world.settle(), ["again"]);
    world.node.forget_tag(&port, "a").expect("here");
    world.node.forget_tag(&port, "never set").expect("here");
    world.send(&port, ("a", 2));
    assert_eq!(world.settle(), ["[\"a\",2]"]);
}

#[test]
fn a_tag_is_the_text_of_the_first_value_also_of_a_number() {
    let mut world = World::new();
    let port = tagged(&world, &["5", "2.5", "-1", "18446744073709551615"]);
    world.send(&port, list([5.into(), "x".into()]));
    world.send(&port, list([2.5.into()]));
    world.send(&port, -1i64);
    world.send(&port, u64::MAX);
    world.send(&port, list([Value::from(b"5".to_vec())]));
    world.send(&port, list(["5".into()]));
    world.send(&port, list([5.0.into()]));
    world.send(&port, list([6.into()]));
    world.send(&port, list([true.into()]));
    assert_eq!(
        world.settle(),
        [
            "5 took [\"x\"]",
            "2.5 took []",
            "-1 took []",
            "18446744073709551615 took []",
            "5 took []",
            "5 took []",
            "5 took []",
            "[6]",
            "[true]"
        ]
    );
}

#[test]
fn an_empty_message_goes_to_the_default_and_so_does_one_whose_first_value_is_no_text() {
    let mut world = World::new();
    let port = tagged(&world, &["", "a"]);
    world.send(&port, List::new());
    world.send(&port, list([Value::Null, "a".into()]));
    world.send(&port, list([Value::List(list(["a".into()]))]));
    world.send(&port, list(["".into(), 1.into()]));
    assert_eq!(world.settle(), ["[]", "[null,\"a\"]", "[[\"a\"]]", " took [1]"]);
}

#[test]
fn a_port_without_handlers_ends_with_the_first_message_and_says_its_tag() {
    let mut world = World::new();
    let tags = ["no\u{e4}\n", "abcdefghijklmnopqrstuvwxyz0123456789"];
    for tag in tags {
        let port = world.node.bare_port();
        world.watch(&port);
        world.send(&port, (tag, 1));
        world.send(&port, ("never", 1));
    }
    let (empty, number) = (world.node.bare_port(), world.node.bare_port());
    world.watch(&empty);
    world.watch(&number);
    world.send(&empty, List::new());
    world.send(&number, 7u64);
    assert_eq!(
        world.settle(),
        [
            "unhandled_message no callback found for message 'no..'",
            "unhandled_message no callback found for message 'abcdefghijklmnopqrstuvwxyz0123'",
            "unhandled_message no callback found for message ''",
            "unhandled_message no callback found for message '7'",
        ]
    );
    assert_eq!(world.node.ports_count(), 0);
}

#[test]
fn a_bare_port_lives_on_handlers_that_it_is_given_in_time() {
    let mut world = World::new();
    let (tag, default) = (world.node.bare_port(), world.node.bare_port());
    let note = world.note();
    world.node.receive_tag(&tag, "a", move |_, n: u64| note(&format!("a {n}"))).expect("here");
    let note = world.note();
    world.node.receive(&default, move |_, n: u64| note(&n.to_string())).expect("here");
    world.watch(&tag);
    world.send(&tag, ("a", 1u64));
    world.send(&default, 2u64);
    world.send(&tag, "b".to_owned());
    assert_eq!(world.settle(), ["a 1", "unhandled_message no callback found for message 'b'", "2"]);
}

#[test]
fn a_port_that_comes_to_be_by_a_tag_ignores_the_rest() {
    let mut world = World::new();
    let port = PortId::of(world.node.id(), "of my own");
    let note = world.note();
    world.node.receive_tag(&port, "a", move |_, n: u64| note(&n.to_string())).expect("made");
    world.watch(&port);
    world.send(&port, "b".to_owned());
    world.send(&port, ("a", 1u64));
    assert_eq!(world.settle(), ["1"]);
    assert!(world.node.has_port(&port));
}

#[test]
fn a_port_comes_to_be_by_receive_under_a_name_that_is_not_there() {
    let mut world = World::new();
    let port = PortId::of(world.node.id(), "of my own");
    let note = world.note();
    world
        .node
        .receive(&port, move |context, n: u64| note(&format!("{} {n}", context.this().name())))
        .expect("made");
    world.send(&port, 1u64);
    assert_eq!(world.settle(), ["of my own 1"]);
}

#[test]
fn handlers_are_only_for_ports_of_this_node() {
    let world = World::new();
    let remote = PortId::new("elsewhere#a").expect("an ID");
    let own = world.node.id().port();
    let of_node = NodeId::new("elsewhere").expect("an ID").port();
    let tried = |port: &PortId| world.node.receive(port, |_, _: List| {}).map(|_| ());
    assert_eq!(tried(&remote), Err(ReceiveError::NotLocal(remote.clone())));
    assert_eq!(tried(&of_node), Err(ReceiveError::NotLocal(of_node.clone())));
    assert_eq!(tried(&own), Err(ReceiveError::NodePort(own.clone())));
    assert_eq!(
        world.node.receive_tag(&remote, "a", |_, _: List| {}),
        Err(ReceiveError::NotLocal(remote.clone()))
    );
    assert_eq!(world.node.forget_tag(&remote, "a"), Err(ReceiveError::NotLocal(remote)));
}

#[test]
fn the_name_of_a_port_that_was_made_here_is_never_used_again() {
    let mut world = World::new();
    let port = world.listener();
    world.node.kill(&port, ports::Reason::NORMAL);
    world.settle();
    assert_eq!(
        world.node.receive(&port, |_, _: List| {}).map(|_| ()),
        Err(ReceiveError::Ended(port.clone()))
    );
    assert_eq!(
        world.node.receive_tag(&port, "a", |_, _: List| {}),
        Err(ReceiveError::Ended(port.clone()))
    );
    let next = world.listener();
    assert_ne!(port, next);
    world.send(&port, 1u64);
    assert_eq!(world.settle(), [""; 0]);
    world.send(&next, 1u64);
    assert_eq!(world.settle(), ["[1]"]);
}

#[test]
fn ten_thousand_ports_in_one_slot_have_as_many_names() {
    let mut world = World::new();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..10_000 {
        let port = world.node.bare_port();
        world.node.kill(&port, ports::Reason::NORMAL);
        world.reactor.turn(&mut (), Some(std::time::Duration::ZERO)).expect("a turn");
        assert!(names.insert(port));
    }
}

#[test]
fn a_message_to_a_port_that_is_not_there_is_dropped_without_a_word() {
    let mut world = World::new();
    let node = world.node.clone();
    let lines = super::harness::logged(|| {
        node.send(&PortId::of(node.id(), "nobody"), 1u64);
        world.settle();
    });
    assert_eq!(lines, [""; 0]);
}

#[test]
fn a_handler_may_replace_itself_and_its_tags() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |context, n: u64| {
        note(&format!("first {n}"));
        let note = note.clone();
        context.receive(move |_, n: u64| note(&format!("second {n}")));
    });
    for n in 1..4 {
        port.send(n);
    }
    let tag = world.listener();
    let note = world.note();
    world
        .node
        .receive_tag(&tag, "a", move |context, (): ()| {
            note("once");
            context.node().forget_tag(&context.this(), "a").expect("here");
        })
        .expect("here");
    let note = world.note();
    world
        .node
        .receive_tag(&tag, "b", move |context, (): ()| {
            note("b");
            let note = note.clone();
            context.receive_tag("b", move |_, (): ()| note("new b"));
        })
        .expect("here");
    for name in ["a", "a", "b", "b"] {
        world.send(&tag, (name,));
    }
    assert_eq!(
        world.settle(),
        ["first 1", "second 2", "second 3", "once", "[\"a\"]", "b", "new b"]
    );
}

#[test]
fn handlers_that_replace_themselves_do_so_at_once_in_the_middle_of_many_messages() {
    let mut world = World::new();
    let (note, seen) = (world.note(), std::rc::Rc::clone(&world.seen));
    let port = world.node.port(move |context, n: u64| {
        if n == 999 {
            let note = note.clone();
            context.receive(move |_, n: u64| note(&format!("late {n}")));
        }
    });
    for n in 0..1002 {
        port.send(n);
    }
    world.settle();
    assert!(seen.borrow().is_empty(), "taken by settle");
    port.send(5);
    assert_eq!(world.settle(), ["late 5"]);
}
