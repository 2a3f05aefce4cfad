//! Sockets as tasks use them: whoever would have to wait leaves a waker.
//!
//! Nothing here clones, calls or drops a waker while the core is borrowed: wakers are the program's,
//! and may do anything.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Poll, Waker};

use super::{Core, Direction, Entry, Flushed, OtherKind, State};
use crate::{Address, ListenOptions, Read, Reason, Token};

impl Core {
    /// A connection is a task's from now on. Returns whether it may be.
    pub(crate) fn give_to_task(&mut self, token: Token) -> bool {
        let Some(stream) = self.stream_mut(token) else { return false };
        if !stream.takes_writes() {
            return false;
        }
        stream.has_task = true;
        (stream.is_paused, stream.is_parked, stream.wants_writable) = (false, false, false);
        true
    }

    /// A connection is a handler's from now on. Returns the wakers, to be dropped.
    pub(crate) fn give_to_handler(&mut self, token: Token) -> [Option<Waker>; 2] {
        let Some(stream) = self.stream_mut(token) else { return [None, None] };
        stream.has_task = false;
        let wakers = match &mut stream.extras {
            Some(extras) => [extras.read_waker.take(), extras.write_waker.take()],
            None => [None, None],
        };
        if stream.state == State::Ended {
            self.ended.push(token);
        }
        self.list(token);
        wakers
    }

    /// A task drops its socket, which is closed if it is not over. Returns what there was, to be
    /// dropped when nothing is borrowed.
    pub(crate) fn forget(&mut self, token: Token) -> Option<Entry> {
        let mut entry = self.take_entry(token)?;
        match &mut entry {
            Entry::Stream(stream) => self.release(stream),
            Entry::Other(other) => self.backend.close(other.source),
        }
        self.put_entry(token, entry);
        self.vacate(token)
    }

    /// Where the waker stands of whoever waits to read or write.
    pub(crate) fn waker_slot(
        &mut self,
        token: Token,
        direction: Direction,
    ) -> Option<&mut Option<Waker>> {
        let (reader, writer) = match self.entry_mut(token)? {
            Entry::Stream(stream) => {
                let extras = stream.extras();
                (&mut extras.read_waker, &mut extras.write_waker)
            }
            Entry::Other(other) => (&mut other.read_waker, &mut other.write_waker),
        };
        Some(match direction {
            Direction::Read => reader,
            Direction::Write => writer,
        })
    }

