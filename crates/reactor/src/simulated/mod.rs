//! A pretended world: reactors on a virtual network, in virtual time, all on one thread.
//!
//! Nothing here sleeps, and nothing is left to luck: everything follows from a seed. Two worlds of
//! equal seeds in which the same is done have equal traces, so that what failed once fails again.
//! Virtual time passes as fast as the machine can go.
//!
//! ```
//! use std::net::{IpAddr, SocketAddr};
//! use std::time::Duration;
//! use reactor::simulated::{Node, World, WorldOptions};
//! use reactor::{DatagramHandler, ListenOptions, Reactor, Token};
//!
//! struct Inbox;
//!
//! impl DatagramHandler<Vec<u8>> for Inbox {
//!     fn datagram(&mut self, _: Token, _: SocketAddr, data: &[u8], state: &mut Vec<u8>, _: &mut Reactor<Vec<u8>>) {
//!         state.extend_from_slice(data);
//!     }
//! }
//!
//! impl DatagramHandler<()> for Inbox {
//!     fn datagram(&mut self, _: Token, _: SocketAddr, _: &[u8], _: &mut (), _: &mut Reactor<()>) {}
//! }
//!
//! let world = World::new(1, WorldOptions::default());
//! let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
//! let mut sender = Node::new(world.host(&[here]), ());
//! let mut receiver = Node::new(world.host(&[there]), Vec::new());
//! let options = ListenOptions::default();
//! receiver.reactor.bind_udp(SocketAddr::new(there, 9), &options, Box::new(Inbox))?;
//! let socket = sender.reactor.bind_udp(SocketAddr::new(here, 0), &options, Box::new(Inbox))?;
//! sender.reactor.send_to(socket, SocketAddr::new(there, 9), b"hello")?;
//! world.run_for(&mut [&mut sender, &mut receiver], Duration::from_secs(1));
//! assert_eq!(receiver.state, b"hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The network is TCP and UDP as programs see them: connections take a round trip, bytes arrive
//! late, in order and in pieces, buffers fill up, what is sent to a closed socket is answered with a
//! reset, and a cut cable is noticed by silence alone. There is no congestion: a host may be given a
//! rate at which it sends. Unix sockets are connections within a host, by paths that only the world
//! knows of; files are the real ones; descriptors there are none, though one can run out of them.

mod chance;
mod datagram;
mod delivery;
mod departure;
mod detached;
mod host;
mod network;
mod node;
mod ports;
mod signal;
mod socket;
mod stream;
mod trace;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use detached::SimulatedSocket;
pub use host::Host;
use network::{Network, Packet};
pub use node::{Node, Turn};
pub use trace::{TraceEntry, TraceKind};

/// A network and a clock, and the hosts that share them. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct World {
    network: Rc<RefCell<Network>>,
}

/// What a world is like. Shares go from 0.0, never, to 1.0, always.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// How long anything takes from one host to another. Default: 10 ms.
    pub latency: Duration,
    /// How much longer it may take. Default: 2 ms.
    pub jitter: Duration,
    /// How fast a host sends; `None` is at once. Default: `None`.
    pub bytes_per_second: Option<u64>,
    /// How many bytes one direction of a connection holds between writer and reader, and how many a
    /// datagram socket holds. Default: 256 KiB.
    pub buffer_len: usize,
    /// What is written together arrives in pieces of at most this. Default: 16 KiB.
    pub segment_len_max: usize,
    /// Of reads and writes, how many get less than they could. Default: 0.1.
    pub partial_share: f64,
    /// Of segments, how many are answered with a reset. Default: 0.0.
    pub reset_share: f64,
    /// Of datagrams, how many are lost. Default: 0.0.
    pub datagram_loss_share: f64,
    /// Of datagrams, how many arrive twice. Default: 0.0.
    pub datagram_duplicate_share: f64,
    /// Of datagrams, how many arrive later by twice the latency. Default: 0.0.
    pub datagram_delay_share: f64,
    /// How many sockets a host may have open. Beyond, it fails as systems do that have no descriptors
    /// left. Default: no limit.
    pub descriptors_max: usize,
    /// How long one turn of a reactor takes, so that time passes for those that never rest.
    /// Default: 1 µs.
    pub turn_takes: Duration,
    /// How many entries the trace keeps, the latest. Default: 65,536.
    pub trace_len_max: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            jitter: Duration::from_millis(2),
            bytes_per_second: None,
            buffer_len: 256 * 1024,
            segment_len_max: 16 * 1024,
            partial_share: 0.1,
            reset_share: 0.0,
            datagram_loss_share: 0.0,
            datagram_duplicate_share: 0.0,
            datagram_delay_share: 0.0,
            descriptors_max: usize::MAX,
            turn_takes: Duration::from_micros(1),
            trace_len_max: 64 * 1024,
        }
    }
}

