//! The pretended network itself, with several reactors in one world.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reactor::simulated::{Node, TraceEntry, TraceKind, World, WorldOptions};
use reactor::{ConnectOptions, ListenOptions, Multicast, Reactor, Reason, Token};

use crate::stage::{Inbox, Script, echo, noise, read, script, serve};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

/// What a client has seen.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    endings: Vec<String>,
    connected_at: Vec<Duration>,
}

/// How many bytes a server has got, and how its connections ended.
#[derive(Default)]
struct Served {
    bytes: usize,
    endings: Vec<String>,
}

/// One that says what it saw, and writes `sends` when it is connected.
fn watcher(world: &World, sends: Vec<u8>) -> Script<Seen> {
    let world = world.clone();
    script()
        .connected(move |token, seen: &mut Seen, reactor| {
            seen.connected_at.push(world.elapsed());
            {
                reactor.write(token, sends.clone())?;
                Ok(())
            }
        })
        .readable(|token, seen, reactor| {
            seen.bytes.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, seen, _| seen.endings.push(reason.to_string()))
}

fn server() -> Script<Served> {
    script()
        .readable(|token, served: &mut Served, reactor| {
            let bytes = read(token, reactor)?;
            served.bytes += bytes.len();
            {
                reactor.write(token, bytes)?;
                Ok(())
            }
        })
        .closed(|_, reason, served, _| served.endings.push(reason.to_string()))
}

/// An echo server there, and a client here that is connecting to it and will send so many bytes.
fn pair(world: &World, len: usize) -> (Node<Served>, Node<Seen>) {
    let mut there = Node::new(world.host(&[THERE]), Served::default());
    let mut here = Node::new(world.host(&[HERE]), Seen::default());
    let addr = serve(&mut there.reactor, THERE, server);
    connect(world, &mut here, addr, len);
    (there, here)
}

fn connect(world: &World, node: &mut Node<Seen>, addr: SocketAddr, len: usize) -> Token {
    let client = watcher(world, noise(len)).boxed();
    node.reactor.connect(addr, &ConnectOptions::default(), client).unwrap()
}

/// A day with bytes, resets and datagrams; what happened on it.
fn history(seed: u64) -> (Vec<TraceEntry>, u64) {
    let options = WorldOptions {
        reset_share: 0.02,
        datagram_loss_share: 0.2,
        partial_share: 0.5,
        ..WorldOptions::default()
    };
    let world = World::new(seed, options);
    let (mut there, mut here) = pair(&world, 300_000);
    connect(&world, &mut here, (THERE, 80).into(), 9);
    let inbox = || Box::new(Inbox(|_, _, _: &[u8], _: &mut Seen, _: &mut Reactor<Seen>| {}));
    let udp = here.reactor.bind_udp((HERE, 7).into(), &ListenOptions::default(), inbox()).unwrap();
    for number in 0..20 {
        let at = here.reactor.now() + Duration::from_millis(number);
        here.reactor.add_timer(at, move |_, reactor| {
            let data = reactor.random().to_be_bytes();
            reactor.send_to(udp, (HERE, 7).into(), &data).unwrap();
            reactor.send_to(udp, (FAR, 7).into(), &data[..3]).unwrap();
        });
    }
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(10));
    (world.take_trace(), world.trace_digest())
}

#[test]
fn equal_seeds_give_equal_traces_and_others_do_not() {
    let (trace, digest) = history(1);
    assert!(trace.len() > 50, "{}", trace.len());
    assert!(trace.is_sorted_by_key(|entry| entry.at_micros));
    assert!((trace, digest) == history(1));
    let digests: std::collections::BTreeSet<u64> = (1..20).map(|seed| history(seed).1).collect();
    assert_eq!(digests.len(), 19);
}

#[test]
fn a_connection_takes_a_round_trip_and_the_near_come_first() {
    let options = WorldOptions { jitter: Duration::ZERO, ..WorldOptions::default() };
    let world = World::new(1, options);
    let (mut there, mut here) = pair(&world, 1);
    let mut far = Node::new(world.host(&[FAR]), Served::default());
    let addr = serve(&mut far.reactor, FAR, server);
    world.set_latency(HERE, FAR, Duration::from_millis(40));
    world.set_latency(HERE, THERE, Duration::from_millis(15));
    connect(&world, &mut here, addr, 1);
    world.run_for(&mut [&mut there, &mut here, &mut far], Duration::from_secs(1));
    let at: Vec<u128> = here.state.connected_at.iter().map(Duration::as_millis).collect();
    // The first one left before the latencies were set.
    assert!(at == [25, 80], "{at:?}");
}

