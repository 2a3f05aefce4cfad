"""What a case works with: a directory, a network, clients, and waiting with a reason to give when the wait was in vain."""

import os
import time
from pathlib import Path

import net
from casebook import guard


class Failed(Exception):
    """The case found something wrong; the message says what."""


class Stage:
    """The surroundings of one running case. Use it as a context manager: leaving it ends everything it started."""

    def __init__(self, number, directory, flotilla, prefix):
        self.dir = Path(directory)
        self.flotilla = flotilla
        self.network = net.Network(prefix, number)
        self.clients = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.network.close()

    def host(self, name, ipv4=True, ipv6=False):
        """Plugs another host into the network."""
        return self.network.host(name, ipv4, ipv6)

    def folder(self, name):
        """A folder for a client to download into, or for something else."""
        path = self.dir / name
        path.mkdir(exist_ok=True)
        return path

    def client(self, kind, name=None):
        """A client that does nothing yet. `kind` is one of the classes in clients/; the name is that of its folder with log and settings."""
        client = kind(self, name or f"{kind.__name__.lower()}{len(self.clients)}")
        self.clients.append(client)
        return client

    def wait(self, condition, seconds, what):
        """Waits until the condition holds, which takes so many seconds at most on a machine at rest. Fails when it does not come to hold at
        all, or when a client has died meanwhile."""
        limit = guard(seconds)
        deadline = time.monotonic() + limit
        while not (result := condition()):
            for client in self.clients:
                client.check_alive()
            if time.monotonic() > deadline:
                raise Failed(f"waited {limit} s for {what}")
            time.sleep(0.05)
        return result

    def compare(self, payload, directory, client=None):
        """Fails unless every file of the payload has arrived in the directory, as far as the client makes such files at all."""
        problems = payload.differences(directory, client.makes_empty_files if client else True)
        if problems:
            raise Failed("; ".join(problems))

    def finish(self):
        """Stops the clients in order, and fails if one has something to say against itself."""
        for client in self.clients:
            client.stop()
        for client in self.clients:
            client.examine()


def environment(home):
    """The environment of a client: nothing of the user's, everything in its own folder. No server of names can be reached from where it runs, so
    who looks one up (some do so with the machine's own) gives up soon."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "dumb", "RES_OPTIONS": "attempts:1 timeout:1"
    }
