//! What runs in a port's context, and what its errors do.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ports::{Context, List, PortId, Reason};

use super::harness::{World, logged};

fn failing(_: &Context<'_>, text: String) -> Result<(), Reason> {
    match text.as_str() {
        "fine" => Ok(()),
        "list" => Err(Reason::of(vec!["why".into(), 1.into()])),
        "error" => Err("x".parse::<u64>().expect_err("no number").into()),
        text => panic!("{text}\n\n"),
    }
}

#[test]
fn an_error_or_panic_of_a_handler_ends_its_port_with_the_reason() {
    let mut world = World::new();
    for text in ["fine", "list", "error", "plain"] {
        let port = world.node.port(failing);
        world.watch(&port);
        port.send(text.to_owned());
    }
    assert_eq!(world.settle(), ["why 1", "die invalid digit found in string", "die plain"]);
    assert_eq!(world.node.ports_count(), 1);
}

#[test]
fn an_error_of_a_tags_handler_does_too_and_what_waits_is_dropped() {
    let mut world = World::new();
    let port = world.listener();
    world.node.receive_tag(&port, "no", |_, (): ()| Err::<(), _>(Reason::die("no"))).expect("here");
    world.watch(&port);
    world.send(&port, ("a",));
    world.send(&port, ("no",));
    world.send(&port, ("b",));
    assert_eq!(world.settle(), ["[\"a\"]", "die no"]);
}

#[test]
fn this_is_the_port_that_runs() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |context, n: u64| {
        let this = context.this();
        note(&format!("{n} {}", this == PortId::new(this.as_str()).expect("an ID")));
        if n == 1 {
            context.send(&this, 2u64);
        }
    });
    port.send(1);
    assert_eq!(world.settle(), ["1 true", "2 true"]);
}

type Bound = Rc<RefCell<Option<Box<dyn FnMut(String)>>>>;

/// A port that leaves a closure of its context.
fn bound(world: &mut World) -> (PortId, Bound) {
    let slot: Bound = Rc::default();
    let (note, leave) = (world.note(), Rc::clone(&slot));
    let port = world.node.port(move |context, (): ()| {
        let note = note.clone();
        let call = context.bind(move |context, text: String| {
            note(&format!("{text} in {}", context.node().has_port(&context.this())));
            failing(context, text)
        });
        *leave.borrow_mut() = Some(Box::new(call));
    });
    port.send(());
    world.settle();
    (port.id(), slot)
}

#[test]
fn a_closure_of_a_port_runs_in_its_context_whoever_calls_it() {
    let mut world = World::new();
    let (port, call) = bound(&mut world);
    world.watch(&port);
    let mut call = call.take().expect("the port left it");
    call("fine".to_owned());
    assert_eq!(world.settle(), ["fine in true"]);
    call("list".to_owned());
    // The caller goes on; the port ends behind what is under way.
    assert_eq!(*world.seen.borrow(), ["list in true"]);
    assert_eq!(world.settle(), ["list in true", "why 1"]);
    call("fine".to_owned());
    assert_eq!(world.settle(), [""; 0]);
}

#[test]
fn a_closure_of_a_port_of_a_node_that_is_gone_does_nothing() {
    let mut world = World::new();
    let (_, call) = bound(&mut world);
    let mut call = call.take().expect("the port left it");
    drop(world);
    call("fine".to_owned());
}

#[test]
fn something_can_be_done_at_once_in_a_ports_context() {
    let mut world = World::new();
    let port = world.listener();
    world.watch(&port);
    let mut this = None;
    world.node.run_in(&port, |context| this = Some(context.this()));
    assert_eq!(this.as_ref(), Some(&port));
    world.node.run_in(&port, |_| Err::<(), _>(Reason::die("within")));
    assert_eq!(world.settle(), ["die within"]);
    world.node.run_in(&port, |_| -> () { unreachable!("the port has ended") });
    world.node.run_in(&PortId::new("elsewhere#a").expect("an ID"), |_| -> () {
        unreachable!("not here")
    });
}

