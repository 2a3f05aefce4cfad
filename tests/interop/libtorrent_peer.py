"""Seeds or downloads one torrent with libtorrent until it is told to stop: TORRENT-OR-LINK DIRECTORY PORT [HOST:PORT]..."""

import json
import os
import signal
import sys
import time

import libtorrent

settings = {
    "listen_interfaces": f"0.0.0.0:{sys.argv[3]},[::]:{sys.argv[3]}",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "stop_tracker_timeout": 1,
    "alert_mask": libtorrent.alert.category_t.error_notification | libtorrent.alert.category_t.tracker_notification,
}
settings |= json.loads(os.environ.get("LIBTORRENT_SETTINGS", "{}"))


def encryption(peer):
    """What of a connection is encrypted: everything, the handshake, or nothing."""
    if peer.flags & libtorrent.peer_info.rc4_encrypted:
        return "rc4"
    return "handshake" if peer.flags & libtorrent.peer_info.plaintext_encrypted else "nothing"


def main():
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    session = libtorrent.session(settings)
    if sys.argv[1].startswith("magnet:"):
        adding = libtorrent.parse_magnet_uri(sys.argv[1])
    else:
        adding = libtorrent.add_torrent_params()
        adding.ti = libtorrent.torrent_info(sys.argv[1])
    adding.save_path = sys.argv[2]
    handle = session.add_torrent(adding)
    if priorities := json.loads(os.environ.get("LIBTORRENT_PRIORITIES", "[]")):
        handle.prioritize_files(priorities)
    for peer in sys.argv[4:]:
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip.strip("[]"), int(port)))
    announce_at = time.monotonic()
    while running:
        status = handle.status()
        if settings["enable_dht"] and time.monotonic() > announce_at:
            announce_at += 3
            handle.force_dht_announce()
        report = {"seeding": status.is_seeding, "down": status.total_payload_download, "up": status.total_payload_upload}
        report["finished"] = status.is_finished
        peers = [peer for peer in handle.get_peer_info() if not peer.flags & (peer.connecting | peer.handshake)]
        report["ips"] = [peer.ip[0] for peer in peers]
        report["peers"] = [encryption(peer) for peer in peers]
        print(json.dumps(report), flush=True)
        for alert in session.pop_alerts():
            print(alert.message(), flush=True)
        time.sleep(0.2)
    session.pause()
    time.sleep(0.5)


main()
