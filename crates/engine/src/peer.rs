//! One connection to a peer: carries bytes between the socket and the swarm, and decides nothing.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Handler, HandlerError, Reactor, Read, Reason, Token};
use torrent::swarm::{Direction, NewPeer, PeerKey, Refused};
use torrent::wire::{Handshake, Inbox, Message, MessageLimits};
use torrent::{InfoHash, PeerFault};

use crate::engine::Engine;
use crate::task::TaskId;

/// The handler of one connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    addr: SocketAddr,
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

/// Why a connection ended on our side, when it is no fault of the protocol.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Parting {
    #[error("no such torrent here")]
    UnknownTorrent,
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl PeerConnection {
    /// A connection that we open.
    pub(crate) const fn outgoing(addr: SocketAddr, task: TaskId, info_hash: InfoHash) -> Self {
        Self { addr, stage: Stage::Dialling(task, info_hash), messages: Vec::new() }
    }

    /// A connection that came to us.
    pub(crate) const fn incoming(addr: SocketAddr) -> Self {
        Self {
            addr,
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
                reactor.close(token, "closed before the handshake");
                return Ok(());
            }
        }
        Handshake::check_prefix(bytes)?;
        let Some(whole) = bytes.first_chunk() else { return Ok(()) };
        let theirs = Handshake::decode(whole)?;
        let (task, direction) = match *wanted {
            Some((_, info_hash)) if info_hash != theirs.info_hash => {
                return Err(PeerFault::WrongInfoHash.into());
            }
            Some((task, _)) => (task, Direction::Outgoing),
            None => {
                let task = engine.task_for_peer(theirs.info_hash).ok_or(Parting::UnknownTorrent)?;
                reactor.write(token, engine.handshake(theirs.info_hash))?;
                (task, Direction::Incoming)
            }
        };
        let new = NewPeer {
            addr: self.addr,
            direction,
            peer_id: theirs.peer_id,
            reserved: theirs.reserved,
        };
        let piece_count = engine.piece_count(task).ok_or(Parting::UnknownTorrent)?;
        let key = match engine.add_peer(task, token, &new, reactor) {
            Err(Refused::Ourselves) if direction == Direction::Incoming => {
                // The end that dialled is ours as well. It learns from our handshake that there is
                // nobody else at that address, so the handshake must get there.
                reactor.close_after_flush(token, GREETING_PATIENCE);
                return Ok(());
            }
            added => added?,
        };
        let limits = MessageLimits {
            bitfield_len: piece_count.div_ceil(8) as usize,
            ..MessageLimits::default()
        };
        self.stage = Stage::Talking { task, key, inbox: Inbox::new(limits) };
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
                reactor.close(token, "closed by the peer");
                return Ok(());
            }
        };
        engine.spend_reading(*task, count, reactor);
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
        inbox.received(pending_count, rest, &mut self.messages)?;
        engine.handle_messages(*task, *key, &mut self.messages, reactor)?;
        engine.pump_uploads(*task, *key, reactor);
        engine.drain(*task, reactor);
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
        reactor.write(token, engine.handshake(info_hash))?;
        reactor.set_deadline(token, Some(reactor.now() + GREETING_PATIENCE));
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
        let talking = match self.stage {
            Stage::Talking { task, key, .. } => Some((task, key)),
            Stage::Dialling(..) | Stage::Greeting { .. } => None,
        };
        engine.connection_closed(token, self.addr, talking, &reason, reactor);
    }
}

/// How long a peer may take to shake hands.
pub(crate) const GREETING_PATIENCE: Duration = Duration::from_secs(15);
/// Reads of at least this many bytes are not copied.
const SHARED_FROM: usize = 48 * 1024;
/// Bytes to be sent to one peer that are in memory: no more is read from disk above, more is below.
pub(crate) const UPLOAD_HIGH: usize = 1024 * 1024;
const UPLOAD_LOW: usize = 512 * 1024;
