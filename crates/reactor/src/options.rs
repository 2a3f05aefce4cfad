//! How sockets are opened.

use std::net::IpAddr;
use std::time::Duration;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The address to connect from; `None` lets the system choose.
    pub bind: Option<IpAddr>,
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
    /// A port may be used again right after its last owner. Default: yes.
    pub reuse_addr: bool,
    /// Connections that wait to be accepted. Default: 1024.
    pub backlog: i32,
    /// As in [`ConnectOptions`], for what is accepted.
    pub nodelay: bool,
    /// As in [`ConnectOptions`], for what is accepted.
    pub congestion: Option<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { bind: None, timeout: Duration::from_secs(10), nodelay: true, congestion: None }
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { v6_only: false, reuse_addr: true, backlog: 1024, nodelay: true, congestion: None }
    }
}
