"""Connections that look like noise: with every client, each side requiring it in turn; what is chosen where a client can be told."""

import payload
import torrentfile
from casebook import case
from clients import PORT, Aria2, Flotilla, Libtorrent, Qbittorrent, Rtorrent, Transmission
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 12
SECONDS = 40
SLOWLY = 0.1  # MiB a second


def transfer(stage, other, theirs, ours, we_seed, is_encrypted=True):
    """Moves a file between us and another client, and looks at what both say of the connection."""
    here, there = stage.host("seed"), stage.host("leech")
    files = payload.single(stage.folder("original"), MEBIBYTES)
    tracked = other.needs_tracker or we_seed and not other.takes_peers
    trackers = []
    if tracked:
        meeting_point = stage.host("tracker")
        trackers = [f"http://{meeting_point.address(TRACKER_PORT)}/announce"]
    torrent = torrentfile.make(files, stage.dir / "a.torrent", trackers)
    if tracked:
        tracker = stage.client(OwnTracker)
        tracker.start(meeting_point)
    us, them = stage.client(Flotilla), stage.client(other)
    them.encryption = theirs
    option = ["--encryption", ours]
    target = stage.folder("download")
    peers = [] if tracked else [here.address(PORT)]
    if we_seed:
        us.seed(here, torrent, files.parent, *option)
    else:
        them.seed(here, torrent, files.parent)
    if tracked:
        stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    said = []
    if we_seed:
        them.fetch(there, torrent, target, peers)
    elif hasattr(them, "are_peers_encrypted"):
        # Once everything has arrived the two part: it is held back until the other client has been asked.
        here.limit(SLOWLY)
        us.fetch(there, torrent, target, peers, *option)
        said = look(stage, them)
        here.unlimit()
    else:
        us.fetch(there, torrent, target, peers, *option)
    fetcher = them if we_seed else us
    stage.wait(fetcher.is_done, SECONDS, f"{fetcher.name} to have everything")
    seen = [event["encrypted"] for event in us.events("peer_connected")]
    stage.finish()
    stage.compare(files, target, fetcher)
    if not seen or any(one != is_encrypted for one in seen):
        raise Failed(f"encrypted, as we see it: {seen}")
    if any(one != is_encrypted for one in said):
        raise Failed(f"encrypted, as {them.name} sees it: {said}")


def look(stage, them):
    """What the other client says of its connection, as soon as it has one."""
    return stage.wait(them.are_peers_encrypted, 20, f"{them.name} to tell of its peer")


def _register(other):
    name = other.__name__.lower()
    needs = [Flotilla, other]
    for theirs, ours in [("required", "allowed"), ("allowed", "required")]:
        who = "they" if theirs == "required" else "we"

        @case(f"encrypted-{name}-seeds-as-{who}-require-it", needs, SECONDS + 50)
        def other_seeds(stage, theirs=theirs, ours=ours):
            transfer(stage, other, theirs, ours, we_seed=False)

        @case(f"encrypted-{name}-fetches-as-{who}-require-it", needs, SECONDS + 50)
        def other_fetches(stage, theirs=theirs, ours=ours):
            transfer(stage, other, theirs, ours, we_seed=True)


for _other in (Transmission, Libtorrent, Aria2, Rtorrent, Qbittorrent):
    _register(_other)


for _other in (Libtorrent, Rtorrent):

    @case(f"encrypted-handshake-{_other.__name__.lower()}-seeds", [Flotilla, _other], SECONDS + 50)
    def handshake_only_from(stage, other=_other):
        transfer(stage, other, "plaintext", "allowed", we_seed=False, is_encrypted=False)

    @case(f"encrypted-handshake-{_other.__name__.lower()}-fetches", [Flotilla, _other], SECONDS + 50)
    def handshake_only_to(stage, other=_other):
        transfer(stage, other, "plaintext", "allowed", we_seed=True, is_encrypted=False)


@case("encrypted-preferred-falls-back", [Flotilla, Libtorrent], SECONDS + 50)
def falls_back(stage):
    transfer(stage, Libtorrent, "off", "preferred", we_seed=False, is_encrypted=False)


@case("encrypted-required-refuses", [Flotilla, Libtorrent], SECONDS + 50)
def refuses(stage):
    """Neither goes there nor is come to without encryption."""
    hosts = [stage.host(name) for name in ("seed", "leech", "plain")]
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    plain, strict, plain_fetcher = stage.client(Libtorrent), stage.client(Flotilla), stage.client(Libtorrent)
    plain.seed(hosts[0], torrent, files.parent)
    strict.fetch(hosts[1], torrent, stage.folder("strict"), [hosts[0].address(PORT)], "--encryption", "required")
    strict.listen()
    plain_fetcher.fetch(hosts[2], torrent, stage.folder("plain"), [hosts[1].address(PORT)])
    codes = lambda: {event["addr"].split(":")[0]: event["code"] for event in strict.events("peer_disconnected")}
    stage.wait(lambda: hosts[2].ip in codes() and hosts[0].ip in codes(), 30, "both connections to end")
    if codes()[hosts[2].ip] != -105 or strict.events("peer_connected"):
        raise Failed(f"without encryption: {codes()}, {strict.events('peer_connected')}")
    stage.finish()
