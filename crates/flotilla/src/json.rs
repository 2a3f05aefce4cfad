//! What happens, as one JSON object a line.

use engine::{Event, EventKind, Torrent, TorrentState, TorrentStatus};
use serde_json::{Value, json};
use torrent::swarm::Direction;

/// An event of the session.
pub(crate) fn event(event: &Event) -> Value {
    let mut value = match &event.kind {
        EventKind::StateChanged(state) => state_fields(state),
        EventKind::StatusChanged(word) => json!({ "status": word.bits() }),
        EventKind::PieceVerified(piece) | EventKind::PieceFailed(piece) => {
            json!({ "piece": piece.0 })
        }
        EventKind::Completed | EventKind::MetadataReceived => json!({}),
        EventKind::ResumeRefused { path, error } => {
            json!({ "path": path.to_string_lossy(), "error": error })
        }
        EventKind::ListenSucceeded { addr } => json!({ "addr": addr.to_string() }),
        EventKind::ListenFailed { addr, error } => {
            json!({ "addr": addr.to_string(), "error": error })
        }
        EventKind::NotListening { error } | EventKind::PortNotMapped { error } => {
            json!({ "error": error })
        }
        EventKind::DhtBootstrapped { is_v6, nodes } => json!({ "ipv6": is_v6, "nodes": nodes }),
        EventKind::DhtAnswered { nodes, peers, stored } => {
            json!({ "nodes": nodes, "peers": peers, "stored": stored })
        }
        EventKind::TrackerAnswered { url, peers, complete, incomplete, interval } => json!({
            "url": url,
            "peers": peers,
            "complete": complete,
            "incomplete": incomplete,
            "interval": interval.as_secs(),
        }),
        EventKind::TrackerWarned { url, warning } => json!({ "url": url, "warning": warning }),
        EventKind::TrackerFailed { url, error, times_in_row, status_code } => json!({
            "url": url, "error": error, "times_in_row": times_in_row, "status_code": status_code
        }),
        EventKind::WebSeedAnswered { url } => json!({ "url": url }),
        EventKind::WebSeedFailed { url, error, times_in_row, status_code, is_dropped } => json!({
            "url": url,
            "error": error,
            "times_in_row": times_in_row,
            "status_code": status_code,
            "dropped": is_dropped,
        }),
        EventKind::ConnectionOpened { addr, direction } => {
            json!({ "addr": addr.to_string(), "incoming": *direction == Direction::Incoming })
        }
        EventKind::PeerConnected { addr, direction, is_encrypted, is_utp, .. } => json!({
            "addr": addr.to_string(),
            "incoming": *direction == Direction::Incoming,
            "encrypted": is_encrypted,
            "utp": is_utp,
        }),
        EventKind::PeerDisconnected { addr, reason, detail, .. } => {
            json!({ "addr": addr.to_string(), "reason": detail, "code": reason.code() })
        }
        EventKind::PeerFailed { addr, fault } => {
            json!({ "addr": addr.to_string(), "fault": fault.to_string() })
        }
        EventKind::InvalidRequest { addr, block, fault } => json!({
            "addr": addr.to_string(),
            "piece": block.piece.0,
            "offset": block.offset,
            "length": block.len,
            "fault": fault.to_string(),
        }),
        EventKind::IpFiltered { addr, rule, .. } => {
            json!({ "addr": addr.to_string(), "rule": rule })
        }
        EventKind::FileFailed { path, error, .. } => {
            json!({ "path": path.to_string_lossy(), "error": error })
        }
        EventKind::PeerBanned { ip } | EventKind::ExternalAddress { ip } => {
            json!({ "ip": ip.to_string() })
        }
        EventKind::PortMapped { port, ports } => json!({
            "port": port,
            "external_ip": ports.external_ip.map(|ip| ip.to_string()),
            "tcp": ports.tcp,
            "udp": ports.udp,
            "by": ports.by.to_string(),
        }),
        EventKind::ProxyFailed { proxy, error } => json!({ "proxy": proxy, "error": error }),
        EventKind::LimitsChanged { download, upload } => {
            json!({ "download": download, "upload": upload })
        }
        EventKind::DiskFailed(error) | EventKind::MetadataRefused(error) => {
            json!({ "error": error })
        }
        EventKind::Lagged(count) => json!({ "count": count }),
        // The others are too frequent for a script; we do not ask for them.
        _ => json!({}),
    };
    value["event"] = event.kind.name().into();
    if let Some(torrent) = event.torrent {
        value["torrent"] = torrent.to_string().into();
    }
    value
}

