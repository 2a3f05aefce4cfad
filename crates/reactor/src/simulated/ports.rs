//! Who has which port of a host, or which path, and who gets what is sent there.
//!
//! A Unix socket is a connection over the loopback in a number space of its own: each path stands for
//! one made-up address for ever, so that the rest of the network, and the trace, know only addresses.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::chance::Chance;
use super::network::Network;
use super::socket::{Family, Socket, canonical};
use super::trace::Fnv;
use crate::Address;

/// The ports of one host.
#[derive(Debug)]
pub(super) struct Ports {
    /// Sockets by protocol and port, without accepted connections.
    bound: BTreeMap<(Protocol, u16), Vec<u32>>,
    next_ephemeral: u16,
    /// Each path that was ever listened at. Its port is its index and one.
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Unix,
}

/// What a socket takes of its port beside the address itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) v6_only: bool,
    /// Others that claim it like this may have it too.
    pub(super) reuse_port: bool,
}

impl Ports {
    pub(super) const fn new() -> Self {
        Self { bound: BTreeMap::new(), next_ephemeral: EPHEMERAL_FIRST, paths: Vec::new() }
    }

    fn find_path(&self, path: &Path) -> Option<SocketAddr> {
        let index = self.paths.iter().position(|known| known == path)?;
        Some(SocketAddr::new(UNIX_IP, index as u16 + 1))
    }
}

impl Claim {
    pub(super) const EXCLUSIVE: Self = Self { v6_only: true, reuse_port: false };
}

