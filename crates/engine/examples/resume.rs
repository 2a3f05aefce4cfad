//! Downloads a torrent into a folder, and keeps a file beside the torrent in which it is written what is
//! there, so that the next run goes on at once: saved when a piece has come, every few seconds at most, and at the
//! end. The one before is kept as `.bak`.
//!
//! ```text
//! cargo run -p engine --example resume -- FILE.torrent [FOLDER]
//! ```

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use std::error::Error;
use std::time::{Duration, Instant};

use engine::{AddOptions, EventKind, ListenConfig, Session, SessionConfig, Torrent};
use torrent::metainfo::Metainfo;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let file = args.next().ok_or("name a torrent: resume FILE.torrent [FOLDER]")?;
    let dir = args.next().unwrap_or_else(|| ".".into());
    let mut resume_file = file.clone();
    resume_file.push(".resume");

    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    // `BIND=127.0.0.1` keeps it on this machine.
    let bind = std::env::var("BIND").ok().map(|ip| ip.parse()).transpose()?;
    let listen = ListenConfig { ports: vec![6881..=6999, 0..=0], bind };
    let session = Session::start(SessionConfig { listen, ..SessionConfig::default() })?;
    let events = session.subscribe()?;
    let options = AddOptions {
        dir: dir.into(),
        resume_file: Some(resume_file.clone().into()),
        ..AddOptions::default()
    };
    let torrent = session.add(metainfo, options)?;

    let mut saved_at = Instant::now();
    for event in events {
        match event.kind {
            EventKind::Completed => break,
            EventKind::DiskFailed(why) => return Err(why.into()),
            EventKind::ResumeRefused { path, error } => println!("{}: {error}", path.display()),
            EventKind::PieceVerified(_) if saved_at.elapsed() >= SAVE_EVERY => {
                // During a check there is nothing to be saved yet.
                if torrent.save_resume_data(&resume_file).is_ok() {
                    show(&torrent)?;
                }
                saved_at = Instant::now();
            }
            _ => {}
        }
    }
    torrent.save_resume_data(&resume_file)?;
    show(&torrent)?;
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

fn show(torrent: &Torrent) -> Result<(), Box<dyn Error>> {
    println!("---");
    for file in torrent.files()? {
        println!("{file} is {:.2}% complete", file.percent());
    }
    Ok(())
}

const SAVE_EVERY: Duration = Duration::from_secs(5);
