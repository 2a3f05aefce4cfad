//! Finding peers through trackers ([BEP 3], [BEP 12], [BEP 15], [BEP 48]), and being one.
//!
//! - [`Announcer`]: when to ask which tracker of a torrent.
//! - [`http`]: URLs to ask, and answers. [`UdpTracker`]: the same by datagrams.
//! - [`server`]: the other side: who asks, and what to answer.
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
//! [BEP 12]: https://www.bittorrent.org/beps/bep_0012.html
//! [BEP 15]: https://www.bittorrent.org/beps/bep_0015.html
//! [BEP 48]: https://www.bittorrent.org/beps/bep_0048.html

mod announcer;
#[cfg(test)]
mod announcer_tests;
pub mod http;
pub mod server;
mod text;
mod tier;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use announcer::{Announcer, AnnouncerOutput, RequestId, TrackerState, TrackerStatus};
pub use udp::{TrackerRequest, UdpOutput, UdpTracker, UdpUrl};

use crate::{InfoHash, PeerId};

/// Why a tracker is told of us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// It is time again.
    #[default]
    None,
    /// We begin.
    Started,
    /// We end.
    Stopped,
    /// All is here now.
    Completed,
    /// It is time again, and we want nothing more although not everything is here: a partial seed (BEP 21).
    Paused,
}

/// What a tracker is told of encrypted connections, so that it may name peers that suit. Only over HTTP; most
/// trackers do nothing with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnouncedEncryption {
    /// Nothing.
    #[default]
    None,
    /// We take them: `supportcrypto=1`.
    Supported,
    /// We take no others: `requirecrypto=1` besides.
    Required,
}

/// What a tracker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our name.
    pub peer_id: PeerId,
    /// The port that we listen on.
    pub port: u16,
    /// Payload sent so far, in bytes.
    pub uploaded: u64,
    /// Payload received so far, in bytes.
    pub downloaded: u64,
    /// What is missing, in bytes.
    pub left: u64,
    /// Why.
    pub event: AnnounceEvent,
    /// How many addresses we want; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// A number that stays the same when our address changes.
    pub key: u32,
    /// What the tracker asked us to repeat.
    pub tracker_id: Option<Vec<u8>>,
    /// Whether peers may, or must, encrypt.
    pub encryption: AnnouncedEncryption,
}

/// What a tracker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// When to ask again.
    pub interval: Duration,
    /// When to ask again at the earliest.
    pub min_interval: Option<Duration>,
    /// How many peers have everything.
    pub complete: Option<u32>,
    /// How many do not.
    pub incomplete: Option<u32>,
    /// Where peers are; at most 2,000.
    pub peers: Vec<SocketAddr>,
    /// To be repeated next time.
    pub tracker_id: Option<Vec<u8>>,
    /// For people.
    pub warning: Option<String>,
    /// Our address, as it sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// What a tracker counts of one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// Peers that have everything.
    pub complete: u32,
    /// How often it was completed.
    pub downloaded: u32,
    /// Peers that do not have everything.
    pub incomplete: u32,
}

/// How a tracker lets us down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerFault {
    /// It says no, in these words.
    #[error("{0}")]
    Refused(String),
    /// Its answer makes no sense.
    #[error("its answer makes no sense")]
    Malformed,
    /// Its answer is longer than any honest one.
    #[error("its answer is too long")]
    TooLong,
    /// It does not answer.
    #[error("no answer")]
    Silent,
    /// It cannot be reached, in the system's words.
    #[error("{0}")]
    Unreachable(String),
    /// Its address is of a kind that we do not know.
    #[error("an address of this kind is not supported; http, https and udp are")]
    UnsupportedScheme,
    /// Its web server says no.
    #[error("the server answered {0}")]
    HttpStatus(u16),
}

/// Addresses taken from one answer.
const PEERS_MAX: usize = 2000;

/// Words from outside, safe to show: short, on one line, without control characters.
fn sanitised(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_LEN_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

const TEXT_LEN_MAX: usize = 200;
