//! The messages of the DHT: bencoded questions, replies and errors, one in a datagram.
//!
//! [BEP 5] with IPv6 ([BEP 32]), what an address looks like from outside ([BEP 42]), nodes that only
//! ask ([BEP 43]), stored items ([BEP 44]), samples of info hashes ([BEP 51]) and counts of peers ([BEP 33]).
//! Reading copies nothing but addresses, and is lenient where clients in the wild are careless: keys in any
//! order, members that are not known, addresses cut off.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 32]: https://www.bittorrent.org/beps/bep_0032.html
//! [BEP 33]: https://www.bittorrent.org/beps/bep_0033.html
//! [BEP 42]: https://www.bittorrent.org/beps/bep_0042.html
//! [BEP 43]: https://www.bittorrent.org/beps/bep_0043.html
//! [BEP 44]: https://www.bittorrent.org/beps/bep_0044.html
//! [BEP 51]: https://www.bittorrent.org/beps/bep_0051.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, SocketAddr};

use super::node_id::{Contact, NodeId};
use super::{bloom, krpc_writer};
use crate::bencode::{Dict, Limits, Value, decode_prefix};
use crate::compact;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What the asker chose to know the reply by.
    pub transaction: &'a [u8],
    /// What is said.
    pub body: Body<'a>,
    /// The sender answers no questions: it is not to be kept as a node (BEP 43).
    pub is_read_only: bool,
    /// Where the receiver is, as the sender sees it (BEP 42).
    pub external: Option<SocketAddr>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A question.
    Query(Query<'a>),
    /// The answer to a question.
    Reply(Reply<'a>),
    /// A question was refused.
    Error {
        /// Why, as a number: 201 to 207, 301, 302.
        code: i64,
        /// Why, in words.
        text: &'a [u8],
    },
}

/// A question, by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The asker.
    pub id: NodeId,
    /// Nodes of which families are asked for; neither means those of the family that carries this.
    pub want: Want,
    /// What is asked.
    pub question: Question<'a>,
}

/// Families of addresses (BEP 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// What can be asked of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// Are you there?
    Ping,
    /// Which nodes are nearest to a place?
    FindNode {
        /// The place.
        target: NodeId,
    },
    /// Who has this torrent?
    GetPeers {
        /// The torrent.
        info_hash: NodeId,
        /// Who has all of it need not be named. (BEP 33)
        is_noseed: bool,
        /// And how many are there, with and without all of it? (BEP 33)
        is_scrape: bool,
    },
    /// I have this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: NodeId,
        /// Where I listen.
        port: u16,
        /// Not there, but at the port that this comes from.
        is_implied: bool,
        /// I have all of it (BEP 33).
        is_seed: bool,
        /// What the node gave us when we asked for peers.
        token: &'a [u8],
    },
    /// Which torrents have been announced to you? (BEP 51)
    SampleInfohashes {
        /// And which nodes are nearest to this place?
        target: NodeId,
    },
    /// What is stored here? (BEP 44)
    Get {
        /// The place.
        target: NodeId,
        /// No value is needed if yours is not newer than this.
        seq: Option<i64>,
    },
    /// Store this. (BEP 44)
    Put {
        /// What the node gave us when we asked what is there.
        token: &'a [u8],
        /// What is to be stored, bencoded.
        value: &'a [u8],
        /// Who signs it, if it is to be changed later.
        signed: Option<Signed<'a>>,
        /// Only if the number of the one that is there is this.
        cas: Option<i64>,
    },
}

/// What makes an item one that can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The public key.
    pub key: &'a [u8; 32],
    /// Distinguishes items of one key.
    pub salt: &'a [u8],
    /// Grows with every change.
    pub seq: i64,
    /// Over salt, number and value.
    pub signature: &'a [u8; 64],
}

