//! What a node does for others by itself.

use ports::{List, PortId, Reason, Value};

use super::harness::{World, list, logged, shown};

/// The commands that `eval` knows here.
fn register(node: &ports::Node) {
    node.register_command("sum", "Adds numbers.", |_, args: List| {
        let sum = args.iter().filter_map(Value::as_i64).sum::<i64>();
        Ok(vec![sum.into(), "more".into()])
    });
    node.register_command("fail", "Fails.", |_, _| Err(Reason::new("why", "not")));
    node.register_command("panic", "Panics.", |_, _| panic!("a test panics"));
}

/// What a node answers is the same here and elsewhere.
fn node_answers(world: &mut World, place: &ports::Node) {
    register(place);
    place.register("mod::f", |_, (): ()| {});
    let (to, port) = (place.id().port(), world.listener());
    let ask = |world: &World, values: &[Value]| {
        let mut message: List = values.to_vec();
        message.extend([Value::from(&port), "back".into()]);
        world.node.send(&to, message);
    };
    for tag in ["time", "can", "g_slave", "mon1", "AnyEvent::MP::_spawn", "mod::f", ""] {
        ask(world, &["can".into(), tag.into()]);
        assert_eq!(world.until(1), ["[\"back\",\"1\"]"], "{tag}");
    }
    for tag in ["mod::g", "system", "eval2"] {
        ask(world, &["can".into(), tag.into()]);
        assert_eq!(world.until(1), ["[\"back\",\"\"]"], "{tag}");
    }
    ask(world, &["snd".into()]);
    assert_eq!(world.until(1), ["[\"back\"]"]);
    world.node.send_on(&to, &port, (1u64, true));
    assert_eq!(world.until(1), ["[1,true]"]);
    for (command, answer) in [
        ("sum 1 2 [3] -4", "[\"x\",\"\",-1,\"more\"]"),
        ("sum", "[\"x\",\"\",0,\"more\"]"),
        ("", "[\"x\",\"\"]"),
        ("fail", "[\"x\",\"why not\"]"),
        ("panic", "[\"x\",\"die a test panics\"]"),
    ] {
        world.node.eval_on(&to, command, Some((&port, list(["x".into()]))));
        assert_eq!(world.until(1), [answer], "{command}");
    }
    world.node.eval_on(&to, "unlink '/'", Some((&port, list([]))));
    assert!(world.until(1)[0].starts_with("[\"unlink: no such command; there are "));
    world.node.eval_on(&to, "sum 1", None);
    let nobody = PortId::of(place.id(), "nobody");
    let victims: Vec<PortId> = (0..2).map(|_| place.port(|_, _: List| {}).id()).collect();
    for tag in ["kil", "kil1"] {
        for victim in victims.iter().chain([&nobody]) {
            world.send(&to, (tag, victim.name(), "why", "not"));
        }
    }
    for values in
        [list([]), list(["".into()]), list(["devnull".into(), 1.into()]), list([Value::Null])]
    {
        world.node.send(&to, values);
    }
    ask(world, &["snd".into()]);
    world.until(1);
    assert!(victims.iter().all(|victim| !place.has_port(victim)));
}

#[test]
fn a_node_answers_itself() {
    let mut world = World::new();
    let node = world.node.clone();
    node_answers(&mut world, &node);
}

#[test]
fn a_node_answers_others() {
    let (mut world, other) = World::pair();
    node_answers(&mut world, &other);
}

#[test]
fn a_node_tells_the_time_since_1970() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |_, (word, time): (String, f64)| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
        note(&format!("{word} {}", (now - time).abs() < 100.0));
    });
    world.send(&world.node.id().port(), ("time", &port, "it is"));
    assert_eq!(world.settle(), ["it is true"]);
}

#[test]
fn what_a_node_does_not_understand_is_logged_and_nothing_goes_back() {
    let mut world = World::new();
    let to = world.node.id().port();
    let lines = logged(|| {
        world.send(&to, ("nonsense", 1));
        world.send(&to, ("mod::nonsense",));
        world.send(&to, ("kil1",));
        world.send(&to, ("kil1", ""));
        world.send(&to, ("mon1", vec![1]));
        world.send(&to, ("snd", "#"));
        world.send(&to, ("time",));
        world.send(&to, ("can",));
        world.send(&to, ("eval",));
        world.send(&to, ("AnyEvent::MP::_spawn", "a"));
        world.send(&to, (vec![1], 1));
        world.settle();
    });
    let from = format!("WARN error processing node message from {}: ", world.node.id());
    let lines: Vec<_> = lines.iter().map(|line| line.strip_prefix(&from).unwrap_or(line)).collect();
    assert_eq!(
        lines,
        [
            "unable to resolve function 'nonsense'",
            "unable to resolve function 'mod::nonsense'",
            "kil1: expected more arguments",
            "kil1: expected the name of a port, not the node's own",
            "mon1: expected a text",
            "snd: expected a port ID, then a message",
            "time: expected a port ID, then a message",
            "can: expected more arguments",
            "eval: expected more arguments",
            "AnyEvent::MP::_spawn: expected more arguments",
            "node message: expected a text as its first value",
        ]
    );
}

#[test]
fn a_function_that_fails_or_gets_wrong_arguments_is_logged() {
    let mut world = World::new();
    world.node.register("mod::f", |_, _: u64| Err::<(), _>(Reason::new("why", "not")));
    world.node.register("mod::g", |context, (): ()| context.end(Reason::NORMAL));
    let node = world.node.clone();
    let lines = logged(|| {
        node.send_to_function(node.id(), "mod::f", 1u64);
        node.send_to_function(node.id(), "mod::f", "x".to_owned());
        node.send_to_function(node.id(), "mod::g", ());
        world.settle();
    });
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].ends_with(": why not"), "{lines:?}");
    assert!(lines[1].ends_with(": die invalid type: string \"x\", expected u64"), "{lines:?}");
    assert!(lines[2].ends_with("#: killing a node port is not allowed"), "{lines:?}");
}

#[test]
fn a_secure_node_lets_nobody_else_call_functions() {
    let (mut world, other) = World::pair_with(ports::config::Config::secure);
    let note = world.note();
    world.node.register("mod::f", move |context, (): ()| {
        note("called");
        context.node().bare_port();
    });
    let note = world.note();
    let answers = other.port(move |_, list: List| note(&shown(list))).id();
    let first = world.node.id().clone();
    let victim = world.listener();
    other.send_to_function(&first, "mod::f", ());
    other.eval_on(&first, "anything", Some((&answers, list([]))));
    let port = other.spawn(&first, "mod::f", ()).expect("a name");
    let note = world.note();
    other.monitor(&port, move |_, reason| note(reason.identifier().unwrap_or_default())).detach();
    other.send(&victim, 1u64);
    other.send_on(&first, &answers, "relayed".to_owned());
    other.send(&first.port(), list(["can".into(), "time".into(), (&answers).into()]));
    other.kill(&victim, Reason::NORMAL);
    let seen = world.until(4);
    assert_eq!(seen.len(), 4, "{seen:?}");
    for expected in ["no_such_port", "[1]", "[\"relayed\"]", "[\"1\"]"] {
        assert!(seen.iter().any(|line| line == expected), "{expected} in {seen:?}");
    }
    assert!(!world.node.has_port(&victim));
    world.node.send_to_function(&first, "mod::f", ());
    assert_eq!(world.settle(), ["called"], "but for itself");
}
