//! How sockets come and go: opened, taken in, given away.

use super::{Core, Entry, NO_SOURCE, Orphan, OtherKind, Pipe, State};
use crate::backend::RawSocket;
use crate::backend::Source;
use crate::reactor::Detached;
use crate::{Address, Channel, ConnectOptions, Event, ListenOptions, Token, Transport};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

impl Core {
    pub(crate) fn connect(
        &mut self,
        addr: &Address,
        options: &ConnectOptions,
    ) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.connect(addr, options, token)?;
        tracing::trace!(?token, %addr, "connects");
        self.add_stream(token, source, addr, State::Connecting);
        let deadline = self.tick().checked_add(options.timeout);
        self.set_deadline(token, deadline);
        if let Some(stream) = self.stream_mut(token) {
            stream.has_connect_deadline = true;
        }
        Ok(token)
    }

    /// `patience` is for one that has yet to connect.
    pub(crate) fn attach_channel(
        &mut self,
        channel: Box<dyn Channel>,
        peer: SocketAddr,
        patience: Option<Duration>,
    ) -> Token {
        let token = self.vacant();
        let source = self.backend.add(channel);
        tracing::trace!(?token, %peer, "is taken in");
        let state = if patience.is_some() { State::Connecting } else { State::Open };
        self.add_stream(token, source, &Address::Ip(peer), state);
        let deadline = patience.and_then(|patience| self.tick().checked_add(patience));
        if let Some(stream) = self.stream_mut(token) {
            // It gives what it has, as it has it.
            stream.has_end = true;
            stream.may_read = patience.is_none();
            stream.has_connect_deadline = patience.is_some();
        }
        if patience.is_some() {
            self.set_deadline(token, deadline);
        } else {
            self.list(token);
        }
        token
    }

    pub(crate) fn channel_ready(&mut self, token: Token) {
        self.note(Event { token, readable: true, writable: true, ended: false, hung_up: false });
    }

    pub(crate) fn attach(&mut self, source: Source, peer: &Address) -> io::Result<Token> {
        let token = self.vacant();
        self.backend.register(source, token)?;
        tracing::trace!(?token, %peer, "was accepted");
        self.add_stream(token, source, peer, State::Open);
        Ok(token)
    }

    pub(crate) fn adopt(&mut self, socket: RawSocket) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.adopt(socket, token)?;
        let peer = self.backend.peer_addr(source);
        let is_socket = peer.is_ok();
        let peer = peer.unwrap_or(Address::Unix(None));
        tracing::trace!(?token, %peer, "is taken in");
        self.add_stream(token, source, &peer, State::Open);
        if !is_socket && let Some(stream) = self.stream_mut(token) {
            // A terminal gives a line at a time, however many there are.
            stream.has_end = true;
        }
        Ok(token)
    }

    pub(crate) fn take(
        &mut self,
        token: Token,
    ) -> io::Result<(Detached, Option<Box<dyn Transport>>)> {
        let peer = self.peer_address(token).ok_or(io::ErrorKind::NotConnected)?;
        let stream = self.stream_mut(token).ok_or(io::ErrorKind::NotConnected)?;
        if !matches!(stream.state, State::Open | State::Flushing) || stream.has_task {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let source = stream.source;
        if stream.extras.as_ref().is_some_and(|extras| extras.is_corked) {
            self.backend.set_cork(source, false);
        }
        if source == NO_SOURCE {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a pipe has no socket"));
        }
        let socket = self.backend.detach(source)?;
        let Some(Entry::Stream(mut stream)) = self.vacate(token) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (unsent, marks) = stream.queue.as_mut().map(|queue| queue.take()).unwrap_or_default();
        self.orphans.extend(marks.into_iter().map(Orphan::Mark));
        let (unread, transport) = match &mut stream.extras {
            Some(extras) => (std::mem::take(&mut extras.unread).into(), extras.transport.take()),
            None => (Vec::new(), None),
        };
        self.release(&mut stream);
        Ok((Detached { socket, peer, unread, unsent }, transport))
    }

    pub(crate) fn pipe(&mut self) -> (Token, Token) {
        let mut add = || {
            let token = self.vacant();
            self.add_stream(token, NO_SOURCE, &Address::Pipe, State::Open);
            token
        };
        let (a, b) = (add(), add());
        for (here, there) in [(a, b), (b, a)] {
            if let Some(stream) = self.stream_mut(here) {
                stream.is_plain = false;
                stream.extras().pipe = Some(Pipe::new(there));
            }
        }
        (a, b)
    }

    /// Returns the transport that is not needed.
    pub(crate) fn set_transport(
        &mut self,
        token: Token,
        transport: Box<dyn Transport>,
    ) -> Option<Box<dyn Transport>> {
        let stream = self.stream_mut(token).filter(|stream| stream.source != NO_SOURCE);
        let Some(stream) = stream else { return Some(transport) };
        stream.is_plain = false;
        stream.may_read = true;
        let extras = stream.extras();
        extras.has_finished = false;
        let before = extras.transport.replace(transport);
        self.soil(token);
        self.list(token);
        before
    }

    pub(crate) fn local_address(&self, token: Token) -> Option<Address> {
        match self.source(token)? {
            NO_SOURCE => Some(Address::Pipe),
            source => self.backend.local_addr(source).ok(),
        }
    }

    pub(crate) fn peer_address(&self, token: Token) -> Option<Address> {
        let stream = self.stream(token)?;
        match (stream.peer, stream.source) {
            (Some(peer), _) => Some(Address::Ip(peer)),
            (None, NO_SOURCE) => Some(Address::Pipe),
            (None, source) => self.backend.peer_addr(source).ok(),
        }
    }

    /// Returns whether the connection stands now.
    pub(crate) fn finish_connect(&mut self, token: Token) -> bool {
        let Some(source) = self.source(token) else { return false };
        match self.backend.finish_connect(source) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(stream) = self.stream_mut(token) {
                    stream.may_write = false;
                }
                return false;
            }
            Err(error) => {
                self.end(token, error.into());
                return false;
            }
        }
        let Some(stream) = self.stream_mut(token) else { return false };
        let closes = stream.extras.as_ref().is_some_and(|extras| extras.closes_when_open);
        stream.state = if closes { State::Flushing } else { State::Open };
        stream.may_write = true;
        let has_greeting = stream.has_queue() || !stream.is_plain;
        if stream.has_connect_deadline {
            self.set_deadline(token, None);
        }
        if has_greeting {
            self.soil(token);
        }
        self.wake_stream(token, true, true);
        true
    }

    pub(crate) fn listen(&mut self, addr: &Address, options: &ListenOptions) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.listen(addr, options, token)?;
        self.add_other(token, source, OtherKind::Listener);
        Ok(token)
    }

    pub(crate) fn bind_udp(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Token> {
        let token = self.vacant();
        let source = self.backend.bind_udp(addr, options, token)?;
        self.add_other(token, source, OtherKind::Datagrams);
        Ok(token)
    }

    /// Returns whether there was room.
    pub(crate) fn send_to(
        &mut self,
        token: Token,
        addr: SocketAddr,
        data: &[u8],
    ) -> io::Result<bool> {
        let sent = self.send_datagrams(token, |backend, source| {
            backend.send_to(source, addr, data).map(|()| 1)
        })?;
        Ok(sent > 0)
    }

    pub(crate) fn send_datagrams(
        &mut self,
        token: Token,
        send: impl FnOnce(&mut dyn crate::Backend, Source) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let socket = self.other(token).filter(|other| other.kind == OtherKind::Datagrams);
        let source = socket.ok_or(io::ErrorKind::NotConnected)?.source;
        let result = send(&mut *self.backend, source);
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(socket) = self.other_mut(token) {
                    socket.may_write = false;
                }
                Ok(0)
            }
            other => other,
        }
    }
}
