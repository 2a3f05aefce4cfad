"""--limit-down and --limit-up, measured at the network interface over the steady part of a download."""

import time

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla
from payload import MIB
from stage import Failed

MEBIBYTES = 26
LIMIT = 2 * MIB
WARM_UP, SECONDS = 2, 8
TOLERANCE = 0.10


def measure(stage, upload=(), download=()):
    """Downloads with these options and fails unless the rate is as it should be."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent, *upload)
    client = stage.client(Flotilla, "leech")
    client.fetch(there, torrent, target, [here.address(PORT)], *download)
    stage.wait(lambda: there.received() > MIB, 20, "the download to begin")
    time.sleep(WARM_UP)
    first, began = there.received(), time.monotonic()
    time.sleep(SECONDS)
    rate = (there.received() - first) / (time.monotonic() - began)
    done = client.is_done()
    stage.wait(client.is_done, 30, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)
    print(f"{rate / MIB:.2f} MiB/s")
    if done or abs(rate - LIMIT) > TOLERANCE * LIMIT:
        raise Failed(f"the limit is {LIMIT / MIB} MiB/s, but it went at {rate / MIB:.2f} MiB/s")


@case("limit-down", [Flotilla])
def limit_down(stage):
    measure(stage, download=("--limit-down", "2MiB", "--limit-local"))


@case("limit-up", [Flotilla])
def limit_up(stage):
    measure(stage, upload=("--limit-up", "2MiB", "--limit-local"))
