"""Somebody is killed with -9 in the middle: a seed, and Flotilla itself."""

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla, Libtorrent
from payload import MIB
from stage import Failed

MEBIBYTES = 24
MEBIBYTES_PER_SECOND = 3
PIECE_LENGTH = 64 * payload.KIB
OVERHEAD = 1.06  # TCP, IP and Ethernet around the data, and the protocol
SLACK = 2 * MIB  # pieces that were under way, verified but not yet written down, and the like


@case("crash-of-a-seed", [Flotilla, Libtorrent])
def crash_of_a_seed(stage):
    """Two seeds, one of them dies: the other is enough."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    seeds = []
    for kind in (Flotilla, Libtorrent):
        host = stage.host(kind.__name__.lower())
        host.limit(1)
        seed = stage.client(kind)
        seed.seed(host, torrent, files.parent)
        seeds.append(seed)
    there, target = stage.host("leech"), stage.folder("download")
    client = stage.client(Flotilla, "leech")
    client.fetch(there, torrent, target, [seed.host.address(PORT) for seed in seeds])
    survivor, victim = seeds
    stage.wait(lambda: victim.host.sent() > files.size / 8, 30, "the seed that shall die to have sent an eighth")
    if client.is_done():
        raise Failed("the download was over before the seed could be killed")
    victim.kill()
    survivor.host.unlimit()
    stage.wait(client.is_done, 40, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)


@case("crash-of-a-leecher", [Flotilla])
def crash_of_a_leecher(stage):
    """Flotilla dies in the middle, twice, and starts again: what was verified is not fetched again."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    here.limit(MEBIBYTES_PER_SECOND)
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    state = ("--state-dir", stage.folder("state"))
    client = stage.client(Flotilla, "leech")
    for part in (1 / 3, 2 / 3):
        client.fetch(there, torrent, target, [here.address(PORT)], state=state)
        stage.wait(lambda: there.received() > files.size * part, 30, f"{part:.0%} of the bytes to arrive")
        client.kill()
    good = files.good_bytes(target, PIECE_LENGTH)
    before = there.received()
    client.fetch(there, torrent, target, [here.address(PORT)], state=state)
    stage.wait(client.is_done, 40, "flotilla to have everything")
    client.stop()
    again = there.received() - before
    print(f"{good} of {files.size} bytes were right on disk; {again} came over the wire afterwards, {there.received()} in all")
    stage.finish()
    stage.compare(files, target)
    if good < files.size / 3:
        raise Failed(f"only {good} bytes were on disk after the second crash, though {before} had arrived")
    if again > (files.size - good) * OVERHEAD + SLACK:
        raise Failed(f"{good} of {files.size} bytes were right on disk, and yet it fetched {again} bytes more")
