//! A session and what is in it told to people, in a word or in full (`{:#}`). What strangers named is
//! shown without anything that a terminal obeys.

use std::fmt::{self, Display};

use torrent::text::{Clean, Size, row, rows};
use torrent::{Bitfield, PieceIndex};

use crate::disk::FileMode;
use crate::file_status::FileStatus;
use crate::peer_handle::Peer;
use crate::session::Session;
use crate::status::TorrentState;
use crate::task::piece_priorities;
use crate::torrent_handle::Torrent;

impl Display for Session {
    /// The name that peers know it by. In the long form where it listens, its limits and its torrents, too; it
    /// waits for the session to tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer_id())?;
        if !f.alternate() {
            return Ok(());
        }
        rows(f, "listens on", self.listen_addrs())?;
        let Ok(limits) = self.limits() else { return row(f, "state", "ended") };
        let rate = |rate: Option<u64>| match rate {
            Some(rate) => format!("{} each second", Size(rate)),
            None => "no limit".to_owned(),
        };
        row(f, "download", rate(limits.download))?;
        row(f, "upload", rate(limits.upload))?;
        let per_torrent = limits.connections_per_torrent_max;
        let per_host = limits.connections_per_host_max;
        row(f, "peers", format_args!("{} at most", limits.connections_max))?;
        row(f, "", format_args!("{per_torrent} of a torrent, {per_host} of a host"))?;
        row(f, "", format_args!("{} being dialled", limits.half_open_max))?;
        let torrents = self.torrents();
        rows(f, "torrents", torrents.iter().map(|one| format!("{one}, {:?}", one.status_word())))
    }
}

impl Display for Torrent {
    /// The name. In the long form all that is known of it, too; it waits for the session to tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Clean(self.name()).fmt(f)?;
        if !f.alternate() {
            return Ok(());
        }
        let (status, have) = (self.status(), self.bitfield());
        row(f, "info hash", self.info_hash())?;
        row(f, "status", format_args!("{:?}, {}", self.status_word(), status.state))?;
        rows(f, "error", self.error().as_deref().map(Clean))?;
        row(f, "path", Clean(&self.path().to_string_lossy()))?;
        row(f, "size", Size(self.size()))?;
        let percent = status.progress() * 100.0;
        row(
            f,
            "pieces",
            format_args!("{} of {}, {percent:.2}% of what is wanted", have.count(), have.len()),
        )?;
        let rate = |rate, total| format!("{} each second, {} in all", Size(rate), Size(total));
        row(f, "received", rate(status.download_rate, status.downloaded))?;
        row(f, "sent", rate(status.upload_rate, status.uploaded))?;
        let files = self.files().unwrap_or_default();
        rows(f, "files", files.iter().map(|file| format!("{file:#}")))?;
        let trackers = self.trackers().unwrap_or_default();
        rows(
            f,
            "trackers",
            trackers.iter().map(|one| format!("tier {}: {one}, {}", one.tier + 1, one.state)),
        )?;
        let web_seeds = self.web_seeds().unwrap_or_default();
        rows(f, "web seeds", web_seeds.iter().map(|one| format!("{one}, {}", one.state)))?;
        let peers: Vec<_> =
            self.peers().unwrap_or_default().iter().filter_map(Peer::status).collect();
        rows(f, "peers", peers.iter().map(|peer| format!("{peer}, has {}", peer.pieces_have)))?;
        let priorities: Vec<u8> = files.iter().map(|file| file.priority).collect();
        let wanted = piece_priorities(self.published().metainfo().layout(), &priorities);
        let open = peers.iter().filter_map(|peer| peer.piece).collect::<Vec<_>>();
        let map =
            map(&have, |piece| wanted.get(piece.index()).is_some_and(|&wanted| wanted > 0), &open);
        rows(f, "map", map.iter().map(|line| format!("[{line}]")))
    }
}

