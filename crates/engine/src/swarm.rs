//! Carries out what the brain of a torrent asks for: bytes to peers, blocks to and from the disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Reactor, Token};
use torrent::swarm::{Output, PeerKey, ReadRun, Verdict, VerifyJob};
use torrent::wire::{Inbox, Message, MessageLimits};
use torrent::{Bitfield, InfoHash, PeerFault, PieceIndex, Witness};

use crate::buffer::BufferPool;
use crate::disk::{DiskError, Storage};
use crate::engine::{DISK_BUFFER_LEN, Engine};
use crate::event::{EventKind, EventMask, Packet};
use crate::hasher;
use crate::parting::DisconnectReason;
use crate::peer::UPLOAD_HIGH;
use crate::task::{Stage, Task, TaskId};

impl Engine {
    pub(crate) fn handle_messages(
        &mut self,
        id: TaskId,
        key: PeerKey,
        messages: &mut Vec<Message>,
        reactor: &Reactor<Self>,
    ) -> Result<(), PeerFault> {
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        // The last words of a peer that is being closed.
        if !task.is_running() {
            messages.clear();
            return Ok(());
        }
        task.swarm.handle_messages(reactor.now(), key, messages)
    }

    /// Does everything that the brain of a torrent asks for.
    pub(crate) fn drain(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        while let Some(task) = self.tasks.get_mut(&id) {
            let Some(output) = task.swarm.poll_output(reactor.now()) else { break };
            match output {
                Output::Send { peer, bytes } => {
                    if let Some(&token) = task.connections.get(&peer) {
                        self.tell_sent(id, token, &bytes, reactor);
                        write(reactor, token, bytes);
                    }
                }
                Output::SendBlock { peer, head, data } => {
                    if let Some(&token) = task.connections.get(&peer) {
                        self.tell_block_sent(id, token, &head, data.len(), reactor);
                        write(reactor, token, Bytes::copy_from_slice(&head));
                        write(reactor, token, data);
                    }
                }
                Output::Verify(job) if task.storing.contains_key(&job.piece) => {
                    task.verify_later.push(job);
                }
                Output::Verify(job) => self.verify(id, job, reactor),
                Output::Store(job) => self.store_unverified(id, job, reactor),
                Output::PieceVerified(piece) => {
                    task.is_dirty = true;
                    task.published.bits().set(piece);
                    self.wake(id);
                    self.publish(id, &EventKind::PieceVerified(piece));
                }
                Output::PieceFailed(piece) => self.publish(id, &EventKind::PieceFailed(piece)),
                Output::Close { peer, reason } => {
                    if let Some(&token) = task.connections.get(&peer) {
                        reactor.close(token, reason);
                    }
                }
                Output::Banned(ip) => self.publish(id, &EventKind::PeerBanned { ip }),
                Output::WebSeedLied(key) => self.web_seed_lied(id, key, reactor),
                Output::Completed => self.completed(id, reactor),
                Output::HashesKnown => self.keep_hashes(id, reactor),
                Output::Recheck(pieces) => self.recheck(id, pieces, reactor),
                Output::HashBlocks(pieces) => self.hash_blocks(id, pieces, reactor),
                Output::Metadata(info) => self.metadata_came(id, &info, reactor),
                Output::Found => self.dial(id, reactor),
                Output::Rendezvous(addr) => self.meet(id, addr, reactor),
                Output::SeenAs { by, ours } => self.seen_as(Witness::Peer(by), ours),
                Output::DhtNode(addr) => self.add_dht_node(addr, reactor.now()),
            }
        }
        self.note_activity(id);
    }

    /// Messages of ours are about to be written.
    fn tell_sent(&self, id: TaskId, token: Token, bytes: &Bytes, reactor: &Reactor<Self>) {
        if !self.subscribers.wants(EventMask::PACKETS | EventMask::TRANSFER) {
            return;
        }
        let (Some(task), Some(addr)) = (self.tasks.get(&id), reactor.peer_addr(token)) else {
            return;
        };
        let torrent = Some(task.info_hash());
        self.tell_written(torrent, addr, bytes.len());
        if self.subscribers.wants(EventMask::PACKETS) {
            let mut messages = Vec::new();
            let read =
                inbox(task.swarm.bitfield_len_max()).received(0, bytes.clone(), &mut messages);
            debug_assert!(read.is_ok(), "what we send makes sense");
            for message in &messages {
                self.tell_packet(torrent, addr, || Packet::of(message), true);
            }
        }
    }

