//! What a session and a torrent may be told.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use torrent::PieceIndex;
use torrent::ip_filter::IpFilter;
use torrent::swarm::{ChokingTimers, SeedingPolicy, SelectorKind, Slots};

use crate::dht::DhtConfig;
use crate::encryption::Encryption;
use crate::event::EventSink;
use crate::filter::FilterFn;
use crate::nat::NatConfig;
use crate::network::NetworkConfig;
use crate::proxy::ProxyConfig;
use crate::schedule::ScheduledLimits;

/// How a [`Session`](crate::Session) behaves. The default suits a laptop: ports 6881 to 6999, no
/// limits on rates, nothing kept between runs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Where to listen.
    pub listen: ListenConfig,
    /// Where to keep what should outlast the process; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// Remember the torrents themselves in the state directory, as they were added, and begin with
    /// those of the session before. Those that were removed are forgotten. What changes is written down
    /// within a tenth of a second or so, and in any case by [`shutdown`](crate::Session::shutdown).
    pub restore: bool,
    /// What all torrents together may use.
    pub limits: SessionLimits,
    /// Other limits on rates, by the hour: of those that hold the first counts. Default: none.
    pub schedule: Vec<ScheduledLimits>,
    /// What trackers and peers are told that we are. Default: `Flotilla/` and the version.
    pub user_agent: String,
    /// Files that may be open at once, of all torrents. Default: 128.
    pub open_files_max: usize,
    /// Threads for reading and writing what peers send and ask for, for each disk; 0 counts as 1. Default: 2.
    pub disk_threads: usize,
    /// How what is on disk is checked.
    pub check: CheckSettings,
    /// Addresses that are not talked to, as peers or as trackers.
    pub ip_filter: IpFilter,
    /// Asked before a peer is dialled, when one comes, and before a tracker is asked, whether that may be.
    pub on_filter: Option<FilterFn>,
    /// Which way everything goes, and how much of us is told.
    pub network: NetworkConfig,
    /// Whether the router is asked to let peers in.
    pub nat: NatConfig,
    /// What to go through, if anything. Default: straight.
    pub proxy: Option<ProxyConfig>,
    /// Whether connections to peers are encrypted. Default: where a peer wants it.
    pub encryption: Encryption,
    /// Connections to peers over TCP. Default: yes.
    pub tcp: bool,
    /// Connections to peers over uTP (BEP 29), which give way to everything else on the line. With TCP as well,
    /// peers on the internet are dialled by uTP first and those on the local network by TCP; each by the
    /// other if that leads nowhere, and from then on by what did. Default: yes.
    pub utp: bool,
    /// Have peers tell of each other (BEP 11), and meet through each other (BEP 55). Never of private torrents.
    /// Default: yes.
    pub exchange: bool,
    /// Look for peers on the local network (BEP 14). Never for private torrents. Default: yes.
    pub lsd: bool,
    /// How peers are found without trackers (BEP 5).
    pub dht: DhtConfig,
    /// Where to tell what happens, from before the session listens on.
    pub events: Option<EventSink>,
    /// When it is decided which peers are served. Default: every 10 seconds.
    pub choking: ChokingTimers,
    /// Fixes every random choice; for tests.
    pub seed: Option<u64>,
}

/// Where to listen for peers.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// The first port of these that is free is used, for TCP and UDP: range by range, in order. 0 lets the
    /// system choose. Default: 6881 to 6999.
    pub ports: Vec<RangeInclusive<u16>>,
    /// The one address to use for everything; `None` is every address, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
}

/// What all torrents together may use.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Bytes per second from peers; `None`, the default, is no limit.
    pub download: Option<u64>,
    /// Bytes per second to peers; `None`, the default, is no limit.
    pub upload: Option<u64>,
    /// Whether these two hold for peers in the local network, too: private and link-local addresses, this
    /// machine, and the networks of its interfaces. Default: no.
    pub local_too: bool,
    /// Connections to peers. Default: 500.
    pub connections_max: usize,
    /// Connections to peers of one torrent. Default: 200.
    pub connections_per_torrent_max: usize,
    /// Connections that one address may open to us. Default: 50, since many may live behind one address.
    pub connections_per_host_max: usize,
    /// Connections that are being opened. Default: 50.
    pub half_open_max: usize,
    /// How long a peer may take to shake hands, from the opening of its connection on. Default: 30 seconds.
    pub handshake_patience: Duration,
    /// Peers served at once, per torrent; `None`, the default, follows the capacity: 4 to 64.
    pub upload_slots: Option<usize>,
    /// Bytes of received blocks in memory before reading from peers stops. Default: 24 MiB.
    pub memory_max: u64,
}