/// A sign for each piece, or for as many neighbours as it takes to have no more than [`SIGNS_MAX`]: `|` is
/// here, `*` is on its way, `x` is not wanted, a space is missing.
fn map(
    have: &Bitfield,
    is_wanted: impl Fn(PieceIndex) -> bool,
    open: &[PieceIndex],
) -> Vec<String> {
    let share = have.len().div_ceil(SIGNS_MAX).max(1);
    let sign = |first: u32| {
        let last = first.saturating_add(share).min(have.len());
        let pieces = || (first..last).map(PieceIndex);
        let is_open = |piece| open.contains(&piece) && !have.has(piece);
        if pieces().all(|piece| have.has(piece)) {
            '|'
        } else if pieces().any(is_open) {
            '*'
        } else if pieces().all(|piece| have.has(piece) || !is_wanted(piece)) {
            'x'
        } else {
            ' '
        }
    };
    let signs: Vec<char> = (0..have.len()).step_by(share as usize).map(sign).collect();
    signs.chunks(SIGNS_PER_LINE).map(|line| line.iter().collect()).collect()
}

impl Display for FileStatus {
    /// The path. In the long form the number, size and priority, how much is here, and how it is open, too: on
    /// one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        if !f.alternate() {
            return Clean(&path).fmt(f);
        }
        write!(f, "{}: {}, {}, ", self.index, Clean(&path), Size(self.len))?;
        write!(f, "priority {}, {:.2}%, ", self.priority, self.percent())?;
        match self.mode {
            Some(mode) => write!(f, "open to be {mode}"),
            None => f.write_str("closed"),
        }
    }
}

impl Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::ReadWrite => "read and written",
        })
    }
}

impl Display for Peer {
    /// The address. In the long form all that is known of it, too; it waits for the session to tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status().filter(|_| f.alternate()) {
            Some(status) => write!(f, "{status:#}"),
            None if f.alternate() => write!(f, "{}, gone", self.addr()),
            None => write!(f, "{}", self.addr()),
        }
    }
}

impl Display for TorrentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checking { done, total } => return write!(f, "checking, {done} of {total}"),
            Self::FetchingMetadata { total: 0, .. } => "looking for metadata",
            Self::FetchingMetadata { done, total } => {
                return write!(f, "fetching metadata, {done} of {total} bytes");
            }
            Self::Downloading => "downloading",
            Self::Seeding => "seeding",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Failed(why) => return write!(f, "failed: {}", Clean(why)),
            Self::Removed => "removed",
        })
    }
}

/// So large a torrent is shown by a sign for each of its pieces.
const SIGNS_MAX: u32 = 4096;
const SIGNS_PER_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_path_or_all_that_is_known_of_it() {
        let file = FileStatus {
            index: 3,
            path: "/d/a\x1b[1m".into(),
            len: 2048,
            priority: 4,
            mode: Some(FileMode::ReadWrite),
            done_len: 512,
        };
        assert_eq!(file.to_string(), "/d/a\u{fffd}[1m");
        let expected = "3: /d/a\u{fffd}[1m, 2048 bytes (2.0 KiB), priority 4, 25.00%, open to be read and written";
        assert_eq!(format!("{file:#}"), expected);
        assert!(format!("{:#}", FileStatus { mode: None, ..file }).ends_with(", closed"));
    }

    #[test]
    fn a_map_has_a_sign_for_each_piece_until_there_are_too_many() {
        let mut have = Bitfield::none(6);
        [0, 1, 4].into_iter().for_each(|piece| _ = have.set(PieceIndex(piece)));
        let signs = map(&have, |piece| piece.0 != 5, &[PieceIndex(2), PieceIndex(4)]);
        assert_eq!(signs, ["||* |x"]);
        assert!(map(&Bitfield::none(0), |_| true, &[]).is_empty());
        let many = map(&Bitfield::all(1_000_000), |_| true, &[]);
        assert!(many.len() <= 64 && many.iter().all(|line| line.len() <= 64));
        assert!(many.concat().chars().all(|sign| sign == '|'));
    }
}
