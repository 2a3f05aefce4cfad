//! More of what tests share: connected pairs, worlds of two hosts, and processes of their own.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use reactor::simulated::{Node, World};
use reactor::{Accepted, ConnectOptions, Handler, ListenOptions, Reactor, Token};

use crate::stage::Door;

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Two connections with each other: the one that connected, and the one that was accepted.
pub(crate) fn pair<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    ip: IpAddr,
    here: Box<dyn Handler<S>>,
    there: Box<dyn Handler<S>>,
) -> (Token, Token) {
    let accepted = Rc::new(Cell::new(None));
    let listener = listen_once(reactor, ip, there, &accepted);
    let addr = reactor.local_addr(listener).unwrap();
    let here = reactor.connect(addr, &ConnectOptions::default(), here).unwrap();
    let is_open = |reactor: &Reactor<S>| reactor.info(here).is_none_or(|info| info.state == "open");
    for _ in 0..TURNS_MAX {
        if let (Some(there), true) = (accepted.get(), is_open(reactor)) {
            reactor.close(listener, "one was enough");
            return (here, there);
        }
        reactor.turn(state, Some(Duration::from_millis(10))).unwrap();
    }
    panic!("they did not meet");
}

/// Two connections with each other on two hosts, the reactors of which share a kind of state.
pub(crate) fn far_pair<S: 'static>(
    world: &World,
    nodes: (&mut Node<S>, &mut Node<S>),
    handlers: (Box<dyn Handler<S>>, Box<dyn Handler<S>>),
) -> (Token, Token) {
    let (here, there) = nodes;
    let accepted = Rc::new(Cell::new(None));
    let listener = listen_once(&mut there.reactor, THERE, handlers.1, &accepted);
    let addr = there.reactor.local_addr(listener).unwrap();
    let token = here.reactor.connect(addr, &ConnectOptions::default(), handlers.0).unwrap();
    let patience = Duration::from_secs(9);
    assert!(world.run_until(&mut [here, there], patience, || accepted.get().is_some()));
    there.reactor.close(listener, "one was enough");
    (token, accepted.get().unwrap())
}

fn listen_once<S: 'static>(
    reactor: &mut Reactor<S>,
    ip: IpAddr,
    handler: Box<dyn Handler<S>>,
    token: &Rc<Cell<Option<Token>>>,
) -> Token {
    let (token, mut handler) = (Rc::clone(token), Some(handler));
    let door = Door(move |accepted: Accepted, _: &mut S, reactor: &mut Reactor<S>| {
        token.set(Some(reactor.attach(accepted, handler.take().unwrap()).unwrap()));
    });
    reactor.listen(SocketAddr::new(ip, 0), &ListenOptions::default(), Box::new(door)).unwrap()
}

/// How many turns a loop takes in so much time, left to itself.
pub(crate) fn count_turns<S: 'static>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    time: Duration,
) -> u32 {
    let until = reactor.now() + time;
    let mut turns = 0;
    while reactor.now() < until {
        let left = until.saturating_duration_since(reactor.now());
        reactor.turn(state, Some(left)).unwrap();
        turns += 1;
    }
    turns
}

/// How many turns are taken in a busy loop's place: nothing that only waits takes so many.
pub(crate) const fn few_turns(time: Duration) -> u32 {
    50 + time.as_millis() as u32 / 10
}

/// Plays a test in a process of its own, for what is one for the whole process. Returns whether this is
/// that process.
pub(crate) fn is_alone() -> bool {
    if std::env::var_os("ALONE").is_some() {
        return true;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--exact", &name]).env("ALONE", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    false
}

const TURNS_MAX: usize = 100_000;
