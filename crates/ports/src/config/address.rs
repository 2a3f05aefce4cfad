//! Addresses as people write them in `binds` and `seeds`: `host:port`, `host port`, `host#port`, `[::1]:port`,
//! `*:port`, a port alone, or several with commas.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};

use super::Facts;

/// Where a node listens or is looked for: a host whose name is still to be looked up, and a port.
///
/// Shown as text that reads back as the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The machine.
    pub host: Host,
    /// The TCP port. 0 lets the system choose.
    pub port: u16,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// `*`: every address that this machine has for others.
    Any,
    /// A name, to be looked up.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

/// An address that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not have the form of one, or its port has a name that this machine does not know.
    #[error("{0}: unparsable transport descriptor")]
    Unparsable(String),
    /// A path.
    #[error("{0}: unparsable transport descriptor (nodes do not talk over Unix sockets)")]
    UnixPath(String),
    /// An address with an interface behind `%`, which would mean nothing to other nodes.
    #[error(
        "{0}: unparsable transport descriptor (addresses with a zone cannot be told to other nodes)"
    )]
    Zone(String),
    /// A hostile or broken list.
    #[error("more than {ENDPOINTS_MAX} addresses")]
    TooMany,
}

/// What an address is for, which decides the port that it has if none is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To listen on: 0, so that the system chooses.
    Bind,
    /// To find other nodes at: 4040.
    Seed,
}

impl Role {
    const fn default_port(self) -> u16 {
        match self {
            Self::Bind => 0,
            Self::Seed => SEED_PORT,
        }
    }
}

impl Endpoint {
    /// Reads addresses with commas between. The order is kept, and what is there already is dropped.
    ///
    /// Nothing, or a port alone, means this machine by its name.
    ///
    /// # Errors
    /// If one of them cannot be read, or there are more than [`ENDPOINTS_MAX`].
    pub fn parse_list(text: &str, role: Role, facts: &Facts) -> Result<Vec<Self>, AddressError> {
        let mut endpoints = Vec::new();
        add_list(&mut endpoints, text, role, facts)?;
        Ok(endpoints)
    }

    fn parse(text: &str, role: Role, facts: &Facts) -> Result<Self, AddressError> {
        let bad = || AddressError::Unparsable(text.chars().take(SHOWN_CHARS_MAX).collect());
        let (host, port) = match split(text.trim()) {
            Ok(parts) => parts,
            Err(Refused::Form) => return Err(bad()),
            Err(Refused::Path) => return Err(AddressError::UnixPath(text.into())),
            Err(Refused::Zone) => return Err(AddressError::Zone(text.into())),
        };
        let host = match host {
            None => host_named(&facts.nodename).ok_or_else(bad)?,
            Some(host) => host,
        };
        let port = match port {
            None | Some("*") => role.default_port(),
            Some(digits) if is_digits(digits) => digits.parse().map_err(|_too_large| bad())?,
            Some(name) => (facts.port_of_service)(name).ok_or_else(bad)?,
        };
        Ok(Self { host, port })
    }
}

/// Reads addresses with commas between behind those that are there.
pub(super) fn add_list(
    endpoints: &mut Vec<Endpoint>,
    text: &str,
    role: Role,
    facts: &Facts,
) -> Result<(), AddressError> {
    // As in Perl, commas at the end separate nothing.
    for element in text.trim_end_matches(',').split(',') {
        let endpoint = Endpoint::parse(element, role, facts)?;
        if !endpoints.contains(&endpoint) {
            if endpoints.len() == ENDPOINTS_MAX {
                return Err(AddressError::TooMany);
            }
            endpoints.push(endpoint);
        }
    }
    Ok(())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, "*:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

/// The port that the system's list of services has for a name over TCP.
pub(super) fn port_of_service(name: &str) -> Option<u16> {
    let mut text = String::new();
    let file = std::fs::File::open("/etc/services").ok()?;
    file.take(SERVICES_FILE_MAX).read_to_string(&mut text).ok()?;
    port_in_services(&text, name)
}

/// Lines are `name port/protocol alias… # comment`.
fn port_in_services(text: &str, name: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let official = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        (official == name || words.any(|alias| alias == name)).then(|| port.parse().ok())?
    })
}

enum Refused {
    Form,
    Path,
    Zone,
}

/// Cuts an address into host and port; no host means this machine.
fn split(text: &str) -> Result<(Option<Host>, Option<&str>), Refused> {
    if text.is_empty() {
        return Ok((None, None));
    }
    if is_digits(text) {
        return Ok((None, Some(text)));
    }
    if text.starts_with('/') {
        return Err(Refused::Path);
    }
    if text.contains('%') {
        return Err(Refused::Zone);
    }
    // An IPv6 address without brackets: what is behind it can only follow a space or '#'.
    let end = text.find(|c: char| c == '#' || c.is_whitespace()).unwrap_or(text.len());
    if let Some((ip, rest)) = text.split_at_checked(end)
        && let Ok(ip) = ip.parse::<Ipv6Addr>()
    {
        return Ok((Some(Host::Ip(ip.into())), port(rest)?));
    }
    let (name, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').ok_or(Refused::Form)?,
        None => text.split_at(
            text.find(|c: char| matches!(c, ':' | '#') || c.is_whitespace()).unwrap_or(text.len()),
        ),
    };
    let host = if name == "*" { Host::Any } else { host_named(name).ok_or(Refused::Form)? };
    Ok((Some(host), port(rest)?))
}

