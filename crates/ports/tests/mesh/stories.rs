//! How nodes find each other, lose each other, and find each other again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ports::{Context, List, Node, NodeEvent, PortId, Reason, Value};
use reactor::simulated::{TraceKind, WorldOptions};

use crate::net::{Net, config, id};

type Notes = Rc<RefCell<Vec<String>>>;

const SECOND: Duration = Duration::from_secs(1);

fn tame() -> WorldOptions {
    WorldOptions { partial_share: 0.0, trace_len_max: 1 << 20, ..WorldOptions::default() }
}

/// A seed, and so many others that know it.
fn star(seed: u64, others: usize) -> Net {
    let mut net = Net::new(seed, tame());
    for index in 0..=others {
        net.add(config(&format!("n{index}"), if index == 0 { &[] } else { &[0] }));
    }
    net.run(3 * SECOND);
    net
}

fn note_monitor(node: &Node, port: impl Into<PortId>, notes: &Notes) {
    let notes = Rc::clone(notes);
    node.monitor(port, move |_, reason| notes.borrow_mut().push(reason.to_string())).detach();
}

fn note_nodes(node: &Node, notes: &Notes) {
    let notes = Rc::clone(notes);
    let note = move |_: &Node, event: &NodeEvent| {
        let what =
            event.lost.as_ref().map_or_else(|| "up".to_owned(), |reason| format!("down: {reason}"));
        notes.borrow_mut().push(format!("{} {what}", event.node));
    };
    node.monitor_nodes(note).detach();
}

/// A port that counts its messages.
fn counter(node: &Node) -> (PortId, Rc<Cell<usize>>) {
    let count: Rc<Cell<usize>> = Rc::default();
    let shared = Rc::clone(&count);
    let port = node.port(move |_: &Context<'_>, _: (u64,)| shared.set(shared.get() + 1));
    (port.id(), count)
}

#[test]
fn to_watch_a_node_is_to_connect_with_it_by_what_the_master_knows() {
    let mut net = star(1, 2);
    assert!(net.are_connected(0, 1) && net.are_connected(0, 2) && !net.are_connected(1, 2));
    let notes = Notes::default();
    note_monitor(net.node(1), id("n2").port(), &notes);
    net.run(SECOND);
    assert!(net.are_connected(1, 2));
    net.crash(2);
    net.run(SECOND);
    assert_eq!(*notes.borrow(), ["transport_error n2 Unexpected end-of-file"]);
}

#[test]
fn a_monitor_says_in_what_way_the_connection_was_lost() {
    let mut net = star(1, 2);
    let notes = Notes::default();
    note_monitor(net.node(0), id("nobody").port(), &notes);
    note_monitor(net.node(1), id("nobody").port(), &notes);
    net.run(SECOND);
    let unknown = "transport_error nobody no known address";
    assert_eq!(notes.take(), [unknown, unknown]);
    net.cut(1, 2);
    note_monitor(net.node(1), PortId::new("n2#port").expect("a port"), &notes);
    net.run(Duration::from_millis(1900));
    assert!(notes.borrow().is_empty());
    net.run(SECOND);
    assert_eq!(notes.take(), ["transport_error n2 connect timeout"]);
    net.mend(1, 2);
    note_monitor(net.node(1), id("n2").port(), &notes);
    net.run(SECOND);
    net.reset(1, 2);
    net.run(SECOND);
    assert_eq!(notes.take(), ["transport_error n2 Connection reset by peer"]);
    note_monitor(net.node(1), PortId::new("n2#port").expect("a port"), &notes);
    net.run(SECOND);
    let gone = "no_such_port cannot monitor nonexistent port n2#port";
    assert_eq!(notes.take(), [gone]);
}

#[test]
fn whoever_waits_to_hear_of_nodes_hears_after_the_monitors() {
    let mut net = star(1, 1);
    let notes = Notes::default();
    let node = net.node(1);
    note_nodes(node, &notes);
    note_monitor(node, id("n0").port(), &notes);
    assert_eq!(node.node_is_up(&id("n0")), Some(true));
    assert_eq!(node.node_is_up(&id("n1")), Some(true));
    assert_eq!(node.node_is_up(&id("n2")), None);
    net.reset(0, 1);
    net.run(5 * SECOND);
    let reset = "transport_error n0 Connection reset by peer".to_owned();
    assert_eq!(notes.take(), [reset.clone(), format!("n0 down: {reset}"), "n0 up".to_owned()]);
}

#[test]
fn what_is_sent_when_a_node_comes_up_goes_behind_what_was_queued() {
    let mut net = star(1, 2);
    let notes = Notes::default();
    let shared = Rc::clone(&notes);
    let port = net.node(2).port(move |_: &Context<'_>, (text,): (String,)| {
        shared.borrow_mut().push(text);
    });
    let to = port.id();
    let again = to.clone();
    let greet = move |node: &Node, _: &NodeEvent| node.send(&again, ("when up".to_owned(),));
    net.node(1).monitor_nodes(greet).detach();
    for text in ["first", "second"] {
        net.node(1).send(&to, (text.to_owned(),));
    }
    net.run(SECOND);
    assert_eq!(*notes.borrow(), ["first", "second", "when up"]);
}

