//! The ports that peers reach us on: the first that is free of those that were asked for, for TCP and UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reactor::{Accepted, Acceptor, DatagramHandler, ListenOptions, Reactor, Token};
use torrent::proxy::Target;
use torrent::swarm::Direction;
use torrent::utp::Packet;

use crate::dial::Road;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::peer::PeerConnection;
use crate::relay::{Arrival, no_datagrams};
use crate::settings::ListenConfig;

/// Takes in who comes.
#[derive(Debug)]
struct Door;

impl Acceptor<Engine> for Door {
    fn accepted(
        &mut self,
        _listener: Token,
        connection: Accepted,
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) {
        let Some(addr) = connection.peer.socket_addr() else { return };
        if let Err(reason) = engine.admits(addr, reactor) {
            let detail = reason.to_string();
            engine.tell(None, &EventKind::PeerDisconnected { addr, peer_id: None, reason, detail });
            return;
        }
        match reactor.attach(connection, Box::new(PeerConnection::incoming(addr, Road::Tcp))) {
            Ok(token) => {
                engine.admitted(token, addr.ip(), reactor);
                let direction = Direction::Incoming;
                engine.tell(None, &EventKind::ConnectionOpened { addr, direction });
            }
            Err(error) => tracing::debug!(%addr, %error, "cannot take in"),
        }
    }
}

/// Takes datagrams to those who wait for them.
#[derive(Debug)]
struct Datagrams;

impl DatagramHandler<Engine> for Datagrams {
    fn datagram(
        &mut self,
        _token: Token,
        from: SocketAddr,
        data: &[u8],
        engine: &mut Engine,
        reactor: &mut Reactor<Engine>,
    ) {
        match engine.arrival(from, data) {
            Arrival::Direct if engine.proxy_of_peers().is_some() && Packet::is_likely(data) => {
                tracing::trace!(%from, "uTP beside the proxy");
            }
            Arrival::Direct => engine.datagram(from, data, reactor),
            Arrival::Relayed(from, data) => engine.datagram(from, data, reactor),
            Arrival::Unwanted => tracing::trace!(%from, "a datagram beside the proxy"),
        }
    }

    fn writable(&mut self, _token: Token, engine: &mut Engine, _reactor: &mut Reactor<Engine>) {
        engine.utp_writable();
    }
}

impl Engine {
    /// A datagram has come: its first byte tells whose it is. Trackers' answers begin with 0.
    fn datagram(&mut self, from: SocketAddr, data: &[u8], reactor: &mut Reactor<Self>) {
        match data.first() {
            Some(0) => self.tracker_datagram(from, data, reactor),
            Some(b'd') => self.dht_datagram(from, data, reactor),
            _ if Packet::is_likely(data) => self.utp_datagram(from, data, reactor),
            _ => tracing::trace!(%from, len = data.len(), "a datagram for nobody"),
        }
    }

