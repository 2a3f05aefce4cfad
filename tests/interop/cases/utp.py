"""uTP and nothing else, with each client that talks it, either way; also where datagrams are lost. And who has both finds the other's road."""

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla, Libtorrent, Transmission
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 16
SECONDS = 90  # losses and a busy machine together take Transmission over 30
LOSSY_MEBIBYTES = 4


def transfer(stage, seeder, fetcher, is_utp=True, mebibytes=MEBIBYTES, is_lossy=False):
    """Moves a file from one to the other; each is a function that makes a client, and the options that Flotilla gets."""
    here, there = stage.host("seed"), stage.host("leech")
    if is_lossy:
        here.lose(1)
        there.lose(1)
    files = payload.single(stage.folder("original"), mebibytes)
    (first, first_options), (second, second_options) = seeder(stage), fetcher(stage)
    tracked = not second.takes_peers
    trackers = [f"http://{stage.host('tracker').address(TRACKER_PORT)}/announce"] if tracked else []
    torrent = torrentfile.make(files, stage.dir / "a.torrent", trackers)
    if tracked:
        tracker = stage.client(OwnTracker)
        tracker.start(stage.network.hosts[-1])
    first.seed(here, torrent, files.parent, *first_options)
    if tracked:
        stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    target = stage.folder("download")
    second.fetch(there, torrent, target, [] if tracked else [here.address(PORT)], *second_options)
    stage.wait(second.is_done, SECONDS, f"{second.name} to have everything")
    seen = [event["utp"] for client in (first, second) if isinstance(client, Flotilla) for event in client.events("peer_connected")]
    stage.finish()
    stage.compare(files, target, second)
    if not seen or any(one != is_utp for one in seen):
        raise Failed(f"uTP, as we see it: {seen}")


def us(transport="utp"):
    return lambda stage: (stage.client(Flotilla), ["--transport", transport])


def other(kind, utp=True, tcp=False):
    def make(stage):
        client = stage.client(kind)
        client.utp, client.tcp = utp, tcp
        return client, []

    return make


def _register(kind):
    name = kind.__name__.lower()
    needs = [Flotilla, kind]

    @case(f"utp-{name}-seeds", needs, SECONDS + 40)
    def seeds(stage):
        transfer(stage, other(kind), us())

    @case(f"utp-{name}-fetches", needs, SECONDS + 40)
    def fetches(stage):
        transfer(stage, us(), other(kind))

    @case(f"utp-{name}-seeds-with-losses", needs, SECONDS + 40)
    def seeds_with_losses(stage):
        transfer(stage, other(kind), us(), mebibytes=LOSSY_MEBIBYTES, is_lossy=True)

    @case(f"utp-{name}-fetches-with-losses", needs, SECONDS + 40)
    def fetches_with_losses(stage):
        transfer(stage, us(), other(kind), mebibytes=LOSSY_MEBIBYTES, is_lossy=True)


for _kind in (Libtorrent, Transmission):
    _register(_kind)


@case("utp-among-ourselves-with-losses", [Flotilla], SECONDS + 40)
def among_ourselves(stage):
    transfer(stage, us(), us(), mebibytes=LOSSY_MEBIBYTES, is_lossy=True)


@case("utp-after-tcp-failed", [Flotilla, Libtorrent], SECONDS + 40)
def after_tcp(stage):
    transfer(stage, other(Libtorrent), us("both"))


@case("utp-not-needed", [Flotilla, Libtorrent], SECONDS + 40)
def not_needed(stage):
    transfer(stage, other(Libtorrent, utp=False, tcp=True), us("both"), is_utp=False)