impl Network {
    /// From where a socket connects, and where to.
    pub(super) fn route(
        &mut self,
        host: usize,
        to: &Address,
        bind: Option<IpAddr>,
    ) -> io::Result<(Family, SocketAddr, SocketAddr)> {
        match to {
            Address::Ip(to) => self.route_tcp(host, *to, bind),
            Address::Unix(Some(path)) => self.route_unix(host, path),
            Address::Unix(None) | Address::Pipe => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn route_tcp(
        &mut self,
        host: usize,
        addr: SocketAddr,
        bind: Option<IpAddr>,
    ) -> io::Result<(Family, SocketAddr, SocketAddr)> {
        let to = canonical(addr);
        let ip = match bind {
            Some(ip) if ip.is_ipv6() != addr.is_ipv6() => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Some(ip) if !ip.is_unspecified() => ip,
            Some(_) | None => {
                self.source_ip(host, to.ip()).ok_or(io::ErrorKind::NetworkUnreachable)?
            }
        };
        let local = canonical(SocketAddr::new(ip, 0));
        let local = self.claim(host, Protocol::Tcp, local, Claim::EXCLUSIVE)?;
        Ok((Family::of(addr), local, to))
    }

    /// Unlike TCP, the system says at once that nobody is there.
    fn route_unix(
        &mut self,
        host: usize,
        path: &Path,
    ) -> io::Result<(Family, SocketAddr, SocketAddr)> {
        let to = self.hosts[host].ports.find_path(path).ok_or(Errno::NOENT)?;
        let local = SocketAddr::new(UNIX_IP, 0);
        let local = self.claim(host, Protocol::Unix, local, Claim::EXCLUSIVE)?;
        self.find_bound(host, Protocol::Unix, local, to).ok_or(Errno::CONNREFUSED)?;
        Ok((Family::Unix, local, to))
    }

    /// Where a listener is to be. What a path's former owner left behind is not in the way.
    pub(super) fn claim_listener(
        &mut self,
        host: usize,
        addr: &Address,
        claim: Claim,
    ) -> io::Result<(Family, SocketAddr)> {
        match addr {
            Address::Ip(addr) => {
                let local = self.claim(host, Protocol::Tcp, canonical(*addr), claim)?;
                Ok((Family::of(*addr), local))
            }
            Address::Unix(Some(path)) => {
                let local = self.name_path(host, path)?;
                let local = self.claim(host, Protocol::Unix, local, Claim::EXCLUSIVE)?;
                Ok((Family::Unix, local))
            }
            Address::Unix(None) | Address::Pipe => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn name_path(&mut self, host: usize, path: &Path) -> io::Result<SocketAddr> {
        let ports = &mut self.hosts[host].ports;
        if ports.paths.len() + 1 >= usize::from(EPHEMERAL_FIRST) {
            return Err(Errno::NOSPC.into());
        }
        let known = ports.find_path(path);
        Ok(known.unwrap_or_else(|| {
            ports.paths.push(path.to_owned());
            SocketAddr::new(UNIX_IP, ports.paths.len() as u16)
        }))
    }

    /// An address as the owner of the socket sees it.
    pub(super) fn shown(&self, socket: &Socket, addr: SocketAddr) -> Address {
        match socket.family {
            Family::V4 | Family::V6 => socket.shown(addr).into(),
            Family::Unix => {
                let index = usize::from(addr.port()).wrapping_sub(1);
                Address::Unix(self.hosts[socket.host].ports.paths.get(index).cloned())
            }
        }
    }

    /// Finds a port for an address, and checks that nobody else has it.
    pub(super) fn claim(
        &mut self,
        host: usize,
        protocol: Protocol,
        local: SocketAddr,
        claim: Claim,
    ) -> io::Result<SocketAddr> {
        let ip = local.ip();
        let is_ours = ip.is_unspecified() || ip.is_loopback() || self.hosts[host].ips.contains(&ip);
        if !is_ours {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if local.port() != 0 {
            let is_free = self.is_free(host, protocol, local, claim);
            return if is_free { Ok(local) } else { Err(io::ErrorKind::AddrInUse.into()) };
        }
        // Nobody shares a port that chance gave.
        let claim = Claim { reuse_port: false, ..claim };
        for _ in EPHEMERAL_FIRST..=u16::MAX {
            let ports = &mut self.hosts[host].ports;
            let candidate = SocketAddr::new(ip, ports.next_ephemeral);
            ports.next_ephemeral = candidate.port().checked_add(1).unwrap_or(EPHEMERAL_FIRST);
            if self.is_free(host, protocol, candidate, claim) {
                return Ok(candidate);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn is_free(&self, host: usize, protocol: Protocol, addr: SocketAddr, claim: Claim) -> bool {
        let covers = |taken: &Socket| {
            addr.ip().is_unspecified()
                && (addr.is_ipv6() == taken.local.is_ipv6() || addr.is_ipv6() && !claim.v6_only)
        };
        let is_shared = |taken: &Socket| {
            claim.reuse_port && taken.claim().is_some_and(|claim| claim.reuse_port)
        };
        self.at_port(host, protocol, addr.port())
            .all(|(_, taken)| is_shared(taken) || !taken.takes(addr.ip()) && !covers(taken))
    }

    /// Has a socket be found by its port.
    pub(super) fn bind(&mut self, id: u32) {
        let socket = &self.sockets[&id];
        let key = (socket.protocol(), socket.local.port());
        self.hosts[socket.host].ports.bound.entry(key).or_default().push(id);
    }

    pub(super) fn unbind(&mut self, id: u32) {
        let socket = &self.sockets[&id];
        let (host, key) = (socket.host, (socket.protocol(), socket.local.port()));
        let bound = &mut self.hosts[host].ports.bound;
        if let Some(ids) = bound.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                bound.remove(&key);
            }
        }
    }

    fn at_port(
        &self,
        host: usize,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = (u32, &Socket)> {
        let ids = self.hosts[host].ports.bound.get(&(protocol, port)).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.sockets.get(id)?)))
    }

    /// The socket that what is sent to an address comes to; those bound to just that address first.
    /// Of several that share the port it is always the same one for one sender, as in a kernel.
    pub(super) fn find_bound(
        &self,
        host: usize,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<u32> {
        let takers = |is_any: bool| -> Vec<u32> {
            self.at_port(host, protocol, to.port())
                .filter(|(_, socket)| socket.claim().is_some() && socket.takes(to.ip()))
                .filter(|(_, socket)| socket.local.ip().is_unspecified() == is_any)
                .map(|(id, _)| id)
                .collect()
        };
        let exact = takers(false);
        let takers = if exact.is_empty() { takers(true) } else { exact };
        match takers[..] {
            [] => None,
            [one] => Some(one),
            _ => {
                let mut hash = Fnv::new();
                (self.seed, from, to).hash(&mut hash);
                Some(takers[Chance::new(hash.finish()).below(takers.len())])
            }
        }
    }

    /// The address of a host from which it reaches another one.
    pub(super) fn source_ip(&self, host: usize, to: IpAddr) -> Option<IpAddr> {
        if to.is_loopback() {
            return Some(match to {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let ips = &self.hosts[host].ips;
        if ips.contains(&to) {
            return Some(to);
        }
        ips.iter().copied().find(|ip| ip.is_ipv6() == to.is_ipv6())
    }
}

const EPHEMERAL_FIRST: u16 = 49_152;
/// A loopback address that nobody else uses: the letters of "unx".
const UNIX_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 117, 110, 120));
