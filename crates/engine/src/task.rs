//! One torrent in the engine: its brain, its files, its trackers, and what it is doing.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use reactor::{TimerId, Token};
use torrent::metainfo::{FileLayout, Metainfo};
use torrent::rate::TokenBucket;
use torrent::swarm::{PeerKey, Swarm, VerifyJob};
use torrent::tracker::{Announcer, TrackerState};
use torrent::{BLOCK_LEN, Bitfield, InfoHash, PieceIndex};

use crate::disk::{Crew, FileStamp, Storage};
use crate::disk_pools::DiskPools;
use crate::engine::all_pieces;
use crate::magnet::Named;
use crate::network::Identity;
use crate::resume_data::Asker;
use crate::status::{Published, TorrentState, TorrentStatus};
use crate::status_word::StatusWord;
use crate::web_seed::WebSources;

/// A torrent of this session. Never used again for another, even of the same info hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u64);

/// What a torrent is doing, with what only that state needs.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It is asked what is remembered, and how the files look.
    Opening,
    /// Its metadata is awaited from peers, or has come and the files are being looked at. Its flags have
    /// STARTED.
    Fetching,
    /// What is on disk is hashed.
    Checking(Check),
    /// Downloading or seeding; its flags have STARTED.
    Running,
    /// Told to do nothing. `doubtful` is what a check had not got to when it was stopped: it goes on with
    /// that when the torrent is started.
    Stopped { doubtful: Vec<PieceIndex> },
    /// The disk failed.
    Failed(Failure),
    /// The session ends, or it was removed. What is known of its data may not be true.
    Ended { is_in_doubt: bool },
}

/// What is left of a torrent whose disk failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// It was being looked at: any piece may be here.
    pub(crate) was_checking: bool,
}

/// A check under way.
#[derive(Debug)]
pub(crate) struct Check {
    /// Which check of this torrent it is: what disk threads find for an earlier one does not count.
    pub(crate) number: u64,
    /// What to hash still, in order.
    pub(crate) queue: VecDeque<PieceIndex>,
    /// What has not been told of yet: the queue, and what disk threads are at.
    pub(crate) unseen: Bitfield,
    pub(crate) total: u32,
    /// Tells disk threads to leave it.
    pub(crate) is_over: Arc<AtomicBool>,
    /// What could not be read, and why not the first of it.
    pub(crate) unreadable: Vec<PieceIndex>,
    pub(crate) trouble: Option<String>,
    pub(crate) crew: Arc<Crew>,
    /// Its share beside others, and the limit on what it reads.
    pub(crate) weight: u32,
    pub(crate) rate: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Task {
    /// It was removed, and its trackers have yet to hear of it.
    pub(crate) is_leaving: bool,
    /// Its own, in bytes per second.
    pub(crate) upload_limit: Option<u64>,
    /// How many peers it serves at once, rather than as many as any.
    pub(crate) upload_slots: Option<usize>,
    /// How many peers it may have, rather than as many as any.
    pub(crate) peers_max: Option<usize>,
    /// What was known of it, for when it is looked at.
    pub(crate) resume_file: Option<PathBuf>,
    /// Those who wait for its resume data.
    pub(crate) resume_askers: Vec<Asker>,
    /// What we are called in it.
    pub(crate) identity: Identity,
    /// What the link that named it says, until its metadata is here and its files are being looked at.
    pub(crate) named: Option<Box<Named>>,
    /// Until then, what stands for it.
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) disk: DiskPools,
    pub(crate) dir: PathBuf,
    pub(crate) priorities: Vec<u8>,
    /// What was asked for during a check: files stay as they are until it is over.
    pub(crate) priorities_later: Option<Vec<u8>>,
    /// How often files were asked for: an earlier wish that the disk is late with does not count.
    pub(crate) wishes: u64,
    /// What was counted when there were so many pieces; emptied when priorities change.
    pub(crate) wanted_lens: Cell<Option<(u32, (u64, u64))>>,
    /// Pieces that may be on the disk, and were not looked at since nobody knows what they must be.
    pub(crate) unproven: Vec<PieceIndex>,
    /// Everything is to be hashed first.
    pub(crate) is_check_wanted: bool,
    /// Those to announce to, if not those that it names.
    pub(crate) trackers: Option<Vec<Vec<String>>>,
    pub(crate) stage: Stage,
    /// Those flags of its status word that do not follow from its stage.
    pub(crate) flags: StatusWord,
    /// Checks begun so far.
    pub(crate) checks: u64,
    /// Which brain it has by now: what the disk says to an earlier one's wishes does not count.
    pub(crate) swarms: u64,
    pub(crate) swarm: Swarm,
    /// Addresses of web seeds beside those that it names.
    pub(crate) web_seed_urls: Vec<String>,
    pub(crate) web_seeds: WebSources,
    /// How many there have been.
    pub(crate) web_seeds_ever: u32,
    pub(crate) announcer: Announcer,
    pub(crate) announce_timer: Option<TimerId>,
    pub(crate) connections: BTreeMap<PeerKey, Token>,
    /// It would dial, were there room; it is in the queue.
    pub(crate) is_waiting_to_dial: bool,
    /// When a peer last gave way to one that was to be dialled.
    pub(crate) turned_over_at: Option<Instant>,
    /// Wakes it when somebody may be dialled again.
    pub(crate) dial_timer: Option<TimerId>,
    /// Connections that have not shaken hands yet.
    pub(crate) half_open: BTreeSet<Token>,
    pub(crate) down: TokenBucket,
    pub(crate) up: TokenBucket,
    pub(crate) published: Arc<Published>,
    /// Payload of earlier runs: down, up.
    pub(crate) earlier: (u64, u64),
    /// Payload of this run, of swarms before the present one: down, up.
    pub(crate) this_run: (u64, u64),
    /// How each file looked when what is believed of it was true.
    pub(crate) stamps: Vec<Option<FileStamp>>,
    /// It is known what earlier runs saved: before that, nothing may be saved over it.
    pub(crate) is_recalled: bool,
    /// Changed since the state was last saved.
    pub(crate) is_dirty: bool,
    pub(crate) save_at: Instant,
    pub(crate) is_saving: bool,
    /// What [`Task::totals`] were when the state was last saved.
    pub(crate) saved_totals: (u64, u64, usize),
    /// It was found as it was last saved, and has done nothing since.
    pub(crate) is_as_saved: bool,
    /// No file was longer than it should be when the torrent was added.
    pub(crate) is_trimmed: bool,
    pub(crate) completed_at: Option<Instant>,
    /// When more was wanted after all was here, or we hung up on peers: those that hang up on a torrent that needs
    /// nothing, or is here already, may not have heard of it.
    pub(crate) changed_at: Option<Instant>,
    /// All pieces were here at some time: trackers are told only the first time, if the last came from
    /// peers.
    pub(crate) has_been_complete: bool,
    /// Set when a check begins: blocks that are not verified are not to be written any more.
    pub(crate) is_void: Arc<AtomicBool>,
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

