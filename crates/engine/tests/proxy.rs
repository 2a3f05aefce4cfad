//! Sessions behind a proxy: everything goes through it, and what is wrong with it is told.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{HONEST, LOCAL, Payload, config, eventually, find, honest_seed, seed, wait_for};
use engine::{
    AddOptions, DhtConfig, EventKind, Events, NetworkConfig, ProxyConfig, Session, SessionConfig,
};
use torrent::proxy::{Target, datagram};

/// A SOCKS5 proxy that wants a login, at an address that nobody else connects from.
struct Proxy {
    addr: SocketAddr,
    /// Its own addresses at their far ends.
    connections: Arc<Mutex<Vec<SocketAddr>>>,
    datagrams: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind((PROXY, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, datagrams) = (Arc::default(), Arc::default());
        let proxy =
            Self { addr, connections: Arc::clone(&connections), datagrams: Arc::clone(&datagrams) };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, connections, datagrams) =
                    (client.unwrap(), Arc::clone(&connections), Arc::clone(&datagrams));
                thread::spawn(move || serve(client, &connections, &datagrams));
            }
        });
        proxy
    }

    fn config(&self, login: &str) -> Option<ProxyConfig> {
        Some(ProxyConfig::new(format!("socks5://{login}@{}", self.addr).parse().unwrap()))
    }
}

fn serve(
    mut client: TcpStream,
    connections: &Mutex<Vec<SocketAddr>>,
    datagrams: &AtomicUsize,
) -> Option<()> {
    let mut take = |len: usize| {
        let mut bytes = vec![0; len];
        client.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let count = take(2)?[1];
    assert!(take(count.into())?.contains(&2));
    client.write_all(&[5, 2]).ok()?;
    let mut login = vec![0; 64];
    let len = client.read(&mut login).ok()?;
    if login[..len] != *b"\x01\x02me\x06secret" {
        client.write_all(&[1, 1]).ok()?;
        return None;
    }
    client.write_all(&[1, 0]).ok()?;
    let mut head = [0; 10];
    client.read_exact(&mut head).ok()?;
    assert_eq!((head[0], head[2], head[3]), (5, 0, 1), "an IPv4 address is what we ask for here");
    let to = SocketAddr::from((
        [head[4], head[5], head[6], head[7]],
        u16::from_be_bytes([head[8], head[9]]),
    ));
    if head[1] == 3 {
        let relay = UdpSocket::bind((PROXY, 0)).ok()?;
        let port = relay.local_addr().ok()?.port().to_be_bytes();
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, port[0], port[1]]).ok()?;
        return carry(&relay, datagrams);
    }
    let Ok(mut peer) = TcpStream::connect(to) else {
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).ok();
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    connections.lock().unwrap().push(peer.local_addr().ok()?);
    let (mut from_peer, mut to_client) = (peer.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || std::io::copy(&mut from_peer, &mut to_client));
    std::io::copy(&mut client, &mut peer).ok().map(drop)
}

/// Takes datagrams to where their heads say, and brings back answers. `tracker.example` is the tracker's name.
fn carry(relay: &UdpSocket, count: &AtomicUsize) -> Option<()> {
    let (mut client, mut buffer) = (None, [0; 2048]);
    loop {
        let (len, from) = relay.recv_from(&mut buffer).ok()?;
        if client.is_none_or(|client| client == from) {
            client = Some(from);
            count.fetch_add(1, Ordering::Relaxed);
            let (target, data) = datagram::unwrap(&buffer[..len])?;
            let to = match target {
                Target::Addr(addr) => addr,
                Target::Name(name, port) if name == "tracker.example" => (LOCAL, port).into(),
                Target::Name(name, _) => panic!("nobody asked for {name}"),
            };
            relay.send_to(data, to).ok()?;
        } else {
            relay.send_to(&datagram::wrap(&Target::Addr(from), &buffer[..len]), client?).ok()?;
        }
    }
}

fn behind(proxy: &Proxy, login: &str) -> Session {
    Session::start(SessionConfig { proxy: proxy.config(login), ..config(LOCAL) }).unwrap()
}