/// How a torrent stands, told every second.
pub(crate) fn progress(torrent: &Torrent, status: &TorrentStatus) -> Value {
    let mut value = json!({
        "event": "progress",
        "torrent": torrent.info_hash().to_string(),
        "name": status.name,
        "progress": status.progress(),
        "wanted": status.wanted_len,
        "done": status.wanted_done_len,
        "downloaded": status.downloaded,
        "uploaded": status.uploaded,
        "wasted": status.wasted,
        "download_rate": status.download_rate,
        "upload_rate": status.upload_rate,
        "peers": status.peers_connected,
        "seeds": status.seeds_connected,
        "peers_known": status.peers_known,
        "web_seeds": status.web_seeds_active,
        "web_seed_trouble": status.web_seed_trouble,
        "eta": status.eta.map(|eta| eta.as_secs()),
        "tracker_trouble": status.tracker_trouble,
    });
    let state = state_fields(&status.state);
    if let (Some(all), Value::Object(state)) = (value.as_object_mut(), state) {
        all.extend(state);
    }
    value
}

fn state_fields(state: &TorrentState) -> Value {
    match state {
        TorrentState::Checking { done, total } => {
            json!({ "state": "checking", "checked": done, "to_check": total })
        }
        TorrentState::FetchingMetadata { done, total } => {
            json!({ "state": "fetching_metadata", "metadata_done": done, "metadata_size": total })
        }
        TorrentState::Downloading => json!({ "state": "downloading" }),
        TorrentState::Seeding => json!({ "state": "seeding" }),
        TorrentState::Paused => json!({ "state": "paused" }),
        TorrentState::Failed(error) => json!({ "state": "failed", "error": error }),
        TorrentState::Stopped => json!({ "state": "stopped" }),
        TorrentState::Removed => json!({ "state": "removed" }),
        _ => json!({ "state": "unknown" }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use engine::StatusWord;

    use super::*;

    fn told(kind: EventKind) -> String {
        event(&Event { torrent: None, at: Instant::now(), kind }).to_string()
    }

    #[test]
    fn what_happens_is_told_in_fields() {
        let addr = "192.0.2.1:6881".parse().unwrap();
        let word = StatusWord::QUEUED.with(StatusWord::LOADED);
        let answer = EventKind::TrackerAnswered {
            url: "http://t/".to_owned(),
            peers: 3,
            complete: Some(2),
            incomplete: None,
            interval: Duration::from_secs(1800),
        };
        for (kind, json) in [
            (EventKind::StatusChanged(word), r#"{"event":"status","status":192}"#),
            (
                EventKind::ListenSucceeded { addr },
                r#"{"addr":"192.0.2.1:6881","event":"listen_succeeded"}"#,
            ),
            (
                EventKind::ListenFailed { addr, error: "in use".to_owned() },
                r#"{"addr":"192.0.2.1:6881","error":"in use","event":"listen_failed"}"#,
            ),
            (
                EventKind::DhtBootstrapped { is_v6: false, nodes: 20 },
                r#"{"event":"dht_bootstrapped","ipv6":false,"nodes":20}"#,
            ),
            (
                EventKind::DhtAnswered { nodes: 8, peers: 2, stored: 7 },
                r#"{"event":"dht_answered","nodes":8,"peers":2,"stored":7}"#,
            ),
            (
                EventKind::ResumeRefused { path: "a.resume".into(), error: "cut".to_owned() },
                r#"{"error":"cut","event":"resume_refused","path":"a.resume"}"#,
            ),
            (
                answer,
                r#"{"complete":2,"event":"tracker_answered","incomplete":null,"interval":1800,"peers":3,"url":"http://t/"}"#,
            ),
        ] {
            assert_eq!(told(kind), json);
        }
    }
}