    /// Whether a connection stands, or why it does not.
    pub(crate) fn poll_connected(&self, token: Token) -> Poll<io::Result<()>> {
        match self.stream(token).map(|stream| stream.state) {
            Some(State::Connecting) => Poll::Pending,
            Some(State::Ended) | None => Poll::Ready(Err(self.why_over(token))),
            Some(State::Open | State::Flushing | State::Lingering) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        token: Token,
        slices: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream(token).filter(|stream| stream.state != State::Ended);
        let Some(stream) = stream else { return Poll::Ready(Err(self.why_over(token))) };
        let has_room = slices.iter().any(|slice| !slice.is_empty());
        if has_room && stream.is_plain && !stream.may_read && !stream.has_unread() {
            return Poll::Pending;
        }
        match self.read(token, slices) {
            Ok(Read::Data(count)) => Poll::Ready(Ok(count)),
            Ok(Read::Eof) => {
                if let Some(stream) = self.stream_mut(token) {
                    // Whoever asks again is told again.
                    stream.may_read = true;
                }
                Poll::Ready(Ok(0))
            }
            Ok(Read::WouldBlock) => {
                // If it was this turn's share that is used up, the next one has another.
                self.list(token);
                Poll::Pending
            }
            Err(error) => {
                self.end(token, copy_of(&error).into());
                Poll::Ready(Err(error))
            }
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        token: Token,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream(token).filter(|stream| stream.state != State::Ended);
        if stream.is_none() {
            return Poll::Ready(Err(self.why_over(token)));
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        match self.write_some(token, slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => {
                // After our own goodbye there may still be something to read.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    self.end(token, copy_of(&error).into());
                }
                Poll::Ready(Err(error))
            }
            written => Poll::Ready(written),
        }
    }

    /// Writes out what is queued, as of a handler that had the connection before, and what a
    /// transport holds back.
    pub(crate) fn poll_flush(&mut self, token: Token) -> Poll<io::Result<()>> {
        let stream = self.stream(token).filter(|stream| stream.state != State::Ended);
        let Some(stream) = stream else { return Poll::Ready(Err(self.why_over(token))) };
        if stream.state == State::Connecting {
            return Poll::Pending;
        }
        let has_marks = stream.queue.as_ref().is_some_and(|queue| queue.has_marks());
        let mut share = self.budgets.write_bytes as usize;
        if !has_marks && let Flushed::Failed(error) = self.flush(token, &mut share) {
            self.end(token, copy_of(&error).into());
            return Poll::Ready(Err(error));
        }
        if self.stream(token).is_some_and(|stream| stream.queue.is_some()) {
            self.soil(token);
            return Poll::Pending;
        }
        self.poll_of(token, Self::flush_transport)
    }

    /// Says that nothing more will be written, once all that was written is out.
    pub(crate) fn poll_finish(&mut self, token: Token) -> Poll<io::Result<()>> {
        match self.poll_flush(token) {
            Poll::Ready(Ok(())) => self.poll_of(token, Self::say_goodbye),
            other => other,
        }
    }

    fn poll_of(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut Self, Token) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        match act(self, token) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => {
                self.end(token, copy_of(&error).into());
                Poll::Ready(Err(error))
            }
            Ok(()) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn listen_for_task(
        &mut self,
        addr: &Address,
        options: &ListenOptions,
    ) -> io::Result<Token> {
        let token = self.listen(addr, options)?;
        Ok(self.give_other_to_task(token))
    }

    pub(crate) fn bind_udp_for_task(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Token> {
        let token = self.bind_udp(addr, options)?;
        Ok(self.give_other_to_task(token))
    }

    fn give_other_to_task(&mut self, token: Token) -> Token {
        if let Some(other) = self.other_mut(token) {
            other.has_task = true;
        }
        token
    }

    /// A connection that has come, a task's already.
    pub(crate) fn poll_accept(&mut self, listener: Token) -> Poll<io::Result<(Token, Address)>> {
        loop {
            match self.other(listener) {
                Some(other) if other.may_read => {}
                Some(_) => return Poll::Pending,
                None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            }
            match self.accept(listener) {
                Ok((source, peer)) => {
                    let result = self.attach(source, &peer);
                    match &result {
                        Ok(token) => _ = self.give_to_task(*token),
                        Err(_) => self.backend.close(source),
                    }
                    return Poll::Ready(result.map(|token| (token, peer)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    self.accept_later(listener);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Datagrams that have come, at least one.
    pub(crate) fn poll_receive(
        &mut self,
        token: Token,
        received: &mut VecDeque<(SocketAddr, Box<[u8]>)>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.other(token) {
                Some(socket) if socket.may_read => {}
                Some(_) => return Poll::Pending,
                None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            }
            let mut batch = std::mem::take(&mut self.batch);
            let result = self.receive(token, &mut batch);
            if matches!(result, Ok(true)) {
                received.extend(batch.iter().map(|(from, data)| (from, data.into())));
            }
            self.batch = batch;
            match result {
                Ok(true) if received.is_empty() => {}
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => return Poll::Pending,
                // What an earlier datagram met on its way, such as a closed port; it is told once.
                Err(error) => tracing::trace!(%error, "a datagram was not delivered"),
            }
        }
    }

    pub(crate) fn poll_send(
        &mut self,
        token: Token,
        addr: SocketAddr,
        data: &[u8],
    ) -> Poll<io::Result<()>> {
        match self.other(token).filter(|socket| socket.kind == OtherKind::Datagrams) {
            Some(socket) if !socket.may_write => return Poll::Pending,
            Some(_) | None => {}
        }
        match self.send_to(token, addr, data) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Why nothing can be done with a connection any more.
    fn why_over(&self, token: Token) -> io::Error {
        let extras = self.stream(token).and_then(|stream| stream.extras.as_ref());
        match extras.and_then(|extras| extras.ended.as_ref()) {
            Some(Reason::Error(error)) => copy_of(error),
            Some(Reason::Reset) => Reason::Reset.into(),
            Some(Reason::Timeout) => Reason::Timeout.into(),
            Some(Reason::Local(why)) => Reason::Local(why).into(),
            Some(Reason::Handler(error)) => io::Error::other(error.to_string()),
            None => io::ErrorKind::NotConnected.into(),
        }
    }
}

/// The reader and the writer of a connection both want to know.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
