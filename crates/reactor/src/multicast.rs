//! Groups of listeners on the networks that this machine is on: which networks those are, and joining a group.

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::Socket;

/// One address of this machine on a network where there may be groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What the network interface is called.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The address; an interface may have several.
    pub addr: IpAddr,
}

/// A group to join, for a datagram socket that is bound to its address. What is sent to a group goes out of the same
/// interface, and to listeners on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// The address of the group.
    pub group: IpAddr,
    /// On which network; of the group's family.
    pub interface: Interface,
}

/// The addresses of this machine on networks that are up and know groups. The loopback is not among them.
pub(crate) fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    for at in getifaddrs()? {
        let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST;
        let storage = at.address.as_ref();
        let v4 = storage.and_then(|storage| storage.as_sockaddr_in());
        let v6 = storage.and_then(|storage| storage.as_sockaddr_in6());
        let v4 = v4.map(|addr| IpAddr::V4(*SocketAddrV4::from(*addr).ip()));
        let v6 = v6.map(|addr| IpAddr::V6(*SocketAddrV6::from(*addr).ip()));
        if at.flags.contains(wanted)
            && !at.flags.contains(InterfaceFlags::IFF_LOOPBACK)
            && let Some(addr) = v4.or(v6)
        {
            // It may have gone meanwhile.
            let Ok(index) = if_nametoindex(at.interface_name.as_str()) else { continue };
            found.push(Interface { name: at.interface_name, index, addr });
        }
    }
    Ok(found)
}

/// Has a socket hear what is sent to a group on one network, and nothing of other networks.
pub(crate) fn join(socket: &Socket, Multicast { group, interface }: &Multicast) -> io::Result<()> {
    match (group, interface.addr) {
        (IpAddr::V4(group), IpAddr::V4(addr)) => {
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4(group, &addr)?;
            socket.set_multicast_if_v4(&addr)
        }
        (IpAddr::V6(group), IpAddr::V6(_)) => {
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(group, interface.index)?;
            socket.set_multicast_if_v6(interface.index)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a group of one family and an address of another",
        )),
    }
}
