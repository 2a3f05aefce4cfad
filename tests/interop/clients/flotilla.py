"""Flotilla itself: the binary that is under test, which tells what happens as a line of JSON each."""

import json
import signal
import subprocess

from casebook import guard
from stage import Failed, environment

from .base import PORT, Client


class Flotilla(Client):
    takes_peers = True
    speaks_ipv6 = True
    stop_signal = signal.SIGINT
    patience = guard(6)
    # A PEM file of the one certificate to believe; the system's if there is none.
    believes = None
    # A command that runs it as its own last words.
    within = []

    @classmethod
    def missing(cls):
        return None

    def seed(self, host, torrent, data_dir, *options):
        data = data_dir / torrent.name
        self._run(host, "seed", data, "--torrent", torrent.path, "--port", PORT, "--json", "--no-state", *self._finding(), *options)
        self.serve()

    def fetch(self, host, torrent, directory, peers=(), *options, then=("--seed",), state=("--no-state",)):
        """`torrent` may be a URL. `then` is empty for a download that ends when it is complete."""
        peers = [part for peer in peers for part in ("--peer", peer)]
        source = torrent if isinstance(torrent, str) else torrent.link or torrent.path
        self._run(host, "get", source, "-o", directory, "--port", PORT, "--json", *peers, *then, *state, *self._finding(), *options)
        self.expected_end = not then

    def _finding(self):
        """Options that leave it no way to find peers but those that the case is about, and trackers."""
        ways = [option for option, is_on in (("--no-pex", self.exchange), ("--no-lsd", self.lsd)) if not is_on]
        return [*ways, *(("--dht-node", self.dht) if self.dht else ("--no-dht",))]

    def listen(self):
        self.stage.wait(lambda: self.events("listening"), 10, f"{self.name} to listen")

    def peer_ips(self):
        """Whom it is connected to, or was."""
        return {event["addr"].rsplit(":", 1)[0].strip("[]") for event in self.events("peer_connected")}

    def be_node(self, host, *options):
        """Is a node of the DHT."""
        self._run(host, "dht", "--port", PORT, "--json", "--no-state", *(("--boot", self.dht) if self.dht else ("--no-boot",)), *options)

    def ask_dht(self, host, *question):
        """The lines of the answer to a question to the DHT."""
        options = ("--port", 7000, "--boot", self.dht, "--no-state")
        done = subprocess.run(host.command([self.stage.flotilla, "dht", *question, *options]), capture_output=True, text=True, timeout=guard(60), env=environment(self.dir))
        if done.returncode != 0:
            raise Failed(f"flotilla dht {question[0]}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def track(self, host, address):
        """Is a tracker over HTTP and UDP."""
        self._run(host, "tracker", "--http", address, "--udp", address)

    def _run(self, host, *args):
        certificates = {"SSL_CERT_FILE": str(self.believes)} if self.believes else {}
        self.launch(host, [*self.within, self.stage.flotilla, *args], env=environment(self.dir) | certificates)

    def is_done(self):
        if self.process.poll() is not None and self.process.returncode != 0:
            raise Failed(f"{self.name} exited with status {self.process.returncode}: {self.last_words()}")
        ended = self.process.poll() == 0
        return ended or any(self.events("completed")) or any("seeding" in event.values() for event in self.events("state"))

    def completed(self, torrent):
        """Whether it has said so of this torrent."""
        return any(event["torrent"] == torrent.hex for event in self.events("completed"))

    def events(self, kind):
        """The events of that kind so far."""
        events = [json.loads(line) for line in self.lines() if line.startswith("{")]
        return [event for event in events if event["event"] == kind]

    def examine(self):
        if self.log.exists() and "panicked" in self.log.read_text(errors="replace"):
            raise Failed(f"{self.name} panicked, see {self.log}")
        if self.is_stubborn:
            raise Failed(f"{self.name} did not end within {self.patience} s of being interrupted")
