//! Looking at what is on disk: at the start, after a change behind our back, or on demand.
//!
//! While a torrent is checked it has no peers, and nothing of it is read or written for anyone else. The
//! bits are set one by one as pieces are found.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reactor::Reactor;
use torrent::metainfo::Metainfo;
use torrent::{Bitfield, PieceIndex};

use crate::disk::{
    Crew, DiskError, FileStamp, PieceState, Scratch, Storage, batch_len, check_batch,
};
use crate::disk_pools::DiskPools;
use crate::engine::{Engine, all_pieces};
use crate::event::EventKind;
use crate::parting::DisconnectReason;
use crate::resume::{ResumeRecord, trusted};
use crate::settings::CheckOptions;
use crate::status_word::StatusWord;
use crate::task::{Check, Stage, Task, TaskId};

/// What a torrent begins with, found on a disk thread.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// Pieces that are here for sure.
    pub(crate) trusted: Bitfield,
    /// Pieces that may be.
    pub(crate) doubtful: Vec<PieceIndex>,
    /// An earlier run says what is here.
    pub(crate) is_remembered: bool,
    /// All is as it was then.
    pub(crate) is_as_saved: bool,
    /// No file is longer than it should be.
    pub(crate) is_trimmed: bool,
    pub(crate) record: Option<ResumeRecord>,
    /// The priorities that a file remembers; empty: none.
    pub(crate) priorities: Vec<u8>,
    /// How the files look.
    pub(crate) stamps: Vec<Option<FileStamp>>,
}

/// Compares what is remembered with what is on disk. Reads no payload.
pub(crate) fn beginning(
    metainfo: &Metainfo,
    storage: &Storage,
    record: Option<ResumeRecord>,
    check_all: bool,
) -> Beginning {
    let layout = metainfo.layout();
    let stamps = storage.file_stamps();
    let is_anything_there = stamps.iter().flatten().any(|stamp| stamp.len > 0);
    let nothing = Bitfield::none(layout.piece_count());
    let everything = || all_pieces(layout.piece_count()).collect();
    let (trusted, doubtful) = match &record {
        _ if check_all => (nothing, everything()),
        Some(record) if record.dir == storage.root() => {
            let trust = trusted(record, layout, &stamps);
            (trust.bits, trust.recheck)
        }
        _ if is_anything_there => (nothing, everything()),
        _ => (nothing, Vec::new()),
    };
    let is_remembered = record.as_ref().is_some_and(|record| record.dir == storage.root());
    let is_as_saved = is_remembered
        && record.as_ref().is_some_and(|record| record.bits == trusted && record.stamps == stamps);
    let is_trimmed = stamps
        .iter()
        .zip(layout.files())
        .all(|(stamp, file)| stamp.is_none_or(|stamp| stamp.len <= file.len));
    let priorities = Vec::new();
    Beginning {
        trusted,
        doubtful,
        is_remembered,
        is_as_saved,
        is_trimmed,
        record,
        priorities,
        stamps,
    }
}

