//! Why a handshake ended in nothing.

use crate::NodeId;
use crate::handshake::LINE_MAX;

/// Why a handshake ended in nothing.
///
/// The peer is told none of it: log it and close. The texts are those of AnyEvent::MP where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It speaks something else.
    #[error("unparsable greeting, expected '{expected}', got '{got}'")]
    Unparsable { expected: &'static str, got: String },
    /// It speaks another version of the protocol.
    #[error("version mismatch (we: 1, they: {0})")]
    Version(String),
    /// What it calls itself could not be written into a greeting, or into a port ID.
    #[error("'{0}' in the greeting is no node ID")]
    NodeId(String),
    /// It wants a data connection and does not say which.
    #[error("a data connection without a dataconn_id")]
    NoDataConnId,
    /// It has our own node ID.
    #[error("I refuse to talk to myself")]
    Myself,
    /// It sends our own nonce back.
    #[error("authentication error, echo attack?")]
    Echo,
    /// It is connected; for drivers, which know.
    #[error("{0} already connected, not connecting again.")]
    AlreadyConnected(NodeId),
    /// It accepts no way to prove who we are that we would use.
    #[error("{0}: no common auth type supported")]
    NoCommonAuth(String),
    /// It reads no framing that we write.
    #[error("{0}: no common framing method supported")]
    NoCommonFraming(String),
    /// We have nothing to prove ourselves with.
    #[error("unable to handshake TLS and no shared secret configured")]
    NoSecret,
    /// It proves itself in a way that we did not offer to accept.
    #[error("{0}: fatal, selected unsupported rcv auth method")]
    AuthMethod(String),
    /// It does not know the secret, or somebody has changed what was said.
    #[error("authentication failure/shared secret mismatch")]
    Mismatch,
    /// It will write what we did not offer to read.
    #[error("{0}: unusable remote framing")]
    Framing(String),
    /// It says too much before it has proved who it is.
    #[error("a handshake line of more than {LINE_MAX} octets")]
    LineTooLong,
}

/// What a stranger said, so that it can stand in a log: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(SHOWN_MAX).map(shown).collect()
}

/// How many characters of what a stranger said are shown.
const SHOWN_MAX: usize = 200;
