"""Makes a torrent with libtorrent, and prints its two info hashes: PATH FORMAT PIECE_LENGTH OUTPUT."""

import pathlib
import sys

import libtorrent

path, form, piece_length, output = sys.argv[1:]
flags = {"v1": libtorrent.create_torrent.v1_only, "v2": libtorrent.create_torrent.v2_only, "hybrid": 0}[form]
files = libtorrent.file_storage()
libtorrent.add_files(files, path)
torrent = libtorrent.create_torrent(files, int(piece_length), flags=int(flags))
libtorrent.set_piece_hashes(torrent, str(pathlib.Path(path).parent))
pathlib.Path(output).write_bytes(libtorrent.bencode(torrent.generate()))