impl Engine {
    /// Hashes `doubtful` pieces; the torrent then goes on with those that are right, and the others that
    /// were here.
    pub(crate) fn start_check(
        &mut self,
        id: TaskId,
        doubtful: Vec<PieceIndex>,
        options: &CheckOptions,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.checks += 1;
        let number = task.checks;
        task.swarm.abandon_open();
        task.storing.clear();
        // Before the flag: whoever sees that sees these bits.
        let doubtful = task.published.doubt(doubtful);
        let queue = VecDeque::from(task.without_unproven(doubtful));
        let mut unseen = Bitfield::none(task.published.bits().len());
        queue.iter().for_each(|&piece| _ = unseen.set(piece));
        task.wanted_lens.set(None);
        task.flags = task.flags.without(StatusWord::CHECKED);
        task.stamps.resize(task.metainfo.layout().files().len(), None);
        let storage = Arc::clone(&task.storage);
        let is_over = Arc::new(AtomicBool::new(false));
        let disk = task.disk;
        let crew = self.crew_of(disk);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let total = unseen.count();
        task.is_void.store(true, Ordering::Relaxed);
        let abandoned = Arc::clone(&is_over);
        task.stage = Stage::Checking(Check {
            number,
            queue,
            unseen,
            total,
            is_over,
            unreadable: Vec::new(),
            trouble: None,
            crew,
            weight: options.weight,
            rate: options.rate,
        });
        let disk = task.disk;
        for job in std::mem::take(&mut task.verify_later) {
            self.lose(id, &job);
        }
        self.close_peers(id, DisconnectReason::HashChecking, reactor);
        self.save_doubt(id, reactor);
        self.wake(id);
        self.state_changed(id, reactor);
        self.offload_check(
            disk,
            move || {
                // What was being written is on disk, and nothing else will be.
                storage.freeze(&abandoned).then(|| {
                    // The files are taken as they are now, whatever became of them.
                    storage.close_files();
                    storage.file_stamps()
                })
            },
            move |stamps, engine, reactor| match stamps {
                Some(Some(stamps)) => engine.check_prepared(id, number, stamps, reactor),
                // It ended before the files were looked at.
                Some(None) => {}
                None => engine.check_panicked(id, number, reactor),
            },
            reactor,
        );
    }

    /// Those who take turns to hash what is on a disk.
    pub(crate) fn crew_of(&mut self, disk: DiskPools) -> Arc<Crew> {
        let known = self.crews.entry(disk.traits.id).or_default();
        let crew =
            known.upgrade().unwrap_or_else(|| Arc::new(Crew::new(self.config.check.threads)));
        *known = Arc::downgrade(&crew);
        crew
    }

