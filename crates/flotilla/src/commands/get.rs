//! `flotilla get`: downloads torrents.

use std::sync::Arc;

use engine::{AddError, AddOptions, Session, Torrent, TorrentState, TorrentStatus};
use torrent::metainfo::Metainfo;
use torrent::swarm::SelectorKind;

use super::{all_addrs, session_config};
use crate::cli::Get;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{There, find, load, writable_dir};
use crate::terminal::Terminal;
use crate::values::NameFilter;
use crate::watch::{Outcome, Watch};

pub(crate) fn run(options: Get, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let filter = NameFilter::new(&options.only, &options.exclude).map_err(Failure::Usage)?;
    let peers = all_addrs(&options.peers)?;
    let goal =
        Goal { is_endless: options.seed, ratio: options.ratio, seed_time: options.seed_time };
    let mut is_anything_missing = false;
    let mut wanted: Vec<(Metainfo, Vec<u8>)> = Vec::new();
    for source in &options.sources {
        match load(source).and_then(|metainfo| priorities(source, metainfo, &filter)) {
            Ok(torrent) => wanted.push(torrent),
            Err(Failure::Failed(why)) => {
                terminal.complain(&why);
                is_anything_missing = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    if wanted.is_empty() {
        return Err(Failure::Told);
    }
    writable_dir(&options.output)?;
    let is_json = options.network.json;
    let config = session_config(options.network, options.limit_down, terminal)?;
    let session = Session::start(config)?;
    let mut watch = Watch::new(terminal, interrupt, session, is_json)?;
    let mut strangers = Vec::new();
    for (metainfo, priorities) in wanted {
        let name = metainfo.name().to_owned();
        let there = find(&metainfo, &priorities, &options.output);
        if let (There::Longer(path), false) = (&there, options.overwrite) {
            let longer = "it is there already, and longer than it should be; --overwrite makes it what the torrent says";
            terminal.complain(&format!("{}: {longer}", path.display()));
            is_anything_missing = true;
            continue;
        }
        if !matches!(there, There::Nothing) {
            strangers.push(metainfo.info_hash());
        }
        let add = AddOptions {
            dir: options.output.clone(),
            priorities,
            selector: if options.sequential { SelectorKind::Linear } else { SelectorKind::Rarest },
            check: options.check,
            preallocate: options.preallocate,
            peers: peers.clone(),
            // First it is seen what is on disk.
            is_stopped: true,
            ..AddOptions::default()
        };
        match watch.session().add(metainfo, add) {
            Ok(torrent) => watch.add(torrent),
            Err(AddError::Duplicate(_)) => {
                terminal.complain(&format!("{name}: named twice; once is enough"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let outcome = watch.follow(|_, status| status.state == TorrentState::Stopped);
    if outcome == Outcome::Interrupted {
        return watch.end(outcome);
    }
    let torrents: Vec<Torrent> = watch.torrents().cloned().collect();
    for torrent in torrents {
        let status = torrent.status();
        let is_strange = strangers.contains(&torrent.info_hash()) && status.pieces_have == 0;
        if is_strange && !options.overwrite {
            let name = &status.name;
            terminal.complain(&format!("{name}: files of this name are there already, and nothing in them is what the torrent says; --overwrite makes it so"));
            watch.give_up(torrent.info_hash())?;
        } else {
            torrent.start()?;
        }
    }
    let outcome = match watch.follow(|_, status| goal.is_reached(status)) {
        Outcome::Reached if is_anything_missing => Outcome::Failed,
        outcome => outcome,
    };
    watch.end(outcome)
}

/// A priority for each file, by its name.
fn priorities(
    source: &str,
    metainfo: Metainfo,
    filter: &NameFilter,
) -> Result<(Metainfo, Vec<u8>), Failure> {
    let layout = Arc::clone(metainfo.layout());
    let is_wanted = layout.files().iter().map(|file| filter.matches(&file.path.to_path_buf()));
    let priorities: Vec<u8> = is_wanted.map(|is_wanted| if is_wanted { 4 } else { 0 }).collect();
    if priorities.iter().all(|&priority| priority == 0) {
        return Err(Failure::Failed(format!("{source}: no file matches --only and --exclude")));
    }
    Ok((metainfo, priorities))
}

/// When a download has done its part.
struct Goal {
    is_endless: bool,
    ratio: Option<f64>,
    seed_time: Option<std::time::Duration>,
}

impl Goal {
    fn is_reached(&self, status: &TorrentStatus) -> bool {
        if status.state != TorrentState::Seeding || self.is_endless {
            return false;
        }
        let reached = [
            self.ratio.map(|ratio| status.ratio() >= ratio),
            self.seed_time.map(|time| status.seeding_for >= time),
        ];
        // Whichever comes first; at once if neither was asked for.
        reached.iter().flatten().next().is_none() || reached.contains(&Some(true))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_download_ends_when_its_first_goal_is_reached() {
        let mut status = TorrentStatus {
            state: TorrentState::Seeding,
            wanted_len: 100,
            wanted_done_len: 100,
            ..TorrentStatus::default()
        };
        let goal = |ratio, seed_time| Goal { is_endless: false, ratio, seed_time };
        assert!(goal(None, None).is_reached(&status));
        let both = goal(Some(1.0), Some(Duration::from_secs(60)));
        assert!(!both.is_reached(&status));
        status.uploaded = 100;
        assert!(both.is_reached(&status));
        assert!(!Goal { is_endless: true, ..both }.is_reached(&status));
        status.state = TorrentState::Downloading;
        assert!(!goal(None, None).is_reached(&status));
    }
}
