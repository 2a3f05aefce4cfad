//! Which addresses and names are of this machine or of its own network, and which are the world's.
//!
//! A torrent comes from a stranger, and the addresses in it are what the stranger wants us to ask. One of
//! this machine or its network may be a router's page or a service that trusts whoever reaches it; so a
//! torrent for the world may not send us there. [`may_be_local`] is the rule.

use std::net::IpAddr;

use crate::Reach;

/// Whether an address is of this machine or its own network, or is none that anyone could have.
pub fn is_local(ip: IpAddr) -> bool {
    Reach::of(ip) < Reach::Global
}

/// Whether a host, as a URL has it, is known to be the world's without looking it up: an address that is not
/// local, or a name with a dot in it that does not end as names of local networks do.
pub fn is_public_host(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return !is_local(ip);
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match name.rsplit_once('.') {
        // Numbers alone are an address in one of the odd ways to write one.
        Some((_, last)) => {
            let is_odd = last.chars().next().is_none_or(|first| first.is_ascii_digit());
            !is_odd && !LOCAL_ENDINGS.contains(&last) && !name.ends_with(".home.arpa")
        }
        None => false,
    }
}

/// The host of a URL of any scheme, without user and port; an IPv6 address without its brackets.
pub fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => place.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

/// Whether a torrent that names all of `urls` may have one of them lead to a local address: only if none of
/// the others is the world's. Who shares files within a network has a tracker and web seeds there, and nothing else.
pub fn may_be_local<'a>(url: &str, urls: impl IntoIterator<Item = &'a str>) -> bool {
    let host = host_of(url);
    urls.into_iter().map(host_of).all(|other| other == host || !other.is_some_and(is_public_host))
}

/// The last labels of names that are never the world's (RFC 6761, 6762, 9476, and what routers use).
const LOCAL_ENDINGS: [&str; 11] = [
    "local",
    "localhost",
    "localdomain",
    "lan",
    "home",
    "internal",
    "intranet",
    "corp",
    "private",
    "test",
    "invalid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_local_addresses() {
        for local in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::1",
        ] {
            assert!(is_local(local.parse().expect(local)), "{local}");
        }
        for public in [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "2001:4860::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(!is_local(public.parse().expect(public)), "{public}");
        }
    }

    #[test]
    fn knows_public_hosts() {
        for public in ["tracker.example.org", "8.8.8.8", "[2001:4860::1]", "a.b."] {
            assert!(is_public_host(public), "{public}");
        }
        for other in [
            "localhost",
            "nas",
            "nas.lan",
            "x.home.arpa",
            "10.0.0.1",
            "[::1]",
            "127.1",
            "0x7f.1",
            "",
            ".",
        ] {
            assert!(!is_public_host(other), "{other}");
        }
    }

    #[test]
    fn finds_the_host_of_a_url() {
        for (url, host) in [
            ("http://tracker.example:80/announce?x=@y", Some("tracker.example")),
            ("udp://[::1]:6969", Some("::1")),
            ("http://a:b@10.0.0.1:5/", Some("10.0.0.1")),
            ("http://10.0.0.1\\@tracker.example/", Some("10.0.0.1")),
            ("http:///x", None),
            ("tracker.example", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn a_torrent_for_the_world_may_not_lead_home() {
        let (home, world) = ("http://10.0.0.1/announce", "udp://tracker.example.org:80");
        assert!(may_be_local(home, [home]));
        assert!(may_be_local(home, [home, "http://nas.lan/announce", "http://10.0.0.1/x"]));
        assert!(!may_be_local(home, [home, world]));
        assert!(may_be_local(world, [world, home]), "perhaps a name of one's own network");
        assert!(!may_be_local(world, [world, "http://other.example.org/announce"]));
    }
}