impl World {
    /// An empty world. All that is left to chance in it follows from `seed`.
    pub fn new(seed: u64, options: WorldOptions) -> Self {
        Self { network: Rc::new(RefCell::new(Network::new(seed, options))) }
    }

    /// Adds a host with these addresses: what a reactor is made of, by
    /// [`Reactor::simulated`](crate::Reactor::simulated) or [`Node::new`].
    ///
    /// # Panics
    /// If another host has one of the addresses.
    pub fn host(&self, ips: &[IpAddr]) -> Host {
        let mut network = self.network.borrow_mut();
        for ip in ips {
            assert!(network.host_of(*ip).is_none(), "another host has {ip}");
        }
        let number = network.add_host(ips);
        drop(network);
        Host::new(Rc::clone(&self.network), number)
    }

    /// A place for another reactor on a host, as [`Host::another`].
    ///
    /// # Panics
    /// If no host has the address.
    pub fn reactor_on(&self, ip: IpAddr) -> Host {
        Host::new(Rc::clone(&self.network), self.number(ip))
    }

    /// The time. It began at an instant of no meaning.
    pub fn now(&self) -> Instant {
        self.network.borrow().instant()
    }

    /// How long the world has been going on.
    pub fn elapsed(&self) -> Duration {
        self.network.borrow().now
    }

    /// Has a name stand for addresses, on all hosts. Other names do not exist.
    pub fn set_name(&self, name: &str, ips: &[IpAddr]) {
        self.network.borrow_mut().names.insert(name.to_owned(), ips.to_vec());
    }

    /// Sets how long anything takes between two hosts, in either direction, beside the jitter.
    ///
    /// # Panics
    /// Here and below: if no host has such an address.
    pub fn set_latency(&self, a: IpAddr, b: IpAddr, latency: Duration) {
        let (a, b) = (self.number(a), self.number(b));
        self.network.borrow_mut().set_latency(a, b, latency);
    }

    /// Sets how fast a host sends; `None` is at once.
    ///
    /// # Panics
    /// If no host has the address.
    pub fn set_bytes_per_second(&self, host: IpAddr, rate: Option<u64>) {
        let number = self.number(host);
        self.network.borrow_mut().hosts[number].bytes_per_second = rate;
    }

    /// Sets how many sockets a host may have open; `None` is no limit. What it has it keeps.
    ///
    /// # Panics
    /// If no host has the address.
    pub fn set_descriptors_max(&self, host: IpAddr, max: Option<usize>) {
        let number = self.number(host);
        self.network.borrow_mut().hosts[number].descriptors_max = max.unwrap_or(usize::MAX);
    }

    /// Sends a signal to a host. Returns how many of its reactors' sources watch it.
    ///
    /// # Panics
    /// If no host has the address.
    pub fn raise(&self, host: IpAddr, signal: i32) -> usize {
        let number = self.number(host);
        self.network.borrow_mut().raise(number, signal)
    }

    /// Cuts two hosts off from each other. Nobody is told. Datagrams are lost; what belongs to
    /// connections is sent again until the link is mended.
    ///
    /// # Panics
    /// If no host has such an address.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        let (a, b) = (self.number(a), self.number(b));
        self.network.borrow_mut().set_cut(a, b, true);
    }

    /// Mends a cut.
    ///
    /// # Panics
    /// If no host has such an address.
    pub fn mend(&self, a: IpAddr, b: IpAddr) {
        let (a, b) = (self.number(a), self.number(b));
        self.network.borrow_mut().set_cut(a, b, false);
    }

    /// Resets all connections between two hosts, at both ends. Returns how many there were.
    ///
    /// # Panics
    /// If no host has such an address.
    pub fn reset_between(&self, a: IpAddr, b: IpAddr) -> usize {
        let (a, b) = (self.number(a), self.number(b));
        let network = &mut *self.network.borrow_mut();
        let is_between = |id: &u32| {
            let Some((socket, stream)) = network.stream(*id) else { return false };
            socket.host == a && network.find_host(stream.remote.ip(), a) == Some(b)
        };
        let ids: Vec<u32> = network.sockets.keys().copied().filter(is_between).collect();
        for id in &ids {
            network.send_to_peer(*id, Packet::Reset);
            network.reset(*id);
        }
        ids.len()
    }

    /// What has happened since the trace was taken last, without what has fallen out of it.
    pub fn take_trace(&self) -> Vec<TraceEntry> {
        self.network.borrow_mut().trace.take()
    }

    /// A digest of all that has happened: equal if two runs were equal.
    pub fn trace_digest(&self) -> u64 {
        self.network.borrow().trace.digest()
    }

    fn number(&self, ip: IpAddr) -> usize {
        let number = self.network.borrow().host_of(ip);
        number.unwrap_or_else(|| panic!("no host has {ip}"))
    }
}
