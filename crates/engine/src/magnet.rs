//! Torrents that a magnet link named: they find peers like any other, get their metadata from them or from
//! what an earlier run saved, and go on with the same peers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reactor::Reactor;
use torrent::metainfo::Metainfo;
use torrent::swarm::{Source, Swarm};
use torrent::{Bitfield, InfoHash, Magnet};

use crate::disk::FileWatch;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::resume::ResumeRecord;
use crate::session::{AddError, Session, ask};
use crate::settings::{AddOptions, WhenKnown};
use crate::status::Published;
use crate::status_word::StatusWord;
use crate::store::Change;
use crate::task::{Stage, Task, TaskId, piece_priorities};
use crate::torrent_handle::Torrent;

/// What a torrent is told by the link that named it, until its metadata is here.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) magnet: Magnet,
    pub(crate) when_known: WhenKnown,
    pub(crate) recall: Recall,
}

/// What earlier runs knew of a torrent, but for its metadata.
#[derive(Debug)]
pub(crate) enum Recall {
    /// It is being looked up.
    Asked,
    /// It is known; `None`: nothing.
    Answered(Option<ResumeRecord>),
}

/// Why a torrent file was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveTorrentError {
    /// Its metadata is not here yet.
    #[error("its metadata is not here yet")]
    NoMetadata,
    /// The file cannot be written; one that was there is untouched.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Session {
    /// Adds a torrent of which there is a link only. It finds peers, gets its metadata from them, looks at
    /// what is on disk, then downloads and seeds. What an earlier run with the same state directory got is
    /// not fetched again.
    ///
    /// Priorities that do not fit its files, once these are known, are not heeded: then those files are
    /// wanted that the link selects (BEP 53), or all.
    ///
    /// # Errors
    /// [`AddError`]. What goes wrong later is told by its state and by events.
    pub fn add_magnet(&self, magnet: &Magnet, options: AddOptions) -> Result<Torrent, AddError> {
        let (magnet, info_hash) = (magnet.clone(), magnet.info_hashes.first());
        let added = ask(self.remote(), move |engine, reactor| {
            engine.add_magnet(magnet, &options, reactor)
        })?;
        let (id, published) = added.ok_or(AddError::Duplicate(info_hash))?;
        Ok(Torrent::new(self.remote().clone(), id, published))
    }
}

impl Torrent {
    /// Writes its torrent file, as it was read or, if a link named it, with the trackers and web seeds of
    /// that link: beside the place first, so that it is there whole or not at all.
    ///
    /// # Errors
    /// [`SaveTorrentError`].
    pub fn save_torrent(&self, path: impl AsRef<Path>) -> Result<(), SaveTorrentError> {
        let path = path.as_ref();
        let metainfo = self.metainfo().ok_or(SaveTorrentError::NoMetadata)?;
        write_whole(path, &metainfo.to_file())
            .map_err(|source| SaveTorrentError::File { path: path.to_owned(), source })
    }
}

impl Engine {
    /// Takes in a torrent that a link names. `None` if it is here already.
    pub(crate) fn add_magnet(
        &mut self,
        magnet: Magnet,
        options: &AddOptions,
        reactor: &mut Reactor<Self>,
    ) -> Option<(TaskId, Arc<Published>)> {
        let recall = if self.store.is_some() { Recall::Asked } else { Recall::Answered(None) };
        let (id, published) = self.insert_magnet(None, magnet, options, recall, reactor)?;
        self.add_addresses(id, &options.peers, Source::Manual, reactor);
        self.remember(id, reactor);
        self.recall(id, reactor);
        Some((id, published))
    }