    /// A block is about to be written.
    fn tell_block_sent(
        &self,
        id: TaskId,
        token: Token,
        head: &[u8; 13],
        data_len: usize,
        reactor: &Reactor<Self>,
    ) {
        if self.subscribers.wants(EventMask::PACKETS | EventMask::TRANSFER)
            && let Some(task) = self.tasks.get(&id)
            && let Some(addr) = reactor.peer_addr(token)
        {
            let torrent = Some(task.info_hash());
            self.tell_written(torrent, addr, head.len() + data_len);
            self.tell_packet(torrent, addr, || Packet::of_piece_head(head), true);
        }
    }

    /// A peer sent messages.
    pub(crate) fn tell_messages(
        &self,
        torrent: Option<InfoHash>,
        addr: SocketAddr,
        messages: &[Message],
    ) {
        if !self.subscribers.wants(EventMask::PACKETS | EventMask::HAVES) {
            return;
        }
        for message in messages {
            self.tell_packet(torrent, addr, || Packet::of(message), false);
            if let Some(kind) = self.have_of(torrent, addr, message) {
                self.tell(torrent, &kind);
            }
        }
    }

    /// What a message says about its sender's pieces.
    fn have_of(
        &self,
        torrent: Option<InfoHash>,
        addr: SocketAddr,
        message: &Message,
    ) -> Option<EventKind> {
        if !self.subscribers.wants(EventMask::HAVES) {
            return None;
        }
        let piece_count = self.piece_count(*self.by_hash.get(&torrent?)?)?;
        let pieces = match message {
            Message::Have(piece) => {
                return Some(EventKind::PeerHas { addr, piece: *piece });
            }
            Message::Bitfield(bytes) => Bitfield::from_bytes(bytes, piece_count)?,
            Message::HaveAll => Bitfield::all(piece_count),
            Message::HaveNone => Bitfield::none(piece_count),
            _ => return None,
        };
        Some(EventKind::PeerBitfield { addr, pieces })
    }

    fn completed(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.completed_at = Some(now);
        // Trackers count whole copies: what was not wanted may still be missing.
        if task.swarm.have().is_all() && !std::mem::replace(&mut task.has_been_complete, true) {
            task.announcer.completed(now);
        }
        task.save_at = now;
        // Whoever hears of it looks at the figures.
        task.published.publish(task.status(now));
        self.cut_to_length(id, reactor);
        self.publish(id, &EventKind::Completed);
        self.state_changed(id, reactor);
        self.drive_trackers(id, reactor);
    }

    /// Takes off what files have past their end: longer ones were there before.
    pub(crate) fn cut_to_length(&self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let storage = Arc::clone(&task.storage);
        reactor.offload_on(
            task.disk.data,
            move || storage.cut_to_length(),
            move |done, engine, reactor| {
                if let Err(error) = done {
                    engine.fail(id, error.to_string(), reactor);
                }
            },
        );
    }

    /// A disk thread hashes the blocks from memory, and writes them if they are what they should be.
    fn verify(&mut self, id: TaskId, job: VerifyJob, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let storage = Arc::clone(&task.storage);
        let check = task.metainfo.piece_check(job.piece);
        let piece_len = task.metainfo.layout().len_of(job.piece);
        let (piece, len, of_swarm) = (job.piece, held_len(&job), task.swarms);
        reactor.offload_on(
            task.disk.data,
            move || hasher::verify_and_write(&storage, job, piece_len, check),
            move |done, engine, reactor| {
                let is_present = engine.tasks.get(&id).is_some_and(|task| task.swarms == of_swarm);
                if is_present {
                    engine.verified(id, piece, len, done, reactor);
                }
            },
        );
    }

