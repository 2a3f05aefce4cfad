"""Seeds or downloads one torrent with libtorrent until it is told to stop: TORRENT DIRECTORY PORT [HOST:PORT]..."""

import json
import signal
import sys
import time

import libtorrent

CLEARTEXT = 2  # encryption policy: never
settings = {
    "listen_interfaces": f"0.0.0.0:{sys.argv[3]},[::]:{sys.argv[3]}",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "in_enc_policy": CLEARTEXT,
    "out_enc_policy": CLEARTEXT,
    "stop_tracker_timeout": 1,
    "alert_mask": libtorrent.alert.category_t.error_notification | libtorrent.alert.category_t.tracker_notification,
}


def main():
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    session = libtorrent.session(settings)
    handle = session.add_torrent({"ti": libtorrent.torrent_info(sys.argv[1]), "save_path": sys.argv[2]})
    for peer in sys.argv[4:]:
        ip, port = peer.rsplit(":", 1)
        handle.connect_peer((ip.strip("[]"), int(port)))
    while running:
        status = handle.status()
        report = {"seeding": status.is_seeding, "down": status.total_payload_download, "up": status.total_payload_upload}
        print(json.dumps(report), flush=True)
        for alert in session.pop_alerts():
            print(alert.message(), flush=True)
        time.sleep(0.2)
    session.pause()
    time.sleep(0.5)


main()
