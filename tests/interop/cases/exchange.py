"""Peers found through other peers or on the local network alone; seeds that do not have everything, and seeds that give one copy."""

import subprocess
import time

import payload
import torrentfile
from casebook import case
from cases.nat import Box
from clients import PORT, Aria2, Flotilla, Libtorrent, Transmission
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 6
LONG_MEBIBYTES = 24  # what takes long to come from a seed that is slow: as long as those who fetch it need to meet, and more
SECONDS = 40


def told_of_one(stage, torrent_dir):
    """A tracker that tells everyone of the seed and of nobody else, and a torrent that names it."""
    meeting_point = stage.host("tracker")
    files = payload.single(stage.folder("original"), LONG_MEBIBYTES)
    torrent = torrentfile.make(files, torrent_dir / "a.torrent", [f"http://{meeting_point.address(TRACKER_PORT)}/announce"])
    tracker = stage.client(OwnTracker)
    tracker.gives = 1
    tracker.start(meeting_point)
    return files, torrent, tracker


def exchange(stage, seed_kind, leech_kinds):
    """All leeches know the seed only, which is too slow for them until whoever is one of us knows every other."""
    files, torrent, tracker = told_of_one(stage, stage.dir)
    at = stage.host("seed")
    seed = stage.client(seed_kind, "seed")
    seed.exchange = True
    seed.seed(at, torrent, files.parent)
    at.limit(0.1)
    stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    leeches = []
    for number, kind in enumerate(leech_kinds, 1):
        leech = stage.client(kind, f"{kind.__name__.lower()}{number}")
        leech.exchange = True
        leech.fetch(stage.host(f"leech{number}"), torrent, stage.folder(f"download{number}"))
        leeches.append(leech)
    for one in leeches:
        others = {leech.host.ip for leech in leeches if leech is not one}
        if isinstance(one, Flotilla):
            stage.wait(lambda: others <= one.peer_ips(), SECONDS, f"{one.name} to meet {', '.join(sorted(others))}")
    at.unlimit()
    for leech in leeches:
        stage.wait(leech.is_done, SECONDS, f"{leech.name} to have everything")
    stage.finish()
    for number, leech in enumerate(leeches, 1):
        stage.compare(files, stage.dir / f"download{number}", leech)


@case("exchange-from-us-to-libtorrent", [Flotilla, Libtorrent], 3 * SECONDS)
def to_libtorrent(stage):
    exchange(stage, Flotilla, [Libtorrent, Flotilla, Libtorrent])


@case("exchange-from-libtorrent-to-us", [Flotilla, Libtorrent], 3 * SECONDS)
def from_libtorrent(stage):
    exchange(stage, Libtorrent, [Flotilla, Flotilla])


@case("exchange-from-us-to-transmission", [Flotilla, Transmission], 3 * SECONDS)
def to_transmission(stage):
    exchange(stage, Flotilla, [Transmission, Flotilla, Transmission])


def local(stage, seed_kind, leech_kind, **families):
    """They know nobody, and are on one network."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    seed, leech = stage.client(seed_kind, "seed"), stage.client(leech_kind, "leech")
    seed.lsd = leech.lsd = True
    seed.seed(stage.host("seed", **families), torrent, files.parent)
    target = stage.folder("download")
    leech.fetch(stage.host("leech", **families), torrent, target)
    stage.wait(leech.is_done, SECONDS, f"{leech.name} to have everything")
    stage.finish()
    stage.compare(files, target, leech)


def _register(other):
    name = other.__name__.lower()

    @case(f"lsd-{name}-seeds", [Flotilla, other], SECONDS + 40)
    def other_seeds(stage):
        local(stage, other, Flotilla)

    @case(f"lsd-{name}-fetches", [Flotilla, other], SECONDS + 40)
    def other_fetches(stage):
        local(stage, Flotilla, other)


for _other in (Libtorrent, Transmission, Aria2):
    _register(_other)


@case("lsd-over-ipv6", [Flotilla], SECONDS + 40)
def over_ipv6(stage):
    local(stage, Flotilla, Flotilla, ipv4=False, ipv6=True)


@case("lsd-not-for-private-torrents", [Flotilla], 60)
def private(stage):
    """Of two torrents the one that is private is not found."""
    files = payload.single(stage.folder("original"), 1)
    secret = payload.single(stage.folder("secret"), 1, "secret.bin")
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    hidden = torrentfile.make(secret, stage.dir / "b.torrent", is_private=True)
    hosts = {name: stage.host(name) for name in ("seed", "hidden", "leech", "seeker")}
    clients = {name: stage.client(Flotilla, name) for name in hosts}
    for client in clients.values():
        client.lsd = True
    clients["hidden"].seed(hosts["hidden"], hidden, secret.parent)
    clients["seed"].seed(hosts["seed"], torrent, files.parent)
    clients["seeker"].fetch(hosts["seeker"], hidden, stage.folder("nothing"))
    clients["leech"].fetch(hosts["leech"], torrent, stage.folder("download"))
    stage.wait(clients["leech"].is_done, SECONDS, "the leech to have everything")
    met = clients["seeker"].peer_ips() | clients["hidden"].peer_ips()
    stage.finish()
    if met:
        raise Failed(f"a private torrent was found by {', '.join(sorted(met))}")


@case("partial-seed-libtorrent", [Flotilla, Libtorrent], SECONDS + 60)
def partial(stage):
    """libtorrent wants the first file only and has it; we get that of it, and then have no use for each other."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    seed = stage.client(Flotilla, "seed")
    seed.seed(stage.host("seed"), torrent, files.parent)
    them = stage.client(Libtorrent)
    first = max(range(len(files.files)), key=lambda number: files.files[number][1])
    them.priorities = [4 if number == first else 0 for number in range(len(files.files))]
    there = stage.host("partial")
    them.fetch(there, torrent, stage.folder("partial"), [seed.host.address(PORT)])
    stage.wait(lambda: them.status().get("finished"), SECONDS, "libtorrent to have what it wants")
    seed.stop()
    leech = stage.client(Flotilla, "leech")
    leech.fetch(stage.host("leech"), torrent, stage.folder("download"), [there.address(PORT)])
    parted = stage.wait(lambda: leech.events("peer_disconnected"), SECONDS, "us to part from the partial seed")
    if parted[0]["code"] != -41 or not leech.events("piece_verified"):
        raise Failed(f"we parted like this: {parted[0]}")
    # What it has, we pass on: now as a partial seed ourselves.
    fellow = stage.client(Libtorrent, "fellow")
    fellow.fetch(stage.host("fellow"), torrent, stage.folder("passed on"), [leech.host.address(PORT)])
    stage.wait(lambda: fellow.status().get("down", 0) >= files.files[first][1] * 0.9, SECONDS, "libtorrent to get of us what we have")
    stage.finish()


