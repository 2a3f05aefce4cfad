"""A seed that has an address of the world, behind a firewall of IPv6 that lets nobody in: it asks the router for a way through."""

import sys

import payload
import torrentfile
import wall_box
from casebook import case
from clients import PORT, Client, Flotilla
from net import private_network
from stage import Failed

MEBIBYTES = 4
SECONDS = 25


class Wall(Client):
    """The router."""

    program = "nft"
    package = "nftables"

    def start(self, host, protocol):
        self.launch(host, [sys.executable, wall_box.__file__, protocol, wall_box.ROUTER])
        self.stage.wait(lambda: "ready" in self.said(), 10, "the router")

    def said(self):
        return [line.split()[0] for line in self.log.read_text(errors="replace").splitlines()] if self.log.exists() else []


def opened(stage, by, protocol, gateway):
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    outside = stage.host("wall", ipv6=True)
    inside = wall_box.lay_out(private_network(stage.network, outside, 1), outside, gateway)
    router = stage.client(Wall)
    router.start(outside, protocol)
    seed, leech = stage.client(Flotilla, "seed"), stage.client(Flotilla, "leech")
    seed.seed(inside, torrent, files.parent)
    (event,) = stage.wait(lambda: seed.events("port_mapped"), 15, f"a way opened by {by}")
    if (event["by"], event["tcp"], event["udp"]) != (by, PORT, PORT):
        raise Failed(f"opened otherwise than it should be: {event}")
    there = stage.host("leech", ipv6=True)
    wall_box.lead(there, outside)
    target = stage.folder("download")
    leech.fetch(there, torrent, target, [f"[{wall_box.SEED}]:{PORT}"], "--no-nat")
    stage.wait(leech.is_done, SECONDS, "a download from a peer behind a firewall")
    stage.compare(files, target)
    seed.stop()
    stage.wait(lambda: router.said().count("closed") == 2, 5, "the ways to be closed")


@case("pinhole-pcp", [Flotilla, Wall], SECONDS + 50)
def pcp(stage):
    opened(stage, "PCP", "pcp", wall_box.ROUTER)


@case("pinhole-upnp", [Flotilla, Wall], SECONDS + 50)
def upnp(stage):
    """The router is known by its address on the link, as it mostly is."""
    opened(stage, "UPnP", "upnp", wall_box.NEAR)
