//! Torrents that come back: what is remembered of one is looked up when it is added, and a session that
//! remembers its torrents begins with all of them.

use std::sync::Arc;

use reactor::Reactor;
use torrent::InfoHash;
use torrent::swarm::{Selector, SelectorKind, Source};

use crate::check::{Beginning, beginning};
use crate::engine::Engine;
use crate::event::EventKind;
use crate::magnet::Recall;
use crate::member::{self, Member, What};
use crate::resume::{ResumeError, ResumeRecord};
use crate::resume_data;
use crate::settings::AddOptions;
use crate::status::Published;
use crate::status_word::StatusWord;
use crate::store::{Change, ResumeStore};
use crate::task::{Stage, Task, TaskId, wanted_files};

/// Torrents that were added and whose records are wanted. Opening the database takes longer than
/// reading a hundred records, so while one lot is read the next gathers.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    waiting: Vec<TaskId>,
    is_loading: bool,
}

/// The torrents of the sessions before, in the order in which they were added. Those that cannot be
/// used are named in a warning, and stay in the database.
pub(crate) fn members(store: &ResumeStore) -> Result<Vec<Member>, ResumeError> {
    let read = match store.read_members(|rows| (rows.info_hash, Member::read(rows))) {
        // It lies aside, for people to look at.
        Err(ResumeError::Damaged(_)) => Vec::new(),
        read => read?,
    };
    let usable = |(info_hash, member): (InfoHash, Result<Member, _>)| match member {
        Ok(member) => Some(member),
        Err(why) => {
            tracing::warn!(torrent = %info_hash, %why, "a torrent of the last session cannot be brought back");
            None
        }
    };
    let mut members: Vec<Member> = read.into_iter().filter_map(usable).collect();
    members.sort_by_key(|member| member.number);
    Ok(members)
}

impl Engine {
    /// Takes in the torrents of the sessions before.
    pub(crate) fn restore(&mut self, members: Vec<Member>, reactor: &mut Reactor<Self>) {
        for Member { number, what, options, record } in members {
            let id = Some(TaskId(number));
            match what {
                What::Torrent(metainfo) => {
                    let published = Arc::new(Published::new(Arc::new(*metainfo), &options.dir));
                    if let Some(id) = self.insert(id, published, &options, reactor) {
                        self.look(id, record, reactor);
                    }
                }
                What::Link(magnet) => {
                    let peers = record.as_ref().map(|record| record.peers.clone());
                    let recall = Recall::Answered(record);
                    let added = self.insert_magnet(id, *magnet, &options, recall, reactor);
                    if let (Some((id, _)), Some(peers)) = (added, peers) {
                        self.add_addresses(id, &peers, Source::Resume, reactor);
                    }
                }
            }
        }
    }

    /// Finds out what is remembered of a torrent, then goes on with that.
    pub(crate) fn load(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if self.store.is_none() {
            self.look(id, None, reactor);
            return;
        }
        self.loads.waiting.push(id);
        self.load_waiting(reactor);
    }

