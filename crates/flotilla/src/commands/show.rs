//! `flotilla show`: what a torrent file or a magnet link says.

use std::ops::RangeInclusive;
use std::path::Path;
use std::slice;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, UNIX_EPOCH};

use engine::http::HttpOptions;
use engine::{
    AddOptions, DhtConfig, Events, ListenConfig, NatConfig, Session, SessionConfig, Torrent,
    TorrentState, WhenKnown,
};
use serde_json::json;
use torrent::InfoHashV2;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Format;
use torrent::tracker::TrackerStatus;
use torrent::{InfoHashes, Magnet};

use super::all_addrs;
use crate::cli::Show;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{PIPE, Source, find_sources};
use crate::terminal::Terminal;
use crate::text::{broken, bytes, count};
use crate::watch::sentence;
use crate::ways;

pub(crate) fn run(options: &Show, terminal: &Terminal) -> Result<(), Failure> {
    let interrupt = Interrupt::hasty()?;
    if options.save.as_deref() == Some(Path::new(PIPE)) {
        let why = "--save -: standard output has what `show` tells; `./-` is a file of that name";
        return Err(Failure::Usage(why.to_owned()));
    }
    // A file is read without what only those need who ask peers or trackers.
    let config = || ways::peering_config(&options.peering, &options.ways, terminal);
    let (metainfo, config) = match only_source(options, &ways::http_options(&options.ways)?)? {
        Source::Torrent(metainfo) => (*metainfo, options.scrape.then(config).transpose()?),
        Source::Link(link) if options.fetch => {
            let config = config()?;
            let metainfo = fetch(&link, options, config.clone(), terminal, &interrupt)?;
            (metainfo, options.scrape.then_some(config))
        }
        Source::Link(_) if options.scrape => {
            return Err(Failure::Usage(
                "--scrape needs a torrent; --fetch gets that of a magnet link first".to_owned(),
            ));
        }
        Source::Link(link) => {
            show_link(&link, options.json, terminal);
            return Ok(());
        }
    };
    let counts = config.map(|config| scrape(&metainfo, config, &interrupt)).transpose()?;
    show_torrent(&metainfo, counts.as_deref(), options.json, terminal);
    Ok(())
}

/// What the argument names, or standard input in its place.
fn only_source(options: &Show, http: &HttpOptions) -> Result<Source, Failure> {
    let mut found = find_sources(slice::from_ref(&options.source), http).into_iter();
    match (found.next(), found.next()) {
        (Some((_, source)), None) => source,
        _ => Err(Failure::Usage("standard input names several torrents; one is shown".to_owned())),
    }
}

