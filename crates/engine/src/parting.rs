//! Why connections to peers end: one list for all sides, with the numbers that Net::BitTorrent gave them.

use std::fmt;
use std::net::SocketAddr;

use reactor::Reason;
use rustix::io::Errno;
use torrent::mse::MseFault;
use torrent::proxy::ProxyFault;
use torrent::swarm::{Ending, PeerKey, Refused};
use torrent::{InfoHash, PeerFault, PeerId};

use crate::dial::Road;
use crate::task::TaskId;

/// Why a connection to a peer is over, or never came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer closed it.
    ClosedByRemote,
    /// The system says so, with this number: reset, refused, unreachable, timed out.
    System(i32),
    /// It is ourselves.
    Ourselves,
    /// It asked for a torrent that we do not serve.
    UnknownTorrent,
    /// It has another torrent than the one that we went there for.
    WrongInfoHash,
    /// What it began with is no handshake of BitTorrent.
    MalformedHandshake,
    /// We are connected to it already.
    AlreadyConnected,
    /// There is no room for more peers.
    TooManyPeers,
    /// What is on disk is being looked at.
    HashChecking,
    /// It sent something that makes no sense.
    MalformedPacket,
    /// Both have everything.
    BothSeeds,
    /// It sent data that was never asked for, too often.
    UnrequestedPiece,
    /// It rejected a request for a piece that there is not.
    RejectOfUnknownPiece,
    /// It rejected a request that we never made.
    UnexpectedReject,
    /// It did not shake hands in time.
    NoHandshake,
    /// It said nothing for three minutes.
    Idle,
    /// Neither has anything that the other wants.
    Useless,
    /// It was of some use, and gave way to others that may be of more.
    GaveWay,
    /// What it encrypted does not begin as agreed.
    EncryptedOtherwise,
    /// No end of the padding that its encrypted handshake begins with.
    EndlessPadding,
    /// Its encrypted handshake makes no sense: a key that makes no secret, or too much padding.
    MalformedEncryption,
    /// Its encrypted handshake is for a torrent that we do not serve.
    UnknownEncryptedTorrent,
    /// Encrypted or not: there is no way that both want.
    NoCommonEncryption,
    /// The torrent was stopped.
    Stopped,
    /// The torrent was removed.
    Removed,
    /// The session ends.
    Shutdown,
    /// It sent data that was proven wrong.
    Banned,
    /// The filter does not let us talk to it.
    Filtered,
    /// The disk failed, and the torrent with it.
    DiskFailed,
    /// The program wished so.
    Requested,
    /// It asked for what it may not ask for.
    InvalidRequest,
    /// It sent so many messages or requests that they can only be meant to cost us time.
    Flood,
    /// It asks, and does not read what we send.
    DoesNotRead,
    /// The proxy did not lead there.
    Proxy,
    /// Something went wrong in this program.
    Internal,
}

impl DisconnectReason {
    /// Its number: 0 if the peer closed the connection, above if the system said so, below for reasons
    /// of ours. Down to -105 they are those of Net::BitTorrent 0.052, from -200 on they are new.
    pub const fn code(self) -> i32 {
        match self {
            Self::ClosedByRemote => 0,
            Self::System(errno) => errno,
            Self::Ourselves => -10,
            Self::UnknownTorrent => -11,
            Self::WrongInfoHash => -12,
            Self::MalformedHandshake => -13,
            Self::AlreadyConnected => -16,
            Self::TooManyPeers => -17,
            Self::HashChecking => -18,
            Self::MalformedPacket => -22,
            Self::BothSeeds => -25,
            Self::UnrequestedPiece => -26,
            Self::RejectOfUnknownPiece => -28,
            Self::UnexpectedReject => -29,
            Self::NoHandshake => -30,
            Self::Idle => -40,
            Self::Useless => -41,
            Self::EncryptedOtherwise => -101,
            Self::EndlessPadding => -102,
            Self::MalformedEncryption => -103,
            Self::UnknownEncryptedTorrent => -104,
            Self::NoCommonEncryption => -105,
            Self::Stopped => -200,
            Self::Removed => -201,
            Self::Shutdown => -202,
            Self::Banned => -203,
            Self::Filtered => -204,
            Self::DiskFailed => -205,
            Self::Requested => -206,
            Self::InvalidRequest => -207,
            Self::Flood => -208,
            Self::DoesNotRead => -209,
            Self::Internal => -210,
            Self::Proxy => -211,
            Self::GaveWay => -212,
        }
    }

