"""Seeds one torrent with a session of libtorrent at each address, until it is killed: TORRENT DIRECTORY ADDR:PORT..."""

import sys
import time

import libtorrent

sessions = []
for address in sys.argv[3:]:
    settings = {
        "listen_interfaces": address,
        "outgoing_interfaces": address.split(":")[0],
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
    }
    session = libtorrent.session(settings)
    adding = libtorrent.add_torrent_params()
    adding.ti = libtorrent.torrent_info(sys.argv[1])
    adding.save_path = sys.argv[2]
    adding.flags |= libtorrent.torrent_flags.seed_mode
    session.add_torrent(adding)
    sessions.append(session)
while True:
    time.sleep(1)
