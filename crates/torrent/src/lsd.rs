//! Finding peers on the same network without a tracker ([BEP 14]): each says by multicast which torrents it has.
//!
//! [`Announcement`] is one datagram; [`LocalAnnouncer`] knows which torrents to put into the next, and when.
//!
//! [BEP 14]: https://www.bittorrent.org/beps/bep_0014.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::InfoHash;

/// Where IPv4 hosts speak and listen.
pub const GROUP_V4: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 192, 152, 143), 6771);
/// Where IPv6 hosts do: site-local scope.
pub const GROUP_V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f), 6771);

/// What one datagram says: whoever sends it listens on a port and has some torrents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The port that it listens on.
    pub port: u16,
    /// Its torrents; at most [`HASHES_MAX`](Self::HASHES_MAX), none twice in a row.
    pub info_hashes: Vec<InfoHash>,
    /// What it knows its own datagrams by; at most 64 letters and digits.
    pub cookie: Option<String>,
}

impl Announcement {
    /// As many torrents as fit the 1,400 bytes that BEP 14 allows.
    pub const HASHES_MAX: usize = 25;

    /// The datagram to send to `group`.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for hash in &self.info_hashes {
            write!(text, "Infohash: {hash}\r\n").expect("a string takes all");
        }
        if let Some(cookie) = &self.cookie {
            write!(text, "cookie: {cookie}\r\n").expect("a string takes all");
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    /// Reads a datagram; `None` if it is none of ours, names no port, or names no torrent.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(datagram.get(..LEN_MAX.min(datagram.len()))?).ok()?;
        let mut lines = text.lines();
        if !lines.next()?.trim_end().eq_ignore_ascii_case("BT-SEARCH * HTTP/1.1") {
            return None;
        }
        let (mut port, mut cookie, mut info_hashes) = (None, None, Vec::new());
        for line in lines.take_while(|line| !line.trim().is_empty()) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "port" => port = value.parse().ok().filter(|port| *port != 0),
                "cookie" => cookie = Some(value).filter(|value| is_cookie(value)),
                "infohash" if info_hashes.len() < Self::HASHES_MAX => {
                    info_hashes.extend(value.parse::<InfoHash>().ok());
                }
                _ => {}
            }
        }
        info_hashes.dedup();
        if info_hashes.is_empty() {
            return None;
        }
        Some(Self { port: port?, info_hashes, cookie: cookie.map(str::to_owned) })
    }
}

fn is_cookie(value: &str) -> bool {
    (1..=COOKIE_LEN_MAX).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Which torrents are to be announced next on the local network: each at once when it begins and then every five
/// minutes, those that are due together in one datagram, and no datagram within a second of another.
#[derive(Clone, Debug)]
pub struct LocalAnnouncer {
    /// When each is due, the next first. An entry that differs from `due` is void.
    queue: VecDeque<(Instant, InfoHash)>,
    /// `None` for those that have never been announced.
    due: BTreeMap<InfoHash, Option<Instant>>,
    /// Those that have never been announced go first.
    fresh: VecDeque<InfoHash>,
    not_before: Instant,
}

impl LocalAnnouncer {
    /// Nothing to announce yet.
    pub const fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            due: BTreeMap::new(),
            fresh: VecDeque::new(),
            not_before: now,
        }
    }

    /// A torrent begins. Harmless if it has begun already.
    pub fn add(&mut self, info_hash: InfoHash) {
        if let Entry::Vacant(vacant) = self.due.entry(info_hash) {
            vacant.insert(None);
            self.fresh.push_back(info_hash);
        }
    }

    /// A torrent ends.
    pub fn remove(&mut self, info_hash: InfoHash) {
        self.due.remove(&info_hash);
        self.fresh.retain(|known| *known != info_hash);
    }

    /// When to call [`poll_output`](Self::poll_output), if there is anything to announce.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.fresh.is_empty() {
            return Some(self.not_before);
        }
        self.queue.front().map(|(at, _)| (*at).max(self.not_before))
    }

    /// The torrents for one datagram, if it is time; none twice.
    pub fn poll_output(&mut self, now: Instant) -> Option<Vec<InfoHash>> {
        if now < self.not_before {
            return None;
        }
        let mut hashes = Vec::new();
        while hashes.len() < Announcement::HASHES_MAX
            && let Some(hash) = self.next_due(now)
        {
            let again = now.checked_add(EVERY)?;
            self.due.insert(hash, Some(again));
            self.queue.push_back((again, hash));
            hashes.push(hash);
        }
        if hashes.is_empty() {
            return None;
        }
        self.not_before = now.checked_add(PACE)?;
        Some(hashes)
    }

    fn next_due(&mut self, now: Instant) -> Option<InfoHash> {
        if let Some(hash) = self.fresh.pop_front() {
            return Some(hash);
        }
        loop {
            let &(at, hash) = self.queue.front()?;
            let is_valid = self.due.get(&hash) == Some(&Some(at));
            if is_valid && at > now {
                return None;
            }
            self.queue.pop_front();
            if is_valid {
                return Some(hash);
            }
        }
    }
}