#[test]
fn what_was_queued_for_a_node_that_could_not_be_reached_is_dropped_when_its_monitors_fire() {
    let mut net = star(1, 2);
    let seen: Rc<RefCell<Vec<u64>>> = Rc::default();
    let shared = Rc::clone(&seen);
    let note = move |_: &Context<'_>, (number,): (u64,)| shared.borrow_mut().push(number);
    let to = net.node(2).port(note).id();
    let notes = Notes::default();
    net.cut(1, 2);
    note_monitor(net.node(1), &to, &notes);
    net.node(1).send(&to, (1u64,));
    net.run(Duration::from_millis(2100));
    assert_eq!(*notes.borrow(), ["transport_error n2 connect timeout"]);
    net.mend(1, 2);
    net.node(1).send(&to, (2u64,));
    net.run(5 * SECOND);
    assert_eq!(*seen.borrow(), [2]);
}

#[test]
fn of_two_that_dial_each_other_at_once_one_connection_stays_and_nothing_is_lost() {
    for seed in 0..150 {
        let jitter = Duration::from_millis(seed % 3 * 8);
        let options = WorldOptions { jitter, partial_share: 0.3, ..tame() };
        let mut net = Net::new(seed, options);
        // Who is lower comes first in half of the worlds.
        let names = if seed % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
        net.add(config(names[0], &[1]));
        net.add(config(names[1], &[0]));
        let counters = [0, 1].map(|index| counter(net.node(index)));
        let notes = Notes::default();
        for index in [0, 1] {
            let (node, to) = (net.node(index), &counters[1 - index].0);
            note_nodes(node, &notes);
            note_monitor(node, to, &notes);
            (0..50).for_each(|number| node.send(to, (number,)));
        }
        net.run(20 * SECOND);
        let counts = [0, 1].map(|index| counters[index].1.get());
        assert_eq!(counts, [50, 50], "{seed}");
        let [first, second] = [0, 1].map(|index| net.sockets_count(index));
        assert_eq!((first, second), (1, 1), "{seed}");
        notes.borrow_mut().sort();
        // Each tells at most of what was there to be told: that it is connected now.
        assert_eq!(notes.take(), ["a up", "b up"], "{seed}");
        if jitter.is_zero() {
            let lower = usize::from(seed % 2 == 1);
            let reactor = &net.alive(lower).site.reactor;
            let dialled =
                reactor.tokens().iter().filter_map(|token| reactor.peer_addr(*token)).next();
            assert_eq!(dialled.map(|to| to.port()), Some(4040), "{seed}: the lower ID dialled");
        }
    }
}

#[test]
fn a_seed_that_is_not_there_is_tried_again_later_and_later() {
    let mut net = Net::new(7, tame());
    net.add(config("gone", &[]));
    net.crash(0);
    net.add(config("n1", &[0]).monitor_timeout(10 * SECOND));
    net.run(100 * SECOND);
    let trace = net.world.take_trace();
    let tries: Vec<f64> = trace
        .iter()
        .filter(|entry| entry.kind == TraceKind::Refuse)
        .map(|entry| entry.at_micros as f64 / 1e6)
        .collect();
    let mut expected = 0.6;
    for pair in tries.windows(2) {
        let delay = pair[1] - pair[0];
        assert!((expected..2.0 * expected + 0.1).contains(&delay), "{delay} {expected}");
        expected = (expected * 2.0f64).min(10.0);
    }
    assert!(tries.len() >= 8, "{tries:?}");
    net.restart(0, config("late", &[]));
    net.run(25 * SECOND);
    assert!(net.are_connected(0, 1));
}

