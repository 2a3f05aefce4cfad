//! A chat server: whoever joins hears what everybody says, and who comes and goes.
//!
//! All nodes need one secret: `export PERL_ANYEVENT_MP_RC=/tmp/rc` in each terminal, and once
//! `cargo run -p ports --bin aemp -- gensecret`. Then, each in a terminal of its own,
//! `cargo run -p ports --example chat_server -- binds 127.0.0.1:4040`,
//! `cargo run -p ports --example chat_client -- anna seeds 127.0.0.1:4040`, and the same for `bert`.
//!
//! End a client with Ctrl-C, and see what the others hear; end the server and start it again, and see the
//! clients come back to it.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;

use ports::config::Config;
use ports::{ChildSpec, Node, PortId, Reason, SupervisorSpec};
use reactor::Reactor;
use serde::{Deserialize, Serialize};

/// What clients tell the server. What they are told is a text, as it is to be shown.
#[derive(Serialize, Deserialize)]
enum Chat {
    /// `["join", client, nick]`
    Join { client: PortId, nick: String },
    /// `["privmsg", client, text]`
    Privmsg { client: PortId, text: String },
    /// What the server tells itself: since this is skipped, it never comes from another node.
    #[serde(skip)]
    Gone { client: PortId, reason: Reason },
}

fn main() -> Result<(), Box<dyn Error>> {
    ports::tool::log("warn");
    let mut reactor = Reactor::new()?;
    let settings = Config::from_args(env::args().skip(1))?.settings()?;
    let node = Node::start(&mut reactor, &settings)?;
    let server = ChildSpec::new("chat server", start_server);
    let supervisor = node.supervise(SupervisorSpec::one_for_one().child(server))?;
    println!("server ready");
    let end = reactor.block_on(&mut (), node.ended(supervisor.port()))?;
    Err(end.to_string().into())
}

/// The server is a port, which knows its clients. If it fails, there will be another, which knows nobody, and
/// to which clients come by themselves.
fn start_server(node: &Node) -> Result<PortId, Reason> {
    let mut nicks = BTreeMap::new();
    let server = node.port(move |context, message| match message {
        Chat::Join { client, nick } => {
            let name = client.clone();
            let gone = |reason| Chat::Gone { client: name, reason };
            context.monitor_message(&client, context.this(), gone).detach();
            nicks.insert(client, nick.clone());
            relay(context, &nicks, format!("{nick} (joins)"));
        }
        Chat::Privmsg { client, text } => {
            if let Some(nick) = nicks.get(&client) {
                relay(context, &nicks, format!("{nick}: {text}"));
            }
        }
        Chat::Gone { client, reason } => {
            if let Some(nick) = nicks.remove(&client) {
                relay(context, &nicks, format!("{nick} (quits, {reason})"));
            }
        }
    });
    node.grp_reg("eg_chat_server", &server)?.detach();
    Ok(server.id())
}

/// Tells all clients.
fn relay(node: &Node, nicks: &BTreeMap<PortId, String>, line: String) {
    println!("relaying: {line}");
    for client in nicks.keys() {
        node.send(client, line.clone());
    }
}
