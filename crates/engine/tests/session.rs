//! Sessions and a torrent between them, over loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use engine::disk::hash_files;
use engine::{
    AddOptions, Event, EventKind, ListenConfig, Session, SessionConfig, Torrent, TorrentState,
};
use tempfile::TempDir;
use torrent::Rng;
use torrent::metainfo::{Metainfo, create::Builder};

/// A piece across three files, an empty one, a name beyond ASCII, and a short last piece.
const FILES: [(&str, usize); 6] = [
    ("a.bin", 100_000),
    ("tiny", 10),
    ("empty", 0),
    ("ünï/cödé 漢字.dat", 700_001),
    ("b/c/d.bin", 1_500_000),
    ("z", 1),
];
const PIECE_LEN: u32 = 64 * 1024;

/// A folder with a torrent's files in it.
struct Payload {
    dir: TempDir,
    metainfo: Metainfo,
}

impl Payload {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::from_seed(7);
        for (path, len) in FILES {
            let path = dir.path().join("payload").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let words: Vec<u8> =
                (0..len.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).collect();
            fs::write(path, &words[..len]).unwrap();
        }
        let split = |path: &str| path.split('/').map(|name| name.as_bytes().to_vec()).collect();
        let files = FILES.iter().map(|&(path, len)| (split(path), len as u64)).collect();
        let builder = Builder {
            name: b"payload".to_vec(),
            files,
            piece_len: Some(PIECE_LEN),
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout().unwrap());
        let hashes = hash_files(&layout, dir.path(), 2, &AtomicBool::new(false), |_| {}).unwrap();
        let metainfo = Metainfo::parse(&builder.finish(&hashes).unwrap()).unwrap();
        Self { dir, metainfo }
    }

    fn assert_equals(&self, dir: &Path) {
        for (path, _) in FILES {
            let (ours, theirs) = (
                fs::read(self.dir.path().join("payload").join(path)).unwrap(),
                fs::read(dir.join("payload").join(path)).unwrap(),
            );
            assert!(ours == theirs, "{path} differs");
        }
    }
}

fn config(ip: IpAddr) -> SessionConfig {
    SessionConfig {
        listen: ListenConfig { ports: 0..=0, bind: Some(ip) },
        ..SessionConfig::default()
    }
}

fn session(ip: IpAddr) -> Session {
    Session::start(config(ip)).unwrap()
}

fn seed(session: &Session, payload: &Payload) -> Torrent {
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: payload.dir.path().into(), ..AddOptions::default() };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::StateChanged(TorrentState::Seeding)));
    torrent
}

/// Reads events until `is_it`; returns those before.
fn wait_for(events: &Receiver<Event>, is_it: impl Fn(&EventKind) -> bool) -> Vec<EventKind> {
    let mut before = Vec::new();
    loop {
        match events.recv_timeout(GUARD) {
            Ok(event) if is_it(&event.kind) => return before,
            Ok(event) => before.push(event.kind),
            Err(_) => panic!("it did not happen; before: {before:?}"),
        }
    }
}

fn fetch(
    payload: &Payload,
    from: SocketAddr,
    config: SessionConfig,
    dir: &Path,
) -> (Session, Torrent) {
    let session = Session::start(config).unwrap();
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: dir.into(), peers: vec![from], ..AddOptions::default() };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    (session, torrent)
}

#[test]
fn all_files_come_over_whatever_the_family() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let payload = Payload::new();
        let seeder = session(ip);
        seed(&seeder, &payload);
        let dir = tempfile::tempdir().unwrap();
        let (leecher, _) = fetch(&payload, seeder.listen_addrs()[0], config(ip), dir.path());
        leecher.shutdown(GUARD);
        payload.assert_equals(dir.path());
    }
}

/// Long enough for any machine; no test waits for it to pass.
const GUARD: Duration = Duration::from_secs(60);
