//! A chat client, and its supervisor: when it loses the server, it looks for another.
//!
//! How to run it stands in `chat_server.rs`.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::cell::RefCell;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use ports::config::Config;
use ports::{Node, PortId};
use reactor::Reactor;
use serde::{Deserialize, Serialize};

mod keyboard;

/// What the server is told.
#[derive(Serialize, Deserialize)]
enum Chat {
    Join { client: PortId, nick: String },
    Privmsg { client: PortId, text: String },
}

/// One who wants to chat.
struct Chatter {
    nick: String,
    /// The client and the server that it is with.
    connected: RefCell<Option<(PortId, PortId)>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let nick = args.next().ok_or("usage: chat_client NICK [CONFIGURATION]")?;
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let node = Node::start(&mut reactor, &Config::from_args(args)?.settings()?)?;
    let chatter = Rc::new(Chatter { nick, connected: RefCell::default() });

    let own = Rc::clone(&chatter);
    node.grp_mon("eg_chat_server", move |node, _| connect(node, &own))?.detach();

    let keyboard = node.port(move |context, text: String| {
        if let Some((client, server)) = &*chatter.connected.borrow() {
            context.send(server, Chat::Privmsg { client: client.clone(), text });
        }
    });
    keyboard::read_keyboard(&node, &keyboard.id(), reactor.remote());
    Ok(reactor.run(&mut ())?)
}

/// Joins a server, unless it has one, or there is none: as soon as there is, this is called again.
fn connect(node: &Node, chatter: &Rc<Chatter>) {
    if chatter.connected.borrow().is_some() {
        return;
    }
    let Some(server) = node.grp_get("eg_chat_server").pop() else { return };
    println!("connecting...");
    let client = node.port(|_, line: String| println!("{line}")).id();
    let own = Rc::clone(chatter);
    let again = move |node: &Node, reason| {
        println!("disconnected: {reason}");
        own.connected.take();
        node.after(Duration::from_secs(1), move |node| connect(node, &own));
    };
    node.monitor(&client, again).detach();
    node.link(&server, &client).detach();
    node.send(&server, Chat::Join { client: client.clone(), nick: chatter.nick.clone() });
    *chatter.connected.borrow_mut() = Some((client, server));
}
