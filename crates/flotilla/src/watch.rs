//! Follows torrents until each is where it should be, and shows how they stand meanwhile.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use engine::{
    Event, EventKind, EventMask, EventSink, Events, Session, SessionConfig, Torrent, TorrentState,
    TorrentStatus,
};
use serde_json::json;
use torrent::metainfo::Metainfo;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::json;
use crate::terminal::Terminal;
use crate::text::{broken, bytes, count, cut, fit, percent, rate, time};

/// The torrents of a session, and who looks at them.
pub(crate) struct Watch<'a> {
    terminal: &'a Terminal,
    interrupt: Interrupt,
    session: Session,
    events: Events,
    torrents: Vec<Watched>,
    is_json: bool,
    told_at: Option<Instant>,
    /// What has been told of the proxy: it would be told again with every connection.
    proxy_told: Vec<String>,
}

struct Watched {
    torrent: Torrent,
    has_failed: bool,
    /// Since when it downloads.
    begun: Option<Instant>,
    /// What had come before, in bytes.
    before: u64,
    /// Since when it looks for peers and has found nobody.
    lonely_since: Option<Instant>,
}

/// How watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every torrent is where it should be.
    Reached,
    /// Some failed; each has been complained of. The others are where they should be.
    Failed,
    /// Someone wants us to end.
    Interrupted,
}

