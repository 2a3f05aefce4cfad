"""CTorrent, the oldest of them: one torrent a process, peers from HTTP trackers only, progress on the screen only."""

import re

from .base import PORT, Client


class Ctorrent(Client):
    program = "ctorrent"
    package = "ctorrent"
    needs_tracker = True

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        self.torrent = torrent
        target = directory / torrent.name
        self.launch(host, [self.program, "-s", target, "-p", PORT, "-b", self.dir / "bitfield", "-e", 72, "-v", torrent.path])

    def is_done(self):
        pieces = re.findall(r"\[(\d+)/(\d+)/\d+\]", self.log.read_text(errors="replace"))
        return bool(pieces) and pieces[-1][0] == pieces[-1][1]
