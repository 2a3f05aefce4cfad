//! One connection to a peer: carries bytes between the socket and the swarm, and decides nothing.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Handler, HandlerError, Reactor, Read, Reason, Token};
use torrent::swarm::{Direction, NewPeer, PeerKey, Refused};
use torrent::wire::{Handshake, Inbox, Message};
use torrent::{InfoHash, InfoHashV2, PeerFault, PeerId};

use crate::dial::Road;
use crate::encryption::{NEGOTIATION_READ_LEN, Negotiated, Negotiation};
use crate::engine::Engine;
use crate::event::{EventKind, EventMask, Packet};
use crate::parting::{DisconnectReason, Parted};
use crate::swarm::inbox;
use crate::task::TaskId;

/// The handler of one connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    addr: SocketAddr,
    /// What carries it.
    road: Road,
    /// When we dialled.
    dialled_at: Option<Instant>,
    /// Whether what is said on it is.
    is_encrypted: bool,
    /// The torrent that one of us asked for, ours or not.
    torrent: Option<InfoHash>,
    /// Whether we have said that we know the torrent as one of version 2.
    has_said_v2: bool,
    /// Its name, once its handshake is here.
    peer_id: Option<PeerId>,
    /// Why it has to end, if it is left to end by itself.
    verdict: Option<DisconnectReason>,
    stage: Stage,
    messages: Vec<Message>,
}

#[derive(Debug)]
enum Stage {
    /// We dialled; `InfoHash` is what we shall ask for.
    Dialling(TaskId, InfoHash),
    /// The handshake that hides the others is under way.
    Negotiating { wanted: Option<(TaskId, InfoHash)>, negotiation: Box<Negotiation> },
    /// The peer's handshake is awaited. Whoever came to us has yet to say for which torrent.
    Greeting { wanted: Option<(TaskId, InfoHash)>, bytes: Vec<u8> },
    /// Messages flow.
    Talking { task: TaskId, key: PeerKey, inbox: Inbox },
}

impl PeerConnection {
    /// A connection that we open.
    pub(crate) const fn outgoing(
        addr: SocketAddr,
        road: Road,
        task: TaskId,
        info_hash: InfoHash,
        now: Instant,
    ) -> Self {
        Self {
            addr,
            road,
            dialled_at: Some(now),
            is_encrypted: false,
            torrent: Some(info_hash),
            has_said_v2: false,
            peer_id: None,
            verdict: None,
            stage: Stage::Dialling(task, info_hash),
            messages: Vec::new(),
        }
    }

    /// A connection that came to us.
    pub(crate) const fn incoming(addr: SocketAddr, road: Road) -> Self {
        Self {
            addr,
            road,
            dialled_at: None,
            is_encrypted: false,
            torrent: None,
            has_said_v2: false,
            peer_id: None,
            verdict: None,
            stage: Stage::Greeting { wanted: None, bytes: Vec::new() },
            messages: Vec::new(),
        }
    }

