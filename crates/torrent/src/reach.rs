//! How far an address reaches: whether it means the same to others as to us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be talked to, from the nearest to the farthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// From nowhere: it names no single host.
    Nowhere,
    /// From this machine.
    Loopback,
    /// From the same cable.
    Link,
    /// From the same private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// From everywhere.
    Global,
}

impl Reach {
    /// How far `ip` reaches. An IPv4 address is the same one inside IPv6, however it is carried there: mapped, for
    /// NAT64 (RFC 6052), or for 6to4 (RFC 3056).
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    const fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        match (a, b) {
            (0 | 224.., _) => Self::Nowhere,
            (127, _) => Self::Loopback,
            (169, 254) => Self::Link,
            (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) => Self::Private,
            _ => Self::Global,
        }
    }

    const fn of_v6(ip: Ipv6Addr) -> Self {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => return Self::Loopback,
            // Among them is `::`; the others, IPv4 once more, are out of use.
            [0, 0, 0, 0, 0, 0, ..] => return Self::Nowhere,
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                return Self::of_v4(Ipv4Addr::from_bits((high as u32) << 16 | low as u32));
            }
            _ => {}
        }
        if ip.is_multicast() {
            Self::Nowhere
        } else if ip.is_unicast_link_local() {
            Self::Link
        } else if ip.is_unique_local() {
            Self::Private
        } else {
            Self::Global
        }
    }

    /// Whether somebody at `teller` may know what is at `ip`: an address of a network that he is not in would lead
    /// us astray, into our own.
    pub fn is_credible(ip: IpAddr, teller: IpAddr) -> bool {
        let reach = Self::of(ip);
        reach != Self::Nowhere && reach >= Self::of(teller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_network_is_known_to_its_edges() {
        for (text, reach) in [
            ("0.0.0.0", Reach::Nowhere),
            ("0.1.2.3", Reach::Nowhere),
            ("224.0.0.1", Reach::Nowhere),
            ("240.0.0.1", Reach::Nowhere),
            ("255.255.255.255", Reach::Nowhere),
            ("127.255.0.1", Reach::Loopback),
            ("169.254.1.1", Reach::Link),
            ("169.253.1.1", Reach::Global),
            ("10.0.0.1", Reach::Private),
            ("11.0.0.1", Reach::Global),
            ("172.15.0.1", Reach::Global),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("172.32.0.1", Reach::Global),
            ("192.168.0.1", Reach::Private),
            ("192.167.0.1", Reach::Global),
            ("100.64.0.1", Reach::Private),
            ("100.128.0.1", Reach::Global),
            ("8.8.8.8", Reach::Global),
            ("::", Reach::Nowhere),
            ("ff02::1", Reach::Nowhere),
            ("::1", Reach::Loopback),
            ("fe80::1", Reach::Link),
            ("fd00::1", Reach::Private),
            ("2001:db8::1", Reach::Global),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("::ffff:10.0.0.1", Reach::Private),
            ("::127.0.0.1", Reach::Nowhere),
            ("64:ff9b::10.0.0.1", Reach::Private),
            ("64:ff9b::8.8.8.8", Reach::Global),
            ("2002:7f00:1::1", Reach::Loopback),
        ] {
            assert_eq!(Reach::of(ip(text)), reach, "{text}");
        }
    }

    #[test]
    fn whoever_is_far_away_is_not_believed_about_what_is_near() {
        let says = |teller, told| Reach::is_credible(ip(told), ip(teller));
        assert!(says("10.0.0.1", "192.168.0.1") && says("10.0.0.1", "8.8.8.8"));
        assert!(says("127.0.0.1", "127.0.0.1") && says("8.8.8.8", "2001:db8::1"));
        assert!(!says("8.8.8.8", "10.0.0.1") && !says("10.0.0.1", "127.0.0.1"));
        assert!(!says("127.0.0.1", "0.0.0.0") && !says("2001:db8::1", "fe80::1"));
    }
}
