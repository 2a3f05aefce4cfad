//! The machine's network interfaces: what `*` among addresses to listen on stands for.

use std::net::{IpAddr, Ipv4Addr};

use super::{Endpoint, Host};

/// One address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The name of the interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
}

/// Puts this machine's addresses in the place of each `*`: all that others can use, interface by interface,
/// IPv4 first. Loopback and link-local addresses are none of them; but a machine without a network has itself.
pub fn expand(endpoints: &[Endpoint], interfaces: &[InterfaceAddress]) -> Vec<Endpoint> {
    let mut expanded = Vec::new();
    let mut add = |endpoint: Endpoint| {
        if !expanded.contains(&endpoint) {
            expanded.push(endpoint);
        }
    };
    for endpoint in endpoints {
        match &endpoint.host {
            Host::Any => {
                let mut ips = addresses_for_others(interfaces);
                if ips.is_empty() {
                    ips.push(Ipv4Addr::LOCALHOST.into());
                }
                for ip in ips {
                    add(Endpoint { host: Host::Ip(ip), port: endpoint.port });
                }
            }
            Host::Name(_) | Host::Ip(_) => add(endpoint.clone()),
        }
    }
    expanded
}

fn addresses_for_others(interfaces: &[InterfaceAddress]) -> Vec<IpAddr> {
    let mut names: Vec<&str> = Vec::new();
    for at in interfaces {
        if !names.contains(&at.interface.as_str()) {
            names.push(&at.interface);
        }
    }
    let of = |name: &str, ipv4: bool| {
        interfaces
            .iter()
            .filter(|at| at.interface == name && at.address.is_ipv4() == ipv4)
            .map(|at| at.address)
            .filter(is_for_others)
            .collect::<Vec<_>>()
    };
    names.into_iter().flat_map(|name| [of(name, true), of(name, false)]).flatten().collect()
}

fn is_for_others(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        // Global unicast is 2000::/3, unique local fc00::/7.
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            first & 0xe000 == 0x2000 || first & 0xfe00 == 0xfc00
        }
    }
}

/// The addresses of this machine's network interfaces, in the order of the system.
///
/// # Errors
/// If the system does not tell them.
pub fn interface_addresses() -> std::io::Result<Vec<InterfaceAddress>> {
    let all = nix::ifaddrs::getifaddrs()?.filter_map(|at| {
        let storage = at.address?;
        let address = storage
            .as_sockaddr_in()
            .map(|v4| IpAddr::V4(v4.ip()))
            .or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some(InterfaceAddress { interface: at.interface_name, address })
    });
    Ok(all.take(INTERFACE_ADDRESSES_MAX).collect())
}

/// The rest of a longer list of interfaces is left out.
const INTERFACE_ADDRESSES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::super::{Facts, Role};
    use super::*;

    #[test]
    fn a_star_becomes_what_others_can_reach_interface_by_interface() {
        let all = [
            ("lo", "127.0.0.1"),
            ("eth0", "fe80::1"),
            ("eth0", "fd00::2"),
            ("eth1", "10.0.0.1"),
            ("eth0", "192.0.2.2"),
            ("lo", "::1"),
            ("eth1", "2001:db8::1"),
            ("eth1", "ff02::1"),
            ("eth1", "127.1.2.3"),
        ]
        .map(|(interface, ip)| InterfaceAddress {
            interface: interface.into(),
            address: ip.parse().expect("an address"),
        });
        let binds =
            Endpoint::parse_list("10.0.0.1:4040,*:4040,vm:1", Role::Bind, &Facts::for_tests())
                .expect("addresses");
        let expanded = "10.0.0.1:4040,192.0.2.2:4040,[fd00::2]:4040,[2001:db8::1]:4040,vm:1";
        let shown: Vec<String> = expand(&binds, &all).iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(","), expanded);
    }

    #[test]
    fn a_star_is_the_machine_itself_where_there_is_no_network() {
        let lo = InterfaceAddress { interface: "lo".into(), address: Ipv4Addr::LOCALHOST.into() };
        let binds = Endpoint::parse_list("*:4040", Role::Bind, &Facts::for_tests());
        let expanded = expand(&binds.expect("an address"), &[lo]);
        assert_eq!(expanded[0].to_string(), "127.0.0.1:4040");
    }

    #[test]
    fn this_machine_has_interfaces() {
        assert!(interface_addresses().is_ok());
    }
}
