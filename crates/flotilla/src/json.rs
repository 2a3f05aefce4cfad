//! What happens, as one JSON object a line.

use engine::{Event, EventKind, Torrent, TorrentState, TorrentStatus};
use serde_json::{Value, json};

/// An event of the session.
pub(crate) fn event(event: &Event) -> Value {
    let (name, mut value) = match &event.kind {
        EventKind::StateChanged(state) => ("state", state_fields(state)),
        EventKind::PieceVerified(piece) => ("piece_verified", json!({ "piece": piece.0 })),
        EventKind::PieceFailed(piece) => ("piece_failed", json!({ "piece": piece.0 })),
        EventKind::Completed => ("completed", json!({})),
        EventKind::TrackerAnswered { url, peers } => {
            ("tracker_answered", json!({ "url": url, "peers": peers }))
        }
        EventKind::TrackerFailed { url, error } => {
            ("tracker_failed", json!({ "url": url, "error": error }))
        }
        EventKind::PeerConnected { addr } => {
            ("peer_connected", json!({ "addr": addr.to_string() }))
        }
        EventKind::PeerDisconnected { addr, reason } => {
            ("peer_disconnected", json!({ "addr": addr.to_string(), "reason": reason }))
        }
        EventKind::PeerBanned { ip } => ("peer_banned", json!({ "ip": ip.to_string() })),
        EventKind::DiskFailed(error) => ("disk_failed", json!({ "error": error })),
        EventKind::Lagged(count) => ("lagged", json!({ "count": count })),
        other => ("other", json!({ "text": format!("{other:?}") })),
    };
    value["event"] = name.into();
    value["torrent"] = event.torrent.to_string().into();
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
        TorrentState::Downloading => json!({ "state": "downloading" }),
        TorrentState::Seeding => json!({ "state": "seeding" }),
        TorrentState::Paused => json!({ "state": "paused" }),
        TorrentState::Failed(error) => json!({ "state": "failed", "error": error }),
        TorrentState::Stopped => json!({ "state": "stopped" }),
        other => json!({ "state": format!("{other:?}") }),
    }
}
