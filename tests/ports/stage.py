"""Live nodes, and what a test says of them."""

import json
import os
import select
import subprocess
import tempfile
import threading

import aemp_peer
from aemp_peer import plain

CASES = []


def case(function):
    """Makes a function a case; its name is what is shown."""
    CASES.append(function)
    return function


def expect(seen, wanted):
    if seen != wanted:
        raise AssertionError(f"\n      seen    {seen!r}\n      wanted  {wanted!r}")


class Node:
    """A node of ours in a process of its own."""

    program = None
    numbers = iter(range(1, 1 << 30))
    lock = threading.Lock()

    def __init__(self, **settings):
        with Node.lock:
            number = next(Node.numbers)
        settings = {"nodeid": f"rust{number}", "binds": "127.0.0.1:0", "secret": "geheim", "norc": "1", **settings}
        args = [word for pair in settings.items() for word in pair if pair[1] is not None]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([Node.program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env={**os.environ, "RUST_BACKTRACE": "1"})
        if not select.select([self.process.stdout], [], [], aemp_peer.PATIENCE)[0]:
            raise TimeoutError("the node did not start")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the node did not start: {self.said()}")
        facts = json.loads(line)
        self.id, self.echo = facts["node"], facts["echo"]
        self.address = facts["listeners"][0] if facts["listeners"] else None
        self.echo_name = self.echo.partition("#")[2]

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if ended is not None or "panicked" in self.said():
            raise AssertionError(f"the node failed (status {ended}): {self.said()}") from error
        self.errors.close()

    def dial(self, **peer):
        return aemp_peer.dial(self.address, **peer)

    def meet(self, **peer):
        """A peer that has shaken hands and heard that this node is global."""
        framing = peer.get("framings", "json").split(",")[0]
        met = self.dial(**peer).shake_hands(framing=framing)
        first = met.receive()
        expect(plain(first), ["", "g_global"])
        met.echo = self.echo_name
        return met

    def is_well(self):
        """Whether the node does its work for others."""
        with Node.lock:
            number = next(Node.numbers)
        peer = self.meet(node=f"well{number}")
        peer.send(self.echo_name, f"{peer.node}#x", "well")
        expect(peer.receive_until(lambda message: message[0] == "x")[-1], ["x", "well"])
        peer.close()


def certificate(text):
    """A file with a certificate; it goes with the program."""
    file = tempfile.NamedTemporaryFile("w", suffix=".pem")
    file.write(text)
    file.flush()
    return file
