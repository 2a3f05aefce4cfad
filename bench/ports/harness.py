"""Builds, starts and measures the programs that `run` sets side by side."""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PEERS, C_PROGRAMS, BEAMS = TARGET / "ports-peers", TARGET / "ports-c", TARGET / "ports-erlang"
OURS_PROGRAM = TARGET / "release/ports-bench"
OURS = "ours"
PATIENCE_SECONDS = 180

# A table for two million processes; where it crashes, it leaves no dump behind.
ERLANG = ["erl", "+P", "2097152", "-noshell", "-pa", str(BEAMS)]
# Two nodes that find each other without epmd, and listen on loopback only.
ERLANG_NODE = ["-setcookie", "bench", "-start_epmd", "false", "-erl_epmd_port", "{port}",
               "-kernel", "inet_dist_use_interface", "{{127,0,0,1}}"]
ERLANG_SERVER = "bench_server@localhost"
ERLANG_MAIN = ["-run", "ports_bench", "main"]


def peer(name):
    return [str(PEERS / "release" / name)]


# By system and variant, what goes before the name of the test.
LOCAL = {
    OURS: {"one loop": [str(OURS_PROGRAM)]},
    "erlang": {"default": [*ERLANG, *ERLANG_MAIN], "+S 1": [*ERLANG, "+S", "1", *ERLANG_MAIN]},
    "actix": {"1 arbiter": peer("actix")},
    "ractor": {"current_thread": peer("ractor"), "2 workers": [*peer("ractor"), "--workers", "2"]},
    "kameo": {"current_thread": peer("kameo"), "2 workers": [*peer("kameo"), "--workers", "2"]},
    "crossbeam": {"2 threads": peer("crossbeam")},
}


def over_tcp(program, *more):
    """The commands of a server and of a client that take addresses."""
    return ([*program, "serve", "--listen", "127.0.0.1:{port}"],
            [*program, "{test}", "--connect", "127.0.0.1:{port}", "{count}", "{size}", *more])


# By system and variant: the tests, the server's command, the client's.
BOTH = ("remote-flood", "remote-pingpong")
REMOTE = {
    OURS: {"cbor": (BOTH, *over_tcp([str(OURS_PROGRAM)])),
           "json": (BOTH[:1], *over_tcp([str(OURS_PROGRAM)], "--framing", "json"))},
    "erlang": {"default": (BOTH,
                           [*ERLANG, "-sname", ERLANG_SERVER, *ERLANG_NODE, *ERLANG_MAIN, "serve", "{port}"],
                           [*ERLANG, "-sname", "bench_client@localhost", *ERLANG_NODE, "-dist_listen", "false",
                            *ERLANG_MAIN, "{test}", ERLANG_SERVER, "{count}", "{size}"])},
    "zenoh": {"batched": (BOTH, *over_tcp(peer("zenoh"))),
              "express": (BOTH[1:], *over_tcp([*peer("zenoh"), "--express"]))},
    "tcp": {"bare, in C": (BOTH, *over_tcp([str(C_PROGRAMS / "tcp")]))},
}

# By what the processors of server and client are called.
PINNINGS = {"unpinned": (None, None), "same core": ("0", "0"), "two cores": ("0", "1")}


def build(names):
    """Builds what these systems need; returns those that can be had, and says why the others cannot."""
    had = []
    for name in names:
        reason = cannot_build(name)
        if reason:
            print(f"{name} is left out: {reason}\n")
        else:
            had.append(name)
    return had


def cannot_build(name):
    nice = ["nice", "-n", "19"]
    if not shutil.which("taskset"):
        return "apt install util-linux"
    if name == OURS:
        manifest = HERE / "ours/Cargo.toml"
        if manifest.exists():
            command = [*nice, "cargo", "build", "--quiet", "--release", "--target-dir", TARGET, "--manifest-path", manifest]
            if subprocess.run(command, cwd=ROOT).returncode:
                return "it does not build"
        return None if OURS_PROGRAM.exists() else f"there is no {OURS_PROGRAM}"
    if name == "erlang":
        if not shutil.which("erlc"):
            return "apt install erlang-base"
        return compiled(HERE / "erlang/ports_bench.erl", BEAMS / "ports_bench.beam", [*nice, "erlc", "-Wall", "-o", BEAMS])
    if name == "tcp":
        if not shutil.which("gcc"):
            return "apt install gcc libc6-dev"
        return compiled(HERE / "c/tcp.c", C_PROGRAMS / "tcp", [*nice, "gcc", "-O2", "-Wall", "-o", C_PROGRAMS / "tcp"])
    command = [*nice, "cargo", "build", "--quiet", "--release", "--target-dir", PEERS, "--features", name, "--bin", name]
    return "it does not build" if subprocess.run(command, cwd=HERE / "peers").returncode else None


