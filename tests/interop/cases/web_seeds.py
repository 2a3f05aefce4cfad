"""Downloading from web servers (BEP 19): as the only source, beside peers, and from one that misbehaves."""

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla, Libtorrent
from payload import MIB
from stage import Failed
from webserver import BadServer, Lighttpd


@case("web-seed-alone", [Flotilla, Lighttpd])
def alone(stage):
    """Ranges across files with names beyond ASCII, and nothing but the server to have them from."""
    there, here = stage.host("server"), stage.host("leech")
    files = payload.folder(stage.folder("original"), 12)
    server = stage.client(Lighttpd, "server")
    server.start(there, files.parent)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", web_seeds=[server.url])
    target = stage.folder("download")
    client = stage.client(Flotilla, "leech")
    client.fetch(here, torrent, target, then=())
    stage.wait(client.is_done, 40, "flotilla to have everything")
    stage.compare(files, target)
    statuses = stage.wait(server.answers, 20, "the server's log")
    if 206 not in statuses or not set(statuses) <= {200, 206}:
        raise Failed(f"the server answered {statuses}")
    stage.finish()


@case("web-seed-single-file", [Flotilla, Lighttpd])
def single_file(stage):
    """The address is that of the file itself."""
    there, here = stage.host("server"), stage.host("leech")
    files = payload.single(stage.folder("original"), 20)
    server = stage.client(Lighttpd, "server")
    server.start(there, files.parent)
    url = server.url + files.name.replace(" ", "%20")
    torrent = torrentfile.make(files, stage.dir / "a.torrent", web_seeds=[url])
    target = stage.folder("download")
    client = stage.client(Flotilla, "leech")
    client.fetch(here, torrent, target, then=())
    stage.wait(client.is_done, 40, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)


@case("web-seed-bad-server", [Flotilla, BadServer])
def bad_server(stage):
    """Broken connections, 503 and redirects by turns, and one file that is not there: a peer has it."""
    there, here, peer = stage.host("server"), stage.host("leech"), stage.host("seed")
    files = payload.folder(stage.folder("original"), 12)
    server = stage.client(BadServer, "server")
    partial = stage.folder("partial")
    for path, _ in files.files[:-1]:
        copy = partial / files.name / "/".join(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(files.root.joinpath(*path))
    server.start(there, partial)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", web_seeds=[server.url])
    target = stage.folder("download")
    client = stage.client(Flotilla, "leech")
    client.fetch(here, torrent, target)
    stage.wait(lambda: _missed(client), 40, "the file to be missed")
    stage.client(Flotilla, "seed").seed(peer, torrent, files.parent)
    client.stop()
    client.fetch(here, torrent, target, [peer.address(PORT)])
    stage.wait(client.is_done, 40, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)


def _missed(client):
    return any("404" in event["error"] for event in client.events("web_seed_failed"))


@case("web-seed-beside-peers", [Flotilla, Libtorrent, Lighttpd])
def beside_peers(stage):
    """A slow server and a slow peer: both are used."""
    there, here, peer = stage.host("server"), stage.host("leech"), stage.host("seed")
    files = payload.single(stage.folder("original"), 16)
    server = stage.client(Lighttpd, "server")
    server.start(there, files.parent, rate_kib=2048)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", web_seeds=[server.url])
    stage.client(Libtorrent, "seed").seed(peer, torrent, files.parent)
    peer.limit(2)
    target = stage.folder("download")
    client = stage.client(Flotilla, "leech")
    client.fetch(here, torrent, target, [peer.address(PORT)])
    stage.wait(client.is_done, 50, "flotilla to have everything")
    shares = (there.sent() / MIB, peer.sent() / MIB)
    print(f"the server sent {shares[0]:.1f} MiB, the peer {shares[1]:.1f} MiB")
    stage.finish()
    stage.compare(files, target)
    if min(shares) < 2:
        raise Failed(f"one of the two was hardly used: {shares} MiB")
