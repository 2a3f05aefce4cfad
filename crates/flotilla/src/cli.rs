//! Commands and options, as people type them.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use engine::ScheduledLimits;
use torrent::metainfo::create::Format;

use engine::Encryption;

use torrent::InfoHash;

use crate::values::{
    Ports, duration, encryption, host_port, http_url, interval, listen_addr, piece_len, ports,
    ratio, schedule, size, tracker_tier,
};

/// Moves big files between machines with BitTorrent.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, styles = STYLES, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted before it was done."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Tell more of what happens, on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    pub(crate) verbose: u8,
    /// Options as a TOML file, by their long names [default: ~/.config/flotilla/config.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, display_order = 901)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Get),
    Seed(Seed),
    Create(Create),
    Show(Show),
    Verify(Verify),
    Tracker(Tracker),
    Dht(Dht),
    Demo(Demo),
    Completions(Completions),
    Man(Man),
}

/// Download torrents.
///
/// Ends when everything is there, or goes on to seed if told so. What was fetched before is not
/// fetched again: not after Ctrl-C, not after a crash.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// A torrent file, the http or https address of one, a magnet link or an info hash; several at once. `-` is
    /// standard input: a torrent file, or a list of all these, one a line
    #[arg(required = true, value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    pub(crate) sources: Vec<String>,
    /// The folder to download to
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Download only files whose path, or the end of it, matches; `*` also matches `/`. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Leave out files or folders that match. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Download from the beginning to the end, rather than what is rarest first
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Go on to seed until interrupted
    #[arg(long, conflicts_with_all = ["ratio", "seed_time"])]
    pub(crate) seed: bool,
    /// Go on to seed until this ratio of bytes given to bytes of the torrent: 1.0 is one copy
    #[arg(long, value_name = "R", value_parser = ratio, allow_negative_numbers = true)]
    pub(crate) ratio: Option<f64>,
    /// Go on to seed for so long: 90s, 30m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) seed_time: Option<Duration>,
    /// Hash what is on disk first, whatever is remembered of it
    #[arg(long)]
    pub(crate) check: bool,
    /// Reserve the space of all files at once, rather than let them grow
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// A peer to try first. May be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", value_parser = host_port)]
    pub(crate) peers: Vec<String>,
    /// Save the torrent files of magnet links to this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) save_torrent: Option<PathBuf>,
    /// A tracker to ask, beside those that the torrent names, unless it is private and names some. Each is a tier of
    /// its own; URLs joined by commas share a tier. May be repeated
    #[arg(long = "tracker", value_name = "URL[,URL]", value_parser = tracker_tier, help_heading = "Finding peers")]
    pub(crate) trackers: Vec<Vec<String>>,
    /// A web server that has the files, beside those that the torrent names (BEP 19). May be repeated
    #[arg(long = "web-seed", value_name = "URL", value_parser = http_url, help_heading = "Finding peers")]
    pub(crate) web_seeds: Vec<String>,
    /// Overwrite files that are there already and are not what the torrent says
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Download at most so many bytes per second: 500K, 5MiB (of 1024 each)
    #[arg(long, value_name = "RATE", value_parser = size, allow_negative_numbers = true, help_heading = "Limits")]
    pub(crate) limit_down: Option<u64>,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Serve files that are here.
