"""Magnet links: nothing is known of a torrent but its hash, and where to find somebody who has it."""

import json
import subprocess
from dataclasses import replace

import payload
import torrentfile
from casebook import case, guard
from clients import PORT, Aria2, Flotilla, Libtorrent, Qbittorrent, Rtorrent, Transmission
from payload import KIB
from stage import Failed, environment
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

from . import v2

MEBIBYTES = 24
PIECE_LENGTH = 16 * KIB  # so that the metadata has several pieces
SECONDS = 45
OTHERS = [Transmission, Aria2, Libtorrent, Qbittorrent, Rtorrent]


def meeting(stage):
    """A tracker, and its address."""
    host = stage.host("tracker")
    tracker = stage.client(OwnTracker)
    tracker.start(host)
    return tracker, f"http://{host.address(TRACKER_PORT)}/announce"


def finish(stage, client, files, target):
    stage.wait(client.is_done, SECONDS, f"{client.name} to have everything")
    stage.finish()
    stage.compare(files, target, client)


def _register(other):
    name = other.__name__.lower()

    @case(f"magnet-{name}-seeds", [Flotilla, other], SECONDS + 40)
    def other_seeds(stage):
        """The link names the seed, and nothing else."""
        files = payload.folder(stage.folder("original"), MEBIBYTES)
        trackers = [meeting(stage)[1]] if other.needs_tracker else []
        torrent = torrentfile.make(files, stage.dir / "a.torrent", trackers, PIECE_LENGTH)
        here = stage.host("seed")
        stage.client(other).seed(here, torrent, files.parent)
        us, target = stage.client(Flotilla), stage.folder("download")
        us.fetch(stage.host("leech"), torrent.by_link(peers=[here.address(PORT)]), target)
        finish(stage, us, files, target)
        if len(list(us.events("peer_connected"))) > 1:
            raise Failed("it connected again after it had the metadata")

    @case(f"magnet-{name}-fetches", [Flotilla, other], SECONDS + 40)
    def other_fetches(stage):
        """The link names a tracker."""
        files = payload.folder(stage.folder("original"), MEBIBYTES)
        tracker, url = meeting(stage)
        torrent = torrentfile.make(files, stage.dir / "a.torrent", [url], PIECE_LENGTH)
        stage.client(Flotilla).seed(stage.host("seed"), torrent, files.parent)
        stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the seed to announce itself")
        client, target = stage.client(other), stage.folder("download")
        client.fetch(stage.host("leech"), torrent.by_link([url]), target)
        finish(stage, client, files, target)


for _other in OTHERS:
    _register(_other)


@case("magnet-relay", [Flotilla, Libtorrent, Transmission], 2 * SECONDS + 20)
def relay(stage):
    """We know a link and a tracker, get everything from libtorrent, and when that is gone Transmission gets it from us by the same link."""
    files = payload.folder(stage.folder("original"), MEBIBYTES)
    tracker, url = meeting(stage)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [url], PIECE_LENGTH)
    first = stage.client(Libtorrent)
    first.seed(stage.host("first"), torrent, files.parent)
    stage.wait(lambda: tracker.scrape(torrent) == (1, 0), 20, "the first seed to announce itself")
    us = stage.client(Flotilla)
    us.fetch(stage.host("us"), torrent.by_link([url]), stage.folder("ours"))
    stage.wait(us.is_done, SECONDS, f"{us.name} to have everything")
    first.stop()
    last, target = stage.client(Transmission), stage.folder("last")
    last.fetch(stage.host("last"), torrent.by_link([url]), target)
    finish(stage, last, files, target)


@case("magnet-show", [Flotilla, Libtorrent], 60)
def show(stage):
    """`show --fetch --save` makes the torrent file that the link is for."""
    files = payload.folder(stage.folder("original"), 2)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    here, there = stage.host("seed"), stage.host("leech")
    stage.client(Libtorrent).seed(here, torrent, files.parent)
    link, saved = torrent.by_link(peers=[here.address(PORT)]).link, stage.dir / "saved.torrent"
    command = there.command([stage.flotilla, "show", link, "--fetch", "--save", saved])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=guard(30), env=environment(stage.folder("home")))
    if ended.returncode != 0:
        raise Failed(f"show ended with status {ended.returncode}: {ended.stderr}")
    if torrentfile.load(saved).info_hash != torrent.info_hash:
        raise Failed("the torrent file that was saved is of another torrent")
    stage.finish()


def _register_v2(form, seeder, fetcher, name):
    @case(name, [seeder, fetcher], SECONDS + 40)
    def by_both_names(stage):
        """The link that `show` prints, and the address of the seed."""
        files = payload.folder(stage.folder("original"), 12)
        torrent = v2.ours(stage, files, form)
        link = json.loads(v2.run(stage, stage.flotilla, "show", torrent.path, "--json"))["magnet"]
        here = stage.host("seed")
        stage.client(seeder).seed(here, torrent, files.parent)
        client, target = stage.client(fetcher), stage.folder("download")
        client.fetch(stage.host("leech"), replace(torrent, link=f"{link}&x.pe={here.address(PORT)}"), target)
        finish(stage, client, files, target)


for _form in ("v2", "hybrid"):
    _register_v2(_form, Libtorrent, Flotilla, f"magnet-{_form}-libtorrent-seeds")
    _register_v2(_form, Flotilla, Libtorrent, f"magnet-{_form}-libtorrent-fetches")
