//! What outlasts the process: which pieces are verified, and how the files looked then.
//!
//! The order keeps a crash harmless. First the data is synced, then the sizes and times of the files
//! that we wrote are taken, then both are recorded together with the bits that were set before the
//! sync began. A file that was written after that looks changed at the next start, and is hashed again.
//! So does one that another program changed: of files that we did not write, the record keeps how they
//! looked when they were hashed.
//!
//! Each torrent is synced by a job of its own, as its disk may be slow. What is to be recorded then
//! gathers in [`Writes`] for a moment, and is written for all torrents at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{Reactor, TimerId};
use torrent::InfoHash;

use crate::disk::{DiskError, FileStamp, Storage};
use crate::engine::Engine;
use crate::resume::ResumeRecord;
use crate::resume_data::{Asker, ResumeData, ResumeDataError};
use crate::store::Change;
use crate::task::{Stage, Task, TaskId};

/// What waits to be written into the database, in the order in which it happened.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    waiting: Vec<Change>,
    /// What that takes in memory, in bytes.
    waiting_len: usize,
    /// Since when something has been waiting.
    since: Option<Instant>,
    timer: Option<TimerId>,
    /// Torrents whose data is being synced: their records are about to come.
    syncing: usize,
    is_writing: bool,
}

impl Writes {
    /// Whether everything is written down.
    pub(crate) const fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.syncing == 0 && !self.is_writing
    }
}

impl Engine {
    /// Saves what has changed, at most every few seconds.
    pub(crate) fn save_if_due(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.is_dirty && !task.is_saving && reactor.now() >= task.save_at {
            self.save(id, reactor);
        }
    }

    /// Saves what has changed, the amounts sent and received and the known peers too.
    pub(crate) fn save_if_changed(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.is_dirty || task.saved_totals != task.totals() {
            self.save(id, reactor);
        }
    }

    /// Saves a torrent's state, on a disk thread. Of one whose data is in doubt, what was saved before
    /// stays.
    pub(crate) fn save(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let has_store = self.store.is_some();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.is_in_doubt() || task.is_leaving {
            for asker in task.resume_askers.drain(..) {
                // Whoever asked may be gone.
                asker.send(Err(ResumeDataError::InDoubt)).ok();
            }
            return;
        }
        if !has_store && task.resume_askers.is_empty() {
            return;
        }
        if task.is_saving || !task.is_recalled {
            // When that is done: the totals of earlier runs must be in it.
            task.is_dirty = true;
            return;
        }
        task.is_saving = true;
        task.is_dirty = false;
        task.save_at = reactor.now() + SAVE_EVERY;
        task.saved_totals = task.totals();
        let record = record(task);
        let askers = std::mem::take(&mut task.resume_askers);
        let (storage, disk) = (Arc::clone(&task.storage), task.disk);
        self.writes.syncing += 1;
        reactor.offload_on(
            disk.data,
            move || {
                let mut record = record;
                restamp(&storage, &mut record.stamps)?;
                Ok((record.encode(), record.stamps))
            },
            move |done, engine, reactor| engine.synced(id, askers, done, reactor),
        );
    }

