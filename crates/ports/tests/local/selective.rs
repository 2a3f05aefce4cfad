//! Bodies that take their messages in the order that suits them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ports::{INBOX_MAX, Inbox, List, PortId, Reason, ReceiveError, Value};
use serde::{Deserialize, Serialize};

use super::harness::{Counted, World, list, shown};

const NO_WAIT: Option<Duration> = Some(Duration::ZERO);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum File {
    Data(u64),
    Timeout,
    Name { name: String },
}

/// A port with a body, which is watched.
fn body<F: Future<Output = ()> + 'static>(
    world: &World,
    body: impl FnOnce(Inbox<List>) -> F + 'static,
) -> PortId {
    let port = world.node.port_async(body).id();
    world.watch(&port);
    port
}

#[test]
fn messages_that_are_not_asked_for_stay_in_order() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        note(&shown(inbox.get(None, "c").await.expect("no time is over")));
        note(&shown(inbox.get(None, "a").await.expect("no time is over")));
        for _ in 0..4 {
            note(&shown(inbox.next().await));
        }
        assert!(inbox.is_empty());
    });
    for (tag, n) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5)] {
        world.send(&port, (tag, n));
    }
    assert_eq!(world.settle(), ["[4]", "[1]", "[\"b\",2]", "[\"a\",3]", "[\"d\",5]"]);
    world.send(&port, ("last",));
    assert_eq!(world.settle(), ["[\"last\"]", "normal"]);
}

#[test]
fn a_tag_alone_is_an_empty_list_and_no_time_that_is_over() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        note(&format!("{:?}", inbox.get(Some(Duration::from_secs(1000)), "a").await));
        note(&format!("{:?}", inbox.get(NO_WAIT, "a").await));
        note(&format!("{:?}", inbox.get(None, "5").await));
    });
    world.send(&port, ("a",));
    world.send(&port, (5, true));
    assert_eq!(world.settle(), ["Some([])", "None", "Some([Bool(true)])", "normal"]);
}

#[test]
fn no_time_at_all_takes_what_is_here_and_does_not_wait() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        let here = inbox.get(NO_WAIT, "never").await;
        assert!(here.is_none());
        let first = inbox.next().await;
        note(&format!("{} and {}", shown(first), inbox.len()));
        while let Some(more) = inbox.receive(NO_WAIT, |_| true).await {
            note(&shown(more));
        }
    });
    world.settle();
    for n in 1..4 {
        world.send(&port, n);
    }
    assert_eq!(world.settle(), ["[1] and 2", "[2]", "[3]", "normal"]);
}

#[test]
fn a_time_counts_from_the_call_and_other_messages_do_not_make_it_longer() {
    let mut world = World::new();
    let note = world.note();
    let began = Instant::now();
    let port = body(&world, |mut inbox| async move {
        let time = Some(Duration::from_millis(30));
        assert!(inbox.get(time, "never").await.is_none());
        note("over");
        assert_eq!(inbox.get(NO_WAIT, "other").await, Some(list([0.into()])));
    });
    let seen = Rc::clone(&world.seen);
    let mut sent = 0;
    while seen.borrow().is_empty() {
        world.send(&port, ("other", sent));
        sent += 1;
        world.reactor.turn(&mut (), Some(Duration::from_millis(2))).expect("a turn");
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
    }
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(world.settle(), ["over", "normal"]);
}

#[test]
fn a_message_in_time_ends_the_wait() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        note(&format!("{:?}", inbox.get(Some(Duration::from_secs(1000)), "a").await));
    });
    world.settle();
    world.send(&port, ("b",));
    world.settle();
    world.send(&port, ("a", 1));
    assert_eq!(world.settle(), ["Some([Integer(1)])", "normal"]);
}

#[test]
fn a_condition_sees_each_message_once_in_a_call_and_again_in_the_next() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        for wanted in [3, 1] {
            let note = note.clone();
            let condition = move |list: &List| {
                note(&format!("{wanted}? {}", shown(list.clone())));
                list[0].as_i64() == Some(wanted)
            };
            assert!(inbox.receive(None, condition).await.is_some());
        }
    });
    for n in 1..4 {
        world.send(&port, n);
        world.reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(world.settle(), ["3? [1]", "3? [2]", "3? [3]", "1? [1]", "normal"]);
}