/// What follows the host: nothing, or `:`, `#` or space and one word.
fn port(rest: &str) -> Result<Option<&str>, Refused> {
    if rest.is_empty() {
        return Ok(None);
    }
    let word = rest.strip_prefix([':', '#']).unwrap_or_else(|| rest.trim_start());
    let is_word =
        !word.is_empty() && !word.contains(|c: char| matches!(c, ':' | '#') || c.is_whitespace());
    // Something must separate it: `[::1]80` is no address.
    if is_word && word.len() < rest.len() { Ok(Some(word)) } else { Err(Refused::Form) }
}

fn host_named(name: &str) -> Option<Host> {
    if let Ok(ip) = name.parse() {
        return Some(Host::Ip(ip));
    }
    let forbidden = |c: char| {
        matches!(c, ':' | '#' | '[' | ']' | '%' | ',' | '/' | '*')
            || c.is_whitespace()
            || c.is_control()
    };
    let fits = !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.contains(forbidden);
    fits.then(|| Host::Name(name.into()))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The most addresses in one list.
pub const ENDPOINTS_MAX: usize = 1000;
/// Where seeds listen if nothing else is said.
const SEED_PORT: u16 = 4040;
/// The longest name that the domain name system has.
const NAME_LEN_MAX: usize = 253;
/// More of an address than that is not repeated in an error.
const SHOWN_CHARS_MAX: usize = 100;
/// The rest of a longer list of services is not read.
const SERVICES_FILE_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_is_read() {
        for (text, seed) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("vm 80", "vm:80"),
            ("vm#80", "vm:80"),
            ("vm   80", "vm:80"),
            (" vm:80 ", "vm:80"),
            ("vm:http", "vm:80"),
            ("vm", "vm:4040"),
            ("vm:*", "vm:4040"),
            ("vm:0", "vm:0"),
            ("::1", "[::1]:4040"),
            ("::1 80", "[::1]:80"),
            ("::1#80", "[::1]:80"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:4040"),
            ("::1:80", "[::1:80]:4040"),
            ("[vm]:80", "vm:80"),
            ("*:80", "*:80"),
            ("*", "*:4040"),
            ("80", "here:80"),
            ("", "here:4040"),
            ("localhost,::1,localhost:4040", "localhost:4040,[::1]:4040"),
            ("80,81,80,", "here:80,here:81"),
            ("2001:db8::2,10.0.0.2", "[2001:db8::2]:4040,10.0.0.2:4040"),
            (",vm", "here:4040,vm:4040"),
        ] {
            assert_eq!(shown(&parse(text, Role::Seed).expect(text)), seed, "{text}");
        }
    }

    #[test]
    fn listeners_without_a_port_get_one_from_the_system() {
        for text in ["*", "*:*", "*:0"] {
            assert_eq!(shown(&parse(text, Role::Bind).expect(text)), "*:0", "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for text in [
            "1.2.3.4:",
            "a:b:c",
            "vm:nosuchservice",
            "vm:65536",
            "99999",
            "vm:+80",
            "vm:80:",
            "vm 80 81",
            "[::1]80",
            "[::1",
            "::1]",
            "[]",
            ":80",
            "#80",
            "a*b:80",
            "vm:\u{0}",
            "v/m:80",
            "[*:80",
            "vm:80#81",
        ] {
            let error = parse(text, Role::Seed).expect_err(text).to_string();
            assert_eq!(error, format!("{text}: unparsable transport descriptor"));
        }
        let zones = ["fe80::1%eth0", "fe80::1%eth0:80", "[fe80::1%eth0]:80"];
        for text in zones {
            assert_eq!(parse(text, Role::Bind), Err(AddressError::Zone(text.into())));
        }
        assert_eq!(parse("/run/node", Role::Bind), Err(AddressError::UnixPath("/run/node".into())));
        assert!(parse(&"x".repeat(254), Role::Bind).is_err());
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let ports: Vec<String> = (1..=1000).map(|port: u16| port.to_string()).collect();
        assert_eq!(parse(&ports.join(","), Role::Seed).map(|all| all.len()), Ok(1000));
        assert_eq!(
            parse(&format!("{},1001", ports.join(",")), Role::Seed),
            Err(AddressError::TooMany)
        );
    }

    #[test]
    fn noise_is_refused_or_reads_back_as_itself() {
        let alphabet: Vec<char> = "ab019:.#[]*%/, \téü\u{0}".chars().collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits")
        };
        for _ in 0..20_000 {
            let len = next() % 12;
            let text: String = (0..len).map(|_| alphabet[next() % alphabet.len()]).collect();
            if let Ok(endpoints) = parse(&text, Role::Seed) {
                assert_eq!(parse(&shown(&endpoints), Role::Bind), Ok(endpoints), "{text:?}");
            }
        }
    }

    #[test]
    fn ports_of_services_are_those_over_tcp_also_by_alias() {
        let text = "# list\nntp 123/udp\nhttp\t80/tcp  www # web\nbad\nodd x/tcp\n";
        assert_eq!(port_in_services(text, "http"), Some(80));
        assert_eq!(port_in_services(text, "www"), Some(80));
        for name in ["ntp", "web", "bad", "odd", "#"] {
            assert_eq!(port_in_services(text, name), None, "{name}");
        }
    }

    fn parse(text: &str, role: Role) -> Result<Vec<Endpoint>, AddressError> {
        Endpoint::parse_list(text, role, &Facts::for_tests())
    }

    fn shown(endpoints: &[Endpoint]) -> String {
        endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}
