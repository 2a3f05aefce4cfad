"""libtorrent (rasterbar) in one seat of bench/run: `seed TORRENT DIR PORT` or `fetch TORRENT DIR PORT PEER`;
`rc4` behind that encrypts everything."""

import sys
import time

import libtorrent as lt

kind, torrent, folder, port = sys.argv[1:5]
encryption = {"in_enc_policy": 2, "out_enc_policy": 2}
if sys.argv[-1] == "rc4":
    encryption = {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 2}
session = lt.session({
    "listen_interfaces": f"0.0.0.0:{port}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
    "enable_natpmp": False, "enable_outgoing_utp": False, "enable_incoming_utp": False,
    "allow_multiple_connections_per_ip": True, "alert_mask": lt.alert.category_t.status_notification,
    **encryption,
    # What its high_performance_seed preset raises, for a fast link.
    "send_buffer_watermark": 3 << 20, "send_buffer_watermark_factor": 150, "max_out_request_queue": 1500,
    "max_allowed_in_request_queue": 2000, "max_queued_disk_bytes": 64 << 20, "unchoke_slots_limit": 8,
})
info = lt.torrent_info(torrent)
handle = session.add_torrent({"ti": info, "save_path": folder, "storage_mode": lt.storage_mode_t.storage_mode_sparse})
if kind == "fetch":
    host, peer_port = sys.argv[5].rsplit(":", 1)
    while handle.status().state == lt.torrent_status.checking_resume_data:
        time.sleep(0.01)
    handle.connect_peer((host, int(peer_port)))
    while not handle.status().is_seeding:
        time.sleep(0.01)
    sys.exit(0)
while True:
    time.sleep(1)