#[test]
fn a_node_among_its_own_seeds_is_global_and_does_not_dial_itself_again() {
    let mut net = Net::new(1, tame());
    net.add(config("n0", &[0]));
    net.run(2 * SECOND);
    let answered: Rc<Cell<bool>> = Rc::default();
    let shared = Rc::clone(&answered);
    let answer = move |_: &Node, result: Result<Vec<String>, _>| shared.set(result.is_ok());
    net.node(0).db_keys("family", answer).expect("a family");
    net.world.take_trace();
    net.run(60 * SECOND);
    assert!(answered.get());
    assert_eq!((net.sockets_count(0), net.world.take_trace().len()), (0, 0));
}

#[test]
fn two_nodes_of_one_id_are_told_of_but_not_a_node_that_is_its_own_seed() {
    crate::raw::keep_log();
    let warnings =
        || crate::raw::log().iter().filter(|line| line.contains("as this one is")).count();
    let mut net = Net::new(1, tame());
    net.add(config("same", &[0]));
    net.run(2 * SECOND);
    assert_eq!(warnings(), 0);
    net.add(config("same", &[0]));
    net.run(2 * SECOND);
    assert_eq!(warnings(), 1);
}

fn members(net: &Net, index: usize, group: &str) -> Rc<RefCell<Vec<PortId>>> {
    let members: Rc<RefCell<Vec<PortId>>> = Rc::default();
    let shared = Rc::clone(&members);
    let watch = net.node(index).grp_mon(group, move |_, change| {
        shared.replace(change.members.clone());
    });
    watch.expect("a group").detach();
    members
}

#[test]
fn the_loss_of_the_master_is_survived_and_it_is_found_again() {
    let mut net = Net::new(3, tame());
    for index in 0..5 {
        net.add(config(&format!("n{index}"), &[0, 1]));
    }
    let ports = [2, 3].map(|index| counter(net.node(index)).0);
    for (index, port) in [2, 3].into_iter().zip(&ports) {
        net.node(index).grp_reg("group", port).expect("a group").detach();
    }
    let seen = members(&net, 4, "group");
    net.run(5 * SECOND);
    assert_eq!(*seen.borrow(), ports);
    // The keepalive is between the global nodes.
    assert!(net.are_connected(0, 1));
    net.crash(0);
    net.run(5 * SECOND);
    assert_eq!(*seen.borrow(), ports);
    let late = counter(net.node(2)).0;
    net.node(2).grp_reg("group", &late).expect("a group").detach();
    net.run(SECOND);
    assert_eq!(seen.borrow().len(), 3);
    net.restart(0, config("n0", &[0, 1]));
    net.run(60 * SECOND);
    assert!((1..5).all(|index| net.are_connected(0, index)));
    assert_eq!(*members_now(&mut net, 0).borrow(), *seen.borrow());
    net.crash(2);
    net.run(SECOND);
    assert_eq!(*seen.borrow(), ports[1..]);
}

fn members_now(net: &mut Net, index: usize) -> Rc<RefCell<Vec<PortId>>> {
    let members = members(net, index, "group");
    net.run(SECOND);
    members
}

#[test]
fn global_nodes_find_back_to_each_other() {
    let mut net = Net::new(5, tame());
    net.add(config("n0", &[]));
    for index in [1, 2] {
        // Each is a seed for somebody, and so global.
        net.add(config(&format!("n{index}"), &[0, index]));
    }
    net.run(10 * SECOND);
    assert!(net.are_connected(1, 2), "nobody but the database told them of each other");
    net.reset(1, 2);
    net.run(100 * SECOND);
    assert!(net.are_connected(1, 2));
}

