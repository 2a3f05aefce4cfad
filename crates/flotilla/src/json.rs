//! What happens, as one JSON object a line.

use engine::{Event, EventKind, Torrent, TorrentState, TorrentStatus};
use serde_json::{Value, json};

/// An event of the session.
pub(crate) fn event(event: &Event) -> Value {
    let mut value = match &event.kind {
        EventKind::StateChanged(state) => state_fields(state),
        EventKind::PieceVerified(piece) | EventKind::PieceFailed(piece) => {
            json!({ "piece": piece.0 })
        }
        EventKind::Completed | EventKind::MetadataReceived => json!({}),
        EventKind::TrackerAnswered { url, peers, .. } => json!({ "url": url, "peers": peers }),
        EventKind::TrackerWarned { url, warning } => json!({ "url": url, "warning": warning }),
        EventKind::TrackerFailed { url, error, times_in_row, .. } => {
            json!({ "url": url, "error": error, "times_in_row": times_in_row })
        }
        EventKind::WebSeedAnswered { url } => json!({ "url": url }),
        EventKind::WebSeedFailed { url, error, times_in_row, is_dropped, .. } => json!({
            "url": url, "error": error, "times_in_row": times_in_row, "dropped": is_dropped
        }),
        EventKind::ConnectionOpened { addr, .. } => json!({ "addr": addr.to_string() }),
        EventKind::PeerConnected { addr, is_encrypted, is_utp, .. } => {
            json!({ "addr": addr.to_string(), "encrypted": is_encrypted, "utp": is_utp })
        }
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
        EventKind::PortNotMapped { error } => json!({ "error": error }),
        EventKind::ProxyFailed { proxy, error } => json!({ "proxy": proxy, "error": error }),
        EventKind::LimitsChanged { download, upload } => {
            json!({ "download": download, "upload": upload })
        }
        EventKind::DiskFailed(error) | EventKind::MetadataRefused(error) => {
            json!({ "error": error })
        }
        EventKind::Lagged(count) => json!({ "count": count }),
        other => json!({ "text": format!("{other:?}") }),
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
        other => json!({ "state": format!("{other:?}") }),
    }
}