    /// What a connection is closed with on our side; `of` knows it again.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::ClosedByRemote => "closed by the peer",
            Self::System(_) => "the system says so",
            Self::Ourselves => "connected to ourselves",
            Self::UnknownTorrent => "no such torrent here",
            Self::WrongInfoHash => "wrong info hash",
            Self::MalformedHandshake => "not a BitTorrent handshake",
            Self::AlreadyConnected => "already connected",
            Self::TooManyPeers => "too many peers",
            Self::HashChecking => "hash checking",
            Self::MalformedPacket => "malformed message",
            Self::BothSeeds => "both are seeds",
            Self::UnrequestedPiece => "data that was never asked for",
            Self::RejectOfUnknownPiece => "reject of a piece that there is not",
            Self::UnexpectedReject => "reject of a request that was never made",
            Self::NoHandshake => "no handshake in time",
            Self::Idle => "silent for three minutes",
            Self::Useless => "neither has what the other wants",
            Self::GaveWay => "gave way to others",
            Self::EncryptedOtherwise => "not encrypted as agreed",
            Self::EndlessPadding => "no end of the padding of its encrypted handshake",
            Self::MalformedEncryption => "malformed encrypted handshake",
            Self::UnknownEncryptedTorrent => "no such torrent here, asked for in secret",
            Self::NoCommonEncryption => "no encryption that both want",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
            Self::Shutdown => "we stop",
            Self::Banned => "sent bad data",
            Self::Filtered => "filtered",
            Self::DiskFailed => "the disk failed",
            Self::Requested => "closed on request",
            Self::InvalidRequest => "invalid request",
            Self::Flood => "flood of messages",
            Self::DoesNotRead => "it asks and does not listen",
            Self::Proxy => "the proxy did not lead there",
            Self::Internal => "internal error",
        }
    }

    /// Sorts what the reactor says about a connection.
    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Reset => Self::System(Errno::CONNRESET.raw_os_error()),
            Reason::Error(error)
                if error.get_ref().is_some_and(|inner| inner.is::<ProxyFault>()) =>
            {
                Self::Proxy
            }
            Reason::Error(error) => error.raw_os_error().map_or(Self::Internal, Self::System),
            Reason::Timeout => Self::NoHandshake,
            Reason::Local(words) => Self::of_words(words),
            Reason::Handler(error) => {
                if let Some(&fault) = error.downcast_ref::<PeerFault>() {
                    fault.into()
                } else if let Some(&fault) = error.downcast_ref::<MseFault>() {
                    fault.into()
                } else {
                    error.downcast_ref().copied().unwrap_or(Self::Internal)
                }
            }
        }
    }

    fn of_words(words: &str) -> Self {
        BY_WORDS.into_iter().find(|reason| reason.words() == words).unwrap_or(Self::Internal)
    }

    /// What it says about the peer, for the next time.
    pub(crate) const fn ending(self, reason: &Reason) -> Ending {
        match reason {
            Reason::Handler(_) if self.is_fault() => Ending::Fault,
            Reason::Local(_) if self.is_ours() => Ending::Ours,
            Reason::Local(_) if matches!(self, Self::Useless | Self::GaveWay) => Ending::GaveWay,
            // The other connection may be closed by the peer, which takes this one for the one that stays.
            Reason::Local(_) if matches!(self, Self::AlreadyConnected) => Ending::Refused,
            Reason::Handler(_) | Reason::Local(_) => Ending::Useful,
            Reason::Reset | Reason::Error(_) | Reason::Timeout => Ending::Refused,
        }
    }

    /// Whether the torrent hung up on everyone.
    const fn is_ours(self) -> bool {
        matches!(self, Self::HashChecking | Self::Stopped | Self::DiskFailed)
    }

    /// Whether the peer broke the protocol.
    pub(crate) const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::WrongInfoHash
                | Self::MalformedHandshake
                | Self::EncryptedOtherwise
                | Self::MalformedEncryption
                | Self::MalformedPacket
                | Self::UnrequestedPiece
                | Self::RejectOfUnknownPiece
                | Self::UnexpectedReject
                | Self::InvalidRequest
                | Self::Flood
        )
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
            _ => f.write_str(self.words()),
        }
    }
}

impl From<PeerFault> for DisconnectReason {
    fn from(fault: PeerFault) -> Self {
        match fault {
            PeerFault::NotBitTorrent => Self::MalformedHandshake,
            PeerFault::WrongInfoHash => Self::WrongInfoHash,
            PeerFault::OversizeMessage
            | PeerFault::MalformedMessage
            | PeerFault::MalformedBitfield
            | PeerFault::NotNegotiated
            | PeerFault::NoSuchPiece
            | PeerFault::FalseHashes => Self::MalformedPacket,
            PeerFault::BadRequest | PeerFault::RequestForMissingPiece => Self::InvalidRequest,
            PeerFault::UnrequestedData => Self::UnrequestedPiece,
            PeerFault::RejectOfUnknownPiece => Self::RejectOfUnknownPiece,
            PeerFault::UnexpectedReject => Self::UnexpectedReject,
            PeerFault::TooManyRequests | PeerFault::ControlFlood => Self::Flood,
        }
    }
}