///
/// The data is checked first, unless it was checked before and has not changed. Goes on until
/// interrupted.
#[derive(Debug, Args)]
pub(crate) struct Seed {
    /// The file or folder of a torrent, or the folder that it lies in
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// The torrent file; `-` is standard input. May be repeated; the data of each is looked for at every PATH
    #[arg(short, long = "torrent", required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) torrents: Vec<PathBuf>,
    /// Hash all data first, whatever is remembered of it
    #[arg(long)]
    pub(crate) check: bool,
    /// Send little more than one copy, as the first seed: show each peer a piece, and the next once others have it
    #[arg(long)]
    pub(crate) super_seeding: bool,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// What `get` and `seed` have in common.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network and state")]
pub(crate) struct Network {
    /// The port to listen on, or ranges joined by commas of which the first free one is taken
    #[arg(short, long, value_name = "PORT[-PORT],...", value_parser = ports, default_value = "6881-6999")]
    pub(crate) port: Ports,
    /// Upload at most so many bytes per second: 500K, 5MiB (of 1024 each)
    #[arg(long, value_name = "RATE", value_parser = size, allow_negative_numbers = true, help_heading = "Limits")]
    pub(crate) limit_up: Option<u64>,
    /// Hold peers in the local network to the limits, too
    #[arg(long, help_heading = "Limits")]
    pub(crate) limit_local: bool,
    /// Other limits by the hour, as in "mon-fri 08:00-18:00 down=1M up=200K", or `up=none`. May be repeated;
    /// the first that holds counts
    #[arg(long, value_name = "HOURS", value_parser = schedule, help_heading = "Limits")]
    pub(crate) schedule: Vec<ScheduledLimits>,
    /// Read at most so many bytes per second to check what is on disk
    #[arg(long, value_name = "RATE", value_parser = size, allow_negative_numbers = true, help_heading = "Limits")]
    pub(crate) check_rate: Option<u64>,
    /// Have checks give way to other programs, for the processor and for the disk
    #[arg(long, help_heading = "Limits")]
    pub(crate) low_priority: bool,
    /// Connections at most, of all torrents together
    #[arg(long, help_heading = "Limits", value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_peers: u16,
    /// Peers served at once, per torrent; without it, as many as the line can feed
    #[arg(long, help_heading = "Limits", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) upload_slots: Option<u16>,
    /// Where to remember what was verified [default: ~/.local/state/flotilla]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "no_state")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Remember nothing
    #[arg(long)]
    pub(crate) no_state: bool,
    /// Print one JSON object per line for all that happens
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) peering: Peering,
    #[command(flatten)]
    pub(crate) ways: Ways,
}

/// How peers are found and talked to, by all commands that do.
#[derive(Debug, Args)]
pub(crate) struct Peering {
    /// Take no part in the distributed hash table (DHT)
    #[arg(long, help_heading = "Finding peers")]
    pub(crate) no_dht: bool,
    /// Begin with this node of the DHT, too. May be repeated
    #[arg(long = "dht-node", value_name = "HOST:PORT", help_heading = "Finding peers", value_parser = host_port)]
    pub(crate) dht_nodes: Vec<String>,
    /// Neither tell peers of each other nor hear of others from them
    #[arg(long, help_heading = "Finding peers")]
    pub(crate) no_pex: bool,
    /// Do not look for peers on the local network
    #[arg(long, help_heading = "Finding peers")]
    pub(crate) no_lsd: bool,
    /// Hide what connections to peers are for: where the peer wants it (`allowed`), knows it
    /// (`preferred`), or always
    #[arg(long, value_name = "WHEN", value_parser = encryption(), default_value = "allowed", help_heading = "Connections")]
    pub(crate) encryption: Encryption,
    /// What carries connections to peers: uTP gives way to everything else on the line
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Transport::Both, help_heading = "Connections")]
    pub(crate) transport: Transport,
}

/// Which way everything goes that asks the network for something.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Ways {
    /// The one address of this machine to use
    #[arg(long, value_name = "ADDR", global = true)]
    pub(crate) bind: Option<IpAddr>,
    /// Talk to no address that this list bans: an ipfilter.dat, or PeerGuardian's .p2p or .p2b
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, global = true)]
    pub(crate) ip_filter: Option<PathBuf>,
    /// Leave the router alone: do not ask it, by PCP, NAT-PMP or UPnP, to let peers in
    #[arg(long, global = true)]
    pub(crate) no_nat: bool,
    /// Use this network interface only, such as tun0
    ///
    /// But for looking up names: the system does that, by whichever interface leads to its name servers. A SOCKS5
    /// proxy looks names up itself.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) interface: Option<String>,
    /// Go through this proxy, and let nothing out beside it: `socks5://USER:PASSWORD@HOST:PORT` or `http://…`
    ///
    /// SOCKS5 carries datagrams as well, if the proxy supports UDP ASSOCIATE: for uTP, DHT and UDP trackers. HTTP
    /// carries none. Peers cannot connect to us. USER:PASSWORD may also stand in the environment, as
    /// FLOTILLA_PROXY_LOGIN, or all of it in the configuration file; neither is ever printed.
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) proxy: Option<String>,
    /// Do beside the proxy what it cannot do: listen for peers, find those of our own network, send datagrams
    #[arg(long, global = true)]
    pub(crate) proxy_loose: bool,
    /// Tell nobody which program this is and which port it listens on; look for nobody in our own network
    #[arg(long, global = true)]
    pub(crate) anonymous: bool,
    /// Ask trackers and web seeds of our own network even if the torrent names public ones, too
    #[arg(long, global = true)]
    pub(crate) allow_local: bool,
}