    /// As [`insert`](Self::insert), of a torrent that a link names. It begins to look for its metadata.
    pub(crate) fn insert_magnet(
        &mut self,
        id: Option<TaskId>,
        magnet: Magnet,
        options: &AddOptions,
        recall: Recall,
        reactor: &mut Reactor<Self>,
    ) -> Option<(TaskId, Arc<Published>)> {
        let stand_in = Arc::new(Metainfo::stand_in(&magnet));
        let published = Arc::new(Published::without_metadata(stand_in, &options.dir));
        let id = self.insert(id, Arc::clone(&published), options, reactor)?;
        let peer_id = self.tasks.get(&id)?.identity.peer_id;
        let (config, rng) = (self.swarm_config(false, peer_id), self.fork_rng());
        let now = reactor.now();
        let mut swarm = Swarm::awaiting(now, magnet.info_hashes, config, rng);
        swarm.known.set_ours(&self.external_addrs());
        let task = self.tasks.get_mut(&id)?;
        swarm.set_upload_capacity(task.upload_capacity(self.up.rate()));
        swarm.set_slots(self.config.limits.slots(task.upload_slots));
        swarm.set_selector(task.swarm.take_selector());
        task.swarm = swarm;
        let peers = magnet.peers.clone();
        let when_known = options.when_known;
        task.named = Some(Box::new(Named { magnet, when_known, recall }));
        if task.flags.contains(StatusWord::STARTED) {
            self.run(id, reactor);
        } else {
            task.stage = Stage::Stopped { doubtful: Vec::new() };
        }
        self.state_changed(id, reactor);
        self.add_named_peers(id, peers, reactor);
        Some((id, published))
    }

    /// Peers that the link names, by address or by name.
    fn add_named_peers(
        &mut self,
        id: TaskId,
        peers: Vec<(String, u16)>,
        reactor: &mut Reactor<Self>,
    ) {
        for (host, port) in peers {
            if let Ok(ip) = host.parse::<IpAddr>() {
                self.add_addresses(id, &[SocketAddr::new(ip, port)], Source::Magnet, reactor);
                continue;
            }
            self.resolve(&host.clone(), port, reactor, move |found, engine, reactor| match found {
                Ok(addrs) => engine.add_addresses(id, &addrs, Source::Magnet, reactor),
                Err(error) => tracing::info!(host, %error, "a peer of a magnet link"),
            });
        }
    }

