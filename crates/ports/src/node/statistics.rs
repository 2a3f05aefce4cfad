//! What there is to count of a running node.

use serde::{Deserialize, Serialize};

use super::Node;
use crate::mesh::Peer;
use crate::{NodeId, wire};

/// What a node is about, now. As a value it is a map, of the names that the fields have here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// The node.
    pub node: NodeId,
    /// The version of this library.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// For how many seconds it has been there.
    pub uptime: f64,
    /// How much memory the process has, in bytes; 0 where the system does not tell.
    pub memory_bytes: u64,
    /// Where it listens: `host:port`.
    pub listeners: Vec<String>,
    /// How many ports there are.
    pub ports: u64,
    /// How many messages and calls have been handled so far.
    pub handled: u64,
    /// How many messages no handler has seen yet.
    pub waiting: u64,
    /// How many ports and calls await their turn.
    pub ready: u64,
    /// Whether the node knows all of the database.
    pub is_global: bool,
    /// The node that it asks about the database, if there is one.
    pub master: Option<NodeId>,
    /// How many families of the database it has: all, or, if it is not global, its own.
    pub families: u64,
    /// How many entries those have.
    pub entries: u64,
    /// The nodes that it has to do with, in order.
    pub peers: Vec<PeerStatistics>,
}

/// What a node has to do with another one. The counts are those of the connection that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerStatistics {
    /// The other node.
    pub node: NodeId,
    /// For how many seconds the connection has been up, if it is.
    pub uptime: Option<f64>,
    /// Messages that were sent to it.
    pub sent_messages: u64,
    /// The same in bytes, without TLS.
    pub sent_bytes: u64,
    /// Messages that came from it.
    pub received_messages: u64,
    /// The same in bytes, without TLS.
    pub received_bytes: u64,
    /// What waits to go there.
    pub waiting_bytes: u64,
    /// How many monitors this node has on ports of the other one.
    pub monitors: u64,
    /// How many the other one has on ports of this node.
    pub monitors_here: u64,
}

impl Node {
    /// Counts all there is to count.
    pub fn statistics(&self) -> Statistics {
        let shared = &self.shared;
        let database = shared.mesh.database.borrow();
        let (families, entries) =
            database.families().fold((0, 0), |(families, all), (_, len)| (families + 1, all + len));
        Statistics {
            node: self.id().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.now().saturating_duration_since(shared.began.at).as_secs_f64(),
            memory_bytes: memory_bytes(),
            listeners: self.listeners(),
            ports: self.ports_count() as u64,
            handled: shared.handled.get(),
            waiting: shared.run_queue.waiting() as u64,
            ready: shared.run_queue.len() as u64,
            is_global: database.is_global(),
            master: database.master().cloned(),
            families,
            entries: entries as u64,
            peers: shared.mesh.all_peers().iter().map(|peer| self.peer_statistics(peer)).collect(),
        }
    }

    fn peer_statistics(&self, peer: &Peer) -> PeerStatistics {
        let link = peer.link();
        let link = link.as_deref();
        let sent = link.map(|link| link.sent.get()).unwrap_or_default();
        let received = link.map(|link| link.received.get()).unwrap_or_default();
        PeerStatistics {
            node: peer.id().clone(),
            uptime: link.map(|link| self.now().saturating_duration_since(link.since).as_secs_f64()),
            sent_messages: sent.messages,
            sent_bytes: sent.bytes,
            received_messages: received.messages,
            received_bytes: received.bytes,
            waiting_bytes: peer.waiting(self) as u64,
            monitors: peer.monitors_count() as u64,
            monitors_here: link.map_or(0, |link| link.monitors.get()) as u64,
        }
    }
}

impl From<&Statistics> for crate::Value {
    fn from(statistics: &Statistics) -> Self {
        wire::to_value(statistics).expect("numbers, texts and lists are values")
    }
}

/// What Linux says of this process.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
