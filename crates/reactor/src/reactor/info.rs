//! What there is to say about a socket.

use std::fmt;

use crate::core::{Core, Entry, NO_SOURCE, OtherKind, State};
use crate::{Address, Token};

/// A socket at a moment, for people: its `Display` is a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its token.
    pub token: Token,
    /// The kind of its handler.
    pub kind: &'static str,
    /// What it is, or what it is doing.
    pub state: &'static str,
    /// Where it is.
    pub local: Option<Address>,
    /// Who is at the other end.
    pub peer: Option<Address>,
    /// How many bytes wait to be written.
    pub queued: usize,
    /// Whether reading is [paused](crate::Reactor::pause).
    pub is_paused: bool,
}

impl Info {
    pub(super) fn of(core: &Core, token: Token, kind: &'static str) -> Option<Self> {
        let local = match core.source(token)? {
            NO_SOURCE => None,
            source => core.backend.local_addr(source).ok(),
        };
        let info = Self {
            token,
            kind,
            state: "listening",
            local,
            peer: core.peer_address(token),
            queued: 0,
            is_paused: false,
        };
        Some(match core.entry(token)? {
            Entry::Stream(stream) => Self {
                state: match stream.state {
                    State::Connecting => "connecting",
                    State::Open => "open",
                    State::Flushing | State::Lingering => "closing",
                    State::Ended => "closed",
                },
                queued: stream.queued(),
                is_paused: stream.is_paused,
                ..info
            },
            Entry::Other(other) => Self {
                state: match other.kind {
                    OtherKind::Listener => "listening",
                    OtherKind::Datagrams => "datagrams",
                    OtherKind::Watch(_) => "watched",
                    OtherKind::Signal(_) => "signal",
                },
                ..info
            },
        })
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, state, local, peer, queued, is_paused, .. } = self;
        write!(f, "{kind}: {state}")?;
        match (peer, local) {
            (Some(peer), _) => write!(f, " to {peer}")?,
            (None, Some(local)) => write!(f, " at {local}")?,
            (None, None) => {}
        }
        if *queued > 0 {
            write!(f, ", {queued} bytes queued")?;
        }
        if *is_paused {
            f.write_str(", paused")?;
        }
        Ok(())
    }
}
