#!/usr/bin/python3
"""A folder as a failing disk or a server that does not answer would show it. Needs root, /dev/fuse, and from Debian python3-fusepy.

    tests/interop/slowfs.py SOURCE MOUNT RULES

Shows SOURCE at MOUNT, and asks the file RULES before each operation. That holds JSON: by path below SOURCE (or "*"), what is wrong there:

    {"name/a.bin": {"error": [FROM, TO]}}   reads of these bytes fail with EIO; one that begins before them ends there, as with a real disk
    {"*": {"slow": 0.02}}                   each read takes so many seconds more
    {"b.bin": {"hang": ["read", "open"]}}   these operations (read, write, open, getattr) answer when the rule is gone, or once the process
                                            that asked is being ended: as with NFS, where only that helps
    {"b.bin": {"deny": true}}               it cannot be opened: EACCES

Nothing is cached by the kernel: each read comes here. When an operation begins to hang, RULES.log gets a line: what, and the path. Ends, and
takes the mount away, by SIGTERM. Debian's own Python runs it, for that has the bindings.
"""

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 60  # seconds to begin
GRACE = 6  # seconds to end
TURN = 0.02


class Rules:
    """What is to go wrong, as the file says just now."""

    def __init__(self, path):
        self.path = path
        self.stamp, self.rules = None, {}

    def of(self, path):
        stat = os.stat(self.path)
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self.stamp:
            self.rules = json.loads(Path(self.path).read_text())
            self.stamp = stamp
        name = path.lstrip("/")
        return self.rules.get(name) or self.rules.get("*") or {}


def serve(source, mount, rules_path):
    """Mounts, and answers until it is unmounted."""
    import fusepy

    rules = Rules(rules_path)

    class Folder(fusepy.Operations):
        def __call__(self, operation, path, *args):
            if operation in ("read", "write", "open", "getattr"):
                self.wait(operation, path)
            try:
                return super().__call__(operation, path, *args)
            except OSError as error:
                raise fusepy.FuseOSError(error.errno) from None

        def wait(self, operation, path):
            def hangs():
                return operation in rules.of(path).get("hang", [])

            if hangs():
                with open(f"{rules_path}.log", "a") as log:
                    log.write(f"{operation} {path.lstrip('/')}\n")
            while hangs():
                if fusepy._libfuse.fuse_interrupted():
                    raise fusepy.FuseOSError(errno.EINTR)
                time.sleep(TURN)

        def at(self, path):
            return source + path

        def getattr(self, path, handle=None):
            stat = os.lstat(self.at(path)) if handle is None else os.fstat(handle)
            names = ("st_atime", "st_ctime", "st_mtime", "st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_blocks", "st_ino")
            return {name: getattr(stat, name) for name in names}

        def readdir(self, path, _handle):
            return [".", "..", *os.listdir(self.at(path))]

        def open(self, path, flags):
            if rules.of(path).get("deny"):
                raise fusepy.FuseOSError(errno.EACCES)
            return os.open(self.at(path), flags)

        def create(self, path, mode, _info=None):
            return os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path, size, offset, handle):
            rule = rules.of(path)
            time.sleep(rule.get("slow", 0))
            first, last = rule.get("error", (0, 0))
            if first <= offset < last:
                raise fusepy.FuseOSError(errno.EIO)
            if offset < first:
                size = min(size, first - offset)
            return os.pread(handle, size, offset)

        def write(self, _path, data, offset, handle):
            return os.pwrite(handle, data, offset)

        def truncate(self, path, length, handle=None):
            os.truncate(self.at(path) if handle is None else handle, length)

        def release(self, _path, handle):
            os.close(handle)

        def fsync(self, _path, _only_data, handle):
            os.fsync(handle)

        def mkdir(self, path, mode):
            os.mkdir(self.at(path), mode)

        def rmdir(self, path):
            os.rmdir(self.at(path))

        def unlink(self, path):
            os.unlink(self.at(path))

        def rename(self, old, new):
            os.rename(self.at(old), self.at(new))

        def chmod(self, path, mode):
            os.chmod(self.at(path), mode)

        def utimens(self, path, times=None):
            os.utime(self.at(path), times)

        def statfs(self, path):
            stat = os.statvfs(self.at(path))
            names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")
            return {name: getattr(stat, name) for name in names}

    options = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    fusepy.FUSE(Folder(), mount, foreground=True, direct_io=True, intr=True, fsname="slowfs", **options)


class SlowFs:
    """The same for a case: a context manager, with the folder `root` where all goes well until a rule says otherwise."""

    def __init__(self, stage, source, root=None):
        self.source = source
        self.root = root or stage.folder("mounted")
        self._rules = stage.dir / "rules.json"
        self._log = Path(f"{self._rules}.log")
        self._process = None

    @classmethod
    def missing(cls):
        """What to install before it can be used, or nothing; so that it can stand among what a case needs."""
        if not Path("/dev/fuse").exists():
            return "there is no /dev/fuse"
        found = subprocess.run(["/usr/bin/python3", "-c", "import fusepy"], stderr=subprocess.DEVNULL).returncode == 0
        return None if found else "FUSE for Python is not installed: apt-get install python3-fusepy fuse3"

    def __enter__(self):
        self.rule({})
        command = ["setpriv", "--pdeathsig", "TERM", "--", "/usr/bin/python3", __file__, self.source, self.root, self._rules]
        self._process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not os.path.ismount(self.root):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"nothing was mounted at {self.root}")
            time.sleep(TURN)
        return self

    def __exit__(self, *_):
        self.rule({})
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._process.kill()
        subprocess.run(["umount", "--lazy", self.root], stderr=subprocess.DEVNULL)

    def rule(self, rules):
        """What goes wrong from now on, and nothing else."""
        new = self._rules.with_suffix(".new")
        new.write_text(json.dumps(rules))
        new.rename(self._rules)

    def hanging(self):
        """What has begun to hang so far: operation and path of each."""
        return self._log.read_text().splitlines() if self._log.exists() else []


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    serve(*map(os.path.abspath, sys.argv[1:]))
