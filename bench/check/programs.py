"""Starts a program and measures it: seconds, CPU seconds, the most memory that was resident."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
FLOTILLA, OURS = TARGET / "release/flotilla", TARGET / "release/check-bench"
PYTHON = "/usr/bin/python3"
MIB = 1 << 20
PATIENCE_SECONDS = 600
PORT = 17_109
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A measurement came to nothing."""


def drop_caches():
    """Forgets all files that were read; so the next to read them goes to the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


class Process:
    """A program that runs, and what it has used: CPU seconds of its whole life once it has ended."""

    def __init__(self, command, log, **options):
        self.log = open(log, "ab")
        options = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log} | options
        self.began = time.monotonic()
        self.process = subprocess.Popen(list(map(str, command)), **options)
        self.memory = 0

    def look(self):
        """Takes note of the most memory it has had, in MiB."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return
        if found := re.search(r"VmHWM:\s+(\d+)", status):
            self.memory = max(self.memory, int(found[1]) / 1024)

    def cpu(self):
        """CPU seconds up to now, of all threads that it has or had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def wait(self):
        """Waits for its end; its measures. Fails if its status is not 0."""
        while True:
            self.look()
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            seconds = time.monotonic() - self.began
            if pid:
                break
            if seconds > PATIENCE_SECONDS:
                self.process.kill()
                raise Failed("it did not end in time")
            time.sleep(0.002)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.log.close()
        if self.process.returncode:
            raise Failed(f"it ended with status {self.process.returncode}, see {self.log.name}")
        return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "memory": self.memory}

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Talker(Process):
    """A program that answers lines by lines, in JSON if they begin so."""

    def __init__(self, command, log):
        super().__init__(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.tell(*words)
        return self.answer()

    def tell(self, *words):
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"it ended early, see {self.log.name}")
        self.look()
        return json.loads(line) if line.startswith("{") else line.strip()


class Client:
    """What can check. `check` is given the payload, a torrent file, and what to call when all is ready to begin."""

    program = None
    is_floor = False

    def is_here(self):
        return shutil.which(str(self.program)) is not None

    def can(self, _payload, _is_cold):
        return True


class Command(Client):
    """One that ends when it has checked; so its start counts as well, some hundredths of a second."""

    def __init__(self, program, *arguments, env=None):
        self.program, self.arguments = program, arguments
        self.env = env or {}

    def check(self, payload, torrent, work, begin):
        places = {"torrent": torrent, "parent": payload.parent, "path": payload.path, "work": work}
        words = [str(word).format(**places) for word in self.arguments]
        begin()
        return Process([self.program, *words], work / "log", cwd=work, env={**os.environ, **self.env}).wait()


class Floor(Command):
    is_floor = True


class Direct(Floor):
    """The disk itself, past the page cache."""

    def can(self, payload, is_cold):
        return is_cold and payload.path.is_file()


class Session(Client):
    """Ours again, as a handle of a session has it: Torrent::check."""

    program = OURS

    def check(self, payload, torrent, work, begin):
        session = Talker([OURS, "session", "127.0.0.1"], work / "log")
        try:
            session.answer()
            session.ask("add", torrent, payload.parent)
            begin()
            found = session.ask("check", 0)
            return {"seconds": found["seconds"], "cpu": found["cpu_seconds"], "memory": session.memory}
        finally:
            session.stop()


class Libtorrent(Client):
    """Memory that it has mapped counts as resident."""

    def __init__(self, **settings):
        self.settings = [f"{name}={value}" for name, value in settings.items()]

    def is_here(self):
        return subprocess.run([PYTHON, "-c", "import libtorrent"], stderr=subprocess.DEVNULL).returncode == 0

    def check(self, payload, torrent, work, begin):
        talker = Talker([PYTHON, HERE / "libtorrent_check.py", torrent, payload.parent, *self.settings], work / "log")
        try:
            talker.answer()
            begin()
            found = talker.ask()
            if not found["is_good"]:
                raise Failed("it does not find the data right")
            return {"seconds": found["seconds"], "cpu": found["cpu_seconds"], "memory": talker.memory}
        finally:
            talker.stop()


class Transmission(Client):
    """The daemon, led by its remote control: torrent-verify."""

    program = "transmission-daemon"

    def check(self, payload, torrent, work, begin):
        settings = {"dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False,
                    "port-forwarding-enabled": False, "rpc-port": PORT, "rpc-bind-address": "127.0.0.1",
                    "peer-port": PORT + 1, "start-added-torrents": False, "download-dir": str(payload.parent)}
        (work / "settings.json").write_text(json.dumps(settings))
        daemon = Process([self.program, "--foreground", "--config-dir", work], work / "log")
        try:
            self.session = ""
            self.until(lambda: self.call("session-get") is not None)
            self.call("torrent-add", filename=str(torrent), paused=True)
            # It looks at data that it finds by itself.
            self.until(lambda: self.state() == "idle")
            begin()
            began, cpu = time.monotonic(), daemon.cpu()
            self.call("torrent-verify", ids=[1])
            self.until(lambda: self.state() == "checking")
            self.until(lambda: self.state() == "idle")
            daemon.look()
            found = {"seconds": time.monotonic() - began, "cpu": daemon.cpu() - cpu, "memory": daemon.memory}
            if self.field("percentDone") != 1:
                raise Failed("it does not find the data right")
            return found
        finally:
            daemon.stop()

    def until(self, condition):
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > give_up_at:
                raise Failed("it did not end in time")
            time.sleep(0.005)

    def state(self):
        return {1: "checking", 2: "checking"}.get(self.field("status"), "idle")

    def field(self, name):
        torrents = self.call("torrent-get", ids=[1], fields=[name])["torrents"]
        return torrents[0][name] if torrents else None

    def call(self, method, **arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            request = urllib.request.Request(
                f"http://127.0.0.1:{PORT}/transmission/rpc", body, {"X-Transmission-Session-Id": self.session})
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                    return json.load(answer)["arguments"]
            except urllib.error.HTTPError as error:
                self.session = error.headers.get("X-Transmission-Session-Id", "")
            except (urllib.error.URLError, ConnectionError):
                return None
        return None


def aria2():
    return Command("aria2c", "--no-conf", "--check-integrity=true", "--hash-check-only=true", "--file-allocation=none",
                   "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
                   "--summary-interval=0", f"--listen-port={PORT}", "-d", "{parent}", "{torrent}")


def rqbit():
    """It keeps nothing of a `download`, so each begins with a whole check; the torrents name no tracker."""
    return Command("rqbit", "--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--disable-tcp-listen", "download",
                   "--disable-http-api", "--overwrite", "--exit-on-finish", "--output-folder", "{parent}", "{torrent}")


CLIENTS = {
    "flotilla, 1 thread": Command(FLOTILLA, "verify", "--threads", 1, "{torrent}", "{path}"),
    "flotilla, 2 threads": Command(FLOTILLA, "verify", "--threads", 2, "{torrent}", "{path}"),
    "flotilla, session": Session(),
    # One hashing thread, ten others and 4 MiB in flight are its defaults; 2048 blocks of 16 KiB are 32 MiB.
    "libtorrent": Libtorrent(),
    "libtorrent, 32 MiB": Libtorrent(checking_mem_usage=2048),
    "libtorrent, 2 hashing": Libtorrent(hashing_threads=2),
    "libtorrent, 2 hashing, 32 MiB": Libtorrent(hashing_threads=2, checking_mem_usage=2048),
    "libtorrent, 4 hashing, 32 MiB": Libtorrent(hashing_threads=4, aio_threads=4, checking_mem_usage=2048),
    "transmission": Transmission(),
    "aria2": aria2(),
    "rqbit": rqbit(),
    "read loop, 1 thread": Floor(OURS, "read", 1, "{path}"),
    "read loop, 2 threads": Floor(OURS, "read", 2, "{path}"),
    "dd, direct": Direct("dd", "if={path}", "of=/dev/null", "iflag=direct", "bs=4M"),
}


def build():
    """Builds what is ours."""
    command = ["nice", "-n", "19", "cargo", "build", "--quiet", "--release", "--target-dir", TARGET, "-p", "flotilla", "-p", "check-bench"]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit("flotilla or check-bench does not build")


def openssl_rate():
    """MiB a second that OpenSSL hashes on one core."""
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(MIB), "sha1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"\+F:.*sha1:([\d.]+)", said)[1]) / MIB


def busy_share(seconds=0.1):
    """How much of the machine others use just now, from 0 to 1."""
    def sample():
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    total, idle = sample()
    time.sleep(seconds)
    later, later_idle = sample()
    return 1 - (later_idle - idle) / max(1, later - total)
