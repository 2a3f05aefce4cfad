//! What happens in a session, told to whoever subscribed.
//!
//! - [`EventKind`]: what may happen; [`EventMask`]: which of it a subscriber wants to hear.
//! - `subscribers`: who is told; [`Events`]: what waits for one of them, read by whatever thread has it.
//! - [`Subscription`]: a function that is called for each, on a thread of its own.
//! - [`Packet`]: one message of the peer wire, without a block's data.

mod callback;
mod mask;
mod packet;
mod queue;
mod subscribers;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use torrent::swarm::Direction;
use torrent::tracker::AnnounceEvent;
use torrent::wire::Reserved;
use torrent::{Bitfield, Block, InfoHash, PeerFault, PeerId, PieceIndex};

pub use callback::{SubscribeError, Subscription};
pub use mask::EventMask;
pub use packet::Packet;
pub use queue::Events;
pub use subscribers::EventSink;
pub(crate) use subscribers::{Publisher, Subscribers};

use crate::parting::DisconnectReason;
use crate::port_mapper::MappedPorts;
use crate::status::TorrentState;
use crate::status_word::StatusWord;

/// Something happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// To which torrent; `None` if it concerns none, or none is known yet.
    pub torrent: Option<InfoHash>,
    /// When it was told.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What may happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A torrent is in another state now.
    StateChanged(TorrentState),
    /// The same as a number.
    StatusChanged(StatusWord),
    /// The metadata of a torrent that a magnet link named is here: its handle has it.
    MetadataReceived,
    /// The metadata of a torrent that a magnet link named came from peers, and cannot be used. The torrent has
    /// failed.
    MetadataRefused(String),
    /// Everything that is wanted is here.
    Completed,
    /// The disk let us down; the torrent has stopped until it is started.
    DiskFailed(String),
    /// A file of resume data is not believed: what is on disk is hashed instead.
    ResumeRefused {
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Other limits on all torrents together hold from now on, in bytes per second: the schedule says so.
    LimitsChanged {
        /// On what peers send; `None` is no limit.
        download: Option<u64>,
        /// On what is sent to peers; `None` is no limit.
        upload: Option<u64>,
    },
    /// The subscriber was too slow: so many events between the one before this and the one after are lost.
    Lagged(u64),

    /// We listen here now.
    ListenSucceeded {
        /// The address, with the port that the system chose if it was to choose.
        addr: SocketAddr,
    },
    /// We cannot listen here; another port may be tried.
    ListenFailed {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        error: String,
    },

    /// Others see us at this address (BEP 24), as far as they agree: it is another than before.
    ExternalAddress {
        /// The address; there may be one of each family.
        ip: IpAddr,
    },

    /// Our node of the DHT has found its place in the network.
    DhtBootstrapped {
        /// Whether in that of IPv6.
        is_v6: bool,
        /// How many nodes it knows there.
        nodes: usize,
    },
    /// A torrent was searched for in the DHT, and announced.
    DhtAnswered {
        /// How many nodes answered.
        nodes: usize,
        /// How many peers they told of.
        peers: usize,
        /// How many nodes tell of us now.
        stored: usize,
    },

    /// None of the ports can be had: the session does not start.
    NotListening {
        /// What the system says of the last.
        error: String,
    },

    /// The router hands on to us what comes to these ports of its own.
    PortMapped {
        /// Our port.
        port: u16,
        /// The router's.
        ports: MappedPorts,
    },
    /// The router hands nothing on to us, or no more. It is asked again every ten minutes.
    PortNotMapped {
        /// Why.
        error: String,
    },
    /// The proxy is of no use. It is tried again later and later, once a minute in the end.
    ProxyFailed {
        /// The proxy, without user and password.
        proxy: String,
        /// Why, and what to do about it.
        error: String,
    },

    /// A piece is on disk, and its hash is right: it came from peers, or a check found it.
    PieceVerified(PieceIndex),
    /// A piece came from peers and its hash is wrong, or a check found it wrong, missing or unreadable. A
    /// check tells of each piece that it looks at, right or not, once.
    PieceFailed(PieceIndex),
    /// Whose blocks a piece was made of, told before the verdict on it.
    PieceSources {
        /// The piece.
        piece: PieceIndex,
        /// Whether its hash is right.
        is_good: bool,
        /// Those who sent it, each once.
        peers: Vec<IpAddr>,
    },

    /// A tracker is being asked: over HTTP a request begins, over UDP a datagram is sent.
    TrackerConnected {
        /// The tracker.
        url: String,
        /// What it is told; `None` for a scrape.
        event: Option<AnnounceEvent>,
    },
    /// The conversation with a tracker is over.
    TrackerDisconnected {
        /// The tracker.
        url: String,
    },
    /// A tracker sent something.
    TrackerRead {
        /// The tracker.
        url: String,
        /// So many bytes: a datagram, or the body of an answer over HTTP.
        len: usize,
    },
    /// A tracker was sent something.
    TrackerWritten {
        /// The tracker.
        url: String,
        /// So many bytes: a datagram, or the address that was asked for over HTTP.
        len: usize,
    },
    /// A tracker answered.
    TrackerAnswered {
        /// The tracker.
        url: String,
        /// How many addresses it gave.
        peers: usize,
        /// How many peers have everything, if it counts them.
        complete: Option<u32>,
        /// How many do not, if it counts them.
        incomplete: Option<u32>,
        /// When it wants to be asked again.
        interval: Duration,
    },
    /// A tracker answered, and has something to say to people.
    TrackerWarned {
        /// The tracker.
        url: String,
        /// In its words, made safe to show.
        warning: String,
    },
    /// A tracker did not help.
    TrackerFailed {
        /// The tracker.
        url: String,
        /// Why.
        error: String,
        /// How often it has failed since it last answered, with this time.
        times_in_row: u32,
        /// What its web server said, if it did not say 200.
        status_code: Option<u16>,
    },

    /// A web seed brings something, for the first time or after it had failed.
    WebSeedAnswered {
        /// Its address, as the torrent has it.
        url: String,
    },
    /// A web seed did not help.
    WebSeedFailed {
        /// Its address, as the torrent has it.
        url: String,
        /// Why.
        error: String,
        /// How often it has failed since it last helped, with this time.
        times_in_row: u32,
        /// What its web server said, if that was the trouble.
        status_code: Option<u16>,
        /// It is not asked again.
        is_dropped: bool,
    },

    /// A connection is open, and nobody has said anything yet.
    ConnectionOpened {
        /// The other end.
        addr: SocketAddr,
        /// Who dialled.
        direction: Direction,
    },
    /// A peer has shaken hands, and so have we.
    PeerConnected {
        /// Where it is.
        addr: SocketAddr,
        /// The name it gave itself.
        peer_id: PeerId,
        /// Who dialled.
        direction: Direction,
        /// What it says it can do.
        reserved: Reserved,
        /// Whether what it and we say is encrypted.
        is_encrypted: bool,
        /// Whether uTP carries it, rather than TCP.
        is_utp: bool,
    },
    /// A connection is over, or could not be opened.
    PeerDisconnected {
        /// Where it was.
        addr: SocketAddr,
        /// The name it gave itself, if it had shaken hands.
        peer_id: Option<PeerId>,
        /// Why.
        reason: DisconnectReason,
        /// Why, in words that say more.
        detail: String,
    },
    /// A peer broke the protocol; its connection is about to end.
    PeerFailed {
        /// Where it is.
        addr: SocketAddr,
        /// How.
        fault: PeerFault,
    },
    /// A peer asked for something that it may not ask for; its connection is about to end.
    InvalidRequest {
        /// Where it is.
        addr: SocketAddr,
        /// What it asked for.
        block: Block,
        /// What is wrong with that.
        fault: PeerFault,
    },
    /// A peer sent data that was proven wrong.
    PeerBanned {
        /// Its address, on any port.
        ip: IpAddr,
    },

    /// A peer said which pieces it has.
    PeerBitfield {
        /// Where it is.
        addr: SocketAddr,
        /// The pieces.
        pieces: Bitfield,
    },
    /// A peer has one piece more.
    PeerHas {
        /// Where it is.
        addr: SocketAddr,
        /// The piece.
        piece: PieceIndex,
    },

    /// A peer sent a message.
    PacketReceived {
        /// Where it is.
        addr: SocketAddr,
        /// The message.
        packet: Packet,
    },
    /// A peer is sent a message.
    PacketSent {
        /// Where it is.
        addr: SocketAddr,
        /// The message.
        packet: Packet,
    },

    /// Bytes came from a peer.
    PeerRead {
        /// Where it is.
        addr: SocketAddr,
        /// So many.
        len: usize,
    },
    /// Bytes are on their way to a peer: they wait for its socket.
    PeerWritten {
        /// Where it is.
        addr: SocketAddr,
        /// So many.
        len: usize,
    },

    /// A file was opened.
    FileOpened {
        /// Its number in the torrent.
        file: usize,
        /// Whether it may be written to.
        is_writable: bool,
    },
    /// A file was closed; whoever still uses it has it a little longer.
    FileClosed {
        /// Its number in the torrent.
        file: usize,
    },
    /// Bytes were read from a file.
    FileRead {
        /// Its number in the torrent.
        file: usize,
        /// So many.
        len: u64,
    },
    /// Bytes were written to a file.
    FileWritten {
        /// Its number in the torrent.
        file: usize,
        /// So many.
        len: u64,
    },
    /// Something is wrong with a file.
    FileFailed {
        /// Its number in the torrent.
        file: usize,
        /// Where it is.
        path: PathBuf,
        /// What, and what to do about it.
        error: String,
    },

    /// Somebody is not to be talked to: the filter has a rule, or the program's own function says no.
    IpFiltered {
        /// Who.
        addr: SocketAddr,
        /// What was about to happen.
        point: FilterPoint,
        /// The rule's text; `None` if it was the function.
        rule: Option<String>,
    },
}

