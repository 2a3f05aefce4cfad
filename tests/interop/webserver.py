"""Web servers that have a torrent's files: lighttpd, and a bad one of our own (this file run as a program)."""

import re
import shutil
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clients import Client

PORT = 8080


class WebServer(Client):
    """What the two have in common."""

    def serve(self, seconds=10):
        self.stage.wait(self._listens, seconds, self.name)

    def _listens(self):
        with self.host.inside():
            try:
                socket.create_connection((self.host.ip, PORT), timeout=1).close()
            except OSError:
                return False
        return True

    @property
    def url(self):
        return f"http://{self.host.address(PORT)}/"


class Lighttpd(WebServer):
    """A server as people have one."""

    program = "lighttpd"
    package = "lighttpd"

    def start(self, host, directory, rate_kib=0):
        """Serves the folder; with a rate, no faster than that."""
        limit = f"server.kbytes-per-second = {rate_kib}\n" if rate_kib else ""
        (self.dir / "lighttpd.conf").write_text(
            f'server.document-root = "{directory}"\nserver.port = {PORT}\nserver.modules = ( "mod_accesslog" )\n'
            f'accesslog.filename = "{self.dir}/access.log"\naccesslog.format = "%s %I %O %r %{{Range}}i"\n{limit}'
        )
        self.launch(host, [shutil.which(self.program), "-D", "-f", self.dir / "lighttpd.conf"])
        self.serve()

    def answers(self):
        """The statuses of all answers that it has written down; it does so a little later."""
        log = self.dir / "access.log"
        return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


class BadServer(WebServer):
    """One that misbehaves by turns: cuts connections, wants to be left alone, sends people on."""

    @classmethod
    def missing(cls):
        return None

    def start(self, host, directory):
        self.launch(host, [sys.executable, Path(__file__).resolve(), directory])
        self.serve()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0
    lock = threading.Lock()

    def do_GET(self):
        with self.lock:
            turn = _Handler.count
            _Handler.count += 1
        path = Path(sys.argv[1], unquote(urlsplit(self.path).path).lstrip("/"))
        if not path.is_file():
            return self._plainly(404)
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(number) for number in wanted.groups()) if wanted else (0, size - 1)
        if turn % 5 == 1:
            return self._plainly(503, ("Retry-After", "1"))
        if turn % 5 == 3 and "moved" not in self.path:
            return self._plainly(302, ("Location", f"{self.path}?moved"))
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if turn % 5 == 0 and len(body) > 100_000:
            # The connection breaks in the middle.
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        return None

    def _plainly(self, status, *headers):
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, form, *values):
        print(time.strftime("%T"), form % values, flush=True)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), _Handler).serve_forever()