    /// Goes on with the handshake that hides the others; the others follow.
    fn negotiate(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        let Stage::Negotiating { wanted, negotiation } = &mut self.stage else { return Ok(()) };
        if !engine.may_negotiate(token, negotiation, reactor) {
            return Ok(());
        }
        let mut bytes = [0; NEGOTIATION_READ_LEN];
        let count = match reactor.read(token, &mut bytes)? {
            Read::Data(count) => count,
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                reactor.close(token, DisconnectReason::ClosedByRemote.words());
                return Ok(());
            }
        };
        match engine.negotiate(token, negotiation, &bytes[..count], reactor)? {
            Negotiated::Waiting => Ok(()),
            Negotiated::Hopeless(fault) => {
                self.verdict = Some(fault.into());
                reactor.pause(token);
                Ok(())
            }
            Negotiated::Done { info_hash, is_encrypted } => {
                (self.torrent, self.is_encrypted) = (Some(info_hash), is_encrypted);
                self.road = self.road.encrypted();
                self.stage = Stage::Greeting { wanted: *wanted, bytes: Vec::new() };
                self.read_greeting(token, engine, reactor)
            }
        }
    }

    /// Reads until the handshake is whole; then the peer joins the swarm.
    fn read_greeting(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        let Stage::Greeting { wanted, bytes } = &mut self.stage else { return Ok(()) };
        let mut rest = [0; Handshake::LEN];
        let missing = Handshake::LEN - bytes.len();
        match reactor.read(token, &mut rest[..missing])? {
            Read::Data(count) => bytes.extend_from_slice(&rest[..count]),
            Read::WouldBlock => return Ok(()),
            Read::Eof => {
                reactor.close(token, DisconnectReason::ClosedByRemote.words());
                return Ok(());
            }
        }
        // Who comes begins in another way than BitTorrent: it may be one that hides it.
        let is_bare = wanted.is_none() && !self.road.is_encrypted();
        let is_strange = Handshake::check_prefix(bytes).is_err();
        let policy = engine.config.encryption;
        if is_bare && is_strange && policy.takes_encrypted() {
            let negotiation = Box::new(engine.answer_encrypted(bytes, reactor)?);
            self.stage = Stage::Negotiating { wanted: None, negotiation };
            return Ok(());
        }
        Handshake::check_prefix(bytes)?;
        if is_bare && bytes.len() >= Handshake::PREFIX_LEN && !policy.takes_plain() {
            return Err(DisconnectReason::NoCommonEncryption.into());
        }
        let Some(whole) = bytes.first_chunk() else { return Ok(()) };
        let theirs = Handshake::decode(whole)?;
        self.peer_id = Some(theirs.peer_id);
        let of = *self.torrent.get_or_insert(theirs.info_hash);
        engine.tell_packet(Some(of), self.addr, || Packet::Handshake(theirs), false);
        let (task, direction) = match *wanted {
            Some((_, info_hash)) if !engine.is_same_torrent(info_hash, theirs.info_hash) => {
                return Err(PeerFault::WrongInfoHash.into());
            }
            Some((task, _)) => (task, Direction::Outgoing),
            // It has named a torrent in secret, and another in the open.
            None if !engine.is_same_torrent(of, theirs.info_hash) => {
                return Err(PeerFault::WrongInfoHash.into());
            }
            None => {
                let task = engine.task_for_peer(theirs.info_hash, reactor)?;
                self.has_said_v2 = engine.names(theirs.info_hash).v2.is_some();
                engine.greet(token, self.addr, engine.name_for(&theirs), reactor)?;
                if self.road.is_utp() {
                    // In a packet of its own, without which some programs wait for the next one.
                    reactor.kick(token)?;
                }
                (task, Direction::Incoming)
            }
        };
        let v2 = engine.names(theirs.info_hash).v2.map(InfoHashV2::truncated);
        let knows_v2 = theirs.reserved.has_v2() || v2 == Some(theirs.info_hash);
        let new = NewPeer {
            addr: self.addr,
            direction,
            peer_id: theirs.peer_id,
            // A link may have learned only since that there is a version 2: that was not agreed upon here.
            reserved: theirs.reserved.with_v2_if(self.has_said_v2 && knows_v2),
            is_encrypted: self.is_encrypted,
        };
        let bitfield_len = engine.bitfield_len_max(task).ok_or(DisconnectReason::UnknownTorrent)?;
        let key = match engine.add_peer(task, token, &new, self.road, reactor) {
            Err(refused @ (Refused::Ourselves | Refused::Duplicate))
                if direction == Direction::Incoming =>
            {
                // The end that dialled, perhaps our own, learns from our handshake who is at that address, and
                // need not try other ways there. So the handshake must get there.
                self.verdict = Some(refused.into());
                reactor.close_after_flush(token, engine.config.limits.handshake_patience);
                return Ok(());
            }
            added => added.map_err(DisconnectReason::from)?,
        };
        if let Some((_, asked_for)) = *wanted {
            engine.way_was_good(task, self.addr, self.road, asked_for);
        }
        self.stage = Stage::Talking { task, key, inbox: inbox(bitfield_len) };
        reactor.set_deadline(token, None);
        reactor.set_water(token, UPLOAD_HIGH, UPLOAD_LOW);
        engine.drain(task, reactor);
        Ok(())
    }

    /// Reads once, as much as there is and as is allowed, and lets the swarm see it.
    fn read_messages(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        let Stage::Talking { task, key, inbox } = &mut self.stage else { return Ok(()) };
        let Some(allowed) = engine.allow_reading(*task, *key, token, reactor) else {
            return Ok(());
        };
        let mut buffer = engine.scratch.take().unwrap_or_else(|| engine.read_buffers.take());
        let pending = inbox.pending_mut();
        let pending_len = pending.len().min(allowed);
        let rest_len = buffer.as_ref().len().min(allowed - pending_len);
        let mut slices = [
            IoSliceMut::new(&mut pending[..pending_len]),
            IoSliceMut::new(&mut buffer.as_mut()[..rest_len]),
        ];
        let slices = if pending_len == 0 { &mut slices[1..] } else { &mut slices[..] };
        let count = match reactor.read_vectored(token, slices)? {
            Read::Data(count) => count,
            Read::WouldBlock => {
                engine.scratch = Some(buffer);
                return Ok(());
            }
            Read::Eof => {
                engine.scratch = Some(buffer);
                reactor.close(token, DisconnectReason::ClosedByRemote.words());
                return Ok(());
            }
        };
        engine.spend_reading(*task, engine.is_limited(token), count, reactor);
        if engine.subscribers.wants(EventMask::TRANSFER) {
            engine.tell(self.torrent, &EventKind::PeerRead { addr: self.addr, len: count });
        }
        let pending_count = count.min(pending_len);
        let rest_count = count - pending_count;
        // A slice pins the whole buffer: little is copied out, much is shared.
        let rest = if rest_count >= SHARED_FROM {
            buffer.freeze(rest_count)
        } else {
            let rest = Bytes::copy_from_slice(&buffer.as_ref()[..rest_count]);
            engine.scratch = Some(buffer);
            rest
        };
        let parsed = inbox.received(pending_count, rest, &mut self.messages);
        engine.tell_messages(self.torrent, self.addr, &self.messages);
        parsed?;
        let (task, key) = (*task, *key);
        if let Err(fault) = engine.handle_messages(task, key, &mut self.messages, reactor) {
            if let [Message::Request(block)] = self.messages[..] {
                let kind = EventKind::InvalidRequest { addr: self.addr, block, fault };
                engine.tell(self.torrent, &kind);
            }
            return Err(fault.into());
        }
        engine.pump_uploads(task, key, reactor);
        engine.drain(task, reactor);
        Ok(())
    }
}

