"""What people get wrong on the command line: the message names the thing, the exit status is 1 or 2, and nothing panics."""

import shlex
import shutil
import subprocess

import payload
import torrentfile
from casebook import case, guard
from clients import PORT, Flotilla
from stage import Failed, environment

SECONDS = guard(20)


def refuse(stage, host, args, names, prefix=()):
    """Fails unless the command ends by itself and complains of `names`."""
    command = host.command([*prefix, stage.flotilla, *args])
    shown = " ".join(["flotilla", *map(str, args)])
    try:
        home = environment(stage.folder("home"))
        run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=home, cwd=stage.folder("home"))
    except subprocess.TimeoutExpired as late:
        raise Failed(f"`{shown}` did not end within {SECONDS} s; it said {late.stdout!r} {late.stderr!r}") from None
    print(f"$ {shown}\n{run.stdout}{run.stderr}status {run.returncode}\n", flush=True)
    if "panicked" in run.stderr:
        raise Failed(f"`{shown}` panicked: {run.stderr}")
    if run.returncode not in (1, 2):
        raise Failed(f"`{shown}` ended with status {run.returncode}")
    if names not in run.stderr + run.stdout:
        raise Failed(f"`{shown}` does not name {names!r}: {run.stderr!r}")


@case("usage-missing-file", [Flotilla])
def missing_file(stage):
    host = stage.host("one")
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    refuse(stage, host, ["get", "nowhere.torrent", "--no-state"], "nowhere.torrent")
    refuse(stage, host, ["seed", "nowhere", "--torrent", torrent.path, "--no-state"], "nowhere")
    refuse(stage, host, ["seed", files.root, "--torrent", "nowhere.torrent", "--no-state"], "nowhere.torrent")
    refuse(stage, host, ["create", "nowhere"], "nowhere")
    refuse(stage, host, ["show", "nowhere.torrent"], "nowhere.torrent")
    refuse(stage, host, ["verify", "nowhere.torrent"], "nowhere.torrent")
    refuse(stage, host, ["verify", torrent.path, stage.folder("empty")], files.name)
    (stage.dir / "junk.torrent").write_bytes(b"d8:announce")
    refuse(stage, host, ["get", stage.dir / "junk.torrent", "--no-state"], "junk.torrent")
    refuse(stage, host, ["show", stage.dir / "junk.torrent"], "junk.torrent")


@case("usage-unwritable-folder", [Flotilla])
def unwritable_folder(stage):
    """Root may write anywhere, so: a file where the folder should be, and a mount that is read-only."""
    here, there = stage.host("seed"), stage.host("leech")
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    stage.client(Flotilla).seed(here, torrent, files.parent)
    (stage.dir / "occupied").write_text("a file")
    get = ["get", torrent.path, "--no-state", "--peer", here.address(PORT), "-o"]
    refuse(stage, there, [*get, stage.dir / "occupied"], "occupied")
    frozen = stage.folder("frozen")
    mount = f"mount --bind '{frozen}' '{frozen}' && mount -o remount,ro,bind '{frozen}' && exec \"$@\""
    refuse(stage, there, [*get, frozen], "frozen", ["unshare", "--mount", "sh", "-c", mount, "sh"])
    refuse(stage, there, ["create", files.root, "-o", stage.dir / "occupied" / "a.torrent"], "occupied")


@case("usage-port-in-use", [Flotilla])
def port_in_use(stage):
    host = stage.host("one")
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    stage.client(Flotilla).seed(host, torrent, files.parent)
    for port in (f"{PORT}", f"{PORT}-{PORT}"):
        refuse(stage, host, ["get", torrent.path, "-o", stage.folder("download"), "--port", port, "--no-state"], f"{PORT}")
    refuse(stage, host, ["tracker", "--http", f"0.0.0.0:{PORT}"], f"{PORT}")
    refuse(stage, host, ["get", torrent.path, "--bind", "203.0.113.7", "--no-state"], "203.0.113.7")


@case("usage-nonsense", [Flotilla])
def nonsense(stage):
    """Options that mean nothing, and a tracker of a kind that there is not."""
    host = stage.host("one")
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")
    refuse(stage, host, ["create", files.root, "-o", "b.torrent", "--tracker", "gopher://example.org/announce"], "gopher")
    refuse(stage, host, ["create", files.root, "-o", "b.torrent", "--piece-size", "100"], "100")
    refuse(stage, host, ["get", torrent.path, "--port", "70000", "--no-state"], "70000")
    refuse(stage, host, ["get", torrent.path, "--port", "7000-6000", "--no-state"], "7000-6000")
    refuse(stage, host, ["get", torrent.path, "--limit-down", "fast", "--no-state"], "fast")
    refuse(stage, host, ["get", torrent.path, "--peer", "nobody", "--no-state"], "nobody")
    refuse(stage, host, ["get", torrent.path, "--state-dir", "s", "--no-state"], "--no-state")
    refuse(stage, host, ["get", "ftp://example.org/a.torrent", "--no-state"], "ftp")
    refuse(stage, host, ["fetch", torrent.path], "fetch")


@case("usage-create", [Flotilla])
def create(stage):
    """Not a mistake: the torrent file that `create` writes is the one that torrentfile.py would."""
    host = stage.host("one")
    files = payload.single(stage.folder("original"), 3)
    torrent = torrentfile.make(files, stage.dir / "a.torrent", ["http://192.0.2.1/announce"])
    made = stage.dir / "b.torrent"
    tracker = "http://192.0.2.1/announce"
    args = [stage.flotilla, "create", files.root, "-o", made, "--tracker", tracker, "--piece-size", "64KiB"]
    subprocess.run(host.command(args), check=True, timeout=SECONDS)
    if torrentfile.load(made).info_hash != torrent.info_hash:
        raise Failed(f"{made} has another info hash than {torrent.path}")


class Tmux:
    """A terminal whose screen can be read."""

    @classmethod
    def missing(cls):
        return None if shutil.which("tmux") else "tmux is not installed: apt-get install tmux"


@case("usage-interrupted-screen", [Flotilla, Tmux])
def interrupted_screen(stage):
    """Ctrl-C takes away the lines that change, all of them, and leaves a word."""
    host = stage.host("one")
    files = payload.single(stage.folder("original"), 1)
    torrent = torrentfile.make(files, stage.dir / "a.torrent")

    def tmux(*args):
        command = host.command(["tmux", "-S", "tmux", "-f", "/dev/null", *args])
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=stage.dir, env=environment(stage.folder("home"))).stdout

    def screen():
        return tmux("capture-pane", "-p")

    get = [stage.flotilla, "get", torrent.path, "-o", stage.folder("download"), "--no-state", "--no-dht", "--no-lsd", "--no-nat"]
    tmux("new-session", "-d", "-x", "80", "-y", "24", f"{shlex.join(map(str, get))}; echo ended $?; exec cat")
    stage.wait(lambda: "Peers" in screen() and "0.0%" in screen(), 20, "the table")
    tmux("send-keys", "C-c")
    stage.wait(lambda: "ended 130" in screen(), 20, "the end")
    print(left := screen())
    if "Peers" in left or "0.0%" in left or "interrupted; the same command goes on from here" not in left:
        raise Failed(f"this is left on the screen: {left!r}")
