//! A range of addresses and what is thought of it.

use std::fmt;
use std::net::IpAddr;

/// A range of addresses, both ends included. Printed, it is a line of an `ipfilter.dat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
    /// 0 is the worst of all; from [`LEVEL_BANNED_BELOW`] on nobody is banned.
    pub level: u8,
    /// For people.
    pub text: &'a str,
}

/// Rules of a level below this ban.
pub const LEVEL_BANNED_BELOW: u8 = 127;

/// Why a rule is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// One end is IPv4, the other IPv6.
    #[error("a range from an IPv4 address to an IPv6 address, or the other way round")]
    MixedFamilies,
    /// The first address is above the last.
    #[error("the range ends before it begins")]
    Reversed,
    /// There are four million rules already.
    #[error("more than four million rules")]
    TooMany,
}

impl Rule<'_> {
    /// Whether the rule holds the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        // Of addresses, every IPv4 one is less than any IPv6 one.
        self.first.to_canonical() <= ip && ip <= self.last.to_canonical()
    }

    /// Whether the rule bans what it holds.
    pub const fn is_ban(&self) -> bool {
        self.level < LEVEL_BANNED_BELOW
    }
}

impl fmt::Display for Rule<'_> {
    /// `001.002.003.004 - 005.006.007.008 , 000 , text`: every program can read it with the zeros, not
    /// every one without.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, level, text } = self;
        write!(f, "{} - {} , {level:03} , {}", Padded(*first), Padded(*last), OneLine(text))
    }
}

struct Padded(IpAddr);

impl fmt::Display for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                write!(f, "{a:03}.{b:03}.{c:03}.{d:03}")
            }
            IpAddr::V6(ip) => ip.fmt(f),
        }
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
    }
}
