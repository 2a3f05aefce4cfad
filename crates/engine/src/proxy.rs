//! The way through a proxy: for connections to peers, for trackers, and, in `relay`, for datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use reactor::{ConnectOptions, Handler, Reactor, Reason, Token, interface_addrs};
use torrent::proxy::{Conversation, ProxyFault, ProxyUrl, Target};

use crate::dial::CONNECT_PATIENCE;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::parting::Parted;
use crate::relay::Relay;
use crate::session::SessionError;
use crate::task::TaskId;
use crate::tunnel::Tunnel;

/// A proxy, and what goes through it.
///
/// SOCKS5 carries connections, and datagrams (uTP, DHT, UDP trackers) if the proxy supports UDP ASSOCIATE. HTTP
/// carries connections alone.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where it is, what it speaks, and who we are to it.
    pub url: ProxyUrl,
    /// Connections and datagrams to peers go through it. Default: yes.
    pub peers: bool,
    /// Questions to trackers, web seeds and torrent files go through it. Default: yes.
    pub trackers: bool,
    /// Nothing goes beside it, default: yes. `peers` and `trackers` count as set. We do not listen for
    /// peers, look for none in our own network, and map no port; datagrams that the proxy does not carry are not
    /// sent, and names are looked up by the proxy alone, but for its own.
    pub strict: bool,
}

impl ProxyConfig {
    /// Everything goes through the proxy, and nothing beside it.
    pub const fn new(url: ProxyUrl) -> Self {
        Self { url, peers: true, trackers: true, strict: true }
    }

    pub(crate) const fn takes_peers(&self) -> bool {
        self.peers || self.strict
    }

    pub(crate) const fn takes_trackers(&self) -> bool {
        self.trackers || self.strict
    }
}

/// The proxy of a session that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) config: ProxyConfig,
    /// Where its name leads to; never empty.
    addrs: Vec<SocketAddr>,
    /// How often in a row it has been of no use.
    failures: u32,
    /// Nobody is dialled before.
    down_until: Option<Instant>,
    pub(crate) relay: Relay,
}

impl Proxy {
    /// Looks up where it is, and waits for that.
    ///
    /// # Errors
    /// What the resolver says.
    pub(crate) fn find(config: ProxyConfig) -> io::Result<Self> {
        let ProxyUrl { host, port, .. } = &config.url;
        let addrs: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, *port).into()],
            Err(_not_an_address) => (host.as_str(), *port).to_socket_addrs()?.collect(),
        };
        if addrs.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its name has no address"));
        }
        Ok(Self { config, addrs, failures: 0, down_until: None, relay: Relay::default() })
    }

    /// Where to connect to now: after a failure, the next of its addresses.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[self.failures as usize % self.addrs.len()]
    }
}

impl Engine {
    /// Begins to connect to a peer over TCP, through the proxy if it takes peers.
    ///
    /// # Errors
    /// What the system says at once.
    pub(crate) fn open_tcp(
        &self,
        addr: SocketAddr,
        handler: Box<dyn Handler<Self>>,
        reactor: &mut Reactor<Self>,
    ) -> io::Result<Token> {
        let Some(proxy) = self.proxy_of_peers() else {
            return reactor.connect(addr, &self.connect_options(addr), handler);
        };
        let at = proxy.addr();
        let token = reactor.connect(at, &self.connect_options(at), handler)?;
        let conversation = Conversation::connect(&proxy.config.url, &Target::Addr(addr));
        reactor.set_transport(token, Box::new(Tunnel::new(conversation)));
        reactor.set_peer_addr(token, addr);
        Ok(token)
    }

    /// Looks for the interface and the proxy that everything is to go by, and waits for that.
    ///
    /// # Errors
    /// If there is no such interface, or the proxy's name leads nowhere.
    pub(crate) fn find_ways(&mut self) -> Result<(), SessionError> {
        if let Some(name) = &self.config.network.interface {
            interface_addrs(name).map_err(SessionError::Interface)?;
        }
        if let Some(config) = self.config.proxy.clone() {
            let proxy = config.url.to_string();
            let found = Proxy::find(config);
            self.proxy = Some(found.map_err(|source| SessionError::Proxy { proxy, source })?);
        }
        Ok(())
    }

