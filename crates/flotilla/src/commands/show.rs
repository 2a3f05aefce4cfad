//! `flotilla show`: what a torrent file says.

use std::time::{Duration, Instant, UNIX_EPOCH};

use engine::{AddOptions, ListenConfig, Session, SessionConfig};
use serde_json::json;
use torrent::metainfo::Metainfo;
use torrent::tracker::TrackerStatus;

use crate::cli::Show;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::source::{USER_AGENT, load};
use crate::terminal::Terminal;
use crate::text::{bytes, count};

pub(crate) fn run(options: &Show, terminal: &Terminal) -> Result<(), Failure> {
    let metainfo = load(&options.source)?;
    let counts = if options.scrape { scrape(&metainfo)? } else { Vec::new() };
    if options.json {
        let mut value = as_json(&metainfo);
        if options.scrape {
            value["scrape"] = counts.iter().map(tracker_json).collect();
        }
        terminal.line(&value.to_string());
        return Ok(());
    }
    let layout = metainfo.layout();
    let field = |name: &str, value: &str| terminal.line(&format!("{name:<12} {value}"));
    field("Name", metainfo.name());
    field("Info hash", &metainfo.info_hash().to_string());
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
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    for (number, tier) in metainfo.trackers().iter().enumerate() {
        for url in tier {
            let counted = counts.iter().find(|tracker| tracker.url == *url).map(counted);
            field(
                &format!("Tracker {}", number + 1),
                &format!("{url}{}", counted.unwrap_or_default()),
            );
        }
    }
    metainfo.web_seeds().iter().chain(metainfo.http_seeds()).for_each(|url| field("Web seed", url));
    metainfo.nodes().iter().for_each(|(host, port)| field("DHT node", &format!("{host}:{port}")));
    let files = layout.files().iter().filter(|file| !file.is_pad);
    field("Files", &count(files.clone().count() as u64, "file"));
    for file in files {
        terminal.line(&format!("{:>12} {}", bytes(file.len), file.path.to_path_buf().display()));
    }
    Ok(())
}

/// Has the trackers count; waits until all have answered, or for as long as people do.
fn scrape(metainfo: &Metainfo) -> Result<Vec<TrackerStatus>, Failure> {
    let interrupt = Interrupt::install()?;
    let session = Session::start(SessionConfig {
        listen: ListenConfig { ports: vec![0..=0], bind: None },
        user_agent: USER_AGENT.to_owned(),
        ..SessionConfig::default()
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
        .map(|file| {
            json!({
                "path": file.path.to_path_buf().to_string_lossy(),
                "length": file.len,
                "pad": file.is_pad,
            })
        })
        .collect();
    json!({
        "name": metainfo.name(),
        "info_hash": metainfo.info_hash().to_string(),
        "length": layout.total_len(),
        "piece_length": layout.piece_len(),
        "pieces": layout.piece_count(),
        "private": metainfo.is_private(),
        "comment": metainfo.comment(),
        "created_by": metainfo.created_by(),
        "creation_date": metainfo.creation_date(),
        "source": metainfo.source(),
        "trackers": metainfo.trackers(),
        "web_seeds": metainfo.web_seeds(),
        "http_seeds": metainfo.http_seeds(),
        "nodes": metainfo.nodes(),
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
