//! Messages that are answered.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ports::{CallError, Context, List, Message, PortId, Reason};
use serde::{Deserialize, Serialize};

use super::harness::{World, list, logged};

#[derive(Serialize, Deserialize)]
enum Ask {
    Double { number: u64, reply: PortId },
    Twice { reply: PortId },
    Wrong { reply: PortId },
    Never { reply: PortId },
    Die { reply: PortId },
}

/// A port that answers, more or less.
fn server(world: &World) -> PortId {
    let handle = |context: &Context<'_>, ask: Ask| {
        match ask {
            Ask::Double { number, reply } => context.send(&reply, number * 2),
            Ask::Twice { reply } => (1u64..3).for_each(|n| context.send(&reply, n)),
            Ask::Wrong { reply } => context.send(&reply, "seven".to_owned()),
            Ask::Never { reply } => assert!(context.node().has_port(&reply)),
            Ask::Die { .. } => return Err(Reason::new("why", "not")),
        }
        Ok(())
    };
    world.node.port(handle).id()
}

fn call<M: Message>(
    world: &World,
    port: &PortId,
    timeout: Option<Duration>,
    message: impl FnOnce(PortId) -> M,
) -> PortId {
    let note = world.note();
    world.node.call(port, message, timeout, move |_, result: Result<u64, CallError>| match result {
        Ok(number) => note(&number.to_string()),
        Err(error) => note(&error.to_string()),
    })
}

#[test]
fn a_call_is_answered_once_and_then_nothing_of_it_is_left() {
    let mut world = World::new();
    let server = server(&world);
    let reply = call(&world, &server, None, |reply| Ask::Double { number: 4, reply });
    assert!(world.seen.borrow().is_empty() && world.node.has_port(&reply));
    assert_eq!(world.settle(), ["8"]);
    assert!(!world.node.has_port(&reply));
    call(&world, &server, Some(Duration::from_millis(1)), |reply| Ask::Twice { reply });
    assert_eq!(world.settle(), ["1"]);
    // Neither the end of the port nor the time that is over calls again.
    std::thread::sleep(Duration::from_millis(5));
    world.node.kill(&server, Reason::new("why", "not"));
    assert_eq!(world.settle(), [""; 0]);
    assert_eq!(world.node.ports_count(), 0);
}

#[test]
fn a_call_may_be_too_late() {
    let mut world = World::new();
    let server = server(&world);
    let reply = call(&world, &server, Some(Duration::from_millis(5)), |reply| Ask::Never { reply });
    assert_eq!(world.until(1), ["no answer came in time"]);
    world.node.send(&reply, 7u64);
    assert_eq!(world.settle(), [""; 0]);
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn a_call_ends_with_the_port_that_was_asked_with_or_without_a_time() {
    let mut world = World::new();
    for timeout in [None, Some(Duration::from_secs(1000))] {
        let server = server(&world);
        call(&world, &server, timeout, |reply| Ask::Never { reply });
        call(&world, &server, timeout, |reply| Ask::Die { reply });
        assert_eq!(world.settle(), ["there will be no answer: why not"; 2]);
    }
    let nobody = PortId::of(world.node.id(), "nobody");
    call(&world, &nobody, None, |reply| Ask::Never { reply });
    assert_eq!(
        world.settle(),
        [format!("there will be no answer: no_such_port cannot monitor nonexistent port {nobody}")]
    );
    let quiet = server(&world);
    call(&world, &quiet, None, |reply| Ask::Never { reply });
    world.node.kill(&quiet, Reason::NORMAL);
    assert_eq!(world.settle(), ["there will be no answer: normal"]);
    assert_eq!(world.node.ports_count(), 0);
}

#[test]
fn an_answer_before_the_end_of_the_port_counts() {
    let mut world = World::new();
    let server = server(&world);
    call(&world, &server, None, |reply| Ask::Double { number: 1, reply });
    world.node.kill(&server, Reason::new("why", "not"));
    assert_eq!(world.settle(), ["2"]);
}

#[test]
fn what_is_no_answer_is_an_error_that_says_what_was_expected() {
    let mut world = World::new();
    let server = server(&world);
    call(&world, &server, None, |reply| Ask::Wrong { reply });
    let seen = world.settle();
    assert_eq!(
        seen,
        ["there will be no answer: unhandled_message no callback found for message 'seven': \
          invalid type: string \"seven\", expected u64"]
    );
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn a_call_that_panics_is_logged() {
    let mut world = World::new();
    let server = server(&world);
    let done = |_: &ports::Node, _: Result<u64, CallError>| panic!("a test panics");
    world.node.call(&server, |reply| Ask::Double { number: 1, reply }, None, done);
    let lines = logged(|| drop(world.settle()));
    assert_eq!(lines, ["ERROR a call panicked: a test panics"]);
}

#[test]
fn a_request_is_a_future_that_gives_up_when_it_is_dropped() {
    let mut world = World::new();
    let (server, note, node) = (server(&world), world.note(), world.node.clone());
    let asked = server;
    world.reactor.handle().spawn(async move {
        let answer: Result<u64, _> =
            node.request(&asked, |reply| Ask::Double { number: 5, reply }, None).await;
        note(&format!("{answer:?}"));
        let time = Some(Duration::from_millis(1));
        let answer: Result<u64, _> = node.request(&asked, |reply| Ask::Never { reply }, time).await;
        note(&format!("{answer:?}"));
        drop(node.request::<_, u64>(&asked, |reply| Ask::Never { reply }, None));
        note("dropped");
    });
    assert_eq!(world.until(3), ["Ok(10)", "Err(TimedOut)", "dropped"]);
    world.settle();
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn calls_reach_other_nodes_and_end_with_them() {
    let (mut world, other) = World::pair();
    let far = other.port(|context, ask: Ask| match ask {
        Ask::Double { number, reply } => context.send(&reply, number * 2),
        Ask::Twice { .. } | Ask::Wrong { .. } | Ask::Never { .. } | Ask::Die { .. } => {}
    });
    let far = far.id();
    call(&world, &far, None, |reply| Ask::Double { number: 4, reply });
    assert_eq!(world.until(1), ["8"]);
    call(&world, &far, Some(Duration::from_millis(5)), |reply| Ask::Never { reply });
    assert_eq!(world.until(1), ["no answer came in time"]);
    call(&world, &far, None, |reply| Ask::Never { reply });
    world.settle();
    other.shut_down();
    // A node that ends in good order ends its ports so.
    assert_eq!(world.until(1), ["there will be no answer: normal"]);
}

#[test]
fn an_untyped_call_appends_the_port_that_awaits_the_answer() {
    let mut world = World::new();
    let (note, seen) = (world.note(), Rc::new(Cell::new(0)));
    let port = world.node.port(|context, (tag, number, reply): (String, u64, PortId)| {
        context.send(&reply, (tag, number + 1));
    });
    let count = Rc::clone(&seen);
    world.node.call(
        &port,
        |reply| list(["a".into(), 1.into(), reply.into()]),
        None,
        move |_, answer: Result<List, CallError>| {
            count.set(count.get() + 1);
            note(&super::harness::shown(answer.expect("an answer")));
        },
    );
    assert_eq!(world.settle(), ["[\"a\",2]"]);
    assert_eq!(seen.get(), 1);
}
