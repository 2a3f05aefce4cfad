//! What the tests share: worlds to play in, and handlers made of closures.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};
use reactor::{
    Accepted, Acceptor, DatagramHandler, Handler, HandlerError, ListenOptions, Reactor, Read,
    Reason, Token,
};

pub(crate) type Done = Result<(), HandlerError>;
type OnCall<S> = Box<dyn FnMut(Token, &mut S, &mut Reactor<S>) -> Done>;
type OnClosed<S> = Box<dyn FnMut(Token, Reason, &mut S, &mut Reactor<S>)>;

/// Plays a story with a reactor that is alone in its world: on the real network by IPv4 and, if
/// there is one, IPv6, and on simulated ones of many seeds.
pub(crate) fn everywhere<S: 'static>(story: impl Fn(Reactor<S>, IpAddr)) {
    on_the_real_network(&story);
    in_simulations(story);
}

pub(crate) fn in_simulations<S: 'static>(story: impl Fn(Reactor<S>, IpAddr)) {
    for seed in 0..SEEDS {
        in_simulation(seed, &story);
    }
}

pub(crate) fn on_the_real_network<S: 'static>(story: impl Fn(Reactor<S>, IpAddr)) {
    story(Reactor::new().unwrap(), Ipv4Addr::LOCALHOST.into());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        story(Reactor::new().unwrap(), Ipv6Addr::LOCALHOST.into());
    }
}

fn in_simulation<S: 'static>(seed: u64, story: impl Fn(Reactor<S>, IpAddr)) {
    let ips = [IpAddr::from([10, 0, 0, 1]), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into()];
    for ip in ips {
        let options = WorldOptions { partial_share: 0.5, ..WorldOptions::default() };
        let host = World::new(seed, options).host(&ips);
        let result = catch_unwind(AssertUnwindSafe(|| story(Reactor::simulated(host), ip)));
        if let Err(panic) = result {
            // The harness shows it together with the panic itself.
            write_line(&format!("it was a simulation of seed {seed}, on {ip}"));
            resume_unwind(panic);
        }
    }
}

#[expect(clippy::print_stderr, reason = "tests tell what to play again")]
fn write_line(line: &str) {
    eprintln!("{line}");
}

/// Turns until `is_done`; fails if that takes for ever.
pub(crate) fn turn_until<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    mut is_done: impl FnMut(&S) -> bool,
) {
    let limit = reactor.now() + PATIENCE;
    while !is_done(state) {
        assert!(reactor.now() < limit, "it did not happen");
        reactor.turn(state, Some(Duration::from_millis(10))).unwrap();
    }
}

/// Lets so much time pass.
pub(crate) fn turn_for<S: 'static>(reactor: &mut Reactor<S>, state: &mut S, time: Duration) {
    let until = reactor.now() + time;
    while reactor.now() < until {
        let left = until.saturating_duration_since(reactor.now());
        reactor.turn(state, Some(left)).unwrap();
    }
}

/// A connection's handler that is told what to do.
pub(crate) struct Script<S> {
    connected: OnCall<S>,
    readable: OnCall<S>,
    writable: OnCall<S>,
    full: OnCall<S>,
    drained: OnCall<S>,
    closed: OnClosed<S>,
}

/// One that reads whatever comes, and drops it.
pub(crate) fn script<S: 'static>() -> Script<S> {
    Script {
        connected: Box::new(|_, _, _| Ok(())),
        readable: Box::new(|token, _, reactor| read(token, reactor).map(drop)),
        writable: Box::new(|_, _, _| Ok(())),
        full: Box::new(|_, _, _| Ok(())),
        drained: Box::new(|_, _, _| Ok(())),
        closed: Box::new(|_, _, _, _| {}),
    }
}

/// One that sends back whatever comes.
pub(crate) fn echo<S: 'static>() -> Script<S> {
    script().readable(|token, _, reactor| {
        let bytes = read(token, reactor)?;
        reactor.write(token, bytes)?;
        Ok(())
    })
}

