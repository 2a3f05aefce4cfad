//! The core of our DHT node, measured: `lookups` in a network in memory, or `serve PORT` for others to
//! measure over loopback (`bench/dht/run`).

#![expect(clippy::print_stdout, reason = "it prints what it has measured")]

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use torrent::dht::{Announce, Node, NodeConfig, Output};
use torrent::{InfoHash, Rng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["lookups"] => {
            lookups();
            Ok(())
        }
        ["serve", port] => serve(port.parse()?),
        _ => Err("dht-bench lookups | serve PORT".into()),
    }
}

/// Nobody is turned away.
fn config() -> NodeConfig {
    let all = u32::MAX;
    NodeConfig { answers_per_second: all, answers_per_address: all, ..NodeConfig::default() }
}

/// A network of a thousand nodes in which datagrams arrive at once; then as many announces and searches as fit.
fn lookups() {
    let start = Instant::now();
    let mut world =
        World { nodes: Vec::new(), by_addr: BTreeMap::new(), wire: VecDeque::new(), datagrams: 0 };
    let mut rng = Rng::from_seed(1);
    for number in 0..NODES {
        // All of the world at large: whoever says that a peer is in a private network, or on this machine, is not
        // believed.
        let addr = SocketAddr::from((
            [11 + rng.below(80) as u8, rng.u32() as u8, rng.u32() as u8, 1],
            6881,
        ));
        let mut node = Node::new(config(), start, Rng::from_seed(number), None);
        if let Some((first, _)) = world.nodes.first() {
            node.add_boot_nodes(start, &[*first]);
        }
        world.by_addr.insert(addr, world.nodes.len());
        world.nodes.push((addr, node));
    }
    for step in 0..30 {
        let now = start + Duration::from_secs(5 * step);
        for at in 0..world.nodes.len() {
            world.nodes[at].1.handle_timeout(now);
            world.take(at);
        }
        world.deliver(now);
    }
    let now = start + Duration::from_secs(150);
    world.datagrams = 0;
    let begun = Instant::now();
    let mut found = 0;
    for _ in 0..SEARCHES {
        let hash = InfoHash(rng.bytes());
        let [seed, leech] = [0, 1].map(|_| rng.below(world.nodes.len()));
        world.nodes[seed].1.announce(now, hash, Announce::at(6881)).expect("free");
        world.take(seed);
        world.deliver(now);
        world.nodes[leech].1.peers(now, hash).expect("free");
        found += world.take(leech) + world.deliver(now);
    }
    let seconds = begun.elapsed().as_secs_f64();
    // An announce is a look-up, too.
    let rate = f64::from(2 * SEARCHES) / seconds;
    let per_datagram = seconds * 1e6 / world.datagrams as f64;
    println!(
        "{rate:.0} look-ups a second on one core, both ends counted; {per_datagram:.2} µs a datagram; {found} of {SEARCHES} found"
    );
}

struct World {
    nodes: Vec<(SocketAddr, Node)>,
    by_addr: BTreeMap<SocketAddr, usize>,
    wire: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    datagrams: u64,
}

impl World {
    /// Sends what a node wants to send; returns how often it has found peers.
    fn take(&mut self, at: usize) -> u32 {
        let (from, node) = &mut self.nodes[at];
        let mut found = 0;
        while let Some(output) = node.poll_output() {
            match output {
                Output::Send { to, bytes } => self.wire.push_back((*from, to, bytes)),
                Output::Peers { .. } => found += 1,
                _ => {}
            }
        }
        found
    }

    fn deliver(&mut self, now: Instant) -> u32 {
        let mut found = 0;
        while let Some((from, to, bytes)) = self.wire.pop_front() {
            let Some(&at) = self.by_addr.get(&to) else { continue };
            self.nodes[at].1.handle_datagram(now, from, &bytes);
            self.datagrams += 1;
            found += self.take(at);
        }
        found
    }
}

/// Answers on a port of this machine until killed.
fn serve(port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let mut node = Node::new(config(), Instant::now(), Rng::from_seed(1), None);
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        let now = Instant::now();
        node.handle_datagram(now, from, &buffer[..len]);
        if now >= node.poll_timeout() {
            node.handle_timeout(now);
        }
        while let Some(output) = node.poll_output() {
            if let Output::Send { to, bytes } = output {
                // What is lost is lost, as anywhere on the way.
                socket.send_to(&bytes, to).ok();
            }
        }
    }
}

const NODES: u64 = 1000;
const SEARCHES: u32 = 2000;
