//! A session that a script leads by the hand: it reads a command a line, words apart by tabs, and answers each with a line of JSON.
//!
//! ```text
//! add TORRENT DIR           adds a torrent whose data is there; answers when it has been checked
//! check N                   checks the N-th torrent again, counted from 0; answers when that is over
//! fetch TORRENT DIR PEER    downloads a torrent, answers when it is complete, and removes it
//! check-on N, check-off     checks the N-th again and again; how many bytes in how many seconds
//! lag-on, lag-off           samples how long the engine takes to answer: the thread's number; the percentiles
//! ```

use std::io::stdin;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::{AddOptions, Gone, ListenConfig, Session, SessionConfig, Torrent, TorrentState};
use torrent::metainfo::Metainfo;

use crate::lag::Sampler;
use crate::{Began, Outcome, print};

/// Obeys until the standard input ends.
pub(crate) fn run(addr: IpAddr) -> Outcome {
    let listen = ListenConfig { ports: vec![0..=0], bind: Some(addr) };
    let session = Session::start(SessionConfig { listen, ..SessionConfig::default() })?;
    print(&format!("{{\"listens\": \"{}\"}}", session.listen_addrs()[0]));
    let mut torrents: Vec<Torrent> = Vec::new();
    let (mut sampler, mut checks) = (None, None);
    for line in stdin().lines() {
        let line = line?;
        let began = Began::now();
        let nth = |number: &str| -> Result<Torrent, Box<dyn std::error::Error>> {
            Ok(torrents.get(number.parse::<usize>()?).ok_or("there is no such torrent")?.clone())
        };
        let more = match line.split('\t').collect::<Vec<_>>()[..] {
            ["add", file, dir] => {
                let torrent = add(&session, file, dir, None)?;
                until_complete(&torrent)?;
                torrents.push(torrent);
                String::new()
            }
            ["check", number] => {
                let torrent = nth(number)?;
                torrent.check()?;
                until_complete(&torrent)?;
                String::new()
            }
            ["fetch", file, dir, peer] => {
                let torrent = add(&session, file, dir, Some(peer))?;
                until_complete(&torrent)?;
                let fields = began.fields();
                torrent.remove()?;
                print(&format!("{{{fields}}}"));
                continue;
            }
            ["check-on", number] => {
                checks = Some(Checks::start(nth(number)?));
                String::new()
            }
            ["check-off"] => checks.take().ok_or("no check is on")?.end()?,
            ["lag-on"] => {
                let started = Sampler::start(nth("0")?)?;
                let thread_id = started.thread_id;
                sampler = Some(started);
                format!(", \"thread\": {thread_id}")
            }
            ["lag-off"] => format!(", {}", sampler.take().ok_or("the lag is not on")?.end()?),
            _ => return Err(format!("no such command: {line}").into()),
        };
        print(&format!("{{{}{more}}}", began.fields()));
    }
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

fn add(
    session: &Session,
    file: &str,
    dir: &str,
    peer: Option<&str>,
) -> Result<Torrent, Box<dyn std::error::Error>> {
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let peers = peer.map(str::parse).transpose()?.into_iter().collect();
    let options = AddOptions { dir: Path::new(dir).to_owned(), peers, ..AddOptions::default() };
    Ok(session.add(metainfo, options)?)
}

/// Waits until all of it is here.
fn until_complete(torrent: &Torrent) -> Outcome {
    loop {
        match &torrent.status().state {
            TorrentState::Seeding => return Ok(()),
            TorrentState::Failed(why) => return Err(why.clone().into()),
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// One check after the other, until told to end.
struct Checks {
    thread: JoinHandle<Result<(u64, Duration), Gone>>,
    is_over: Arc<AtomicBool>,
}

impl Checks {
    fn start(torrent: Torrent) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let (began, mut count) = (Instant::now(), 0);
            while !stop.load(Ordering::Relaxed) {
                torrent.check().map_err(|_refused| Gone)?;
                until_complete(&torrent).map_err(|_failed| Gone)?;
                count += 1;
            }
            Ok((count * torrent.status().total_len, began.elapsed()))
        });
        Self { thread, is_over }
    }

    /// Ends after the check that runs.
    fn end(self) -> Result<String, Gone> {
        self.is_over.store(true, Ordering::Relaxed);
        let (bytes, elapsed) = self.thread.join().unwrap_or(Err(Gone))?;
        Ok(format!(", \"checked\": {bytes}, \"checked_seconds\": {:.6}", elapsed.as_secs_f64()))
    }
}
