//! `flotilla seed`: serves files that are here.

use std::path::{Path, PathBuf};

use engine::{AddOptions, TorrentState, TorrentStatus};
use torrent::metainfo::Metainfo;

use super::session_config;
use crate::cli::Seed;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{There, data_dir, find, load_file};
use crate::terminal::Terminal;
use crate::text::percent;
use crate::watch::{Outcome, Watch};

pub(crate) fn run(options: Seed, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::hasty()?;
    let found = |file: &PathBuf| {
        let metainfo = load_file(file)?;
        let dir = data_dir(&metainfo, &options.paths)
            .ok_or_else(|| not_found(file, &metainfo, &options.paths))?;
        let priorities = vec![1; metainfo.layout().files().len()];
        match find(&metainfo, &priorities, &dir) {
            There::Longer(path) => Err(Failure::at(&path, "it is longer than the torrent says")),
            There::InTheWay(error) => Err(error.into()),
            There::Something | There::Nothing => Ok((metainfo, dir)),
        }
    };
    let torrents: Vec<(Metainfo, PathBuf)> =
        options.torrents.iter().map(found).collect::<Result<_, Failure>>()?;
    let is_json = options.network.json;
    let config = session_config(options.network, None, terminal)?;
    interrupt.in_order();
    let mut watch = Watch::start(terminal, interrupt, config, is_json)?;
    for (metainfo, dir) in torrents {
        // Stopped: should the data be wrong, nothing is to be fetched over it.
        let add = AddOptions {
            dir,
            check: options.check,
            is_stopped: true,
            super_seeding: options.super_seeding,
            ..AddOptions::default()
        };
        let torrent = watch.session().add(metainfo, add)?;
        watch.add(torrent);
    }
    // Each is served as soon as it is found right, whatever the disks of the others do.
    let is_right = |status: &TorrentStatus| status.progress() >= 1.0;
    let outcome = watch.follow(|torrent, status| match status.state {
        TorrentState::Stopped if is_right(status) => {
            // Should the engine be gone, following it ends by itself.
            torrent.start().ok();
            false
        }
        TorrentState::Stopped | TorrentState::Seeding => true,
        _ => false,
    });
    if outcome != Outcome::Reached {
        return watch.end(outcome);
    }
    let mut is_any_wrong = false;
    for torrent in watch.torrents() {
        let status = torrent.status();
        if !is_right(&status) {
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
    let outcome = watch.follow(|_, _| false);
    watch.end(outcome)
}

fn not_found(file: &Path, metainfo: &Metainfo, paths: &[PathBuf]) -> Failure {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let (file, paths) = (file.display(), paths.join(", "));
    Failure::Failed(format!("{file}: its data, `{}`, is not at {paths}", metainfo.name()))
}
