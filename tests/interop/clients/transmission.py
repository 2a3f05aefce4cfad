"""Transmission's daemon, driven over its RPC. It learns of peers from trackers only."""

import base64
import json
import urllib.error
import urllib.request

from .base import PORT, Client

RPC = "http://127.0.0.1:9091/transmission/rpc"
SEEDING = 6


class Transmission(Client):
    program = "transmission-daemon"
    package = "transmission-daemon"
    makes_empty_files = False  # 3.00 leaves them out
    speaks_ipv6 = True

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        self.session = ""
        settings = {
            "download-dir": str(directory),
            "peer-port": PORT,
            "rpc-bind-address": "127.0.0.1",
            "rpc-port": 9091,
            "rpc-authentication-required": False,
            "dht-enabled": bool(self.dht),
            "pex-enabled": self.exchange,
            "lpd-enabled": self.lsd,
            "utp-enabled": self.utp,
            "port-forwarding-enabled": False,
            "encryption": {"off": 0, "allowed": 1, "required": 2}[self.encryption],
            "upload-slots-per-torrent": 8,
            "download-queue-enabled": False,
            "preallocation": 0,
        }
        (self.dir / "settings.json").write_text(json.dumps(settings))
        if self.dht:
            (self.dir / "dht.bootstrap").write_text(self.dht.replace(":", " ") + "\n")
        self.launch(host, [self.program, "--foreground", "--config-dir", self.dir, "--log-info"])
        metainfo = {"metainfo": base64.b64encode(torrent.path.read_bytes()).decode()}
        adding = ({"filename": torrent.link} if torrent.link else metainfo) | {"download-dir": str(directory)}
        self.stage.wait(lambda: self._call("torrent-add", adding), 10, f"{self.name} to take the torrent")

    def is_done(self):
        answer = self._call("torrent-get", {"fields": ["percentDone", "status"]})
        return bool(answer) and [(t["percentDone"], t["status"]) for t in answer["torrents"]] == [(1, SEEDING)]

    def are_peers_encrypted(self):
        """What it says of each of its peers."""
        answer = self._call("torrent-get", {"fields": ["peers"]})
        return [peer["isEncrypted"] for torrent in answer["torrents"] for peer in torrent["peers"]] if answer else []

    def _call(self, method, arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            request = urllib.request.Request(RPC, data=body, headers={"X-Transmission-Session-Id": self.session})
            try:
                with self.host.inside(), urllib.request.urlopen(request, timeout=5) as answer:
                    reply = json.load(answer)
                    return reply["arguments"] if reply["result"] == "success" else None
            except urllib.error.HTTPError as refusal:
                self.session = refusal.headers.get("X-Transmission-Session-Id", "")
            except (urllib.error.URLError, OSError):
                return None
        return None
