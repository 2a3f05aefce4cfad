//! The router that leads from here to the world, as the system's tables of routes have it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::net::if_::if_nametoindex;
use reactor::interface_addrs;
use torrent::Reach;

/// A router, and the address of ours that it knows us by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) addr: IpAddr,
    pub(crate) ours: IpAddr,
    /// The number of the network interface that it is on, if it was found by IPv6: its address may mean nothing
    /// on another.
    pub(crate) link: Option<u32>,
}

impl Gateway {
    /// The one of the default route over IPv4, on an interface if one is given. A few system calls, and
    /// nothing is sent.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find_v4(interface: Option<&str>) -> io::Result<Self> {
        let table = fs::read_to_string("/proc/net/route")?;
        Self::at(default_gateway(&table, interface).ok_or_else(no_route)?)
    }

    /// The same over IPv6; our address is the one that we have in the world.
    ///
    /// # Errors
    /// If there is no router, or we have no such address.
    pub(crate) fn find_v6(interface: Option<&str>) -> io::Result<Self> {
        let table = fs::read_to_string("/proc/net/ipv6_route")?;
        let (addr, name) = default_gateway_v6(&table, interface).ok_or_else(no_route)?;
        let ours = way_to((A_PLACE_IN_THE_WORLD, PORT_OF_NAT_PMP).into())?;
        // By the system's choice it may be one of another interface.
        let of_it = interface_addrs(name)?;
        let is_global = |ip: &IpAddr| ip.is_ipv6() && Reach::of(*ip) == Reach::Global;
        let ours = Some(ours).filter(|ours| of_it.contains(ours)).or_else(|| {
            // Of what the interface has the first is as good as any.
            of_it.iter().copied().find(is_global)
        });
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of the world");
        let ours = ours.filter(is_global).ok_or_else(none)?;
        Ok(Self { addr: addr.into(), ours, link: Some(if_nametoindex(name)?) })
    }

    /// The one at this address.
    ///
    /// # Errors
    /// If there is no way there.
    pub(crate) fn at(addr: Ipv4Addr) -> io::Result<Self> {
        let ours = way_to((addr, PORT_OF_NAT_PMP).into())?;
        Ok(Self { addr: addr.into(), ours, link: None })
    }
}

fn no_route() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no router: there is no default route")
}

/// The address that we have on the way to another.
fn way_to(there: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A datagram socket that is connected has chosen its address.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(there)?;
    Ok(socket.local_addr()?.ip())
}

/// Reads the table of routes as Linux writes it: the gateway of the default route with the lowest metric.
fn default_gateway(table: &str, interface: Option<&str>) -> Option<Ipv4Addr> {
    let route = |line: &str| -> Option<(u32, Ipv4Addr)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, target, gateway, flags, _, _, metric, mask, ..] = &fields[..] else {
            return None;
        };
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let is_default = hex(target)? == 0 && hex(mask)? == 0;
        let is_on_it = interface.is_none_or(|wanted| wanted == name);
        let leads_on = hex(flags)? & (UP | GATEWAY) == UP | GATEWAY;
        // The number stands in memory as the address does on the wire.
        let addr = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
        (is_default && is_on_it && leads_on).then_some((metric.parse().ok()?, addr))
    };
    table.lines().filter_map(route).min().map(|(_, addr)| addr)
}

/// Reads the table of IPv6: the same, and the interface that the gateway is on.
fn default_gateway_v6<'a>(table: &'a str, interface: Option<&str>) -> Option<(Ipv6Addr, &'a str)> {
    let route = |line: &'a str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[target, target_len, _, _, gateway, metric, _, _, flags, name, ..] = &fields[..]
        else {
            return None;
        };
        let address = |text| u128::from_str_radix(text, 16).ok();
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let is_default = address(target)? == 0 && hex(target_len)? == 0;
        let is_on_it = interface.is_none_or(|wanted| wanted == name);
        let leads_on = hex(flags)? & (UP | GATEWAY) == UP | GATEWAY;
        let addr = Ipv6Addr::from_bits(address(gateway)?);
        (is_default && is_on_it && leads_on).then_some((hex(metric)?, addr, name))
    };
    table.lines().filter_map(route).min().map(|(_, addr, name)| (addr, name))
}

/// Nothing is sent there.
const A_PLACE_IN_THE_WORLD: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
const PORT_OF_NAT_PMP: u16 = 5351;
const UP: u32 = 1;
const GATEWAY: u32 = 2;

#[cfg(test)]
mod tests {
    use torrent::Rng;

    use super::*;

    #[cfg(target_endian = "little")]
    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n\
        eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn finds_the_gateway_of_the_best_default_route() {
        assert_eq!(default_gateway(TABLE, None), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(default_gateway(TABLE, Some("wlan0")), Some(Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!(default_gateway(TABLE, Some("tun0")), None);
        assert_eq!(default_gateway("", None), None);
    }

    #[test]
    fn finds_the_gateway_of_ipv6_and_its_interface() {
        let zeros = "0".repeat(32);
        let line = |gateway: &str, metric, flags, name| {
            format!("{zeros} 00 {zeros} 00 {gateway} {metric} 00000001 00000000 {flags} {name}\n")
        };
        let near = format!("fe80{}01", "0".repeat(26));
        let table = [
            line(&near, "00000400", "00450003", "wlan0"),
            line(&near.replace("01", "02"), "00000064", "00450003", "eth0"),
            line(&zeros, "00000001", "00200200", "lo"),
        ]
        .concat();
        let found = default_gateway_v6(&table, None);
        assert_eq!(found, Some(("fe80::2".parse().expect("valid"), "eth0")));
        let found = default_gateway_v6(&table, Some("wlan0"));
        assert_eq!(found, Some(("fe80::1".parse().expect("valid"), "wlan0")));
        assert_eq!(default_gateway_v6(&table, Some("lo")), None);
    }

    #[test]
    fn survives_any_table() {
        for seed in 0..1000 {
            let mut noise = Rng::from_seed(seed);
            let letters = b"0123 \t\n\nAeth-\xc3";
            let table: Vec<u8> = (0..noise.u32() % 200)
                .map(|_| letters[noise.u32() as usize % letters.len()])
                .collect();
            let table = String::from_utf8_lossy(&table);
            default_gateway(&table, None);
            default_gateway_v6(&table, None);
        }
    }

    #[test]
    fn our_own_address_is_the_one_on_the_way_to_the_gateway() {
        let gateway = Gateway::at(Ipv4Addr::LOCALHOST).expect("always there");
        let loopback = Ipv4Addr::LOCALHOST.into();
        assert_eq!(gateway, Gateway { addr: loopback, ours: loopback, link: None });
    }
}