    /// Looks up a name, unless nothing but a proxy may: every look-up here is one of these.
    pub(crate) fn resolve(
        &mut self,
        host: &str,
        port: u16,
        reactor: &mut Reactor<Self>,
        done: impl FnOnce(io::Result<Vec<SocketAddr>>, &mut Self, &mut Reactor<Self>) + 'static,
    ) {
        if self.config.is_strictly_proxied() && host.parse::<IpAddr>().is_err() {
            let error =
                io::Error::new(io::ErrorKind::Unsupported, "only the proxy may look up names");
            reactor.add_timer(reactor.now(), move |engine, reactor| {
                done(Err(error), engine, reactor);
            });
        } else {
            self.lookups += 1;
            reactor.resolve(host, port, move |found, engine, reactor| {
                engine.lookups -= 1;
                done(found, engine, reactor);
            });
        }
    }

    /// How to connect to an address, whoever is there.
    pub(crate) fn connect_options(&self, to: SocketAddr) -> ConnectOptions {
        ConnectOptions {
            // A proxy may be of another family than the peers.
            bind: self.config.listen.bind.filter(|bind| bind.is_ipv4() == to.is_ipv4()),
            interface: self.config.network.interface.clone(),
            timeout: CONNECT_PATIENCE,
            ..ConnectOptions::default()
        }
    }

    /// The proxy, if connections to peers go through it.
    pub(crate) fn proxy_of_peers(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| proxy.config.takes_peers())
    }

    /// The proxy, if questions to trackers go through it.
    pub(crate) fn proxy_of_trackers(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| proxy.config.takes_trackers())
    }

    /// Whether it would be in vain to dial, since the way there is closed.
    pub(crate) fn is_proxy_down(&self, now: Instant) -> bool {
        self.proxy_of_peers().and_then(|proxy| proxy.down_until).is_some_and(|until| now < until)
    }

    /// A connection that we opened to a peer ended before its handshake. If that is the proxy's fault, why.
    pub(crate) fn fault_of_proxy(&self, parted: &Parted, reason: &Reason) -> Option<String> {
        self.proxy_of_peers()?;
        if parted.road.is_utp() {
            return None;
        }
        match reason {
            Reason::Error(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ProxyFault>());
                match inner {
                    Some(fault) => (!fault.is_of_target()).then(|| fault.to_string()),
                    None => parted.is_unopened.then(|| error.to_string()),
                }
            }
            Reason::Timeout if parted.is_unopened => Some("no answer".to_owned()),
            Reason::Reset | Reason::Timeout | Reason::Local(_) | Reason::Handler(_) => None,
        }
    }

    /// The proxy leads nowhere: it is left alone for a while, and people are told.
    pub(crate) fn proxy_failed(&mut self, error: String, reactor: &mut Reactor<Self>) {
        let now = reactor.now();
        let Some(proxy) = self.proxy.as_mut() else { return };
        // Connections that were opened together fail together.
        if proxy.down_until.is_some_and(|until| now < until) {
            return;
        }
        let wait = RETRY_FIRST.saturating_mul(1 << proxy.failures.min(8)).min(RETRY_MAX);
        proxy.failures += 1;
        proxy.down_until = Some(now + wait);
        let kind = EventKind::ProxyFailed { proxy: proxy.config.url.to_string(), error };
        self.tell(None, &kind);
        reactor.add_timer(now + wait, |engine, reactor| {
            let ids: Vec<TaskId> = engine.tasks.keys().copied().collect();
            for id in ids {
                engine.wake(id);
                engine.dial(id, reactor);
            }
        });
    }

    /// The proxy has led to a peer.
    pub(crate) const fn proxy_worked(&mut self) {
        if let Some(proxy) = self.proxy.as_mut() {
            proxy.failures = 0;
            proxy.down_until = None;
        }
    }
}

/// How long the proxy is left alone after it failed, doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
