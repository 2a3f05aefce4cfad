//! How sockets are opened.

use std::net::IpAddr;
use std::time::Duration;

use crate::Multicast;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The address to connect from; `None` lets the system choose.
    pub bind: Option<IpAddr>,
    /// The network interface to use, and no other (`SO_BINDTODEVICE`, or an address of its own where that is
    /// forbidden); `None` lets the system choose. In a simulated world there are none.
    pub interface: Option<String>,
    /// How long to try. Default: 10 s.
    pub timeout: Duration,
    /// Small writes go out at once (`TCP_NODELAY`). Default: yes; the write queue gathers them itself.
    pub nodelay: bool,
    /// Another congestion control than the system's (`TCP_CONGESTION`, Linux only).
    pub congestion: Option<String>,
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// An IPv6 socket takes IPv6 only. Default: no, so that `[::]` takes both.
    pub v6_only: bool,
    /// As in [`ConnectOptions`].
    pub interface: Option<String>,
    /// A port may be used again right after its last owner. Default: yes.
    pub reuse_addr: bool,
    /// Several sockets may share the port, and the kernel spreads what comes over them (`SO_REUSEPORT`).
    /// Default: no.
    pub reuse_port: bool,
    /// Connections that wait to be accepted. Default: 1024.
    pub backlog: i32,
    /// As in [`ConnectOptions`], for what is accepted.
    pub nodelay: bool,
    /// As in [`ConnectOptions`], for what is accepted.
    pub congestion: Option<String>,
    /// A group that a datagram socket joins; other programs may do the same on the same port.
    pub multicast: Option<Multicast>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            bind: None,
            interface: None,
            timeout: Duration::from_secs(10),
            nodelay: true,
            congestion: None,
        }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            v6_only: false,
            interface: None,
            reuse_addr: true,
            reuse_port: false,
            backlog: 1024,
            nodelay: true,
            congestion: None,
            multicast: None,
        }
    }
}

/// How much one turn does for one before the others have theirs. Nothing is lost: what is left is
/// done in the next turn, before the loop waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Bytes that one connection may read, up to one read more. Default: 1 MiB.
    pub read_bytes: u32,
    /// Bytes that one connection's queue may write, up to what the kernel takes at once more. Default:
    /// 1 MiB.
    pub write_bytes: u32,
    /// Connections that one listener takes in. Default: 64.
    pub accepts: u32,
    /// Datagrams that one socket delivers, up to a batch more. Default: 256.
    pub datagrams: u32,
    /// Timers that fire. Default: 1024.
    pub timers: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        let mib = 1024 * 1024;
        Self { read_bytes: mib, write_bytes: mib, accepts: 64, datagrams: 256, timers: 1024 }
    }
}
