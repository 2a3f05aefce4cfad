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
# What lies between is measured: the beginning is uneven, and the end must not be over.
MARKS = [count * MIB for count in (5, 9, 13, 17, 21)]
TOLERANCE = 0.10


def measure(stage, upload=(), download=()):
    """Downloads with these options and fails unless the rate is as it should be: never more, and as much while the machine has time for it."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent, *upload)
    client = stage.client(Flotilla, "leech")
    client.fetch(there, torrent, target, [here.address(PORT)], *download)
    marks = [arrived(stage, there, count) for count in MARKS]
    rates = [(last - first) / (ended - began) for (first, began), (last, ended) in zip(marks, marks[1:])]
    (first, began), (last, ended) = marks[0], marks[-1]
    rate = (last - first) / (ended - began)
    stage.wait(client.is_done, 30, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)
    print(f"{rate / MIB:.2f} MiB/s: {', '.join(f'{rate / MIB:.2f}' for rate in rates)}")
    if rate > (1 + TOLERANCE) * LIMIT or max(rates) < (1 - TOLERANCE) * LIMIT:
        raise Failed(f"the limit is {LIMIT / MIB} MiB/s, but it went at {rate / MIB:.2f} MiB/s, and at {max(rates) / MIB:.2f} when it was quickest")


def arrived(stage, host, count):
    """Waits for so many bytes. Gives how many there were then, and when that was."""

    def look():
        received = host.received()
        return received >= count and (received, time.monotonic())

    return stage.wait(look, 30, f"{count / MIB:.0f} MiB to arrive")


@case("limit-down", [Flotilla])
def limit_down(stage):
    measure(stage, download=("--limit-down", "2MiB", "--limit-local"))


@case("limit-up", [Flotilla])
def limit_up(stage):
    measure(stage, upload=("--limit-up", "2MiB", "--limit-local"))
