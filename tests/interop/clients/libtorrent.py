"""libtorrent (Rasterbar), through a little script that Debian's own Python runs, for that has the bindings."""

import json
import subprocess
from pathlib import Path

from stage import environment

from .base import PORT, Client

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parents[1] / "libtorrent_peer.py"


# Policies: 0 always, 1 if the peer likes, 2 never. Levels: 1 the handshake only, 2 everything, 3 either.
ENCRYPTION = {
    "off": {"in_enc_policy": 2, "out_enc_policy": 2},
    "allowed": {"in_enc_policy": 1, "out_enc_policy": 1, "allowed_enc_level": 3},
    "required": {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 2},
    "plaintext": {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": 1},
}


class Libtorrent(Client):
    program = PYTHON
    package = "python3-libtorrent"
    takes_peers = True
    speaks_ipv6 = True
    # 0 for each file that it is to leave out, 4 for the others; nothing to have it take all.
    priorities = []

    @classmethod
    def missing(cls):
        found = subprocess.run([PYTHON, "-c", "import libtorrent"], stderr=subprocess.DEVNULL).returncode == 0
        return None if found else f"libtorrent's Python bindings are not installed: apt-get install {cls.package}"

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        wishes = ENCRYPTION[self.encryption] | {"enable_lsd": self.lsd}
        if self.dht:
            wishes |= {"enable_dht": True, "dht_bootstrap_nodes": self.dht, "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False}
        wishes |= {f"enable_{way}_{road}": is_on for way in ("incoming", "outgoing") for road, is_on in (("utp", self.utp), ("tcp", self.tcp))}
        settings = {"LIBTORRENT_SETTINGS": json.dumps(wishes), "LIBTORRENT_PRIORITIES": json.dumps(self.priorities)}
        self.launch(host, [PYTHON, SCRIPT, torrent.link or torrent.path, directory, str(PORT), *peers], env=environment(self.dir) | settings)

    def is_done(self):
        return self.status().get("seeding", False)

    def peer_ips(self):
        """Whom it is connected to."""
        return set(self.status().get("ips", []))

    def are_peers_encrypted(self):
        """What it says of each of its peers."""
        return [kind == "rc4" for kind in self.status().get("peers", [])]

    def status(self):
        """The last complete line that the script has printed about itself."""
        lines = [line for line in self.lines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}
