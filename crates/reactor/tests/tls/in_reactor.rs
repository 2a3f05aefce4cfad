//! TLS in a reactor: handlers that know nothing of it talk through it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};
use reactor::{
    Accepted, Acceptor, ConnectOptions, Handler, HandlerError, ListenOptions, Reactor, Read,
    Reason, Tls, Token,
};
use rustls::version::TLS13;

use crate::noise;
use crate::stage::pair;

#[derive(Default)]
struct Log {
    /// What came back to who connected.
    echoed: Vec<u8>,
    endings: Vec<String>,
}

struct Echo;

impl Handler<Log> for Echo {
    fn readable(
        &mut self,
        token: Token,
        _: &mut Log,
        reactor: &mut Reactor<Log>,
    ) -> Result<(), HandlerError> {
        let mut bytes = [0; 10_000];
        match reactor.read(token, &mut bytes)? {
            Read::Data(count) => drop(reactor.write(token, bytes[..count].to_vec())?),
            Read::WouldBlock => {}
            Read::Eof => reactor.close_after_flush(token, Duration::from_secs(10)),
        }
        Ok(())
    }

    fn closed(&mut self, _: Token, reason: Reason, log: &mut Log, _: &mut Reactor<Log>) {
        log.endings.push(format!("server: {reason}"));
    }
}

/// Says all it has at once, before there is a handshake, and that this is all.
struct Client(Vec<u8>);

impl Handler<Log> for Client {
    fn connected(
        &mut self,
        token: Token,
        _: &mut Log,
        reactor: &mut Reactor<Log>,
    ) -> Result<(), HandlerError> {
        reactor.write(token, std::mem::take(&mut self.0))?;
        reactor.finish(token)?;
        Ok(())
    }

    fn readable(
        &mut self,
        token: Token,
        log: &mut Log,
        reactor: &mut Reactor<Log>,
    ) -> Result<(), HandlerError> {
        let mut bytes = [0; 7_000];
        match reactor.read(token, &mut bytes)? {
            Read::Data(count) => log.echoed.extend_from_slice(&bytes[..count]),
            Read::WouldBlock => {}
            Read::Eof => reactor.close(token, "all is back"),
        }
        Ok(())
    }

    fn closed(&mut self, _: Token, reason: Reason, log: &mut Log, _: &mut Reactor<Log>) {
        log.endings.push(format!("client: {reason}"));
    }
}

struct Door(Option<Tls>);

impl Acceptor<Log> for Door {
    fn accepted(&mut self, _: Token, came: Accepted, _: &mut Log, reactor: &mut Reactor<Log>) {
        let token = reactor.attach(came, Box::new(Echo)).unwrap();
        if let Some(tls) = self.0.take() {
            reactor.set_transport(token, Box::new(tls));
        }
    }
}

fn echoes(mut reactor: Reactor<Log>, ip: IpAddr, client: Option<Tls>, server: Tls) -> Log {
    // A peer that does not take part is answered before it has said much.
    let sent = noise(1, if client.is_some() { 300_000 } else { 100 });
    let door = Box::new(Door(Some(server)));
    let any = SocketAddr::new(ip, 0);
    let door = reactor.listen(any, &ListenOptions::default(), door).unwrap();
    let addr = reactor.local_addr(door).unwrap();
    let handler = Box::new(Client(sent.clone()));
    let token = reactor.connect(addr, &ConnectOptions::default(), handler).unwrap();
    let is_secure = client.is_some();
    if let Some(tls) = client {
        reactor.set_transport(token, Box::new(tls));
    }
    let mut log = Log::default();
    let limit = reactor.now() + Duration::from_secs(60);
    while log.endings.len() < 2 {
        assert!(reactor.now() < limit, "it hangs: {:?}", log.endings);
        reactor.turn(&mut log, Some(Duration::from_millis(100))).unwrap();
    }
    log.endings.sort();
    if is_secure {
        assert!(log.echoed == sent, "{} of {} bytes", log.echoed.len(), sent.len());
    }
    log
}

#[test]
fn handlers_talk_through_it_on_the_real_network() {
    let (client, server) = pair(&TLS13);
    let ip = IpAddr::from([127, 0, 0, 1]);
    let log = echoes(Reactor::new().unwrap(), ip, Some(client), server);
    assert_eq!(log.endings, ["client: all is back", "server: flushed"]);
}

#[test]
fn handlers_talk_through_it_in_simulated_worlds() {
    for seed in 0..10 {
        let (client, server) = pair(&TLS13);
        let ip = IpAddr::from([10, 0, 0, 1]);
        let options = WorldOptions { partial_share: 0.5, ..WorldOptions::default() };
        let host = World::new(seed, options).host(&[ip]);
        let log = echoes(Reactor::simulated(host), ip, Some(client), server);
        assert_eq!(log.endings, ["client: all is back", "server: flushed"], "seed {seed}");
    }
}

#[test]
fn one_that_speaks_plainly_is_told_and_closed() {
    let (_, server) = pair(&TLS13);
    let ip = IpAddr::from([127, 0, 0, 1]);
    let log = echoes(Reactor::new().unwrap(), ip, None, server);
    assert!(log.endings[1].starts_with("server: received corrupt message"), "{:?}", log.endings);
    // The alert.
    assert_eq!(log.echoed.first(), Some(&21), "{:?}", log.endings);
}