/// Where an address is held against the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterPoint {
    /// A peer has come to us.
    Incoming,
    /// A peer is about to be dialled.
    Outgoing,
    /// A node of the DHT is about to be talked to.
    Dht,
    /// A tracker is about to be asked.
    Tracker,
    /// A web seed is about to be asked.
    WebSeed,
}

/// How much an event matters to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daily business of the wire and the disk.
    Debug,
    /// What people like to know.
    Info,
    /// Something did not work, and we go on without.
    Warning,
    /// Something that a person has to look after.
    Critical,
    /// The session cannot do its work.
    Fatal,
}

impl EventKind {
    /// What subscribers choose it by.
    pub const fn group(&self) -> EventMask {
        self.facts().0
    }

    /// How much it matters to people.
    pub const fn severity(&self) -> Severity {
        self.facts().1
    }

    /// Its name, for logs and scripts.
    pub const fn name(&self) -> &'static str {
        self.facts().2
    }

    /// Each kind stands here once, with all that is said of it.
    const fn facts(&self) -> (EventMask, Severity, &'static str) {
        use Severity::{Critical, Debug, Fatal, Info, Warning};
        match self {
            Self::StateChanged(_) => (EventMask::STATUS, Info, "state"),
            Self::StatusChanged(_) => (EventMask::STATUS, Debug, "status"),
            Self::MetadataReceived => (EventMask::STATUS, Info, "metadata_received"),
            Self::MetadataRefused(_) => (EventMask::STATUS, Critical, "metadata_refused"),
            Self::Completed => (EventMask::STATUS, Info, "completed"),
            Self::DiskFailed(_) => (EventMask::STATUS, Critical, "disk_failed"),
            Self::FileFailed { .. } => (EventMask::STATUS, Critical, "file_failed"),
            Self::ResumeRefused { .. } => (EventMask::STATUS, Warning, "resume_refused"),
            Self::LimitsChanged { .. } => (EventMask::STATUS, Info, "limits_changed"),
            Self::Lagged(_) => (EventMask::ALL, Warning, "lagged"),
            Self::ListenSucceeded { .. } => (EventMask::LISTEN, Info, "listen_succeeded"),
            Self::ListenFailed { .. } => (EventMask::LISTEN, Warning, "listen_failed"),
            Self::ExternalAddress { .. } => (EventMask::LISTEN, Info, "external_address"),
            Self::DhtBootstrapped { .. } => (EventMask::DHT, Info, "dht_bootstrapped"),
            Self::DhtAnswered { .. } => (EventMask::DHT, Debug, "dht_answered"),
            Self::NotListening { .. } => (EventMask::LISTEN, Fatal, "not_listening"),
            Self::PortMapped { .. } => (EventMask::LISTEN, Info, "port_mapped"),
            Self::PortNotMapped { .. } => (EventMask::LISTEN, Info, "port_not_mapped"),
            Self::ProxyFailed { .. } => (EventMask::LISTEN, Critical, "proxy_failed"),
            Self::PieceVerified(_) => (EventMask::PIECES, Info, "piece_verified"),
            Self::PieceFailed(_) => (EventMask::PIECES, Warning, "piece_failed"),
            Self::PieceSources { .. } => (EventMask::SOURCES, Debug, "piece_sources"),
            Self::TrackerConnected { .. } => {
                (EventMask::TRACKER_TRANSFER, Debug, "tracker_connected")
            }
            Self::TrackerDisconnected { .. } => {
                (EventMask::TRACKER_TRANSFER, Debug, "tracker_disconnected")
            }
            Self::TrackerRead { .. } => (EventMask::TRACKER_TRANSFER, Debug, "tracker_read"),
            Self::TrackerWritten { .. } => (EventMask::TRACKER_TRANSFER, Debug, "tracker_written"),
            Self::TrackerAnswered { .. } => (EventMask::TRACKERS, Info, "tracker_answered"),
            Self::TrackerWarned { .. } => (EventMask::TRACKERS, Warning, "tracker_warned"),
            Self::TrackerFailed { .. } => (EventMask::TRACKERS, Warning, "tracker_failed"),
            Self::WebSeedAnswered { .. } => (EventMask::WEB_SEEDS, Info, "web_seed_answered"),
            Self::WebSeedFailed { .. } => (EventMask::WEB_SEEDS, Warning, "web_seed_failed"),
            Self::ConnectionOpened { .. } => (EventMask::PEERS, Debug, "connection_opened"),
            Self::PeerConnected { .. } => (EventMask::PEERS, Info, "peer_connected"),
            Self::PeerDisconnected { .. } => (EventMask::PEERS, Info, "peer_disconnected"),
            Self::PeerFailed { .. } => (EventMask::PEERS, Warning, "peer_failed"),
            Self::InvalidRequest { .. } => (EventMask::PEERS, Warning, "invalid_request"),
            Self::PeerBanned { .. } => (EventMask::PEERS, Warning, "peer_banned"),
            Self::PeerBitfield { .. } => (EventMask::HAVES, Debug, "peer_bitfield"),
            Self::PeerHas { .. } => (EventMask::HAVES, Debug, "peer_has"),
            Self::PacketReceived { .. } => (EventMask::PACKETS, Debug, "packet_received"),
            Self::PacketSent { .. } => (EventMask::PACKETS, Debug, "packet_sent"),
            Self::PeerRead { .. } => (EventMask::TRANSFER, Debug, "peer_read"),
            Self::PeerWritten { .. } => (EventMask::TRANSFER, Debug, "peer_written"),
            Self::FileOpened { .. } => (EventMask::FILES, Debug, "file_opened"),
            Self::FileClosed { .. } => (EventMask::FILES, Debug, "file_closed"),
            Self::FileRead { .. } => (EventMask::FILES, Debug, "file_read"),
            Self::FileWritten { .. } => (EventMask::FILES, Debug, "file_written"),
            Self::IpFiltered { .. } => (EventMask::FILTER, Info, "ip_filtered"),
        }
    }

    /// Bytes that it keeps beside its own, as far as strangers choose how many.
    fn extra_len(&self) -> usize {
        match self {
            Self::PeerBitfield { pieces, .. } => pieces.as_bytes().len(),
            Self::PacketReceived { packet, .. } | Self::PacketSent { packet, .. } => {
                packet.extra_len()
            }
            Self::PieceSources { peers, .. } => size_of_val(peers.as_slice()),
            Self::TrackerConnected { url, .. }
            | Self::TrackerDisconnected { url }
            | Self::TrackerRead { url, .. }
            | Self::TrackerWritten { url, .. }
            | Self::WebSeedAnswered { url }
            | Self::TrackerAnswered { url, .. } => url.len(),
            Self::TrackerWarned { url, warning: words }
            | Self::WebSeedFailed { url, error: words, .. }
            | Self::TrackerFailed { url, error: words, .. } => url.len() + words.len(),
            _ => 0,
        }
    }
}
