"""Reads a magnet link, and prints a line when a first piece has the right hash: DIRECTORY PORT."""

import sys

import libtorrent

settings = {
    "listen_interfaces": f"0.0.0.0:{sys.argv[2]}",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "alert_mask": libtorrent.alert.category_t.piece_progress_notification,
}
session = libtorrent.session(settings)
print("ready", flush=True)
adding = libtorrent.parse_magnet_uri(sys.stdin.readline().strip())
adding.save_path = sys.argv[1]
session.add_torrent(adding)
while True:
    session.wait_for_alert(60_000)
    if any(isinstance(alert, libtorrent.piece_finished_alert) for alert in session.pop_alerts()):
        print("piece", flush=True)
        break
sys.stdin.read()
