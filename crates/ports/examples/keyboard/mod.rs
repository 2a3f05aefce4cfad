//! A keyboard, for the chat clients.

use std::io;
use std::thread;

use ports::{Node, PortId};
use reactor::Remote;

/// Has a port get each line that is typed. The program ends where the input does.
pub(crate) fn read_keyboard(node: &Node, to: &PortId, remote: Remote<()>) {
    let port = node.handle().port::<String>(to);
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(|line| port.send(line));
        remote.stop();
    });
}