#[test]
fn everything_arrives_however_little_goes_at_a_time() {
    for seed in 0..20 {
        let options = WorldOptions {
            partial_share: 1.0,
            buffer_len: 1000,
            segment_len_max: 100,
            jitter: Duration::from_millis(50),
            ..WorldOptions::default()
        };
        let world = World::new(seed, options);
        let (mut there, mut here) = pair(&world, 20_000);
        while here.state.bytes.len() < 20_000 {
            assert!(world.step(&mut [&mut there, &mut here]), "seed {seed}: nothing happens");
        }
        assert!(here.state.bytes == noise(20_000), "seed {seed}");
        assert_eq!(there.state.bytes, 20_000);
    }
}

#[test]
fn a_reset_between_two_hosts_reaches_both_and_nobody_else() {
    let world = World::new(1, WorldOptions::default());
    let (mut there, mut here) = pair(&world, 1);
    let mut far = Node::new(world.host(&[FAR]), Served::default());
    let addr = serve(&mut far.reactor, FAR, server);
    connect(&world, &mut here, addr, 1);
    world.run_for(&mut [&mut there, &mut here, &mut far], Duration::from_secs(1));
    assert_eq!(world.reset_between(THERE, HERE), 1);
    world.run_for(&mut [&mut there, &mut here, &mut far], Duration::from_secs(1));
    assert_eq!(here.state.endings, ["reset by the peer"]);
    assert_eq!(there.state.endings, ["reset by the peer"]);
    assert_eq!((far.state.endings.len(), world.reset_between(THERE, HERE)), (0, 0));
}

#[test]
fn chance_resets_as_often_as_it_was_told_to() {
    let world = World::new(1, WorldOptions { reset_share: 1.0, ..WorldOptions::default() });
    let (mut there, mut here) = pair(&world, 10);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(1));
    assert_eq!(
        (here.state.endings, there.state.endings.len()),
        (vec!["reset by the peer".to_owned()], 1)
    );
    assert_eq!(there.state.bytes, 0);
}

#[test]
fn a_cut_is_silent_and_mended_it_has_lost_nothing() {
    let world = World::new(1, WorldOptions::default());
    let (mut there, mut here) = pair(&world, 100_000);
    world.cut(HERE, THERE);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(3));
    assert!(here.state.connected_at.is_empty());
    world.mend(HERE, THERE);
    while here.state.connected_at.is_empty() {
        assert!(world.step(&mut [&mut there, &mut here]));
    }
    world.run_for(&mut [&mut there, &mut here], Duration::from_millis(1));
    world.cut(HERE, THERE);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(3));
    assert_eq!((there.state.bytes, here.state.endings.len()), (0, 0));
    world.mend(HERE, THERE);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(3));
    assert!(here.state.bytes == noise(100_000));
}

#[test]
fn an_unanswered_connection_times_out() {
    let world = World::new(1, WorldOptions::default());
    let (mut there, mut here) = pair(&world, 1);
    world.cut(THERE, HERE);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(60));
    assert_eq!(here.state.endings, ["timed out"]);
    assert!(world.elapsed() >= Duration::from_secs(60));
}

#[test]
fn a_host_sends_no_faster_than_it_may() {
    let world = World::new(1, WorldOptions::default());
    let (mut there, mut here) = pair(&world, 200_000);
    world.set_bytes_per_second(HERE, Some(10_000));
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(10));
    assert!((80_000..=100_000).contains(&there.state.bytes), "{}", there.state.bytes);
    world.run_for(&mut [&mut there, &mut here], Duration::from_secs(11));
    assert_eq!(there.state.bytes, 200_000);
}

/// Sends numbers to a host there; which arrived.
fn arrived(options: WorldOptions) -> (Vec<u8>, World) {
    let world = World::new(5, WorldOptions { jitter: Duration::ZERO, ..options });
    let mut here = Node::new(world.host(&[HERE]), ());
    let mut there = Node::new(world.host(&[THERE]), Vec::new());
    let inbox = Inbox(|_, _, data: &[u8], state: &mut Vec<u8>, _: &mut Reactor<Vec<u8>>| {
        state.extend_from_slice(data);
    });
    let no_inbox = Inbox(|_, _, _: &[u8], (): &mut (), _: &mut Reactor<()>| {});
    let options = ListenOptions::default();
    there.reactor.bind_udp((THERE, 7).into(), &options, Box::new(inbox)).unwrap();
    let socket = here.reactor.bind_udp((HERE, 0).into(), &options, Box::new(no_inbox)).unwrap();
    for number in 0..200 {
        let at = here.reactor.now() + Duration::from_millis(number.into());
        here.reactor.add_timer(at, move |(), reactor| {
            reactor.send_to(socket, (THERE, 7).into(), &[number]).unwrap();
        });
    }
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(1));
    (there.state, world)
}

