"""What all clients have in common: a process on a host, with a folder for settings and a log."""

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

from stage import Failed, environment

PORT = 6881


class Client:
    """A client under test or to test against. Subclasses say how to start it and how to ask how far it is."""

    program = None
    package = None
    takes_peers = False  # can be given the address of a peer, without a tracker
    needs_tracker = False  # takes no torrent without a tracker
    makes_empty_files = True
    speaks_ipv6 = False
    stop_signal = signal.SIGTERM
    patience = 6  # seconds to end in order; others are ended then, without a word
    # Whether it encrypts what it says to peers: "off", "allowed", "required"; "plaintext": it hides the handshake only.
    encryption = "off"
    # Whether it talks uTP; and whether it connects over TCP, where that can be told.
    utp = False
    tcp = True
    # Whether peers tell it of peers, and whether it looks for them on the local network.
    exchange = False
    dht = None  # HOST:PORT of a node of the DHT to begin with; without it, it takes no part
    lsd = False

    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        self.dir = stage.folder(name)
        self.host = None
        self.process = None
        self.expected_end = False
        self.is_stubborn = False

    @classmethod
    def missing(cls):
        """What to install before this client can be used, or nothing."""
        return None if shutil.which(cls.program) else f"{cls.program} is not installed: apt-get install {cls.package}"

    def seed(self, host, torrent, data_dir):
        """Starts it with all the data there; `data_dir` holds the payload. Returns once it serves."""
        raise NotImplementedError

    def fetch(self, host, torrent, directory, peers=()):
        """Starts downloading into `directory`, and stays as a seed afterwards."""
        raise NotImplementedError

    def is_done(self):
        """Whether it has everything, and says so."""
        raise NotImplementedError

    @property
    def log(self):
        return self.dir / "log"

    def launch(self, host, args, **options):
        """Runs the command on the host, with its output in the log."""
        self.host = host
        self.expected_end = False
        with open(self.log, "ab") as log:
            options = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, "cwd": self.dir, "env": environment(self.dir)} | options
            self.process = subprocess.Popen(host.command(args), start_new_session=True, **options)

    def serve(self, seconds=30):
        """Waits until it has checked the data it is to seed, and peers can come."""
        self.stage.wait(self.is_done, seconds, f"{self.name} to find that it has all the data")
        self.listen()

    def listen(self):
        """Waits until peers can come: whoever comes sooner, and is refused, may try again only after a minute."""
        self.stage.wait(lambda: self.host.listens(PORT, self.tcp), 10, f"{self.name} to listen")

    def check_alive(self):
        """Fails if the process is gone though nobody ended it."""
        if self.process and not self.expected_end and self.process.poll() is not None:
            raise Failed(f"{self.name} ended by itself with status {self.process.returncode}: {self.last_words()}")

    def lines(self):
        """What it has said so far, without a line that is still being written."""
        return self.log.read_text(errors="replace").split("\n")[:-1] if self.log.exists() else []

    def last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    def stop(self):
        """Ends it in order, or else by force."""
        self.expected_end = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                self.is_stubborn = True
                self.kill()

    def kill(self):
        """kill -9."""
        self.expected_end = True
        self.process.kill()
        self.process.wait()

    def examine(self):
        """Fails if, after it has ended, the log tells of trouble. Only we are that strict with ourselves."""

    def peak_memory(self):
        """The most memory it has had in use so far, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def request(self, url, body=None, headers=()):
        """An HTTP request from the client's own host: for its remote control. Nothing if it does not answer (yet)."""
        request = urllib.request.Request(url, data=body, headers=dict(headers))
        with self.host.inside(), contextlib.suppress(OSError, http.client.HTTPException):
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read()
        return None

    def request_json(self, url, value, headers=()):
        answer = self.request(url, json.dumps(value).encode(), {"Content-Type": "application/json", **dict(headers)})
        return json.loads(answer) if answer else None
