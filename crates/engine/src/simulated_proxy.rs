//! A SOCKS5 proxy in a simulated world, where every packet can be looked at: nothing may go beside it.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use reactor::simulated::{Node, Turn, World, WorldOptions};
use reactor::task::{AsyncStream, AsyncUdp, Handle};
use reactor::{ConnectOptions, ListenOptions};
use torrent::proxy::{Target, datagram};

use crate::dht::DhtConfig;
use crate::event::{EventKind, EventMask, EventSink, Events};
use crate::proxy::ProxyConfig;
use crate::settings::SessionConfig;
use crate::simulation::{Machine, PORT, Payload, quiet};

/// A proxy on a host of its own.
struct ProxyHost {
    node: Node<()>,
    /// Connections made, and datagrams carried.
    carried: Rc<(Cell<usize>, Cell<usize>)>,
}

impl ProxyHost {
    /// One that takes in whoever comes, or lets everybody wait for its answer.
    fn start(world: &World, is_mute: bool) -> Self {
        let node = Node::new(world.host(&[PROXY]), ());
        let handle = node.reactor.handle();
        let carried: Rc<(Cell<usize>, Cell<usize>)> = Rc::default();
        let counts = Rc::clone(&carried);
        let mut listener = handle.listen(AT, &ListenOptions::default()).expect("a free port");
        drop(node.reactor.spawn(async move {
            let mut waiting = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                if is_mute {
                    waiting.push(client);
                    continue;
                }
                let (own, counts) = (handle.clone(), Rc::clone(&counts));
                drop(handle.spawn(async move { serve(&own, client, &counts).await }));
            }
        }));
        Self { node, carried }
    }
}

async fn serve(
    handle: &Handle<()>,
    mut client: AsyncStream,
    (connections, datagrams): &(Cell<usize>, Cell<usize>),
) -> io::Result<()> {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 0], "without a login");
    client.write_all(&[5, 0]).await?;
    let mut head = [0; 10];
    client.read_exact(&mut head).await?;
    let [5, command, 0, 1, a, b, c, d, high, low] = head else { panic!("an address: {head:?}") };
    let to = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    if command == 3 {
        let relay = handle.bind_udp((PROXY, 0).into(), &ListenOptions::default())?;
        let port = relay.local_addr().expect("bound").port().to_be_bytes();
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, port[0], port[1]]).await?;
        // For as long as the connection stands.
        let over = async { client.read(&mut [0]).await.map(drop) };
        return future::or(over, carry(&relay, datagrams)).await;
    }
    let Ok(peer) = handle.connect(to, &ConnectOptions::default()).await else {
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    connections.set(connections.get() + 1);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let there = futures_lite::io::copy(&client, &peer);
    let back = futures_lite::io::copy(&peer, &client);
    future::or(there, back).await.map(drop)
}

async fn carry(relay: &AsyncUdp, count: &Cell<usize>) -> io::Result<()> {
    let (mut client, mut buffer) = (None, [0; 2048]);
    loop {
        let (len, from) = relay.recv_from(&mut buffer).await?;
        let owner = *client.get_or_insert(from);
        count.set(count.get() + 1);
        if from == owner {
            let Some((Target::Addr(to), data)) = datagram::unwrap(&buffer[..len]) else {
                panic!("an address")
            };
            relay.send_to(data, to).await?;
        } else {
            let wrapped = datagram::wrap(&Target::Addr(from), &buffer[..len]);
            relay.send_to(&wrapped, owner).await?;
        }
    }
}

/// A machine whose session is behind the proxy, strictly, with all that finds peers switched on; and its events.
fn behind(world: &World, config: SessionConfig) -> (Machine, Events) {
    let (sink, events) = EventSink::new(EventMask::USUAL);
    let url = format!("socks5://{AT}").parse().expect("valid");
    let config = SessionConfig {
        lsd: true,
        proxy: Some(ProxyConfig::new(url)),
        events: Some(sink),
        ..config
    };
    (Machine::with_config(world, LEECH, None, config), events)
}

/// Lets all run until the second machine is complete, or so long. Returns the packets of that machine that went, or
/// came, beside the proxy.
fn run(
    world: &World,
    machines: &mut [&mut Machine],
    proxy: &mut ProxyHost,
    seconds: u64,
) -> Vec<String> {
    let (end, leech) = (world.elapsed() + Duration::from_secs(seconds), machines.len() - 1);
    while world.elapsed() < end && !machines[leech].is_complete() {
        let mut turns: Vec<&mut dyn Turn> = vec![&mut proxy.node];
        turns.extend(machines.iter_mut().map(|machine| &mut machine.node as &mut dyn Turn));
        assert!(world.step(&mut turns), "nothing can happen any more");
    }
    let ours = IpAddr::from([10, 0, 0, LEECH]);
    let is_beside = |from: SocketAddr, to: SocketAddr| {
        (from.ip() == ours && to.ip() != PROXY) || (to.ip() == ours && from.ip() != PROXY)
    };
    let trace = world.take_trace();
    trace.iter().filter(|at| is_beside(at.from, at.to)).map(ToString::to_string).collect()
}

