//! A client for a terminal, for several torrents: downloads them, then seeds until Ctrl-C. What is there of
//! `F` is kept in `F.resume`. Ctrl-C saves that and shows how everything stands; twice within three seconds
//! ends the program.
//!
//! ```text
//! cargo run -p engine --example console -- --directory downloads --options upload=100000 FILE.torrent…
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::AddrParseError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clap::{ArgAction, Parser};
use engine::{
    AddOptions, Event, EventKind, EventMask, ListenConfig, Packet, Session, SessionConfig,
    Severity, Torrent,
};
use signal_hook::consts::SIGINT;
use torrent::metainfo::Metainfo;
use torrent::wire::Message;
use torrent::{Block, InfoHash, PieceIndex};

/// Downloads torrents and seeds them
#[derive(Debug, Parser)]
#[command(
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    arg_required_else_help = true
)]
struct Arguments {
    /// A torrent file; may be repeated
    #[arg(short, long = "torrent", value_name = "FILE")]
    torrents: Vec<PathBuf>,
    /// More torrent files
    #[arg(value_name = "FILE", required_unless_present = "torrents")]
    more: Vec<PathBuf>,
    /// The port to listen on; 0 lets the system choose
    #[arg(short, long, default_value_t = 0)]
    port: u16,
    /// The folder to download to
    #[arg(short, long, default_value = ".")]
    directory: PathBuf,
    /// Hash everything that is there first
    #[arg(long, overrides_with = "no_check")]
    check: bool,
    /// Hash only what has changed since the last run: the default
    #[arg(long, overrides_with = "check")]
    no_check: bool,
    /// A setting, as NAME=VALUE: download, upload (bytes each second), peers, peers_of_torrent,
    /// peers_of_host, half_open, upload_slots, or encryption (off, allowed, preferred, required); may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Show this
    #[arg(short = '?', short_alias = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Show the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// A torrent, and the file that remembers what is there of it.
type Torrents = BTreeMap<InfoHash, (Torrent, PathBuf)>;

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("console: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&is_interrupted))?;
    let session = Session::start(config(&arguments)?)?;
    let events = session.subscribe_to(EventMask::USUAL | EventMask::PACKETS)?;
    let torrents = load(&session, &arguments);
    if torrents.is_empty() {
        return Err("no torrent could be loaded: name one at least that can be read".into());
    }
    let mut interrupted_at: Option<Instant> = None;
    let mut save_at = Instant::now() + SAVE_EVERY;
    let mut has_news = false;
    loop {
        match events.recv_timeout(LOOK_EVERY) {
            Ok(event) => {
                has_news |=
                    matches!(event.kind, EventKind::PieceVerified(_) | EventKind::Completed);
                tell(&event, &torrents);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the session has ended".into()),
        }
        if has_news && Instant::now() >= save_at {
            save(&torrents);
            (has_news, save_at) = (false, Instant::now() + SAVE_EVERY);
        }
        if is_interrupted.swap(false, Ordering::Relaxed) {
            if interrupted_at.is_some_and(|at| at.elapsed() < TWICE_WITHIN) {
                break;
            }
            interrupted_at = Some(Instant::now());
            save(&torrents);
            println!("{session:#}");
            torrents.values().for_each(|(torrent, _)| println!("{torrent:#}"));
            println!("Ctrl-C again, within three seconds, ends this");
        }
    }
    save(&torrents);
    session.shutdown(Duration::from_secs(3));
    Ok(())
}

fn config(arguments: &Arguments) -> Result<SessionConfig, String> {
    // `BIND=127.0.0.1` keeps it on this machine.
    let bind = std::env::var("BIND").ok().map(|ip| ip.parse()).transpose();
    let bind = bind.map_err(|error: AddrParseError| format!("BIND: {error}"))?;
    let listen = ListenConfig { ports: vec![arguments.port..=arguments.port], bind };
    let mut config = SessionConfig { listen, ..SessionConfig::default() };
    for option in &arguments.options {
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("{option:?} is no option: write NAME=VALUE"))?;
        let number = || {
            let number = value.parse::<usize>().map_err(|error| error.to_string());
            number.map_err(|error| format!("{name}={value}: {error}; give a whole number"))
        };
        let rate = || number().map(|rate| (rate > 0).then_some(rate as u64));
        let limits = &mut config.limits;
        match name {
            "download" => limits.download = rate()?,
            "upload" => limits.upload = rate()?,
            "peers" => limits.connections_max = number()?,
            "peers_of_torrent" => limits.connections_per_torrent_max = number()?,
            "peers_of_host" => limits.connections_per_host_max = number()?,
            "half_open" => limits.half_open_max = number()?,
            "upload_slots" => limits.upload_slots = Some(number()?),
            "encryption" => {
                config.encryption = value.parse().map_err(|error| format!("{value:?}: {error}"))?;
            }
            _ => return Err(format!("there is no option {name:?}: see --help for their names")),
        }
    }
    Ok(config)
}

/// Adds what can be read. Of the rest it is told why not.
fn load(session: &Session, arguments: &Arguments) -> Torrents {
    let mut torrents = Torrents::new();
    for file in arguments.torrents.iter().chain(&arguments.more) {
        match add(session, file, arguments) {
            Ok((torrent, resume_file)) => {
                let hash = torrent.info_hash().to_string();
                println!("Loaded '{}' [{}...{}]", file.display(), &hash[..4], &hash[36..]);
                torrents.insert(torrent.info_hash(), (torrent, resume_file));
            }
            Err(error) => eprintln!("warning: {}: {error}", file.display()),
        }
    }
    torrents
}

fn add(
    session: &Session,
    file: &Path,
    arguments: &Arguments,
) -> Result<(Torrent, PathBuf), Box<dyn Error>> {
    let metainfo = Metainfo::parse(&std::fs::read(file)?)?;
    let mut resume_file = file.as_os_str().to_owned();
    resume_file.push(".resume");
    let options = AddOptions {
        dir: arguments.directory.clone(),
        check: arguments.check,
        resume_file: Some(resume_file.clone().into()),
        ..AddOptions::default()
    };
    Ok((session.add(metainfo, options)?, resume_file.into()))
}

fn save(torrents: &Torrents) {
    for (torrent, resume_file) in torrents.values() {
        if let Err(error) = torrent.save_resume_data(resume_file) {
            eprintln!("warning: {torrent} is not saved: {error}");
        }
    }
}

fn tell(event: &Event, torrents: &Torrents) {
    let block = |what, addr: &dyn std::fmt::Display, block: &Block| {
        let Block { piece, offset, len } = block;
        passing(&format!("{what} {addr}: piece {piece}, offset {offset}, length {len}"));
    };
    match &event.kind {
        EventKind::PacketSent { addr, packet } => match packet {
            Packet::Message(Message::Request(of)) => block("REQUESTING", addr, of),
            Packet::Message(Message::Cancel(of)) => block("CANCELING ", addr, of),
            Packet::Message(Message::Reject(of)) => block("REJECTING ", addr, of),
            Packet::Piece(of) => block("SENDING   ", addr, of),
            Packet::Message(_) | Packet::Handshake(_) => {}
        },
        EventKind::PacketReceived { addr, packet: Packet::Piece(of) } => {
            block("RECEIVED  ", addr, of);
        }
        EventKind::PacketReceived { addr, packet: Packet::Message(Message::Reject(of)) } => {
            block("REJECTED  ", addr, of);
        }
        EventKind::PieceVerified(piece) => verdict("pass", *piece, event, torrents),
        EventKind::PieceFailed(piece) => verdict("fail", *piece, event, torrents),
        kind if kind.severity() >= Severity::Warning => {
            eprintln!("warning: {}: {kind:?}", kind.name());
        }
        _ => {}
    }
}

fn verdict(what: &str, piece: PieceIndex, event: &Event, torrents: &Torrents) {
    let Some((torrent, _)) = event.torrent.and_then(|hash| torrents.get(&hash)) else { return };
    let (have, total) = (torrent.bitfield().count(), torrent.piece_count());
    let percent = f64::from(have) * 100.0 / f64::from(total);
    println!("{what}: {piece}|{}|{have}/{total}|{percent:.2}%", torrent.info_hash());
}

/// A line that the next one may overwrite, if a person looks at it.
fn passing(line: &str) {
    let mut out = io::stdout().lock();
    let end = if out.is_terminal() { '\r' } else { '\n' };
    // Whoever read it is gone, and the download goes on.
    write!(out, "{line}{end}").and_then(|()| out.flush()).ok();
}

/// How often it is looked whether Ctrl-C was pressed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TWICE_WITHIN: Duration = Duration::from_secs(3);
const SAVE_EVERY: Duration = Duration::from_secs(5);