#[test]
fn fifty_nodes_that_know_one_seed_talk_each_to_each_within_ten_seconds() {
    const COUNT: usize = 50;
    let mut net = Net::new(1, WorldOptions { trace_len_max: 16, ..WorldOptions::default() });
    let heard: Rc<Cell<usize>> = Rc::default();
    for index in 0..COUNT {
        net.add(config(&format!("n{index}"), if index == 0 { &[] } else { &[0] }));
        let node = net.node(index);
        let shared = Rc::clone(&heard);
        let port = node.port(move |_: &Context<'_>, _: (u64,)| shared.set(shared.get() + 1)).id();
        node.grp_reg("all", &port).expect("a group").detach();
        let watch = node.grp_mon("all", move |node, change| {
            for member in change.added.iter().filter(|member| **member != port) {
                node.send(member, (1u64,));
            }
        });
        watch.expect("a group").detach();
    }
    let shared = Rc::clone(&heard);
    let is_done = net.run_until(10 * SECOND, move || shared.get() == COUNT * (COUNT - 1));
    assert!(is_done, "{} of {}", heard.get(), COUNT * (COUNT - 1));
    // Only connections that are needed exist: here that is each with each, since each sends to each.
    assert!((0..COUNT).all(|index| net.node(index).up_nodes().len() == COUNT - 1));
}

#[test]
fn a_database_of_many_keys_is_the_same_on_all_nodes() {
    const KEYS: usize = 7000;
    let mut net = star(1, 2);
    for index in 0..3 {
        for key in 0..KEYS {
            let value = Value::from(key as u64);
            let entry = net.node(index).db_set("family", &format!("{index}-{key}"), value);
            entry.expect("there is room").detach();
        }
        net.node(index).db_mon("family", |_, _| {}).expect("a family").detach();
    }
    net.run(20 * SECOND);
    for index in 0..3 {
        net.node(index).db_look("family", |family| {
            assert_eq!(family.len(), 3 * KEYS);
            assert_eq!(family.get("1-6999"), Some(&Value::from(6999u64)));
        });
    }
    net.crash(1);
    net.run(5 * SECOND);
    net.node(2).db_look("family", |family| assert_eq!(family.len(), 2 * KEYS));
}

#[test]
fn who_restarts_behind_a_cut_gets_back_in() {
    let mut net = star(1, 1);
    // The old process and its last words are gone, and nobody but the seed thinks that it lives.
    net.cut(0, 1);
    net.crash(1);
    net.restart(1, config("n1", &[0]));
    net.run(2 * SECOND);
    assert_eq!(net.node(0).up_nodes(), [id("n1")]);
    net.mend(0, 1);
    net.run(20 * SECOND);
    assert!(net.are_connected(0, 1));
}

#[test]
fn nodes_that_are_only_named_are_forgotten() {
    let mut net = star(1, 1);
    let kept = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&kept);
    let port = net.node(0).port(move |_: &Context<'_>, (port,): (ports::Port<(u64,)>,)| {
        shared.replace(vec![port]);
    });
    let to = port.id();
    for number in 0..1000 {
        let named = PortId::new(&format!("never-there-{number}#port")).expect("a port");
        net.node(1).send(&to, (named,));
        if number % 10 == 0 {
            net.run(Duration::from_millis(20));
        }
    }
    net.run(5 * SECOND);
    assert_eq!(kept.borrow().len(), 1);
    assert!(net.node(0).known_nodes_count() < 100);
    let notes = Notes::default();
    for number in 0..1000 {
        note_monitor(net.node(0), id(&format!("never-there-{number}")).port(), &notes);
    }
    kept.take();
    net.run(5 * SECOND);
    assert_eq!(notes.borrow().len(), 1000);
    assert!(net.node(0).known_nodes_count() < 100);
}

#[test]
fn an_hour_in_which_a_node_did_not_run_is_survived() {
    let mut net = star(1, 2);
    let (to, count) = counter(net.node(2));
    net.stalled[1] = true;
    net.run(3600 * SECOND);
    net.stalled[1] = false;
    net.node(1).send(&to, (1u64,));
    net.run(5 * SECOND);
    assert_eq!(count.get(), 1);
    assert!(net.are_connected(0, 1));
}

/// What cannot be sent.
#[derive(serde::Deserialize)]
struct Bomb;

impl serde::Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("boom");
    }
}

