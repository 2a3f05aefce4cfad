//! One pretended socket: what it holds, and what it has told of that.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::ports::{Claim, Protocol};
use super::stream::{Phase, Stream};
use crate::{Event, Token};

#[derive(Debug)]
pub(super) struct Socket {
    /// The number of its host.
    pub(super) host: usize,
    /// IPv4 addresses are IPv4 here, whatever the socket is.
    pub(super) local: SocketAddr,
    pub(super) family: Family,
    /// `None` for a connection that is not registered yet, and between two reactors.
    pub(super) owner: Option<Owner>,
    /// It stands on its owner's list of sockets with news.
    pub(super) is_listed: bool,
    pub(super) told: Told,
    pub(super) kind: Kind,
}

/// What a socket was opened as. The owner of an IPv6 socket sees IPv4 addresses mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Unix,
}

/// To whom a socket reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The number of the reactor in its world.
    pub(super) reactor: usize,
    pub(super) token: Token,
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
    Listener {
        claim: Claim,
        waiting: VecDeque<u32>,
        backlog: usize,
    },
    Stream(Stream),
    Datagrams {
        claim: Claim,
        /// The group that it has joined.
        group: Option<IpAddr>,
        received: VecDeque<(SocketAddr, Bytes)>,
        received_len: usize,
    },
    /// No socket, but known by the same numbers.
    Signal {
        signal: i32,
        has_come: bool,
    },
}

impl Family {
    pub(super) const fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv6() { Self::V6 } else { Self::V4 }
    }
}

impl Socket {
    /// What there is to report, given how much a connection may have outstanding.
    pub(super) fn news(&self, buffer_len: usize) -> Option<Event> {
        let token = self.owner?.token;
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
            Kind::Signal { has_come, .. } => Told { readable: *has_come, ..Told::default() },
            Kind::Stream(stream) => match stream.phase {
                Phase::Connecting => Told::default(),
                Phase::Broken { .. } => {
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
            Kind::Listener { .. } | Kind::Datagrams { .. } | Kind::Signal { .. } => None,
        }
    }

    pub(super) const fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Listener { .. } | Kind::Datagrams { .. } | Kind::Signal { .. } => None,
        }
    }

    /// An address as the owner of the socket sees it.
    pub(super) fn shown(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self.family == Family::V6 => {
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
        let Some(claim) = self.claim() else { return false };
        self.local.ip().is_unspecified()
            && (self.local.is_ipv6() == ip.is_ipv6() || self.local.is_ipv6() && !claim.v6_only)
    }

    /// What it takes of its port, if it is there for whoever comes.
    pub(super) const fn claim(&self) -> Option<Claim> {
        match &self.kind {
            Kind::Listener { claim, .. } | Kind::Datagrams { claim, .. } => Some(*claim),
            Kind::Stream(_) | Kind::Signal { .. } => None,
        }
    }

    pub(super) const fn protocol(&self) -> Protocol {
        match (&self.kind, self.family) {
            (Kind::Datagrams { .. }, _) => Protocol::Udp,
            (_, Family::Unix) => Protocol::Unix,
            (_, Family::V4 | Family::V6) => Protocol::Tcp,
        }
    }
}

/// An IPv4 address that is mapped into IPv6 becomes IPv4 again.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
