"""HTTPS: the torrent file behind a redirect, the tracker, its compressed answers; and no word to who cannot be believed."""

import subprocess

import payload
import torrentfile
from casebook import case
from clients import Flotilla
from stage import Failed
from tracker import PORT, OwnTracker

MEBIBYTES = 4


@case("https", [Flotilla, OwnTracker], 60)
def https(stage):
    files = payload.single(stage.folder("original"), MEBIBYTES)
    meeting_point, here, there = stage.host("tracker"), stage.host("seed"), stage.host("leech")
    site = f"https://{meeting_point.address(PORT)}"
    torrent = torrentfile.make(files, stage.dir / "a.torrent", [f"{site}/announce"])
    key = stage.dir / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=tracker", "-addext", f"subjectAltName=IP:{meeting_point.ip}",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", stage.dir / "cert.pem"],
        check=True, capture_output=True)
    key.write_text(key.read_text() + (stage.dir / "cert.pem").read_text())
    stage.client(OwnTracker).start(meeting_point, secured_by=key, torrent=torrent.path)
    seed, leech = stage.client(Flotilla, "seed"), stage.client(Flotilla, "leech")
    seed.believes = leech.believes = stage.dir / "cert.pem"
    seed.seed(here, torrent, files.parent)
    stage.wait(lambda: seed.events("tracker_answered"), 20, "the tracker to hear of the seed")
    target = stage.folder("download")
    leech.fetch(there, f"{site}/moved.torrent", target)
    stage.wait(leech.is_done, 30, "flotilla to have everything")
    doubter = stage.client(Flotilla, "doubter")
    doubter.fetch(stage.host("doubter"), torrent, stage.folder("nothing"))
    reports = stage.wait(lambda: doubter.events("tracker_failed"), 30, "an unknown certificate to be refused")
    if "certificate" not in reports[0]["error"].lower():
        raise Failed(f"the error does not say that it is the certificate: {reports[0]}")
    stage.finish()
    stage.compare(files, target)