    /// Sets those of the pieces aside that nobody could judge yet, and returns the others.
    pub(crate) fn without_unproven(&mut self, pieces: Vec<PieceIndex>) -> Vec<PieceIndex> {
        let is_unproven = |piece: &PieceIndex| self.metainfo.piece_check(*piece).is_unknown();
        let (unproven, others) = pieces.into_iter().partition(is_unproven);
        let metainfo = &self.metainfo;
        self.unproven.retain(|piece| metainfo.piece_check(*piece).is_unknown());
        self.unproven.extend::<Vec<_>>(unproven);
        self.unproven.sort_unstable();
        self.unproven.dedup();
        // What is in their files the next run looks at, should it not come to that in this one.
        for &piece in &self.unproven {
            let file = self.metainfo.layout().file_at(piece);
            if let Some(stamp) = file.and_then(|file| self.stamps.get_mut(file)) {
                *stamp = None;
            }
        }
        others
    }

    /// Whether it has peers, or may have.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Fetching)
    }

    /// What was asked for last.
    pub(crate) fn priorities_wanted(&self) -> &[u8] {
        self.priorities_later.as_deref().unwrap_or(&self.priorities)
    }

    /// Whether data may move between it and its peers.
    pub(crate) const fn is_moving(&self) -> bool {
        self.is_running() && !self.flags.contains(StatusWord::PAUSED)
    }

    /// Whether all is here that is wanted, and something that is not wanted is missing (BEP 21).
    pub(crate) fn is_partial_seed(&self) -> bool {
        self.is_running() && self.swarm.is_completed() && !self.swarm.have().is_all()
    }

    pub(crate) fn state(&self) -> TorrentState {
        match &self.stage {
            Stage::Opening => TorrentState::Checking { done: 0, total: 0 },
            Stage::Fetching if self.published.is_known() => {
                TorrentState::Checking { done: 0, total: 0 }
            }
            Stage::Checking(check) => TorrentState::Checking {
                done: check.total - check.unseen.count(),
                total: check.total,
            },
            Stage::Running | Stage::Fetching if !self.is_moving() => TorrentState::Paused,
            Stage::Fetching => {
                let (done, total) = self.swarm.metadata_progress().unwrap_or_default();
                TorrentState::FetchingMetadata { done, total }
            }
            Stage::Running if self.swarm.is_completed() => TorrentState::Seeding,
            Stage::Running => TorrentState::Downloading,
            Stage::Failed(failure) => TorrentState::Failed(failure.why.clone()),
            Stage::Ended { .. } if !self.flags.contains(StatusWord::QUEUED) => {
                TorrentState::Removed
            }
            Stage::Stopped { .. } | Stage::Ended { .. } => TorrentState::Stopped,
        }
    }

    pub(crate) const fn word(&self) -> StatusWord {
        match self.stage {
            Stage::Checking(_) => self.flags.with(StatusWord::CHECKING),
            Stage::Failed(_) => self.flags.with(StatusWord::ERROR),
            Stage::Opening
            | Stage::Fetching
            | Stage::Running
            | Stage::Stopped { .. }
            | Stage::Ended { .. } => self.flags,
        }
    }

    /// The pieces that are here. During a check the brain does not know.
    pub(crate) fn have(&self) -> Cow<'_, Bitfield> {
        match self.stage {
            Stage::Checking(_) => Cow::Owned(self.published.bits().snapshot()),
            Stage::Opening
            | Stage::Fetching
            | Stage::Running
            | Stage::Stopped { .. }
            | Stage::Failed(_)
            | Stage::Ended { .. } => Cow::Borrowed(self.swarm.have()),
        }
    }

    /// What it may send in bytes per second, where all torrents together have this limit.
    pub(crate) fn upload_capacity(&self, in_all: Option<u64>) -> Option<u64> {
        [self.upload_limit, in_all].into_iter().flatten().min()
    }

    /// What is worth saving at the end though no piece has come: payload down and up, peers known.
    pub(crate) fn totals(&self) -> (u64, u64, usize) {
        let (down, up) = self.earlier;
        (down + self.swarm.downloaded(), up + self.swarm.uploaded(), self.swarm.known.len())
    }

    /// Bytes of the wanted pieces, and of those of them that are here.
    fn wanted_lens(&self) -> (u64, u64) {
        self.wanted_lens_of(&self.have())
    }

    fn wanted_lens_of(&self, have: &Bitfield) -> (u64, u64) {
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

    /// The pieces that have to be looked at before it goes on.
    pub(crate) fn doubtful(&self) -> Vec<PieceIndex> {
        let have = self.swarm.have();
        match &self.stage {
            // Whatever broke may have taken verified data with it.
            Stage::Failed(Failure { was_checking: false, .. }) => have.iter().collect(),
            Stage::Stopped { doubtful } => doubtful.clone(),
            // What an earlier run verified has yet to be heard of, and nobody will ask again.
            Stage::Opening
            | Stage::Fetching
            | Stage::Failed(Failure { was_checking: true, .. }) => {
                all_pieces(self.metainfo.layout().piece_count()).collect()
            }
            Stage::Checking(_) | Stage::Running | Stage::Ended { .. } => Vec::new(),
        }
    }

    /// Bytes that are wanted and missing, as trackers are told.
    pub(crate) fn left(&self) -> u64 {
        if !self.published.is_known() || !self.swarm.block_hashes_wanted().is_empty() {
            // Something: to trackers, who lacks nothing is a seed.
            return u64::from(BLOCK_LEN);
        }
        let (wanted, here) = self.wanted_lens();
        wanted - here
    }

    pub(crate) fn status(&self, now: Instant) -> TorrentStatus {
        let layout = self.metainfo.layout();
        let have = &*self.have();
        let (wanted_len, wanted_done_len) = self.wanted_lens_of(have);
        let done_len = layout.len_of_all(have);
        let download_rate = self.swarm.download_rate(now);
        let missing = wanted_len - wanted_done_len;
        let eta = (missing > 0 && download_rate > 0)
            .then(|| Duration::from_secs(missing / download_rate));
        TorrentStatus {
            name: self.metainfo.name().to_owned(),
            awaits_metadata: !self.published.is_known(),
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
            peers_max: self.peers_max,
            peers_known: self.swarm.known.len(),
            web_seeds_active: self.web_seeds_active(),
            web_seed_trouble: self.web_seed_trouble(now),
            eta,
            tracker_trouble: self.tracker_trouble(),
            seeding_for: self
                .completed_at
                .map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
            seeding_since: self.completed_at.filter(|_| self.is_running()),
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
            files.get(index).copied().unwrap_or(PRIORITY_USUAL).min(PRIORITY_MAX)
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

pub(crate) const PRIORITY_USUAL: u8 = 4;
pub(crate) const PRIORITY_MAX: u8 = 7;
