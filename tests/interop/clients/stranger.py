"""A host's worth of hostile peers: runs hostile.py in one of its modes."""

import sys
from pathlib import Path

from .base import PORT, Client

SCRIPT = Path(__file__).parents[1] / "hostile.py"


class Stranger(Client):
    program = sys.executable

    def attack(self, host, mode, torrent, victims=()):
        """Listens for victims, and dials those given."""
        self.launch(host, [sys.executable, SCRIPT, mode, torrent.path, PORT, *victims])
        self.stage.wait(lambda: self.log.read_text(), 10, f"{self.name} to listen")

    def has_met(self, host):
        """Whether it had a connection to the host."""
        return f"met {host.ip}\n" in self.log.read_text()