#[test]
fn a_group_spans_the_hosts_of_a_world() {
    let world = World::new(5, WorldOptions::default());
    let mut nodes = [HERE, THERE].map(|ip| Node::new(world.host(&[ip]), Vec::<SocketAddr>::new()));
    let group = IpAddr::from([239, 1, 2, 3]);
    for node in &mut nodes {
        let inbox = Inbox(|_, from, _: &[u8], state: &mut Vec<SocketAddr>, _: &mut Reactor<_>| {
            state.push(from);
        });
        let interface = node.reactor.interfaces().unwrap().remove(0);
        let multicast = Some(Multicast { group, interface });
        let options = ListenOptions { multicast, ..ListenOptions::default() };
        let token = node.reactor.bind_udp((group, 7).into(), &options, Box::new(inbox)).unwrap();
        node.reactor.send_to(token, (group, 7).into(), b"who is there?").unwrap();
        node.reactor.send_to(token, (group, 8).into(), b"nobody").unwrap();
    }
    let [here, there] = &mut nodes;
    world.run_for(&mut [here, there], Duration::from_secs(1));
    // The second one had not joined yet when the first spoke.
    assert_eq!(nodes[0].state, [(HERE, 7).into(), (THERE, 7).into()]);
    assert_eq!(nodes[1].state, [SocketAddr::from((THERE, 7))]);
}

#[test]
fn datagrams_get_lost_doubled_and_late_as_often_as_told() {
    let all = Vec::from_iter(0..200);
    assert_eq!(arrived(WorldOptions::default()).0, all);
    let options = WorldOptions { datagram_loss_share: 0.25, ..WorldOptions::default() };
    let (some, world) = arrived(options);
    let lost = world.take_trace().iter().filter(|entry| entry.kind == TraceKind::Loss).count();
    assert!((20..80).contains(&lost) && some.is_sorted() && some.len() + lost == 200);
    let options = WorldOptions { datagram_duplicate_share: 0.25, ..WorldOptions::default() };
    let (mut many, _) = arrived(options);
    assert!((220..280).contains(&many.len()));
    many.dedup();
    assert_eq!(many, all);
    let options = WorldOptions { datagram_delay_share: 0.25, ..WorldOptions::default() };
    let (mut late, _) = arrived(options);
    assert!(!late.is_sorted());
    late.sort_unstable();
    assert_eq!(late, all);
}

#[test]
fn a_node_that_stopped_gets_no_more_turns() {
    let world = World::new(1, WorldOptions::default());
    let mut node = Node::new(world.host(&[HERE]), 0);
    node.with(|_, reactor| {
        reactor.add_timer(reactor.now(), |_, reactor| reactor.stop());
        reactor.add_timer(reactor.now() + Duration::from_secs(1), |count, _| *count += 1);
    });
    assert!(!world.run_until(&mut [&mut node], Duration::from_secs(5), || false));
    assert_eq!((node.is_stopped(), node.state), (true, 0));
    assert!(!world.step(&mut [&mut node]));
    assert_eq!(world.elapsed().as_secs(), 5);
}

#[test]
fn a_connection_to_oneself_needs_no_network() {
    let world = World::new(1, WorldOptions::default());
    let mut node = Node::new(world.host(&[]), Seen::default());
    let door = serve(&mut node.reactor, [127, 0, 0, 1].into(), echo);
    connect(&world, &mut node, door, 5);
    world.run_for(&mut [&mut node], Duration::from_millis(1));
    assert_eq!(node.state.bytes, noise(5));
    let options = ConnectOptions::default();
    let error =
        node.reactor.connect(SocketAddr::from((HERE, 1)), &options, echo().boxed()).unwrap_err();
    assert!(matches!(Reason::from(error), Reason::Error(error)
        if error.kind() == std::io::ErrorKind::NetworkUnreachable));
}