    /// Has a thread for checks do something, which may never come to an end. `done` is given `None` if it panicked.
    pub(crate) fn offload_check<T: Send + 'static>(
        &mut self,
        disk: DiskPools,
        job: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(Option<T>, &mut Self, &mut Reactor<Self>) + 'static,
        reactor: &mut Reactor<Self>,
    ) {
        self.check_jobs += 1;
        let job = move || catch_unwind(AssertUnwindSafe(job)).ok();
        reactor.offload_on(disk.check, job, move |result, engine, reactor| {
            engine.check_jobs -= 1;
            done(result, engine, reactor);
        });
    }

    /// Nothing is being written any more, and it is known how the files look.
    fn check_prepared(
        &mut self,
        id: TaskId,
        number: u64,
        stamps: Vec<Option<FileStamp>>,
        reactor: &mut Reactor<Self>,
    ) {
        self.stamp_unknown(id, number, stamps);
        let Some(task) = self.check_of(id, number) else { return };
        let disk = task.disk.traits;
        let Stage::Checking(check) = &task.stage else { return };
        if check.queue.is_empty() {
            self.end_check(id, Outcome::Whole, reactor);
            return;
        }
        let (weight, rate) = (check.weight, check.rate);
        self.checks.insert(reactor.now(), id, disk, weight, rate);
        self.drive_checks(reactor);
    }

    /// Files of which nothing is believed are about to be hashed, and look so.
    fn stamp_unknown(&mut self, id: TaskId, number: u64, now: Vec<Option<FileStamp>>) {
        let Some(task) = self.check_of(id, number) else { return };
        let (metainfo, bits) = (&task.metainfo, task.published.bits());
        let is_judged = |piece| !metainfo.piece_check(PieceIndex(piece)).is_unknown();
        for (file, (stamp, now)) in task.stamps.iter_mut().zip(now).enumerate() {
            let mut pieces = metainfo.layout().file_pieces(file);
            if pieces.clone().all(is_judged) && !pieces.any(|piece| bits.has(PieceIndex(piece))) {
                *stamp = now;
            }
        }
    }

    /// A check, if it is still the one of that number.
    fn check_of(&mut self, id: TaskId, number: u64) -> Option<&mut Task> {
        let is_it = |task: &&mut Task| matches!(&task.stage, Stage::Checking(check) if check.number == number);
        self.tasks.get_mut(&id).filter(is_it)
    }

    /// Keeps the disk threads busy with checks.
    fn drive_checks(&mut self, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        while let Some(turn) = self.checks.next(now).filter(|_| !self.is_stopping) {
            let task = self.tasks.get_mut(&turn.id);
            let Some((task, batch)) = task.and_then(|task| Batch::take(task, turn.len_max)) else {
                self.checks.remove(turn.id);
                continue;
            };
            let (id, disk) = (turn.id, task.disk);
            self.checks.started(now, turn, batch.len);
            if batch.is_last {
                self.checks.remove(id);
            }
            let number = batch.number;
            self.offload_check(
                disk,
                move || batch.look(),
                move |found, engine, reactor| {
                    engine.checks.finished(turn.disk);
                    match found {
                        Some(found) => engine.batch_checked(id, number, found, reactor),
                        None => engine.check_panicked(id, number, reactor),
                    }
                    engine.drive_checks(reactor);
                },
                reactor,
            );
        }
        if self.check_timer.is_none() && self.checks.waits_for_allowance(now) {
            self.check_timer = Some(reactor.add_timer(now + ALLOWANCE_TICK, |engine, reactor| {
                engine.check_timer = None;
                engine.drive_checks(reactor);
            }));
        }
    }

    fn batch_checked(
        &mut self,
        id: TaskId,
        number: u64,
        batch: Vec<Found>,
        reactor: &mut Reactor<Self>,
    ) {
        for Found { piece, state } in batch {
            let Some(task) = self.check_of(id, number) else { return };
            let Stage::Checking(check) = &mut task.stage else { return };
            check.unseen.clear(piece);
            let is_good = matches!(state, Ok(PieceState::Good));
            if let Err(error) = state {
                check.unreadable.push(piece);
                check.trouble.get_or_insert(error);
            }
            if is_good {
                // Before the event: whoever hears of it looks.
                task.published.bits().set(piece);
            }
            let told = if is_good {
                EventKind::PieceVerified(piece)
            } else {
                EventKind::PieceFailed(piece)
            };
            self.publish(id, &told);
        }
        let Some(task) = self.check_of(id, number) else { return };
        if matches!(&task.stage, Stage::Checking(check) if check.unseen.count() == 0) {
            self.end_check(id, Outcome::Whole, reactor);
        }
    }

    /// A thread was lost in a check by a mistake of ours: better a torrent that failed than one that waits for ever.
    pub(crate) fn check_panicked(&mut self, id: TaskId, number: u64, reactor: &mut Reactor<Self>) {
        if self.check_of(id, number).is_some() {
            self.fail(id, PANICKED.to_owned(), reactor);
        }
    }

    /// Ends a check before it is through. What it has not got to counts as missing.
    pub(crate) fn cancel_check(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        self.end_check(id, Outcome::Cancelled, reactor);
    }

    /// Ends a check before it is through, of a torrent that is stopped. It goes on when that is started.
    pub(crate) fn interrupt_check(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        self.end_check(id, Outcome::Interrupted, reactor);
    }

    /// Has the disk threads leave a check, if there is one; something else comes in its place.
    pub(crate) fn leave_check(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Checking(check) = &task.stage else { return };
        check.is_over.store(true, Ordering::Release);
        task.storage.thaw();
        task.wanted_lens.set(None);
        self.checks.remove(id);
        self.drive_checks(reactor);
    }

    fn end_check(&mut self, id: TaskId, outcome: Outcome, reactor: &mut Reactor<Self>) {
        self.leave_check(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Checking(check) = &mut task.stage else { return };
        let is_whole = outcome == Outcome::Whole;
        let trouble = check.trouble.take().filter(|_| is_whole);
        let mut doubtful = std::mem::take(&mut check.unreadable);
        doubtful.extend(check.unseen.iter());
        // What this check has not seen the next run looks at.
        for piece in doubtful.iter().filter(|_| !is_whole) {
            for span in
                task.metainfo.layout().spans(*piece, 0, task.metainfo.layout().len_of(*piece))
            {
                if let Some(stamp) = task.stamps.get_mut(span.file) {
                    *stamp = None;
                }
            }
        }
        if is_whole && task.flags.contains(StatusWord::START_AFTER_CHECK) {
            task.flags = task.flags.with(StatusWord::STARTED);
        }
        task.flags = task.flags.without(StatusWord::START_AFTER_CHECK);
        let later = task.priorities_later.take();
        let have = task.published.bits().snapshot();
        if let Some(why) = trouble {
            self.renew_swarm(id, have, reactor);
            self.fail(id, why, reactor);
        } else {
            if is_whole {
                task.flags = task.flags.with(StatusWord::CHECKED);
            }
            if outcome != Outcome::Interrupted {
                doubtful.clear();
            }
            self.begin(id, have, doubtful, reactor);
        }
        if let Some(priorities) = later {
            self.set_priorities(id, priorities, reactor);
        }
    }

    /// It is known what is on disk: the torrent goes to work, or rests.
    pub(crate) fn begin(
        &mut self,
        id: TaskId,
        have: Bitfield,
        doubtful: Vec<PieceIndex>,
        reactor: &mut Reactor<Self>,
    ) {
        self.renew_swarm(id, have, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_dirty = !std::mem::take(&mut task.is_as_saved);
        if !task.is_dirty {
            task.saved_totals = task.totals();
        }
        task.save_at = reactor.now();
        let is_completed = task.swarm.is_completed();
        if task.flags.contains(StatusWord::STARTED) {
            self.run(id, reactor);
        } else {
            task.stage = Stage::Stopped { doubtful };
            self.rest(id, reactor);
        }
        self.state_changed(id, reactor);
        if is_completed {
            self.publish(id, &EventKind::Completed);
        }
    }

    /// Gives a torrent of which `have` is here a brain that knows it, and the addresses of the one before.
    fn renew_swarm(&mut self, id: TaskId, have: Bitfield, reactor: &Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.stage, Stage::Fetching) {
            return self.teach_swarm(id, have, reactor);
        }
        let (metainfo, priorities) = (Arc::clone(&task.metainfo), task.priorities.clone());
        let peer_id = task.identity.peer_id;
        let mut swarm = self.new_swarm(now, &metainfo, have, &priorities, peer_id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        for totals in [&mut task.earlier, &mut task.this_run] {
            totals.0 += task.swarm.downloaded();
            totals.1 += task.swarm.uploaded();
        }
        swarm.take_known(&mut task.swarm);
        swarm.set_super_seeding(task.swarm.wants_super_seeding());
        swarm.set_paused(now, task.flags.contains(StatusWord::PAUSED));
        swarm.hold(&task.unproven);
        swarm.want_block_hashes(&task.swarm.block_hashes_wanted());
        swarm.set_upload_capacity(task.upload_capacity(self.up.rate()));
        swarm.set_slots(self.config.limits.slots(task.upload_slots));
        swarm.set_selector(task.swarm.take_selector());
        task.swarm = swarm;
        task.swarms += 1;
        task.reading.clear();
        task.storing.clear();
        task.is_void = Arc::default();
        task.wanted_lens.set(None);
        let is_completed = task.swarm.is_completed();
        task.completed_at = is_completed.then_some(now);
        task.has_been_complete |= task.swarm.have().is_all();
        self.renew_web_seeds(id, reactor);
    }

    /// Makes the files that need no data, announces, dials.
    pub(crate) fn run(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_known = task.published.is_known();
        if !is_known {
            // What came before may have been refused.
            task.swarm.fetch_metadata_again();
        }
        task.stage = if is_known { Stage::Running } else { Stage::Fetching };
        task.swarm.set_paused(now, task.flags.contains(StatusWord::PAUSED));
        task.swarm.known.forget_failures();
        let is_trimmed = std::mem::take(&mut task.is_trimmed);
        let announce_at = self.next_announce(now);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.announcer.is_running() {
            task.announcer.start(announce_at);
        } else if task.swarm.known.is_empty() {
            task.announcer.announce_now(now);
        }
        let storage = Arc::clone(&task.storage);
        reactor.offload_on(
            task.disk.data,
            move || storage.create_empty_files(),
            move |done: Result<(), DiskError>, engine, reactor| {
                if let Err(error) = done {
                    engine.fail(id, error.to_string(), reactor);
                }
            },
        );
        if !is_trimmed && self.tasks.get(&id).is_some_and(|task| task.swarm.is_completed()) {
            self.cut_to_length(id, reactor);
        }
        self.drive_trackers(id, reactor);
        self.wake(id);
        self.dial(id, reactor);
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every piece was looked at.
    Whole,
    /// Somebody did not want it.
    Cancelled,
    /// The torrent was stopped.
    Interrupted,
}

/// Some neighbouring pieces, for one thread to look at.
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) pieces: Vec<PieceIndex>,
    /// Bytes of all of them.
    pub(crate) len: u64,
    pub(crate) is_last: bool,
    pub(crate) is_over: Arc<AtomicBool>,
    pub(crate) crew: Arc<Crew>,
}

