//! How bytes come in.

use std::io::{self, IoSlice, IoSliceMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::{Core, Direction, State};
use crate::backend::{Sockets, Source};
use crate::{Closed, Read, Token, Wire};

impl Core {
    /// Reads what is there, at most what the turn's share and the rate limits allow.
    pub(crate) fn read(&mut self, token: Token, slices: &mut [IoSliceMut<'_>]) -> io::Result<Read> {
        let (now, turn, budget) = (self.now, self.turn, self.budgets.read_bytes);
        let Some(stream) = self.stream_mut(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        stream.has_read = true;
        match stream.state {
            State::Open | State::Flushing | State::Lingering => {}
            State::Connecting => return Ok(Read::WouldBlock),
            State::Ended => return Err(io::ErrorKind::NotConnected.into()),
        }
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        if room == 0 {
            return Ok(Read::Data(0));
        }
        if stream.extras.is_some()
            && let Some(first) = slices.iter_mut().find(|slice| !slice.is_empty())
        {
            let count = stream.take_unread(first);
            if count > 0 {
                return Ok(Read::Data(count));
            }
        }
        if stream.share_turn != turn {
            (stream.share_turn, stream.read_share) = (turn, budget);
        }
        if stream.read_share == 0 || stream.reads_wait {
            return Ok(Read::WouldBlock);
        }
        let (source, is_plain) = (stream.source, stream.is_plain);
        let is_limited =
            stream.extras.as_ref().is_some_and(|extras| !extras.read_buckets.is_empty());
        let allowed = if is_limited { self.allowance(token, Direction::Read) } else { usize::MAX };
        let wanted = if allowed >= room { room } else { within(slices, allowed).len() };
        let result = match (allowed, is_plain) {
            (0, _) => return Ok(Read::WouldBlock),
            (allowed, true) if allowed >= room => self.backend.read(source, slices),
            (allowed, true) => self.backend.read(source, &mut [within(slices, allowed)]),
            (allowed, false) if allowed >= room => self.read_layered(token, slices),
            (allowed, false) => self.read_layered(token, &mut [within(slices, allowed)]),
        };
        if let (true, Ok(count)) = (is_limited, &result) {
            self.draw(token, Direction::Read, *count);
        }
        let Some(stream) = self.stream_mut(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match result {
            Ok(0) => {
                stream.may_read = false;
                Ok(Read::Eof)
            }
            Ok(count) => {
                stream.read_share =
                    stream.read_share.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                stream.alive_at = now;
                // The kernel had no more; if some comes, it says so. An end that it has seen it does
                // not say twice.
                if is_plain {
                    stream.may_read = count >= wanted || stream.has_end;
                }
                Ok(Read::Data(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.may_read = false;
                Ok(Read::WouldBlock)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts bytes back, before what was put back earlier.
    pub(crate) fn unread(&mut self, token: Token, bytes: Bytes) -> Result<(), Closed> {
        let stream = self.stream_mut(token).filter(|stream| stream.state != State::Ended);
        let stream = stream.ok_or(Closed)?;
        if !bytes.is_empty() {
            stream.extras().unread.push_front(bytes);
            stream.is_parked = false;
            self.list(token);
        }
        Ok(())
    }

    /// Reads through a transport or from a pipe. Until that says that there is nothing more, there may be.
    fn read_layered(&mut self, token: Token, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (backend, stream) = self.backend_and_stream(token)?;
        let Some(extras) = &mut stream.extras else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if let Some(pipe) = &mut extras.pipe {
            let count = pipe.take(slices);
            let (peer, has_end) = (pipe.peer, pipe.has_end);
            if count > 0 {
                self.pipe_drained(peer);
                return Ok(count);
            }
            return if has_end { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let Some(mut transport) = extras.transport.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut wire = SocketWire { backend, source: stream.source, is_full: false };
        let result = guarded(|| transport.read(&mut wire, slices));
        stream.may_write &= !wire.is_full;
        stream.extras().transport = Some(transport);
        // It may have an answer to send.
        self.soil(token);
        result
    }

    pub(super) fn backend_and_stream(
        &mut self,
        token: Token,
    ) -> io::Result<(&mut Sockets, &mut super::Stream)> {
        let Self { backend, slots, .. } = self;
        let slot = slots.get_mut(token.slot as usize);
        match slot.filter(|slot| slot.generation == token.generation).map(|slot| &mut slot.entry) {
            Some(Some(super::Entry::Stream(stream))) => Ok((backend, stream)),
            Some(_) | None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The other end of a pipe has read: this one may write again.
    fn pipe_drained(&mut self, peer: Token) {
        let Some(stream) = self.stream_mut(peer) else { return };
        if !stream.may_write {
            stream.may_write = true;
            let (has_task, has_queue) = (stream.has_task, stream.has_queue());
            if has_task {
                self.wake_stream(peer, false, true);
            }
            if has_queue {
                self.soil(peer);
            }
            self.list(peer);
        }
    }

    /// Something came out of the other end of a pipe, or its end.
    pub(super) fn pipe_filled(&mut self, token: Token) {
        let Some(stream) = self.stream_mut(token) else { return };
        stream.may_read = true;
        if stream.has_task {
            self.wake_stream(token, true, false);
        } else {
            self.list(token);
        }
    }

    /// The other end of a pipe is closed.
    pub(super) fn pipe_ends(&mut self, token: Token, was_finished: bool) {
        let Some(stream) = self.stream_mut(token) else { return };
        (stream.has_end, stream.is_hung_up) = (true, true);
        if let Some(pipe) = stream.extras().pipe.as_mut() {
            pipe.has_end = true;
        }
        // What is still queued can go nowhere, which is found out by trying.
        stream.may_write = true;
        let has_queue = stream.has_queue();
        if !was_finished && stream.has_task {
            self.wake_stream(token, true, true);
        }
        if has_queue {
            self.soil(token);
        }
        self.pipe_filled(token);
    }
}

/// A panic in a transport ends its connection, and nothing else.
pub(super) fn guarded<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = |_| Err(io::Error::other("its transport panicked"));
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(panicked)
}

/// As much of the first slice with room as is allowed.
fn within<'a>(slices: &'a mut [IoSliceMut<'_>], allowed: usize) -> IoSliceMut<'a> {
    let first = slices.iter_mut().find(|slice| !slice.is_empty());
    let first: &mut [u8] = first.map_or(&mut [], |slice| slice);
    let len = first.len().min(allowed);
    IoSliceMut::new(&mut first[..len])
}

/// A socket, as a transport sees it.
pub(super) struct SocketWire<'a> {
    pub(super) backend: &'a mut Sockets,
    pub(super) source: Source,
    /// It took less than it was given.
    pub(super) is_full: bool,
}

impl Wire for SocketWire<'_> {
    fn read(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.backend.read(self.source, slices)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let result = self.backend.write(self.source, slices, false);
        self.is_full = match &result {
            Ok(count) => *count < slices.iter().map(|slice| slice.len()).sum(),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        result
    }
}
