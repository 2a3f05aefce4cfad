//! How bytes go out.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::reading::{SocketWire, guarded};
use super::{Core, Direction, Entry, NO_SOURCE, State, Stream};
use crate::write_queue::{Front, SLICES_MAX, WriteQueue};
use crate::{Chunk, Closed, Progress, Token};

/// How writing out went.
pub(crate) enum Flushed {
    /// Everything, or as much as there was room for.
    Done,
    /// Up to this mark.
    Mark(u32),
    /// The share of this turn is used up.
    Spent,
    Failed(io::Error),
}

/// What a handler is to be told after its queue was written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) full: bool,
    pub(crate) drained: bool,
}

impl Core {
    /// Queues something, to be written out at the end of the turn.
    pub(crate) fn write(&mut self, token: Token, chunk: Chunk) -> Result<Progress, Closed> {
        self.queue(token, |queue| queue.push(chunk))
    }

    pub(crate) fn write_mark(&mut self, token: Token, mark: u32) -> Result<Progress, Closed> {
        self.queue(token, |queue| queue.push_mark(mark))
    }

    fn queue(
        &mut self,
        token: Token,
        push: impl FnOnce(&mut WriteQueue),
    ) -> Result<Progress, Closed> {
        let Self { slots, spare_queues, .. } = self;
        let slot = slots.get_mut(token.slot as usize).ok_or(Closed)?;
        if slot.generation != token.generation {
            return Err(Closed);
        }
        let Some(Entry::Stream(stream)) = &mut slot.entry else { return Err(Closed) };
        if !stream.takes_writes() {
            return Err(Closed);
        }
        let queue = stream.queue.get_or_insert_with(|| spare_queues.pop().unwrap_or_default());
        push(queue);
        let queued = queue.len();
        let is_full = queued >= stream.high as usize;
        stream.was_full |= is_full;
        self.soil(token);
        Ok(if is_full { Progress::Full(queued) } else { Progress::Queued(queued) })
    }

    /// Writes at once if nothing is before it, and queues what the kernel has no room for.
    pub(crate) fn write_now(&mut self, token: Token, bytes: &[u8]) -> Result<Progress, Closed> {
        let now = self.now;
        let (backend, stream) = self.backend_and_stream(token).map_err(|_gone| Closed)?;
        let is_straight = stream.state == State::Open
            && stream.is_plain
            && stream.may_write
            && stream.queue.is_none()
            && stream.extras.as_ref().is_none_or(|extras| extras.write_buckets.is_empty());
        let written = if is_straight && !bytes.is_empty() {
            match backend.write(stream.source, &[IoSlice::new(bytes)], false) {
                Ok(written) => {
                    stream.alive_at = now;
                    stream.may_write = written == bytes.len();
                    written
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.may_write = false;
                    0
                }
                Err(error) => {
                    self.end(token, error.into());
                    return Err(Closed);
                }
            }
        } else {
            0
        };
        match &bytes[written..] {
            [] if is_straight => Ok(Progress::Sent),
            rest => self.queue(token, |queue| queue.push_copy(rest)),
        }
    }

