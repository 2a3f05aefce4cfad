"""Every client seeds to Flotilla, and Flotilla seeds to every client; IPv4, and IPv6 where the client can.

A client that cannot be told of a peer finds it through a tracker; the others do without one.
"""

import payload
import torrentfile
from casebook import case
from clients import OTHERS, PORT, Aria2, Flotilla, Libtorrent
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 24
SECONDS = 45


def transfer(stage, seeder, fetcher, family):
    """Moves the folder of files from one to the other."""
    families = {"ipv4": family == "ipv4", "ipv6": family == "ipv6"}
    here, there = stage.host("seed", **families), stage.host("leech", **families)
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    tracked = seeder.needs_tracker or fetcher.needs_tracker or not fetcher.takes_peers
    meeting_point = stage.host("tracker", **families) if tracked else None
    trackers = [f"http://{meeting_point.address(TRACKER_PORT)}/announce"] if meeting_point else []
    torrent = torrentfile.make(files, stage.dir / "a.torrent", trackers)
    if meeting_point:
        tracker = stage.client(OwnTracker)
        tracker.start(meeting_point)
    stage.client(seeder).seed(here, torrent, files.parent)
    if meeting_point:
        stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    target = stage.folder("download")
    client = stage.client(fetcher)
    client.fetch(there, torrent, target, [] if meeting_point else [here.address(PORT)])
    stage.wait(client.is_done, SECONDS, f"{client.name} to have everything")
    stage.finish()
    stage.compare(files, target, client)


def _register(us, other, family, prefix, hidden):
    name = f"{prefix}{other.__name__.lower()}"
    needs = [us, other]

    @case(f"{name}-seeds-{family}", needs, SECONDS + 40, hidden)
    def other_seeds(stage):
        transfer(stage, other, us, family)

    @case(f"{name}-fetches-{family}", needs, SECONDS + 40, hidden)
    def other_fetches(stage):
        transfer(stage, us, other, family)


for _client in OTHERS:
    for _family in ("ipv4", "ipv6") if _client.speaks_ipv6 else ("ipv4",):
        _register(Flotilla, _client, _family, "pair-", False)
        _register(Aria2 if _client is Libtorrent else Libtorrent, _client, _family, "self-", True)
