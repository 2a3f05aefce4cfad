//! A sender: every second it tells the time to all who are in a group, however many that are.
//!
//! How to run it stands in `receiver.rs`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::env;
use std::error::Error;
use std::time::{Duration, SystemTime};

use ports::config::Config;
use ports::{Node, Reason};
use reactor::Reactor;
use serde::{Deserialize, Serialize};

/// What is sent: on the wire, `["test", time]`.
#[derive(Serialize, Deserialize)]
struct Test {
    time: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let settings = Config::from_args(env::args().skip(1))?.settings()?;
    let node = Node::start(&mut reactor, &settings)?;
    let watch = node.grp_mon("eg_receivers", |node, change| {
        for receiver in &change.added {
            println!("found {receiver}");
            let name = receiver.clone();
            let tell = move |_: &Node, reason: Reason| println!("lost {name}: {reason}");
            node.monitor(receiver, tell).detach();
        }
    })?;
    watch.detach();
    tell_time(&node);
    Ok(reactor.run(&mut ())?)
}

fn tell_time(node: &Node) {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for receiver in node.grp_get("eg_receivers") {
        node.send(&receiver, Test { time: since_1970.as_secs() });
    }
    node.after(Duration::from_secs(1), tell_time);
}
