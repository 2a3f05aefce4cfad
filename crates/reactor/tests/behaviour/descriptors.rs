//! Descriptors: when there are none left, and who may not have them.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{Accepted, ConnectOptions, Interest, ListenOptions, Reactor, Token};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::parts::{HERE, THERE, count_turns, few_turns, is_alone};
use crate::stage::{Door, Inbox, echo, read, script, serve, turn_until};

/// How many were welcomed.
type Welcomed = usize;

/// Listens, and greets whoever comes.
fn greet(reactor: &mut Reactor<Welcomed>, addr: SocketAddr, options: &ListenOptions) -> Token {
    let door = Door(|accepted: Accepted, count: &mut Welcomed, reactor: &mut Reactor<Welcomed>| {
        let token = reactor.attach(accepted, script().boxed()).unwrap();
        reactor.write(token, "welcome").unwrap();
        *count += 1;
    });
    reactor.listen(addr, options, Box::new(door)).unwrap()
}

#[test]
fn a_listener_without_descriptors_keeps_no_loop_busy_and_goes_on_as_soon_as_there_are_some() {
    // The limit is one of the whole process.
    if !is_alone() {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = greet(&mut reactor, any, &ListenOptions::default());
    let addr = reactor.local_addr(listener).unwrap();
    let clients = Vec::from_iter((0..20).map(|_| TcpStream::connect(addr).unwrap()));
    let highest = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let limit = getrlimit(Resource::Nofile);
    let none_left = Rlimit { current: Some(highest as u64), ..limit };
    setrlimit(Resource::Nofile, none_left).unwrap();
    let mut welcomed = 0;
    let a_while = Duration::from_millis(300);
    let turns = count_turns(&mut reactor, &mut welcomed, a_while);
    assert!(turns < few_turns(a_while), "{turns} turns");
    assert_eq!(welcomed, 0);
    setrlimit(Resource::Nofile, limit).unwrap();
    let late = TcpStream::connect(addr).unwrap();
    count_turns(&mut reactor, &mut welcomed, Duration::from_millis(100));
    // If the machine slept through that, the timer is only seen by the turn after it.
    count_turns(&mut reactor, &mut welcomed, Duration::from_millis(1));
    assert!(welcomed > 0, "100 ms after there was room");
    // Whoever came when there was none was turned away or is served now; none is left waiting.
    drop(reactor);
    let served = clients.into_iter().chain([late]).map(|mut client| {
        let mut answer = Vec::new();
        // A reset, or an end.
        client.read_to_end(&mut answer).ok();
        assert!(answer.is_empty() || answer == b"welcome");
        answer.len() / 7
    });
    assert_eq!(served.sum::<usize>(), welcomed);
}

#[test]
fn simulated_hosts_run_out_of_descriptors_and_recover_in_the_same_way() {
    for seed in 0..10 {
        let whole = WorldOptions { partial_share: 0.0, ..WorldOptions::default() };
        let world = World::new(seed, whole);
        let mut here = Node::new(world.host(&[HERE]), Vec::<String>::new());
        let mut there = Node::new(world.host(&[THERE]), 0);
        let listener = greet(&mut there.reactor, (THERE, 80).into(), &ListenOptions::default());
        assert_eq!(there.reactor.tokens(), [listener]);
        world.set_descriptors_max(THERE, Some(1));
        let client = || {
            script()
                .readable(|token, log: &mut Vec<String>, reactor| {
                    if read(token, reactor)? == b"welcome" {
                        log.push("welcome".to_owned());
                    }
                    Ok(())
                })
                .closed(|_, reason, log, _| log.push(reason.to_string()))
        };
        let connect = |here: &mut Node<Vec<String>>| {
            let addr = SocketAddr::from((THERE, 80));
            let client = client().boxed();
            here.reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
        };
        (0..20).for_each(|_| connect(&mut here));
        world.run_for(&mut [&mut here, &mut there], Duration::from_millis(300));
        assert_eq!(there.state, 0);
        // One each time that it tried, which was every 50 ms.
        let turned_away = here.state.len();
        assert!((4..8).contains(&turned_away), "{turned_away}");
        world.set_descriptors_max(THERE, None);
        world.run_for(&mut [&mut here, &mut there], Duration::from_millis(100));
        assert_eq!(there.state, 20 - turned_away);
        connect(&mut here);
        world.run_for(&mut [&mut here, &mut there], Duration::from_millis(100));
        assert_eq!((there.state, here.state.len()), (21 - turned_away, 21));
    }
}

#[test]
fn what_cannot_be_opened_says_so_and_costs_nothing() {
    let world = World::new(1, WorldOptions::default());
    let mut reactor: Reactor<()> = Reactor::simulated(world.host(&[HERE]));
    world.set_descriptors_max(HERE, Some(1));
    let addr = serve(&mut reactor, HERE, echo);
    let inbox = Inbox(|_, _, _: &[u8], (): &mut (), _: &mut Reactor<()>| {});
    let options = ListenOptions::default();
    let mut errors = Vec::new();
    errors.extend(reactor.connect(addr, &ConnectOptions::default(), script().boxed()).err());
    errors.extend(reactor.bind_udp((HERE, 0).into(), &options, Box::new(inbox)).err());
    errors.extend(reactor.on_signal(Signal::USR1.as_raw(), |(), _| {}).err());
    let is_full = |error: &io::Error| error.raw_os_error() == Some(24);
    assert!(errors.len() == 3 && errors.iter().all(is_full), "{errors:?}");
    assert_eq!(reactor.len(), 1);
}

#[test]
fn a_program_that_is_started_inherits_nothing() {
    let before = inherited();
    let folder = tempfile::tempdir().unwrap();
    let mut reactor: Reactor<()> = Reactor::new().unwrap();
    let addr = serve(&mut reactor, [127, 0, 0, 1].into(), echo);
    reactor.connect(addr, &ConnectOptions::default(), script().boxed()).unwrap();
    let unix: PathBuf = folder.path().join("socket");
    let door = Door(|accepted, (): &mut (), reactor: &mut Reactor<()>| {
        reactor.attach(accepted, echo().boxed()).unwrap();
    });
    reactor.listen(unix.clone(), &ListenOptions::default(), Box::new(door)).unwrap();
    reactor.connect(unix, &ConnectOptions::default(), script().boxed()).unwrap();
    let inbox = Inbox(|_, _, _: &[u8], (): &mut (), _: &mut Reactor<()>| {});
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    reactor.bind_udp(any, &ListenOptions::default(), Box::new(inbox)).unwrap();
    let (pipe, _writer) = io::pipe().unwrap();
    let _watch = reactor.watch(&pipe, Interest::Readable, |_, (), _| {}).unwrap();
    let _signal = reactor.on_signal(Signal::WINCH.as_raw(), |(), _| {}).unwrap();
    while reactor.len() < 9 {
        reactor.turn(&mut (), Some(Duration::from_millis(10))).unwrap();
    }
    assert_eq!(inherited(), before);
}

/// What a program finds open that we start: numbers, and what they are.
fn inherited() -> BTreeMap<String, String> {
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let open = listing.lines().filter_map(|line| {
        let (left, target) = line.split_once(" -> ")?;
        let number = left.rsplit(' ').next()?;
        // Pipes and processes have other numbers each time.
        let kind = target.split(|c: char| c == ':' || c.is_ascii_digit()).next()?;
        Some((number.to_owned(), kind.to_owned()))
    });
    open.collect()
}

#[test]
fn two_loops_in_two_threads_share_a_port() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut loops = Vec::new();
    for _ in 0..2 {
        let (sender, receiver) = mpsc::channel();
        let options = options.clone();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let listener = greet(&mut reactor, addr, &options);
            sender.send((reactor.local_addr(listener).unwrap(), reactor.remote())).unwrap();
            let mut welcomed = 0;
            reactor.run(&mut welcomed).unwrap();
            welcomed
        });
        let (bound, remote) = receiver.recv().unwrap();
        addr = bound;
        loops.push((thread, remote));
    }
    for _ in 0..100 {
        let mut answer = [0; 7];
        TcpStream::connect(addr).unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"welcome");
    }
    let welcomed = loops.into_iter().map(|(thread, remote)| {
        remote.stop();
        thread.join().unwrap()
    });
    let welcomed = Vec::from_iter(welcomed);
    assert_eq!(welcomed.iter().sum::<usize>(), 100);
    assert!(welcomed.iter().all(|count| *count > 0), "{welcomed:?}");
}

