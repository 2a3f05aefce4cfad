//! Nodes that talk to each other: in pretended worlds, and some in the real one.

mod guarantee;
mod hostile;
mod insiders;
mod net;
mod raw;
mod stories;
mod tls;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ports::config::{Config, Facts, RcFile, Settings};
use ports::{Context, List, Node, Reason, Value};
use reactor::Reactor;

fn settings(name: &str, bind: &str, seeds: &[&str]) -> Settings {
    let mut config = Config::new().norc().node_id(name).bind(bind).secret("geheim");
    for seed in seeds {
        config = config.seed(seed);
    }
    config.resolve(&RcFile::empty(), &Facts::of_machine().expect("facts")).expect("settings")
}

#[test]
fn two_real_nodes_meet_and_talk() {
    let mut reactor = Reactor::new().expect("a loop");
    let first = Node::start(&mut reactor, &settings("first", "127.0.0.1:0", &[])).expect("starts");
    let address = first.listeners()[0].clone();
    let second =
        Node::start(&mut reactor, &settings("second", "127.0.0.1:0", &[&address])).expect("starts");
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let note = Rc::clone(&seen);
    let port = first.port(move |_: &Context<'_>, list: List| {
        note.borrow_mut().push(Value::List(list).to_string());
    });
    let note = Rc::clone(&seen);
    second.monitor(&port, move |_, reason| note.borrow_mut().push(format!("{reason}"))).detach();
    second.send(&port.id(), (1u64, "two".to_owned()));
    second.kill(&port, Reason::new("why", "not"));
    for _ in 0..200 {
        reactor.turn(&mut (), Some(Duration::from_millis(10))).expect("a turn");
        if seen.borrow().len() >= 2 {
            break;
        }
    }
    assert_eq!(*seen.borrow(), ["[1,\"two\"]", "why not"]);
    assert_eq!(first.up_nodes(), [second.id().clone()]);
}
