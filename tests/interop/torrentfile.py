"""Bencode and a maker of torrent files, written apart from Flotilla's own so that the two check each other."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from payload import KIB


@dataclass
class Torrent:
    """A torrent file on disk, and what the cases want to know of it."""

    path: Path
    name: str
    info_hash: bytes
    size: int
    piece_length: int
    pieces: bytes
    # Clients are given this magnet link instead of the file, if there is one.
    link: str | None = None

    def by_link(self, trackers=(), peers=()):
        """The same, known by a magnet link only. Peers are HOST:PORT."""
        parts = [f"xt=urn:btih:{self.hex}", *(f"tr={quote(url, safe='')}" for url in trackers), *(f"x.pe={peer}" for peer in peers)]
        return replace(self, link="magnet:?" + "&".join(parts))

    @property
    def hex(self):
        return self.info_hash.hex()

    @property
    def piece_count(self):
        return len(self.pieces) // 20

    def piece_size(self, index):
        return min(self.piece_length, self.size - index * self.piece_length)


def make(payload, path, trackers=(), piece_length=64 * KIB, is_private=False, web_seeds=()):
    """Writes the torrent file of the payload, one tracker a tier."""
    info = {b"name": payload.name.encode(), b"piece length": piece_length, b"pieces": _pieces(payload, piece_length)}
    if payload.single:
        info[b"length"] = payload.size
    else:
        info[b"files"] = [{b"length": size, b"path": [part.encode() for part in parts]} for parts, size in payload.files]
    if is_private:
        info[b"private"] = 1
    torrent = {b"info": info}
    if web_seeds:
        torrent[b"url-list"] = [url.encode() for url in web_seeds]
    if trackers:
        torrent[b"announce"] = trackers[0].encode()
    if len(trackers) > 1:
        torrent[b"announce-list"] = [[tracker.encode()] for tracker in trackers]
    Path(path).write_bytes(encode(torrent))
    return load(path)


def load(path):
    """Reads a torrent file, whoever wrote it."""
    info = decode(Path(path).read_bytes())[b"info"]
    if b"pieces" not in info:
        info_hash = hashlib.sha256(encode(info)).digest()[:20]
        return Torrent(Path(path), info[b"name"].decode(), info_hash, _tree_size(info[b"file tree"]), info[b"piece length"], b"")
    size = info[b"length"] if b"length" in info else sum(file[b"length"] for file in info[b"files"])
    info_hash = hashlib.sha1(encode(info)).digest()
    return Torrent(Path(path), info[b"name"].decode(), info_hash, size, info[b"piece length"], info[b"pieces"])


def _tree_size(tree):
    """The bytes of all files in a file tree of version 2."""
    return sum(entry[b"length"] if name == b"" else _tree_size(entry) for name, entry in tree.items())


def _pieces(payload, piece_length):
    hashes, buffer = [], bytearray()
    for parts, _ in payload.files:
        with open(payload.root.joinpath(*parts), "rb") as file:
            while data := file.read(piece_length - len(buffer)):
                buffer += data
                if len(buffer) == piece_length:
                    hashes.append(hashlib.sha1(buffer).digest())
                    buffer.clear()
    if buffer:
        hashes.append(hashlib.sha1(buffer).digest())
    return b"".join(hashes)


def encode(value):
    """Bencodes integers, byte strings, lists, and dictionaries with byte strings as keys."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    return b"d" + b"".join(encode(key) + encode(value[key]) for key in sorted(value)) + b"e"


def decode(data):
    """Reads one bencoded value."""
    value, end = _decode(data, 0)
    if end != len(data):
        raise ValueError("something follows the bencoded value")
    return value


def _decode(data, at):
    lead = data[at : at + 1]
    if lead == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if lead == b"l" or lead == b"d":
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at)
            items.append(item)
        return (items if lead == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end
