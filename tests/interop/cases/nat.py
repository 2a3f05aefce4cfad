"""A peer behind a router that lets nobody in: it asks the router, and then others get in. So each end is behind a router of its own."""

import sys

import nat_box
import payload
import torrentfile
from casebook import case
from clients import Client, Flotilla
from net import private_network
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

MEBIBYTES = 8
SECONDS = 25


class Box(Client):
    """A router, and the network behind it."""

    program = "nft"
    package = "nftables"

    def start(self, stage, number, protocols):
        """`number` tells its network from that of another. Returns once it routes."""
        outside = stage.host(f"box{number}")
        self.network = private_network(stage.network, outside, number)
        self.launch(outside, [sys.executable, nat_box.__file__, ",".join(protocols), self.network.gateway, outside.ip])
        stage.wait(lambda: "ready" in self.said(), 10, "the router")

    def said(self):
        return [line.split()[0] for line in self.log.read_text(errors="replace").splitlines()] if self.log.exists() else []


def meet(stage, protocols, *options):
    """A seed behind one router, a download behind another, and a tracker that both reach. Returns seed, its router and the download."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    meeting_point = stage.host("tracker")
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [f"http://{meeting_point.address(TRACKER_PORT)}/announce"])
    tracker = stage.client(OwnTracker)
    tracker.start(meeting_point)
    home, away = stage.client(Box, "home"), stage.client(Box, "away")
    home.start(stage, 1, protocols)
    away.start(stage, 2, ["none"])
    seed, leech = stage.client(Flotilla, "seed"), stage.client(Flotilla, "leech")
    seed.seed(home.network.host("seed"), torrent, files.parent, *options)
    stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
    return files, torrent, seed, home, leech, away


def mapped(stage, by, protocols):
    files, torrent, seed, home, leech, away = meet(stage, protocols)
    (event,) = stage.wait(lambda: seed.events("port_mapped"), 15, f"ports mapped by {by}")
    if (event["by"], event["external_ip"]) != (by, home.host.ip) or event["tcp"] in nat_box.TAKEN:
        raise Failed(f"mapped otherwise than it should be: {event}")
    target = stage.folder("download")
    leech.fetch(away.network.host("leech"), torrent, target, [], "--no-nat")
    stage.wait(leech.is_done, SECONDS, "a download from a peer behind a router")
    stage.compare(files, target)
    seed.stop()
    stage.wait(lambda: home.said().count("unmapped") == 2, 5, "the ports to be given back")


@case("nat-upnp", [Flotilla, Box], SECONDS + 60)
def upnp(stage):
    mapped(stage, "UPnP", ["upnp"])


@case("nat-pmp", [Flotilla, Box], SECONDS + 60)
def pmp(stage):
    mapped(stage, "NAT-PMP", ["nat-pmp", "upnp"])


@case("nat-pcp", [Flotilla, Box], SECONDS + 60)
def pcp(stage):
    mapped(stage, "PCP", ["pcp", "nat-pmp"])


@case("nat-silent", [Flotilla, Box], 60)
def silent(stage):
    """A router that knows none of it: that is told, and nothing else suffers."""
    seed = meet(stage, ["none"])[2]
    stage.wait(lambda: seed.events("port_not_mapped"), 20, "that the ports are not mapped")
