"""Trackers that answer nonsense, or nothing: the download goes on without them, and the trouble is reported."""

import sys
from pathlib import Path

import payload
import torrentfile
from bad_tracker import MODES
from casebook import case
from clients import PORT, Client, Flotilla
from stage import Failed

MEBIBYTES = 4
MEMORY_MAX = 100  # MiB
TOLERATED = ["wrong_peers_length"]  # the odd bytes at the end are left out, and that is meant so: torrent/src/compact.rs
SCRIPT = Path(__file__).parents[1] / "bad_tracker.py"


class BadTracker(Client):
    """bad_tracker.py in one of its modes."""

    program = sys.executable

    def start(self, host, mode):
        self.launch(host, [sys.executable, SCRIPT, mode, PORT])
        self.stage.wait(lambda: self.log.read_text(), 10, f"{self.name} to listen")


def endure(stage, mode):
    """Downloads from a peer while the only tracker is a bad one."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    meeting_point, here, there = stage.host("tracker"), stage.host("seed"), stage.host("leech")
    url = f"http://{meeting_point.address(PORT)}/announce"
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [url])
    stage.client(BadTracker).start(meeting_point, mode)
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    client, target = stage.client(Flotilla, "leech"), stage.folder("download")
    client.fetch(there, torrent, target, [here.address(PORT)])
    stage.wait(client.is_done, 30, "flotilla to have everything")
    kind = "tracker_answered" if mode in TOLERATED else "tracker_failed"
    reports = stage.wait(lambda: client.events(kind), 60, f"a {kind} event")
    print(reports[0])
    if not any(url in map(str, report.values()) for report in reports):
        raise Failed(f"the report does not name {url}: {reports}")
    memory = client.peak_memory()
    stage.finish()
    stage.compare(files, target)
    if memory > MEMORY_MAX:
        raise Failed(f"it took {memory:.0f} MiB of memory")


def _register(mode):
    @case(f"tracker-{mode.replace('_', '-')}", [Flotilla], 110)
    def bad_tracker(stage):
        endure(stage, mode)


for _mode in MODES:
    _register(_mode)
