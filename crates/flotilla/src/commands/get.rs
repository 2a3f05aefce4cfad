//! `flotilla get`: downloads torrents.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use engine::{AddError, AddOptions, Torrent, TorrentState, TorrentStatus, WhenKnown};
use torrent::InfoHash;
use torrent::metainfo::Metainfo;
use torrent::swarm::SelectorKind;

use super::{all_addrs, session_config};
use crate::cli::Get;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{
    Source, There, find, find_sources, refuse_unfindable, root_name, writable_dir,
};
use crate::terminal::Terminal;
use crate::values::NameFilter;
use crate::watch::{Outcome, Watch};

pub(crate) fn run(options: Get, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::hasty()?;
    let filter = NameFilter::new(&options.only, &options.exclude).map_err(Failure::Usage)?;
    let peers = all_addrs(&options.peers, &options.network.ways)?;
    let goal =
        Goal { is_endless: options.seed, ratio: options.ratio, seed_time: options.seed_time };
    let is_json = options.network.json;
    let config = session_config(options.network, options.limit_down, terminal)?;
    let http = config.http_options();
    let is_anyone_known =
        !peers.is_empty() || !options.trackers.is_empty() || config.lsd || config.dht.is_enabled;
    let mut is_anything_missing = false;
    let mut wanted = Vec::new();
    for (source, found) in find_sources(&options.sources, &http) {
        let found = found.and_then(|found| {
            if let Source::Link(link) = &found {
                refuse_unfindable(&source, link, is_anyone_known)?;
            }
            Ok(found)
        });
        match found {
            Ok(found) => wanted.push((source, found)),
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
    if let Some(dir) = &options.save_torrent {
        writable_dir(dir)?;
    }
    let usual = AddOptions {
        dir: options.output.clone(),
        selector: if options.sequential { SelectorKind::Linear } else { SelectorKind::Rarest },
        check: options.check,
        preallocate: options.preallocate,
        peers,
        web_seeds: options.web_seeds,
        ..AddOptions::default()
    };
    interrupt.in_order();
    let mut watch = Watch::start(terminal, interrupt, config, is_json)?;
    let mut chooser = Chooser {
        filter,
        output: options.output,
        overwrite: options.overwrite,
        save_torrent: options.save_torrent,
        incomplete: RefCell::default(),
        own_tiers: BTreeMap::new(),
    };
    for (source, found) in wanted {
        let (name, added) = match found {
            Source::Torrent(metainfo) => {
                let priorities = match chooser.priorities(&metainfo) {
                    Ok(priorities) => priorities,
                    Err(why) => {
                        terminal.complain(&format!("{source}: {why}"));
                        is_anything_missing = true;
                        continue;
                    }
                };
                // First it is seen what is on disk.
                let add = AddOptions { priorities, is_stopped: true, ..usual.clone() };
                (metainfo.name().to_owned(), watch.session().add(*metainfo, add))
            }
            Source::Link(link) => {
                chooser.own_tiers.insert(link.info_hashes.first(), link.trackers.len());
                let add = AddOptions { when_known: WhenKnown::Pause, ..usual.clone() };
                (source.clone(), watch.session().add_magnet(&link, add))
            }
        };
        match added {
            Ok(torrent) => {
                // Whoever runs a private torrent says which trackers it has. Of a link it is seen later.
                if !torrent.metainfo().is_some_and(|metainfo| {
                    metainfo.is_private() && !metainfo.trackers().is_empty()
                }) {
                    options.trackers.iter().try_for_each(|tier| torrent.add_tier(tier.clone()))?;
                }
                watch.add(torrent);
            }
            Err(AddError::Duplicate(_)) => {
                terminal.complain(&format!("{name}: named twice; once is enough"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if watch.torrents().next().is_none() {
        return watch.end(Outcome::Failed);
    }
    let (begun, given_up) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let is_any_unsaved = Cell::new(false);
    let save_again = |torrent: &Torrent| {
        if let Err(why) = chooser.save_again(torrent) {
            terminal.complain(&why);
            is_any_unsaved.set(true);
        }
    };
    let outcome = watch.follow(|torrent, status| {
        let name = torrent.info_hash();
        if given_up.borrow().contains(&name) {
            return true;
        }
        // It is known what is on disk.
        let is_ready = matches!(status.state, TorrentState::Stopped | TorrentState::Paused);
        if is_ready && begun.borrow_mut().insert(name) {
            // Should the engine be gone, following it ends by itself.
            match chooser.begin(torrent, status) {
                Ok(()) => torrent.start().ok(),
                Err(why) => {
                    terminal.complain(&format!("{}: {why}", status.name));
                    given_up.borrow_mut().insert(name);
                    torrent.stop().ok()
                }
            };
        }
        let layers = torrent.metainfo().and_then(Metainfo::layers);
        if layers.is_some_and(|layers| layers.is_whole()) {
            save_again(torrent);
        }
        goal.is_reached(status)
    });
    // Some may lack hashes still, but not those that came.
    watch.torrents().for_each(save_again);
    let is_anything_missing =
        is_anything_missing || is_any_unsaved.get() || !given_up.borrow().is_empty();
    watch.end(match outcome {
        Outcome::Reached if is_anything_missing => Outcome::Failed,
        outcome => outcome,
    })
}

/// What of a torrent is downloaded, and whether at all.
struct Chooser {
    filter: NameFilter,
    output: PathBuf,
    overwrite: bool,
    save_torrent: Option<PathBuf>,
    /// The torrent files of links that were saved without all hashes of pieces of version 2.
    incomplete: RefCell<BTreeMap<InfoHash, PathBuf>>,
    /// How many tiers of trackers each link has, by the name that it knows.
    own_tiers: BTreeMap<InfoHash, usize>,
}

impl Chooser {
    /// A priority for each file, by its name.
    fn priorities(&self, metainfo: &Metainfo) -> Result<Vec<u8>, String> {
        let files = metainfo.layout().files().iter();
        let is_wanted = files.map(|file| self.filter.matches(&file.path.to_path_buf()));
        let priorities: Vec<u8> =
            is_wanted.map(|is_wanted| if is_wanted { 4 } else { 0 }).collect();
        if priorities.iter().all(|&priority| priority == 0) {
            return Err("no file matches --only and --exclude".to_owned());
        }
        self.refuse_obstacles(metainfo, &priorities)?;
        Ok(priorities)
    }

    fn refuse_obstacles(&self, metainfo: &Metainfo, priorities: &[u8]) -> Result<(), String> {
        match find(metainfo, priorities, &self.output) {
            There::InTheWay(error) => Err(error.to_string()),
            There::Longer(path) if !self.overwrite => Err(format!(
                "{} is there already, and longer than it should be; --overwrite makes it what the torrent says",
                path.display()
            )),
            There::Longer(_) | There::Something | There::Nothing => Ok(()),
        }
    }

    /// It is known what a torrent is and what of it is on disk: says why it is not to go on, if it is not.
    fn begin(&self, torrent: &Torrent, status: &TorrentStatus) -> Result<(), String> {
        let metainfo = torrent.metainfo().ok_or("its metadata is not here")?;
        if status.state == TorrentState::Paused {
            self.choose(torrent, metainfo)?;
        }
        let priorities = self.priorities(metainfo)?;
        let is_there = !matches!(find(metainfo, &priorities, &self.output), There::Nothing);
        if is_there && status.pieces_have == 0 && !self.overwrite {
            return Err("files of this name are there already, and nothing in them is what the torrent says; --overwrite makes it so".to_owned());
        }
        Ok(())
    }

    /// Where the torrent file of a link goes.
    fn saved_at(&self, metainfo: &Metainfo) -> Option<PathBuf> {
        let mut name = root_name(metainfo)?.into_os_string();
        name.push(".torrent");
        Some(self.save_torrent.as_ref()?.join(name))
    }

    /// The hashes of pieces of version 2 come after the metadata, and belong into the torrent file.
    fn save_again(&self, torrent: &Torrent) -> Result<(), String> {
        match self.incomplete.borrow_mut().remove(&torrent.info_hash()) {
            Some(path) => torrent.save_torrent(path).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Of a link it was not known before which files there are, and whether others may hear of it.
    fn choose(&self, torrent: &Torrent, metainfo: &Metainfo) -> Result<(), String> {
        let mut names = metainfo.info_hashes().on_the_wire();
        let own_tiers = names.find_map(|name| self.own_tiers.get(&name)).copied().unwrap_or(0);
        if metainfo.is_private() && own_tiers > 0 {
            torrent.keep_tiers(own_tiers).map_err(|error| error.to_string())?;
        }
        if let Some(path) = self.saved_at(metainfo) {
            let is_whole = metainfo.layers().is_none_or(|layers| layers.is_whole());
            torrent.save_torrent(&path).map_err(|error| error.to_string())?;
            if !is_whole {
                self.incomplete.borrow_mut().insert(torrent.info_hash(), path);
            }
        }
        if !self.filter.is_all() {
            let priorities = self.priorities(metainfo)?;
            torrent.set_priorities(priorities).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
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