    fn verified(
        &mut self,
        id: TaskId,
        piece: PieceIndex,
        len: u64,
        done: Result<Verdict, DiskError>,
        reactor: &mut Reactor<Self>,
    ) {
        let (verdict, error) = match done {
            Ok(verdict) => (verdict, None),
            Err(error) => (Verdict::Lost, Some(error)),
        };
        let is_good = match &verdict {
            Verdict::Good(_) => Some(true),
            Verdict::Bad { .. } => Some(false),
            Verdict::Lost => None,
        };
        if let (Some(is_good), Some(task)) = (is_good, self.tasks.get(&id))
            && self.subscribers.wants(EventMask::SOURCES)
        {
            let peers = task.swarm.contributors(piece).into_iter().collect();
            self.publish(id, &EventKind::PieceSources { piece, is_good, peers });
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            if matches!(task.stage, Stage::Checking(_)) {
                // It began meanwhile, and sees for itself what is on disk. Only the memory counts.
                task.swarm.handle_verdict(piece, len, Verdict::Lost);
            } else {
                task.swarm.handle_verdict(piece, len, verdict);
                if let Some(error) = error {
                    self.fail(id, error.to_string(), reactor);
                }
            }
        }
        self.resume_reading(reactor);
        self.drain(id, reactor);
    }

    /// Memory is short: a disk thread writes blocks of a piece that is not whole.
    fn store_unverified(&mut self, id: TaskId, job: VerifyJob, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let storage = Arc::clone(&task.storage);
        let (piece, len, of_swarm) = (job.piece, held_len(&job), task.swarms);
        *task.storing.entry(piece).or_default() += 1;
        let is_void = Arc::clone(&task.is_void);
        reactor.offload_on(
            task.disk.data,
            move || {
                job.blocks.into_iter().try_for_each(|(offset, data)| {
                    // Written after a check, they might fall upon what that found to be right.
                    if is_void.load(Ordering::Relaxed) {
                        return Err(DiskError::Cancelled);
                    }
                    storage.write(piece, offset, &[data])
                })
            },
            move |done: Result<(), DiskError>, engine, reactor| {
                engine.stored(id, piece, len, of_swarm, done, reactor);
            },
        );
    }