    /// Writes for a task, which keeps what is not taken.
    pub(crate) fn write_some(&mut self, token: Token, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(stream) = self.stream(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match stream.state {
            State::Open => {}
            State::Connecting => return Err(io::ErrorKind::WouldBlock.into()),
            State::Flushing | State::Lingering | State::Ended => {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        if stream.has_queue() || !stream.may_write || stream.writes_wait {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let is_plain = stream.is_plain;
        let result = self.write_through(token, slices, false);
        if !is_plain {
            // What the transport holds back goes out at the end of the turn.
            self.soil(token);
        }
        result
    }

    /// Writes out what is queued, until it is empty, the kernel is full, or `share` is used up.
    pub(crate) fn flush(&mut self, token: Token, share: &mut usize) -> Flushed {
        // A handshake comes before all.
        if let Err(error) = self.flush_transport(token)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            return Flushed::Failed(error);
        }
        let mut has_moved = false;
        while let Some(stream) = self.stream_mut(token) {
            if !stream.may_write || stream.writes_wait || stream.state == State::Ended {
                break;
            }
            if *share == 0 && stream.has_queue() {
                return Flushed::Spent;
            }
            let Some(mut queue) = stream.queue.take() else { break };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let result = match queue.front(&mut slices) {
                Front::Bytes { count, more } => self.write_through(token, &slices[..count], more),
                Front::File { file, offset, len } => self.send_file(token, file, offset, len),
                Front::Mark(mark) => {
                    self.put_back(token, queue);
                    *share = share.saturating_sub(MARK_COST);
                    return Flushed::Mark(mark);
                }
                Front::Nothing => {
                    self.keep_queue(queue);
                    break;
                }
            };
            let written = match &result {
                Ok(written) => *written,
                Err(_) => 0,
            };
            queue.advance(written);
            *share = share.saturating_sub(written);
            self.put_back(token, queue);
            match result {
                Ok(_) => has_moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::take(&mut has_moved) {
                        break;
                    }
                    // A transport that took some may take more once that is out.
                    if let Err(error) = self.flush_transport(token)
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        return Flushed::Failed(error);
                    }
                }
                Err(error) => return Flushed::Failed(error),
            }
        }
        match self.flush_transport(token) {
            Ok(()) => Flushed::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flushed::Done,
            Err(error) => Flushed::Failed(error),
        }
    }

    fn put_back(&mut self, token: Token, queue: Box<WriteQueue>) {
        match self.stream_mut(token) {
            Some(stream) if !queue.is_empty() => stream.queue = Some(queue),
            Some(_) | None => self.keep_queue(queue),
        }
    }

    /// One write, by whatever way the connection has, as far as the rate limits allow.
    fn write_through(
        &mut self,
        token: Token,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> io::Result<usize> {
        let now = self.now;
        let allowed = self.allowance(token, Direction::Write);
        if allowed == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let first;
        let slices = if allowed < wanted {
            let bytes: &[u8] = slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |s| s);
            first = [IoSlice::new(&bytes[..bytes.len().min(allowed)])];
            &first
        } else {
            slices
        };
        let (backend, stream) = self.backend_and_stream(token)?;
        let result = if stream.is_plain {
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            let result = backend.write(stream.source, slices, more);
            // The kernel took what it had room for.
            stream.may_write = matches!(&result, Ok(written) if *written == wanted);
            result
        } else {
            self.write_layered(token, slices)
        };
        if let Ok(written) = &result {
            self.draw(token, Direction::Write, *written);
            if let Some(stream) = self.stream_mut(token) {
                stream.alive_at = now;
            }
        }
        result
    }

    fn write_layered(&mut self, token: Token, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (backend, stream) = self.backend_and_stream(token)?;
        let extras = stream.extras();
        if let Some(pipe) = &extras.pipe {
            let peer = pipe.peer;
            return self.write_pipe(token, peer, slices);
        }
        let Some(mut transport) = extras.transport.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut wire = SocketWire { backend, source: stream.source, is_full: false };
        let result = guarded(|| transport.write(&mut wire, slices));
        stream.may_write &= !wire.is_full;
        stream.extras().transport = Some(transport);
        match result {
            // Nothing taken is a wait for something.
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            other => other,
        }
    }

    fn write_pipe(
        &mut self,
        token: Token,
        peer: Token,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let there = self.stream_mut(peer).filter(|there| there.state != State::Ended);
        let Some(pipe) = there.and_then(|there| there.extras().pipe.as_mut()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (room, wanted) = (pipe.room(), slices.iter().map(|slice| slice.len()).sum::<usize>());
        let mut written = 0;
        for slice in slices {
            let part = slice.len().min(room - written);
            if part > 0 {
                pipe.push(Bytes::copy_from_slice(&slice[..part]));
                written += part;
            }
        }
        if written < wanted
            && let Some(stream) = self.stream_mut(token)
        {
            stream.may_write = false;
        }
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.pipe_filled(peer);
        Ok(written)
    }

    fn send_file(
        &mut self,
        token: Token,
        file: &File,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let Some(stream) = self.stream(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (source, is_plain) = (stream.source, stream.is_plain);
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file ended early");
        if !is_plain {
            let mut buffer = vec![0; len.min(FILE_PIECE_LEN)];
            let count = file.read_at(&mut buffer, offset)?;
            return match count {
                0 => Err(ended()),
                count => self.write_through(token, &[IoSlice::new(&buffer[..count])], false),
            };
        }
        let allowed = self.allowance(token, Direction::Write);
        if allowed == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let share = self.budgets.write_bytes as usize;
        let result = self.backend.send_file(source, file, offset, len.min(allowed).min(share));
        let now = self.now;
        match result {
            Ok(0) => Err(ended()),
            Ok(written) => {
                self.draw(token, Direction::Write, written);
                if let Some(stream) = self.stream_mut(token) {
                    stream.alive_at = now;
                }
                Ok(written)
            }
            Err(error) => {
                if let Some(stream) = self.stream_mut(token) {
                    stream.may_write &= error.kind() != io::ErrorKind::WouldBlock;
                }
                Err(error)
            }
        }
    }

    /// Has a transport send what it holds back.
    pub(crate) fn flush_transport(&mut self, token: Token) -> io::Result<()> {
        let Ok((backend, stream)) = self.backend_and_stream(token) else { return Ok(()) };
        if matches!(stream.state, State::Connecting | State::Ended) || stream.is_plain {
            return Ok(());
        }
        let Some(mut transport) = stream.extras().transport.take() else { return Ok(()) };
        let mut wire = SocketWire { backend, source: stream.source, is_full: false };
        let result = guarded(|| transport.flush(&mut wire));
        stream.may_write &= !wire.is_full;
        // A handshake may have left something for the reader.
        stream.may_read |= transport.has_input();
        stream.extras().transport = Some(transport);
        self.list(token);
        result
    }

    /// Writes out what is queued, at once.
    pub(crate) fn kick(&mut self, token: Token) -> Result<Progress, Closed> {
        let stream = self.stream(token).filter(|stream| stream.state != State::Ended);
        let has_marks = stream.ok_or(Closed)?.queue.as_ref().is_some_and(|q| q.has_marks());
        let mut share = self.budgets.write_bytes as usize;
        match if has_marks { Flushed::Done } else { self.flush(token, &mut share) } {
            Flushed::Done | Flushed::Mark(_) => {}
            Flushed::Spent => self.soil(token),
            Flushed::Failed(error) => {
                self.end(token, error.into());
                return Err(Closed);
            }
        }
        // What follows from that is told at the end of the turn.
        self.soil(token);
        let stream = self.stream(token).ok_or(Closed)?;
        Ok(match stream.queued() {
            0 if !stream.has_queue() => Progress::Sent,
            queued if queued >= stream.high as usize => Progress::Full(queued),
            queued => Progress::Queued(queued),
        })
    }

    /// What follows from a flush: whether more is to be done next turn, whether the connection has
    /// come to its end, and what the handler is to be told.
    pub(crate) fn settle(&mut self, token: Token, is_spent: bool) -> News {
        let Some(stream) = self.stream_mut(token) else { return News::default() };
        stream.is_dirty = false;
        let queued = stream.queued();
        let mut news = News::default();
        if stream.was_full && queued <= stream.low as usize {
            (stream.was_full, stream.has_told_full) = (false, false);
            news.drained = stream.state == State::Open;
        } else if stream.was_full && !stream.has_told_full {
            stream.has_told_full = true;
            news.full = stream.state == State::Open;
        }
        let has_queue = stream.has_queue();
        if has_queue {
            // One that waits for its socket or its transport is called when something comes.
            if is_spent {
                self.soil(token);
            }
        } else {
            let has_task = stream.has_task;
            if stream.wants_writable && stream.may_write {
                self.list(token);
            }
            if has_task {
                self.wake_stream(token, false, true);
            }
            self.uncork(token);
            self.finish_flushing(token);
        }
        news
    }

    /// Holds segments back until as many guards are gone.
    pub(crate) fn cork(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else { return };
        let source = stream.source;
        let extras = stream.extras();
        extras.corks += 1;
        if !std::mem::replace(&mut extras.is_corked, true) && source != NO_SOURCE {
            self.backend.set_cork(source, true);
        }
    }

    /// Takes back a cork whose guard is gone, once what was written under it is with the kernel.
    pub(crate) fn uncork(&mut self, token: Token) {
        let Some(Stream { source, extras: Some(extras), queue: None, .. }) = self.stream_mut(token)
        else {
            return;
        };
        if extras.is_corked && extras.corks == 0 {
            extras.is_corked = false;
            let source = *source;
            self.backend.set_cork(source, false);
        }
    }
}

/// How much of a file goes through a transport at once, in bytes.
const FILE_PIECE_LEN: usize = 64 * 1024;
/// What a callback in a queue takes of a turn's share, in bytes: it may queue another.
const MARK_COST: usize = 4 * 1024;