impl Handler<Engine> for PeerConnection {
    fn connected(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        let Stage::Dialling(task, info_hash) = self.stage else { return Ok(()) };
        let (addr, direction) = (self.addr, Direction::Outgoing);
        engine.tell(self.torrent, &EventKind::ConnectionOpened { addr, direction });
        let now = reactor.now();
        let opening = self.dialled_at.map_or(Duration::ZERO, |at| now - at);
        let patience = engine.patience((task, addr), (self.road, info_hash), opening, now);
        reactor.set_deadline(token, now.checked_add(patience));
        let wanted = Some((task, info_hash));
        self.has_said_v2 = engine.names(info_hash).v2.is_some();
        self.stage = if self.road.is_encrypted() {
            let greeting = engine.greeting(addr, info_hash).to_vec();
            let ours = engine.begin_encrypted(token, info_hash, greeting, reactor)?;
            Stage::Negotiating { wanted, negotiation: Box::new(ours) }
        } else {
            engine.greet(token, addr, info_hash, reactor)?;
            Stage::Greeting { wanted, bytes: Vec::new() }
        };
        Ok(())
    }

    fn readable(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        match self.stage {
            Stage::Dialling(..) => Ok(()),
            Stage::Negotiating { .. } => self.negotiate(token, engine, reactor),
            Stage::Greeting { .. } => self.read_greeting(token, engine, reactor),
            Stage::Talking { .. } => self.read_messages(token, engine, reactor),
        }
    }

    fn drained(
        &mut self,
        _token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        if let Stage::Talking { task, key, .. } = self.stage {
            engine.pump_uploads(task, key, reactor);
            engine.drain(task, reactor);
        }
        Ok(())
    }

    fn closed(
        &mut self,
        token: Token,
        reason: Reason,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) {
        let (task, key) = match self.stage {
            Stage::Talking { task, key, .. } => (Some(task), Some(key)),
            Stage::Dialling(task, _) => (Some(task), None),
            Stage::Greeting { wanted, .. } | Stage::Negotiating { wanted, .. } => {
                (wanted.map(|(task, _)| task), None)
            }
        };
        let parted = Parted {
            addr: self.addr,
            road: self.road,
            torrent: self.torrent,
            task,
            key,
            peer_id: self.peer_id,
            is_unopened: matches!(self.stage, Stage::Dialling(..)),
            verdict: self.verdict,
        };
        engine.connection_closed(token, &parted, &reason, reactor);
    }
}

/// Reads of at least this many bytes are not copied.
const SHARED_FROM: usize = 48 * 1024;
/// Bytes to be sent to one peer that are in memory: no more is read from disk above, more is below.
pub(crate) const UPLOAD_HIGH: usize = 1024 * 1024;
const UPLOAD_LOW: usize = 512 * 1024;
