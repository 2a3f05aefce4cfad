//! Sessions that know only one another's node of the DHT, on loopback.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{LOCAL, Payload, config, eventually, wait_for};
use engine::{
    AddOptions, DhtConfig, DhtError, EventKind, FilterFn, FilterPoint, Session, SessionConfig,
};
use torrent::InfoHash;
use torrent::bencode::OwnedValue;
use torrent::dht::{Announce, Item, NodeId, Scrape, public_key};
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Builder;

/// A session whose node begins with that of another.
fn beside(other: Option<&Session>) -> Session {
    let boot = other.iter().map(|other| other.listen_addrs()[0].to_string()).collect();
    let dht = DhtConfig { boot, answers_per_second: 10_000, ..DhtConfig::default() };
    Session::start(SessionConfig { dht, ..config(LOCAL) }).expect("started")
}

/// Five sessions that have found each other.
fn network() -> Vec<Session> {
    let mut sessions = vec![beside(None)];
    (0..4).for_each(|_| sessions.push(beside(sessions.first())));
    let nodes = |session: &Session| session.dht().nodes().expect("on").len();
    eventually("all know each other", || sessions.iter().all(|session| nodes(session) >= 3));
    sessions
}

#[test]
fn programs_find_peers_and_keep_items_through_a_handle() {
    let sessions = network();
    let [one, other] = [&sessions[1], &sessions[3]].map(Session::dht);

    let hash = InfoHash([7; 20]);
    let mut announced = one.announce(hash).expect("begun");
    assert_eq!(announced.by_ref().count(), 0, "nobody else has it");
    assert!(announced.summary().expect("ended").stored >= 3);
    let found: Vec<SocketAddr> = other.peers(hash).expect("begun").collect();
    assert_eq!(found, [sessions[1].listen_addrs()[0]]);
    assert_eq!(other.scrape(hash), Ok(Some(Scrape { seeds: 0, downloaders: 1 })));
    assert_eq!(other.scrape(InfoHash([8; 20])), Ok(None));
    let beside = Announce { is_seed: true, ..Announce::at(4242) };
    assert_eq!(one.announce_as(hash, beside).expect("begun").count(), 1, "itself, of before");
    let mut found: Vec<u16> = other.peers(hash).expect("begun").map(|peer| peer.port()).collect();
    let mut wanted = [4242, sessions[1].listen_addrs()[0].port()];
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let samples = other.sample(hash.into()).expect("asked");
    assert!(samples.iter().any(|sample| sample.info_hashes == [hash] && sample.total == 1));

    let item = Item::immutable(b"5:hello".to_vec()).expect("fits");
    assert!(one.put(item.clone(), None).expect("asked") >= 3);
    assert_eq!(other.get(item.target()).expect("asked"), Some(item));
    assert_eq!(other.get(NodeId([1; 20])).expect("asked"), None);

    let secret = [9; 32];
    for seq in 1..=2 {
        let value = format!("i{seq}e").into_bytes();
        let item = Item::sign(&secret, b"salt", seq, value).expect("fits");
        assert!(one.put(item, Some(seq - 1)).expect("asked") >= 3);
    }
    let newest = other.get_signed(&public_key(&secret), b"salt").expect("asked");
    assert_eq!(newest.map(|item| item.value().to_vec()), Some(b"i2e".to_vec()));
    assert_eq!(other.get_signed(&public_key(&secret), b"").expect("asked"), None);

    let status = other.status().expect("on");
    assert!(status.is_bootstrapped && status.ids[0].is_some() && status.stats.nodes[0] >= 3);
    assert!(!one.find_nodes(NodeId([3; 20])).expect("asked").is_empty());
}

#[test]
fn a_torrent_comes_from_a_peer_that_only_the_dht_knows() {
    let payload = Payload::new();
    let sessions = network();
    let dir = tempfile::tempdir().expect("a folder");
    let seed = payload.here();
    let leech = AddOptions { dir: dir.path().to_owned(), ..AddOptions::default() };
    let events = sessions[1].subscribe().expect("a queue");
    sessions[1].add(payload.metainfo.clone(), seed).expect("added");
    // Who looks for it before others have heard of it looks again after a while.
    let is_stored = |kind: &EventKind| matches!(kind, EventKind::DhtAnswered { stored: 1.., .. });
    wait_for(&events, is_stored);
    let leech = sessions[4].add(payload.metainfo.clone(), leech).expect("added");
    eventually("it is here", || leech.is_complete());
    payload.assert_equals(dir.path());
}