const LEN_MAX: usize = 1500;
const COOKIE_LEN_MAX: usize = 64;
const EVERY: Duration = Duration::from_secs(300);
const PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::swarm::tests::epoch;

    fn hash(number: u8) -> InfoHash {
        InfoHash([number; 20])
    }

    #[test]
    fn there_and_back_and_at_most_1400_bytes() {
        let full = Announcement {
            port: 65535,
            info_hashes: (0..25).map(hash).collect(),
            cookie: Some("0123abcd".to_owned()),
        };
        for group in [SocketAddr::from(GROUP_V4), SocketAddr::from(GROUP_V6)] {
            let datagram = full.encode(group);
            assert!(datagram.len() <= 1400, "{}", datagram.len());
            assert_eq!(Announcement::decode(&datagram), Some(full.clone()));
        }
    }

    #[test]
    fn looks_as_the_specification_has_it() {
        let announcement = Announcement { port: 6881, info_hashes: vec![hash(0xab)], cookie: None };
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {}\r\n\r\n\r\n",
            "ab".repeat(20)
        );
        assert_eq!(announcement.encode(GROUP_V4.into()), text.as_bytes());
        let v6 = String::from_utf8(announcement.encode(GROUP_V6.into())).expect("text");
        assert!(v6.contains("Host: [ff15::efc0:988f]:6771\r\n"), "{v6}");
    }

    #[test]
    fn what_others_send_is_read_and_what_makes_no_sense_is_not() {
        let hex = "AB".repeat(20);
        let read = |text: &str| Announcement::decode(text.as_bytes());
        let loose = format!(
            "bt-search * http/1.1\nINFOHASH:{hex}\nport: 1 \ninfohash: {hex}\ncookie: x y\nx\n\nPort: 2\n"
        );
        let announcement = Announcement { port: 1, info_hashes: vec![hash(0xab)], cookie: None };
        assert_eq!(read(&loose), Some(announcement));
        for bad in [
            "",
            "BT-SEARCH * HTTP/1.1",
            "M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: HEX\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: HEX\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: HEX\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nInfohash: HEX\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: HEXA\r\n\r\n",
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\nInfohash: HEX\r\n",
        ] {
            assert_eq!(read(&bad.replace("HEX", &hex)), None, "{bad}");
        }
        let many =
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n{}", "Infohash: HEX\r\n".repeat(100));
        assert!(read(&many.replace("HEX", &hex)).is_some_and(|read| read.info_hashes.len() <= 25));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = Announcement {
            port: 6881,
            info_hashes: vec![hash(1), hash(2)],
            cookie: Some("abc".to_owned()),
        }
        .encode(GROUP_V4.into());
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.clone();
            for _ in 0..=rng.below(6) {
                let at = rng.below(bytes.len());
                bytes[at] =
                    if rng.below(2) == 0 { valid[rng.below(valid.len())] } else { rng.u32() as u8 };
            }
            bytes.truncate(valid.len() - rng.below(40));
            if let Some(read) = Announcement::decode(&bytes) {
                assert_eq!(Announcement::decode(&read.encode(GROUP_V6.into())), Some(read));
            }
        }
    }

    #[test]
    fn what_is_due_together_goes_together_at_once_and_every_five_minutes() {
        let mut announcer = LocalAnnouncer::new(epoch());
        assert_eq!(announcer.poll_timeout(), None);
        (0..30).for_each(|number| announcer.add(hash(number)));
        announcer.add(hash(7));
        let mut sent = Vec::new();
        let mut now = epoch();
        while let Some(at) = announcer.poll_timeout().filter(|at| *at < epoch() + EVERY * 3) {
            now = now.max(at);
            if let Some(hashes) = announcer.poll_output(now) {
                sent.push(((now - epoch()).as_secs(), hashes.len()));
            }
        }
        let rounds = [(0, 25), (1, 5), (300, 25), (301, 5), (600, 25), (601, 5)];
        assert_eq!(sent, rounds);
    }

    #[test]
    fn what_has_ended_is_not_announced_and_what_begins_goes_first() {
        let mut announcer = LocalAnnouncer::new(epoch());
        announcer.add(hash(1));
        announcer.add(hash(2));
        announcer.remove(hash(1));
        assert_eq!(announcer.poll_output(epoch()), Some(vec![hash(2)]));
        assert_eq!(announcer.poll_output(epoch()), None);
        let later = epoch() + EVERY;
        announcer.add(hash(3));
        assert_eq!(announcer.poll_output(later), Some(vec![hash(3), hash(2)]));
        for number in [2, 3] {
            announcer.remove(hash(number));
        }
        announcer.add(hash(2));
        assert_eq!(announcer.poll_output(later + PACE), Some(vec![hash(2)]), "it began anew");
        let all = std::iter::from_fn(|| {
            let at = announcer.poll_timeout()?;
            Some(announcer.poll_output(at + EVERY)).flatten()
        });
        assert_eq!(all.take(3).flatten().filter(|of| *of == hash(3)).count(), 0);
    }
}