#[test]
fn a_timer_of_a_port_runs_in_its_context_and_not_after_its_end() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port(move |context, n: u64| {
        let note = note.clone();
        context.after(Duration::from_millis(n), move |_| {
            note("fails");
            Err::<(), _>(Reason::die("late"))
        });
    });
    world.watch(&port);
    port.send(1);
    assert_eq!(world.until(2), ["fails", "die late"]);
    port.send(1);
    let note = world.note();
    world.node.after(Duration::from_millis(20), move |_| note("end"));
    assert_eq!(world.until(1), ["end"]);
}

#[test]
fn a_timer_outside_of_ports_that_panics_ends_nothing() {
    let mut world = World::new();
    let note = world.note();
    world.node.after(Duration::ZERO, |_| panic!("a test panics"));
    world.node.after(Duration::from_millis(1), move |_| note("still here"));
    assert_eq!(world.until(1), ["still here"]);
}

#[test]
fn a_timer_that_is_dropped_does_not_come_even_if_it_is_due() {
    let mut world = World::new();
    let slot = Rc::new(RefCell::new(None));
    let (note, other) = (world.note(), Rc::clone(&slot));
    // Both are due in one turn, and the first drops the second.
    world.node.after(Duration::from_millis(1), move |_| {
        note("first");
        drop(other.take());
    });
    let note = world.note();
    *slot.borrow_mut() = Some(world.node.timer(Duration::from_millis(1), move |_| note("second")));
    std::thread::sleep(Duration::from_millis(20));
    let note = world.note();
    world.node.after(Duration::from_millis(30), move |_| note("end"));
    assert_eq!(world.until(2), ["first", "end"]);
    drop(world.node.timer(Duration::MAX, |_| unreachable!("nobody lives so long")));
}

#[test]
fn in_a_service_there_are_timers_closures_and_things_to_keep_too() {
    let mut world = World::new();
    let note = world.note();
    let kept = Rc::new(());
    let keep = Rc::clone(&kept);
    world.node.register("mod::service", move |context, (): ()| {
        let (first, second) = (note.clone(), note.clone());
        context.after(Duration::from_millis(1), move |_| first("timer"));
        context.bind(move |_, n: u64| second(&n.to_string()))(7);
        context.keep(Rc::clone(&keep));
    });
    let services =
        [ports::config::Service::Call { function: "mod::service".to_owned(), args: vec![] }];
    world.node.start_services(&services).expect("it starts");
    assert_eq!(world.until(2), ["7", "timer"]);
    assert_eq!(Rc::strong_count(&kept), 3, "this, the function's, and the node's");
    let lines =
        logged(|| world.node.run_in(&world.node.id().port(), |_| Err::<(), _>(Reason::die("no"))));
    assert_eq!(lines, [format!("ERROR {}: die no", world.node.id().port())]);
}

#[test]
fn a_task_of_a_port_ends_with_it_and_its_error_ends_the_port() {
    let mut world = World::new();
    let (note, node) = (world.note(), world.node.clone());
    let port = world.node.port(move |context: &Context<'_>, text: String| {
        let (note, node) = (note.clone(), node.clone());
        context.spawn_task(async move {
            note(&text);
            if text == "wait" {
                let _never = node
                    .request::<List, ()>(&node.id().port(), |_| vec!["devnull".into()], None)
                    .await;
            }
            if text == "end" { Err(Reason::new("task", "over")) } else { Ok(()) }
        });
    });
    world.watch(&port);
    for text in ["wait", "fine"] {
        port.send(text.to_owned());
    }
    assert_eq!(world.settle(), ["wait", "fine"]);
    assert_eq!(world.node.ports_count(), 2, "the port and the one that awaits the answer");
    port.send("end".to_owned());
    assert_eq!(world.settle(), ["end", "task over"]);
    assert_eq!(world.node.ports_count(), 0, "the task that waited is gone, and its call");
}
