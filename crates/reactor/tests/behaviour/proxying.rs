//! Back pressure through a proxy: a fast producer, a slow consumer, and little in between.

use std::net::SocketAddr;

use reactor::{
    Accepted, ConnectOptions, Handler, HandlerError, ListenOptions, Progress, Reactor, Read,
    Reason, Token,
};

use crate::stage::{Door, in_simulations, noise, on_the_real_network, script, serve, turn_until};

#[derive(Default)]
struct State {
    received: usize,
    paused: usize,
    resumed: usize,
    has_ended: bool,
}

/// One side of a proxied connection: what it reads the other side writes.
struct Side {
    other: Token,
}

impl Handler<State> for Side {
    fn readable(
        &mut self,
        token: Token,
        state: &mut State,
        reactor: &mut Reactor<State>,
    ) -> Result<(), HandlerError> {
        let mut bytes = vec![0; READ_LEN];
        match reactor.read(token, &mut bytes)? {
            Read::Data(count) => {
                bytes.truncate(count);
                if let Progress::Full(_) = reactor.write(self.other, bytes)? {
                    reactor.pause(token);
                    state.paused += 1;
                }
                assert!(reactor.queued(self.other) <= HIGH + READ_LEN);
            }
            Read::WouldBlock => {}
            Read::Eof => reactor.finish(self.other)?,
        }
        Ok(())
    }

    fn drained(
        &mut self,
        token: Token,
        state: &mut State,
        reactor: &mut Reactor<State>,
    ) -> Result<(), HandlerError> {
        assert!(reactor.queued(token) <= LOW);
        reactor.resume(self.other);
        state.resumed += 1;
        Ok(())
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut State, reactor: &mut Reactor<State>) {
        reactor.close(self.other, "the other side is over");
    }
}

/// Sends so many bytes, as fast as it may.
struct Producer {
    left: usize,
}

impl Producer {
    fn produce(&mut self, token: Token, reactor: &mut Reactor<State>) -> Result<(), HandlerError> {
        let block = noise(NOISE_LEN);
        while self.left > 0 {
            let len = self.left.min(block.len());
            self.left -= len;
            if let Progress::Full(_) = reactor.write(token, block[..len].to_vec())? {
                return Ok(());
            }
        }
        reactor.finish(token)?;
        Ok(())
    }
}

impl Handler<State> for Producer {
    fn connected(
        &mut self,
        token: Token,
        _: &mut State,
        reactor: &mut Reactor<State>,
    ) -> Result<(), HandlerError> {
        self.produce(token, reactor)
    }

    fn readable(
        &mut self,
        token: Token,
        _: &mut State,
        reactor: &mut Reactor<State>,
    ) -> Result<(), HandlerError> {
        reactor.read(token, &mut [0; 9])?;
        Ok(())
    }

    fn drained(
        &mut self,
        token: Token,
        _: &mut State,
        reactor: &mut Reactor<State>,
    ) -> Result<(), HandlerError> {
        self.produce(token, reactor)
    }

    fn closed(&mut self, _: Token, _: Reason, _: &mut State, _: &mut Reactor<State>) {}
}

/// Sends `len` bytes through a proxy to a consumer that takes a tenth of what the proxy takes a turn.
fn proxy(mut reactor: Reactor<State>, ip: std::net::IpAddr, len: usize) {
    let pattern = noise(NOISE_LEN);
    let consumer = serve(&mut reactor, ip, move || {
        let pattern = pattern.clone();
        script().readable(move |token, state: &mut State, reactor| {
            let mut bytes = vec![0; READ_LEN / 10];
            match reactor.read(token, &mut bytes)? {
                Read::Data(count) => {
                    let mut rest = &bytes[..count];
                    while !rest.is_empty() {
                        let expected = &pattern[state.received % NOISE_LEN..];
                        let same = expected.len().min(rest.len());
                        assert!(rest[..same] == expected[..same], "byte {}", state.received);
                        state.received += same;
                        rest = &rest[same..];
                    }
                }
                Read::WouldBlock => {}
                Read::Eof => state.has_ended = true,
            }
            Ok(())
        })
    });
    let door = Door(move |accepted: Accepted, _: &mut State, reactor: &mut Reactor<State>| {
        let front = reactor.attach(accepted, script().boxed()).unwrap();
        let side = Box::new(Side { other: front });
        let back = reactor.connect(consumer, &ConnectOptions::default(), side).unwrap();
        reactor.set_water(back, HIGH, LOW);
        reactor.set_handler(front, Box::new(Side { other: back }));
    });
    let any = SocketAddr::new(ip, 0);
    let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
    let addr = reactor.local_addr(listener).unwrap();
    let producer = Box::new(Producer { left: len });
    reactor.connect(addr, &ConnectOptions::default(), producer).unwrap();
    let mut state = State::default();
    turn_until(&mut reactor, &mut state, |state| state.has_ended);
    assert_eq!(state.received, len);
    assert!(state.paused > 0 && state.resumed >= state.paused.saturating_sub(1), "never full");
}

#[test]
fn a_hundred_megabytes_go_through_a_proxy_that_never_holds_more_than_its_mark_and_a_read() {
    on_the_real_network(|reactor, ip| proxy(reactor, ip, 100_000_000));
}

#[test]
fn so_do_some_in_every_simulated_world() {
    in_simulations(|reactor, ip| proxy(reactor, ip, 3_000_000));
}

const READ_LEN: usize = 32 * 1024;
const HIGH: usize = 200_000;
const LOW: usize = 50_000;
/// The period of the noise.
const NOISE_LEN: usize = 65_521;
