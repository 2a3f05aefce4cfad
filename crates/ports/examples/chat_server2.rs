//! A chat server that is nothing but a function: each client spawns itself a port here, its bridge head.
//!
//! Server and client watch each other, so that when one side goes, by its own will or not, the other cleans
//! up. How to run it stands in `chat_server.rs`; the programs are `chat_server2` and `chat_client2`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::rc::Rc;

use ports::config::Config;
use ports::{Context, Node, PortId};
use reactor::Reactor;

/// Who is here.
type Clients = Rc<RefCell<BTreeSet<PortId>>>;

fn main() -> Result<(), Box<dyn Error>> {
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let settings = Config::from_args(env::args().skip(1))?.settings()?;
    let node = Node::start(&mut reactor, &settings)?;
    let clients = Clients::default();
    node.register("client_connect", move |context, (client, nick): (PortId, String)| {
        client_connect(context, &clients, &client, nick);
    });
    node.grp_reg("eg_chat_server2", node.id())?.detach();
    println!("server ready");
    Ok(reactor.run(&mut ())?)
}

/// Runs in a port that a client has just spawned.
fn client_connect(context: &Context<'_>, clients: &Clients, client: &PortId, nick: String) {
    let (others, name, gone) = (Rc::clone(clients), nick.clone(), client.clone());
    context
        .monitor(client, move |node, reason| {
            others.borrow_mut().remove(&gone);
            relay(node, &others, format!("{name} (quits, {reason})"));
        })
        .detach();
    clients.borrow_mut().insert(client.clone());
    relay(context, clients, format!("{nick} (joins)"));
    let others = Rc::clone(clients);
    context
        .receive(move |context, text: String| relay(context, &others, format!("{nick}: {text}")));
    context.link_to(client).detach();
}

/// Tells all clients.
fn relay(node: &Node, clients: &Clients, line: String) {
    println!("relaying: {line}");
    for client in &*clients.borrow() {
        node.send(client, line.clone());
    }
}
