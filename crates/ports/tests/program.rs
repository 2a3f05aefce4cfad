//! What a program has besides ports: modules that may fail, ends to await, inboxes that may be full.

use std::time::Duration;

use ports::config::{Config, Service};
use ports::{Inbox, Node, Reason, ServiceError};
use reactor::Reactor;

fn alone() -> (Reactor<()>, Node) {
    let mut reactor = Reactor::new().unwrap();
    let node = Node::alone(&mut reactor);
    (reactor, node)
}

#[test]
fn a_module_that_cannot_be_loaded_is_a_service_that_cannot_start() {
    let (_reactor, node) = alone();
    node.register_module("good", |_| {});
    node.register_module("bad", |_| Err(Reason::die("no room")));
    let service = |name: &str| [Service::Module(name.to_owned())];
    assert_eq!(node.start_services(&service("good::")), Ok(()));
    assert_eq!(node.start_services(&service("good::")), Ok(()));
    let failed = ServiceError::Failed("bad::".to_owned(), Reason::die("no room"));
    assert_eq!(node.start_services(&service("bad::")), Err(failed));
    assert_eq!(node.load_module("bad"), Ok(false));
}

#[test]
fn the_end_of_a_port_can_be_awaited() {
    let (mut reactor, node) = alone();
    let port = node.bare_port();
    let end = node.ended(&port);
    node.kill(&port, Reason::new("why", "not"));
    assert_eq!(reactor.block_on(&mut (), end).unwrap(), Reason::new("why", "not"));
    let late = reactor.block_on(&mut (), node.ended(&port)).unwrap();
    assert_eq!(late.identifier(), Some("no_such_port"));
}

#[test]
fn an_inbox_holds_no_more_than_it_was_told_to() {
    let (mut reactor, node) = alone();
    let port = node.port_async(|mut inbox: Inbox<u64>| async move {
        inbox.set_max(2);
        assert_eq!(inbox.next().await, 1);
        std::future::pending::<()>().await;
    });
    port.send(1);
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
    for number in 2..=4 {
        port.send(number);
    }
    let end = reactor.block_on(&mut (), node.ended(&port)).unwrap();
    assert_eq!(end.identifier(), Some("inbox_full"));
}

#[test]
fn without_the_file_settings_come_from_the_program_alone() {
    let settings = Config::new().norc().node_id("here").settings().unwrap();
    assert_eq!(settings.node_id.as_str(), "here");
}
