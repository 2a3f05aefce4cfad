"""The DHT as the only road to peers: ours and others' nodes, in one network without a tracker."""

import payload
import torrentfile
from casebook import case
from clients import Aria2, Flotilla, Libtorrent, Rtorrent, Transmission
from clients.base import PORT
from stage import Failed

MEBIBYTES = 4
SECONDS = 160  # Transmission and aria2 take their time, some of it by chance: 45 to 80 is usual
MANY = 10  # with fewer nodes Transmission takes the DHT for broken, and tells nobody anything


def network(stage, nodes=4):
    """Some nodes of ours. Returns where to begin."""
    hosts = [stage.host(f"node{number}") for number in range(nodes)]
    start = hosts[0].address(PORT)
    for number, host in enumerate(hosts):
        node = stage.client(Flotilla, f"node{number}")
        node.dht = start if number else None
        node.be_node(host)
    return start


def transfer(stage, start, from_kind, to_kind, link=False):
    """One seeds, one fetches, and only the DHT knows both."""
    files = payload.single(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    seed, leech = stage.client(from_kind, "seed"), stage.client(to_kind, "leech")
    seed.dht = leech.dht = start
    seed.seed(stage.host("seed"), torrent, files.parent)
    if link:
        torrent.link = f"magnet:?xt=urn:btih:{torrent.hex}"
    target = stage.folder("download")
    leech.fetch(stage.host("leech"), torrent, target)
    stage.wait(leech.is_done, SECONDS, f"{leech.name} to have everything")
    stage.finish()
    stage.compare(files, target, leech)


@case("dht-ourselves", [Flotilla], 60)
def ourselves(stage):
    transfer(stage, network(stage), Flotilla, Flotilla)


@case("dht-ourselves-magnet", [Flotilla], 60)
def ourselves_magnet(stage):
    transfer(stage, network(stage), Flotilla, Flotilla, link=True)


@case("dht-libtorrent-seeds", [Flotilla, Libtorrent], SECONDS + 20)
def libtorrent_seeds(stage):
    transfer(stage, network(stage), Libtorrent, Flotilla, link=True)


@case("dht-libtorrent-leeches", [Flotilla, Libtorrent], SECONDS + 20)
def libtorrent_leeches(stage):
    transfer(stage, network(stage), Flotilla, Libtorrent, link=True)


@case("dht-transmission-seeds", [Flotilla, Transmission], SECONDS + 20)
def transmission_seeds(stage):
    transfer(stage, network(stage, MANY), Transmission, Flotilla, link=True)


@case("dht-transmission-leeches", [Flotilla, Transmission], SECONDS + 20)
def transmission_leeches(stage):
    transfer(stage, network(stage, MANY), Flotilla, Transmission, link=True)


@case("dht-rtorrent-seeds", [Flotilla, Rtorrent], SECONDS + 20)
def rtorrent_seeds(stage):
    transfer(stage, network(stage), Rtorrent, Flotilla, link=True)


@case("dht-aria2-seeds", [Flotilla, Aria2], SECONDS + 20)
def aria2_seeds(stage):
    transfer(stage, network(stage), Aria2, Flotilla, link=True)


@case("dht-aria2-leeches", [Flotilla, Aria2], SECONDS + 20)
def aria2_leeches(stage):
    transfer(stage, network(stage), Flotilla, Aria2, link=True)


@case("dht-questions", [Flotilla], 90)
def questions(stage):
    """What `flotilla dht` puts, gets, announces and samples."""
    start = network(stage)
    asker, here = stage.client(Flotilla, "asker"), stage.host("asker")
    asker.dht = start
    (target,) = asker.ask_dht(here, "put", "hello, world")
    if (answer := asker.ask_dht(here, "get", target)) != ["hello, world"]:
        raise Failed(f"got {answer}")
    secret = stage.dir / "secret"
    secret.write_text("11" * 32 + "\n")
    for value in ("first", "second"):
        (key,) = asker.ask_dht(here, "put", value, "--key", secret, "--salt", "s")
    if (answer := asker.ask_dht(here, "get", key, "--salt", "s")) != ["second"]:
        raise Failed(f"got {answer}")
    hash = "ab" * 20
    asker.ask_dht(here, "peers", hash, "--announce")
    other = stage.host("other")
    if (answer := asker.ask_dht(other, "peers", hash)) != [here.address(7000)]:
        raise Failed(f"found {answer}")
    if (answer := set(asker.ask_dht(other, "sample", hash))) != {hash}:
        raise Failed(f"sampled {answer}")
    stage.finish()


@case("dht-libtorrent-keeps", [Flotilla, Libtorrent], 120)
def libtorrent_keeps(stage):
    """libtorrent's node, alone, keeps what `flotilla dht` gives it, counts peers, and takes nobody for a node who only asks."""
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    keeper, place = stage.client(Libtorrent, "keeper"), stage.host("keeper")
    keeper.dht = place.address(PORT)
    keeper.seed(place, torrent, files.parent)
    hosts = [stage.host(name) for name in ("seed", "downloader", "asker")]
    askers = [stage.client(Flotilla, host.name) for host in hosts]
    for asker in askers:
        asker.dht = keeper.dht
    hash = "ab" * 20
    askers[0].ask_dht(hosts[0], "peers", hash, "--announce=4242", "--seed")
    askers[1].ask_dht(hosts[1], "peers", hash, "--announce")
    if (answer := set(askers[2].ask_dht(hosts[2], "peers", hash))) != {hosts[0].address(4242), hosts[1].address(7000)}:
        raise Failed(f"found {answer}")
    if (answer := askers[2].ask_dht(hosts[2], "scrape", hash)) != ["about 1 seed and 1 downloader"]:
        raise Failed(f"counted {answer}")
    if (answer := askers[2].ask_dht(hosts[2], "nodes")) == [] or any(place.address(PORT) not in line for line in answer):
        raise Failed(f"nodes: {answer}")
    (target,) = askers[0].ask_dht(hosts[0], "put", "hello, world")
    if (answer := askers[2].ask_dht(hosts[2], "get", target)) != ["hello, world"]:
        raise Failed(f"got {answer}")
    secret = stage.dir / "secret"
    secret.write_text("11" * 32 + "\n")
    for value in ("first", "second"):
        (key,) = askers[1].ask_dht(hosts[1], "put", value, "--key", secret, "--salt", "s")
    if (answer := askers[2].ask_dht(hosts[2], "get", key, "--salt", "s")) != ["second"]:
        raise Failed(f"got {answer}")
    if hash not in (answer := askers[2].ask_dht(hosts[2], "sample")):
        raise Failed(f"sampled {answer}")
    stage.finish()
