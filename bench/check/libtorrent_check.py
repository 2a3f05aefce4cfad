"""libtorrent (rasterbar), checked by bench/check/run: TORRENT DIR NAME=VALUE..., the latter being settings.

Says "ready" once the torrent is there, believed to be whole; a line of input makes it check, and it prints what that took.
"""

import json
import resource
import sys
import time

import libtorrent as lt


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def wait_until_checked():
    while True:
        session.wait_for_alert(1000)
        if any(isinstance(alert, lt.torrent_checked_alert) for alert in session.pop_alerts()):
            return


torrent, folder = sys.argv[1:3]
settings = {name: int(value) for name, value in (word.split("=") for word in sys.argv[3:])}
session = lt.session({
    "listen_interfaces": "", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "alert_mask": lt.alert.category_t.status_notification, "low_prio_disk": False, **settings,
})
handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": folder, "flags": lt.torrent_flags.seed_mode})
wait_until_checked()
print("ready", flush=True)
sys.stdin.readline()
began, cpu_began = time.monotonic(), cpu()
handle.force_recheck()
wait_until_checked()
seconds, cpu_seconds = time.monotonic() - began, cpu() - cpu_began
progress = handle.status().progress
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "is_good": progress == 1.0}), flush=True)
# Whoever measures looks at the memory of this process before it may end.
sys.stdin.read()