#[test]
fn b27_nodes_that_a_torrent_names_enter_the_dht() {
    let node = beside(None);
    let at = node.listen_addrs()[0];
    let named = [OwnedValue::from(at.ip().to_string().as_str()), i64::from(at.port()).into()];
    let builder = Builder {
        name: b"payload".to_vec(),
        files: vec![(Vec::new(), 1)],
        extra: [(b"nodes".to_vec(), OwnedValue::List(vec![OwnedValue::List(named.into())]))].into(),
        ..Builder::default()
    };
    let metainfo = Metainfo::parse(&builder.finish(&[[1; 20]]).expect("fits")).expect("a torrent");
    let other = beside(None);
    let dir = tempfile::tempdir().expect("a folder");
    let add = AddOptions { dir: dir.path().to_owned(), ..AddOptions::default() };
    let _torrent = other.add(metainfo, add).expect("added");
    eventually("it is known", || {
        other.dht().nodes().is_ok_and(|nodes| nodes.iter().any(|node| node.addr == at))
    });
}

#[test]
fn who_is_filtered_is_not_asked_and_without_a_node_nothing_is() {
    let first = beside(None);
    let boot = vec![first.listen_addrs()[0].to_string()];
    let dht = DhtConfig { boot, ..DhtConfig::default() };
    let on_filter = Some(FilterFn::new(|_, point| point != FilterPoint::Dht));
    let veto = Session::start(SessionConfig { dht, on_filter, ..config(LOCAL) }).expect("started");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(veto.dht().nodes(), Ok(Vec::new()));
    assert_eq!(first.dht().status().expect("on").stats.counts.received, 0);
    let off = Session::start(config(LOCAL)).expect("started");
    assert_eq!(off.dht().nodes(), Err(DhtError::Off));
    assert_eq!(off.dht().peers(InfoHash([1; 20])).err(), Some(DhtError::Off));
    let gone = first.dht();
    drop(first);
    assert!(matches!(gone.nodes(), Err(DhtError::Gone(_))));
}

#[test]
fn the_next_session_on_the_same_port_is_the_same_node() {
    let state = tempfile::tempdir().expect("a folder");
    let first = beside(None);
    let begin = |boot: Vec<String>, port: u16| {
        let mut config = config(LOCAL);
        config.listen.ports = vec![port..=port];
        config.state_dir = Some(state.path().to_owned());
        config.dht = DhtConfig { boot, ..DhtConfig::default() };
        Session::start(config).expect("started")
    };
    let one = begin(vec![first.listen_addrs()[0].to_string()], 0);
    eventually("it knows the first", || one.dht().nodes().expect("on").len() == 1);
    let port = one.listen_addrs()[0].port();
    let id = one.dht().status().expect("on").ids[0];
    one.shutdown(Duration::from_secs(5));
    let again = begin(Vec::new(), port);
    assert_eq!(again.dht().status().expect("on").ids[0], id);
    eventually("it knows the first again", || again.dht().nodes().expect("on").len() == 1);
    again.shutdown(Duration::from_secs(5));
    // One that only asks, at another port, leaves the name as it is.
    let mut asker = config(LOCAL);
    asker.state_dir = Some(state.path().to_owned());
    asker.dht = DhtConfig { is_read_only: true, boot: Vec::new(), ..DhtConfig::default() };
    let asker = Session::start(asker).expect("started");
    assert_ne!(asker.dht().status().expect("on").ids[0], id);
    eventually("it knows the first, too", || asker.dht().nodes().expect("on").len() == 1);
    asker.shutdown(Duration::from_secs(5));
    let again = begin(Vec::new(), port);
    assert_eq!(again.dht().status().expect("on").ids[0], id);
    again.shutdown(Duration::from_secs(5));
    let other = begin(Vec::new(), 0);
    assert_ne!(other.dht().status().expect("on").ids[0], id);
}
