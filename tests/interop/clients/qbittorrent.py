"""qBittorrent without its window, driven over its web API from a profile made ready beforehand."""

import json
import uuid
from urllib.parse import urlencode

from .base import PORT, Client

API = "http://127.0.0.1:8080/api/v2"
SETTINGS = f"""
[LegalNotice]
Accepted=true

[BitTorrent]
Session\\Port={PORT}
Session\\DHTEnabled=false
Session\\PeXEnabled=false
Session\\LSDEnabled=false
Session\\BTProtocol=TCP
Session\\Encryption={{encryption}}
Session\\QueueingSystemEnabled=false

[Network]
PortForwardingEnabled=false

[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\Port=8080
WebUI\\LocalHostAuth=false
WebUI\\UseUPnP=false
"""


class Qbittorrent(Client):
    program = "qbittorrent-nox"
    package = "qbittorrent-nox"
    takes_peers = True
    speaks_ipv6 = True

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        config = self.dir / "qBittorrent" / "config" / "qBittorrent.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        encryption = {"off": 2, "allowed": 0, "required": 1}[self.encryption]
        config.write_text(SETTINGS.format(encryption=encryption))
        self.launch(host, [self.program, f"--profile={self.dir}"])
        self.stage.wait(lambda: self._add(torrent, directory), 20, f"{self.name} to take the torrent")
        self.stage.wait(self._torrents, 10, f"{self.name} to list the torrent")
        if peers:
            self.request(f"{API}/torrents/addPeers", urlencode({"hashes": torrent.hex, "peers": "|".join(peers)}).encode())

    def is_done(self):
        return [torrent["state"] in ("uploading", "stalledUP") for torrent in self._torrents()] == [True]

    def are_peers_encrypted(self):
        """What it says of each of its peers."""
        peers = [self.request(f"{API}/sync/torrentPeers?hash={torrent['hash']}") for torrent in self._torrents()]
        peers = [peer for answer in peers if answer for peer in json.loads(answer).get("peers", {}).values()]
        # It lists those that have not shaken hands yet, too.
        return ["E" in peer["flags"].split() for peer in peers if peer.get("client")]

    def _torrents(self):
        answer = self.request(f"{API}/torrents/info")
        return json.loads(answer) if answer else []

    def _add(self, torrent, directory):
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="savepath"\r\n\r\n{directory}\r\n'.encode(),
        ]
        if torrent.link:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="urls"\r\n\r\n{torrent.link}\r\n'.encode())
        else:
            parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="torrents"; filename="a.torrent"\r\n'.encode())
            parts.append(b"Content-Type: application/x-bittorrent\r\n\r\n" + torrent.path.read_bytes() + b"\r\n")
        parts.append(f"--{boundary}--\r\n".encode())
        return self.request(f"{API}/torrents/add", b"".join(parts), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
