use std::net::TcpListener;

use crate::world::World;

#[test]
fn a_sender_finds_receivers_hears_of_their_end_and_finds_new_ones() {
    let world = World::new();
    let mut sender = world.run("sender", &[]);
    let mut receiver = world.run("receiver", &["nodeid", "first"]);
    sender.says("found first#");
    let first: u64 = receiver.says("received ").parse().unwrap();
    let second: u64 = receiver.says("received ").parse().unwrap();
    assert!(second >= first);

    let mut other = world.run("receiver", &["nodeid", "second"]);
    other.says("received ");
    receiver.kill();
    assert!(sender.says("lost first#").contains("transport_error"));
    other.says("received ");

    let mut again = world.run("receiver", &["nodeid", "first"]);
    sender.says("found first#");
    again.says("received ");
}

#[test]
fn a_receiver_may_be_the_seed_itself_and_come_back() {
    let world = World::new();
    let address = format!("127.0.0.1:{}", free_port());
    let here = ["binds", &address, "seeds", &address, "force", "1"];
    let mut receiver = world.run("receiver", &here);
    receiver.says(" receives");
    let mut sender = world.run("sender", &["seeds", &address, "force", "1"]);
    receiver.says("received ");
    receiver.kill();
    sender.says("lost ");
    let mut receiver = world.run("receiver", &here);
    sender.says("found ");
    receiver.says("received ");
}

/// One that nobody is given who asks for any: the kernel takes those from 32768 on.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    (first..).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
