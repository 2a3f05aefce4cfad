//! What a peer can do wrong. Every variant ends the connection; none carries text from outside.

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The first bytes are not a BitTorrent handshake.
    #[error("not a BitTorrent handshake")]
    NotBitTorrent,
    /// The handshake names another torrent than the one we share with it.
    #[error("wrong info hash")]
    WrongInfoHash,
    /// A message is longer than any of its kind may be.
    #[error("oversize message")]
    OversizeMessage,
    /// A message is too short or too long for its kind, or its contents do not parse.
    #[error("malformed message")]
    MalformedMessage,
    /// A bitfield of the wrong length or with spare bits set.
    #[error("malformed bitfield")]
    MalformedBitfield,
    /// A message of an extension that was not agreed on.
    #[error("message of an extension that was not negotiated")]
    NotNegotiated,
    /// A piece index past the end of the torrent.
    #[error("no such piece")]
    NoSuchPiece,
    /// A request beyond the end of its piece, of length zero, or longer than 128 KiB.
    #[error("request out of range")]
    BadRequest,
    /// A request for a piece that we never said we have.
    #[error("request for a piece that we do not have")]
    RequestForMissingPiece,
    /// Data that we never asked for, too often.
    #[error("data that was never asked for")]
    UnrequestedData,
    /// A `reject` that names a piece past the end of the torrent.
    #[error("reject of a piece that there is not")]
    RejectOfUnknownPiece,
    /// A `reject` of a request that we never made.
    #[error("reject of a request that was never made")]
    UnexpectedReject,
    /// More requests than we allow to be queued, again and again.
    #[error("too many requests")]
    TooManyRequests,
    /// So many changes of mind that they can only be meant to cost us time.
    #[error("flood of control messages")]
    ControlFlood,
    /// Hashes that are not those of the file that they are said to be of.
    #[error("hashes that are a lie")]
    FalseHashes,
}