/// What a link says by itself.
fn show_link(link: &Magnet, is_json: bool, terminal: &Terminal) {
    let InfoHashes { v1, v2 } = link.info_hashes;
    if is_json {
        let value = json!({
            "name": link.name,
            "info_hash": v1.map(|hash| hash.to_string()),
            "info_hash_v2": v2.map(|hash| hash.to_string()),
            "length": link.len,
            "trackers": link.trackers,
            "web_seeds": link.web_seeds,
            "peers": link.peers.iter().map(peer).collect::<Vec<_>>(),
            "select": link.select.iter().map(files).collect::<Vec<_>>(),
            "magnet": link.to_string(),
        });
        return terminal.line(&value.to_string());
    }
    let field = |name: &str, value: &str| terminal.line(&format!("{name:<12} {value}"));
    let optional = [
        ("Name", link.name.clone()),
        ("Info hash", v1.map(|hash| hash.to_string())),
        ("Info hash v2", v2.map(|hash| hash.to_string())),
        ("Size", link.len.map(|len| format!("{} ({len} bytes)", bytes(len)))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    for (tier, number) in link.trackers.iter().zip(1..) {
        tier.iter().for_each(|url| field(&format!("Tracker {number}"), url));
    }
    link.web_seeds.iter().for_each(|url| field("Web seed", url));
    link.peers.iter().for_each(|named| field("Peer", &peer(named)));
    if !link.select.is_empty() {
        field("Files", &link.select.iter().map(files).collect::<Vec<_>>().join(", "));
    }
}

fn peer((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn files(range: &RangeInclusive<u32>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    }
}

/// Gets the metadata of a link from peers; waits for as long as it takes.
fn fetch(
    link: &Magnet,
    options: &Show,
    config: SessionConfig,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<Metainfo, Failure> {
    let peers = all_addrs(&options.peers, &options.ways)?;
    interrupt.in_order();
    let session = Session::start(SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], ..config.listen },
        ..config
    })?;
    // It moves no data, and it is where nothing is: it writes nothing.
    let add = AddOptions {
        peers,
        when_known: WhenKnown::Pause,
        dir: "/nonexistent".into(),
        ..AddOptions::default()
    };
    let torrent = session.add_magnet(link, add)?;
    let done = until_known(&torrent, &session.subscribe()?, options, terminal, interrupt);
    terminal.show(&[]);
    session.shutdown(LEAVING_PATIENCE);
    done?;
    if let Some(path) = &options.save {
        torrent.save_torrent(path).map_err(|error| Failure::Failed(error.to_string()))?;
    }
    Ok(torrent.metainfo().expect("it has just come").clone())
}

/// Waits until the metadata is here, and the rest of what is saved.
fn until_known(
    torrent: &Torrent,
    events: &Events,
    options: &Show,
    terminal: &Terminal,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut known_at = None;
    // The hashes of pieces of version 2 come after the metadata, and belong into the torrent file.
    let is_done = |known_at: &mut Option<Instant>| {
        let Some(metainfo) = torrent.metainfo() else { return false };
        let since = *known_at.get_or_insert_with(Instant::now);
        let is_whole = metainfo.layers().is_none_or(|layers| layers.is_whole());
        options.save.is_none() || is_whole || since.elapsed() > PATIENCE
    };
    while !is_done(&mut known_at) {
        let status = torrent.status();
        if let TorrentState::Failed(why) = &status.state {
            return Err(Failure::Failed(format!("{}: {why}", status.name)));
        }
        if interrupt.is_set() || terminal.is_gone() {
            return Err(Failure::Interrupted);
        }
        if terminal.is_live() {
            terminal.show(&broken(&sentence(&status, None), terminal.size().1.saturating_sub(1)));
        }
        match events.recv_timeout(TICK) {
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Failed("the engine has stopped".to_owned()));
            }
        }
    }
    Ok(())
}

/// What a torrent says, and what its trackers count if they were asked.
fn show_torrent(
    metainfo: &Metainfo,
    counts: Option<&[TrackerStatus]>,
    is_json: bool,
    terminal: &Terminal,
) {
    if is_json {
        let mut value = as_json(metainfo);
        if let Some(counts) = counts {
            value["scrape"] = counts.iter().map(tracker_json).collect();
        }
        return terminal.line(&value.to_string());
    }
    let layout = metainfo.layout();
    let field = |name: &str, value: &str| terminal.line(&format!("{name:<12} {value}"));
    field("Name", metainfo.name());
    let hashes = metainfo.info_hashes();
    if let Some(v1) = hashes.v1 {
        field("Info hash", &v1.to_string());
    }
    if let Some(v2) = hashes.v2 {
        field("Info hash v2", &v2.to_string());
    }
    match metainfo.format() {
        Format::V1 => {}
        Format::V2 => field("Version", "BitTorrent v2"),
        Format::Hybrid => field("Version", "BitTorrent v1 and v2 in one"),
    }
    if let Some(missing) = metainfo.layers().map(|layers| layers.missing().count() as u64)
        && missing > 0
    {
        let of = count(missing, "file");
        field("Piece hashes", &format!("those of {of} are not here; peers are asked for them"));
    }
    field("Size", &format!("{} ({} bytes)", bytes(layout.total_len()), layout.total_len()));
    field("Pieces", &format!("{} of {}", layout.piece_count(), bytes(layout.piece_len().into())));
    if metainfo.is_private() {
        field("Private", "peers come from the trackers only");
    }
    let optional = [
        ("Comment", metainfo.comment().map(str::to_owned)),
        ("Created by", metainfo.created_by().map(str::to_owned)),
        ("Created", metainfo.creation_date().map(date)),
        ("Source", metainfo.source().map(str::to_owned)),
        ("Update from", metainfo.update_url().map(str::to_owned)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    metainfo.collections().iter().for_each(|name| field("Collection", name));
    metainfo.similar().iter().for_each(|hash| field("Similar", &hash.to_string()));
    for (number, tier) in metainfo.trackers().iter().enumerate() {
        for url in tier {
            let counted =
                counts.into_iter().flatten().find(|tracker| tracker.url == *url).map(counted);
            field(
                &format!("Tracker {}", number + 1),
                &format!("{url}{}", counted.unwrap_or_default()),
            );
        }
    }
    metainfo.web_seeds().iter().chain(metainfo.http_seeds()).for_each(|url| field("Web seed", url));
    metainfo.nodes().iter().for_each(|(host, port)| field("DHT node", &format!("{host}:{port}")));
    let files = layout.files().iter().filter(|file| !file.is_pad);
    field("Magnet", &Magnet::of(metainfo).to_string());
    field("Files", &count(files.clone().count() as u64, "file"));
    for file in files {
        terminal.line(&format!("{:>12} {}", bytes(file.len), file.path.to_path_buf().display()));
    }
}

/// Has the trackers count; waits until all have answered, or for as long as people do.
fn scrape(
    metainfo: &Metainfo,
    config: SessionConfig,
    interrupt: &Interrupt,
) -> Result<Vec<TrackerStatus>, Failure> {
    interrupt.in_order();
    let session = Session::start(SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], ..config.listen },
        lsd: false,
        dht: DhtConfig::off(),
        nat: NatConfig::OFF,
        ..config
    })?;
    // Stopped, and where nothing is: it neither reads nor writes nor announces.
    let options =
        AddOptions { is_stopped: true, dir: "/nonexistent".into(), ..AddOptions::default() };
    let torrent = session.add(metainfo.clone(), options)?;
    torrent.scrape()?;
    let asked_at = Instant::now();
    loop {
        let trackers = torrent.trackers()?;
        if trackers.iter().all(|tracker| !tracker.is_scraping) || asked_at.elapsed() > PATIENCE {
            return Ok(trackers);
        }
        if interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        std::thread::sleep(TICK);
    }
}