#[test]
fn a_condition_may_say_what_it_made_of_the_message() {
    let mut world = World::new();
    let note = world.note();
    let port = world.node.port_async(|mut inbox: Inbox<File>| async move {
        let name = inbox
            .receive_map(None, |file| match file {
                File::Name { name } => Some(name.clone()),
                File::Data(_) | File::Timeout => None,
            })
            .await;
        note(&format!("{name:?}"));
        let found = inbox.receive_tag(None, "timeout").await;
        note(&format!("{found:?} {:?}", inbox.next().await));
        note(&format!("{:?}", inbox.receive_map(NO_WAIT, |_| Some(1)).await));
    });
    port.send(File::Data(1));
    port.send(File::Timeout);
    world.send(&port.id(), ("name", "x"));
    assert_eq!(world.settle(), ["Some(\"x\")", "Some(Timeout) Data(1)", "None"]);
}

#[test]
fn a_condition_may_send_also_to_its_own_port_and_keep_state() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        let (node, this) = (inbox.node().clone(), inbox.this().clone());
        let mut sum = 0;
        let condition = |list: &List| {
            sum += list[0].as_i64().unwrap_or_default();
            if sum < 10 {
                node.send(&this, 3u64);
            }
            (sum >= 10).then_some(sum)
        };
        note(&format!("{:?}", inbox.receive_map(None, condition).await));
        note(&inbox.len().to_string());
    });
    world.send(&port, 1);
    assert_eq!(world.settle(), ["Some(10)", "3", "normal"]);
}

#[test]
fn tags_take_their_messages_before_the_body() {
    let mut world = World::new();
    let note = world.note();
    let port = body(&world, |mut inbox| async move {
        loop {
            note(&shown(inbox.next().await));
        }
    });
    let note = world.note();
    world.node.receive_tag(&port, "a", move |_, n: u64| note(&format!("tag {n}"))).expect("here");
    world.send(&port, ("a", 1));
    world.send(&port, ("b", 2));
    world.send(&port, ("a", 3));
    assert_eq!(world.settle(), ["tag 1", "tag 3", "[\"b\",2]"]);
}

#[test]
fn the_end_of_a_body_is_the_ports_with_its_error_or_panic() {
    let mut world = World::new();
    for word in ["end", "error", "parse", "panic", "at once"] {
        let port = world.node.port_async(move |mut inbox: Inbox<String>| {
            assert_ne!(word, "at once");
            async move {
                match inbox.next().await.as_str() {
                    "error" => Err(Reason::of(vec!["why".into(), 1.into()])),
                    "parse" => {
                        "x".parse::<u64>()?;
                        Ok(())
                    }
                    "panic" => panic!("a test panics\n"),
                    _ => Ok(()),
                }
            }
        });
        world.watch(&port);
        port.send(word.to_owned());
        let seen = world.settle();
        let expected = match word {
            "end" => "normal",
            "error" => "why 1",
            "parse" => "die invalid digit found in string",
            "panic" => "die a test panics",
            _ => "die assertion",
        };
        assert!(seen.len() == 1 && seen[0].starts_with(expected), "{word}: {seen:?}");
    }
    let port = body(&world, |mut inbox| async move {
        inbox.receive(None, |_| panic!("in a condition")).await;
    });
    world.send(&port, 1);
    assert_eq!(world.settle(), ["die in a condition"]);
    assert_eq!(world.node.ports_count(), 0);
}

#[test]
fn the_end_of_a_port_ends_its_body_wherever_it_waits() {
    let mut world = World::new();
    let count = Rc::new(Cell::new(0));
    let quiet = world.listener();
    for kind in 0..6 {
        let (held, quiet) = (Counted::new(&count), quiet.clone());
        let handle = world.reactor.handle();
        let port = body(&world, move |mut inbox| async move {
            held.touch();
            let node = inbox.node().clone();
            match kind {
                0 => drop(inbox.next().await),
                1 => drop(inbox.get(Some(Duration::from_secs(1000)), "a").await),
                2 => handle.sleep(Duration::from_secs(1000)).await,
                3 => drop(node.request::<List, List>(&quiet, |_| Vec::new(), None).await),
                4 => std::future::pending::<()>().await,
                _ => drop(handle.spawn(std::future::pending::<()>()).await),
            }
            unreachable!("nothing comes");
        });
        if kind > 2 {
            world.settle();
        }
        assert_eq!(count.get(), 1);
        world.node.kill(&port, Reason::new("why", "not"));
        let seen = world.settle();
        assert_eq!(seen.last().map(String::as_str), Some("why not"), "{kind}");
        assert_eq!(count.get(), 0, "{kind}");
        assert_eq!(world.node.ports_count(), 1, "{kind}");
    }
}