/// What was found of a piece, or why it could not be read.
pub(crate) struct Found {
    pub(crate) piece: PieceIndex,
    pub(crate) state: Result<PieceState, String>,
}

impl Batch {
    /// The next pieces of a check: so many that they are hashed fast, and one at least.
    fn take(task: &mut Task, len_max: u64) -> Option<(&Task, Self)> {
        let layout = Arc::clone(task.metainfo.layout());
        let (metainfo, storage) = (Arc::clone(&task.metainfo), Arc::clone(&task.storage));
        let Stage::Checking(check) = &mut task.stage else { return None };
        let (mut pieces, mut len) = (Vec::new(), 0);
        while let Some(&piece) = check.queue.front() {
            let piece_len = u64::from(layout.len_of(piece));
            let is_full = pieces.len() >= batch_len(&layout) || len + piece_len > len_max;
            if is_full && !pieces.is_empty() {
                break;
            }
            len += piece_len;
            pieces.extend(check.queue.pop_front());
        }
        if pieces.is_empty() {
            return None;
        }
        let (number, is_over) = (check.number, Arc::clone(&check.is_over));
        let crew = Arc::clone(&check.crew);
        let is_last = check.queue.is_empty();
        Some((task, Self { number, metainfo, storage, pieces, len, is_last, is_over, crew }))
    }

