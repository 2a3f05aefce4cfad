//! The ports that peers reach us on: the first that is free of those that were asked for, for TCP and UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reactor::{Accepted, Acceptor, DatagramHandler, ListenOptions, Reactor, Token};
use torrent::swarm::Direction;

use crate::engine::Engine;
use crate::event::EventKind;
use crate::peer::PeerConnection;
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
        if let Err(reason) = engine.admits(addr) {
            let detail = reason.to_string();
            engine.tell(None, &EventKind::PeerDisconnected { addr, peer_id: None, reason, detail });
            return;
        }
        match reactor.attach(connection, Box::new(PeerConnection::incoming(addr))) {
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
        engine.tracker_datagram(from, data, reactor);
    }
}

impl Engine {
    /// Opens the doors. Returns the addresses.
    ///
    /// # Errors
    /// If no port of the range is free, the error of the last.
    pub(crate) fn listen(&mut self, reactor: &mut Reactor<Self>) -> io::Result<Vec<SocketAddr>> {
        let config = self.config.listen.clone();
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "an empty range of ports");
        for port in config.ports.iter().cloned().flatten() {
            match self.listen_on(&config, port, reactor) {
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

    /// One port, every family that the system has; at least one must work.
    fn listen_on(
        &mut self,
        config: &ListenConfig,
        port: u16,
        reactor: &mut Reactor<Self>,
    ) -> Result<Vec<SocketAddr>, (SocketAddr, io::Error)> {
        let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let families = config.bind.as_ref().map_or(&any[..], std::slice::from_ref);
        let options = ListenOptions { v6_only: true, ..ListenOptions::default() };
        let mut doors: Vec<(Token, SocketAddr)> = Vec::new();
        let mut port = port;
        let mut failure = None;
        for &ip in families {
            let wanted = SocketAddr::new(ip, port);
            match reactor.listen(wanted, &options, Box::new(Door)) {
                Ok(token) => {
                    let addr = reactor.local_addr(token).expect("a listener has an address");
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
        for &(_, addr) in &doors {
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