@case("super-seeding-libtorrent", [Flotilla, Libtorrent], 90)
def super_seeding(stage):
    """Four leeches know each other; the first seed sends little more than one copy."""
    files = payload.single(stage.folder("original"), 2 * MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    at = stage.host("seed")
    seed = stage.client(Flotilla, "seed")
    seed.seed(at, torrent, files.parent, "--super-seeding")
    at.limit(2)
    leeches = []
    for number in range(1, 5):
        leech = stage.client(Libtorrent, f"leech{number}")
        known = [at.address(PORT), *(leech.host.address(PORT) for leech in leeches)]
        leech.fetch(stage.host(f"leech{number}"), torrent, stage.folder(f"download{number}"), known)
        leech.listen()
        leeches.append(leech)
    for leech in leeches:
        stage.wait(leech.is_done, 70, f"{leech.name} to have everything")
    copies = at.sent() / files.size
    print(f"{copies:.2f} copies")
    stage.finish()
    for number in range(1, 5):
        stage.compare(files, stage.dir / f"download{number}")
    if copies > 1.6:
        raise Failed(f"the seed has sent {copies:.2f} copies")


STRICT = """
table ip box {
    chain into {
        type filter hook input priority filter;
        iifname "eth0" meta l4proto tcp reject with tcp reset
        iifname "eth0" meta l4proto udp drop
    }
}
"""


@case("holepunch", [Flotilla, Box], 90)
def holepunch(stage):
    """Two behind routers that let nobody in meet, because a third that is connected to both introduces them. Nobody has anything."""
    _, torrent, tracker = told_of_one(stage, stage.dir)
    at = stage.host("relay")
    relay = stage.client(Flotilla, "relay")
    relay.exchange = True
    relay.fetch(at, torrent, stage.folder("nothing"), [])
    stage.wait(lambda: tracker.scrape(torrent) == (0, 1), 20, "the relay to announce itself")
    boxes = [stage.client(Box, name) for name in ("home", "away")]
    for number, box in enumerate(boxes, 1):
        box.start(stage, number, ["none"])
        subprocess.run(["ip", "netns", "exec", box.host.namespace, "nft", "-f", "-"], input=STRICT, text=True, check=True)
    hosts = [stage.host("other"), *(box.network.host("leech") for box in boxes)]
    leeches = []
    for number, host in enumerate(hosts):
        leech = stage.client(Flotilla, f"leech{number}")
        leech.exchange = True
        leech.within = ["env", "FLOTILLA_LOG=engine::dial=debug"]
        leech.fetch(host, torrent, stage.folder(f"download{number}"), [], "--no-nat")
        stage.wait(lambda: at.ip in leech.peer_ips(), 20, f"{leech.name} to reach the relay")
        # Whoever has just been told of the one before is not told of the next within the same minute: only that one dials.
        time.sleep(3)
        leeches.append(leech)
    _, home, away = leeches
    stage.wait(lambda: boxes[0].host.ip in away.peer_ips(), 50, "the one who came last to meet the one behind the other router")
    stage.wait(lambda: boxes[1].host.ip in home.peer_ips(), 10, "the other to know of it")
    # Else they have met by chance. What introduces the one may come after the other has reached it.
    for leech in (home, away):
        stage.wait(lambda: "meeting" in leech.log.read_text(errors="replace"), 20, f"{leech.name} to be introduced")
    stage.finish()
