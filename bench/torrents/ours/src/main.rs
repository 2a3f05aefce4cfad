//! Many torrents in one session, as `bench/torrents/run` measures them; that says what each command does.

mod made;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::{AddOptions, ListenConfig, Session, SessionConfig, Torrent, TorrentState};
use rustix::time::{ClockId, clock_gettime};
use torrent::metainfo::Metainfo;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["make", dir, count, ref trackers @ ..] => {
            made::make(Path::new(dir), count.parse()?, trackers)
        }
        ["add", dir, idle] => add(Path::new(dir), idle.parse()?),
        ["restore", dir, idle] => restore(Path::new(dir), idle.parse()?),
        _ => Err("no such command: see bench/torrents/run".into()),
    }
}

/// Adds every torrent of `dir` to a session that remembers nothing yet, and ends it in order.
fn add(dir: &Path, idle_seconds: u64) -> Outcome {
    let metainfos = made::read_all(dir)?;
    let count = metainfos.len() as f64;
    let session = start(dir)?;
    let (before, began) = (resident(), Began::now());
    // Read by the handle's thread, so that only one of them is in memory twice.
    let mut torrents = Vec::new();
    for bytes in metainfos {
        let metainfo = Metainfo::parse(&bytes)?;
        torrents.push(
            session.add(metainfo, AddOptions { dir: dir.join("data"), ..AddOptions::default() })?,
        );
    }
    began.report("add");
    let began = Began::now();
    wait_until_all_seed(&torrents);
    began.report("check");
    measure_idle(idle_seconds, before, count);
    let began = Began::now();
    session.shutdown(Duration::from_secs(60));
    began.report("shutdown");
    Ok(())
}

/// Starts a session that remembers its torrents; waits until they do what they did; removes them.
fn restore(dir: &Path, idle_seconds: u64) -> Outcome {
    let count = made::count(dir)? as f64;
    let before = resident();
    let began = Began::now();
    let session = start(dir)?;
    let torrents = session.torrents();
    began.report("start");
    if torrents.len() as f64 != count {
        return Err(format!("{} torrents came back of {count}", torrents.len()).into());
    }
    let wait = Began::now();
    wait_until_all_seed(&torrents);
    wait.report("settle");
    began.report("restore");
    measure_idle(idle_seconds, before, count);
    let began = Began::now();
    torrents.iter().try_for_each(Torrent::remove)?;
    began.report("remove");
    let began = Began::now();
    session.shutdown(Duration::from_secs(60));
    began.report("forget");
    Ok(())
}

fn start(dir: &Path) -> Result<Session, Box<dyn Error>> {
    Ok(Session::start(SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], bind: Some([127, 0, 0, 1].into()) },
        state_dir: Some(dir.join("state")),
        restore: true,
        ..SessionConfig::default()
    })?)
}

fn wait_until_all_seed(torrents: &[Torrent]) {
    for torrent in torrents {
        while torrent.status().state != TorrentState::Seeding {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Lets things settle, then looks at what doing nothing costs.
fn measure_idle(seconds: u64, resident_before: u64, count: f64) {
    std::thread::sleep(Duration::from_secs(7));
    let began = Began::now();
    std::thread::sleep(Duration::from_secs(seconds));
    began.report("idle");
    let each = resident().saturating_sub(resident_before) as f64 / count;
    print(&format!("{{\"test\": \"memory\", \"bytes_each\": {each:.0}}}"));
}

/// The clocks at the start of a test.
struct Began {
    at: Instant,
    cpu: Duration,
}

impl Began {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }

    fn report(&self, test: &str) {
        let (seconds, cpu) = (self.at.elapsed(), cpu_time().saturating_sub(self.cpu));
        print(&format!(
            "{{\"test\": \"{test}\", \"seconds\": {:.6}, \"cpu_seconds\": {:.6}}}",
            seconds.as_secs_f64(),
            cpu.as_secs_f64(),
        ));
    }
}

#[expect(clippy::print_stdout, reason = "the results go to the script that runs this")]
fn print(line: &str) {
    println!("{line}");
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Resident memory, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