/// What carries connections to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP alone.
    Tcp,
    /// UTP alone.
    Utp,
    /// Either: uTP first on the internet, TCP first on the local network.
    Both,
}

/// Make a torrent file.
///
/// The same files and options give the same bytes, on any machine and with any number of threads.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The file or folder to share
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Where to write the torrent file; `-` is standard output [default: NAME.torrent in this folder]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the torrent file if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
    /// A tracker. Each is a tier of its own; URLs joined by commas share a tier. May be repeated
    #[arg(short, long = "tracker", value_name = "URL[,URL]", value_parser = tracker_tier)]
    pub(crate) trackers: Vec<Vec<String>>,
    /// The folder or file at this address has the same data (BEP 19). May be repeated
    #[arg(long = "web-seed", value_name = "URL", value_parser = http_url)]
    pub(crate) web_seeds: Vec<String>,
    /// Bytes per piece, a power of two: 256K, 1MiB [default: by the size of the files]
    #[arg(long, value_name = "SIZE", value_parser = piece_len)]
    pub(crate) piece_size: Option<u32>,
    /// Which versions of BitTorrent the torrent is of
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = TorrentFormat::V1)]
    pub(crate) format: TorrentFormat,
    /// Private: peers are found through the trackers only (BEP 27)
    #[arg(long)]
    pub(crate) private: bool,
    /// A comment, shown to people
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// A mark that makes the info hash another, as private trackers want
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// A torrent that shares files with this one, by its info hash (BEP 38). May be repeated
    #[arg(long, value_name = "HASH")]
    pub(crate) similar: Vec<InfoHash>,
    /// The name of a collection that it belongs to (BEP 38). May be repeated
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<String>,
    /// Where to ask for a newer torrent in its place (BEP 39)
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) update_url: Option<String>,
    /// The name that the torrent gives to its file or folder [default: that of PATH]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Take only files that match; `*` also matches `/`. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Leave out files that match. May be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Threads that hash [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// The versions of BitTorrent that a new torrent is of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TorrentFormat {
    /// Version 1: every program can read it
    V1,
    /// Version 2 (BEP 52): files are verified one by one, with SHA-256; some programs cannot read it
    V2,
    /// Both in one: the files are sorted, and to programs that know version 1 only there is padding between them
    Hybrid,
}

impl From<TorrentFormat> for Format {
    fn from(format: TorrentFormat) -> Self {
        match format {
            TorrentFormat::V1 => Self::V1,
            TorrentFormat::V2 => Self::V2,
            TorrentFormat::Hybrid => Self::Hybrid,
        }
    }
}

/// Tell what a torrent file or a magnet link says.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A torrent file, the http or https address of one, a magnet link or an info hash; `-` is standard input: a
    /// torrent file, or one of the others
    #[arg(value_name = "SOURCE", value_hint = ValueHint::FilePath)]
    pub(crate) source: String,
    /// Get what a magnet link names from peers, and tell what that says
    #[arg(long)]
    pub(crate) fetch: bool,
    /// Write what was got to a torrent file
    #[arg(long, value_name = "FILE", requires = "fetch", value_hint = ValueHint::FilePath)]
    pub(crate) save: Option<PathBuf>,
    /// A peer to ask first. May be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", requires = "fetch", value_parser = host_port)]
    pub(crate) peers: Vec<String>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask its trackers how many peers there are (BEP 48)
    #[arg(long)]
    pub(crate) scrape: bool,
    #[command(flatten)]
    pub(crate) peering: Peering,
    #[command(flatten)]
    pub(crate) ways: Ways,
}

/// Compare files on disk with a torrent.
///
/// Prints a line for each file that is damaged, missing or unreadable. Exit status 0: all is right; 1: it is not.
/// Damage is told by the piece: a torrent file has no hashes of less. Those who have one of version 2 can be asked.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The torrent file; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The file or folder of the torrent, or the folder that it lies in
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Threads that hash [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Ask peers which 16 KiB of a damaged piece are wrong, where the torrent is of version 2. Nothing is downloaded
    #[arg(long)]
    pub(crate) ask_peers: bool,
    /// A peer to ask first. May be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", requires = "ask_peers", value_parser = host_port)]
    pub(crate) peers: Vec<String>,
    /// How long to wait for their answers
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "60s", requires = "ask_peers")]
    pub(crate) patience: Duration,
    #[command(flatten)]
    pub(crate) peering: Peering,
    #[command(flatten)]
    pub(crate) ways: Ways,
}

