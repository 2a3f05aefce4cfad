//! A receiver: it makes itself known in a group, and prints what it is told.
//!
//! All nodes need one secret: `export PERL_ANYEVENT_MP_RC=/tmp/rc` in both terminals, and once
//! `cargo run -p ports --bin aemp -- gensecret`. Then, in one terminal,
//! `cargo run -p ports --example receiver -- nodeid eg_receiver binds 127.0.0.1:4040`, and in the other
//! `cargo run -p ports --example sender -- nodeid eg_sender seeds 127.0.0.1:4040`.
//!
//! End the receiver with Ctrl-C, and see what the sender has to say; then start it again. There may be
//! more than one: `cargo run -p ports --example receiver -- seeds 127.0.0.1:4040`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::env;
use std::error::Error;

use ports::Node;
use ports::config::Config;
use reactor::Reactor;
use serde::{Deserialize, Serialize};

/// What is received: on the wire, `["test", time]`.
#[derive(Serialize, Deserialize)]
struct Test {
    time: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let settings = Config::from_args(env::args().skip(1))?.settings()?;
    let node = Node::start(&mut reactor, &settings)?;
    let receiver = node.port(|_, test: Test| println!("received {}", test.time));
    node.grp_reg("eg_receivers", &receiver)?.detach();
    println!("{} receives", receiver.id());
    Ok(reactor.run(&mut ())?)
}
