//! One connection to a peer: carries bytes between the socket and the swarm, and decides nothing.

use std::io::IoSliceMut;
use std::net::SocketAddr;

use bytes::Bytes;
use reactor::{Handler, HandlerError, Reactor, Read, Reason, Token};
use torrent::swarm::{Direction, NewPeer, PeerKey, Refused};
use torrent::wire::{Handshake, Inbox, Message};
use torrent::{InfoHash, PeerFault, PeerId};

use crate::engine::Engine;
use crate::event::{EventKind, EventMask, Packet};
use crate::parting::{DisconnectReason, Parted};
use crate::swarm::inbox;
use crate::task::TaskId;

/// The handler of one connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    addr: SocketAddr,
    /// The torrent that one of us asked for, ours or not.
    torrent: Option<InfoHash>,
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
    /// The peer's handshake is awaited. Whoever came to us has yet to say for which torrent.
    Greeting { wanted: Option<(TaskId, InfoHash)>, bytes: Vec<u8> },
    /// Messages flow.
    Talking { task: TaskId, key: PeerKey, inbox: Inbox },
}

impl PeerConnection {
    /// A connection that we open.
    pub(crate) const fn outgoing(addr: SocketAddr, task: TaskId, info_hash: InfoHash) -> Self {
        Self {
            addr,
            torrent: Some(info_hash),
            peer_id: None,
            verdict: None,
            stage: Stage::Dialling(task, info_hash),
            messages: Vec::new(),
        }
    }

    /// A connection that came to us.
    pub(crate) const fn incoming(addr: SocketAddr) -> Self {
        Self {
            addr,
            torrent: None,
            peer_id: None,
            verdict: None,
            stage: Stage::Greeting { wanted: None, bytes: Vec::new() },
            messages: Vec::new(),
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
        Handshake::check_prefix(bytes)?;
        let Some(whole) = bytes.first_chunk() else { return Ok(()) };
        let theirs = Handshake::decode(whole)?;
        self.peer_id = Some(theirs.peer_id);
        let of = *self.torrent.get_or_insert(theirs.info_hash);
        engine.tell_packet(Some(of), self.addr, || Packet::Handshake(theirs), false);
        let (task, direction) = match *wanted {
            Some((_, info_hash)) if info_hash != theirs.info_hash => {
                return Err(PeerFault::WrongInfoHash.into());
            }
            Some((task, _)) => (task, Direction::Outgoing),
            None => {
                let task = engine.task_for_peer(theirs.info_hash, reactor)?;
                engine.greet(token, self.addr, theirs.info_hash, reactor)?;
                (task, Direction::Incoming)
            }
        };
        let new = NewPeer {
            addr: self.addr,
            direction,
            peer_id: theirs.peer_id,
            reserved: theirs.reserved,
        };
        let piece_count = engine.piece_count(task).ok_or(DisconnectReason::UnknownTorrent)?;
        let key = match engine.add_peer(task, token, &new, reactor) {
            Err(Refused::Ourselves) if direction == Direction::Incoming => {
                // The end that dialled is ours as well. It learns from our handshake that there is
                // nobody else at that address, so the handshake must get there.
                self.verdict = Some(DisconnectReason::Ourselves);
                reactor.close_after_flush(token, engine.config.limits.handshake_patience);
                return Ok(());
            }
            added => added.map_err(DisconnectReason::from)?,
        };
        self.stage = Stage::Talking { task, key, inbox: inbox(piece_count) };
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
        engine.spend_reading(*task, count, reactor);
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
        engine.greet(token, addr, info_hash, reactor)?;
        let patience = engine.config.limits.handshake_patience;
        reactor.set_deadline(token, Some(reactor.now() + patience));
        self.stage = Stage::Greeting { wanted: Some((task, info_hash)), bytes: Vec::new() };
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
            Stage::Greeting { wanted, .. } => (wanted.map(|(task, _)| task), None),
        };
        let parted = Parted {
            addr: self.addr,
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