#[test]
fn a_download_by_every_road_sends_no_packet_beside_the_proxy() {
    let payload = Payload::new(700_000);
    for (tcp, utp) in [(true, false), (false, true), (true, true)] {
        let play = |seed| {
            let world = World::new(seed, WorldOptions::default());
            let mut proxy = ProxyHost::start(&world, false);
            let open = SessionConfig { utp: true, lsd: true, ..quiet() };
            let mut seeder = Machine::with_config(&world, 1, None, open);
            seeder.add(&payload.metainfo, payload.dir.path(), &[]);
            let (mut leech, _) = behind(&world, SessionConfig { tcp, utp, ..quiet() });
            let dir = leech.dir.path().to_owned();
            leech.add(&payload.metainfo, &dir, &[1]);
            let beside = run(&world, &mut [&mut seeder, &mut leech], &mut proxy, 600);
            assert_eq!(beside, [""; 0]);
            assert!(leech.is_complete(), "{tcp} {utp}");
            assert_eq!(tcp, proxy.carried.0.get() > 0, "connections");
            assert!(tcp || proxy.carried.1.get() > 0, "datagrams");
            world.trace_digest()
        };
        assert_eq!(play(1), play(1));
    }
}

#[test]
fn the_dht_finds_peers_through_the_proxy_alone() {
    let payload = Payload::new(100_000);
    let world = World::new(3, WorldOptions::default());
    let mut proxy = ProxyHost::start(&world, false);
    let dht = || DhtConfig { boot: vec![format!("10.0.0.1:{PORT}")], ..DhtConfig::default() };
    let mut others: Vec<Machine> = (1..=5)
        .map(|number| {
            let config = SessionConfig { dht: dht(), ..quiet() };
            Machine::with_config(&world, number, None, config)
        })
        .collect();
    others[1].add(&payload.metainfo, payload.dir.path(), &[]);
    let (mut leech, _) = behind(&world, SessionConfig { dht: dht(), ..quiet() });
    let dir = leech.dir.path().to_owned();
    leech.add(&payload.metainfo, &dir, &[]);
    let mut machines: Vec<&mut Machine> = others.iter_mut().chain([&mut leech]).collect();
    let beside = run(&world, &mut machines, &mut proxy, 900);
    assert_eq!(beside, [""; 0]);
    assert!(leech.is_complete());
}

#[test]
fn a_proxy_that_is_gone_is_told_of_and_waited_for() {
    let payload = Payload::new(300_000);
    let world = World::new(1, WorldOptions::default());
    let mut proxy = ProxyHost::start(&world, false);
    let mut seeder = Machine::new(&world, 1);
    seeder.add(&payload.metainfo, payload.dir.path(), &[]);
    let (mut leech, events) = behind(&world, quiet());
    let dir = leech.dir.path().to_owned();
    world.cut(PROXY, [10, 0, 0, LEECH].into());
    leech.add(&payload.metainfo, &dir, &[1]);
    let beside = run(&world, &mut [&mut seeder, &mut leech], &mut proxy, 120);
    assert_eq!(beside, [""; 0]);
    assert!(!leech.is_complete());
    let is_told = |event: &crate::event::Event| matches!(event.kind, EventKind::ProxyFailed { .. });
    assert!(events.try_iter().any(|event| is_told(&event)));
    world.mend(PROXY, [10, 0, 0, LEECH].into());
    let beside = run(&world, &mut [&mut seeder, &mut leech], &mut proxy, 300);
    assert_eq!(beside, [""; 0]);
    assert!(leech.is_complete());
}

#[test]
fn a_proxy_that_never_answers_has_nobody_wait_for_ever() {
    let payload = Payload::new(100_000);
    let world = World::new(1, WorldOptions::default());
    let mut proxy = ProxyHost::start(&world, true);
    let (mut leech, _) = behind(&world, quiet());
    let dir = leech.dir.path().to_owned();
    leech.add(&payload.metainfo, &dir, &[1, 2, 3]);
    let beside = run(&world, &mut [&mut leech], &mut proxy, 60);
    assert_eq!(beside, [""; 0]);
    run(&world, &mut [&mut leech], &mut proxy, 10);
    assert!(leech.node.state.half_open.len() <= 3);
}

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 200));
const AT: SocketAddr = SocketAddr::new(PROXY, 1080);
const LEECH: u8 = 100;
