//! What outlasts the process: which pieces are verified, and how the files looked then.
//!
//! The order keeps a crash harmless. First the data is synced, then the sizes and times of the files
//! that we wrote are taken, then both are recorded together with the bits that were set before the
//! sync began. A file that was written after that looks changed at the next start, and is hashed again.
//! So does one that another program changed: of files that we did not write, the record keeps how they
//! looked when they were hashed.

use std::sync::Arc;
use std::time::Duration;

use reactor::Reactor;

use crate::disk::{DiskError, FileStamp, Storage};
use crate::engine::Engine;
use crate::resume::{ResumeError, ResumeRecord, ResumeStore};
use crate::task::{Stage, TaskId};

impl Engine {
    /// Saves what has changed, at most every few seconds.
    pub(crate) fn save_if_due(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.is_dirty && !task.is_saving && reactor.now() >= task.save_at {
            self.save(id, reactor);
        }
    }

    /// Saves a torrent's state, on a disk thread. Of one whose data is in doubt, what was saved before
    /// stays.
    pub(crate) fn save(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(store) = self.store.clone() else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_in_doubt = match task.stage {
            Stage::Checking(_) | Stage::Failed(_) => true,
            Stage::Stopped { is_in_doubt } => is_in_doubt,
            Stage::Running | Stage::Paused => false,
        };
        if is_in_doubt || task.is_leaving {
            return;
        }
        if task.is_saving {
            // Once more, when this is done.
            task.is_dirty = true;
            return;
        }
        task.is_saving = true;
        task.is_dirty = false;
        task.save_at = reactor.now() + SAVE_EVERY;
        let record = ResumeRecord {
            dir: task.dir.clone(),
            bits: task.swarm.have().clone(),
            stamps: task.stamps.clone(),
            downloaded: task.earlier.0 + task.swarm.downloaded(),
            uploaded: task.earlier.1 + task.swarm.uploaded(),
            peers: task.swarm.known.iter().take(PEERS_SAVED_MAX).collect(),
        };
        let info_hash = task.info_hash();
        let storage = Arc::clone(&task.storage);
        reactor.offload(
            move || {
                let mut record = record;
                restamp(&storage, &mut record.stamps)?;
                let saved = ResumeStore::save(&store, &info_hash, &record);
                Ok(Saved { stamps: record.stamps, in_store: saved })
            },
            move |done, engine, reactor| engine.saved(id, done, reactor),
        );
    }

    fn saved(&mut self, id: TaskId, done: Result<Saved, DiskError>, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_saving = false;
        match done {
            Ok(Saved { stamps, in_store }) => {
                task.stamps = stamps;
                if let Err(error) = in_store {
                    tracing::warn!(torrent = %task.info_hash(), %error, "cannot save the state");
                    // The next tick tries again, unless this was the last chance.
                    task.is_dirty = task.is_running();
                }
                // Of a torrent that runs, the next tick takes care.
                if task.is_dirty && !task.is_running() {
                    self.save(id, reactor);
                }
            }
            // What the disk did not take is told once; it must not be believed to be there.
            Err(error) => self.fail(id, error.to_string(), reactor),
        }
    }
}

/// What has been synced, and whether that could be written down.
struct Saved {
    stamps: Vec<Option<FileStamp>>,
    in_store: Result<(), ResumeError>,
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