    fn stored(
        &mut self,
        id: TaskId,
        piece: PieceIndex,
        len: u64,
        of_swarm: u64,
        done: Result<(), DiskError>,
        reactor: &mut Reactor<Self>,
    ) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.swarms == of_swarm) {
            task.swarm.handle_stored(len);
            if let Some(count @ 2..) = task.storing.get_mut(&piece) {
                *count -= 1;
            } else {
                task.storing.remove(&piece);
            }
            let (storing, later) = (&task.storing, &mut task.verify_later);
            let ready: Vec<VerifyJob> =
                later.extract_if(.., |job| !storing.contains_key(&job.piece)).collect();
            for job in ready {
                match &done {
                    Ok(()) => self.verify(id, job, reactor),
                    Err(_) => self.lose(id, &job),
                }
            }
            let is_checking =
                self.tasks.get(&id).is_some_and(|task| matches!(task.stage, Stage::Checking(_)));
            if let (Err(error), false) = (done, is_checking) {
                self.fail(id, error.to_string(), reactor);
            }
        }
        self.resume_reading(reactor);
        self.drain(id, reactor);
    }

    /// A piece cannot be verified: some of it is not on disk.
    pub(crate) fn lose(&mut self, id: TaskId, job: &VerifyJob) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.swarm.handle_verdict(job.piece, held_len(job), Verdict::Lost);
        }
    }

    /// How many bytes a connection may read now; `None` if it has to wait, and will be woken.
    pub(crate) fn allow_reading(
        &mut self,
        id: TaskId,
        key: PeerKey,
        token: Token,
        reactor: &mut Reactor<Self>,
    ) -> Option<usize> {
        let now = reactor.now();
        if self.is_memory_short() {
            reactor.pause(token);
            self.waiting_for_disk.push_back((id, key, token));
            self.relieve(reactor);
            return None;
        }
        let in_all = if self.is_limited(token) { self.down.available(now) } else { u64::MAX };
        let task = self.tasks.get_mut(&id)?;
        let allowance = in_all.min(task.down.available(now));
        if allowance < READ_LEN_MIN {
            reactor.pause(token);
            self.waiting_to_read.push_back((id, key, token));
            self.start_throttle(reactor);
            return None;
        }
        Some(usize::try_from(allowance).unwrap_or(usize::MAX))
    }

    pub(crate) const fn is_memory_short(&self) -> bool {
        self.activity.held_len() >= self.config.limits.memory_max
    }

    /// Memory is short: the torrent that holds most, whichever it is and whether or not anything comes
    /// for it, writes some of it.
    pub(crate) fn relieve(&mut self, reactor: &mut Reactor<Self>) {
        let may_write = |task: &Task| matches!(task.stage, Stage::Running | Stage::Stopped { .. });
        let is_relievable = |id: &TaskId| {
            self.tasks.get(id).is_some_and(|task| may_write(task) && task.storing.is_empty())
        };
        let relievable = self.activity.holding().filter(|(id, _)| is_relievable(id));
        let fullest = relievable.max_by_key(|&(_, len)| len).map(|(id, _)| id);
        let Some(id) = fullest else { return };
        if let Some(task) = self.tasks.get_mut(&id) {
            task.swarm.relieve();
            self.drain(id, reactor);
        }
    }

    /// So much has been read of a torrent; `is_limited` if the limits on all torrents together hold for it.
    pub(crate) fn spend_reading(
        &mut self,
        id: TaskId,
        is_limited: bool,
        count: usize,
        reactor: &Reactor<Self>,
    ) {
        let now = reactor.now();
        if is_limited {
            self.down.take(now, count as u64);
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.down.take(now, count as u64);
        }
    }

    /// If memory is free again, lets connections go on that waited for it; if not, has more written.
    pub(crate) fn resume_reading(&mut self, reactor: &mut Reactor<Self>) {
        if !self.is_memory_short() {
            self.resume_web_seeds(reactor);
        }
        if self.waiting_for_disk.is_empty() {
            return;
        }
        if self.is_memory_short() {
            // What was written was not enough, and nobody reads who would ask for more.
            self.relieve(reactor);
            return;
        }
        for (id, key, token) in std::mem::take(&mut self.waiting_for_disk) {
            self.let_read(id, key, token, reactor);
        }
    }

    /// A connection goes on that we held up: its silence was ours.
    fn let_read(&mut self, id: TaskId, key: PeerKey, token: Token, reactor: &mut Reactor<Self>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.swarm.excuse(reactor.now(), key);
        }
        reactor.resume(token);
    }

    /// Wakes those who wait for allowance, soon.
    pub(crate) fn start_throttle(&mut self, reactor: &mut Reactor<Self>) {
        if self.throttle.is_none() {
            let at = reactor.now() + THROTTLE_TICK;
            self.throttle = Some(reactor.add_timer(at, |engine, reactor| {
                engine.throttle = None;
                engine.resume_web_seeds(reactor);
                for (id, key, token) in std::mem::take(&mut engine.waiting_to_read) {
                    engine.let_read(id, key, token, reactor);
                }
                for (id, key) in std::mem::take(&mut engine.waiting_to_send) {
                    engine.pump_uploads(id, key, reactor);
                    engine.drain(id, reactor);
                }
                // Whoever came first this time, and had the allowance, comes last next time.
                if !engine.waiting_to_send.is_empty() {
                    engine.waiting_to_send.rotate_left(1);
                }
            }));
        }
    }

    /// Has disk threads read what a peer asked for, while there is room on its way out.
    pub(crate) fn pump_uploads(&mut self, id: TaskId, key: PeerKey, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        loop {
            let Some(task) = self.tasks.get(&id) else { return };
            if !task.is_moving() || !task.swarm.has_requests(key) {
                return;
            }
            let Some(&token) = task.connections.get(&key) else { return };
            let is_limited = self.is_limited(token);
            let Some(task) = self.tasks.get_mut(&id) else { return };
            let reading = task.reading.get(&key).copied().unwrap_or(0);
            if reactor.queued(token) + reading >= UPLOAD_HIGH {
                return;
            }
            let in_all = if is_limited { self.up.available(now) } else { u64::MAX };
            let allowance = in_all.min(task.up.available(now));
            // Nobody overtakes those who wait for the same allowance.
            let is_shared = is_limited && self.up.rate().is_some();
            let is_rival = |(other, _): &(TaskId, PeerKey)| is_shared || *other == id;
            let is_queue = self.throttle.is_some() && self.waiting_to_send.iter().any(is_rival);
            if allowance < SEND_LEN_MIN || is_queue {
                if !self.waiting_to_send.contains(&(id, key)) {
                    self.waiting_to_send.push_back((id, key));
                }
                self.start_throttle(reactor);
                return;
            }
            let len_max = allowance.min(DISK_BUFFER_LEN as u64) as u32;
            let Some(run) = task.swarm.next_read(key, len_max) else { return };
            if is_limited {
                self.up.take(now, u64::from(run.span.len));
            }
            task.up.take(now, u64::from(run.span.len));
            *task.reading.entry(key).or_default() += run.span.len as usize;
            let (storage, of_swarm) = (Arc::clone(&task.storage), task.swarms);
            let buffers = self.disk_buffers.clone();
            reactor.offload_on(
                task.disk.data,
                move || read_span(&storage, &buffers, run),
                move |done, engine, reactor| engine.span_read(id, run, of_swarm, done, reactor),
            );
        }
    }

    fn span_read(
        &mut self,
        id: TaskId,
        run: ReadRun,
        of_swarm: u64,
        done: Result<Bytes, DiskError>,
        reactor: &mut Reactor<Self>,
    ) {
        let asked = self.tasks.get_mut(&id).filter(|task| task.swarms == of_swarm);
        let Some(task) = asked.filter(|task| !matches!(task.stage, Stage::Checking(_))) else {
            return;
        };
        if let Some(reading) = task.reading.get_mut(&run.peer) {
            *reading = reading.saturating_sub(run.span.len as usize);
        }
        match done {
            Ok(data) => task.swarm.handle_read(reactor.now(), run, &data),
            Err(error) => {
                task.swarm.handle_read_failed(run);
                self.fail(id, error.to_string(), reactor);
            }
        }
        self.drain(id, reactor);
        self.pump_uploads(id, run.peer, reactor);
    }

    pub(crate) fn pump_all_uploads(&mut self, id: TaskId, reactor: &mut Reactor<Self>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let keys: Vec<PeerKey> =
            task.connections.keys().copied().filter(|&key| task.swarm.has_requests(key)).collect();
        for key in keys {
            self.pump_uploads(id, key, reactor);
        }
    }
}