impl<'a> Watch<'a> {
    /// Starts a session. What happens while it begins is told as well: a router may answer before anybody could ask to
    /// hear of it.
    pub(crate) fn start(
        terminal: &'a Terminal,
        interrupt: Interrupt,
        config: SessionConfig,
        is_json: bool,
    ) -> Result<Self, Failure> {
        let (sink, events) = EventSink::new(EventMask::USUAL);
        let session = Session::start(SessionConfig { events: Some(sink), ..config })?;
        let watch = Self {
            terminal,
            interrupt,
            session,
            events,
            torrents: Vec::new(),
            is_json,
            told_at: None,
            proxy_told: Vec::new(),
        };
        let addrs: Vec<String> =
            watch.session.listen_addrs().iter().map(ToString::to_string).collect();
        watch.tell(|| json!({ "event": "listening", "addrs": addrs }));
        Ok(watch)
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn add(&mut self, torrent: Torrent) {
        let status = torrent.status();
        self.tell(|| {
            json!({
                "event": "added",
                "torrent": torrent.info_hash().to_string(),
                "name": status.name,
                "size": status.total_len,
                "pieces": status.piece_count,
            })
        });
        self.torrents.push(Watched {
            torrent,
            has_failed: false,
            begun: None,
            before: status.downloaded,
            lonely_since: None,
        });
    }

    pub(crate) fn torrents(&self) -> impl Iterator<Item = &Torrent> {
        self.torrents.iter().map(|watched| &watched.torrent)
    }

    /// Follows all torrents until each has failed or is where `is_there` says that it should be. That is
    /// asked of each of them, again and again.
    pub(crate) fn follow(
        &mut self,
        is_there: impl Fn(&Torrent, &TorrentStatus) -> bool,
    ) -> Outcome {
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.event(&event);
            }
            let statuses: Vec<_> = self.torrents().map(Torrent::status).collect();
            for (watched, status) in self.torrents.iter_mut().zip(&statuses) {
                watched.look(status);
            }
            let is_underway = |(watched, status): &(&Watched, &Arc<TorrentStatus>)| {
                !watched.has_failed && !is_there(&watched.torrent, status)
            };
            let is_settled = self.torrents.iter().zip(&statuses).filter(is_underway).count() == 0;
            self.show(&statuses, is_settled);
            if is_settled {
                let has_failed = self.torrents.iter().any(|watched| watched.has_failed);
                return if has_failed { Outcome::Failed } else { Outcome::Reached };
            }
            if self.interrupt.is_set() || self.terminal.is_gone() {
                return Outcome::Interrupted;
            }
            match self.events.recv_timeout(TICK) {
                Ok(event) => self.event(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.terminal.complain("the engine has stopped; --verbose tells more");
                    return Outcome::Failed;
                }
            }
        }
    }

    /// Ends the session in order, with the last word of each torrent.
    pub(crate) fn end(mut self, outcome: Outcome) -> Result<(), Failure> {
        self.terminal.show(&[]);
        self.session.shutdown(PATIENCE);
        while let Ok(event) = self.events.try_recv() {
            self.event(&event);
        }
        let is_complete = self.torrents().all(|torrent| torrent.status().progress() >= 1.0);
        let result = match outcome {
            Outcome::Failed => Err(Failure::Told),
            Outcome::Interrupted if !is_complete => Err(Failure::Interrupted),
            Outcome::Interrupted | Outcome::Reached => Ok(()),
        };
        for torrent in self.torrents() {
            self.tell(|| json::progress(torrent, &torrent.status()));
        }
        let word = match &result {
            Ok(()) => "done",
            Err(Failure::Interrupted) => "interrupted",
            Err(_) => "failed",
        };
        self.tell(|| json!({ "event": "end", "status": word }));
        if !self.is_json && result == Err(Failure::Interrupted) {
            self.terminal.line("interrupted; the same command goes on from here");
        }
        result
    }

    fn tell(&self, value: impl FnOnce() -> serde_json::Value) {
        if self.is_json {
            self.terminal.line(&value().to_string());
        }
    }

    fn event(&mut self, event: &Event) {
        self.tell(|| json::event(event));
        if let EventKind::ProxyFailed { proxy, error } = &event.kind {
            let text = format!("proxy {proxy}: {error}");
            if self.proxy_told.len() < PROXY_TOLD_MAX && !self.proxy_told.contains(&text) {
                self.terminal.complain(&text);
                self.proxy_told.push(text);
            }
        }
        let Some(at) = self
            .torrents
            .iter()
            .position(|watched| Some(watched.torrent.info_hash()) == event.torrent)
        else {
            return;
        };
        let status = self.torrents[at].torrent.status();
        let name = &status.name;
        match &event.kind {
            EventKind::StateChanged(TorrentState::Downloading) => {
                self.torrents[at].begun.get_or_insert_with(Instant::now);
            }
            EventKind::MetadataReceived if !self.is_json => {
                let torrent = &self.torrents[at].torrent;
                let files = torrent.metainfo().map_or(0, |metainfo| {
                    metainfo.layout().files().iter().filter(|file| !file.is_pad).count()
                });
                let (size, files) = (bytes(torrent.size()), count(files as u64, "file"));
                self.terminal.line(&format!("metadata: {}, {size} in {files}", torrent.name()));
            }
            EventKind::DiskFailed(why) | EventKind::MetadataRefused(why) => {
                self.torrents[at].has_failed = true;
                self.terminal.complain(&format!("{name}: {why}"));
            }
            EventKind::Completed if !self.is_json => {
                let size = bytes(status.wanted_len);
                let Watched { begun, before, .. } = self.torrents[at];
                let text = match begun {
                    Some(since) if status.downloaded > before => {
                        let (elapsed, len) = (since.elapsed(), status.downloaded - before);
                        let speed = len as f64 / elapsed.as_secs_f64().max(0.001);
                        let (came, elapsed) = (bytes(len), time(elapsed));
                        format!(
                            "complete: {name}, {size}; {came} in {elapsed}, {}",
                            rate(speed as u64)
                        )
                    }
                    _ => format!("complete: {name}, {size}, all of it was here"),
                };
                self.terminal.line(&text);
            }
            EventKind::PeerBanned { ip } if !self.is_json => {
                self.terminal.line(&format!("{name}: peer {ip} sent bad data and is banned"));
            }
            _ => {}
        }
    }

    fn show(&mut self, statuses: &[Arc<TorrentStatus>], is_last: bool) {
        if self.terminal.is_live() && !self.is_json {
            let (rows, columns) = self.terminal.size();
            let hints = self.hints();
            let (rows, columns) = (rows.saturating_sub(1), columns.saturating_sub(1));
            self.terminal.show(&table(statuses, &hints, rows, columns));
            return;
        }
        let every = if self.is_json { JSON_EVERY } else { LINE_EVERY };
        let is_due = self.told_at.is_none_or(|at| at.elapsed() >= every);
        if !is_due || is_last {
            return;
        }
        self.told_at = Some(Instant::now());
        let hints = self.hints();
        for ((watched, status), hint) in self.torrents.iter().zip(statuses).zip(&hints) {
            if self.is_json {
                self.tell(|| json::progress(&watched.torrent, status));
            } else if status.state != (TorrentState::Checking { done: 0, total: 0 }) {
                self.terminal.line(&sentence(status, hint.as_deref()));
            }
        }
    }

    /// For each torrent why nothing may come, if it has found nobody for a while.
    fn hints(&self) -> Vec<Option<String>> {
        let is_late = |since: Instant| since.elapsed() >= HINT_AFTER;
        let is_due = |watched: &Watched| watched.lonely_since.is_some_and(is_late);
        let of_dht = OnceCell::new();
        let hint = |watched: &Watched| {
            // Nobody asks the DHT about a private one.
            if watched.torrent.metainfo().is_some_and(Metainfo::is_private) {
                return "no peer found yet".to_owned();
            }
            of_dht.get_or_init(|| self.hint_of_dht()).clone()
        };
        self.torrents.iter().map(|watched| is_due(watched).then(|| hint(watched))).collect()
    }

    fn hint_of_dht(&self) -> String {
        let nodes = self.session.dht().status().map(|status| status.stats.nodes.iter().sum());
        match nodes {
            Err(_) => "no peer found yet; the DHT is off".to_owned(),
            Ok(0) => "no peer found yet, and no node of the DHT answers".to_owned(),
            Ok(nodes) => format!("no peer found yet; the DHT has {}", count(nodes as u64, "node")),
        }
    }
}

