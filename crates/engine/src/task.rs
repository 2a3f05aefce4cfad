//! One torrent in the engine: its brain, its files, its trackers, and what it is doing.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{TimerId, Token};
use torrent::metainfo::{FileLayout, Metainfo};
use torrent::rate::TokenBucket;
use torrent::swarm::{PeerKey, Swarm, VerifyJob};
use torrent::tracker::{Announcer, TrackerState};
use torrent::{Bitfield, InfoHash, PieceIndex};

use crate::disk::{FileStamp, Storage};
use crate::engine::all_pieces;
use crate::status::{Published, TorrentState, TorrentStatus};

/// A torrent of this session. Never used again for another, even of the same info hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u64);

/// What a torrent is doing, with what only that state needs.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Looking at what is on disk already.
    Checking(Check),
    /// Downloading or seeding.
    Running,
    /// Told to do nothing.
    Paused,
    /// The disk failed.
    Failed(Failure),
    /// The session ends, or it was removed. What is known of its data may not be true.
    Stopped { is_in_doubt: bool },
}

/// What is left of a torrent whose disk failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// It was being looked at: any piece may be here.
    pub(crate) was_checking: bool,
}

/// A check under way.
#[derive(Debug, Default)]
pub(crate) struct Check {
    /// Which check of this torrent it is: what disk threads found for an earlier one does not count.
    pub(crate) number: u64,
    /// What to hash still.
    pub(crate) queue: VecDeque<PieceIndex>,
    pub(crate) in_flight: usize,
    pub(crate) done: u32,
    pub(crate) total: u32,
    /// What was found, and what was believed from the start.
    pub(crate) found: Option<Bitfield>,
    /// To be paused when it ends.
    pub(crate) then_pause: bool,
}

#[derive(Debug)]
pub(crate) struct Task {
    /// It was removed, and its trackers have yet to hear of it.
    pub(crate) is_leaving: bool,
    /// Its own, in bytes per second.
    pub(crate) upload_limit: Option<u64>,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) dir: PathBuf,
    pub(crate) priorities: Vec<u8>,
    /// What was counted when there were so many pieces; emptied when priorities change.
    pub(crate) wanted_lens: Cell<Option<(u32, (u64, u64))>>,
    pub(crate) is_sequential: bool,
    pub(crate) stage: Stage,
    /// Checks begun so far.
    pub(crate) checks: u64,
    pub(crate) swarm: Swarm,
    pub(crate) announcer: Announcer,
    pub(crate) announce_timer: Option<TimerId>,
    pub(crate) connections: BTreeMap<PeerKey, Token>,
    /// Connections that have not shaken hands yet.
    pub(crate) half_open: BTreeSet<Token>,
    pub(crate) down: TokenBucket,
    pub(crate) up: TokenBucket,
    pub(crate) published: Published,
    /// Payload of earlier runs: down, up.
    pub(crate) earlier: (u64, u64),
    /// Payload of this run, of swarms before the present one: down, up.
    pub(crate) this_run: (u64, u64),
    /// How each file looked when what is believed of it was true.
    pub(crate) stamps: Vec<Option<FileStamp>>,
    /// Changed since the state was last saved.
    pub(crate) is_dirty: bool,
    pub(crate) save_at: Instant,
    pub(crate) is_saving: bool,
    pub(crate) completed_at: Option<Instant>,
    /// Pieces of which unverified blocks are being written; a verification waits for them.
    pub(crate) storing: BTreeMap<PieceIndex, u32>,
    pub(crate) verify_later: Vec<VerifyJob>,
    /// Bytes being read from disk for each peer.
    pub(crate) reading: BTreeMap<PeerKey, usize>,
}

