"""Made-up data to move about: always the same bytes for the same name, and a comparison by SHA-256 of every file."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


@dataclass
class Payload:
    """A file, or a folder of files, called `name` in `parent`. `files` are in the order of the torrent: path below `name`, and size."""

    parent: Path
    name: str
    files: list[tuple[tuple[str, ...], int]]

    @property
    def root(self):
        return self.parent / self.name

    @property
    def size(self):
        return sum(size for _, size in self.files)

    @property
    def single(self):
        return self.files[0][0] == ()

    def differences(self, directory, empty_files=True):
        """What is not as it should be in a copy of the payload whose parent is `directory`; nothing when all is well."""
        problems = []
        for path, size in self.files:
            original, copy = self.root.joinpath(*path), Path(directory, self.name, *path)
            if size == 0 and not empty_files:
                continue
            if not copy.is_file():
                problems.append(f"{copy} is missing")
            elif copy.stat().st_size != size:
                problems.append(f"{copy} has {copy.stat().st_size} bytes, not {size}")
            elif _sha256(original) != _sha256(copy):
                problems.append(f"{copy} has other bytes than {original}")
        return problems

    def good_bytes(self, directory, piece_length):
        """How much of the copy, in whole pieces, is right already. For payloads of one file."""
        copy = Path(directory, self.name)
        if not copy.exists():
            return 0
        good = 0
        with open(self.root, "rb") as original, open(copy, "rb") as other:
            while piece := original.read(piece_length):
                good += len(piece) if other.read(piece_length) == piece else 0
        return good


def single(parent, mebibytes, name="one big file.bin"):
    """One file, a little longer than that many MiB, so that its last piece is short."""
    return _write(parent, name, [((), int(mebibytes * MIB) + 12_345)])


def folder(parent, mebibytes, name="Ünïcode ✓ 書庫"):
    """A folder with what trips clients up: names beyond ASCII, an empty file, and a first piece of 64 KiB that three files share."""
    rest = int(mebibytes * MIB)
    return _write(
        parent,
        name,
        [
            (("00 liesmich – größer.txt",), 20_001),
            (("01 empty.txt",), 0),
            (("02 short.txt",), 10_007),
            (("sub folder", "deeper", "⛵ flotilla.bin"), rest // 2),
            (("sub folder", "日本語のファイル.bin"), rest // 3),
            (("sub folder", "один байт"), 1),
            (("zz the rest's & 100% last.bin",), rest - rest // 2 - rest // 3),
        ],
    )


def several(parent, names, mebibytes=1, name="files"):
    """A folder of files with these names, each of so many MiB."""
    return _write(parent, name, [((file,), mebibytes * MIB) for file in names])


def _write(parent, name, files):
    payload = Payload(Path(parent), name, files)
    for path, size in files:
        target = payload.root.joinpath(*path)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = random.Random(f"{name}/{'/'.join(path)}/{size}")
        with open(target, "wb") as file:
            for start in range(0, size, MIB):
                file.write(source.randbytes(min(MIB, size - start)))
    return payload


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
