//! What handles ask of the engine: add, start, stop, pause, check, remove, end.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use reactor::Reactor;
use torrent::Bitfield;
use torrent::metainfo::Metainfo;
use torrent::rate::TokenBucket;
use torrent::swarm::Source;
use torrent::tracker::Announcer;

use crate::check::Beginning;
use crate::disk::FileWatch;
use crate::engine::{Engine, all_pieces};
use crate::event::EventKind;
use crate::parting::DisconnectReason;
use crate::session::Gone;
use crate::settings::{AddOptions, CheckOptions};
use crate::status::Published;
use crate::status_word::StatusWord;
use crate::store::Change;
use crate::task::{Stage, Task, TaskId, piece_priorities, wanted_files};
use crate::torrent_handle::CheckError;

impl Engine {
    /// Takes a torrent in. `None` if it is here already.
    pub(crate) fn add(
        &mut self,
        metainfo: Metainfo,
        options: AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Option<(TaskId, Arc<Published>)> {
        let published = Arc::new(Published::new(Arc::new(metainfo), &options.dir));
        let id = self.adopt(Arc::clone(&published), &options, reactor)?;
        Some((id, published))
    }

    /// As [`add`](Self::add), of a torrent that others can see already.
    pub(crate) fn adopt(
        &mut self,
        published: Arc<Published>,
        options: &AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Option<TaskId> {
        let id = self.insert(None, published, options, reactor)?;
        self.add_addresses(id, &options.peers, Source::Manual, reactor);
        self.load(id, reactor);
        self.remember(id, reactor);
        Some(id)
    }

    /// Takes a torrent in that is not here already, by the name that it had in the session before if it
    /// may have it. What is on disk has yet to be looked at.
    pub(crate) fn insert(
        &mut self,
        id: Option<TaskId>,
        published: Arc<Published>,
        options: &AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Option<TaskId> {
        let names = published.metainfo().info_hashes();
        if names.on_the_wire().any(|name| self.by_hash.contains_key(&name)) {
            return None;
        }
        let id = self.new_task_id(id);
        let task = self.new_task(published, options, reactor);
        let word = task.published.word();
        for name in names.on_the_wire() {
            self.by_hash.insert(name, id);
            self.skeys.insert(name);
        }
        self.tasks.insert(id, task);
        self.publish(id, &EventKind::StatusChanged(word));
        Some(id)
    }

    fn new_task(
        &mut self,
        published: Arc<Published>,
        options: &AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Task {
        let now = reactor.now();
        let (metainfo, dir) = (Arc::clone(published.metainfo()), published.dir.clone());
        let layout = Arc::clone(metainfo.layout());
        // Its own folder may well be where another disk is mounted.
        let disk = self.disk_of(&dir.join(metainfo.name()), reactor);
        let storage = published
            .storage(self.files_of(disk.traits.id), options)
            .watched_by(FileWatch::new(self.subscribers.share(), metainfo.info_hash()));
        let have = Bitfield::none(layout.piece_count());
        let identity = self.identity_for_torrent();
        let mut swarm = self.new_swarm(now, &metainfo, have, &options.priorities, identity.peer_id);
        swarm.set_selector(options.selector.into());
        swarm.set_super_seeding(options.super_seeding);
        let tiers = options.trackers.clone().unwrap_or_else(|| metainfo.trackers().to_vec());
        let announcer = Announcer::new(tiers, torrent::Rng::from_seed(self.rng.u64()));
        // An orphan may have been checked and paused.
        let kept = StatusWord::LOADED | StatusWord::CHECKED | StatusWord::PAUSED;
        let flags = first_flags(options).with(published.word().only(kept));
        let mut task = Task {
            named: None,
            identity,
            metainfo,
            storage: Arc::new(storage),
            disk,
            dir,
            priorities: options.priorities.clone(),
            priorities_later: None,
            wishes: 0,
            wanted_lens: Cell::new(None),
            unproven: Vec::new(),
            is_check_wanted: options.check || options.start_after_check,
            trackers: options.trackers.clone(),
            stage: Stage::Opening,
            flags,
            checks: 0,
            swarms: 0,
            swarm,
            web_seed_urls: options.web_seeds.clone(),
            web_seeds: BTreeMap::new(),
            web_seeds_ever: 0,
            announcer,
            announce_timer: None,
            connections: BTreeMap::new(),
            is_waiting_to_dial: false,
            turned_over_at: None,
            dial_timer: None,
            half_open: BTreeSet::new(),
            down: TokenBucket::new(now, options.download_limit),
            up: TokenBucket::new(now, options.upload_limit),
            published,
            earlier: (0, 0),
            this_run: (0, 0),
            stamps: Vec::new(),
            is_recalled: false,
            is_dirty: false,
            save_at: now,
            is_saving: false,
            saved_totals: (0, 0, 0),
            is_as_saved: false,
            is_trimmed: false,
            completed_at: None,
            changed_at: None,
            has_been_complete: false,
            is_leaving: false,
            upload_limit: options.upload_limit,
            upload_slots: options.upload_slots,
            peers_max: options.peers_max,
            resume_file: options.resume_file.clone(),
            resume_askers: Vec::new(),
            is_void: Arc::default(),
            storing: BTreeMap::new(),
            verify_later: Vec::new(),
            reading: BTreeMap::new(),
        };
        task.swarm.set_upload_capacity(task.upload_capacity(self.up.rate()));
        task.swarm.set_slots(self.config.limits.slots(task.upload_slots));
        task.published.publish(task.status(now));
        task.published.set_word(task.word());
        task
    }

    /// It is known what was remembered of a torrent and what has changed since.
    pub(crate) fn begun(&mut self, id: TaskId, beginning: Beginning, reactor: &mut Reactor<Self>) {
        let Beginning {
            trusted,
            doubtful,
            is_remembered,
            is_as_saved,
            is_trimmed,
            record,
            priorities,
            stamps,
        } = beginning;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // It may have been removed meanwhile, or a check was asked for, and has ended even.
        let is_opening = match task.stage {
            Stage::Opening | Stage::Fetching => true,
            Stage::Ended { is_in_doubt: true } => return,
            Stage::Checking(_)
            | Stage::Running
            | Stage::Stopped { .. }
            | Stage::Failed(_)
            | Stage::Ended { is_in_doubt: false } => false,
        };
        let will_renew =
            matches!(task.stage, Stage::Opening | Stage::Fetching | Stage::Checking(_));
        task.is_recalled = true;
        if is_opening {
            task.stamps = stamps;
        }
        // Others may have been asked for meanwhile.
        if task.priorities_wanted().is_empty() && !priorities.is_empty() {
            if will_renew {
                task.priorities = priorities;
                task.wanted_lens.set(None);
                self.remember_options(id, reactor);
            } else {
                self.set_priorities(id, priorities, reactor);
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Some(record) = record {
            // Of a copy elsewhere only the peers are of interest.
            if record.dir == task.dir {
                task.earlier.0 += record.downloaded;
                task.earlier.1 += record.uploaded;
            }
            self.add_addresses(id, &record.peers, Source::Resume, reactor);
        }
        if !is_opening {
            self.save_doubt(id, reactor);
            self.save_if_changed(id, reactor);
            return;
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.flags.contains(StatusWord::CHECKED) && !task.is_check_wanted {
            // It was checked before it came here.
            let have = task.published.bits().snapshot();
            self.begin(id, have, Vec::new(), reactor);
            return;
        }
        task.published.bits().load(&trusted);
        let doubtful =
            if doubtful.iter().any(|piece| !task.metainfo.piece_check(*piece).is_unknown()) {
                doubtful
            } else {
                task.without_unproven(doubtful)
            };
        if !doubtful.is_empty() {
            self.start_check(id, doubtful, &CheckOptions::default(), reactor);
            return;
        }
        if is_remembered {
            task.flags = task.flags.with(StatusWord::CHECKED);
        }
        (task.is_as_saved, task.is_trimmed) = (is_as_saved, is_trimmed);
        self.begin(id, trusted, Vec::new(), reactor);
        // Of one that kept its peers, the brain has much to say now.
        self.drain(id, reactor);
    }

    pub(crate) fn start(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.stage, Stage::Ended { .. }) {
            return;
        }
        let was_paused = task.flags.contains(StatusWord::PAUSED);
        task.flags = task.flags.without(StatusWord::PAUSED).with(StatusWord::STARTED);
        match &task.stage {
            Stage::Stopped { doubtful } if doubtful.is_empty() => self.run(id, reactor),
            Stage::Running | Stage::Fetching if was_paused => {
                task.swarm.set_paused(reactor.now(), false);
                self.drain(id, reactor);
                self.pump_all_uploads(id, reactor);
                self.dial(id, reactor);
            }
            Stage::Failed(_) if !task.published.is_known() => self.run(id, reactor),
            Stage::Failed(_) | Stage::Stopped { .. } => {
                let doubtful = task.doubtful();
                self.start_check(id, doubtful, &CheckOptions::default(), reactor);
                self.remember_options(id, reactor);
                return;
            }
            Stage::Opening | Stage::Checking(_) => {}
            Stage::Running | Stage::Fetching | Stage::Ended { .. } => return,
        }
        self.wake(id);
        self.state_changed(id, reactor);
        self.remember_options(id, reactor);
    }

    pub(crate) fn stop(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match task.stage {
            Stage::Opening => {
                task.flags = task.flags.without(ACTIVE);
                self.state_changed(id, reactor);
            }
            Stage::Checking(_) => {
                task.flags = task.flags.without(ACTIVE);
                self.interrupt_check(id, reactor);
            }
            Stage::Fetching if task.published.is_known() => {
                // It is on its way to see what is on disk; then it rests.
                task.flags = task.flags.without(ACTIVE);
                task.stage = Stage::Opening;
                self.close_peers(id, DisconnectReason::Stopped, reactor);
                self.state_changed(id, reactor);
            }
            Stage::Running | Stage::Fetching => {
                task.flags = task.flags.without(ACTIVE);
                task.stage = Stage::Stopped { doubtful: Vec::new() };
                self.close_peers(id, DisconnectReason::Stopped, reactor);
                self.rest(id, reactor);
                self.state_changed(id, reactor);
            }
            // What failed does nothing already, and has to be looked at before it goes on.
            Stage::Stopped { .. } | Stage::Failed(_) | Stage::Ended { .. } => {}
        }
        self.remember_options(id, reactor);
    }

    /// A torrent has been stopped: trackers hear of it, its state is saved, its files are closed.
    pub(crate) fn rest(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.announcer.stop(reactor.now());
        self.drive_trackers(id, reactor);
        self.save_if_changed(id, reactor);
        self.let_go_if_stopped(id, reactor);
    }

    /// Closes the files of a torrent that is stopped, when nothing of it is to be saved any more.
    pub(crate) fn let_go_if_stopped(&self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        if matches!(task.stage, Stage::Stopped { .. }) && !task.is_saving {
            let storage = Arc::clone(&task.storage);
            reactor.offload_on(task.disk.data, move || storage.let_go(), |(), _, _| {});
        }
    }

    pub(crate) fn pause(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.stage, Stage::Ended { .. }) || task.flags.contains(StatusWord::PAUSED) {
            return;
        }
        task.flags = task.flags.with(StatusWord::PAUSED);
        if task.is_running() {
            task.swarm.set_paused(reactor.now(), true);
            self.stop_web_seeds(id, reactor);
            self.drain(id, reactor);
        }
        self.state_changed(id, reactor);
        self.remember_options(id, reactor);
    }

    pub(crate) fn check(
        &mut self,
        id: TaskId,
        options: CheckOptions,
        reactor: &mut Reactor<Self>,
    ) -> Result<(), CheckError> {
        let Some(task) = self.tasks.get(&id) else { return Err(Gone.into()) };
        if !task.published.is_known() {
            return Err(CheckError::NoMetadata);
        }
        if task.flags.contains(StatusWord::PAUSED) {
            return Err(CheckError::Paused);
        }
        let mut doubtful = match task.stage {
            Stage::Checking(_) => return Err(CheckError::AlreadyChecking),
            Stage::Ended { .. } => return Err(Gone.into()),
            Stage::Opening
            | Stage::Fetching
            | Stage::Running
            | Stage::Stopped { .. }
            | Stage::Failed(_) => task.doubtful(),
        };
        match &options.pieces {
            Some(pieces) => doubtful.extend(pieces),
            None => doubtful = all_pieces(task.metainfo.layout().piece_count()).collect(),
        }
        self.start_check(id, doubtful, &options, reactor);
        Ok(())
    }

    /// Forgets a torrent. Its files stay.
    pub(crate) fn remove(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        self.close_peers(id, DisconnectReason::Removed, reactor);
        self.leave_check(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.is_leaving {
            return;
        }
        // What was not verified is not to fall upon what the same torrent finds, should it come again.
        task.is_void.store(true, Ordering::Relaxed);
        task.stage = Stage::Ended { is_in_doubt: true };
        task.flags = task.flags.without(ACTIVE | StatusWord::QUEUED);
        task.announcer.stop(reactor.now());
        self.state_changed(id, reactor);
        self.drive_trackers(id, reactor);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_leaving = true;
        let info_hash = task.info_hash();
        let own = task.metainfo.info_hashes();
        // What is remembered may be of another link to the same torrent.
        let is_remembered = self.by_hash.get(&info_hash) == Some(&id);
        let named = task.named.take();
        let others = named.into_iter().flat_map(|named| named.magnet.info_hashes.on_the_wire());
        for name in others.chain(own.on_the_wire()) {
            // Another may have had it before this one did.
            if self.by_hash.get(&name) == Some(&id) {
                self.by_hash.remove(&name);
                self.skeys.remove(&name);
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let storage = Arc::clone(&task.storage);
        reactor.offload_on(task.disk.data, move || storage.close_files(), |(), _, _| {});
        if is_remembered && self.store.is_some() {
            self.write(Change::Forget(info_hash), reactor);
        }
        self.forget_if_told(id);
    }

    /// A torrent that was removed is forgotten when its trackers know.
    pub(crate) fn forget_if_told(&mut self, id: TaskId) {
        let is_told = |task: &Task| task.is_leaving && !task.announcer.is_busy();
        if self.tasks.get(&id).is_some_and(is_told) {
            self.tasks.remove(&id);
            self.note_activity(id);
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
        (self.config.limits.download, self.config.limits.upload) = (download, upload);
        self.apply_limits(reactor);
    }

    /// Has the limits on all torrents together hold that are set, or scheduled for this hour.
    pub(crate) fn apply_limits(&mut self, reactor: &Reactor<Self>) {
        let now = reactor.now();
        let (download, upload) = self.limits_now();
        self.down = TokenBucket::new(now, download);
        self.up = TokenBucket::new(now, upload);
        for task in self.tasks.values_mut() {
            task.swarm.set_upload_capacity(task.upload_capacity(upload));
        }
    }

    pub(crate) fn set_limits(
        &mut self,
        id: TaskId,
        download: Option<u64>,
        upload: Option<u64>,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.down = TokenBucket::new(now, download);
        task.up = TokenBucket::new(now, upload);
        task.upload_limit = upload;
        task.swarm.set_upload_capacity(task.upload_capacity(self.up.rate()));
        self.remember_options(id, reactor);
    }

    pub(crate) fn set_peers_max(
        &mut self,
        id: TaskId,
        peers_max: Option<usize>,
        reactor: &mut Reactor<Self>,
    ) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.peers_max = peers_max;
            self.remember_options(id, reactor);
            self.dial(id, reactor);
        }
    }

    pub(crate) fn set_priorities(
        &mut self,
        id: TaskId,
        priorities: Vec<u8>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let layout = Arc::clone(task.metainfo.layout());
        if priorities.len() != layout.files().len() || !task.published.is_known() {
            return;
        }
        if matches!(task.stage, Stage::Checking(_)) {
            task.priorities_later = Some(priorities);
            self.remember_options(id, reactor);
            return;
        }
        let wanted = wanted_files(&layout, &priorities);
        let pieces = piece_priorities(&layout, &priorities);
        task.priorities = priorities;
        task.wanted_lens.set(None);
        task.wishes += 1;
        let number = task.wishes;
        let (storage, disk) = (Arc::clone(&task.storage), task.disk);
        // The files must be ready for blocks before blocks are asked for.
        reactor.offload_on(
            disk.data,
            move || storage.set_wanted(number, wanted),
            move |done, engine, reactor| {
                if let Err(error) = done {
                    engine.fail(id, error.to_string(), reactor);
                    return;
                }
                let Some(task) = engine.tasks.get_mut(&id) else { return };
                if task.wishes != number {
                    return;
                }
                let was_completed = task.swarm.is_completed();
                task.swarm.set_priorities(&pieces);
                if !task.swarm.is_completed() {
                    if was_completed {
                        task.changed_at = Some(reactor.now());
                    }
                    // Seeds that there was no more use for are of use again.
                    task.swarm.known.forget_failures();
                }
                task.is_dirty = true;
                engine.wake(id);
                engine.drain(id, reactor);
                engine.state_changed(id, reactor);
            },
        );
        self.remember_options(id, reactor);
    }

    /// Ends everything in order; `done` hears when it is. Trackers and the router have so long to hear of it.
    pub(crate) fn stop_all(
        &mut self,
        patience: Duration,
        done: Sender<()>,
        reactor: &mut Reactor<Self>,
    ) {
        self.is_stopping = true;
        self.begin_unmapping();
        let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
        for id in ids {
            if let Some(task) = self.tasks.get_mut(&id)
                && matches!(task.stage, Stage::Checking(_))
            {
                // What it found is saved, lest the next run believe what was believed before it.
                task.flags = task.flags.without(ACTIVE);
                self.interrupt_check(id, reactor);
            }
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.announcer.stop(reactor.now());
            let is_in_doubt = task.is_in_doubt();
            task.stage = Stage::Ended { is_in_doubt };
            task.flags = task.flags.without(ACTIVE);
            self.close_peers(id, DisconnectReason::Shutdown, reactor);
            self.drive_trackers(id, reactor);
            self.save_if_changed(id, reactor);
            self.state_changed(id, reactor);
        }
        self.stop_when_quiet(reactor.now().checked_add(patience), done, reactor);
    }

    /// `give_up_at` is when those elsewhere are waited for no more; what is to be written always is.
    fn stop_when_quiet(
        &mut self,
        give_up_at: Option<Instant>,
        done: Sender<()>,
        reactor: &mut Reactor<Self>,
    ) {
        self.write_if_gathered(reactor);
        let now = reactor.now();
        // Whatever threads of checks still find, and where a name leads to, nobody wants to know any more.
        let is_writing =
            reactor.offloaded_count() > self.check_jobs + self.lookups || !self.writes.is_idle();
        let is_leaving = self.activity.is_announcing() || self.is_unmapping();
        let has_patience = give_up_at.is_none_or(|at| now < at);
        if is_writing || is_leaving && has_patience {
            reactor.add_timer(now + LOOK_AGAIN_AFTER, move |engine, reactor| {
                engine.stop_when_quiet(give_up_at, done, reactor);
            });
            return;
        }
        if is_leaving {
            tracing::warn!("not all trackers, or the router, could be told that we stop");
        }
        // Whoever asked may have lost patience.
        done.send(()).ok();
    }
}

/// What a torrent is told to do from the start.
fn first_flags(options: &AddOptions) -> StatusWord {
    let flags = [
        (StatusWord::STARTED, !options.is_stopped),
        (StatusWord::START_AFTER_CHECK, options.start_after_check),
        (StatusWord::PAUSED, options.is_paused),
    ];
    let told = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag);
    told.fold(StatusWord::QUEUED, StatusWord::with)
}

/// While the session ends, how often it is looked whether all is done.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// The flags of a torrent that does something, or will.
pub(crate) const ACTIVE: StatusWord = StatusWord::STARTED.with(StatusWord::START_AFTER_CHECK);
