"""rTorrent as a daemon, asked over SCGI. IPv4 only: Debian's 0.9.8 does not listen on IPv6."""

import contextlib
import socket
import xmlrpc.client

from .base import PORT, Client


SCGI = ("127.0.0.1", 5000)  # no socket in its folder, whose path may be too long for one
ENCRYPTION = {
    "off": "none",
    "allowed": "allow_incoming,enable_retry",
    "required": "allow_incoming,try_outgoing,require,require_RC4",
    "plaintext": "allow_incoming,try_outgoing,require,prefer_plaintext",
}


class Rtorrent(Client):
    program = "rtorrent"
    package = "rtorrent"
    takes_peers = True
    needs_tracker = True

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir)
        self.serve()

    def fetch(self, host, torrent, directory, peers=()):
        self.torrent = torrent
        self.stage.folder(f"{self.name}/session")
        options = {
            "system.daemon.set": "true",
            "network.scgi.open_port": "%s:%d" % SCGI,
            "network.port_range.set": f"{PORT}-{PORT}",
            "network.port_random.set": "no",
            "dht.mode.set": "on" if self.dht else "disable",
            "dht.port.set": PORT,
            "protocol.pex.set": "no",
            "trackers.use_udp.set": "yes",
        }
        options = [f"-o{name}={value}" for name, value in options.items()]
        self.launch(host, [self.program, "-n", "-d", directory, "-s", self.dir / "session", *options])
        # Not an option: those are cut at commas.
        encrypt = ["", *ENCRYPTION[self.encryption].split(",")]
        self.stage.wait(lambda: self._call("protocol.encryption.set", *encrypt) == 0, 10, f"{self.name} to take the settings")
        self.stage.wait(lambda: self._call("load.start", "", torrent.link or str(torrent.path)) == 0, 10, f"{self.name} to take the torrent")
        self.stage.wait(self._is_open, 10, f"{self.name} to start the torrent")
        if self.dht:
            self.stage.wait(lambda: self._call("dht.add_node", "", self.dht) == 0, 10, f"{self.name} to take a node of the DHT")
        for peer in peers:
            self._call("add_peer", torrent.hex.upper(), peer)

    def is_done(self):
        # What it gets first by a magnet link, the metadata, is a download of its own to it.
        is_whole = self._call("d.complete", self.torrent.hex.upper()) == 1 and self._call("d.is_meta", self.torrent.hex.upper()) == 0
        return is_whole and self._is_open()

    def are_peers_encrypted(self):
        """What it says of each of its peers."""
        peers = self._call("p.multicall", self.torrent.hex.upper(), "", "p.is_encrypted=")
        return [is_encrypted == 1 for (is_encrypted,) in peers or []]

    def _is_open(self):
        return self._call("d.is_active", self.torrent.hex.upper()) == 1

    def _call(self, method, *arguments):
        body = xmlrpc.client.dumps(arguments, method).encode()
        header = b"CONTENT_LENGTH\0%d\0SCGI\x001\0" % len(body)
        with self.host.inside(), contextlib.suppress(OSError, xmlrpc.client.Fault), socket.create_connection(SCGI, timeout=5) as scgi:
            scgi.sendall(b"%d:%s,%s" % (len(header), header, body))
            answer = b"".join(iter(lambda: scgi.recv(65536), b""))
            if not answer:
                return None
            (value,), _ = xmlrpc.client.loads(answer.split(b"\r\n\r\n", 1)[1])
            return value
        return None
