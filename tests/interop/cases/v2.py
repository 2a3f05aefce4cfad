"""BitTorrent v2 and hybrid torrents: made alike by libtorrent and Flotilla, and moved between them both ways.

A torrent file without `piece layers` stands for a magnet link: the hashes of pieces are asked of the peer. rTorrent
knows version 1 only, and takes a hybrid for a torrent like others. Transmission 3.00 refuses to read one, and aria2 1.36
gives it a wrong info hash.
"""

import subprocess

import payload
import torrentfile
from casebook import case, guard
from clients import PORT, Flotilla, Libtorrent, Rtorrent
from clients.libtorrent import PYTHON, SCRIPT
from payload import KIB
from stage import Failed, environment
from tracker import PORT as TRACKER_PORT
from tracker import OwnTracker

SECONDS = 40
MAKER = SCRIPT.parent / "libtorrent_create.py"


def run(stage, *args):
    done = subprocess.run([*map(str, args)], capture_output=True, text=True, env=environment(stage.folder("home")))
    print(f"$ {args}\n{done.stdout}{done.stderr}", flush=True)
    if done.returncode != 0:
        raise Failed(f"{args[0]} ended with status {done.returncode}: {done.stderr!r}")
    return done.stdout


def ours(stage, files, form, piece_length=64 * KIB):
    path = stage.dir / f"ours-{form}-{piece_length}.torrent"
    create = [stage.flotilla, "create", files.root, "--format", form, "--piece-size", piece_length]
    run(stage, *create, "--force", "--output", path)
    return torrentfile.load(path)


def theirs(stage, files, form, piece_length=64 * KIB):
    path = stage.dir / f"theirs-{form}-{piece_length}.torrent"
    run(stage, PYTHON, MAKER, files.root, form, piece_length, path)
    return torrentfile.load(path)


def without_layers(torrent):
    """The same torrent as a magnet link gives it."""
    whole = torrentfile.decode(torrent.path.read_bytes())
    bare = torrent.path.with_suffix(".bare.torrent")
    bare.write_bytes(torrentfile.encode({b"info": whole[b"info"]}))
    return torrentfile.load(bare)


def transfer(stage, files, torrent, seeder, fetcher, fetched=None):
    here, there = stage.host("seed"), stage.host("leech")
    tracked = seeder.needs_tracker or fetcher.needs_tracker or not fetcher.takes_peers
    if tracked:
        meeting_point = stage.host("tracker")
        stage.client(OwnTracker).start(meeting_point)
        whole = torrentfile.decode(torrent.path.read_bytes())
        whole[b"announce"] = f"http://{meeting_point.address(TRACKER_PORT)}/announce".encode()
        torrent.path.write_bytes(torrentfile.encode(whole))
    stage.client(seeder).seed(here, torrent, files.parent)
    target = stage.folder("download")
    client = stage.client(fetcher)
    client.fetch(there, fetched or torrent, target, [] if tracked else [here.address(PORT)])
    stage.wait(client.is_done, SECONDS, f"{client.name} to have everything")
    stage.finish()
    stage.compare(files, target, client)


@case("v2-made-alike", [Flotilla, Libtorrent])
def made_alike(stage):
    several = payload.folder(stage.folder("original"), 3)
    one = payload.single(stage.folder("original"), 1)
    for files in (several, one):
        for form in ("v2", "hybrid"):
            for piece_length in (16 * KIB, 64 * KIB, 1024 * KIB):
                first, second = ours(stage, files, form, piece_length), theirs(stage, files, form, piece_length)
                if first.info_hash != second.info_hash:
                    raise Failed(f"{files.name}, {form}, {piece_length}: {first.hex} and {second.hex}")
                layers = [torrentfile.decode(made.path.read_bytes())[b"piece layers"] for made in (first, second)]
                if layers[0] != layers[1]:
                    raise Failed(f"{files.name}, {form}, {piece_length}: the piece layers differ")
                run(stage, stage.flotilla, "verify", second.path, files.parent)


def _register(form, seeder, fetcher, name):
    @case(name, [seeder, fetcher], SECONDS + 40)
    def moved(stage):
        files = payload.folder(stage.folder("original"), 12)
        maker = theirs if seeder is Libtorrent else ours
        transfer(stage, files, maker(stage, files, form), seeder, fetcher)


