//! `flotilla demo`: a tracker, a seeder and three leechers over loopback, in one process.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::disk::{CheckOptions, hash_files};
use engine::{
    AddOptions, DhtConfig, ListenConfig, NatConfig, Session, SessionConfig, SessionLimits, Torrent,
    TorrentState,
};
use torrent::Rng;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::{Builder, NewFile};
use torrent::tracker::server::TableLimits;

use crate::cli::Demo;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::USER_AGENT;
use crate::terminal::Terminal;
use crate::text::{bytes, count, percent, rate, time};
use crate::tracker_host::TrackerHost;

pub(crate) fn run(options: &Demo, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let folder = Folder::new()?;
    let result = play(options, terminal, &interrupt, &folder.0);
    terminal.show(&[]);
    result
}

fn play(
    options: &Demo,
    terminal: &Terminal,
    interrupt: &Interrupt,
    dir: &Path,
) -> Result<(), Failure> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let anywhere = [SocketAddr::new(loopback, 0)];
    let tracker =
        TrackerHost::start(&anywhere, &[], TableLimits::default()).map_err(Failure::Failed)?;
    let url = tracker
        .http_addrs()
        .first()
        .map_or_else(String::new, |addr| format!("http://{addr}/announce"));
    terminal.line(&format!("tracker   {url}"));

    let files = make_up(&dir.join("seeder/demo"), options.size, interrupt)?;
    let builder = Builder {
        name: b"demo".to_vec(),
        files,
        trackers: vec![vec![url]],
        created_by: Some(USER_AGENT.to_owned()),
        ..Builder::default()
    };
    let layout = Arc::new(builder.layout()?);
    let threads = CheckOptions::default().threads;
    let hashes = hash_files(&layout, &dir.join("seeder"), threads, interrupt.flag(), |_| {})?;
    let metainfo = Metainfo::parse(&builder.finish(&hashes)?)?;
    terminal.line(&format!(
        "torrent   {}, {} in {} of {}",
        count(layout.files().len() as u64, "file"),
        bytes(layout.total_len()),
        count(layout.piece_count(), "piece"),
        bytes(layout.piece_len().into()),
    ));

    let start = |name: &str, upload: Option<u64>| -> Result<Client, Failure> {
        let config = SessionConfig {
            listen: ListenConfig { ports: vec![0..=0], bind: Some(loopback) },
            limits: SessionLimits { upload, local_too: true, ..SessionLimits::default() },
            user_agent: USER_AGENT.to_owned(),
            nat: NatConfig::OFF,
            dht: DhtConfig::off(),
            lsd: false,
            ..SessionConfig::default()
        };
        let session = Session::start(config)?;
        let add = AddOptions { dir: dir.join(name), ..AddOptions::default() };
        let torrent = session.add(metainfo.clone(), add)?;
        let addr = session.listen_addrs().first().map_or_else(String::new, ToString::to_string);
        terminal.line(&format!("{name:<9} {addr}"));
        Ok(Client { name: name.to_owned(), session, torrent, done_after: None })
    };
    let mut clients = vec![start("seeder", Some(options.limit_up))?];
    while clients[0].torrent.status().state != TorrentState::Seeding {
        if interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        std::thread::sleep(TICK);
    }
    for name in ["anna", "bruno", "carla"] {
        clients.push(start(name, None)?);
    }
    let started_at = Instant::now();
    exchange(&mut clients, started_at, terminal, interrupt)?;
    terminal.show(&[]);
    let elapsed = started_at.elapsed();
    for client in &clients {
        client.session.shutdown(PATIENCE);
    }
    let total = layout.total_len();
    for client in &clients {
        let status = client.torrent.status();
        let (down, up) = (bytes(status.downloaded), bytes(status.uploaded));
        let took = client.done_after.filter(|_| status.downloaded > 0);
        let after =
            took.map_or_else(String::new, |after| format!(", complete after {}", time(after)));
        terminal.line(&format!("{:<9} received {down}, sent {up}{after}", client.name));
    }
    let copies = clients.len() as u64 - 1;
    let speed = (total * copies) as f64 / elapsed.as_secs_f64().max(0.001);
    let (gave, shared) = (clients[0].torrent.status().uploaded, bytes(total * copies));
    terminal.line(&format!(
        "done: {copies} copies, {shared} in {} ({} in all); the seeder sent only {} of it",
        time(elapsed),
        rate(speed as u64),
        bytes(gave),
    ));
    for client in &clients {
        let copy = hash_files(&layout, &dir.join(&client.name), threads, interrupt.flag(), |_| {})?;
        if copy != hashes {
            return Err(Failure::Failed(format!("{}: its copy differs", client.name)));
        }
    }
    terminal.line("every file has arrived as it was sent");
    Ok(())
}

struct Client {
    name: String,
    session: Session,
    torrent: Torrent,
    done_after: Option<Duration>,
}

/// Until all have everything.
fn exchange(
    clients: &mut [Client],
    started_at: Instant,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut told_at = Instant::now();
    loop {
        let mut lines = Vec::new();
        for client in clients.iter_mut() {
            let status = client.torrent.status();
            if let TorrentState::Failed(why) = &status.state {
                return Err(Failure::Failed(format!("{}: {why}", client.name)));
            }
            if status.state == TorrentState::Seeding && client.done_after.is_none() {
                client.done_after = Some(started_at.elapsed());
            }
            lines.push(format!(
                "{:<9} {:>5}%  down {:>10}  up {:>10}  {}",
                client.name,
                percent(status.progress()),
                rate(status.download_rate),
                rate(status.upload_rate),
                count(status.peers_connected as u64, "peer"),
            ));
        }
        if terminal.is_live() {
            terminal.show(&lines);
        } else if told_at.elapsed() >= TELL_EVERY {
            told_at = Instant::now();
            lines.iter().for_each(|line| terminal.line(line));
        }
        if clients.iter().all(|client| client.done_after.is_some()) {
            return Ok(());
        }
        if interrupt.is_set() || terminal.is_gone() {
            return Err(Failure::Interrupted);
        }
        std::thread::sleep(TICK);
    }
}

/// Files with made-up bytes in them: one large, some small, one empty.
fn make_up(dir: &Path, size: u64, interrupt: &Interrupt) -> Result<Vec<NewFile>, Failure> {
    let wrong = |error: std::io::Error| Failure::at(dir, error);
    fs::create_dir_all(dir.join("small")).map_err(wrong)?;
    let small = size / 64;
    let files = [
        ("large.bin", size - 3 * small),
        ("small/1.bin", small),
        ("small/2.bin", small),
        ("small/3.bin", small),
        ("small/empty", 0),
    ];
    let mut rng = Rng::from_seed(size);
    for (name, len) in files {
        let mut file = BufWriter::new(fs::File::create(dir.join(name)).map_err(wrong)?);
        let mut rest = len;
        while rest > 0 {
            if interrupt.is_set() {
                return Err(Failure::Interrupted);
            }
            let words: Vec<u8> = (0..8192).flat_map(|_| rng.u64().to_le_bytes()).collect();
            let now = rest.min(words.len() as u64);
            file.write_all(&words[..now as usize]).map_err(wrong)?;
            rest -= now;
        }
        file.flush().map_err(wrong)?;
    }
    let names = |path: &str| path.split('/').map(|name| name.as_bytes().to_vec()).collect();
    Ok(files.iter().map(|(path, len)| (names(path), *len)).collect())
}

/// A folder of our own, gone when the demo ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("flotilla-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| Failure::at(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove");
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);
