"""Everything goes through a proxy, and nothing beside it: counted by the kernel on the host that downloads.

The trackers have a name that only the proxy's host knows, so whoever looks it up himself finds nothing, and is counted.
"""

import json
import subprocess

import payload
import proxies
import torrentfile
from casebook import case
from clients import PORT, Flotilla, Libtorrent
from proxies import NAME, Dante, Microsocks, Tinyproxy
from stage import Failed
from tracker import PORT as TRACKER_PORT
from tracker import FlotillaTracker

MEBIBYTES = 8
SECONDS = 25


def watch(host, proxy):
    """Counts what leaves the host: to the proxy, and to anywhere else."""
    rules = f"""
        table inet watch {{
            counter through {{ }}
            counter beside {{ }}
            chain out {{
                type filter hook output priority 0; policy accept;
                oifname "lo" accept
                ip daddr {proxy.ip} counter name through accept
                counter name beside log prefix "beside the proxy: "
            }}
        }}"""
    with host.inside():
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def counted(host):
    """Packets through the proxy, and beside it."""
    with host.inside():
        listed = json.loads(subprocess.run(["nft", "-j", "list", "counters"], capture_output=True, check=True).stdout)
    counters = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed["nftables"] if "counter" in entry}
    return counters["through"], counters["beside"]


def download(stage, server, by_udp):
    """Downloads from two seeds that a tracker behind the proxy knows."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    meeting_point, way = stage.host("tracker"), stage.host("proxy")
    here, other, there = stage.host("seed"), stage.host("seed2"), stage.host("leech")
    plain = torrentfile.make(files, stage.dir / "plain.torrent", [f"http://{meeting_point.address(TRACKER_PORT)}/announce"])
    tracker = stage.client(FlotillaTracker)
    tracker.start(meeting_point)
    stage.client(Flotilla, "seed").seed(here, plain, files.parent)
    stage.client(Libtorrent, "seed2").seed(other, plain, files.parent)
    stage.wait(lambda: tracker.scrape(plain) == (2, 0), 20, "the seeds to announce themselves")
    proxy = stage.client(server)
    proxy.start(way, meeting_point)
    watch(there, way)
    named = [f"{scheme}://{NAME}:{TRACKER_PORT}/announce" for scheme in ("http", "udp")]
    torrent = torrentfile.make(files, stage.dir / "a.torrent", named)
    target = stage.folder("download")
    leech = stage.client(Flotilla, "leech")
    leech.fetch(there, torrent, target, [], "--proxy", proxy.url())
    stage.wait(leech.is_done, SECONDS, f"a download through {server.program}")
    answered = "tracker_answered" if by_udp else "tracker_failed"
    stage.wait(lambda: named[0] in urls(leech, "tracker_answered"), 10, "the tracker to answer over HTTP")
    stage.wait(lambda: named[1] in urls(leech, answered), 10, f"{answered} over UDP")
    stage.compare(files, target)
    leech.stop()
    through, beside = counted(there)
    if beside or not through:
        raise Failed(f"{through} packets went through the proxy, {beside} beside it")
    if leech.events("listen_succeeded"):
        raise Failed("it listens, though nobody may come beside the proxy")
    if proxies.PASSWORD in leech.log.read_text(errors="replace"):
        raise Failed("the password is in the log")


def urls(client, kind):
    """The trackers that events of this kind are about."""
    return [event["url"] for event in client.events(kind)]


@case("proxy-socks-dante", [Flotilla, Libtorrent, Dante], SECONDS + 60)
def socks_dante(stage):
    download(stage, Dante, by_udp=True)


@case("proxy-socks-microsocks", [Flotilla, Libtorrent, Microsocks], SECONDS + 60)
def socks_microsocks(stage):
    download(stage, Microsocks, by_udp=False)


@case("proxy-http", [Flotilla, Libtorrent, Tinyproxy], SECONDS + 60)
def http(stage):
    download(stage, Tinyproxy, by_udp=False)


@case("proxy-gone", [Flotilla, Microsocks], 60)
def gone(stage):
    """Without its proxy a download waits; when that is back, it goes on."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    here, way, there = stage.host("seed"), stage.host("proxy"), stage.host("leech")
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    proxy = stage.client(Microsocks)
    proxy.host = way
    watch(there, way)
    target = stage.folder("download")
    leech = stage.client(Flotilla, "leech")
    leech.fetch(there, torrent, target, [here.address(PORT)], "--proxy", proxy.url())
    stage.wait(lambda: leech.events("proxy_failed"), 10, "the missing proxy to be told of")
    proxy.start(way, here)
    stage.wait(leech.is_done, SECONDS, "the download to go on")
    stage.compare(files, target)
    if counted(there)[1]:
        raise Failed("it went beside the proxy")