    /// A check begins: what was saved before is not to be believed of the files that are looked at, should
    /// the process not live to see what is found.
    pub(crate) fn save_doubt(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.is_recalled && !task.is_leaving)
        else {
            return;
        };
        let Stage::Checking(check) = &task.stage else { return };
        if self.store.is_none() {
            return;
        }
        let mut record = record(task);
        if task.is_dirty || task.is_saving {
            // Some of the bits may be of data that is not on the disk for good.
            record.stamps.fill(None);
        }
        let layout = task.metainfo.layout();
        for piece in check.unseen.iter() {
            for span in layout.spans(piece, 0, layout.len_of(piece)) {
                if let Some(stamp) = record.stamps.get_mut(span.file) {
                    *stamp = None;
                }
            }
        }
        self.write(Change::Record(task.info_hash(), record.encode()), reactor);
    }

    /// What was verified of a torrent is on its disk for good, and may be recorded.
    fn synced(
        &mut self,
        id: TaskId,
        askers: Vec<Asker>,
        done: Result<(Vec<u8>, Vec<Option<FileStamp>>), DiskError>,
        reactor: &mut Reactor<Self>,
    ) {
        self.writes.syncing -= 1;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_saving = false;
        for asker in askers {
            let data = |record: &Vec<u8>| {
                ResumeData::encode(task.info_hash(), task.priorities_wanted(), record)
            };
            let told = done.as_ref().map(|(record, _)| data(record));
            let told = told.map_err(|error| ResumeDataError::Disk(error.to_string()));
            // Whoever asked may be gone.
            asker.send(told).ok();
        }
        match done {
            Ok((record, stamps)) => {
                task.stamps = stamps;
                let info_hash = task.info_hash();
                let is_again =
                    (task.is_dirty && !task.is_running()) || !task.resume_askers.is_empty();
                // What is leaving has been forgotten; what is checked has been in doubt since.
                let is_valid = !task.is_leaving && !matches!(task.stage, Stage::Checking(_));
                if is_valid && self.store.is_some() {
                    self.write(Change::Record(info_hash, record), reactor);
                }
                // Of a torrent that runs, the next tick takes care.
                if is_again {
                    self.save(id, reactor);
                }
                self.let_go_if_stopped(id, reactor);
            }
            // What the disk did not take is told once; it must not be believed to be there.
            Err(error) => self.fail(id, error.to_string(), reactor),
        }
    }

    /// Has the database remember something, soon.
    pub(crate) fn write(&mut self, change: Change, reactor: &mut Reactor<Self>) {
        self.writes.waiting_len += change.len();
        self.writes.waiting.push(change);
        self.writes.since.get_or_insert_with(|| reactor.now());
        if self.writes.waiting_len >= WAITING_LEN_MAX {
            self.write_waiting(reactor);
        }
        self.write_later(WRITE_AFTER, reactor);
    }

    fn write_later(&mut self, after: Duration, reactor: &mut Reactor<Self>) {
        if self.writes.timer.is_none() && !self.writes.waiting.is_empty() {
            let at = reactor.now() + after;
            self.writes.timer = Some(reactor.add_timer(at, |engine, reactor| {
                engine.writes.timer = None;
                engine.write_if_gathered(reactor);
                engine.write_later(WRITE_AFTER, reactor);
            }));
        }
    }

    /// Writes what waits, unless more is about to come; nothing waits long for that.
    pub(crate) fn write_if_gathered(&mut self, reactor: &mut Reactor<Self>) {
        let Some(since) = self.writes.since else { return };
        let waited = reactor.now().saturating_duration_since(since);
        if self.writes.syncing == 0 || waited >= GATHER_MAX {
            self.write_waiting(reactor);
        }
    }

    /// Writes all that waits, in one transaction, unless the one before is under way.
    fn write_waiting(&mut self, reactor: &mut Reactor<Self>) {
        let Some(store) = self.store.clone() else { return };
        if self.writes.is_writing || self.writes.waiting.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.writes.waiting);
        (self.writes.waiting_len, self.writes.since) = (0, None);
        self.writes.is_writing = true;
        reactor.offload(
            move || {
                let done = store.apply(&changes);
                (changes, done)
            },
            |(changes, done), engine, reactor| {
                engine.writes.is_writing = false;
                if let Err(error) = done {
                    tracing::warn!(%error, "cannot save the state");
                    engine.write_again(changes, reactor);
                }
            },
        );
    }

    /// The database failed: saves what was to be saved once more, unless this was the last chance.
    fn write_again(&mut self, changes: Vec<Change>, reactor: &mut Reactor<Self>) {
        if self.is_stopping {
            return;
        }
        let (records, others): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| matches!(change, Change::Record(..)));
        for record in records {
            if let Change::Record(info_hash, _) = record {
                self.save_again(info_hash);
            }
        }
        // What happened meanwhile comes after.
        let later = std::mem::replace(&mut self.writes.waiting, others);
        self.writes.waiting.extend(later);
        self.writes.waiting_len = self.writes.waiting.iter().map(Change::len).sum();
        if !self.writes.waiting.is_empty() {
            self.writes.since = Some(reactor.now());
            self.write_later(SAVE_EVERY, reactor);
        }
    }

    fn save_again(&mut self, info_hash: InfoHash) {
        let Some(&id) = self.by_hash.get(&info_hash) else { return };
        if let Some(task) = self.tasks.get_mut(&id) {
            // Of one that does not run, the end of the session takes care.
            task.is_dirty = true;
            self.wake(id);
        }
    }
}

fn record(task: &Task) -> ResumeRecord {
    ResumeRecord {
        dir: task.dir.clone(),
        bits: task.have().into_owned(),
        stamps: task.stamps.to_vec(),
        downloaded: task.earlier.0 + task.swarm.downloaded(),
        uploaded: task.earlier.1 + task.swarm.uploaded(),
        peers: task.swarm.known.proven().take(PEERS_SAVED_MAX).collect(),
    }
}

/// Syncs, and takes note of how the files look that we wrote.
fn restamp(storage: &Storage, stamps: &mut [Option<FileStamp>]) -> Result<(), DiskError> {
    let written = storage.sync()?;
    for (file, (stamp, now)) in stamps.iter_mut().zip(storage.file_stamps()).enumerate() {
        // The part file is ours alone.
        let is_in_part = now.is_some_and(|now| now.mtime_ns == 0);
        if is_in_part || written.binary_search(&file).is_ok() {
            *stamp = now;
        }
    }
    Ok(())
}

const SAVE_EVERY: Duration = Duration::from_secs(5);
const PEERS_SAVED_MAX: usize = 200;
/// How long what is to be written waits for more.
const WRITE_AFTER: Duration = Duration::from_millis(100);
/// How long it waits at most for torrents that are being synced: one of their disks may hang.
const GATHER_MAX: Duration = Duration::from_secs(1);
/// Bytes that wait to be written; more are written at once.
const WAITING_LEN_MAX: usize = 16 * 1024 * 1024;