    fn load_waiting(&mut self, reactor: &mut Reactor<Self>) {
        let Some(store) = self.store.clone() else { return };
        if self.loads.is_loading || self.loads.waiting.is_empty() {
            return;
        }
        self.loads.is_loading = true;
        let ids = std::mem::take(&mut self.loads.waiting);
        let wanted = |id: TaskId| Some((id, self.tasks.get(&id)?.info_hash()));
        let (ids, hashes): (Vec<TaskId>, Vec<InfoHash>) =
            ids.into_iter().filter_map(wanted).unzip();
        reactor.offload(
            move || store.load_all(&hashes),
            move |loaded, engine, reactor| {
                engine.loads.is_loading = false;
                let loaded = loaded.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the remembered state is of no use");
                    Vec::new()
                });
                let mut records = loaded.into_iter();
                for id in ids {
                    let record = records.next().unwrap_or(Ok(None)).unwrap_or_else(|error| {
                        tracing::warn!(%error, "the remembered state is of no use");
                        None
                    });
                    engine.look(id, record, reactor);
                }
                engine.load_waiting(reactor);
            },
        );
    }

    /// Compares what is remembered with what is on disk, on a disk thread.
    pub(crate) fn look(
        &mut self,
        id: TaskId,
        record: Option<ResumeRecord>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let (metainfo, storage) = (Arc::clone(&task.metainfo), Arc::clone(&task.storage));
        let check = task.is_check_wanted;
        let file = task.resume_file.take();
        let is_all_usual = task.priorities.is_empty();
        let subscribers = self.subscribers.share();
        reactor.offload_on(
            task.disk.data,
            move || {
                let tell = |kind: &EventKind| {
                    subscribers.publish(Some(metainfo.info_hash()), kind);
                };
                let data = file.and_then(|file| resume_data::load(&file, &metainfo, tell));
                let Some(data) = data else { return beginning(&metainfo, &storage, record, check) };
                if is_all_usual {
                    // What fails here is tried again at the next write.
                    let wanted = wanted_files(metainfo.layout(), &data.priorities);
                    storage.set_wanted(0, wanted).ok();
                }
                // Whoever names a file for these files means them, wherever they were moved.
                let record = ResumeRecord { dir: storage.root().to_owned(), ..data.record };
                let priorities = data.priorities;
                Beginning { priorities, ..beginning(&metainfo, &storage, Some(record), check) }
            },
            move |beginning, engine, reactor| engine.begun(id, beginning, reactor),
        );
    }

    /// A torrent is of this session: the next one shall have it too.
    pub(crate) fn remember(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if let Some(task) = self.remembered(id) {
            let options = encoded(id, task);
            let change = if task.published.is_known() {
                Change::Join(Arc::clone(&task.metainfo), options)
            } else {
                Change::Options(task.info_hash(), options)
            };
            self.write(change, reactor);
        }
    }

    /// A torrent is to be treated otherwise, by the next session too.
    pub(crate) fn remember_options(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if let Some(task) = self.remembered(id) {
            let change = Change::Options(task.info_hash(), encoded(id, task));
            self.write(change, reactor);
        }
    }

    fn remembered(&self, id: TaskId) -> Option<&Task> {
        let is_known_by_name = |task: &&Task| self.by_hash.get(&task.info_hash()) == Some(&id);
        let task = self.tasks.get(&id).filter(is_known_by_name)?;
        (self.config.restore && self.store.is_some()).then_some(task)
    }
}

/// What is remembered of how a torrent is treated, and of the link if that is all there is.
fn encoded(id: TaskId, task: &Task) -> Vec<u8> {
    let named = task.named.as_ref().filter(|_| !task.published.is_known());
    member::encode(id.0, &options(task), named.map(|named| &named.magnet))
}

/// How the torrent would be added to be treated as it is now.
fn options(task: &Task) -> AddOptions {
    // One of the caller's own cannot be written down.
    let selector = match task.swarm.selector() {
        Selector::Kind(kind) => *kind,
        Selector::Own(_) => SelectorKind::default(),
    };
    // What failed was to run, and may again.
    let is_failed = matches!(task.stage, Stage::Failed(_));
    let is_told = |flag| task.flags.contains(flag);
    let is_active = is_told(StatusWord::STARTED) || is_told(StatusWord::START_AFTER_CHECK);
    AddOptions {
        dir: task.dir.clone(),
        priorities: task.priorities_wanted().to_vec(),
        selector,
        preallocate: task.storage.preallocates(),
        is_stopped: !is_active && !is_failed,
        is_paused: is_told(StatusWord::PAUSED),
        when_known: task.named.as_ref().map(|named| named.when_known).unwrap_or_default(),
        super_seeding: task.swarm.wants_super_seeding(),
        download_limit: task.down.rate(),
        upload_limit: task.upload_limit,
        peers_max: task.peers_max,
        upload_slots: task.upload_slots,
        trackers: task.trackers.clone(),
        web_seeds: task.web_seed_urls.clone(),
        ..AddOptions::default()
    }
}
