//! `flotilla seed`: serves files that are here.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use engine::{AddOptions, Session, TorrentState};
use torrent::metainfo::Metainfo;

use super::session_config;
use crate::cli::Seed;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::load_file;
use crate::terminal::Terminal;
use crate::text::percent;
use crate::watch::{Outcome, Watch};

pub(crate) fn run(options: Seed, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let found = |file: &PathBuf| {
        let metainfo = load_file(file)?;
        let dir = data_dir(&metainfo, &options.paths)
            .ok_or_else(|| not_found(file, &metainfo, &options.paths))?;
        Ok((metainfo, dir))
    };
    let torrents: Vec<(Metainfo, PathBuf)> =
        options.torrents.iter().map(found).collect::<Result<_, Failure>>()?;
    let is_json = options.network.json;
    let session = Session::start(session_config(options.network, None))?;
    let mut watch = Watch::new(terminal, interrupt, session, is_json)?;
    for (metainfo, dir) in torrents {
        // Paused: should the data be wrong, nothing is to be fetched over it.
        let add =
            AddOptions { dir, check: options.check, is_paused: true, ..AddOptions::default() };
        let torrent = watch.session().add(metainfo, add)?;
        watch.add(torrent);
    }
    let outcome = watch.follow(|status| status.state == TorrentState::Paused);
    if outcome != Outcome::Reached {
        return watch.end(outcome);
    }
    let mut is_any_wrong = false;
    for torrent in watch.torrents() {
        let status = torrent.status();
        if status.progress() < 1.0 {
            is_any_wrong = true;
            terminal.complain(&format!(
                "{}: only {}% of the data is as the torrent says; `flotilla verify` tells what is wrong, `flotilla get` mends it",
                status.name,
                percent(status.progress()),
            ));
        }
    }
    if is_any_wrong {
        return watch.end(Outcome::Failed);
    }
    for torrent in watch.torrents() {
        torrent.resume()?;
    }
    let outcome = watch.follow(|_| false);
    watch.end(outcome)
}

/// The folder that a torrent's file or folder lies in: a path may name either.
fn data_dir(metainfo: &Metainfo, paths: &[PathBuf]) -> Option<PathBuf> {
    let name = root_name(metainfo)?;
    let is_named_so =
        |path: &&PathBuf| path.file_name() == Some(OsStr::new(&name)) && path.exists();
    let parent = |path: &PathBuf| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let holds_it = |path: &&PathBuf| path.join(&name).exists();
    let by_name = paths.iter().find(is_named_so).map(parent);
    by_name.or_else(|| paths.iter().find(holds_it).cloned())
}

/// What the torrent calls its file or folder.
fn root_name(metainfo: &Metainfo) -> Option<PathBuf> {
    let first = metainfo.layout().files().first()?.path.to_path_buf();
    first.components().next().map(|name| Path::new(name.as_os_str()).to_owned())
}

fn not_found(file: &Path, metainfo: &Metainfo, paths: &[PathBuf]) -> Failure {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let (file, paths) = (file.display(), paths.join(", "));
    Failure::Failed(format!("{file}: its data, `{}`, is not at {paths}", metainfo.name()))
}