fn counted(tracker: &TrackerStatus) -> String {
    match (tracker.seeds, tracker.leechers, &tracker.last_error) {
        (Some(seeds), Some(leechers), _) => {
            format!(" ({}, {})", count(seeds, "seed"), count(leechers, "leecher"))
        }
        (_, _, Some(error)) => format!(" ({error})"),
        _ => " (no answer)".to_owned(),
    }
}

fn tracker_json(tracker: &TrackerStatus) -> serde_json::Value {
    json!({
        "url": tracker.url,
        "seeds": tracker.seeds,
        "leechers": tracker.leechers,
        "error": tracker.last_error,
    })
}

fn as_json(metainfo: &Metainfo) -> serde_json::Value {
    let layout = metainfo.layout();
    let files: Vec<_> = layout
        .files()
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let root = metainfo.layers().and_then(|layers| layers.root(index));
            json!({
                "path": file.path.to_path_buf().to_string_lossy(),
                "length": file.len,
                "pad": file.is_pad,
                "pieces_root": root.map(|root| InfoHashV2(root).to_string()),
            })
        })
        .collect();
    json!({
        "name": metainfo.name(),
        "info_hash": metainfo.info_hash().to_string(),
        "info_hash_v1": metainfo.info_hashes().v1.map(|hash| hash.to_string()),
        "info_hash_v2": metainfo.info_hashes().v2.map(|hash| hash.to_string()),
        "length": layout.total_len(),
        "piece_length": layout.piece_len(),
        "pieces": layout.piece_count(),
        "private": metainfo.is_private(),
        "comment": metainfo.comment(),
        "created_by": metainfo.created_by(),
        "creation_date": metainfo.creation_date(),
        "source": metainfo.source(),
        "similar": metainfo.similar().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "collections": metainfo.collections(),
        "update_url": metainfo.update_url(),
        "trackers": metainfo.trackers(),
        "web_seeds": metainfo.web_seeds(),
        "http_seeds": metainfo.http_seeds(),
        "nodes": metainfo.nodes(),
        "magnet": Magnet::of(metainfo).to_string(),
        "files": files,
    })
}

/// `2026-11-21T07:30:00Z`, or the number itself if it is no time that people write so.
fn date(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(since) if since <= LAST_SECOND => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(since)).to_string()
        }
        _ => format!("{seconds} seconds from 1970"),
    }
}

const PATIENCE: Duration = Duration::from_secs(15);
/// How long trackers may take to hear that we leave.
const LEAVING_PATIENCE: Duration = Duration::from_millis(800);
const TICK: Duration = Duration::from_millis(50);
/// The end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_shown_as_a_date() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_827_696), "2000-02-29T12:34:56Z");
        for odd in [-1, i64::MIN, i64::MAX, LAST_SECOND as i64 + 1] {
            assert_eq!(date(odd), format!("{odd} seconds from 1970"));
        }
        assert_eq!(date(LAST_SECOND as i64), "9999-12-31T23:59:59Z");
    }
}