/// An answer. What is not told is empty or `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Who answers.
    pub id: NodeId,
    /// Nodes, of both families, at most [`NODES_MAX`] of each.
    pub nodes: Vec<Contact>,
    /// Peers, at most [`PEERS_MAX`].
    pub peers: Vec<SocketAddr>,
    /// To be shown when something is to be stored.
    pub token: Option<&'a [u8]>,
    /// The item's value, bencoded.
    pub value: Option<&'a [u8]>,
    /// The item's public key.
    pub key: Option<&'a [u8; 32]>,
    /// The item's number.
    pub seq: Option<i64>,
    /// The item's signature.
    pub signature: Option<&'a [u8; 64]>,
    /// Some of the torrents that it knows.
    pub samples: Option<Samples<'a>>,
    /// How many peers it knows.
    pub scrape: Option<Filters<'a>>,
}

/// Sets of addresses of which only the size can be told: Bloom filters (BEP 33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a> {
    /// Who has all of the torrent.
    pub seeds: &'a [u8; bloom::LEN],
    /// Who has not.
    pub downloaders: &'a [u8; bloom::LEN],
}

/// Some of the torrents that a node knows (BEP 51).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples<'a> {
    /// After how many seconds it may be asked again.
    pub interval_secs: i64,
    /// How many it knows in all.
    pub total: i64,
    /// The info hashes, one after the other.
    pub packed: &'a [u8],
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed<'a> {
    /// It deserves no answer.
    Noise,
    /// A question that can be refused.
    Query {
        /// What the asker will know the refusal by.
        transaction: &'a [u8],
        /// What is wrong with it.
        code: ErrorCode,
    },
}

/// Why a question is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Something that has no number of its own.
    Generic = 201,
    /// It cannot be answered now.
    Server = 202,
    /// It makes no sense, or its token is wrong.
    Protocol = 203,
    /// A question that is not known.
    MethodUnknown = 204,
    /// The value is too long.
    ValueTooLong = 205,
    /// The signature is wrong.
    BadSignature = 206,
    /// The salt is too long.
    SaltTooLong = 207,
    /// The item has changed meanwhile.
    CasMismatch = 301,
    /// There is a newer one already.
    SeqTooOld = 302,
}

impl ErrorCode {
    /// The same in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Generic => "Generic Error",
            Self::Server => "Server Error",
            Self::Protocol => "Protocol Error",
            Self::MethodUnknown => "Method Unknown",
            Self::ValueTooLong => "Value too long",
            Self::BadSignature => "Invalid signature",
            Self::SaltTooLong => "Salt too long",
            Self::CasMismatch => "CAS mismatch",
            Self::SeqTooOld => "Sequence number less than current",
        }
    }
}

impl<'a> Reply<'a> {
    /// An answer that says who answers, and nothing else.
    pub const fn of(id: NodeId) -> Self {
        Self {
            id,
            nodes: Vec::new(),
            peers: Vec::new(),
            token: None,
            value: None,
            key: None,
            seq: None,
            signature: None,
            samples: None,
            scrape: None,
        }
    }
}

impl Samples<'_> {
    /// The info hashes.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.packed.as_chunks().0.iter().map(|hash| NodeId(*hash))
    }
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// If it is not a message, or a question that is to be refused.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Malformed<'a>> {
        Self::read(datagram).unwrap_or(Err(Malformed::Noise))
    }

    fn read(datagram: &'a [u8]) -> Option<Result<Self, Malformed<'a>>> {
        if datagram.len() > DATAGRAM_LEN_MAX {
            return None;
        }
        let (value, _) = decode_prefix(datagram, LIMITS).ok()?;
        let dict = value.as_dict()?;
        let transaction = bytes(dict, b"t").filter(|id| id.len() <= TRANSACTION_LEN_MAX)?;
        let body = match bytes(dict, b"y")? {
            b"q" => match Query::read(dict) {
                Ok(query) => Body::Query(query),
                Err(code) => return Some(Err(Malformed::Query { transaction, code })),
            },
            b"r" => Body::Reply(Reply::read(dict.get(b"r")?.as_dict()?)?),
            b"e" => {
                let list = dict.get(b"e")?.as_list()?;
                let code = list.first()?.as_integer()?;
                let text = list.get(1).and_then(Value::as_bytes).unwrap_or_default();
                Body::Error { code, text }
            }
            _ => return None,
        };
        let is_read_only = integer(dict, b"ro") == Some(1);
        let external = bytes(dict, b"ip").and_then(address);
        Some(Ok(Self { transaction, body, is_read_only, external }))
    }

    /// The bytes of the datagram.
    pub fn encode(&self) -> Vec<u8> {
        krpc_writer::encode(self)
    }
}