    /// Sends a datagram to a peer: from the port that peers can reach us on, or through the proxy.
    ///
    /// # Errors
    /// What the system says; `AddrNotAvailable` if we have no address of that family, `Unsupported` if the
    /// proxy carries no datagrams.
    pub(crate) fn send_datagram(
        &mut self,
        to: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> io::Result<()> {
        let is_proxied = self.proxy_of_peers().is_some();
        self.send_to_target(&Target::Addr(to), is_proxied, data, reactor)
    }

    /// Sends a datagram to an address, or to a name that the proxy is to look up.
    ///
    /// # Errors
    /// As [`send_datagram`](Self::send_datagram).
    pub(crate) fn send_to_target(
        &mut self,
        target: &Target,
        is_proxied: bool,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> io::Result<()> {
        if is_proxied && self.has_relay(reactor.now()) {
            return self.send_by_relay(target, data, reactor);
        }
        match target {
            Target::Addr(to) if !self.config.is_strictly_proxied() => {
                self.send_beside(*to, data, reactor)
            }
            Target::Addr(_) | Target::Name(..) => Err(no_datagrams()),
        }
    }

    /// Sends a datagram, whatever proxy there is.
    ///
    /// # Errors
    /// As [`send_datagram`](Self::send_datagram).
    pub(crate) fn send_beside(
        &self,
        to: SocketAddr,
        data: &[u8],
        reactor: &mut Reactor<Self>,
    ) -> io::Result<()> {
        let socket = self.udp.iter().find(|(local, _)| local.is_ipv4() == to.is_ipv4());
        let (_, token) = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
        reactor.send_to(*token, to, data)
    }

    /// Opens the doors. Returns the addresses; none if there is a proxy that nothing may go beside.
    ///
    /// # Errors
    /// If no port of the range is free, the error of the last.
    pub(crate) fn listen(&mut self, reactor: &mut Reactor<Self>) -> io::Result<Vec<SocketAddr>> {
        let config = self.config.listen.clone();
        self.start_utp(reactor);
        if self.config.is_strictly_proxied() {
            self.open_back_door(&config, reactor)?;
            return Ok(Vec::new());
        }
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "an empty range of ports");
        for port in config.ports.iter().cloned().flatten() {
            match self.try_to_listen_on(&config, port, reactor) {
                Ok(addrs) => {
                    self.port = addrs.first().map(SocketAddr::port);
                    for &addr in &addrs {
                        self.tell(None, &EventKind::ListenSucceeded { addr });
                    }
                    return Ok(addrs);
                }
                Err((addr, error)) => {
                    let text = error.to_string();
                    self.tell(None, &EventKind::ListenFailed { addr, error: text });
                    last = error;
                }
            }
        }
        self.tell(None, &EventKind::NotListening { error: last.to_string() });
        Err(last)
    }

    fn listen_options(&self) -> ListenOptions {
        let interface = self.config.network.interface.clone();
        ListenOptions { v6_only: true, interface, ..ListenOptions::default() }
    }

    /// Sockets for datagrams to and from the proxy, on whatever port.
    fn open_back_door(
        &mut self,
        config: &ListenConfig,
        reactor: &mut Reactor<Self>,
    ) -> io::Result<()> {
        let options = self.listen_options();
        let mut last = None;
        for ip in families(config) {
            match reactor.bind_udp(SocketAddr::new(ip, 0), &options, Box::new(Datagrams)) {
                Ok(token) => {
                    let addr = reactor.local_addr(token).expect("a bound socket has an address");
                    self.udp.push((addr, token));
                }
                Err(error) => last = Some(error),
            }
        }
        if self.udp.is_empty() { last.map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// As [`listen_on`](Self::listen_on), again and again if the system chooses the port: that is one that is free for
    /// TCP, and somebody may have it for UDP.
    fn try_to_listen_on(
        &mut self,
        config: &ListenConfig,
        port: u16,
        reactor: &mut Reactor<Self>,
    ) -> Result<Vec<SocketAddr>, (SocketAddr, io::Error)> {
        let mut tries = if port == 0 { TRIES_MAX } else { 1 };
        loop {
            tries -= 1;
            match self.listen_on(config, port, reactor) {
                Err((_, error)) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                done => return done,
            }
        }
    }

    /// One port, every family that the system has; at least one must work.
    fn listen_on(
        &mut self,
        config: &ListenConfig,
        port: u16,
        reactor: &mut Reactor<Self>,
    ) -> Result<Vec<SocketAddr>, (SocketAddr, io::Error)> {
        let options = self.listen_options();
        let mut doors: Vec<(Token, SocketAddr)> = Vec::new();
        let mut port = port;
        let mut failure = None;
        for ip in families(config) {
            let wanted = SocketAddr::new(ip, port);
            let opened = if self.config.tcp {
                reactor.listen(wanted, &options, Box::new(Door))
            } else {
                reactor.bind_udp(wanted, &options, Box::new(Datagrams))
            };
            match opened {
                Ok(token) => {
                    let addr = reactor.local_addr(token).expect("a socket has an address");
                    port = addr.port();
                    doors.push((token, addr));
                }
                // A system without IPv6 is no reason not to listen.
                Err(error)
                    if ip.is_ipv6()
                        && !doors.is_empty()
                        && error.kind() != io::ErrorKind::AddrInUse =>
                {
                    tracing::info!(%error, "no IPv6");
                }
                Err(error) => failure = Some((wanted, error)),
            }
        }
        for &(token, addr) in &doors {
            if !self.config.tcp {
                self.udp.push((addr, token));
                continue;
            }
            match reactor.bind_udp(addr, &options, Box::new(Datagrams)) {
                Ok(token) => self.udp.push((addr, token)),
                Err(error) => failure = Some((addr, error)),
            }
        }
        match failure {
            None => Ok(doors.into_iter().map(|(_, addr)| addr).collect()),
            Some(failure) => {
                for (token, _) in doors.into_iter() {
                    reactor.close(token, "another port is tried");
                }
                for (_, token) in self.udp.drain(..) {
                    reactor.close(token, "another port is tried");
                }
                Err(failure)
            }
        }
    }
}

/// The addresses to listen on, one for each family.
fn families(config: &ListenConfig) -> Vec<IpAddr> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    config.bind.map_or_else(|| any.to_vec(), |ip| vec![ip])
}

/// How often the system is asked for a port.
const TRIES_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use reactor::simulated::{World, WorldOptions};

    use super::*;
    use crate::settings::SessionConfig;
    use crate::simulation::quiet;

    #[test]
    fn a_port_of_the_systems_choice_that_somebody_has_for_datagrams_is_not_the_last() {
        let (world, ip) = (World::new(1, WorldOptions::default()), IpAddr::from([10, 0, 0, 1]));
        let mut reactor = Reactor::simulated(world.host(&[ip]));
        let listen = ListenConfig { ports: vec![0..=0], bind: Some(ip) };
        let config = SessionConfig { listen, ..quiet() };
        let mut engine = Engine::new(config, None, reactor.now(), 1);
        let mut take = |port| {
            let addr = SocketAddr::new(ip, port);
            let taken = reactor.bind_udp(addr, &ListenOptions::default(), Box::new(Datagrams));
            reactor.local_addr(taken.expect("free")).expect("bound").port()
        };
        let first = take(0);
        let (_, last) = (take(first + 1), take(first + 2));
        let addrs = engine.listen(&mut reactor).expect("there are others");
        assert_eq!(addrs, [SocketAddr::new(ip, last + 1)]);
    }
}