#[test]
fn a_message_that_panics_when_it_is_written_takes_no_other_with_it() {
    let mut net = star(1, 1);
    let (to, count) = counter(net.node(0));
    let sender = net.node(1).port(move |context: &Context<'_>, (number,): (u64,)| {
        context.send(&to, (number,));
        context.send(&to, (number, Bomb));
    });
    let notes = Notes::default();
    note_monitor(net.node(1), &sender, &notes);
    sender.send((1,));
    net.run(SECOND);
    assert_eq!((count.get(), notes.take()), (1, vec!["die boom".to_owned()]));
    assert!(net.are_connected(0, 1));
}

#[test]
fn a_node_that_has_ended_leaves_for_good() {
    let mut net = star(1, 1);
    let notes = Notes::default();
    note_monitor(net.node(0), id("n1").port(), &notes);
    let (to, count) = counter(net.node(0));
    net.node(1).send(&to, (1u64,));
    net.node(1).shut_down();
    net.run(60 * SECOND);
    assert_eq!(count.get(), 1, "what was sent before goes out");
    assert_eq!(net.node(1).ports_count(), 0);
    assert_eq!(*notes.borrow(), ["transport_error n1 Unexpected end-of-file"]);
    assert!(net.node(0).up_nodes().is_empty());
    assert!(net.alive(1).site.reactor.is_empty());
}

#[test]
fn a_node_that_never_reads_is_lost_and_what_waits_for_it_has_a_bound() {
    let mut net = star(1, 1);
    let (to, _) = counter(net.node(1));
    net.node(0).set_unsent_max(1 << 20);
    net.stalled[1] = true;
    let notes = Notes::default();
    note_monitor(net.node(0), &to, &notes);
    for _ in 0..100 {
        for _ in 0..100 {
            net.node(0).send(&to, (vec![7u8; 1000],));
        }
        net.run(Duration::from_millis(1));
        assert!(net.alive(0).site.reactor.unsent() <= (1 << 20) + 200_000);
    }
    assert_eq!(notes.borrow()[0], "transport_error n1 too much waits to be sent");
    assert_eq!(notes.borrow().len(), 1);
}

#[test]
fn what_has_gone_out_does_not_wait_any_more() {
    let mut net = star(1, 1);
    let (to, count) = counter(net.node(1));
    net.node(0).set_unsent_max(30_000);
    let notes = Notes::default();
    note_monitor(net.node(0), &to, &notes);
    for number in 1..=3 {
        for _ in 0..1200 {
            net.node(0).send(&to, (7u64,));
        }
        assert!(net.node(0).waiting_bytes(&id("n1")) > 15_000);
        net.run(SECOND);
        assert_eq!(count.get(), number * 1200);
        assert_eq!(net.node(0).waiting_bytes(&id("n1")), 0);
    }
    assert!(notes.borrow().is_empty());
}

#[test]
fn every_node_tells_the_tool_whom_it_is_connected_with_and_what_it_counts() {
    let mut net = star(1, 1);
    let notes = Notes::default();
    let shared = Rc::clone(&notes);
    let note = move |_: &Context<'_>, answer: List| {
        let text = Value::List(answer).to_string();
        shared.borrow_mut().push(text[..text.len().min(30)].to_owned());
    };
    let port = net.node(1).port(note).id();
    for command in ["nodes", "AnyEvent::MP::Kernel::up_nodes", "help", "statistics"] {
        net.node(1).eval_on(id("n0"), command, Some((&port, List::new())));
    }
    net.run(SECOND);
    let begins = [r#"["","n1"]"#, r#"["","n1"]"#, r#"["","AnyEvent::MP::Kernel::"#, r#"["",{""#];
    let notes = notes.borrow();
    assert_eq!(notes.len(), begins.len());
    assert!(notes.iter().zip(begins).all(|(note, begin)| note.starts_with(begin)), "{notes:?}");
}

#[test]
fn monitors_that_were_taken_back_do_not_fire() {
    let mut net = star(1, 2);
    let (to, _) = counter(net.node(2));
    let notes = Notes::default();
    let shared = Rc::clone(&notes);
    let guard = net.node(1).monitor(&to, move |_, _| shared.borrow_mut().push("fired".to_owned()));
    net.run(SECOND);
    drop(guard);
    net.node(1).kill(to, Reason::new("why", "not"));
    net.run(SECOND);
    net.crash(2);
    net.run(SECOND);
    assert!(notes.borrow().is_empty());
}
