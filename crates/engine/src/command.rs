//! What handles ask of the engine: add, pause, resume, check, remove, stop.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use reactor::Reactor;
use torrent::Bitfield;
use torrent::metainfo::Metainfo;
use torrent::rate::TokenBucket;
use torrent::swarm::Source;
use torrent::tracker::Announcer;

use crate::check::{Beginning, beginning};
use crate::disk::{Storage, StorageOptions};
use crate::engine::{Engine, all_pieces};
use crate::settings::AddOptions;
use crate::status::Published;
use crate::task::{Check, Stage, Task, TaskId, piece_priorities, wanted_files};

impl Engine {
    /// Takes a torrent in. `None` if it is here already.
    pub(crate) fn add(
        &mut self,
        metainfo: Metainfo,
        options: AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Option<(TaskId, Published)> {
        let info_hash = metainfo.info_hash();
        if self.by_hash.contains_key(&info_hash) {
            return None;
        }
        let id = self.new_task_id();
        let task = self.new_task(metainfo, &options, reactor);
        let published = task.published.clone();
        let (metainfo, storage) = (Arc::clone(&task.metainfo), Arc::clone(&task.storage));
        self.by_hash.insert(info_hash, id);
        self.tasks.insert(id, task);
        self.add_addresses(id, &options.peers, Source::Manual, reactor);
        let store = self.store.clone();
        let check = options.check;
        reactor.offload(
            move || beginning(&metainfo, &storage, store.as_deref(), check),
            move |beginning, engine, reactor| engine.begun(id, beginning, reactor),
        );
        Some((id, published))
    }

    fn new_task(
        &mut self,
        metainfo: Metainfo,
        options: &AddOptions,
        reactor: &Reactor<Self>,
    ) -> Task {
        let now = reactor.now();
        let layout = Arc::clone(metainfo.layout());
        // What is remembered must still be true in another working directory.
        let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
        let part_path = dir.join(format!(".{}.part", metainfo.info_hash()));
        let storage = Storage::new(
            Arc::clone(&layout),
            dir.clone(),
            Arc::clone(&self.files),
            StorageOptions {
                preallocate: options.preallocate,
                wanted: wanted_files(&layout, &options.priorities),
                part_path,
            },
        );
        let have = Bitfield::none(layout.piece_count());
        let swarm =
            self.new_swarm(now, &metainfo, have, &options.priorities, options.is_sequential);
        let tiers = options.trackers.clone().unwrap_or_else(|| metainfo.trackers().to_vec());
        let announcer = Announcer::new(tiers, torrent::Rng::from_seed(self.rng.u64()));
        let mut task = Task {
            metainfo: Arc::new(metainfo),
            storage: Arc::new(storage),
            dir,
            priorities: options.priorities.clone(),
            wanted_lens: Cell::new(None),
            is_sequential: options.is_sequential,
            stage: Stage::Checking(Check { then_pause: options.is_paused, ..Check::default() }),
            checks: 0,
            swarm,
            announcer,
            announce_timer: None,
            connections: BTreeMap::new(),
            half_open: BTreeSet::new(),
            down: TokenBucket::new(now, options.download_limit),
            up: TokenBucket::new(now, options.upload_limit),
            published: Published::default(),
            earlier: (0, 0),
            this_run: (0, 0),
            stamps: Vec::new(),
            is_dirty: false,
            save_at: now,
            is_saving: false,
            completed_at: None,
            is_leaving: false,
            upload_limit: options.upload_limit,
            storing: BTreeMap::new(),
            verify_later: Vec::new(),
            reading: BTreeMap::new(),
        };
        task.swarm.set_upload_capacity(task.upload_limit.or(self.config.limits.upload));
        task.published.publish(task.status(now));
        task
    }

    /// It is known what was remembered of a torrent and what has changed since.
    fn begun(&mut self, id: TaskId, beginning: Beginning, reactor: &mut Reactor<Self>) {
        let Beginning { trusted, doubtful, record, stamps } = beginning;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // It may have been stopped meanwhile, or told to pause.
        let Stage::Checking(Check { then_pause, .. }) = task.stage else { return };
        task.stamps = stamps;
        if let Some(record) = record {
            // Of a copy elsewhere only the peers are of interest.
            if record.dir == task.dir {
                task.earlier = (record.downloaded, record.uploaded);
            }
            self.add_addresses(id, &record.peers, Source::Resume, reactor);
        }
        if doubtful.is_empty() {
            self.begin(id, trusted, then_pause, reactor);
        } else {
            self.start_check(id, trusted, doubtful, then_pause, reactor);
        }
    }

    pub(crate) fn pause(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match &mut task.stage {
            Stage::Checking(check) => check.then_pause = true,
            Stage::Running => {
                task.stage = Stage::Paused;
                task.announcer.stop(reactor.now());
                self.close_peers(id, "paused", reactor);
                self.drive_trackers(id, reactor);
                self.save(id, reactor);
                self.state_changed(id, reactor);
            }
            // What failed does nothing already, and has to be looked at before it goes on.
            Stage::Paused | Stage::Failed(_) | Stage::Stopped { .. } => {}
        }
    }

    pub(crate) fn resume(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match &mut task.stage {
            Stage::Checking(check) => check.then_pause = false,
            Stage::Paused => {
                self.run(id, reactor);
                self.state_changed(id, reactor);
            }
            // Whatever broke may have taken verified data with it.
            Stage::Failed(failure) => {
                let have = task.swarm.have();
                let doubtful = if failure.was_checking {
                    all_pieces(have.len()).collect()
                } else {
                    have.iter().collect()
                };
                let nothing = Bitfield::none(have.len());
                self.start_check(id, nothing, doubtful, false, reactor);
            }
            Stage::Running | Stage::Stopped { .. } => {}
        }
    }

    pub(crate) fn recheck(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let then_pause = match task.stage {
            Stage::Checking(_) | Stage::Stopped { .. } => return,
            Stage::Paused => true,
            Stage::Running | Stage::Failed(_) => false,
        };
        let piece_count = task.metainfo.layout().piece_count();
        let nothing = Bitfield::none(piece_count);
        self.start_check(id, nothing, all_pieces(piece_count).collect(), then_pause, reactor);
    }

    /// Forgets a torrent. Its files stay.
    pub(crate) fn remove(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        self.close_peers(id, "removed", reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.stage = Stage::Stopped { is_in_doubt: true };
        task.announcer.stop(reactor.now());
        self.state_changed(id, reactor);
        self.drive_trackers(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_leaving = true;
        let info_hash = task.info_hash();
        self.by_hash.remove(&info_hash);
        let (storage, store) = (Arc::clone(&task.storage), self.store.clone());
        reactor.offload(
            move || {
                storage.close_files();
                store.map_or(Ok(()), |store| store.remove(&info_hash))
            },
            |done, _, _| {
                if let Err(error) = done {
                    tracing::warn!(%error, "cannot forget a torrent");
                }
            },
        );
        self.forget_if_told(id);
    }

    /// A torrent that was removed is forgotten when its trackers know.
    pub(crate) fn forget_if_told(&mut self, id: TaskId) {
        let is_told = |task: &Task| task.is_leaving && !task.announcer.is_busy();
        if self.tasks.get(&id).is_some_and(is_told) {
            self.tasks.remove(&id);
        }
    }

    /// Has the trackers count the peers.
    pub(crate) fn scrape(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.announcer.scrape();
        }
        self.drive_trackers(id, reactor);
    }

    pub(crate) fn set_session_limits(
        &mut self,
        download: Option<u64>,
        upload: Option<u64>,
        reactor: &Reactor<Self>,
    ) {
        let now = reactor.now();
        (self.config.limits.download, self.config.limits.upload) = (download, upload);
        self.down = TokenBucket::new(now, download);
        self.up = TokenBucket::new(now, upload);
        for task in self.tasks.values_mut() {
            task.swarm.set_upload_capacity(task.upload_limit.or(upload));
        }
    }

    pub(crate) fn set_limits(
        &mut self,
        id: TaskId,
        download: Option<u64>,
        upload: Option<u64>,
        reactor: &Reactor<Self>,
    ) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.down = TokenBucket::new(now, download);
        task.up = TokenBucket::new(now, upload);
        task.upload_limit = upload;
        task.swarm.set_upload_capacity(upload.or(self.config.limits.upload));
    }

    pub(crate) fn set_priorities(
        &mut self,
        id: TaskId,
        priorities: Vec<u8>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let layout = Arc::clone(task.metainfo.layout());
        if priorities.len() != layout.files().len() {
            return;
        }
        let wanted = wanted_files(&layout, &priorities);
        let pieces = piece_priorities(&layout, &priorities);
        task.priorities = priorities;
        task.wanted_lens.set(None);
        let storage = Arc::clone(&task.storage);
        // The files must be ready for blocks before blocks are asked for.
        reactor.offload(
            move || storage.set_wanted(wanted),
            move |done, engine, reactor| {
                if let Err(error) = done {
                    engine.fail(id, error.to_string(), reactor);
                    return;
                }
                let Some(task) = engine.tasks.get_mut(&id) else { return };
                task.swarm.set_priorities(&pieces);
                if !task.swarm.is_completed() {
                    // Seeds that there was no more use for are of use again.
                    task.swarm.known.forget_failures();
                }
                task.is_dirty = true;
                engine.drain(id, reactor);
                engine.state_changed(id, reactor);
            },
        );
    }

    /// Ends everything in order; `done` hears when it is.
    pub(crate) fn stop_all(&mut self, done: Sender<()>, reactor: &mut Reactor<Self>) {
        self.is_stopping = true;
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.announcer.stop(reactor.now());
            let is_in_doubt = matches!(task.stage, Stage::Checking(_) | Stage::Failed(_));
            task.stage = Stage::Stopped { is_in_doubt };
            self.close_peers(id, "we stop", reactor);
            self.drive_trackers(id, reactor);
            self.save(id, reactor);
            self.state_changed(id, reactor);
        }
        self.stop_when_quiet(done, reactor);
    }

    fn stop_when_quiet(&self, done: Sender<()>, reactor: &mut Reactor<Self>) {
        let is_busy = reactor.offloaded_count() > 0 || self.is_announcing();
        if !is_busy {
            // Whoever asked may have lost patience.
            done.send(()).ok();
            return;
        }
        let soon = reactor.now() + std::time::Duration::from_millis(10);
        reactor.add_timer(soon, move |engine, reactor| engine.stop_when_quiet(done, reactor));
    }
}