/// Whether it has nobody to get anything from.
fn is_lonely(status: &TorrentStatus) -> bool {
    let seeks =
        matches!(status.state, TorrentState::Downloading | TorrentState::FetchingMetadata { .. });
    seeks && status.peers_known == 0 && status.peers_connected == 0 && status.web_seeds_active == 0
}

impl Watched {
    fn look(&mut self, status: &TorrentStatus) {
        self.lonely_since =
            is_lonely(status).then(|| self.lonely_since.unwrap_or_else(Instant::now));
        match status.state {
            TorrentState::Checking { .. }
            | TorrentState::FetchingMetadata { .. }
            | TorrentState::Paused
            | TorrentState::Stopped => {
                self.before = status.downloaded;
            }
            // Its event may have been lost.
            TorrentState::Failed(_) => self.has_failed = true,
            _ => {}
        }
    }
}

/// How a torrent stands, for a pipe, with a hint for one that has found nobody.
pub(crate) fn sentence(status: &TorrentStatus, hint: Option<&str>) -> String {
    let TorrentStatus { name, download_rate, upload_rate, .. } = status;
    let mut text = match &status.state {
        TorrentState::Checking { done, total } => {
            return format!("{name}: checking, {done} of {}", count(*total, "piece"));
        }
        TorrentState::FetchingMetadata { done, total } => {
            let found = format!("{} known", count(status.peers_known as u64, "peer"));
            let percent = percent(f64::from(*done) / f64::from((*total).max(1)));
            let mut text = match total {
                0 => format!("{name}: looking for metadata, {found}"),
                _ => format!("{name}: {percent}% of metadata, {found}"),
            };
            troubles(status, hint).for_each(|trouble| text += &format!(", {trouble}"));
            return text;
        }
        TorrentState::Seeding => format!("{name}: seeding {}", bytes(status.wanted_len)),
        _ => format!("{name}: {}% of {}", percent(status.progress()), bytes(status.wanted_len)),
    };
    let seeds = count(status.seeds_connected as u64, "seed");
    let peers = count(status.peers_connected as u64, "peer");
    text +=
        &format!(", down {}, up {}, {peers} ({seeds})", rate(*download_rate), rate(*upload_rate));
    if status.web_seeds_active > 0 {
        text += &format!(", {}", count(status.web_seeds_active as u64, "web seed"));
    }
    if let Some(eta) = status.eta {
        text += &format!(", ETA {}", time(eta));
    }
    for trouble in troubles(status, hint) {
        text += &format!(", {trouble}");
    }
    text
}

/// What is wrong, and with what.
fn troubles(status: &TorrentStatus, hint: Option<&str>) -> impl Iterator<Item = String> {
    let hint = hint.map(str::to_owned);
    let of_trackers = status.tracker_trouble.as_deref().map(|why| format!("tracker {why}"));
    let of_web_seeds = status.web_seed_trouble.as_deref().map(|why| format!("web seed {why}"));
    hint.into_iter().chain(of_trackers).chain(of_web_seeds)
}