#[test]
fn two_loops_on_a_simulated_host_share_a_port() {
    let world = World::new(1, WorldOptions::default());
    let mut here = Node::new(world.host(&[HERE]), 0);
    let mut there = Node::new(world.host(&[THERE]), 0);
    let mut beside = Node::new(world.reactor_on(THERE), 0);
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    for node in [&mut there, &mut beside] {
        greet(&mut node.reactor, (THERE, 80).into(), &options);
    }
    for _ in 0..100 {
        let addr = SocketAddr::from((THERE, 80));
        let client = script().readable(|token, answers: &mut usize, reactor| {
            *answers += read(token, reactor)?.len();
            Ok(())
        });
        here.reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
    }
    world.run_for(&mut [&mut here, &mut there, &mut beside], Duration::from_secs(1));
    assert_eq!((here.state, there.state + beside.state), (700, 100));
    assert!(there.state > 0 && beside.state > 0);
}

#[test]
fn each_of_many_waits_ends_when_another_thread_says_so() {
    let mut reactor: Reactor<usize> = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (go, waiting) = mpsc::channel();
    let waker = thread::spawn(move || {
        let mut woken = 0;
        while waiting.recv().is_ok() {
            woken += 1;
            if woken % 2 == 0 {
                remote.wake();
            } else {
                remote.post(|count: &mut usize, _| *count += 1).unwrap();
            }
        }
    });
    let mut count = 0;
    for _ in 0..1000 {
        go.send(()).unwrap();
        // There are neither timers nor sockets: this would be for ever.
        reactor.turn(&mut count, None).unwrap();
    }
    drop(go);
    waker.join().unwrap();
    turn_until(&mut reactor, &mut count, |count| *count == 500);
}