    /// Looks up what earlier runs knew, while peers are being asked.
    fn recall(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(store) = self.store.clone() else { return };
        let Some(info_hash) = self.tasks.get(&id).map(|task| task.info_hash()) else { return };
        reactor.offload(
            move || store.recall(&info_hash),
            move |found, engine, reactor| {
                let (file, record) = found.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the remembered state is of no use");
                    (None, None)
                });
                engine.recalled(id, file, record, reactor);
            },
        );
    }

    fn recalled(
        &mut self,
        id: TaskId,
        file: Option<Metainfo>,
        record: Option<ResumeRecord>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_known = task.published.is_known();
        let Some(named) = &mut task.named else { return };
        let peers = record.as_ref().map(|record| record.peers.clone()).unwrap_or_default();
        named.recall = Recall::Answered(record);
        if is_known {
            self.look_at_named(id, reactor);
        } else if let Some(metainfo) = file.filter(|metainfo| !self.has_other(id, metainfo)) {
            self.learn(id, metainfo, reactor);
        } else {
            self.add_addresses(id, &peers, Source::Resume, reactor);
        }
    }

    /// Peers have sent the info dictionary.
    pub(crate) fn metadata_came(&mut self, id: TaskId, info: &[u8], reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(named) = task.named.as_ref().filter(|_| !task.published.is_known()) else {
            return;
        };
        match Metainfo::from_info(info, &named.magnet) {
            Ok(metainfo) if self.has_other(id, &metainfo) => {
                let why = "the same torrent is here already, by its other name".to_owned();
                self.fail_with(id, why, EventKind::MetadataRefused, reactor);
            }
            Ok(metainfo) => self.learn(id, metainfo, reactor),
            Err(why) => {
                let why = format!("its metadata came from peers, and is refused: {why}");
                self.fail_with(id, why, EventKind::MetadataRefused, reactor);
            }
        }
    }

    /// Whether another torrent has one of these names: one of its links had only the name of version 1, and one only
    /// that of version 2. Both would write the same files.
    fn has_other(&self, id: TaskId, metainfo: &Metainfo) -> bool {
        let is_other = |other: &TaskId| {
            let task = self.tasks.get(other).filter(|_| *other != id);
            task.is_some_and(|task| !matches!(task.stage, Stage::Failed(_) | Stage::Ended { .. }))
        };
        metainfo
            .info_hashes()
            .on_the_wire()
            .any(|name| self.by_hash.get(&name).is_some_and(is_other))
    }

    /// It is known what the torrent is: its files are looked at, then it goes on.
    fn learn(&mut self, id: TaskId, metainfo: Metainfo, reactor: &mut Reactor<Self>) {
        let metainfo = Arc::new(metainfo);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(named) = &task.named else { return };
        let is_to_stop = match named.when_known {
            WhenKnown::GoOn => false,
            WhenKnown::Pause => {
                task.flags = task.flags.with(StatusWord::PAUSED);
                false
            }
            WhenKnown::Stop => true,
        };
        let files = metainfo.layout().files().len();
        if task.priorities.len() != files {
            task.priorities = named.magnet.priorities(files);
        }
        let before = task.info_hash();
        task.flags = task.flags.with(StatusWord::LOADED);
        task.wanted_lens.set(None);
        task.published.learn(Arc::clone(&metainfo));
        task.metainfo = Arc::clone(&metainfo);
        let options = AddOptions {
            priorities: task.priorities.clone(),
            preallocate: task.storage.preallocates(),
            ..AddOptions::default()
        };
        let (published, dir) = (Arc::clone(&task.published), task.dir.join(metainfo.name()));
        let disk = self.disk_of(&dir, reactor);
        let storage = published
            .storage(self.files_of(disk.traits.id), &options)
            .watched_by(FileWatch::new(self.subscribers.share(), metainfo.info_hash()));
        let Some(task) = self.tasks.get_mut(&id) else { return };
        (task.storage, task.disk) = (Arc::new(storage), disk);
        if matches!(task.stage, Stage::Stopped { .. }) {
            task.stage = Stage::Opening;
        }
        self.keep_metadata(id, before, reactor);
        // A link may have known but one of its names.
        self.note_for_lsd(id);
        if is_to_stop {
            self.stop(id, reactor);
        }
        self.state_changed(id, reactor);
        self.publish(id, &EventKind::MetadataReceived);
        self.look_at_named(id, reactor);
    }

    /// Has the database keep the hashes of pieces that came from peers.
    pub(crate) fn keep_hashes(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        if let Some(info_hash) = self.tasks.get(&id).map(Task::info_hash) {
            self.keep_metadata(id, info_hash, reactor);
        }
    }

    /// Has the database keep the metadata, for this session's successor and for who adds the link again.
    fn keep_metadata(&mut self, id: TaskId, before: InfoHash, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let metainfo = Arc::clone(&task.metainfo);
        let info_hash = metainfo.info_hash();
        for name in metainfo.info_hashes().on_the_wire() {
            self.by_hash.insert(name, id);
            self.skeys.insert(name);
        }
        if self.store.is_none() {
            return;
        }
        if info_hash != before {
            // A link may know a hybrid by its other name only.
            self.write(Change::Forget(before), reactor);
        }
        if self.config.restore {
            self.remember(id, reactor);
        } else {
            self.write(Change::TorrentFile(metainfo), reactor);
        }
    }

    /// Looks at what is on disk, once it is known what the torrent is and what earlier runs knew of it.
    fn look_at_named(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let is_answered = |named: &mut Box<Named>| matches!(named.recall, Recall::Answered(_));
        let Some(named) = task.named.take_if(is_answered) else { return };
        if let Recall::Answered(record) = named.recall {
            self.look(id, record, reactor);
        }
    }

    /// A torrent that awaited its metadata goes to work with the peers that it has.
    pub(crate) fn teach_swarm(&mut self, id: TaskId, have: Bitfield, reactor: &Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let priorities = piece_priorities(task.metainfo.layout(), &task.priorities);
        task.swarm.set_paused(now, task.flags.contains(StatusWord::PAUSED));
        task.swarm.learn(now, Arc::clone(&task.metainfo), have, &priorities);
        task.swarm.hold(&task.unproven);
        task.wanted_lens.set(None);
        task.completed_at = task.swarm.is_completed().then_some(now);
        task.has_been_complete |= task.swarm.have().is_all();
    }
}

