//! A client of two threads: one downloads and seeds, the other has what is on disk checked meanwhile, and
//! watches.
//!
//! `cargo run -p engine --example threads [TORRENT]`, in the folder that the files are in or go to. It ends
//! with its input, or by Ctrl-C.

#![expect(clippy::print_stderr, reason = "a program for a terminal")]

use std::error::Error;
use std::time::Duration;
use std::{env, fs, io, thread};

use engine::{
    AddOptions, CheckError, EventKind, EventMask, Session, SessionConfig, StatusWord, Torrent,
};
use torrent::metainfo::Metainfo;

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).unwrap_or_else(|| "a.legal.torrent".to_owned());
    let mut config = SessionConfig::default();
    // `BIND=127.0.0.1` keeps it on this machine.
    config.listen.bind = env::var("BIND").ok().map(|ip| ip.parse()).transpose()?;
    let session = Session::start(config)?;
    let torrent = session.add(Metainfo::parse(&fs::read(file)?)?, AddOptions::default())?;
    let checked = torrent.clone();
    thread::spawn(move || check(&checked));
    while !torrent.is_complete() {
        thread::sleep(Duration::from_millis(250));
    }
    eprintln!("complete");
    // It seeds.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

fn check(torrent: &Torrent) -> Result<(), CheckError> {
    thread::sleep(Duration::from_secs(1));
    let is_checking = |word: StatusWord| word.contains(StatusWord::CHECKING);
    let events = torrent.subscribe_to(EventMask::PIECES | EventMask::STATUS)?;
    // The check that it begins with may not be over.
    while torrent.check() == Err(CheckError::AlreadyChecking) {
        thread::sleep(Duration::from_secs(1));
    }
    let is_begin =
        |kind: &EventKind| matches!(kind, EventKind::StatusChanged(word) if is_checking(*word));
    for event in events.skip_while(|event| !is_begin(&event.kind)) {
        match event.kind {
            EventKind::PieceVerified(piece) => eprintln!("Yay {piece}"),
            EventKind::PieceFailed(piece) => eprintln!("Boo {piece}"),
            EventKind::StatusChanged(word) if !is_checking(word) => break,
            _ => {}
        }
    }
    eprintln!("goodbye");
    Ok(())
}