def compiled(source, program, command):
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return None
    program.parent.mkdir(parents=True, exist_ok=True)
    return "it does not build" if subprocess.run([*command, source]).returncode else None


class Process:
    """A program that runs. Its CPU time is that of its whole life, of all its threads."""

    def __init__(self, command, cpu=None):
        command = [*(["taskset", "-c", cpu] if cpu else []), *command]
        environment = {**os.environ, "ERL_CRASH_DUMP": "/dev/null"}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                        env=environment)
        # One that hangs is ended, and what it has not said counts as its failure.
        self.timer = threading.Timer(PATIENCE_SECONDS, self.process.kill)
        self.timer.start()

    def line(self):
        return self.process.stdout.readline()

    def lines(self):
        return self.process.stdout.read().splitlines()

    def kill(self):
        self.process.kill()

    def end(self):
        """Waits for it; its exit status and its CPU seconds."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.timer.cancel()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.process.stdout.close()
        return self.process.returncode, usage.ru_utime + usage.ru_stime


class Failed(Exception):
    """A measurement came to nothing."""


def measure_local(command):
    """Runs a program; its results."""
    busy = busy_share()
    process = Process(command)
    lines = process.lines()
    status, cpu = process.end()
    return results_of(lines, status, busy, cpu)


def measure_remote(server, client, test, count, size, pinning):
    """Runs a server and a client; the client's results, with the CPU time of both."""
    busy = busy_share()
    places = {"test": test, "count": count, "size": size, "port": free_port()}
    server, client = ([word.format(**places) for word in command] for command in (server, client))
    server_cpu, client_cpu = PINNINGS[pinning]
    serving = Process(server, server_cpu)
    try:
        if not serving.line().startswith("listening"):
            raise Failed("the server does not listen")
        asking = Process(client, client_cpu)
        lines = asking.lines()
        status, cpu = asking.end()
    finally:
        serving.kill()
        _, more = serving.end()
    return results_of(lines, status, busy, cpu + more)


def results_of(lines, status, busy, cpu):
    try:
        results = [json.loads(line) for line in lines if line.startswith("{")]
    except json.JSONDecodeError as error:
        raise Failed(f"it prints no JSON: {error}") from None
    if status or not results:
        raise Failed(f"it ended with {status} and {len(results)} results")
    for result in results:
        result["busy_before"] = busy
        result["process_cpu_seconds"] = cpu
    return results


def busy_share(seconds=0.1):
    """How much of the machine others use just now, from 0 to 1."""
    def sample():
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    total, idle = sample()
    time.sleep(seconds)
    later, later_idle = sample()
    return 1 - (later_idle - idle) / max(1, later - total)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def machine():
    """What is measured on, and which versions."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = re.findall(r'name = "(actix|crossbeam-channel|kameo|ractor|zenoh)"\nversion = "(.*)"',
                          (HERE / "peers/Cargo.lock").read_text())
    return (f"{model[1] if model else 'some processor'}, {os.cpu_count()} cpus, Linux {os.uname().release}, "
            f"load {os.getloadavg()[0]:.2f}; {', '.join(f'{name} {version}' for name, version in versions)}.")


def median(results, field):
    return statistics.median(result[field] for result in results)


def short(number):
    """Three digits, and a letter for the thousands."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= unit:
            return f"{number / unit:.3g}{letter}" if number < 1000 * unit else f"{number / unit:,.0f}{letter}"
    return f"{number:.3g}"


def table(heads, rows):
    print(f"| {' | '.join(heads)} |")
    print(f"| {' | '.join('---' for _ in heads)} |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)
