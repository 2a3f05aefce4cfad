"""One seed and five leechers of four kinds that find each other through a tracker only."""

import payload
import torrentfile
from casebook import case
from clients import Aria2, Flotilla, Libtorrent, Transmission
from tracker import PORT as TRACKER_PORT
from tracker import FlotillaTracker, Opentracker

MEBIBYTES = 12
SECONDS = 60
OTHERS = [Transmission, Libtorrent, Aria2]


def swarm(stage, tracker_kind, scheme, us=Flotilla):
    """Everyone gets everything, stays as a seed, and the tracker knows it."""
    meeting_point = stage.host("tracker")
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    path = "/announce" if scheme == "http" else ""
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [f"{scheme}://{meeting_point.address(TRACKER_PORT)}{path}"])
    tracker = stage.client(tracker_kind)
    tracker.start(meeting_point, [torrent])
    stage.client(us, "seed").seed(stage.host("seed"), torrent, files.parent)
    stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    leechers = []
    for number, kind in enumerate([*OTHERS, us, us], 1):
        client = stage.client(kind, f"{kind.__name__.lower()}{number}")
        target = stage.folder(f"download{number}")
        client.fetch(stage.host(f"leech{number}"), torrent, target)
        leechers.append((client, target))
    for client, _ in leechers:
        stage.wait(client.is_done, SECONDS, f"{client.name} to have everything")
    everyone = (1 + len(leechers), 0)
    stage.wait(lambda: tracker.scrape(torrent) == everyone, 20, f"the tracker to know {everyone[0]} seeds")
    stage.finish()
    for client, target in leechers:
        stage.compare(files, target, client)


NEEDS = [Flotilla, *OTHERS]


@case("swarm-opentracker-http", [Opentracker, *NEEDS], SECONDS + 60)
def opentracker_http(stage):
    swarm(stage, Opentracker, "http")


@case("swarm-opentracker-udp", [Opentracker, *NEEDS], SECONDS + 60)
def opentracker_udp(stage):
    swarm(stage, Opentracker, "udp")


@case("swarm-flotilla-http", NEEDS, SECONDS + 60)
def flotilla_http(stage):
    swarm(stage, FlotillaTracker, "http")


@case("swarm-flotilla-udp", NEEDS, SECONDS + 60)
def flotilla_udp(stage):
    swarm(stage, FlotillaTracker, "udp")


@case("self-swarm-http", [Opentracker, *OTHERS], SECONDS + 60, hidden=True)
def self_http(stage):
    swarm(stage, Opentracker, "http", us=Libtorrent)


@case("self-swarm-udp", [Opentracker, *OTHERS], SECONDS + 60, hidden=True)
def self_udp(stage):
    swarm(stage, Opentracker, "udp", us=Libtorrent)
