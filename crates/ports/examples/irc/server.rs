//! The service: it lets users in, and sees to it that no nick is taken twice.

use std::collections::BTreeSet;
use std::env;
use std::net::SocketAddr;
use std::rc::Rc;

use ports::{Node, PortId, Reason};
use reactor::ListenOptions;
use reactor::task::AsyncListener;

use crate::user::{self, ToUser};

/// The family of the database that has all users of all nodes with their nicks.
pub(crate) const NICKS: &str = "irc_nick";

/// Starts the service on a node.
pub(crate) fn load(node: &Node) -> Result<(), Reason> {
    let address = env::var("IRC_LISTEN").unwrap_or_else(|_| "127.0.0.1:6667".to_owned());
    let address: SocketAddr = address.parse()?;
    let listener = node.reactor().listen(address, &ListenOptions::default())?;
    if let Some(address) = listener.local_addr() {
        println!("irc: listening on {address}");
    }
    node.db_mon(NICKS, |node, _| end_doubles(node))?.detach();
    node.reactor().spawn(welcome(node.clone(), listener));
    Ok(())
}

/// Each user is a port, which lives for as long as the connection.
async fn welcome(node: Node, mut listener: AsyncListener) {
    let seats = Rc::new(());
    while let Ok((stream, _)) = listener.accept().await {
        if Rc::strong_count(&seats) <= USERS_MAX {
            let seat = Rc::clone(&seats);
            node.port_async(|inbox| async move {
                let result = user::serve(inbox, stream).await;
                drop(seat);
                result
            });
        }
    }
}

/// Two nodes may give the same nick away at the same time. All see the same database, so all agree which of
/// the two goes.
fn end_doubles(node: &Node) {
    let doubles: Vec<PortId> = node.db_look(NICKS, |nicks| {
        let mut taken = BTreeSet::new();
        let doubles = nicks.iter().filter(|(_, nick)| !taken.insert(nick.as_str()));
        doubles.filter_map(|(user, _)| PortId::new(user).ok()).collect()
    });
    for user in doubles.iter().filter(|user| node.is_local(user)) {
        node.send(user, ToUser::End { why: "somebody else has that nick".to_owned() });
    }
}

/// How many users a node has at most.
const USERS_MAX: usize = 1000;