impl<'a> Query<'a> {
    fn read(message: &Dict<'a>) -> Result<Self, ErrorCode> {
        let method = bytes(message, b"q").ok_or(ErrorCode::Protocol)?;
        let args = message.get(b"a").and_then(Value::as_dict).ok_or(ErrorCode::Protocol)?;
        let id = node_id(args, b"id").ok_or(ErrorCode::Protocol)?;
        let question = Question::read(method, args)?;
        Ok(Self { id, want: Want::read(args), question })
    }
}

impl<'a> Question<'a> {
    fn read(method: &[u8], args: &Dict<'a>) -> Result<Self, ErrorCode> {
        let place = |key: &[u8]| node_id(args, key).ok_or(ErrorCode::Protocol);
        let token = || bytes(args, b"token").ok_or(ErrorCode::Protocol);
        Ok(match method {
            b"ping" => Self::Ping,
            b"find_node" => Self::FindNode { target: place(b"target")? },
            b"get_peers" => Self::GetPeers {
                info_hash: place(b"info_hash")?,
                is_noseed: integer(args, b"noseed") == Some(1),
                is_scrape: integer(args, b"scrape") == Some(1),
            },
            b"announce_peer" => {
                let port = integer(args, b"port").and_then(|port| u16::try_from(port).ok());
                let is_implied = integer(args, b"implied_port").is_some_and(|flag| flag != 0);
                let port = port.filter(|port| *port != 0).or_else(|| is_implied.then_some(0));
                let port = port.ok_or(ErrorCode::Protocol)?;
                Self::AnnouncePeer {
                    info_hash: place(b"info_hash")?,
                    port,
                    is_implied,
                    is_seed: integer(args, b"seed") == Some(1),
                    token: token()?,
                }
            }
            b"sample_infohashes" => Self::SampleInfohashes { target: place(b"target")? },
            b"get" => Self::Get { target: place(b"target")?, seq: integer(args, b"seq") },
            b"put" => Self::Put {
                token: token()?,
                value: args.raw(b"v").ok_or(ErrorCode::Protocol)?,
                signed: Signed::read(args)?,
                cas: integer(args, b"cas"),
            },
            // A question of tomorrow about a place can be answered with nodes near it.
            _ => match node_id(args, b"target").or_else(|| node_id(args, b"info_hash")) {
                Some(target) => Self::FindNode { target },
                None => return Err(ErrorCode::MethodUnknown),
            },
        })
    }
}

impl<'a> Signed<'a> {
    fn read(args: &Dict<'a>) -> Result<Option<Self>, ErrorCode> {
        let Some(key) = bytes(args, b"k") else { return Ok(None) };
        let signed = || {
            Some(Self {
                key: key.try_into().ok()?,
                salt: bytes(args, b"salt").unwrap_or_default(),
                seq: integer(args, b"seq")?,
                signature: bytes(args, b"sig")?.try_into().ok()?,
            })
        };
        signed().map(Some).ok_or(ErrorCode::Protocol)
    }
}

impl Want {
    fn read(args: &Dict<'_>) -> Self {
        let list = args.get(b"want").and_then(Value::as_list).unwrap_or_default();
        let has = |name: &[u8]| list.iter().any(|item| item.as_bytes() == Some(name));
        Self { v4: has(b"n4"), v6: has(b"n6") }
    }
}

