"""Builds, starts and stops what is measured, and asks the client."""

import json
import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
C_PROGRAMS, PEERS = TARGET / "echo-c", TARGET / "echo-peers"
CLIENT = C_PROGRAMS / "client"
# Where servers run, and where everything else does.
SERVER_CPU, CLIENT_CPU = "0", "1"
OURS = "reactor"

SERVERS = {
    OURS: [TARGET / "release/echo"],
    "C epoll": [C_PROGRAMS / "epoll"],
    "mio": [PEERS / "release/mio"],
    "tokio": [PEERS / "release/tokio"],
    "compio": [PEERS / "release/compio"],
    "Perl": ["perl", HERE / "servers/danga.pl"],
}


def build(names):
    """Builds what the servers of these names need; returns those that can be had."""
    missing = [tool for tool in ("gcc", "taskset", "cargo") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; apt install gcc libc6-dev linux-libc-dev util-linux")
    C_PROGRAMS.mkdir(parents=True, exist_ok=True)
    for source in (HERE / "client.c", *sorted((HERE / "servers").glob("*.c"))):
        program = C_PROGRAMS / source.stem
        newest = max(source.stat().st_mtime, (HERE / "common.h").stat().st_mtime)
        if not program.exists() or program.stat().st_mtime < newest:
            subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source], check=True)
    cargo = ["cargo", "build", "--quiet", "--release"]
    subprocess.run([*cargo, "--target-dir", TARGET, "-p", "echo"], cwd=ROOT, check=True)
    if {"mio", "tokio", "compio"} & set(names):
        subprocess.run([*cargo, "--target-dir", PEERS], cwd=HERE / "peers", check=True)
    if "Perl" in names and subprocess.run(["perl", "-MDanga::Socket", "-e1"], stderr=subprocess.DEVNULL).returncode:
        print("Perl is left out: apt install libdanga-socket-perl\n")
        names = [name for name in names if name != "Perl"]
    return names


def raise_limits():
    """As many descriptors as we may have, for all that we start."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def machine():
    """What was measured on, in a line or two."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    load = os.getloadavg()[0]
    text = f"{model[1] if model else 'some processor'}, {os.cpu_count()} cpus, Linux {os.uname().release}, {congestion}."
    if load > 0.5:
        text += f" **The load before the start was {load:.1f}: these figures are disturbed.**"
    if congestion == "bbr":
        text += (" **bbr paces loopback, and a proxy that does not choose for itself is measured by that:"
                 " sysctl net.ipv4.tcp_congestion_control=cubic.**")
    return text


# What goes before the commands of servers and clients; `--realtime` fills it.
first = []


def pinned(cpu, command, before=None):
    return ["taskset", "-c", cpu, *(first if before is None else before), *map(str, command)]


class Server:
    """A server that runs, and where it listens."""

    def __init__(self, command, cpu=SERVER_CPU):
        self.command = [str(word) for word in command]
        self.process = subprocess.Popen(pinned(cpu, self.command), stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        line = self.process.stdout.readline().split()
        if line[:1] != ["listening"]:
            raise SystemExit(f"{shlex.join(self.command)} does not listen")
        self.port = line[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is not None:
            print(f"\n**{self.command[-1]} ended by itself, with {self.process.returncode}.**\n")
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def memory(self):
        """Bytes resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Client:
    """A client that runs; it answers in lines of JSON."""

    def __init__(self, command, *options, before=None):
        self.process = subprocess.Popen(pinned(CLIENT_CPU, [CLIENT, command, *options], before),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the client gave up: {shlex.join(map(str, self.process.args))}")
        return json.loads(line)

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait()


def load(server, *options, before=None):
    """One measurement; its figures. Connections that failed or were lost are said aloud."""
    client = Client("load", server.port, "--pid", str(server.pid), *map(str, options), before=before)
    opened = client.answer()
    figures = client.answer()
    client.end()
    for what in ("failed", "lost", "skipped"):
        if {**opened, **figures}.get(what):
            print(f"\n**{server.command[-1]}, {' '.join(map(str, options))}: {what} {({**opened, **figures})[what]}.**\n")
    return figures


def median(rounds, field):
    return statistics.median(figures[field] for figures in rounds)


def spread(rounds, field, digits=2):
    """The median, and the least and most beside it: starts of one program differ, and not by chance alone."""
    values = sorted(figures[field] for figures in rounds)
    text = f"{statistics.median(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({values[0]:,.{digits}f}–{values[-1]:,.{digits}f})"


def table(heads, rows):
    print(f"| {' | '.join(heads)} |")
    print(f"| {' | '.join('---' for _ in heads)} |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)
