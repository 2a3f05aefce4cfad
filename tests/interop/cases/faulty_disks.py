"""Disks that fail on a range, servers that do not answer, files that change under a check, and clocks that are set."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import payload
import torrentfile
from casebook import case, guard
from clients import PORT, Flotilla
from payload import KIB, MIB
from slowfs import SlowFs
from stage import Failed, environment

PIECE_LENGTH = 64 * KIB
SECONDS = 30
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


class Faketime:
    """A library that shows a process another clock; it stands among what a case needs."""

    @classmethod
    def missing(cls):
        return None if FAKETIME.exists() else "libfaketime is not installed: apt-get install faketime"


class Verify:
    """`flotilla verify` as it runs."""

    def __init__(self, stage, host, torrent, directory):
        self.stage = stage
        command = host.command([stage.flotilla, "verify", torrent.path, directory])
        home = stage.folder("home")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(home), stdin=subprocess.DEVNULL)

    def end(self, status, *patterns):
        """Waits until it ends. Fails unless it does so with this status, and each pattern is found in what it says."""
        try:
            said, _ = self.process.communicate(timeout=guard(SECONDS))
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed(f"`flotilla verify` did not end within {guard(SECONDS)} s") from None
        print(f"$ flotilla verify\n{said}status {self.process.returncode}\n", flush=True)
        if "panicked" in said or self.process.returncode != status:
            raise Failed(f"`flotilla verify` ended with status {self.process.returncode}, not {status}: {said!r}")
        for pattern in patterns:
            if not re.search(pattern, said):
                raise Failed(f"`flotilla verify` does not say {pattern!r}: {said!r}")


def damage(path, offset=0):
    """Turns a byte around."""
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 255]), offset)


@case("disk-error-on-a-range", [Flotilla, SlowFs])
def error_on_a_range(stage):
    """One file has bad sectors, another a wrong byte: both are told, with the pieces, and all the rest is checked."""
    files = payload.several(stage.folder("original"), ["a", "b", "c"])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    damage(files.root / "c", 100)
    host = stage.host("one")
    with SlowFs(stage, files.parent) as disk:
        # The second half of piece 20, and all of 21 and 22, are in the way of nothing else: 16 pieces a file.
        disk.rule({"files/b": {"error": [4 * PIECE_LENGTH + PIECE_LENGTH // 2, 7 * PIECE_LENGTH]}})
        Verify(stage, host, torrent, disk.root).end(
            1, r"(?m)files/b: .*(cannot|could not|error|unreadable|not readable)", r"\b20\b.*\b22\b", r"files/c: damaged in 1 of 16 pieces",
            r"44 of 48 pieces good")
        disk.rule({})
        Verify(stage, host, torrent, disk.root).end(1, "files/c: damaged in 1 of 16 pieces", "47 of 48 pieces good")


@case("disk-denies-a-file", [Flotilla, SlowFs])
def denied(stage):
    """A file that may not be opened is named, and the others are checked."""
    files = payload.several(stage.folder("original"), ["a", "b", "c"])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    host = stage.host("one")
    with SlowFs(stage, files.parent) as disk:
        disk.rule({"files/b": {"deny": True}})
        Verify(stage, host, torrent, disk.root).end(1, r"files/b: .*(not allowed|permission|denied)", "32 of 48 pieces good")
        disk.rule({})
        Verify(stage, host, torrent, disk.root).end(0, "ok: 3 files")


@case("disk-error-then-healed", [Flotilla, SlowFs])
def error_then_healed(stage):
    """A download whose disk fails on reading says so and which file; on a disk that works it gets what is missing, and is right."""
    files = payload.several(stage.folder("original"), ["a", "b", "c"])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    copy = stage.folder("copy")
    subprocess.run(["cp", "-r", files.root, copy], check=True)
    damage(copy / "files/a")
    here, there = stage.host("seed"), stage.host("leech")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    with SlowFs(stage, copy) as disk:
        disk.rule({"files/b": {"error": [0, MIB]}})
        client = stage.client(Flotilla, "leech")
        client.fetch(there, torrent, disk.root, [here.address(PORT)], "--check", then=())
        stage.wait(lambda: client.process.poll() is not None, SECONDS, "flotilla to give up")
        if client.process.returncode != 1 or "files/b" not in client.log.read_text():
            raise Failed(f"status {client.process.returncode}, and the last line is {client.last_words()!r}")
        disk.rule({})
        client.fetch(there, torrent, disk.root, [here.address(PORT)], "--check", then=())
        stage.wait(lambda: client.process.poll() is not None, SECONDS, "flotilla to have everything")
        if client.process.returncode != 0:
            raise Failed(f"status {client.process.returncode}: {client.last_words()}")
    stage.finish()
    stage.compare(files, copy)


@case("disk-hangs-beside-a-download", [Flotilla, SlowFs])
def hangs_beside_a_download(stage):
    """Two downloads in one process, one to a file system that does not answer: the other completes, and Ctrl-C ends it all."""
    fine = payload.single(stage.folder("original"), 4, "fine.bin")
    stuck = payload.several(stage.folder("original"), ["a", "b"])
    torrents = [torrentfile.make(files, stage.dir / f"{files.name}.torrent", piece_length=PIECE_LENGTH) for files in (fine, stuck)]
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    seed = stage.client(Flotilla, "seed")
    seed.seed(here, torrents[0], fine.parent, fine.parent, "--torrent", torrents[1].path)
    (target / stuck.name).mkdir()
    with SlowFs(stage, stage.folder("behind"), target / stuck.name) as disk:
        disk.rule({"*": {"hang": ["read", "write"]}})
        client = stage.client(Flotilla, "leech")
        client.fetch(there, torrents[0], target, [here.address(PORT)], torrents[1].path, "--overwrite")
        stage.wait(disk.hanging, SECONDS, "something to be asked of the file system that hangs")
        stage.wait(lambda: client.completed(torrents[0]), SECONDS, "the other download to complete")
        stage.compare(fine, target)
        # It fails if the client does not end in time.
        stage.finish()


@case("disk-hangs-beside-a-seed", [Flotilla, SlowFs])
def hangs_beside_a_seed(stage):
    """Two torrents to seed, one on a file system that does not answer: the other is checked and served, and Ctrl-C ends it all."""
    fine = payload.single(stage.folder("original"), 4, "fine.bin")
    stuck = payload.several(stage.folder("original"), ["a", "b"])
    torrents = [torrentfile.make(files, stage.dir / f"{files.name}.torrent", piece_length=PIECE_LENGTH) for files in (fine, stuck)]
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    with SlowFs(stage, stuck.parent) as disk:
        disk.rule({"*": {"hang": ["read"]}})
        seed = stage.client(Flotilla, "seed")
        seed._run(here, "seed", fine.root, disk.root / stuck.name, "--torrent", torrents[0].path, "--torrent", torrents[1].path,
                  "--port", PORT, "--json", "--no-state")
        stage.wait(disk.hanging, SECONDS, "something to be asked of the file system that hangs")
        leech = stage.client(Flotilla, "leech")
        leech.fetch(there, torrents[0], target, [here.address(PORT)])
        stage.wait(leech.is_done, SECONDS, "the other torrent to be served")
        stage.compare(fine, target)
        stage.finish()


@case("disk-hangs-under-verify", [Flotilla, SlowFs])
def hangs_under_verify(stage):
    """Ctrl-C ends `verify` on a file system that does not answer."""
    files = payload.several(stage.folder("original"), ["a", "b"])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    host = stage.host("one")
    with SlowFs(stage, files.parent) as disk:
        disk.rule({"*": {"hang": ["read"]}})
        verify = Verify(stage, host, torrent, disk.root)
        stage.wait(disk.hanging, SECONDS, "a read to hang")
        verify.process.send_signal(signal.SIGINT)
        verify.end(130)


def meddle(root):
    """Does to each file what its name says."""
    (root / "replaced.new").write_bytes(bytes(MIB))
    (root / "replaced.new").rename(root / "replaced")
    os.truncate(root / "shortened", MIB // 2)
    os.truncate(root / "lengthened", MIB + 1)
    (root / "removed").unlink()
    damage(root / "damaged", MIB - 1)
    (root / "folder now").unlink()
    (root / "folder now").mkdir()


MEDDLED = ["damaged", "folder now", "lengthened", "removed", "replaced", "shortened"]


@case("disk-changes-under-verify", [Flotilla, SlowFs])
def changes_under_verify(stage):
    """Files are changed while the first is being read: `verify` ends and tells; the next run knows exactly."""
    files = payload.several(stage.folder("original"), ["first", *MEDDLED])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    host = stage.host("one")
    with SlowFs(stage, files.parent) as disk:
        disk.rule({"*": {"hang": ["read"]}})
        verify = Verify(stage, host, torrent, disk.root)
        stage.wait(disk.hanging, SECONDS, "a read to hang")
        meddle(files.root)
        disk.rule({})
        verify.end(1, "files/removed: ")
        Verify(stage, host, torrent, disk.root).end(
            1, "files/damaged: damaged in 1 of 16 pieces", "files/folder now: ", "files/lengthened: too long by 1 ",
            "files/removed: missing", "files/replaced: damaged in 16 of 16", "files/shortened: too short by 512")


@case("disk-changes-under-a-check", [Flotilla, SlowFs])
def changes_under_a_check(stage):
    """Files are changed while a download checks what is there: it ends in order, at most with a complaint, and the next makes all right."""
    files = payload.several(stage.folder("original"), ["first", *MEDDLED])
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    copy = stage.folder("copy")
    subprocess.run(["cp", "-r", files.root, copy], check=True)
    here, there = stage.host("seed"), stage.host("leech")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    state = ("--state-dir", stage.folder("state"))
    with SlowFs(stage, copy) as disk:
        disk.rule({"*": {"hang": ["read"]}})
        client = stage.client(Flotilla, "leech")
        client.fetch(there, torrent, disk.root, [here.address(PORT)], "--check", then=(), state=state)
        stage.wait(disk.hanging, SECONDS, "a read to hang")
        meddle(copy / "files")
        disk.rule({})
        # Where a folder stands in place of a file it cannot come right, and says so.
        stage.wait(lambda: client.process.poll() is not None, SECONDS, "flotilla to give up")
        if client.process.returncode != 1 or "folder now" not in client.log.read_text():
            raise Failed(f"status {client.process.returncode}, and the last line is {client.last_words()!r}")
        (copy / "files/folder now").rmdir()
        client.fetch(there, torrent, disk.root, [here.address(PORT)], "--overwrite", then=(), state=state)
        stage.wait(lambda: client.process.poll() is not None, SECONDS, "flotilla to have everything")
        if client.process.returncode != 0:
            raise Failed(f"status {client.process.returncode}: {client.last_words()}")
    stage.finish()
    stage.compare(files, copy)


@case("clock-is-set", [Flotilla, Faketime], 120)
def clock_is_set(stage):
    """Somebody sets the clock on the wall, by a day, back by a year, and right again: no transfer minds."""
    files = payload.single(stage.folder("original"), 12)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    here, there, target = stage.host("seed"), stage.host("leech"), stage.folder("download")
    here.limit(1)
    clock = stage.dir / "clock"
    clock.write_text("+0")
    # The monotonic clock is left alone: waits go by that, and some of them by system calls that the library does not see.
    steps = [f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"]
    seed, client = stage.client(Flotilla, "seed"), stage.client(Flotilla, "leech")
    seed.within = client.within = ["env", *steps]
    seed.seed(here, torrent, files.parent)
    client.fetch(there, torrent, target, [here.address(PORT)])
    for number, seconds in enumerate((DAY, -365 * DAY, 0), 1):
        stage.wait(lambda: there.received() > 2 * number * MIB, SECONDS, "the download to get on")
        if client.is_done():
            raise Failed("the download was over before the clock was set")
        clock.write_text(f"{seconds:+}")
    here.unlimit()
    stage.wait(client.is_done, SECONDS, "flotilla to have everything")
    stage.finish()
    stage.compare(files, target)


@case("clock-begins-anywhere", [Flotilla])
def clock_begins_anywhere(stage):
    """A machine that has just been started, and one that has run for a century: both download."""
    files = payload.single(stage.folder("original"), 4)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
    here = stage.host("seed")
    stage.client(Flotilla, "seed").seed(here, torrent, files.parent)
    for name, since_start in (("young", 1), ("old", 100 * 365 * DAY)):
        target = stage.folder(f"download {name}")
        offset = since_start - int(time.clock_gettime(time.CLOCK_MONOTONIC))
        client = stage.client(Flotilla, name)
        client.within = ["unshare", "--fork", "--kill-child", "--time", "--monotonic", offset, "--boottime", offset, "--"]
        client.fetch(stage.host(name), torrent, target, [here.address(PORT)], then=())
        stage.wait(client.is_done, SECONDS, "flotilla to have everything")
        stage.compare(files, target)


DAY = 86_400