impl<'a> Reply<'a> {
    fn read(dict: &Dict<'a>) -> Option<Self> {
        let mut reply = Self::of(node_id(dict, b"id")?);
        let v4 = bytes(dict, b"nodes").unwrap_or_default();
        let v6 = bytes(dict, b"nodes6").unwrap_or_default();
        reply.nodes.extend(contacts::<26>(v4).take(NODES_MAX));
        reply.nodes.extend(contacts::<38>(v6).take(NODES_MAX));
        let values = dict.get(b"values").and_then(Value::as_list).unwrap_or_default();
        let peers = values.iter().filter_map(|value| address(value.as_bytes()?));
        reply.peers.extend(peers.take(PEERS_MAX));
        reply.token = bytes(dict, b"token").filter(|token| token.len() <= TOKEN_LEN_MAX);
        reply.value = dict.raw(b"v");
        reply.key = bytes(dict, b"k").and_then(|key| key.try_into().ok());
        reply.seq = integer(dict, b"seq");
        reply.signature = bytes(dict, b"sig").and_then(|signature| signature.try_into().ok());
        reply.samples = Samples::read(dict);
        reply.scrape = Filters::read(dict);
        Some(reply)
    }
}

impl<'a> Filters<'a> {
    fn read(dict: &Dict<'a>) -> Option<Self> {
        let filter = |key| bytes(dict, key)?.try_into().ok();
        Some(Self { seeds: filter(b"BFsd")?, downloaders: filter(b"BFpe")? })
    }
}

impl<'a> Samples<'a> {
    fn read(dict: &Dict<'a>) -> Option<Self> {
        let packed = bytes(dict, b"samples")?;
        let interval_secs = integer(dict, b"interval").unwrap_or_default().max(0);
        Some(Self {
            interval_secs,
            total: integer(dict, b"num").unwrap_or_default().max(0),
            packed,
        })
    }
}

fn bytes<'a>(dict: &Dict<'a>, key: &[u8]) -> Option<&'a [u8]> {
    dict.get(key)?.as_bytes()
}

fn integer(dict: &Dict<'_>, key: &[u8]) -> Option<i64> {
    dict.get(key)?.as_integer()
}

fn node_id(dict: &Dict<'_>, key: &[u8]) -> Option<NodeId> {
    bytes(dict, key)?.try_into().ok().map(NodeId)
}

/// An address of 6 or 18 bytes.
fn address(packed: &[u8]) -> Option<SocketAddr> {
    match packed.len() {
        6 => compact::parse_v4(packed).next(),
        18 => compact::parse_v6(packed).next(),
        _ => None,
    }
}

/// Nodes of `N` bytes each: a name and an address.
pub(super) fn contacts<const N: usize>(packed: &[u8]) -> impl Iterator<Item = Contact> {
    packed.as_chunks::<N>().0.iter().filter_map(|one| {
        let (id, at) = one.split_first_chunk()?;
        let addr = address(at)?;
        let addr = SocketAddr::new(canonical(addr.ip())?, addr.port());
        Some(Contact { id: NodeId(*id), addr })
    })
}

/// An IPv4 address dressed up as one of IPv6 is of no use in a list of IPv6 nodes.
fn canonical(ip: IpAddr) -> Option<IpAddr> {
    (ip.to_canonical() == ip).then_some(ip)
}

/// The most that a datagram may hold; longer ones are not read.
pub const DATAGRAM_LEN_MAX: usize = 4096;
/// How many nodes of each family of a reply are looked at; the others are left out.
pub const NODES_MAX: usize = 32;
/// How many peers of a reply are looked at; the others are left out.
pub const PEERS_MAX: usize = 256;
/// Longer ones are not worth sending back.
const TRANSACTION_LEN_MAX: usize = 32;
/// With a longer token nothing is stored.
const TOKEN_LEN_MAX: usize = 128;
const LIMITS: Limits = Limits { depth: 16, items: 2000, keys_in_order: false };

#[cfg(test)]
#[path = "krpc_tests.rs"]
mod tests;
