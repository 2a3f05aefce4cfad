//! A peer told to people, in a word or in full.

use std::fmt::{self, Display};

use super::{Direction, PeerStatus, Source};
use crate::text::{Clean, Size, row, rows};

impl Display for PeerStatus {
    /// The address. In the long form (`{:#}`) all that is known of it, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.addr)?;
        if !f.alternate() {
            return Ok(());
        }
        row(f, "id", self.peer_id)?;
        let by_id = self.peer_id.client().map(|client| client.to_string());
        rows(f, "client", self.client.as_deref().or(by_id.as_deref()).map(Clean))?;
        row(f, "direction", self.direction)?;
        row(f, "known from", self.source)?;
        row(
            f,
            "pieces",
            format_args!("{}{}", self.pieces_have, if self.is_seed { ", all" } else { "" }),
        )?;
        let flags = [
            (self.is_utp, "uTP"),
            (self.is_encrypted, "encrypted"),
            (self.am_choking, "we choke it"),
            (self.am_interested, "we want of it"),
            (self.peer_choking, "it chokes us"),
            (self.peer_interested, "it wants of us"),
            (self.is_snubbed, "keeps us waiting"),
            (self.is_on_parole, "on parole"),
            (self.is_upload_only, "wants nothing"),
            (self.is_optimistic, "served by chance"),
        ];
        rows(f, "flags", flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name))?;
        let rate = |rate, total| format!("{} each second, {} in all", Size(rate), Size(total));
        row(f, "received", rate(self.download_rate, self.downloaded))?;
        row(f, "sent", rate(self.upload_rate, self.uploaded))?;
        row(
            f,
            "asked for",
            format_args!("{} of {}", self.requests_outstanding, self.pipeline_depth),
        )?;
        rows(f, "piece", self.piece)?;
        row(f, "asks for", self.requests_queued)
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        })
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "a person",
            Self::Magnet => "the magnet link",
            Self::Resume => "an earlier run",
            Self::Lsd => "the local network",
            Self::Tracker => "a tracker",
            Self::Exchange => "another peer",
            Self::Dht => "the DHT",
            Self::Incoming => "itself",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reserved;
    use crate::{PeerId, PieceIndex};

    fn status() -> PeerStatus {
        PeerStatus {
            addr: ([10, 0, 0, 1], 6881).into(),
            direction: Direction::Outgoing,
            source: Source::Tracker,
            peer_id: PeerId(*b"-TR4060-abcdefghijk\x1b"),
            reserved: Reserved::default(),
            is_encrypted: true,
            is_utp: false,
            client: None,
            pieces_have: 7,
            is_seed: true,
            am_choking: true,
            am_interested: false,
            peer_choking: false,
            peer_interested: false,
            is_snubbed: true,
            is_on_parole: false,
            is_upload_only: false,
            is_optimistic: false,
            download_rate: 0,
            upload_rate: 1536,
            downloaded: 20,
            uploaded: 2048,
            requests_outstanding: 3,
            pipeline_depth: 8,
            piece: Some(PieceIndex(5)),
            requests_queued: 2,
        }
    }

    #[test]
    fn a_peer_is_its_address_or_all_that_is_known_of_it() {
        assert_eq!(status().to_string(), "10.0.0.1:6881");
        let expected = [
            "10.0.0.1:6881",
            "  id          -TR4060-abcdefghijk.",
            "  client      Transmission 4.0.6",
            "  direction   outgoing",
            "  known from  a tracker",
            "  pieces      7, all",
            "  flags       encrypted",
            "              we choke it",
            "              keeps us waiting",
            "  received    0 bytes each second, 20 bytes in all",
            "  sent        1536 bytes (1.5 KiB) each second, 2048 bytes (2.0 KiB) in all",
            "  asked for   3 of 8",
            "  piece       5",
            "  asks for    2",
        ];
        assert_eq!(format!("{:#}", status()), expected.join("\n"));
    }

    #[test]
    fn what_a_peer_says_of_its_client_is_shown_before_what_its_id_says() {
        let status = PeerStatus { client: Some("mine\x1b".to_owned()), ..status() };
        assert!(format!("{status:#}").contains("  client      mine\u{fffd}\n"));
    }
}
