//! Datagrams through a SOCKS5 proxy: the connection that has it carry them, and where they are handed over.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Handler, HandlerError, Reactor, Read, Reason, Token};
use torrent::proxy::{Conversation, ProxyFault, SocksReply, Target, datagram};

use crate::engine::Engine;
use crate::event::EventKind;

/// How it stands with datagrams and the proxy.
#[derive(Debug, Default)]
pub(crate) enum Relay {
    /// None has been sent.
    #[default]
    Unused,
    /// The proxy has been asked to carry them.
    Asking {
        /// What is to be sent then; at most [`WAITING_MAX`].
        waiting: Vec<(Target, Vec<u8>)>,
    },
    /// It carries what is sent there.
    Open(SocketAddr),
    /// It does not, and is not asked before.
    Closed { until: Instant },
}

/// What a datagram that came is, if a proxy may have carried it.
#[derive(Debug)]
pub(crate) enum Arrival<'a> {
    /// It came from where it says.
    Direct,
    /// The proxy brought it.
    Relayed(SocketAddr, &'a [u8]),
    /// It is not for us, or came beside a proxy that nothing may come beside.
    Unwanted,
}

impl Engine {
    /// Has the proxy carry a datagram.
    ///
    /// # Errors
    /// If it does not carry any now.
    pub(crate) fn send_by_relay(
        &mut self,
        target: &Target,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> io::Result<()> {
        let now = reactor.now();
        let Some(proxy) = self.proxy.as_mut() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match &mut proxy.relay {
            Relay::Open(at) => {
                let at = *at;
                let datagram = datagram::wrap(target, data);
                self.send_beside(at, &datagram, reactor)
            }
            Relay::Asking { waiting } => {
                // More than that and the network would have lost some, too.
                if waiting.len() < WAITING_MAX {
                    waiting.push((target.clone(), data.to_vec()));
                }
                Ok(())
            }
            Relay::Closed { until } if now < *until => Err(no_datagrams()),
            Relay::Unused | Relay::Closed { .. } => {
                let Some(conversation) = Conversation::associate(&proxy.config.url) else {
                    return Err(no_datagrams());
                };
                proxy.relay = Relay::Asking { waiting: vec![(target.clone(), data.to_vec())] };
                let at = proxy.addr();
                let handler = Box::new(Control { conversation, is_open: false });
                let opened = reactor.connect(at, &self.connect_options(at), handler);
                if let Err(error) = &opened {
                    self.relay_closed(error.to_string(), RETRY_AFTER, reactor);
                }
                opened.map(drop)
            }
        }
    }

    /// Whether the proxy can be had to carry datagrams, or may be soon.
    pub(crate) fn has_relay(&self, now: Instant) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| match proxy.relay {
            Relay::Unused => Conversation::associate(&proxy.config.url).is_some(),
            Relay::Asking { .. } | Relay::Open(_) => true,
            Relay::Closed { until } => now >= until,
        })
    }

    /// What a datagram is that came from somewhere.
    pub(crate) fn arrival<'a>(&self, from: SocketAddr, data: &'a [u8]) -> Arrival<'a> {
        let Some(proxy) = &self.proxy else { return Arrival::Direct };
        let is_from_relay = matches!(proxy.relay, Relay::Open(at)
            if at.port() == from.port() && at.ip().to_canonical() == from.ip().to_canonical());
        match (is_from_relay, proxy.config.strict) {
            (true, _) => match datagram::unwrap(data) {
                Some((Target::Addr(from), data)) => Arrival::Relayed(from, data),
                Some((Target::Name(..), _)) | None => Arrival::Unwanted,
            },
            (false, true) => Arrival::Unwanted,
            (false, false) => Arrival::Direct,
        }
    }

    fn relay_opened(&mut self, at: SocketAddr, reactor: &mut Reactor<Self>) {
        let Some(proxy) = self.proxy.as_mut() else { return };
        tracing::info!(proxy = %proxy.config.url, %at, "datagrams are carried");
        let before = std::mem::replace(&mut proxy.relay, Relay::Open(at));
        let Relay::Asking { waiting } = before else { return };
        for (target, data) in waiting {
            if let Err(error) = self.send_by_relay(&target, &data, reactor) {
                tracing::debug!(%target, %error, "a datagram is not carried");
            }
        }
    }

    fn relay_closed(&mut self, error: String, retry_after: Duration, reactor: &mut Reactor<Self>) {
        let until = reactor.now() + retry_after;
        let Some(proxy) = self.proxy.as_mut() else { return };
        proxy.relay = Relay::Closed { until };
        let error = format!("datagrams are not carried: {error}");
        let kind = EventKind::ProxyFailed { proxy: proxy.config.url.to_string(), error };
        if !self.is_stopping {
            self.tell(None, &kind);
        }
        self.fail_udp_exchanges(reactor);
    }
}

pub(crate) fn no_datagrams() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the proxy carries no datagrams")
}

/// The connection that stands for as long as datagrams are to be carried.
#[derive(Debug)]
struct Control {
    conversation: Conversation,
    is_open: bool,
}

impl Control {
    fn speak(&mut self, token: Token, reactor: &mut Reactor<Engine>) -> Result<(), HandlerError> {
        if let Some(words) = self.conversation.poll_transmit() {
            reactor.write(token, Bytes::from(words))?;
        }
        Ok(())
    }
}

impl Handler<Engine> for Control {
    fn connected(
        &mut self,
        token: Token,
        _engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        reactor.set_deadline(token, Some(reactor.now() + PATIENCE));
        self.speak(token, reactor)
    }

    fn readable(
        &mut self,
        token: Token,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) -> Result<(), HandlerError> {
        let mut bytes = [0; 512];
        let len = match reactor.read(token, &mut bytes)? {
            Read::Data(len) => len,
            Read::WouldBlock => return Ok(()),
            Read::Eof => return Err(ProxyFault::Ended.into()),
        };
        if self.is_open {
            return Ok(());
        }
        self.conversation.handle_bytes(&bytes[..len])?;
        self.speak(token, reactor)?;
        if self.conversation.is_over() {
            self.is_open = true;
            reactor.set_deadline(token, None);
            let proxy = reactor.peer_addr(token).ok_or(ProxyFault::Ended)?;
            let at = match self.conversation.relay() {
                Some(Target::Addr(at)) if !at.ip().is_unspecified() => *at,
                // "Where I am": nearly always it is the proxy's own address, however it names itself.
                Some(Target::Addr(at)) => SocketAddr::new(proxy.ip(), at.port()),
                Some(Target::Name(_, port)) => SocketAddr::new(proxy.ip(), *port),
                None => return Err(ProxyFault::WrongProtocol.into()),
            };
            engine.relay_opened(at, reactor);
        }
        Ok(())
    }

    fn closed(
        &mut self,
        _token: Token,
        reason: Reason,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) {
        let fault = match &reason {
            Reason::Handler(error) => error.downcast_ref::<ProxyFault>(),
            Reason::Reset | Reason::Error(_) | Reason::Timeout | Reason::Local(_) => None,
        };
        let retry_after = match fault {
            Some(ProxyFault::Refused(SocksReply::CommandNotSupported)) => RETRY_SELDOM,
            _ => RETRY_AFTER,
        };
        engine.relay_closed(reason.to_string(), retry_after, reactor);
    }
}

/// Datagrams that wait until the proxy carries them. What is past that is lost, as in any network.
const WAITING_MAX: usize = 64;
/// How long the proxy may think about it.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// What it does not support it will not support soon.
const RETRY_SELDOM: Duration = Duration::from_secs(600);