/// A tracker that knows one peer.
fn udp_tracker(peer: SocketAddr) -> u16 {
    let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let action = &buffer[8..12];
            let mut answer = [action, &buffer[12..16]].concat();
            if action == [0, 0, 0, 0] {
                answer.extend([7; 8]);
            } else {
                assert_eq!(buffer[len.min(98) - 2..len.min(98)], [0, 1], "the port of nobody");
                answer.extend([0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
                let SocketAddr::V4(peer) = peer else { panic!("IPv4") };
                answer.extend(peer.ip().octets());
                answer.extend(peer.port().to_be_bytes());
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    port
}

fn proxy_failure(events: &Events) -> (String, String) {
    find(events, |kind| match kind {
        EventKind::ProxyFailed { proxy, error } => Some((proxy, error)),
        _ => None,
    })
}

#[test]
fn a_tracker_and_its_peers_are_reached_through_the_proxy_and_nobody_comes_to_us() {
    let (proxy, payload) = (Proxy::start(), Payload::new());
    let (seeder, addr) = honest_seed(&payload);
    let seen = seeder.subscribe().unwrap();
    let leecher = behind(&proxy, "me:secret");
    assert!(leecher.listen_addrs().is_empty());
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions {
        dir: dir.path().into(),
        trackers: Some(vec![vec![format!("udp://tracker.example:{}/", udp_tracker(addr))]]),
        ..AddOptions::default()
    };
    let events = leecher.subscribe().unwrap();
    leecher.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
    let from = find(&seen, |kind| match kind {
        EventKind::PeerConnected { addr, .. } => Some(addr),
        _ => None,
    });
    assert_eq!(
        vec![from],
        *proxy.connections.lock().unwrap(),
        "the only one who came is the proxy"
    );
    assert!(proxy.datagrams.load(Ordering::Relaxed) >= 2);
}

#[test]
fn peers_are_found_by_the_dht_and_reached_by_utp_through_the_proxy() {
    let (proxy, payload) = (Proxy::start(), Payload::new());
    let with = |ip, boot: Option<String>| {
        let dht = DhtConfig { boot: boot.into_iter().collect(), ..DhtConfig::default() };
        SessionConfig { dht, utp: true, ..config(ip) }
    };
    let first = Session::start(with(LOCAL, None)).unwrap();
    let port = first.listen_addrs()[0].port();
    let boot = format!("127.0.0.1:{port}");
    let others: Vec<Session> =
        (0..3).map(|_| Session::start(with(LOCAL, Some(boot.clone()))).unwrap()).collect();
    let knows_all = |session: &Session| session.dht().nodes().is_ok_and(|nodes| nodes.len() >= 3);
    eventually("all know each other", || others.iter().all(knows_all));
    let told = others[0].subscribe().unwrap();
    seed(&others[0], &payload);
    find(&told, |kind| matches!(kind, EventKind::DhtAnswered { stored: 1.., .. }).then_some(()));
    let behind = SessionConfig {
        proxy: proxy.config("me:secret"),
        tcp: false,
        ..with(LOCAL, Some(format!("tracker.example:{port}")))
    };
    let leecher = Session::start(behind).unwrap();
    eventually("it knows them, too", || knows_all(&leecher));
    let events = leecher.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
    leecher.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
    assert!(proxy.connections.lock().unwrap().is_empty());
    assert!(proxy.datagrams.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_refused_login_is_told_and_no_peer_is_blamed() {
    let (proxy, payload) = (Proxy::start(), Payload::new());
    let (_seeder, addr) = honest_seed(&payload);
    let leecher = behind(&proxy, "me:hidden");
    let events = leecher.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), peers: vec![addr], ..AddOptions::default() };
    leecher.add(payload.metainfo, options).unwrap();
    for _ in 0..2 {
        let (name, error) = proxy_failure(&events);
        assert_eq!(name, format!("socks5://{}", proxy.addr));
        assert!(error.contains("user name") && !error.contains("hidden"), "{error}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_told_and_so_is_what_it_could_not_carry() {
    let payload = Payload::new();
    let free = TcpListener::bind((PROXY, 0)).unwrap().local_addr().unwrap();
    let proxy = Some(ProxyConfig::new(format!("http://{free}").parse().unwrap()));
    let leecher = Session::start(SessionConfig { proxy, ..config(LOCAL) }).unwrap();
    let (events, of_trackers) = (leecher.subscribe().unwrap(), leecher.subscribe().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let peers = vec![(HONEST, 9).into()];
    let trackers = Some(vec![vec!["udp://tracker.example/".to_owned()]]);
    let options = AddOptions { dir: dir.path().into(), peers, trackers, ..AddOptions::default() };
    leecher.add(payload.metainfo, options).unwrap();
    assert!(proxy_failure(&events).1.contains("refused"));
    let error = find(&of_trackers, |kind| match kind {
        EventKind::TrackerFailed { error, .. } => Some(error),
        _ => None,
    });
    assert!(error.contains("no datagrams"), "{error}");
}

#[test]
fn a_session_without_its_interface_does_not_start() {
    let network = NetworkConfig { interface: Some("nonsense0".into()), ..NetworkConfig::default() };
    let error = Session::start(SessionConfig { network, ..config(LOCAL) }).unwrap_err();
    assert!(error.to_string().contains("nonsense0"), "{error}");
}

#[test]
fn a_download_over_one_interface() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let network = NetworkConfig { interface: Some("lo".into()), ..NetworkConfig::default() };
    let leecher = Session::start(SessionConfig { network, ..config(LOCAL) }).unwrap();
    let events = leecher.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), peers: vec![addr], ..AddOptions::default() };
    leecher.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
}

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