#[test]
fn a_body_that_panics_when_it_is_dropped_hurts_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a test panics in a destructor");
        }
    }
    let mut world = World::new();
    let port = body(&world, |mut inbox| async move {
        let _bomb = Bomb;
        inbox.next().await;
        std::future::pending::<()>().await;
    });
    world.settle();
    world.node.kill(&port, Reason::NORMAL);
    assert_eq!(world.settle(), ["normal"]);
    let port = body(&world, |mut inbox| async move {
        inbox.next().await;
    });
    world.send(&port, 1);
    assert_eq!(world.settle(), ["normal"]);
}

#[test]
fn messages_that_nobody_asks_for_have_a_bound() {
    let mut world = World::new();
    let port = world.node.port_async(|mut inbox: Inbox<u64>| async move {
        inbox.receive(None, |_| false).await;
    });
    world.watch(&port);
    for n in 0..INBOX_MAX as u64 {
        port.send(n);
    }
    let end = world.node.clone();
    let note = world.note();
    end.call(
        end.id().port(),
        |reply| list(["snd".into(), reply.into()]),
        None,
        move |_, _: Result<List, _>| {
            note("echo");
        },
    );
    assert_eq!(world.until(1), ["echo"]);
    while world.node.has_port(&port.id()) && world.seen.borrow().is_empty() {
        port.send(0);
        world.reactor.turn(&mut (), Some(Duration::ZERO)).expect("a turn");
    }
    assert_eq!(world.until(1), ["inbox_full too many messages that nobody asked for"]);
}

#[test]
fn messages_that_come_while_the_body_does_something_else_wait_for_it() {
    let mut world = World::new();
    let (note, handle) = (world.note(), world.reactor.handle());
    let port = body(&world, move |mut inbox| async move {
        note(&shown(inbox.next().await));
        handle.sleep(Duration::from_millis(5)).await;
        note(&inbox.len().to_string());
        note(&shown(inbox.get(None, "b").await.expect("it is here")));
    });
    for tag in ["a", "x", "b"] {
        world.send(&port, (tag, 1));
    }
    assert_eq!(world.until(4), ["[\"a\",1]", "2", "[1]", "normal"]);
}

#[test]
fn a_body_may_send_to_itself() {
    let mut world = World::new();
    let note = world.note();
    body(&world, |mut inbox| async move {
        let this = inbox.this().clone();
        for n in 0..3u64 {
            inbox.node().send(&this, n);
        }
        for _ in 0..3 {
            note(&shown(inbox.next().await));
        }
    });
    assert_eq!(world.settle(), ["[0]", "[1]", "[2]", "normal"]);
}

#[test]
fn a_port_has_one_body() {
    let mut world = World::new();
    let port = body(&world, |mut inbox| async move {
        inbox.next().await;
    });
    let second = world.node.receive_async(&port, |_: Inbox<List>| async {});
    assert_eq!(second.map(|_| ()), Err(ReceiveError::HasBody(port.clone())));
    world.send(&port, 1);
    assert_eq!(world.settle(), ["normal"]);
    let ended = world.node.receive_async(&port, |_: Inbox<List>| async {});
    assert_eq!(ended.map(|_| ()), Err(ReceiveError::Ended(port)));
    let elsewhere = PortId::new("elsewhere#a").expect("an ID");
    let remote = world.node.receive_async(&elsewhere, |_: Inbox<List>| async {});
    assert_eq!(remote.map(|_| ()), Err(ReceiveError::NotLocal(elsewhere)));
}

#[test]
fn a_port_that_is_there_can_be_given_a_body() {
    let mut world = World::new();
    let port = world.node.bare_port();
    world.watch(&port);
    let note = world.note();
    world
        .node
        .receive_async(&port, |mut inbox: Inbox<(String, u64)>| async move {
            note(&format!("{:?}", inbox.next().await));
        })
        .expect("it is here");
    world.send(&port, ("a", 1));
    assert_eq!(world.settle(), ["(\"a\", 1)", "normal"]);
}

#[test]
fn a_thousand_bodies_talk_at_once() {
    let mut world = World::new();
    let sum = Rc::new(RefCell::new(0));
    let ports: Vec<_> = (0..1000)
        .map(|_| {
            let sum = Rc::clone(&sum);
            world.node.port_async(move |mut inbox: Inbox<(u64, Vec<Value>)>| async move {
                for round in 0..10 {
                    let got = inbox.receive(None, |(n, _)| *n == round).await;
                    *sum.borrow_mut() += got.map_or(0, |(n, _)| n);
                }
            })
        })
        .collect();
    for round in (0..10).rev() {
        ports.iter().for_each(|port| port.send((round, Vec::new())));
    }
    let node = world.node.clone();
    world.until_true(|| node.ports_count() == 0);
    assert_eq!(*sum.borrow(), 45_000);
}
