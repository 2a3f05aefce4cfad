//! A tracker told to people, in a word or in full.

use std::fmt::{self, Display};

use super::{TrackerState, TrackerStatus};
use crate::text::{Clean, row, rows};

impl Display for TrackerStatus {
    /// The URL. In the long form (`{:#}`) how it does, too; tiers are counted from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Clean(&self.url).fmt(f)?;
        if !f.alternate() {
            return Ok(());
        }
        row(f, "tier", self.tier + 1)?;
        row(f, "state", self.state)?;
        rows(f, "seeds", self.seeds)?;
        rows(f, "leechers", self.leechers)?;
        rows(f, "error", self.last_error.as_deref().map(Clean))?;
        rows(f, "warning", self.warning.as_deref().map(Clean))
    }
}

impl Display for TrackerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked => "not asked yet",
            Self::Asking => "being asked",
            Self::Working => "working",
            Self::Failing => "failing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_its_url_or_how_it_does() {
        let status = TrackerStatus {
            url: "http://a/\x1b".to_owned(),
            tier: 0,
            state: TrackerState::Failing,
            last_error: Some("no\nanswer".to_owned()),
            warning: None,
            seeds: Some(3),
            leechers: None,
            is_scraping: false,
            next_announce: None,
        };
        assert_eq!(status.to_string(), "http://a/\u{fffd}");
        let expected = [
            "http://a/\u{fffd}",
            "  tier        1",
            "  state       failing",
            "  seeds       3",
            "  error       no\u{fffd}answer",
        ];
        assert_eq!(format!("{status:#}"), expected.join("\n"));
    }
}
