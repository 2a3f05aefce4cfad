"""HTTP trackers that mean no good. As a program: MODE PORT. Prints a line when it listens."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GIGABYTE = 1000**3


def answer(handler, body, status=200, headers=(), length=None):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def not_bencode(handler):
    answer(handler, b"<html>It works!</html>")


def failure_reason(handler):
    answer(handler, b"d14:failure reason28:we do not like you, go away!e")


def wrong_peers_length(handler):
    answer(handler, b"d8:intervali60e5:peers7:1234567e")


def wrong_peers_type(handler):
    answer(handler, b"d8:intervali60e5:peersi7ee")


def huge_body(handler):
    """A string of a gigabyte, in valid bencode so far."""
    answer(handler, b"d5:peers%d:" % GIGABYTE, length=GIGABYTE)
    for _ in range(GIGABYTE // 2**20):
        handler.wfile.write(bytes(2**20))


def no_answer(handler):
    time.sleep(3600)


def redirect_loop(handler):
    answer(handler, b"", 302, [("Location", handler.path + "&again=1")])


MODES = {
    mode.__name__: mode
    for mode in (not_bencode, failure_reason, wrong_peers_length, wrong_peers_type, huge_body, no_answer, redirect_loop)
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            MODES[sys.argv[1]](self)
        except ConnectionError:
            self.close_connection = True


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(sys.argv[2])), _Handler)
    print(f"{sys.argv[1]} listens", flush=True)
    server.serve_forever()