/// What cuts messages out of a stream, bitfields of up to so many bytes among them.
pub(crate) fn inbox(bitfield_len: usize) -> Inbox {
    Inbox::new(MessageLimits { bitfield_len, ..MessageLimits::default() })
}

/// Queues bytes for a peer. If the connection is over, its handler is about to hear of it.
fn write(reactor: &mut Reactor<Engine>, token: Token, bytes: Bytes) {
    if reactor.write(token, bytes).is_err() {
        tracing::trace!(?token, "written to a closed connection");
    } else if reactor.queued(token) > QUEUED_MAX {
        reactor.close(token, DisconnectReason::DoesNotRead.words());
    }
}

fn held_len(job: &VerifyJob) -> u64 {
    job.blocks.iter().map(|(_, data)| data.len() as u64).sum()
}

/// On a disk thread.
fn read_span(storage: &Storage, buffers: &BufferPool, run: ReadRun) -> Result<Bytes, DiskError> {
    let (len, span) = (run.span.len as usize, run.span);
    // What is asked for behind the end of a file that begins with a piece of its own is zeros.
    let here =
        storage.layout().len_of(span.piece).saturating_sub(span.offset).min(span.len) as usize;
    let mut buffer = buffers.take();
    match buffer.as_mut().get_mut(..len) {
        Some(space) => {
            let (space, behind) = space.split_at_mut(here);
            storage.read_into(span.piece, span.offset, space)?;
            behind.fill(0);
        }
        None => {
            let mut data = vec![0; len];
            storage.read_into(span.piece, span.offset, &mut data[..here])?;
            return Ok(data.into());
        }
    }
    Ok(buffer.freeze(len))
}

pub(crate) const READ_LEN_MIN: u64 = 1024;
/// Well above what we read ahead for a peer: only answers to a flood of small questions get there.
const QUEUED_MAX: usize = 4 * UPLOAD_HIGH;
/// A block goes out whole, so the allowance must have grown to the size of one.
const SEND_LEN_MIN: u64 = 16 * 1024;
const THROTTLE_TICK: Duration = Duration::from_millis(20);