for _form in ("v2", "hybrid"):
    _register(_form, Libtorrent, Flotilla, f"{_form}-libtorrent-seeds")
    _register(_form, Flotilla, Libtorrent, f"{_form}-libtorrent-fetches")
_register("hybrid", Flotilla, Rtorrent, "hybrid-rtorrent-fetches")


@case("hybrid-rtorrent-seeds", [Flotilla, Rtorrent], SECONDS + 40)
def rtorrent_seeds(stage):
    """One file, for it knows nothing of padding, and would miss it on the disk."""
    files = payload.single(stage.folder("original"), 12)
    transfer(stage, files, ours(stage, files, "hybrid"), Rtorrent, Flotilla)


@case("v2-hashes-from-libtorrent", [Flotilla, Libtorrent], SECONDS + 40)
def hashes_from_libtorrent(stage):
    files = payload.folder(stage.folder("original"), 12)
    torrent = ours(stage, files, "v2", 16 * KIB)
    transfer(stage, files, torrent, Libtorrent, Flotilla, without_layers(torrent))


@case("v2-hashes-for-libtorrent", [Flotilla, Libtorrent], SECONDS + 40)
def hashes_for_libtorrent(stage):
    files = payload.folder(stage.folder("original"), 12)
    torrent = ours(stage, files, "v2", 16 * KIB)
    transfer(stage, files, torrent, Flotilla, Libtorrent, without_layers(torrent))


@case("v2-damage-is-found", [Flotilla], 30)
def damage_is_found(stage):
    files = payload.folder(stage.folder("original"), 1)
    torrent = ours(stage, files, "v2", 16 * KIB)
    path = files.root.joinpath(*files.files[3][0])
    with open(path, "r+b") as file:
        file.seek(3 * 16 * KIB + 5)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    verify = [stage.flotilla, "verify", str(torrent.path), str(files.parent)]
    told = subprocess.run(verify, capture_output=True, text=True, env=environment(stage.folder("home")))
    found = [line for line in told.stdout.splitlines() if "bytes 49152 to 65535" in line and path.name in line]
    if told.returncode != 1 or not found:
        raise Failed(f"status {told.returncode}: {told.stdout!r} {told.stderr!r}")


def _register_block_hashes(seeder, name):
    @case(name, [Flotilla, Libtorrent] if seeder is Libtorrent else [Flotilla], 100)
    def block_hashes(stage):
        """Who has a torrent of version 2 says which block of a damaged piece is wrong: no torrent file does."""
        for form in ("v2", "hybrid"):
            files = payload.single(stage.folder(f"original-{form}"), 3)
            torrent = ours(stage, files, form, 1024 * KIB)
            here, there = stage.host(f"seed-{form}"), stage.host(f"asker-{form}")
            seed = stage.client(seeder, f"seed-{form}")
            seed.seed(here, torrent, files.parent)
            copy = stage.folder(f"copy-{form}") / files.root.name
            data = bytearray(files.root.read_bytes())
            for offset in (1024 * KIB + 5 * 16 * KIB + 9, 1024 * KIB + 7 * 16 * KIB, len(data) - 1):
                data[offset] ^= 1
            copy.write_bytes(data)
            command = [stage.flotilla, "verify", torrent.path, copy, "--ask-peers", "--patience", "2m", "--peer", here.address(PORT)]
            ended = subprocess.run(there.command(command), capture_output=True, text=True, timeout=guard(60), env=environment(stage.folder("home")))
            first, second = 1024 * KIB + 5 * 16 * KIB, 1024 * KIB + 7 * 16 * KIB
            last = (len(data) - 1) // (16 * KIB) * 16 * KIB
            spans = f"bytes {first} to {first + 16 * KIB - 1}, {second} to {second + 16 * KIB - 1}, {last} to {len(data) - 1}"
            if ended.returncode != 1 or spans not in ended.stdout:
                raise Failed(f"{form}: status {ended.returncode}, {ended.stdout!r} {ended.stderr!r}; expected {spans}")
            if copy.read_bytes() != data:
                raise Failed("the damaged file was changed")


_register_block_hashes(Libtorrent, "v2-block-hashes-from-libtorrent")
_register_block_hashes(Flotilla, "v2-block-hashes-from-flotilla")