/// How to treat one torrent. The default wants all of it, and starts at once.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// The folder that its files go to. Default: the working directory.
    pub dir: PathBuf,
    /// A priority for each file: 0 leaves it out, 1 is low, 4 is usual, 7 is high. Empty: all 4.
    pub priorities: Vec<u8>,
    /// How to choose pieces: the rarest first, unless said otherwise. See also
    /// [`Torrent::set_selector`](crate::Torrent::set_selector).
    pub selector: SelectorKind,
    /// Hash what is on disk first, whatever was remembered.
    pub check: bool,
    /// What [`Torrent::save_resume_data`](crate::Torrent::save_resume_data) wrote in an earlier run: what is here, what was
    /// sent and received, where peers were, and the priorities if none are given here. Files that look
    /// otherwise than then are hashed; if the file is missing or of no use, all are.
    pub resume_file: Option<PathBuf>,
    /// Reserve all space at once, rather than let the files grow.
    pub preallocate: bool,
    /// Peers to try first.
    pub peers: Vec<SocketAddr>,
    /// Hash everything that is on disk first, whatever was remembered, and then start even if
    /// `is_stopped` is set.
    pub start_after_check: bool,
    /// Do nothing, once it is known what is on disk, until it is started.
    pub is_stopped: bool,
    /// Connect to peers, and move no data until it is started.
    pub is_paused: bool,
    /// What to do when the metadata of a torrent that a magnet link names has come.
    pub when_known: WhenKnown,
    /// Once everything is here, show each peer a piece at a time, and the next once that is seen elsewhere: the first
    /// seed of a torrent sends little more than one copy (BEP 16). Where there are other seeds it only slows things
    /// down.
    pub super_seeding: bool,
    /// Bytes per second from peers of this torrent.
    pub download_limit: Option<u64>,
    /// Bytes per second to peers of this torrent.
    pub upload_limit: Option<u64>,
    /// Connections to peers of this torrent; `None` is as for any torrent.
    pub peers_max: Option<usize>,
    /// Peers of this torrent served at once; `None` is as for any torrent.
    pub upload_slots: Option<usize>,
    /// Announce to these rather than to the trackers that it names; tiers as in BEP 12.
    pub trackers: Option<Vec<Vec<String>>>,
    /// Servers that have its files, beside those that it names (BEP 19). See
    /// [`Torrent::add_web_seed`](crate::Torrent::add_web_seed).
    pub web_seeds: Vec<String>,
}

/// What a torrent that a magnet link names does when its metadata is here. In each case it is looked at what is
/// on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenKnown {
    /// Downloads what is missing.
    #[default]
    GoOn,
    /// Pauses: its peers stay connected, so that nothing is lost if it is started then.
    Pause,
    /// Stops.
    Stop,
}

/// How what is on disk is checked, of all torrents together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Threads that hash at once, for each disk, beside two that wait for it; 0 counts as 1. Default: one for each core.
    pub threads: usize,
    /// Bytes per second that are read; `None`, the default, is no limit.
    pub rate: Option<u64>,
    /// Whether these threads give way to all others, for the processor and for the disk. Default: no.
    pub low_priority: bool,
}

impl Default for CheckSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { threads, rate: None, low_priority: false }
    }
}

/// How to check a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// The pieces to hash, in this order; what is known of others stays. `None`: all.
    pub pieces: Option<Vec<PieceIndex>>,
    /// Bytes per second that it may read; `None` is no limit but the session's.
    pub rate: Option<u64>,
    /// Its share beside other torrents that are being checked on the same disk. 0 is taken for 1.
    pub weight: u32,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { pieces: None, rate: None, weight: 1 }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            listen: ListenConfig { ports: vec![6881..=6999], bind: None },
            state_dir: None,
            restore: false,
            limits: SessionLimits::default(),
            schedule: Vec::new(),
            user_agent: concat!("Flotilla/", env!("CARGO_PKG_VERSION")).to_owned(),
            open_files_max: 128,
            disk_threads: 2,
            check: CheckSettings::default(),
            ip_filter: IpFilter::default(),
            on_filter: None,
            network: NetworkConfig::default(),
            nat: NatConfig::default(),
            proxy: None,
            encryption: Encryption::default(),
            tcp: true,
            utp: true,
            exchange: true,
            lsd: true,
            dht: DhtConfig::default(),
            events: None,
            choking: ChokingTimers::default(),
            seed: None,
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            download: None,
            upload: None,
            local_too: false,
            connections_max: 500,
            connections_per_torrent_max: 200,
            connections_per_host_max: 50,
            half_open_max: 50,
            handshake_patience: Duration::from_secs(30),
            upload_slots: None,
            memory_max: 24 * 1024 * 1024,
        }
    }
}

impl SessionLimits {
    /// How many peers a torrent serves at once, given its own wish.
    pub(crate) fn slots(&self, own: Option<usize>) -> Slots {
        own.or(self.upload_slots).map_or(Slots::Adaptive, Slots::Fixed)
    }
}

/// Whom to serve when all is here.
pub(crate) const SEEDING_POLICY: SeedingPolicy = SeedingPolicy::FastestFirst;
