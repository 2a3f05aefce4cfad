"""libtorrent (Rasterbar), through a little script that Debian's own Python runs, for that has the bindings."""

import json
import subprocess
from pathlib import Path

from .base import PORT, Client

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).parents[1] / "libtorrent_peer.py"


class Libtorrent(Client):
    program = PYTHON
    package = "python3-libtorrent"
    takes_peers = True
    speaks_ipv6 = True

    @classmethod
    def missing(cls):
        found = subprocess.run([PYTHON, "-c", "import libtorrent"], stderr=subprocess.DEVNULL).returncode == 0
        return None if found else f"libtorrent's Python bindings are not installed: apt-get install {cls.package}"

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        self.launch(host, [PYTHON, SCRIPT, torrent.path, directory, str(PORT), *peers])

    def is_done(self):
        return self.status().get("seeding", False)

    def status(self):
        """The last complete line that the script has printed about itself."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{") and line.endswith("}")]
        return json.loads(lines[-1]) if lines else {}