impl<S: 'static> Script<S> {
    pub(crate) fn connected(
        mut self,
        act: impl FnMut(Token, &mut S, &mut Reactor<S>) -> Done + 'static,
    ) -> Self {
        self.connected = Box::new(act);
        self
    }

    pub(crate) fn readable(
        mut self,
        act: impl FnMut(Token, &mut S, &mut Reactor<S>) -> Done + 'static,
    ) -> Self {
        self.readable = Box::new(act);
        self
    }

    pub(crate) fn writable(
        mut self,
        act: impl FnMut(Token, &mut S, &mut Reactor<S>) -> Done + 'static,
    ) -> Self {
        self.writable = Box::new(act);
        self
    }

    pub(crate) fn full(
        mut self,
        act: impl FnMut(Token, &mut S, &mut Reactor<S>) -> Done + 'static,
    ) -> Self {
        self.full = Box::new(act);
        self
    }

    pub(crate) fn drained(
        mut self,
        act: impl FnMut(Token, &mut S, &mut Reactor<S>) -> Done + 'static,
    ) -> Self {
        self.drained = Box::new(act);
        self
    }

    pub(crate) fn closed(
        mut self,
        act: impl FnMut(Token, Reason, &mut S, &mut Reactor<S>) + 'static,
    ) -> Self {
        self.closed = Box::new(act);
        self
    }

    pub(crate) fn boxed(self) -> Box<dyn Handler<S>> {
        Box::new(self)
    }
}

impl<S> Handler<S> for Script<S> {
    fn connected(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) -> Done {
        (self.connected)(token, state, reactor)
    }

    fn readable(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) -> Done {
        (self.readable)(token, state, reactor)
    }

    fn writable(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) -> Done {
        (self.writable)(token, state, reactor)
    }

    fn full(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) -> Done {
        (self.full)(token, state, reactor)
    }

    fn drained(&mut self, token: Token, state: &mut S, reactor: &mut Reactor<S>) -> Done {
        (self.drained)(token, state, reactor)
    }

    fn closed(&mut self, token: Token, reason: Reason, state: &mut S, reactor: &mut Reactor<S>) {
        (self.closed)(token, reason, state, reactor);
    }
}

/// Takes in every connection that comes, by what the closure does with it.
pub(crate) struct Door<F>(pub(crate) F);

impl<S, F: FnMut(Accepted, &mut S, &mut Reactor<S>)> Acceptor<S> for Door<F> {
    fn accepted(&mut self, _: Token, accepted: Accepted, state: &mut S, reactor: &mut Reactor<S>) {
        (self.0)(accepted, state, reactor);
    }
}

/// Takes in datagrams.
pub(crate) struct Inbox<F>(pub(crate) F);

impl<S, F: FnMut(Token, SocketAddr, &[u8], &mut S, &mut Reactor<S>)> DatagramHandler<S>
    for Inbox<F>
{
    fn datagram(
        &mut self,
        token: Token,
        from: SocketAddr,
        data: &[u8],
        state: &mut S,
        reactor: &mut Reactor<S>,
    ) {
        (self.0)(token, from, data, state, reactor);
    }
}

/// Listens at any port; each connection gets the handler that `make` makes.
pub(crate) fn serve<S: 'static>(
    reactor: &mut Reactor<S>,
    ip: IpAddr,
    make: impl Fn() -> Script<S> + 'static,
) -> SocketAddr {
    let door = Door(move |accepted, _: &mut S, reactor: &mut Reactor<S>| {
        reactor.attach(accepted, make().boxed()).unwrap();
    });
    let addr = SocketAddr::new(ip, 0);
    let listener = reactor.listen(addr, &ListenOptions::default(), Box::new(door)).unwrap();
    reactor.local_addr(listener).unwrap()
}

/// Whatever there is to read. The end closes the connection.
pub(crate) fn read<S: 'static>(
    token: Token,
    reactor: &mut Reactor<S>,
) -> Result<Vec<u8>, HandlerError> {
    let mut bytes = vec![0; 32 * 1024];
    let count = match reactor.read(token, &mut bytes)? {
        Read::Data(count) => count,
        Read::WouldBlock => 0,
        Read::Eof => {
            reactor.close(token, "the peer is done");
            0
        }
    };
    bytes.truncate(count);
    Ok(bytes)
}

/// Bytes that tell when some are missing, doubled or out of order.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut word = 1_u32;
    let next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    // A prime, so that no two buffers begin alike.
    let block: Vec<u8> = std::iter::repeat_with(next).take(len.min(65_521)).collect();
    let mut bytes = block.repeat(len.div_ceil(block.len().max(1)));
    bytes.truncate(len);
    bytes
}

const SEEDS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);
