//! What outlasts the process: which pieces are verified, and how the files looked then.
//!
//! The order keeps a crash harmless. First the data is synced, then the files' sizes and times are
//! taken, then both are recorded together with the bits that were set before the sync began. A file
//! that was written to after that looks changed at the next start, and is hashed again.

use std::sync::Arc;
use std::time::Duration;

use reactor::Reactor;

use crate::engine::Engine;
use crate::resume::ResumeRecord;
use crate::task::{Stage, TaskId};

impl Engine {
    /// Saves what has changed, at most every few seconds.
    pub(crate) fn save_if_due(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.is_dirty && !task.is_saving && reactor.now() >= task.save_at {
            self.save(id, reactor);
        }
    }

    /// Saves a torrent's state, on a disk thread.
    pub(crate) fn save(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(store) = self.store.clone() else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.stage, Stage::Checking(_)) || task.is_leaving {
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
        let mut record = ResumeRecord {
            metainfo: task.metainfo.as_bytes().into(),
            dir: task.dir.clone(),
            bits: task.swarm.have().clone(),
            stamps: Vec::new(),
            priorities: task.priorities.clone(),
            downloaded: task.earlier.0 + task.swarm.downloaded(),
            uploaded: task.earlier.1 + task.swarm.uploaded(),
            is_paused: matches!(task.stage, Stage::Paused),
            peers: task.swarm.known.iter().take(PEERS_SAVED_MAX).collect(),
        };
        let info_hash = task.info_hash();
        let storage = Arc::clone(&task.storage);
        reactor.offload(
            move || {
                if let Err(error) = storage.sync() {
                    return Err(error.to_string());
                }
                record.stamps = storage.file_stamps();
                store.save(&info_hash, &record).map_err(|error| error.to_string())
            },
            move |done, engine, reactor| {
                if let Err(error) = done {
                    tracing::warn!(torrent = %info_hash, %error, "cannot save the state");
                }
                let Some(task) = engine.tasks.get_mut(&id) else { return };
                task.is_saving = false;
                // Of a torrent that runs, the next tick takes care.
                if task.is_dirty && !task.is_running() {
                    engine.save(id, reactor);
                }
            },
        );
    }
}

const SAVE_EVERY: Duration = Duration::from_secs(5);
const PEERS_SAVED_MAX: usize = 200;
