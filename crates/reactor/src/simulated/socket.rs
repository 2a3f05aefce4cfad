//! One pretended socket: what it holds, and what it has told of that.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::{Event, Token};

#[derive(Debug)]
pub(super) struct Socket {
    /// The number of its host.
    pub(super) host: usize,
    /// IPv4 addresses are IPv4 here, whatever the socket is.
    pub(super) local: SocketAddr,
    /// Its owner sees IPv4 addresses mapped into IPv6.
    pub(super) is_v6: bool,
    /// `None` for an accepted connection that is not registered yet.
    pub(super) token: Option<Token>,
    /// It stands on its host's list of sockets with news.
    pub(super) is_listed: bool,
    pub(super) told: Told,
    pub(super) kind: Kind,
}

/// What has been reported, and will not be again before a call blocked or fell short.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Once is all, as in a kernel.
    pub(super) ended: bool,
    pub(super) hung_up: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Listener { v6_only: bool, waiting: VecDeque<u32>, backlog: usize },
    Stream(Stream),
    Datagrams { v6_only: bool, received: VecDeque<(SocketAddr, Bytes)>, received_len: usize },
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    pub(super) remote: SocketAddr,
    /// The socket at the other end, once it is known. It may be closed by now.
    pub(super) peer: Option<u32>,
    pub(super) received: VecDeque<Bytes>,
    /// Bytes that were written here and that the peer has not read, or we have not heard of it.
    pub(super) outstanding: usize,
    /// The peer's end has arrived.
    pub(super) has_end: bool,
    /// Our end has been sent.
    pub(super) is_finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// It never came to be.
    Failed(io::ErrorKind),
    Open,
    /// Reading tells of it once, then says that this is the end.
    Reset {
        is_told: bool,
    },
}

impl Socket {
    /// What there is to report, given how much a connection may have outstanding.
    pub(super) fn news(&self, buffer_len: usize) -> Option<Event> {
        let token = self.token?;
        let now = self.readiness(buffer_len);
        let event = Event {
            token,
            readable: now.readable && !self.told.readable && !self.told.ended
                || now.ended && !self.told.ended
                || now.hung_up && !self.told.hung_up,
            writable: now.writable && !self.told.writable,
            ended: now.ended && !self.told.ended,
            hung_up: now.hung_up && !self.told.hung_up,
        };
        (event.readable || event.writable).then_some(event)
    }

    /// Reports: the same is no news afterwards.
    pub(super) fn tell(&mut self, buffer_len: usize) -> Option<Event> {
        let event = self.news(buffer_len)?;
        self.told.readable |= event.readable;
        self.told.writable |= event.writable;
        self.told.ended |= event.ended;
        self.told.hung_up |= event.hung_up;
        Some(event)
    }

    fn readiness(&self, buffer_len: usize) -> Told {
        match &self.kind {
            Kind::Listener { waiting, .. } => {
                Told { readable: !waiting.is_empty(), ..Told::default() }
            }
            Kind::Datagrams { received, .. } => {
                Told { readable: !received.is_empty(), writable: true, ..Told::default() }
            }
            Kind::Stream(stream) => match stream.phase {
                Phase::Connecting => Told::default(),
                Phase::Failed(_) | Phase::Reset { .. } => {
                    Told { readable: true, writable: true, ended: true, hung_up: true }
                }
                Phase::Open => Told {
                    readable: !stream.received.is_empty() || stream.has_end,
                    writable: stream.outstanding < buffer_len,
                    ended: stream.has_end,
                    hung_up: stream.has_end && stream.is_finished,
                },
            },
        }
    }

    pub(super) const fn stream(&self) -> Option<&Stream> {
        match &self.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Listener { .. } | Kind::Datagrams { .. } => None,
        }
    }

    pub(super) const fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Listener { .. } | Kind::Datagrams { .. } => None,
        }
    }

    /// An address as the owner of the socket sees it.
    pub(super) fn shown(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self.is_v6 => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => addr,
        }
    }

    /// Whether what is sent to an address of its host and port would come here.
    pub(super) fn takes(&self, ip: IpAddr) -> bool {
        if self.local.ip() == ip {
            return true;
        }
        let v6_only = match &self.kind {
            Kind::Listener { v6_only, .. } | Kind::Datagrams { v6_only, .. } => *v6_only,
            Kind::Stream(_) => return false,
        };
        self.local.ip().is_unspecified()
            && (self.local.is_ipv6() == ip.is_ipv6() || self.local.is_ipv6() && !v6_only)
    }
}

impl Stream {
    pub(super) const fn new(phase: Phase, remote: SocketAddr, peer: Option<u32>) -> Self {
        Self {
            phase,
            remote,
            peer,
            received: VecDeque::new(),
            outstanding: 0,
            has_end: false,
            is_finished: false,
        }
    }

    /// Takes received bytes, at most `len_max` of them, into `slices` in turn.
    pub(super) fn take(&mut self, slices: &mut [io::IoSliceMut<'_>], len_max: usize) -> usize {
        let mut taken = 0;
        for slice in slices {
            let mut filled = 0;
            while filled < slice.len() && taken < len_max {
                let Some(first) = self.received.front_mut() else { return taken };
                let len = first.len().min(slice.len() - filled).min(len_max - taken);
                slice[filled..filled + len].copy_from_slice(&first.split_to(len));
                if first.is_empty() {
                    self.received.pop_front();
                }
                filled += len;
                taken += len;
            }
        }
        taken
    }
}

/// An IPv4 address that is mapped into IPv6 becomes IPv4 again.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
