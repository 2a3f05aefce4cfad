"""A node on a bare socket, written from the description of the wire protocol alone.

It does what it is told and no more: nothing is answered by itself. Everything that a peer may say can be had otherwise by an argument.
"""

import base64
import hashlib
import hmac
import json
import os
import select
import socket
import ssl
import time

import cbor

PATIENCE = 60  # seconds that something which must come may take
METHODS = "tls_sha3_512,hmac_sha3_512"


class Closed(Exception):
    """The other side has closed the connection."""


class Peer:
    """One side of a connection with a node."""

    def __init__(self, connection, node="py/1", secret="geheim", auths=METHODS, framings="json", cert=None, nonce=None, keys=(), end="\n"):
        self.socket = connection
        self.node = node
        self.secret = secret.encode()
        self.cert = cert
        self.end = end
        keys = [f"{key}={value}" for key, value in keys] + (["tls=1.0"] if cert else [])
        self.greeting = ";".join(["aemp", "1", node, auths, framings, *keys])
        self.nonce = base64.b64encode(os.urandom(66)).decode() if nonce is None else nonce
        self.raw = b""  # what has come and was not looked at; under TLS deciphered
        self.sent = b""  # all that was sent outside TLS, and what came
        self.received = b""
        self.tls = None
        self.barriers = 0
        self.echo = None  # the name of the port on the other side that echoes
        self.perl = False  # texts are written as byte strings in CBOR
        self.their_greeting = self.their_nonce = self.their_auth = None

    # Bytes

    def write(self, data):
        if isinstance(data, str):
            data = data.encode()
        if self.tls:
            self.tls.write(data)
            self.pump()
        else:
            self.sent += data
            self.socket.sendall(data)

    def pump(self):
        """Sends what TLS has to say."""
        data = self.tls_out.read()
        if data:
            self.socket.sendall(data)

    def fill(self, deadline):
        """Waits for more bytes."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.socket], [], [], left)[0]:
            raise TimeoutError(f"nothing came but {self.raw[:200]!r}")
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(f"with {self.raw[:200]!r}")
        if self.tls is None:
            self.received += data
            self.raw += data
            return
        self.tls_in.write(data)
        self.decipher()

    def decipher(self):
        try:
            while data := self.tls.read(1 << 16):
                self.raw += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            raise Closed("by TLS") from None
        finally:
            self.pump()

    def line(self, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.raw:
            self.fill(deadline)
        line, self.raw = self.raw.split(b"\n", 1)
        return line.removesuffix(b"\r").decode()

    def wait_closed(self, timeout=PATIENCE):
        """Waits until the other side closes. What it says before is kept."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.fill(deadline)
        except (Closed, ssl.SSLError):
            self.socket.close()

    def close(self):
        self.socket.close()

    # Handshake

    def greet(self):
        self.write(f"{self.greeting}{self.end}{self.nonce}{self.end}")

    def hear_greeting(self):
        self.their_greeting = self.line()
        self.their_nonce = self.line()

    def their(self, field):
        return self.their_greeting.split(";")[field]

    def their_key(self, name):
        pairs = (pair.partition("=") for pair in self.their_greeting.split(";")[5:])
        return next((value for key, _, value in pairs if key == name), None)

    def start_tls(self):
        """The side with the lower nonce is the client, whoever dialled."""
        is_client = self.nonce.encode() < self.their_nonce.encode()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if is_client else ssl.PROTOCOL_TLS_SERVER)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.cert)
        context.load_verify_locations(self.cert)
        self.tls_in, self.tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls_in.write(self.raw)
        self.raw = b""
        tls = context.wrap_bio(self.tls_in, self.tls_out, server_side=not is_client)
        deadline = time.monotonic() + PATIENCE
        self.tls, plain = tls, b""
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.pump()
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                    raise TimeoutError("no TLS") from None
                plain = self.socket.recv(1 << 16)
                if not plain:
                    raise Closed("within the TLS handshake") from None
                self.tls_in.write(plain)
            except ssl.SSLError:
                self.pump()
                raise
        self.pump()
        self.decipher()
        return "client" if is_client else "server"

    def own_proof(self):
        return f"{self.greeting}\n{self.nonce}\n{self.their_greeting}\n{self.their_nonce}\n".encode()

    def their_proof(self):
        return f"{self.their_greeting}\n{self.their_nonce}\n{self.greeting}\n{self.nonce}\n".encode()

    def proof(self, method, message):
        if method == "hmac_sha3_512":
            return hmac.new(self.secret, message, "sha3_512").hexdigest()
        if method == "tls_sha3_512":
            return hashlib.sha3_512(message).hexdigest()
        return {"cleartext": self.secret.hex(), "tls_anon": ""}[method]

    def auth_line(self, method=None, framing="json", extra=""):
        self.framing_out = framing
        method = method or ("tls_sha3_512" if self.tls else "hmac_sha3_512")
        return f"{method};{self.proof(method, self.own_proof())};{framing}{extra}{self.end}"

    def hear_auth(self):
        self.their_auth = self.line()
        method, data, self.framing_in = self.their_auth.split(";")[:3]
        if data != self.proof(method, self.their_proof()):
            raise ValueError(f"the other side's proof is wrong: {self.their_auth}")

    def shake_hands(self, method=None, framing="json", extra="", behind=b""):
        """The whole handshake. `behind` goes in one write with the last line."""
        self.greet()
        self.hear_greeting()
        if self.cert and (self.their_key("tls") or "").startswith("1."):
            self.tls_role = self.start_tls()
        self.write(self.auth_line(method, framing, extra).encode() + behind)
        self.hear_auth()
        return self

    # Messages

    def pack(self, message):
        if self.framing_out == "json":
            return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        return cbor.encode(message, self.perl)

    def send(self, *message):
        self.write(self.pack(message))

    def tell(self, tag, *args):
        """A message to the node itself."""
        self.send("", tag, *args)

    def next_message(self):
        """The next message if it is there, else None."""
        if not self.raw:
            return None
        if self.framing_in == "cbor":
            try:
                message, self.raw = cbor.decode(self.raw)
            except cbor.Incomplete:
                return None
            return message
        try:
            text = self.raw.decode().lstrip()
            message, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            # Not whole yet; perhaps within a character.
            return None
        self.raw = text[end:].encode()
        return message

    def receive(self, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while (message := self.next_message()) is None:
            self.fill(deadline)
        return message

    def receive_until(self, wanted, timeout=PATIENCE):
        """All messages up to the first for which `wanted` holds, that included."""
        deadline = time.monotonic() + timeout
        messages = []
        while True:
            try:
                messages.append(self.receive(deadline - time.monotonic()))
            except (TimeoutError, Closed) as error:
                raise type(error)(f"{error}; before came {messages}") from None
            if wanted(messages[-1]):
                return messages

    def settle(self):
        """All messages that the other side has for us now. What a message brings about is done when the second echo of one sent after it is back, since a
        turn of the loop has gone by then."""
        messages = []
        for _ in range(2):
            self.barriers += 1
            back = ["barrier", self.barriers]
            self.send(self.echo, f"{self.node}#barrier", self.barriers)
            messages += self.receive_until(lambda message: plain(message) == back)[:-1]
        return messages


def plain(value):
    """The value with byte strings as text: whoever writes CBOR may use either."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


class Listener:
    """Where a node finds us."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]

    def accept(self, timeout=PATIENCE, **peer):
        if not select.select([self.socket], [], [], timeout)[0]:
            raise TimeoutError("nobody called")
        return Peer(self.socket.accept()[0], **peer)

    def close(self):
        self.socket.close()


def dial(address, **peer):
    host, _, port = address.rpartition(":")
    return Peer(socket.create_connection((host, int(port)), PATIENCE), **peer)
