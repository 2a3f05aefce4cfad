"""Made-up data to check: one large file, or many small ones, and a torrent of either."""

import hashlib
import math
import random

MIB, KIB = 1 << 20, 1 << 10
SMALL_MIN, SMALL_MAX = 4 * KIB, 200 * KIB


class Payload:
    """The folder `parent` has in it what the torrent names; `path` is that file or folder."""

    def __init__(self, parent, name, files):
        self.parent, self.name, self.files = parent, name, files
        self.path = parent / name
        self.size = sum(size for _, size in files)
        self.torrents = {}
        noise = random.Random(f"{name} {self.size}")
        for parts, size in files:
            target = self.path.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                for start in range(0, size, MIB):
                    file.write(noise.randbytes(min(MIB, size - start)))

    def torrent(self, piece_len):
        """The torrent file with pieces of that length."""
        if piece_len not in self.torrents:
            target = self.parent / f"{self.name}-{piece_len // KIB}.torrent"
            target.write_bytes(b"d4:info%se" % self.info(piece_len))
            self.torrents[piece_len] = target
        return self.torrents[piece_len]

    def info(self, piece_len):
        hashes, piece = [], bytearray()
        for parts, _ in self.files:
            with open(self.path.joinpath(*parts), "rb") as file:
                while data := file.read(piece_len - len(piece)):
                    piece += data
                    if len(piece) == piece_len:
                        hashes.append(hashlib.sha1(piece).digest())
                        piece.clear()
        if piece:
            hashes.append(hashlib.sha1(piece).digest())
        pieces = b"".join(hashes)
        tail = b"4:name%s12:piece lengthi%de6:pieces%d:%se" % (text(self.name), piece_len, len(pieces), pieces)
        if self.files[0][0] == ():
            return b"d6:lengthi%de%s" % (self.size, tail)
        files = b"".join(b"d6:lengthi%de4:pathl%see" % (size, b"".join(map(text, parts))) for parts, size in self.files)
        return b"d5:filesl%se%s" % (files, tail)


def text(word):
    return b"%d:%s" % (len(word.encode()), word.encode())


def large(parent, mebibytes, name="large.bin"):
    """One file of so many MiB."""
    return Payload(parent, name, [((), mebibytes * MIB)])


def small(parent, count):
    """So many files of 4 to 200 KiB, 50 on average, 200 in a folder: short ones are more common than long ones."""
    noise = random.Random(count)
    files = []
    for number in range(count):
        size = int(SMALL_MIN * math.exp(noise.random() * math.log(SMALL_MAX / SMALL_MIN)))
        files.append(((f"{number // 200:03}", f"{number:05}.bin"), size))
    return Payload(parent, "small", files)
