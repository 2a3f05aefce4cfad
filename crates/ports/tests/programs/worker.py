"""A node in a few lines: joins by what stands in its environment, and answers messages."""

import hashlib
import hmac
import json
import os
import socket
import sys

host, _, port = os.environ["PORTS_SEED"].split(",")[0].rpartition(":")
secret = os.environ["PORTS_SECRET"].encode()
node = os.environ["PORTS_NODE"]
assert os.environ["PORTS_SECRET"] not in " ".join(sys.argv)

stream = socket.create_connection((host, int(port))).makefile("rwb")
greeting = f"aemp;1;{node};hmac_sha3_512;json".encode()
nonce = os.urandom(30).hex().encode()
stream.write(greeting + b"\n" + nonce + b"\n")
stream.flush()
ours = greeting + b"\n" + nonce + b"\n"
theirs = stream.readline() + stream.readline()
proof = hmac.new(secret, ours + theirs, hashlib.sha3_512).hexdigest()
stream.write(f"hmac_sha3_512;{proof};json\n".encode())
stream.flush()
method, data, framing = stream.readline().decode().strip().split(";")[:3]
assert (method, framing) == ("hmac_sha3_512", "json"), (method, framing)
assert hmac.compare_digest(data, hmac.new(secret, theirs + ours, hashlib.sha3_512).hexdigest())


def send(*message):
    stream.write(json.dumps(message).encode())
    stream.flush()


# The node is our master, and this is all that we have in the database: a member of the group.
send("", "g_slave", {sys.argv[1]: {f"{node}#worker": None}})
print("ready", flush=True)

decoder, text = json.JSONDecoder(), ""
while True:
    data = stream.raw.read(65536) if not stream.peek() else stream.read1(65536)
    if not data:
        sys.exit(0)
    text += data.decode()
    while text:
        try:
            message, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            break
        text = text[end:]
        if message[0] != "worker":
            continue
        if message[1] == "double":
            reply = message[3]
            send("", "snd", reply, 2 * message[2])
        elif message[1] == "crash":
            os._exit(3)
