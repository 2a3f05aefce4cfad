"""What was remembered of a torrent no longer fits what is on the disk, or cannot be read at all."""

import os
import shutil

import payload
import torrentfile
from casebook import case
from clients import PORT, Flotilla
from payload import KIB
from stage import Failed

PIECE_LENGTH = 64 * KIB
SECONDS = 30
NAMES = ["changed", "kept", "removed", "shortened", "touched"]
DAMAGE = 3 * PIECE_LENGTH + 5


class Download:
    """A download that has once been completed and remembered, and a seed to mend it from."""

    def __init__(self, stage):
        self.stage = stage
        self.files = payload.several(stage.folder("original"), NAMES)
        self.torrent = torrentfile.make(self.files, stage.dir / "a.torrent", piece_length=PIECE_LENGTH)
        self.here, self.there = stage.host("seed"), stage.host("leech")
        self.target, self.state = stage.folder("download"), stage.folder("state")
        stage.client(Flotilla, "seed").seed(self.here, self.torrent, self.files.parent)
        self.client = stage.client(Flotilla, "leech")
        self.again()

    @property
    def root(self):
        return self.target / self.files.name

    def again(self, status=0):
        """Runs it. Gives how many pieces came, and how many were checked and found here."""
        self.client.log.unlink(missing_ok=True)
        self.client.fetch(
            self.there, self.torrent, self.target, [self.here.address(PORT)], then=(), state=("--state-dir", self.state))
        self.stage.wait(lambda: self.client.process.poll() is not None, SECONDS, "flotilla to end")
        if self.client.process.returncode != status:
            raise Failed(f"status {self.client.process.returncode}: {self.client.last_words()}")
        if status == 0:
            self.stage.compare(self.files, self.target)
        return max((event["downloaded"] for event in self.client.events("progress")), default=0)


@case("remembered-files-change", [Flotilla])
def files_change(stage):
    """Between two runs files are changed, shortened, removed, or have another date: just what is wrong is fetched again."""
    download = Download(stage)
    before = download.again()
    with open(download.root / "changed", "r+b") as file:
        file.seek(DAMAGE)
        file.write(b"something else")
    os.truncate(download.root / "shortened", 12 * PIECE_LENGTH + 1)
    (download.root / "removed").unlink()
    os.utime(download.root / "touched", (1, 1))
    came = download.again() - before
    # One piece is wrong, four are not there, and a file has sixteen.
    if came != (1 + 4 + 16) * PIECE_LENGTH:
        raise Failed(f"{came / PIECE_LENGTH} pieces were fetched, not 21")
    stage.finish()


@case("remembered-nothing-readable", [Flotilla])
def nothing_readable(stage):
    """The state is cut short, or noise: it says so and which file, or begins anew; but it neither panics nor believes it."""
    download = Download(stage)
    whole = stage.folder("whole")
    shutil.copytree(download.state, whole, dirs_exist_ok=True)
    (database,) = [path for path in whole.rglob("*") if path.is_file()]
    for number, content in enumerate((b"", b"noise" * 2000, database.read_bytes()[:-5000], database.read_bytes()[:3000])):
        (download.state / database.relative_to(whole)).write_bytes(content)
        (download.root / "removed").unlink()
        try:
            download.again()
        except Failed:
            said = download.client.log.read_text()
            print(number, said[-500:])
            if "panicked" in said or database.name not in said and str(download.state) not in said:
                raise
            shutil.copytree(whole, download.state, dirs_exist_ok=True)
            download.again()
    stage.finish()