impl Task {
    pub(crate) fn info_hash(&self) -> InfoHash {
        self.metainfo.info_hash()
    }

    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running)
    }

    pub(crate) fn state(&self) -> TorrentState {
        match &self.stage {
            Stage::Checking(check) => {
                TorrentState::Checking { done: check.done, total: check.total }
            }
            Stage::Running if self.swarm.is_completed() => TorrentState::Seeding,
            Stage::Running => TorrentState::Downloading,
            Stage::Paused => TorrentState::Paused,
            Stage::Failed(failure) => TorrentState::Failed(failure.why.clone()),
            Stage::Stopped { .. } => TorrentState::Stopped,
        }
    }

    /// Bytes of the wanted pieces, and of those of them that are here.
    fn wanted_lens(&self) -> (u64, u64) {
        let have = self.swarm.have();
        if let Some((counted_at, lens)) = self.wanted_lens.get()
            && counted_at == have.count()
        {
            return lens;
        }
        let layout = self.metainfo.layout();
        let mut lens = (0, 0);
        for (piece, priority) in
            all_pieces(layout.piece_count()).zip(piece_priorities(layout, &self.priorities))
        {
            if priority > 0 {
                let len = u64::from(layout.len_of(piece));
                lens.0 += len;
                lens.1 += if have.has(piece) { len } else { 0 };
            }
        }
        self.wanted_lens.set(Some((have.count(), lens)));
        lens
    }

    /// Bytes that are wanted and missing, as trackers are told.
    pub(crate) fn left(&self) -> u64 {
        let (wanted, here) = self.wanted_lens();
        wanted - here
    }

    pub(crate) fn status(&self, now: Instant) -> TorrentStatus {
        let layout = self.metainfo.layout();
        let (wanted_len, wanted_done_len) = self.wanted_lens();
        let have = self.swarm.have();
        let last = PieceIndex(layout.piece_count().saturating_sub(1));
        let done_len = match have.count() {
            0 => 0,
            count => {
                let short =
                    if have.has(last) { layout.piece_len() - layout.len_of(last) } else { 0 };
                u64::from(count) * u64::from(layout.piece_len()) - u64::from(short)
            }
        };
        let download_rate = self.swarm.download_rate(now);
        let missing = wanted_len - wanted_done_len;
        let eta = (missing > 0 && download_rate > 0)
            .then(|| Duration::from_secs(missing / download_rate));
        TorrentStatus {
            name: self.metainfo.name().to_owned(),
            state: self.state(),
            total_len: layout.total_len(),
            wanted_len,
            wanted_done_len,
            done_len,
            pieces_have: have.count(),
            piece_count: layout.piece_count(),
            download_rate,
            upload_rate: self.swarm.upload_rate(now),
            downloaded: self.earlier.0 + self.swarm.downloaded(),
            uploaded: self.earlier.1 + self.swarm.uploaded(),
            wasted: self.swarm.wasted(),
            peers_connected: self.swarm.peer_count(),
            seeds_connected: self.swarm.seed_count(),
            peers_known: self.swarm.known.len(),
            eta,
            tracker_trouble: self.tracker_trouble(),
            seeding_for: self
                .completed_at
                .map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
        }
    }

    /// The first complaint, if no tracker works.
    fn tracker_trouble(&self) -> Option<String> {
        let trackers = self.announcer.status();
        if trackers.iter().any(|tracker| matches!(tracker.state, TrackerState::Working)) {
            return None;
        }
        trackers
            .into_iter()
            .find_map(|tracker| Some(format!("{}: {}", tracker.url, tracker.last_error?)))
    }
}

/// A number a piece: the highest of the files that it touches.
pub(crate) fn piece_priorities(layout: &FileLayout, files: &[u8]) -> Vec<u8> {
    let mut pieces = vec![0_u8; layout.piece_count() as usize];
    for (index, file) in layout.files().iter().enumerate() {
        let priority = if file.is_pad {
            0
        } else {
            files.get(index).copied().unwrap_or(PRIORITY_USUAL).min(7)
        };
        let range = layout.file_pieces(index);
        for piece in &mut pieces[range.start as usize..range.end as usize] {
            *piece = priority.max(*piece);
        }
    }
    pieces
}

/// Which files are wanted.
pub(crate) fn wanted_files(layout: &FileLayout, priorities: &[u8]) -> Vec<bool> {
    (0..layout.files().len())
        .map(|index| priorities.get(index).is_none_or(|&priority| priority > 0))
        .collect()
}

const PRIORITY_USUAL: u8 = 4;
