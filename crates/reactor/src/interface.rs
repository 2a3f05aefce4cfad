//! Network interfaces of this machine, by name.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::ifaddrs::getifaddrs;
use socket2::Socket;

/// The addresses that an interface has now, IPv4 first; perhaps none.
///
/// # Errors
/// `NotFound`, with the names that there are, if there is no such interface; what the system says.
pub fn interface_addrs(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut names: Vec<String> = Vec::new();
    let mut addrs = Vec::new();
    for at in getifaddrs()? {
        if at.interface_name == name {
            let storage = at.address.as_ref();
            let v4 = storage.and_then(|storage| storage.as_sockaddr_in());
            let v6 = storage.and_then(|storage| storage.as_sockaddr_in6());
            addrs.extend(v4.map(|addr| IpAddr::V4(*SocketAddrV4::from(*addr).ip())));
            addrs.extend(v6.map(|addr| IpAddr::V6(*SocketAddrV6::from(*addr).ip())));
        }
        if !names.contains(&at.interface_name) {
            names.push(at.interface_name);
        }
    }
    if !names.iter().any(|there| there == name) {
        let there = names.join(", ");
        let text = format!("there is no network interface {name}; there are: {there}");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    addrs.sort();
    Ok(addrs)
}

/// Has a socket use one interface only. Returns the address to bind to in place of `wanted`: another if the
/// system lets nobody choose an interface by name, for then it is chosen by an address of its own.
pub(crate) fn hold_to(socket: &Socket, name: &str, wanted: SocketAddr) -> io::Result<SocketAddr> {
    match socket.bind_device(Some(name.as_bytes())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => {
            return Err(io::Error::new(error.kind(), format!("network interface {name}: {error}")));
        }
        Ok(()) => return Ok(wanted),
    }
    if !wanted.ip().is_unspecified() {
        return Ok(wanted);
    }
    let addrs = interface_addrs(name)?;
    // One that is good for nothing but this link comes last.
    let is_link_local = |ip: &&IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let of_family = || addrs.iter().filter(|ip| ip.is_ipv4() == wanted.is_ipv4());
    let ip = of_family().find(|ip| !is_link_local(ip)).or_else(|| of_family().next());
    let none = || {
        let family = if wanted.is_ipv4() { "IPv4" } else { "IPv6" };
        let text = format!("network interface {name} has no {family} address");
        io::Error::new(io::ErrorKind::AddrNotAvailable, text)
    };
    Ok(SocketAddr::new(*ip.ok_or_else(none)?, wanted.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_and_nonsense_is_none() {
        assert!(interface_addrs("lo").expect("there").contains(&IpAddr::from([127, 0, 0, 1])));
        let error = interface_addrs("nonsense0").expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("nonsense0"), "{error}");
    }
}
