//! The router that leads from here to the world, as the system's table of routes has it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// A router, and the address of ours that it knows us by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) addr: Ipv4Addr,
    pub(crate) ours: Ipv4Addr,
}

impl Gateway {
    /// The one of the default route over IPv4, on an interface if one is given. A few system calls, and
    /// nothing is sent.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find(interface: Option<&str>) -> io::Result<Self> {
        let table = fs::read_to_string("/proc/net/route")?;
        let none =
            || io::Error::new(io::ErrorKind::NotFound, "no router: there is no default route");
        Self::at(default_gateway(&table, interface).ok_or_else(none)?)
    }

    /// The one at this address.
    ///
    /// # Errors
    /// If there is no way there.
    pub(crate) fn at(addr: Ipv4Addr) -> io::Result<Self> {
        // A datagram socket that is connected has chosen its address.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((addr, PORT_OF_NAT_PMP))?;
        match socket.local_addr()? {
            SocketAddr::V4(ours) => Ok(Self { addr, ours: *ours.ip() }),
            SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
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

/// Whether an address is one that others cannot reach us by, so that a mapping is of use.
pub(crate) const fn is_behind_nat(ours: Ipv4Addr) -> bool {
    let [a, b, ..] = ours.octets();
    ours.is_private() || (a == 100 && b >= 64 && b < 128)
}

/// The address of a socket, if it is for all or for one of our own network.
pub(crate) fn is_mappable(bind: Option<IpAddr>) -> bool {
    match bind {
        None => true,
        Some(IpAddr::V4(ip)) => ip.is_unspecified() || is_behind_nat(ip),
        Some(IpAddr::V6(_)) => false,
    }
}

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
    fn survives_any_table() {
        for seed in 0..1000 {
            let mut noise = Rng::from_seed(seed);
            let letters = b"0123 \t\n\nAeth-\xc3";
            let table: Vec<u8> = (0..noise.u32() % 200)
                .map(|_| letters[noise.u32() as usize % letters.len()])
                .collect();
            default_gateway(&String::from_utf8_lossy(&table), None);
        }
    }

    #[test]
    fn our_own_address_is_the_one_on_the_way_to_the_gateway() {
        let loopback = Ipv4Addr::LOCALHOST;
        let gateway = Gateway::at(loopback).expect("always there");
        assert_eq!(gateway, Gateway { addr: loopback, ours: loopback });
        assert!(!is_behind_nat(loopback) && is_behind_nat(Ipv4Addr::new(100, 64, 0, 1)));
    }
}
