//! Messages as types.

use ports::{List, Port, PortId, Value};
use serde::{Deserialize, Serialize};

use super::harness::{World, list};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Toy {
    Ping { from: PortId, number: u64 },
    Pong(u64),
    Both(u64, Option<String>),
    Maybe { note: Option<String>, inner: Inner },
    Stop,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    names: Vec<String>,
    color: Color,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    Mixed(u8, u8),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Join {
    nick: String,
    age: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tick;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Subscribe {
    to: Port<Toy>,
}

/// Sends a message to a port of its type by name and by handle, to one that takes lists, and the list to
/// one of its type: it is the same everywhere.
fn round_trip<M: ports::Message + Clone + std::fmt::Debug>(
    world: &mut World,
    message: &M,
) -> String {
    let note = world.note();
    let typed = world.node.port(move |_, message: M| note(&format!("{message:?}")));
    typed.send(message.clone());
    world.node.send(&typed.id(), message.clone());
    world.send(&typed.id(), message);
    assert_eq!(world.settle(), vec![format!("{message:?}"); 3]);
    let untyped = world.listener();
    world.node.send(&untyped, message.clone());
    let mut seen = world.settle();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

#[test]
fn every_shape_of_a_type_is_a_list_and_back() {
    let mut world = World::new();
    let from = PortId::new("n#p").expect("an ID");
    let mixed = Inner { names: vec!["a".into()], color: Color::Mixed(1, 2) };
    let red = Inner { names: vec![], color: Color::Red };
    let world = &mut world;
    assert_eq!(round_trip(world, &Toy::Ping { from, number: 1 }), "[\"ping\",\"n#p\",1]");
    assert_eq!(round_trip(world, &Toy::Pong(2)), "[\"pong\",2]");
    assert_eq!(round_trip(world, &Toy::Both(3, None)), "[\"both\",3,null]");
    assert_eq!(round_trip(world, &Toy::Both(3, Some("x".into()))), "[\"both\",3,\"x\"]");
    assert_eq!(round_trip(world, &Toy::Stop), "[\"stop\"]");
    assert_eq!(
        round_trip(world, &Toy::Maybe { note: None, inner: mixed }),
        "[\"maybe\",null,{\"color\":{\"Mixed\":[1,2]},\"names\":[\"a\"]}]"
    );
    assert_eq!(
        round_trip(world, &Toy::Maybe { note: Some("x".into()), inner: red }),
        "[\"maybe\",\"x\",{\"color\":\"Red\",\"names\":[]}]"
    );
    assert_eq!(
        round_trip(world, &Join { nick: "anna".into(), age: None }),
        "[\"join\",\"anna\",null]"
    );
    assert_eq!(round_trip(world, &Tick), "[\"tick\"]");
    assert_eq!(round_trip(world, &("a".to_owned(), 1u64, true)), "[\"a\",1,true]");
    assert_eq!(round_trip(world, &7u64), "[7]");
    assert_eq!(round_trip(world, &()), "[]");
    assert_eq!(round_trip(world, &"text".to_owned()), "[\"text\"]");
}

#[test]
fn wrong_shapes_say_what_was_expected() {
    let mut world = World::new();
    let mut says = |values: List| {
        let port = world.node.port(|_, _: Toy| {});
        world.watch(&port);
        world.node.send(&port.id(), values);
        let seen = world.settle();
        let said = seen
            .first()
            .and_then(|said| said.strip_prefix("unhandled_message no callback found for message "));
        said.map(str::to_owned).unwrap_or_else(|| panic!("{seen:?}"))
    };
    let cases: [(List, &str); 6] = [
        (list(["pung".into()]), "'pung': unknown variant `pung`, expected one of "),
        (list(["pong".into(), "x".into()]), "'pong': invalid type: string \"x\", expected u64"),
        (list(["pong".into()]), "'pong': invalid length "),
        (list(["stop".into(), 1.into()]), "'stop': invalid length "),
        (list(["ping".into(), "#".into(), 1.into()]), "'ping': '#' names no node"),
        (list([]), "'': invalid length 0"),
    ];
    for (values, expected) in cases {
        let said = says(values.clone());
        assert!(said.starts_with(expected), "{values:?}: {said}");
    }
}

#[test]
fn a_tag_takes_typed_and_untyped_messages_that_the_ports_own_type_does_not_know() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |_, toy: Toy| note(&format!("{toy:?}")));
    let note = world.note();
    world
        .node
        .receive_tag(&port.id(), "extra", move |_, n: u64| note(&format!("extra {n}")))
        .expect("here");
    let note = world.note();
    world
        .node
        .receive_tag(&port.id(), "pong", move |_, n: u64| note(&format!("pong {n}")))
        .expect("here");
    world.watch(&port);
    world.send(&port.id(), ("extra", 1));
    world.send(&port.id(), ("pong", 2));
    port.send(Toy::Pong(3));
    port.send(Toy::Stop);
    world.send(&port.id(), ("pong", "x"));
    assert_eq!(
        world.settle(),
        [
            "extra 1",
            "pong 2",
            "pong 3",
            "Stop",
            "unhandled_message invalid type: string \"x\", expected u64"
        ]
    );
}

#[test]
fn a_port_in_a_message_is_the_port_here_and_elsewhere() {
    let (mut world, other) = World::pair();
    let note = world.note();
    let listener = world.node.port(move |_, toy: Toy| note(&format!("{toy:?}")));
    for place in [&world.node, &other] {
        let server = place.port(|_, subscribe: Subscribe| {
            let copy = subscribe.to.clone();
            assert_eq!(copy, subscribe.to);
            copy.send(Toy::Pong(1));
        });
        world.node.send(&server.id(), Subscribe { to: listener.clone() });
        world.send(&server.id(), ("subscribe", listener.id()));
    }
    assert_eq!(world.until(4), ["Pong(1)"; 4]);
}

#[test]
fn handles_of_one_port_are_equal_and_show_its_name() {
    let mut world = World::new();
    let port = world.node.port(|_, (): ()| {});
    let named: Port<()> = Port::to(&world.node, &port.id());
    let other_type: Port<u64> = Port::to(&world.node, &port.id());
    let elsewhere: Port<()> = Port::to(&world.node, &PortId::new("elsewhere#a").expect("an ID"));
    assert_eq!(port, named);
    assert_ne!(port, world.node.port(|_, (): ()| {}));
    assert_ne!(port, elsewhere);
    assert_eq!(elsewhere, elsewhere.clone());
    assert_eq!(format!("{other_type:?}"), format!("Port({:?})", port.id()));
    assert_eq!(PortId::from(&other_type), port.id());
    world.settle();
}

#[test]
fn numbers_text_and_bytes_are_taken_for_each_other_where_nothing_is_lost() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |_, (a, b): (String, f64)| note(&format!("{a} {b}")));
    world.node.send(&port.id(), list([Value::from(b"text".to_vec()), 3.into()]));
    assert_eq!(world.settle(), ["text 3"]);
}

#[test]
fn what_makes_the_value_of_an_entry_may_use_the_database_itself() {
    struct Busy(ports::Node);
    impl From<Busy> for Value {
        fn from(busy: Busy) -> Self {
            busy.0.db_set("other", "key", 1i64).expect("an entry").detach();
            2i64.into()
        }
    }
    let world = World::new();
    let node = &world.node;
    node.db_set("family", "key", Busy(node.clone())).expect("an entry").detach();
    for (family, value) in [("family", 2i64), ("other", 1)] {
        node.db_look(family, |entries| assert_eq!(entries["key"], value.into()));
    }
}
