//! A chat client that spawns its port on the server's node, and talks to that.
//!
//! How to run it stands in `chat_server.rs`; the programs are `chat_server2` and `chat_client2`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::cell::RefCell;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use ports::config::Config;
use ports::{Node, PortId};
use reactor::Reactor;

mod keyboard;

/// One who wants to chat.
struct Chatter {
    nick: String,
    /// Our port on the server's node.
    bridge_head: RefCell<Option<PortId>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let nick = args.next().ok_or("usage: chat_client2 NICK [CONFIGURATION]")?;
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &Config::from_args(args)?.settings()?)?;
    let chatter = Rc::new(Chatter { nick, bridge_head: RefCell::default() });

    let own = Rc::clone(&chatter);
    node.grp_mon("eg_chat_server2", move |node, _| connect(node, &own))?.detach();

    let keyboard = node.port(move |context, text: String| {
        if let Some(bridge_head) = &*chatter.bridge_head.borrow() {
            context.send(bridge_head, text);
        }
    });
    keyboard::read_keyboard(&node, &keyboard.id(), reactor.remote());
    Ok(reactor.run(&mut ())?)
}

/// Spawns a port at a server, unless it has one, or there is none: as soon as there is, this is called again.
fn connect(node: &Node, chatter: &Rc<Chatter>) {
    if chatter.bridge_head.borrow().is_some() {
        return;
    }
    let Some(server) = node.grp_get("eg_chat_server2").pop() else { return };
    println!("connecting...");
    let client = node.port(|_, line: String| println!("{line}")).id();
    let own = Rc::clone(chatter);
    let again = move |node: &Node, reason| {
        println!("disconnected: {reason}");
        own.bridge_head.take();
        node.after(Duration::from_secs(1), move |node| connect(node, &own));
    };
    node.monitor(&client, again).detach();
    let args = (client.clone(), chatter.nick.clone());
    let bridge_head = node.spawn(&server, "::client_connect", args).expect("the name has a '::'");
    node.link(&bridge_head, client).detach();
    *chatter.bridge_head.borrow_mut() = Some(bridge_head);
}