/// How all torrents stand, for a terminal of this size, with the hint of each.
fn table(
    statuses: &[Arc<TorrentStatus>],
    hints: &[Option<String>],
    rows: usize,
    columns: usize,
) -> Vec<String> {
    let is_narrow = columns < FIXED_COLUMNS + NAME_COLUMNS_MIN;
    let fixed_columns = if is_narrow { FIXED_COLUMNS_NARROW } else { FIXED_COLUMNS };
    let name_columns = columns.saturating_sub(fixed_columns).max(NAME_COLUMNS_MIN);
    let row = |name: &str, cells: [&str; 6]| {
        let [done, size, down, up, eta, peers] = cells;
        let name = fit(name, name_columns);
        let text = if is_narrow {
            format!("{name} {done:>6} {down:>10} {eta:>6}")
        } else {
            format!("{name} {done:>6} {size:>8} {down:>10} {up:>10} {eta:>6} {peers:>9}")
        };
        cut(&text, columns)
    };
    let hints = hints.iter().map(Option::as_deref);
    let mut order: Vec<(&TorrentStatus, Option<&str>)> =
        statuses.iter().map(AsRef::as_ref).zip(hints).collect();
    // Those that do something first, should there be no room for all.
    order.sort_by_key(|(status, _)| match status.state {
        TorrentState::Failed(_) => 0,
        TorrentState::Downloading
        | TorrentState::FetchingMetadata { .. }
        | TorrentState::Checking { .. } => 1,
        _ => 2,
    });
    let mut lines = vec![row("Name", ["Done", "Size", "Down", "Up", "ETA", "Peers"])];
    let is_crowded = order.len() + 1 > rows;
    let shown = if is_crowded { rows.saturating_sub(2) } else { order.len() };
    let mut spare = rows.saturating_sub(shown + 1 + usize::from(is_crowded));
    for &(status, hint) in order.iter().take(shown) {
        let (progress, word) = match status.state {
            TorrentState::Checking { done, total } => {
                (f64::from(done) / f64::from(total.max(1)), Some("check"))
            }
            TorrentState::FetchingMetadata { done, total } => {
                (f64::from(done) / f64::from(total.max(1)), Some("magnet"))
            }
            TorrentState::Seeding => (1.0, Some("seed")),
            TorrentState::Paused => (status.progress(), Some("paused")),
            TorrentState::Stopped => (status.progress(), Some("stopped")),
            TorrentState::Failed(_) => (status.progress(), Some("failed")),
            _ => (status.progress(), None),
        };
        let eta =
            word.map_or_else(|| status.eta.map_or_else(|| "-".to_owned(), time), str::to_owned);
        lines.push(row(
            &status.name,
            [
                &format!("{}%", percent(progress)),
                &bytes(status.wanted_len),
                &rate(status.download_rate),
                &rate(status.upload_rate),
                &eta,
                &format!("{} ({})", status.peers_connected, status.seeds_connected),
            ],
        ));
        let web_seeds = status.web_seeds_active as u64;
        let active = (web_seeds > 0).then(|| format!("and {}", count(web_seeds, "web seed")));
        let below = active.into_iter().chain(troubles(status, hint));
        let below = below.flat_map(|text| broken(&text, columns.saturating_sub(2)));
        for line in below.take(spare) {
            spare -= 1;
            lines.push(cut(&format!("  {line}"), columns));
        }
    }
    if is_crowded {
        let (down, up) = order.iter().fold((0, 0), |(down, up), (status, _)| {
            (down + status.download_rate, up + status.upload_rate)
        });
        let done = order.iter().filter(|(status, _)| status.progress() >= 1.0).count();
        let more = format!("… {} in all, {done} done", count(order.len() as u64, "torrent"));
        lines.push(row(&more, ["", "", &rate(down), &rate(up), "", ""]));
    }
    lines
}

