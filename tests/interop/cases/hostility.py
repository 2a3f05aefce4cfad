"""Peers that lie, talk nonsense, or waste everybody's time while honest ones exchange data."""

import time

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla, Stranger, Transmission
from hostile import MODES
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 10
MEBIBYTES_PER_SECOND = 2.5
MEMORY_MAX = 100  # MiB
HEAD_START = 1.5  # seconds that the stranger has the seed to itself


@case("hostile-liar-is-banned", [Flotilla, Transmission])
def liar_is_banned(stage):
    """Three seeds, one of which serves garbage: it alone is banned."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    meeting_point = stage.host("tracker")
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [f"http://{meeting_point.address(TRACKER_PORT)}/announce"])
    tracker = stage.client(OwnTracker)
    tracker.start(meeting_point)
    seeds = []
    for kind in (Transmission, Flotilla):
        host = stage.host(kind.__name__.lower())
        host.limit(1)
        stage.client(kind, f"{kind.__name__.lower()}-seed").seed(host, torrent, files.parent)
        seeds.append(host)
    liar = stage.host("liar")
    stage.client(Stranger).attack(liar, "corrupt", torrent)
    client, target = stage.client(Flotilla, "leech"), stage.folder("download")
    client.fetch(stage.host("leech"), torrent, target, [host.address(PORT) for host in (liar, *seeds)])
    stage.wait(client.is_done, 60, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)
    banned = {event["ip"] for event in client.events("peer_banned")}
    if banned != {liar.ipv4}:
        raise Failed(f"banned {sorted(banned) or 'nobody'}, but the liar was {liar.ipv4}")


def harass(stage, mode):
    """A stranger does its worst to both ends of an honest transfer."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    hostile = stage.host("stranger")
    here.limit(MEBIBYTES_PER_SECOND)
    seed, leech = stage.client(Flotilla, "seed"), stage.client(Flotilla, "leech")
    seed.seed(here, torrent, files.parent)
    stranger = stage.client(Stranger)
    stranger.attack(hostile, mode, torrent, [here.address(PORT), there.address(PORT)])
    stage.wait(lambda: stranger.has_met(here), 10, "the stranger to get to the seed")
    time.sleep(HEAD_START)
    leech.fetch(there, torrent, target, [hostile.address(PORT), here.address(PORT)])
    stage.wait(lambda: stranger.has_met(there), 10, "the stranger to get to the leech, else this shows nothing")
    stage.wait(leech.is_done, 45, "the honest transfer to finish")
    memory = {client.name: client.peak_memory() for client in (seed, leech)}
    print(memory)
    stage.finish()
    stage.compare(files, target)
    banned = {event["ip"] for client in (seed, leech) for event in client.events("peer_banned")}
    if banned - {hostile.ipv4}:
        raise Failed(f"banned {sorted(banned)}, but the stranger was {hostile.ipv4}")
    for name, mebibytes in memory.items():
        if mebibytes > MEMORY_MAX:
            raise Failed(f"the {name} took {mebibytes:.0f} MiB of memory")


def _register(mode):
    @case(f"hostile-{mode.replace('_', '-')}", [Flotilla], 75)
    def hostile_mode(stage):
        harass(stage, mode)


for _mode in MODES:
    _register(_mode)
