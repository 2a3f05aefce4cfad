"""A node without listeners: dials back for a data connection, then opens one itself."""

import hashlib
import hmac
import json
import os
import socket

host, _, port = os.environ["PORTS_SEED"].rpartition(":")
secret = os.environ["PORTS_SECRET"].encode()
node = "python"


def dial(protocol, keys=""):
    stream = socket.create_connection((host, int(port)))
    stream.settimeout(60)
    reader = stream.makefile("rb")
    ours = f"{protocol};1;{node};hmac_sha3_512;json{keys}\n".encode() + os.urandom(30).hex().encode() + b"\n"
    stream.sendall(ours)
    greeting = reader.readline()
    assert greeting.startswith(b"aemp;1;first;"), greeting
    theirs = greeting + reader.readline()
    proof = hmac.new(secret, ours + theirs, hashlib.sha3_512).hexdigest()
    stream.sendall(f"hmac_sha3_512;{proof};json\n".encode())
    data = reader.readline().decode().split(";")[1]
    assert data == hmac.new(secret, theirs + ours, hashlib.sha3_512).hexdigest()
    return stream, reader


def send(*message):
    control.sendall(json.dumps(message).encode())


decoder, text = json.JSONDecoder(), ""


def messages():
    global text
    while True:
        try:
            message, end = decoder.raw_decode(text)
            text = text[end:]
            yield message
        except json.JSONDecodeError:
            data = reader.read1(65536)
            assert data
            text += data.decode()


control, reader = dial("aemp")
send("", "g_slave", {})
expected = None
for message in messages():
    if message[:2] == ["", "AnyEvent::MP::DataConn::_expect"]:
        name, caller, timeout, function, *args = message[2:]
        assert name.endswith("@first") and caller.startswith("first#"), message
        assert (timeout, function, args) == (60, "py::func", [1, "zwei"]), message
        expected = name
    elif message[:2] == ["", "snd"]:
        # The barrier comes behind.
        assert expected and len(message) == 3, message
        send("", "snd", message[2])
    elif message[:2] == ["", "AnyEvent::MP::DataConn::_connect"]:
        assert message[2:] == [expected, "first"], message
        break

data, data_reader = dial("aemp-dataconn", f";dataconn_id={expected}")
heard = data_reader.read()
data.sendall(heard.upper())
data.close()

# The other way round, and the first bytes right behind the proof.
send("", "AnyEvent::MP::DataConn::_expect", "b@python", "python#caller", "30", "toy::echo", "for", 7)
send("", "snd", "python#barrier")
for message in messages():
    if message == ["barrier"]:
        break
data, data_reader = dial("aemp-dataconn", ";dataconn_id=b@python")
data.sendall(b"servus")
data.shutdown(socket.SHUT_WR)
assert data_reader.read() == b"servus, you"

# The name is used up, and nobody else's is any good.
for name in ["b@python", "nobody"]:
    try:
        dial("aemp-dataconn", f";dataconn_id={name}")
    except (AssertionError, IndexError, OSError):
        continue
    raise SystemExit("it should have been refused")
