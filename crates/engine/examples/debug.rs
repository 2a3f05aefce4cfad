//! Everything that happens while a torrent is checked and then downloaded into the folder it is started
//! in: each event with its time, on the screen and in a log file.
//!
//! ```text
//! cargo run -p engine --example debug -- FILE.torrent [LOG]
//! ```

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use engine::{
    AddOptions, EventKind, EventMask, Events, ListenConfig, Session, SessionConfig, StatusWord,
};
use torrent::metainfo::Metainfo;

/// Where all is told.
struct Log {
    file: File,
    begun: Instant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let file = args.next().ok_or("name a torrent: debug FILE.torrent [LOG]")?;
    let log = args.next().unwrap_or_else(|| "debug.log".into());
    let mut log = Log { file: File::create(log)?, begun: Instant::now() };

    log.say("loading")?;
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    // `BIND=127.0.0.1` keeps it on this machine.
    let bind = std::env::var("BIND").ok().map(|ip| ip.parse()).transpose()?;
    let listen = ListenConfig { ports: vec![6881..=6999, 0..=0], bind };
    let session = Session::start(SessionConfig { listen, ..SessionConfig::default() })?;
    let events = session.subscribe_to(EventMask::ALL)?;
    let options = AddOptions { dir: ".".into(), is_stopped: true, ..AddOptions::default() };
    let torrent = session.add(metainfo, options)?;

    log.say("checking")?;
    torrent.check()?;
    log.until(
        &events,
        |kind| matches!(kind, EventKind::StatusChanged(word) if word.contains(StatusWord::CHECKED)),
    )?;
    log.say("starting")?;
    torrent.start()?;
    if !torrent.is_complete() {
        log.until(&events, |kind| matches!(kind, EventKind::Completed))?;
    }
    log.say(&format!("complete: {torrent:#}"))?;
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

impl Log {
    fn say(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        self.line(Instant::now(), text)
    }

    fn line(&mut self, at: Instant, text: &str) -> Result<(), Box<dyn Error>> {
        let line =
            format!("{:12.6} {text}", at.saturating_duration_since(self.begun).as_secs_f64());
        println!("{line}");
        Ok(writeln!(self.file, "{line}")?)
    }

    /// Tells of each event until `is_last`.
    fn until(
        &mut self,
        events: &Events,
        is_last: impl Fn(&EventKind) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        loop {
            let event = events.recv()?;
            // What strangers say is in quotes, without anything that a terminal obeys.
            let (severity, name) = (event.kind.severity(), event.kind.name());
            self.line(event.at, &format!("{severity:?} {name}: {:?}", event.kind))?;
            match event.kind {
                EventKind::DiskFailed(why) => return Err(why.into()),
                kind if is_last(&kind) => return Ok(()),
                _ => {}
            }
        }
    }
}
