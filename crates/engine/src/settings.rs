//! What a session and a torrent may be told.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use torrent::swarm::{SeedingPolicy, Slots};

/// How a [`Session`](crate::Session) behaves. The default suits a laptop: ports 6881 to 6999, no
/// limits on rates, nothing kept between runs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Where to listen.
    pub listen: ListenConfig,
    /// Where to keep what should outlast the process; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// What all torrents together may use.
    pub limits: SessionLimits,
    /// What trackers and peers are told that we are.
    pub user_agent: String,
    /// Files that may be open at once, of all torrents.
    pub open_files_max: usize,
    /// Threads for reading, writing and hashing.
    pub disk_threads: usize,
    /// Fixes every random choice; for tests.
    pub seed: Option<u64>,
}

/// Where to listen for peers.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// The first port of these that is free is used, for TCP and UDP. 0 lets the system choose.
    pub ports: RangeInclusive<u16>,
    /// The one address to use for everything; `None` is every address, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
}

/// What all torrents together may use.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Bytes per second from peers; `None` is no limit.
    pub download: Option<u64>,
    /// Bytes per second to peers; `None` is no limit.
    pub upload: Option<u64>,
    /// Connections to peers.
    pub connections_max: usize,
    /// Connections to peers of one torrent.
    pub connections_per_torrent_max: usize,
    /// Connections that one address may open to us.
    pub connections_per_host_max: usize,
    /// Connections that are being opened.
    pub half_open_max: usize,
    /// Peers served at once, per torrent; `None` follows the capacity.
    pub upload_slots: Option<usize>,
    /// Bytes of received blocks in memory before reading from peers stops.
    pub memory_max: u64,
}

/// How to treat one torrent.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// The folder that its files go to.
    pub dir: PathBuf,
    /// A priority for each file: 0 leaves it out, 1 is low, 4 is usual, 7 is high. Empty: all 4.
    pub priorities: Vec<u8>,
    /// Take pieces in order, rather than the rarest first.
    pub is_sequential: bool,
    /// Hash what is on disk first, whatever was remembered.
    pub check: bool,
    /// Reserve all space at once, rather than let the files grow.
    pub preallocate: bool,
    /// Peers to try first.
    pub peers: Vec<SocketAddr>,
    /// Do nothing until it is resumed.
    pub is_paused: bool,
    /// Bytes per second from peers of this torrent.
    pub download_limit: Option<u64>,
    /// Bytes per second to peers of this torrent.
    pub upload_limit: Option<u64>,
    /// Announce to these rather than to the trackers that it names; tiers as in BEP 12.
    pub trackers: Option<Vec<Vec<String>>>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            listen: ListenConfig { ports: 6881..=6999, bind: None },
            state_dir: None,
            limits: SessionLimits::default(),
            user_agent: concat!("Flotilla/", env!("CARGO_PKG_VERSION")).to_owned(),
            open_files_max: 128,
            disk_threads: 2,
            seed: None,
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            download: None,
            upload: None,
            connections_max: 500,
            connections_per_torrent_max: 200,
            connections_per_host_max: 50,
            half_open_max: 50,
            upload_slots: None,
            memory_max: 24 * 1024 * 1024,
        }
    }
}

impl SessionLimits {
    pub(crate) fn slots(&self) -> Slots {
        self.upload_slots.map_or(Slots::Adaptive, Slots::Fixed)
    }
}

/// Whom to serve when all is here.
pub(crate) const SEEDING_POLICY: SeedingPolicy = SeedingPolicy::FastestFirst;