    /// On a disk thread: hashes the pieces, unless it is told to leave it.
    pub(crate) fn look(&self) -> Vec<Found> {
        match self.states(&self.pieces) {
            Ok(states) => {
                let found = |(piece, state)| Found { piece, state: Ok(state) };
                states.into_iter().map(found).collect()
            }
            Err(DiskError::Cancelled) => Vec::new(),
            // One of them cannot be read: it is to be known which.
            Err(_) => self.pieces.iter().filter_map(|&piece| self.look_at(piece)).collect(),
        }
    }

    fn look_at(&self, piece: PieceIndex) -> Option<Found> {
        match self.states(&[piece]) {
            Ok(states) => states.first().map(|&(_, state)| Found { piece, state: Ok(state) }),
            Err(DiskError::Cancelled) => None,
            Err(error) => Some(Found { piece, state: Err(error.to_string()) }),
        }
    }

    fn states(&self, pieces: &[PieceIndex]) -> Result<Vec<(PieceIndex, PieceState)>, DiskError> {
        SCRATCH.with_borrow_mut(|scratch| {
            check_batch(&self.storage, &self.metainfo, pieces, &self.crew, scratch, &self.is_over)
        })
    }
}

thread_local! {
    /// Of each thread that hashes, until it ends for want of work.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What is said of a check that came upon a mistake of ours.
const PANICKED: &str =
    "the check panicked: this is a bug, please report it; check again to try again";

/// How often a check looks whether it may read on.
const ALLOWANCE_TICK: Duration = Duration::from_millis(20);
