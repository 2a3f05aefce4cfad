//! Looking at what is on disk: at the start, after a change behind our back, or on demand.

use std::sync::Arc;

use reactor::Reactor;
use torrent::metainfo::Metainfo;
use torrent::{Bitfield, PieceIndex};

use crate::disk::{DiskError, FileStamp, Storage};
use crate::engine::{Engine, all_pieces};
use crate::event::EventKind;
use crate::resume::{ResumeRecord, ResumeStore, trusted};
use crate::task::{Check, Stage, TaskId};

/// What a torrent begins with, found on a disk thread.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// Pieces that are here for sure.
    pub(crate) trusted: Bitfield,
    /// Pieces that may be.
    pub(crate) doubtful: Vec<PieceIndex>,
    pub(crate) record: Option<ResumeRecord>,
    /// How the files look.
    pub(crate) stamps: Vec<Option<FileStamp>>,
}

/// Compares what is remembered with what is on disk. Reads no payload.
pub(crate) fn beginning(
    metainfo: &Metainfo,
    storage: &Storage,
    store: Option<&ResumeStore>,
    check_all: bool,
) -> Beginning {
    let layout = metainfo.layout();
    let record = store.and_then(|store| match store.load(&metainfo.info_hash()) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(torrent = %metainfo.info_hash(), %error, "the remembered state is of no use");
            None
        }
    });
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
    Beginning { trusted, doubtful, record, stamps }
}

impl Engine {
    /// Hashes `doubtful` pieces; the torrent then goes on with those that are right and `trusted`.
    pub(crate) fn start_check(
        &mut self,
        id: TaskId,
        trusted: Bitfield,
        doubtful: Vec<PieceIndex>,
        then_pause: bool,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.checks += 1;
        let number = task.checks;
        task.swarm.abandon_open();
        task.storing.clear();
        task.verify_later.clear();
        let storage = Arc::clone(&task.storage);
        task.stage = Stage::Checking(Check {
            number,
            total: doubtful.len() as u32,
            queue: doubtful.into(),
            found: Some(trusted),
            then_pause,
            ..Check::default()
        });
        self.state_changed(id, reactor);
        self.close_peers(id, "hash checking", reactor);
        // The files are taken as they are now, whatever became of them.
        reactor.offload(
            move || {
                storage.close_files();
                storage.file_stamps()
            },
            move |stamps, engine, reactor| {
                engine.stamp_unknown(id, stamps);
                engine.check_more(id, number, reactor);
            },
        );
    }

    /// Files of which nothing is believed are about to be hashed, and look so.
    fn stamp_unknown(&mut self, id: TaskId, now: Vec<Option<FileStamp>>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Checking(Check { found: Some(trusted), .. }) = &task.stage else { return };
        let layout = task.metainfo.layout();
        for (file, (stamp, now)) in task.stamps.iter_mut().zip(now).enumerate() {
            if !layout.file_pieces(file).any(|piece| trusted.has(PieceIndex(piece))) {
                *stamp = now;
            }
        }
    }

    /// Keeps the disk threads busy with the check; ends it when all is hashed.
    fn check_more(&mut self, id: TaskId, number: u64, reactor: &mut Reactor<Self>) {
        let in_flight_max = self.config.disk_threads * 2;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Checking(check) = &mut task.stage else { return };
        if check.number != number {
            return;
        }
        while check.in_flight < in_flight_max {
            let Some(piece) = check.queue.pop_front() else { break };
            check.in_flight += 1;
            let storage = Arc::clone(&task.storage);
            let expected = task.metainfo.piece_hash(piece);
            reactor.offload(
                move || {
                    storage
                        .hash(piece, &mut Vec::new())
                        .map(|hash| hash.map(|hash| hash == expected))
                },
                move |done, engine, reactor| engine.piece_checked(id, number, piece, done, reactor),
            );
        }
        if check.in_flight == 0 && check.queue.is_empty() {
            let found = check.found.take().expect("a check that runs has its bits");
            let then_pause = check.then_pause;
            self.begin(id, found, then_pause, reactor);
        }
    }

    fn piece_checked(
        &mut self,
        id: TaskId,
        number: u64,
        piece: PieceIndex,
        done: Result<Option<bool>, DiskError>,
        reactor: &mut Reactor<Self>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Checking(check) = &mut task.stage else { return };
        if check.number != number {
            return;
        }
        check.in_flight -= 1;
        check.done += 1;
        let is_status_due = check.done.is_multiple_of(STATUS_EVERY);
        match done {
            Ok(Some(true)) => {
                if let Some(found) = &mut check.found {
                    found.set(piece);
                }
                self.publish(id, &EventKind::PieceVerified(piece));
            }
            Ok(Some(false)) => self.publish(id, &EventKind::PieceFailed(piece)),
            Ok(None) => {}
            Err(error) => {
                self.fail(id, error.to_string(), reactor);
                return;
            }
        }
        if is_status_due && let Some(task) = self.tasks.get(&id) {
            task.published.publish(task.status(reactor.now()));
        }
        self.check_more(id, number, reactor);
    }

    /// It is known what is on disk: the torrent goes to work.
    pub(crate) fn begin(
        &mut self,
        id: TaskId,
        have: Bitfield,
        is_paused: bool,
        reactor: &mut Reactor<Self>,
    ) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let (metainfo, priorities, is_sequential) =
            (Arc::clone(&task.metainfo), task.priorities.clone(), task.is_sequential);
        let mut swarm = self.new_swarm(now, &metainfo, have, &priorities, is_sequential);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        for totals in [&mut task.earlier, &mut task.this_run] {
            totals.0 += task.swarm.downloaded();
            totals.1 += task.swarm.uploaded();
        }
        std::mem::swap(&mut swarm.known, &mut task.swarm.known);
        task.swarm = swarm;
        task.reading.clear();
        task.swarm.set_upload_capacity(task.upload_limit.or(self.config.limits.upload));
        task.is_dirty = true;
        task.save_at = now;
        task.completed_at = task.swarm.is_completed().then_some(now);
        task.stage = if is_paused { Stage::Paused } else { Stage::Running };
        if is_paused {
            task.announcer.stop(now);
            self.drive_trackers(id, reactor);
        } else {
            self.run(id, reactor);
        }
        self.state_changed(id, reactor);
        if self.tasks.get(&id).is_some_and(|task| task.swarm.is_completed()) {
            self.publish(id, &EventKind::Completed);
        }
    }

    /// Makes the files that need no data, announces, dials.
    pub(crate) fn run(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.stage = Stage::Running;
        task.swarm.known.forget_failures();
        task.announcer.start(now);
        let storage = Arc::clone(&task.storage);
        reactor.offload(
            move || storage.create_empty_files(),
            move |done: Result<(), DiskError>, engine, reactor| {
                if let Err(error) = done {
                    engine.fail(id, error.to_string(), reactor);
                }
            },
        );
        if self.tasks.get(&id).is_some_and(|task| task.swarm.is_completed()) {
            self.cut_to_length(id, reactor);
        }
        self.drive_trackers(id, reactor);
        self.dial(id, reactor);
    }
}

/// Pieces hashed between two snapshots for people.
const STATUS_EVERY: u32 = 16;