const TICK: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const JSON_EVERY: Duration = Duration::from_secs(1);
/// How long trackers and the router may take to hear that we leave: Ctrl-C takes a second, all in all.
const PATIENCE: Duration = Duration::from_millis(700);
/// When somebody could have been found.
const HINT_AFTER: Duration = Duration::from_secs(5);
/// Different things that are told of a proxy.
const PROXY_TOLD_MAX: usize = 20;
/// All cells but the name, with the gaps.
const FIXED_COLUMNS: usize = 55;
/// Of those, the ones that a narrow terminal has.
const FIXED_COLUMNS_NARROW: usize = 25;
const NAME_COLUMNS_MIN: usize = 10;

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::*;

    fn statuses(count: usize) -> Vec<Arc<TorrentStatus>> {
        let status = |index: usize| TorrentStatus {
            name: format!("{index} 漢字 and a name that is quite long, too long for most"),
            state: if index == 70 { TorrentState::Downloading } else { TorrentState::Seeding },
            wanted_len: 1 << 40,
            download_rate: u64::MAX / 4096,
            upload_rate: 1023,
            eta: Some(Duration::from_secs(1_000_000)),
            peers_connected: 200,
            seeds_connected: 100,
            tracker_trouble: Some("http://tracker.example/announce: connection refused".repeat(3)),
            ..TorrentStatus::default()
        };
        (0..count).map(|index| Arc::new(status(index))).collect()
    }

    #[test]
    fn the_table_fits_any_terminal() {
        for (rows, columns) in [(23, 79), (10, 39), (3, 79), (2, 20), (0, 0), (50, 200)] {
            for count in [0, 1, 5, 100] {
                for hint in [None, Some("no peer found yet, and no node of the DHT answers")] {
                    let hints = vec![hint.map(str::to_owned); count];
                    let lines = table(&statuses(count), &hints, rows, columns);
                    assert!(lines.len() <= rows.max(2), "{} lines in {rows} rows", lines.len());
                    assert!(lines.iter().all(|line| measure_text_width(line) <= columns));
                }
            }
        }
    }

    #[test]
    fn those_that_download_are_shown_when_not_all_can_be() {
        let lines = table(&statuses(100), &vec![None; 100], 5, 100);
        assert!(lines[1].starts_with("70 "), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.contains("100 torrents in all")));
    }

    #[test]
    fn a_sentence_says_what_matters() {
        let mut status = TorrentStatus {
            name: "a".to_owned(),
            state: TorrentState::Downloading,
            wanted_len: 2048,
            wanted_done_len: 512,
            peers_connected: 1,
            ..TorrentStatus::default()
        };
        assert_eq!(
            sentence(&status, None),
            "a: 25.0% of 2.0 KiB, down 0 B/s, up 0 B/s, 1 peer (0 seeds)"
        );
        status.tracker_trouble = Some("udp://t: no answer".to_owned());
        assert!(sentence(&status, None).ends_with(", tracker udp://t: no answer"));
    }

    #[test]
    fn a_narrow_terminal_still_shows_how_fast_and_why_not() {
        let status = TorrentStatus {
            name: "a".to_owned(),
            state: TorrentState::Downloading,
            wanted_len: 2048,
            eta: Some(Duration::from_secs(61)),
            tracker_trouble: Some("http://tracker.example/announce: connection refused".to_owned()),
            ..TorrentStatus::default()
        };
        let lines = table(&[Arc::new(status)], &[Some("no peer found yet".to_owned())], 10, 39);
        assert!(lines[0].ends_with("ETA") && lines[1].ends_with("1m01s"), "{lines:?}");
        let below: String = lines[2..].iter().map(|line| line.trim()).collect();
        assert!(below.starts_with("no peer found yet"), "{below}");
        assert!(below.ends_with("connection refused"), "{below}");
    }

    #[test]
    fn only_who_looks_for_peers_and_has_found_nobody_is_lonely() {
        let mut status =
            TorrentStatus { state: TorrentState::Downloading, ..TorrentStatus::default() };
        assert!(is_lonely(&status));
        assert!(sentence(&status, Some("nobody")).ends_with(", nobody"));
        status.peers_known = 1;
        assert!(!is_lonely(&status));
        status.state = TorrentState::FetchingMetadata { done: 0, total: 0 };
        assert_eq!(sentence(&status, None), ": looking for metadata, 1 peer known");
        for state in [TorrentState::Seeding, TorrentState::Checking { done: 1, total: 2 }] {
            assert!(!is_lonely(&TorrentStatus { state, ..TorrentStatus::default() }));
        }
    }
}
