"""Trackers to meet at: a minimal one of our own (this file run as a program), opentracker, and `flotilla tracker`."""

import contextlib
import gzip
import ipaddress
import os
import shutil
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote_from_bytes, urlsplit

import torrentfile
from clients import Client, Flotilla
from stage import environment

PORT = 6969
GIVES = int(os.environ.get("TRACKER_GIVES", "1000"))


class Tracker(Client):
    """What the three have in common."""

    def start(self, host, torrents):
        """Runs the tracker on the host, for these torrents. Returns once it answers."""
        raise NotImplementedError

    def serve(self, seconds=10):
        self.stage.wait(lambda: self.request(f"http://{self.host.address(PORT)}/scrape") is not None or self._listens(), seconds, self.name)

    def _listens(self):
        with self.host.inside(), contextlib.suppress(OSError):
            socket.create_connection((self.host.ip, PORT), timeout=1).close()
            return True
        return False

    def scrape(self, torrent):
        """How many seeds and leechers the tracker knows."""
        answer = self.request(f"http://{self.host.address(PORT)}/scrape?info_hash={quote_from_bytes(torrent.info_hash, safe='')}")
        counts = torrentfile.decode(answer)[b"files"].get(torrent.info_hash, {}) if answer else {}
        return counts.get(b"complete", 0), counts.get(b"incomplete", 0)


class OwnTracker(Tracker):
    """This file's, over HTTP: IPv4 and IPv6, and every peer is told of every other."""

    program = sys.executable

    # How many peers it tells each of, the seeds before others.
    gives = 1000

    def start(self, host, torrents=(), secured_by=None, torrent=None):
        """`secured_by` is a PEM file of key and certificate, for HTTPS and compressed answers; `torrent` is served as well."""
        env = environment(self.dir) | {"TRACKER_GIVES": str(self.gives)}
        self.launch(host, [sys.executable, __file__, PORT, *([secured_by, torrent] if secured_by else [])], env=env)
        self.stage.wait(self._listens, 10, self.name)


class Opentracker(Tracker):
    """The one that most public trackers run; Debian's knows only what is on its list."""

    program = "opentracker"
    package = "opentracker"

    def start(self, host, torrents):
        (self.dir / "whitelist").write_text("".join(f"{torrent.hex}\n" for torrent in torrents))
        os.chmod(self.dir, 0o755)
        for folder in (self.stage.dir, *self.stage.dir.parents[:1]):
            os.chmod(folder, 0o755)
        where = ["-i", host.ip, "-p", PORT, "-P", PORT, "-d", self.dir, "-u", "nobody", "-w", "whitelist"]
        self.launch(host, [shutil.which(self.program), *where])
        self.serve()


class FlotillaTracker(Tracker, Flotilla):
    """`flotilla tracker`."""

    def start(self, host, torrents=()):
        self.track(host, host.address(PORT))
        self.serve()


class _Handler(BaseHTTPRequestHandler):
    """Answers announces and scrapes. `swarms` maps info hashes to peers: peer id to addresses and whether it is a seed."""

    swarms = {}

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/moved.torrent":
            self.send_response(302)
            self.send_header("Location", "/here.torrent")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if url.path == "/here.torrent":
            self._answer(Path(sys.argv[3]).read_bytes())
            return
        query = dict(parse_qsl(url.query, keep_blank_values=True, encoding="latin-1"))
        answer = self._announce(query) if url.path == "/announce" else self._scrape()
        self._answer(torrentfile.encode(answer))

    def _answer(self, body):
        self.send_response(200)
        if len(sys.argv) > 2 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _announce(self, query):
        peers = self.swarms.setdefault(query["info_hash"].encode("latin-1"), {})
        who = query["peer_id"]
        ips = {ipaddress.ip_address(self.client_address[0].removeprefix("::ffff:"))}
        with contextlib.suppress(KeyError, ValueError):
            ips.add(ipaddress.IPv6Address(query["ipv6"]))
        known = peers.pop(who, (set(), 0, False))[0]
        port = int(query["port"])
        if query.get("event") != "stopped":
            peers[who] = (known | ips, port, query.get("left") == "0")
        seeds_first = sorted(peers.items(), key=lambda peer: not peer[1][2])
        others = [(ip, port) for other, (ips, port, _) in seeds_first if other != who for ip in ips][:GIVES]
        compact = {version: b"".join(ip.packed + port.to_bytes(2) for ip, port in others if ip.version == version) for version in (4, 6)}
        return {b"interval": 30, b"min interval": 5, b"peers": compact[4], b"peers6": compact[6]}

    def _scrape(self):
        files = {}
        for info_hash, peers in self.swarms.items():
            complete = sum(seed for _, _, seed in list(peers.values()))
            files[info_hash] = {b"complete": complete, b"incomplete": len(peers) - complete, b"downloaded": 0}
        return {b"files": files}


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


if __name__ == "__main__":
    server = _Server(("::", int(sys.argv[1])), _Handler)
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