impl From<MseFault> for DisconnectReason {
    fn from(fault: MseFault) -> Self {
        match fault {
            MseFault::BadConstant => Self::EncryptedOtherwise,
            MseFault::NoSync => Self::EndlessPadding,
            MseFault::WeakKey | MseFault::LongPadding => Self::MalformedEncryption,
            MseFault::UnknownTorrent => Self::UnknownEncryptedTorrent,
            MseFault::NoCommonMethod => Self::NoCommonEncryption,
        }
    }
}

impl From<Refused> for DisconnectReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Ourselves => Self::Ourselves,
            Refused::Duplicate => Self::AlreadyConnected,
            Refused::Banned => Self::Banned,
        }
    }
}

/// What is known of a connection when it is over.
#[derive(Debug)]
pub(crate) struct Parted {
    pub(crate) addr: SocketAddr,
    /// What carried it.
    pub(crate) road: Road,
    /// The torrent that one of the ends asked for, ours or not.
    pub(crate) torrent: Option<InfoHash>,
    /// Its torrent here.
    pub(crate) task: Option<TaskId>,
    /// What its swarm knows it by, if it got so far.
    pub(crate) key: Option<PeerKey>,
    /// The name that it gave itself, if its handshake has come.
    pub(crate) peer_id: Option<PeerId>,
    /// It could not be opened.
    pub(crate) is_unopened: bool,
    /// Why it had to end, when it was left to end by itself.
    pub(crate) verdict: Option<DisconnectReason>,
}

impl Parted {
    /// Why, as a number; and in words that say more.
    pub(crate) fn reason(&self, reason: &Reason) -> (DisconnectReason, String) {
        let why = match reason {
            Reason::Timeout if self.is_unopened => {
                DisconnectReason::System(Errno::TIMEDOUT.raw_os_error())
            }
            _ => self.verdict.unwrap_or_else(|| DisconnectReason::of(reason)),
        };
        let detail = match reason {
            Reason::Timeout => why.to_string(),
            _ if self.verdict.is_some() => why.to_string(),
            _ => reason.to_string(),
        };
        (why, detail)
    }
}

/// What we close connections for ourselves, this crate and the swarm.
const BY_WORDS: [DisconnectReason; 18] = [
    DisconnectReason::ClosedByRemote,
    DisconnectReason::Ourselves,
    DisconnectReason::AlreadyConnected,
    DisconnectReason::TooManyPeers,
    DisconnectReason::HashChecking,
    DisconnectReason::MalformedPacket,
    DisconnectReason::BothSeeds,
    DisconnectReason::Idle,
    DisconnectReason::Useless,
    DisconnectReason::GaveWay,
    DisconnectReason::Stopped,
    DisconnectReason::Removed,
    DisconnectReason::Shutdown,
    DisconnectReason::Banned,
    DisconnectReason::Filtered,
    DisconnectReason::DiskFailed,
    DisconnectReason::Requested,
    DisconnectReason::DoesNotRead,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_and_numbers_are_told_apart() {
        let words: BTreeSet<&str> = BY_WORDS.iter().map(|reason| reason.words()).collect();
        let codes: BTreeSet<i32> = BY_WORDS.iter().map(|reason| reason.code()).collect();
        assert_eq!((words.len(), codes.len()), (BY_WORDS.len(), BY_WORDS.len()));
    }

    #[test]
    fn what_a_swarm_closes_for_has_its_number() {
        for (words, code) in [
            ("silent for three minutes", -40),
            ("both are seeds", -25),
            ("sent bad data", -203),
            ("already connected", -16),
        ] {
            assert_eq!(DisconnectReason::of(&Reason::Local(words)).code(), code);
        }
    }

    #[test]
    fn who_closes_the_other_of_two_connections_is_soon_dialled_again() {
        let reason = Reason::Local(DisconnectReason::AlreadyConnected.words());
        assert_eq!(DisconnectReason::of(&reason).ending(&reason), Ending::Refused);
    }

    #[test]
    fn what_the_system_says_keeps_its_number() {
        assert_eq!(DisconnectReason::of(&Reason::Reset), DisconnectReason::System(104));
        let error = std::io::Error::from_raw_os_error(111);
        let reason = DisconnectReason::of(&Reason::Error(error));
        assert_eq!((reason.code(), reason.to_string().contains("refused")), (111, true));
    }

    #[test]
    fn a_connection_that_never_opened_timed_out_and_one_that_did_shook_no_hands() {
        let mut parted = Parted {
            addr: ([127, 0, 0, 1], 1).into(),
            road: Road::Tcp,
            torrent: None,
            task: None,
            key: None,
            peer_id: None,
            is_unopened: true,
            verdict: None,
        };
        assert_eq!(parted.reason(&Reason::Timeout).0, DisconnectReason::System(110));
        parted.is_unopened = false;
        assert_eq!(parted.reason(&Reason::Timeout).0.code(), -30);
        parted.verdict = Some(DisconnectReason::Ourselves);
        assert_eq!(parted.reason(&Reason::Local("flushed")).0.code(), -10);
    }
}