/// Writes a file whole, or leaves what was there.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    if written.is_err() {
        // The first error is the one to tell.
        fs::remove_file(&aside).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reactor::simulated::{Turn, World, WorldOptions};
    use torrent::InfoHashes;
    use torrent::metainfo::create::Format;

    use super::*;
    use crate::TorrentState;
    use crate::simulation::{Machine, PORT, Payload, run_until_complete};

    fn add_link(machine: &mut Machine, magnet: &Magnet, peers: &[u8]) {
        let host = |number: &u8| (IpAddr::from([10, 0, 0, *number]).to_string(), PORT);
        let magnet = Magnet { peers: peers.iter().map(host).collect(), ..magnet.clone() };
        let options = AddOptions { dir: machine.dir.path().to_owned(), ..AddOptions::default() };
        let add = move |engine: &mut Engine, reactor: &mut Reactor<Engine>| {
            engine.add_magnet(magnet, &options, reactor)
        };
        machine.task = machine.node.with(add).map(|(id, _)| id);
    }

    /// A seeder, and four that have a link only, each of which knows one or two others. Returns what the world
    /// saw.
    fn play(seed: u64, options: WorldOptions, payload: &Payload) -> (Duration, u64) {
        let world = World::new(seed, options);
        let machine = |number| Machine::new(&world, number);
        let mut machines: Vec<Machine> = (1..=5).map(machine).collect();
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        let magnet = Magnet { peers: Vec::new(), ..Magnet::of(&payload.metainfo) };
        for (at, peers) in [(1, &[1_u8][..]), (2, &[1, 2]), (3, &[2, 3]), (4, &[4])] {
            add_link(&mut machines[at], &magnet, peers);
        }
        let patience = Duration::from_secs(3600);
        assert!(run_until_complete(&world, &mut machines, patience), "seed {seed} does not end");
        for machine in &machines[1..] {
            let copy = fs::read(machine.dir.path().join("payload/a")).expect("there");
            let original = fs::read(payload.dir.path().join("payload/a"));
            assert!(copy == original.expect("there"), "seed {seed}: it differs");
        }
        (world.elapsed(), world.trace_digest())
    }

    #[test]
    fn a_swarm_of_links_ends_well_and_runs_again_as_it_ran() {
        for format in [Format::V1, Format::V2, Format::Hybrid] {
            runs_again_as_it_ran(&Payload::in_format(400_000, format));
        }
    }

    fn runs_again_as_it_ran(payload: &Payload) {
        let usual = play(1, WorldOptions::default(), payload);
        assert_eq!(play(1, WorldOptions::default(), payload), usual);
        for seed in 0..10 {
            let options =
                WorldOptions { reset_share: 0.005, partial_share: 0.5, ..WorldOptions::default() };
            play(seed, options, payload);
        }
    }

    #[test]
    fn the_peer_that_brought_the_metadata_is_asked_for_blocks_at_once() {
        for format in [Format::V1, Format::V2, Format::Hybrid] {
            let payload = Payload::in_format(400_000, format);
            let world = World::new(1, WorldOptions::default());
            let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
            machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
            let magnet = Magnet { peers: Vec::new(), ..Magnet::of(&payload.metainfo) };
            add_link(&mut machines[1], &magnet, &[1]);
            assert!(run_until_complete(&world, &mut machines, Duration::from_secs(60)));
            // Round trips for the connection, the handshakes, the metadata, the blocks; no timer in between.
            let took = world.elapsed();
            assert!(took < Duration::from_secs(1), "{format:?}: {took:?}");
        }
    }

    #[test]
    fn a_connection_made_by_the_name_of_version_1_outlives_the_news_that_there_is_a_version_2() {
        let payload = Payload::in_format(2_000_000, Format::Hybrid);
        let world = World::new(1, WorldOptions::default());
        let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        let names = InfoHashes { v2: None, ..payload.metainfo.info_hashes() };
        add_link(&mut machines[1], &Magnet::new(names), &[1]);
        assert!(run_until_complete(&world, &mut machines, Duration::from_secs(600)));
        // An address is dialled again after a minute.
        let took = world.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
    }

    #[test]
    fn a_seed_that_is_lost_before_it_has_told_what_the_torrent_is_is_dialled_again() {
        let payload = Payload::new(400_000);
        let world = World::new(1, WorldOptions::default());
        let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        let magnet = Magnet { peers: Vec::new(), ..Magnet::of(&payload.metainfo) };
        add_link(&mut machines[1], &magnet, &[1]);
        let is_introduced = |machine: &Machine| {
            let now = machine.node.reactor.now();
            task_of(machine).swarm.peers(now).any(|(_, peer)| peer.is_upload_only)
        };
        while !is_introduced(&machines[1]) {
            assert!(world.elapsed() < Duration::from_secs(60), "they do not meet");
            let turns = machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn);
            assert!(world.step(&mut turns.collect::<Vec<_>>()));
        }
        assert!(!task_of(&machines[1]).published.is_known());
        world.reset_between([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert!(run_until_complete(&world, &mut machines, Duration::from_secs(60)));
    }

    /// The task of a machine.
    fn task_of(machine: &Machine) -> &Task {
        machine.task.and_then(|id| machine.node.state.tasks.get(&id)).expect("there")
    }

    #[test]
    fn what_is_on_disk_is_kept_though_its_hashes_come_later() {
        let payload = Payload::in_format(2_000_000, Format::V2);
        let world = World::new(1, WorldOptions::default());
        let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        // All but what lies in two pieces, one of which is damaged.
        let root = machines[1].dir.path().join("payload");
        fs::create_dir(&root).expect("made");
        let whole = fs::read(payload.dir.path().join("payload/a")).expect("there");
        let mut copy = whole[..1_950_000].to_vec();
        copy[1_000_000] ^= 1;
        fs::write(root.join("a"), copy).expect("written");
        let magnet = Magnet { peers: Vec::new(), ..Magnet::of(&payload.metainfo) };
        add_link(&mut machines[1], &magnet, &[1]);
        assert!(run_until_complete(&world, &mut machines, Duration::from_secs(600)));
        assert!(fs::read(root.join("a")).expect("there") == whole);
        let fetched = task_of(&machines[1]).swarm.downloaded();
        assert!(fetched <= 3 * 64 * 1024 + 1000, "{fetched} bytes");
    }

    #[test]
    fn who_knows_a_hybrid_by_its_second_name_only_is_dialled_by_that() {
        let payload = Payload::in_format(100_000, Format::Hybrid);
        let world = World::new(1, WorldOptions::default());
        let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
        let names = InfoHashes { v1: None, ..payload.metainfo.info_hashes() };
        add_link(&mut machines[1], &Magnet::new(names), &[]);
        // Nobody but the seed knows where the other is.
        machines[0].add(&payload.metainfo, payload.dir.path(), &[2]);
        assert!(run_until_complete(&world, &mut machines, Duration::from_secs(60)));
        assert_eq!(task_of(&machines[1]).metainfo.info_hashes(), payload.metainfo.info_hashes());
    }

    #[test]
    fn a_hybrid_that_two_links_name_is_here_once() {
        let payload = Payload::in_format(100_000, Format::Hybrid);
        let world = World::new(1, WorldOptions::default());
        let mut machines = vec![Machine::new(&world, 1), Machine::new(&world, 2)];
        machines[0].add(&payload.metainfo, payload.dir.path(), &[]);
        let names = payload.metainfo.info_hashes();
        add_link(&mut machines[1], &Magnet::new(InfoHashes { v1: None, ..names }), &[1]);
        let first = machines[1].task;
        add_link(&mut machines[1], &Magnet::new(InfoHashes { v2: None, ..names }), &[1]);
        let second = machines[1].task;
        let is_settled = |machines: &[Machine]| {
            let tasks = &machines[1].node.state.tasks;
            let mut states = [first, second].into_iter().flatten().map(|id| tasks[&id].state());
            states.any(|state| matches!(state, TorrentState::Failed(_)))
        };
        while !is_settled(&machines) {
            assert!(world.elapsed() < Duration::from_secs(60), "both go on");
            let turns = machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn);
            assert!(world.step(&mut turns.collect::<Vec<_>>()));
        }
        let failed = |id: Option<TaskId>| {
            let task = id.and_then(|id| machines[1].node.state.tasks.get(&id)).expect("there");
            matches!(task.state(), TorrentState::Failed(_))
        };
        let (lost, kept) = if failed(first) { (first, second) } else { (second, first) };
        assert!(failed(lost) && !failed(kept));
        let lost = lost.expect("added");
        machines[1].node.with(move |engine, reactor| engine.remove(lost, reactor));
        machines[1].task = kept;
        // The other had the connection, and an address is dialled again after a minute.
        assert!(run_until_complete(&world, &mut machines, Duration::from_secs(600)));
        let by_hash = &machines[1].node.state.by_hash;
        assert!(names.on_the_wire().all(|name| by_hash.get(&name).copied() == kept));
    }
}
