//! A web seed as people see it.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use crate::text::{Clean, Size, row, rows};

use super::{State, WebSeed, WebSeedFault, WebSeedKind};

/// How a web seed stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSeedStatus {
    /// Its address, as the torrent has it.
    pub url: String,
    /// What it can be asked for.
    pub kind: WebSeedKind,
    /// What it is doing.
    pub state: WebSeedState,
    /// Payload from it, in bytes per second.
    pub download_rate: u64,
    /// Payload from it so far, in bytes.
    pub downloaded: u64,
    /// What went wrong last, if it has not helped since.
    pub fault: Option<WebSeedFault>,
    /// How often it has failed since it last helped.
    pub failures: u32,
}

/// What a web seed is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSeedState {
    /// Nothing is wanted of it.
    Idle,
    /// It brings something.
    Fetching,
    /// It failed, and is asked again after so long.
    Waiting(Duration),
    /// It has nothing for us, or wrong data, and is not asked again.
    Dropped,
}

impl Display for WebSeedStatus {
    /// The address. In the long form (`{:#}`) how it does, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Clean(&self.url).fmt(f)?;
        if !f.alternate() {
            return Ok(());
        }
        row(f, "state", self.state)?;
        row(f, "received", Size(self.downloaded))?;
        rows(f, "error", self.fault.as_ref().map(|fault| fault.to_string()).as_deref().map(Clean))
    }
}

impl Display for WebSeedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Fetching => f.write_str("fetching"),
            Self::Waiting(time) => write!(f, "asked again in {} seconds", time.as_secs()),
            Self::Dropped => f.write_str("not asked any more"),
        }
    }
}

impl WebSeed {
    /// How it stands.
    pub fn status(&self, now: Instant) -> WebSeedStatus {
        let state = match &self.state {
            State::Idle => WebSeedState::Idle,
            State::Waiting(until) => WebSeedState::Waiting(until.saturating_duration_since(now)),
            State::Fetching(_) => WebSeedState::Fetching,
            State::Dropped => WebSeedState::Dropped,
        };
        WebSeedStatus {
            url: self.url.clone(),
            kind: self.kind,
            state,
            download_rate: self.down.bytes_per_second(now),
            downloaded: self.downloaded,
            fault: self.fault.clone(),
            failures: self.failures,
        }
    }

    /// Its address, as the torrent has it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is being asked for something now.
    pub const fn is_fetching(&self) -> bool {
        matches!(self.state, State::Fetching(_))
    }

    /// Whether it will not be asked again.
    pub const fn is_dropped(&self) -> bool {
        matches!(self.state, State::Dropped)
    }
}