/// How much `verify` and `create` leave to others of what they read from.
#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// Read at most so many bytes per second: 500K, 50MiB (of 1024 each)
    #[arg(long, value_name = "RATE", value_parser = size, allow_negative_numbers = true)]
    pub(crate) rate: Option<u64>,
    /// Give way to other programs, for the processor and for the disk
    #[arg(long)]
    pub(crate) low_priority: bool,
}

/// Run a tracker.
///
/// For a LAN or for tests: it knows every torrent that anyone announces, forgets peers that fall
/// silent, and keeps nothing on disk. Goes on until interrupted.
#[derive(Debug, Args)]
pub(crate) struct Tracker {
    /// Answer HTTP here; `/announce` and `/scrape` [default: port 6969, IPv4 and IPv6]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_addr)]
    pub(crate) http: Option<SocketAddr>,
    /// Answer UDP here [default: as HTTP, unless one of the two is given]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_addr)]
    pub(crate) udp: Option<SocketAddr>,
    /// How often peers are told to announce: 30s, 30m
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "30m")]
    pub(crate) interval: Duration,
}

/// Take part in the distributed hash table, or ask it.
///
/// Without a question: a node that helps others to find peers, until interrupted; what it knows is kept for the next
/// run. With one: the answer, and then it ends; it asks others meanwhile, and answers nobody.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network and state")]
pub(crate) struct Dht {
    #[command(subcommand)]
    pub(crate) question: Option<DhtQuestion>,
    /// The port to listen on, or ranges joined by commas of which the first free one is taken
    #[arg(short, long, value_name = "PORT[-PORT],...", value_parser = ports, default_value = "6881-6999", global = true)]
    pub(crate) port: Ports,
    /// A node to begin with, in place of those that all the world begins with. May be repeated
    #[arg(long, value_name = "HOST:PORT", global = true, value_parser = host_port)]
    pub(crate) boot: Vec<String>,
    /// Begin with nobody: wait for others
    #[arg(long, conflicts_with = "boot")]
    pub(crate) no_boot: bool,
    /// Ask others, and answer nobody (BEP 43)
    #[arg(long, global = true)]
    pub(crate) read_only: bool,
    /// Where to keep the nodes for the next run [default: ~/.local/state/flotilla]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "no_state", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Remember nothing
    #[arg(long, global = true)]
    pub(crate) no_state: bool,
    /// Print JSON, an object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) ways: Ways,
}

/// What the DHT can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum DhtQuestion {
    /// Who has a torrent? Prints addresses
    Peers {
        /// The 40 digits of its info hash
        info_hash: InfoHash,
        /// Say that this machine has it, too, for the next half hour: at PORT, or the one of --port
        #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true)]
        announce: Option<Option<NonZeroU16>>,
        /// And that it has all of it
        #[arg(long, requires = "announce")]
        seed: bool,
    },
    /// How many have a torrent? (BEP 33) Prints about how many, as far as nodes count them
    Scrape {
        /// The 40 digits of its info hash
        info_hash: InfoHash,
    },
    /// Which nodes are nearest to a place? Prints names and addresses
    Nodes {
        /// The 40 digits of the place [default: our own, a random one]
        target: Option<InfoHash>,
    },
    /// What is stored under a hash, or under a public key? (BEP 44) Prints the value: text as it is, the rest as bencode
    Get {
        /// The 40 digits of the hash, or the 64 of the key
        target: String,
        /// Which of the items of the key
        #[arg(long, default_value = "")]
        salt: String,
    },
    /// Store a value for two hours (BEP 44). Prints what to `get` it by
    Put {
        /// The text; at most 1,000 bytes, bencoded
        value: String,
        /// It is bencode already
        #[arg(long)]
        bencode: bool,
        /// Sign it with the secret key in this file, 64 hexadecimal digits: such an item can be replaced by the next
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: Option<PathBuf>,
        /// Which of the items of the key
        #[arg(long, default_value = "", requires = "key")]
        salt: String,
    },
    /// Which torrents do nodes know? (BEP 51) Prints info hashes
    Sample {
        /// Ask the nodes near this place [default: our own, a random one]
        target: Option<InfoHash>,
    },
}

/// See it work without a network.
///
/// A tracker, one seeder and three leechers exchange made-up data over loopback, in this process.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How much data
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256MiB")]
    pub(crate) size: u64,
    /// At most so many bytes per second from the seeder, so that there is something to watch
    #[arg(long, value_name = "RATE", value_parser = size, default_value = "64MiB")]
    pub(crate) limit_up: u64,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Print the man page, or write those of all commands to a folder.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write the pages to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());
