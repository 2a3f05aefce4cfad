"""A router that lets nobody in unless it is asked to: NAT by nftables, and PCP, NAT-PMP or UPnP to ask it by.

As a module it lays out a network behind a router. As a program it is what answers on the router: PROTOCOLS INSIDE OUTSIDE, the
protocols joined by commas, and the router's two addresses. It prints a line for each change, and maps for real.
"""

import re
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEASE = 7200
HTTP_PORT = 5000
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
RULES = """
table ip box {
    map tcp_ports { type inet_service : ipv4_addr . inet_service; }
    map udp_ports { type inet_service : ipv4_addr . inet_service; }
    chain before {
        type nat hook prerouting priority dstnat;
        iifname "eth0" dnat to tcp dport map @tcp_ports
        iifname "eth0" dnat to udp dport map @udp_ports
    }
    chain after { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "eth1" accept
        ct status dnat accept
    }
}
"""
_lock = threading.Lock()
_mapped = {}  # (protocol, external port): (inside address, port)
_began = time.monotonic()


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def say(*words):
    print(*words, flush=True)


def add(protocol, external, inside, port):
    """Maps a port, or says False: somebody else has it."""
    with _lock:
        owner = _mapped.get((protocol, external))
        if owner == (inside, port):
            return True
        if owner or external in TAKEN:
            return False
        nft(f"add element ip box {protocol}_ports {{ {external} : {inside} . {port} }}")
        _mapped[protocol, external] = (inside, port)
        say("mapped", protocol, external, inside, port)
        return True


def remove(protocol, external):
    with _lock:
        if _mapped.pop((protocol, external), None):
            nft(f"delete element ip box {protocol}_ports {{ {external} }}")
            say("unmapped", protocol, external)


def grant(protocol, wanted, inside, port):
    """The external port that leads to one inside, the wanted one if it is free."""
    for (kind, external), owner in list(_mapped.items()):
        if kind == protocol and owner == (inside, port):
            return external
    external = wanted or port
    while not add(protocol, external, inside, port):
        external += 1
    return external


def forget(protocol, inside, port):
    for (kind, external), owner in list(_mapped.items()):
        if kind == protocol and owner == (inside, port):
            remove(protocol, external)


def answer_datagram(data, inside, outside, protocols):
    """NAT-PMP and PCP share a port; the first byte tells them apart."""
    now = int(time.monotonic() - _began)
    if len(data) < 2:
        return None
    version, opcode = data[0], data[1]
    if version == 2 and "pcp" in protocols and opcode == 1 and len(data) >= 60:
        lifetime = struct.unpack("!I", data[4:8])[0]
        nonce, kind, port, wanted = data[24:36], data[36], *struct.unpack("!HH", data[40:44])
        protocol = {6: "tcp", 17: "udp"}[kind]
        external = 0
        if lifetime:
            external = grant(protocol, wanted, inside, port)
        else:
            forget(protocol, inside, port)
        head = struct.pack("!BBBBII12x", 2, 0x81, 0, 0, min(lifetime, LEASE), now)
        address = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(outside)
        return head + nonce + struct.pack("!B3xHH", kind, port, external) + address
    if "nat-pmp" not in protocols:
        return None
    if version != 0:
        return struct.pack("!BBHI", 0, 128 + (opcode & 127), 1, now)
    if opcode == 0:
        return struct.pack("!BBHI", 0, 128, 0, now) + socket.inet_aton(outside)
    if opcode in (1, 2) and len(data) >= 12:
        port, wanted, lifetime = struct.unpack("!HHI", data[4:12])
        protocol = {1: "udp", 2: "tcp"}[opcode]
        external = 0
        if lifetime:
            external = grant(protocol, wanted, inside, port)
        else:
            forget(protocol, inside, port)
        return struct.pack("!BBHIHHI", 0, 128 + opcode, 0, now, port, external, min(lifetime, LEASE))
    return None


def serve_datagrams(inside, outside, protocols):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((inside, 5351))
        while True:
            data, where = server.recvfrom(2048)
            if reply := answer_datagram(data, where[0], outside, protocols):
                server.sendto(reply, where)


def serve_search(inside):
    """Tells who searches for a router where the description is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", 1900))
        group = socket.inet_aton("239.255.255.250") + socket.inet_aton(inside)
        server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        while True:
            data, where = server.recvfrom(2048)
            if data.startswith(b"M-SEARCH"):
                text = (
                    "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\n"
                    f"LOCATION: http://{inside}:{HTTP_PORT}/root.xml\r\nSERVER: box\r\n"
                    f"ST: {SERVICE}\r\nUSN: uuid:box::{SERVICE}\r\n\r\n"
                )
                server.sendto(text.encode(), where)


ROOT = f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>box</friendlyName><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service><serviceType>{SERVICE}</serviceType>
<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><controlURL>/control</controlURL><eventSubURL>/events</eventSubURL>
<SCPDURL>/service.xml</SCPDURL></service></serviceList></device></deviceList></device></deviceList></device></root>"""
ACTIONS = {
    "GetExternalIPAddress": [],
    "AddPortMapping": [
        "NewRemoteHost", "NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient", "NewEnabled",
        "NewPortMappingDescription", "NewLeaseDuration",
    ],
    "DeletePortMapping": ["NewRemoteHost", "NewExternalPort", "NewProtocol"],
}  # fmt: skip


def schema():
    argument = "<argument><name>{}</name><direction>in</direction></argument>"
    actions = "".join(
        f"<action><name>{name}</name><argumentList>{''.join(map(argument.format, names))}</argumentList></action>"
        for name, names in ACTIONS.items()
    )
    return f'<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>{actions}</actionList></scpd>'


class Handler(BaseHTTPRequestHandler):
    """The description, and its actions."""

    outside = None

    def do_GET(self):
        self.reply(200, {"/root.xml": ROOT, "/service.xml": schema()}.get(self.path, ""))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        action = self.headers.get("SOAPAction", "").strip('"').rpartition("#")[2]
        values = dict(re.findall(r"<(New\w+)[^>]*>([^<]*)</", body))
        answer, fault = "", None
        if action == "GetExternalIPAddress":
            answer = f"<NewExternalIPAddress>{self.outside}</NewExternalIPAddress>"
        elif action == "AddPortMapping":
            external, inside = int(values["NewExternalPort"]), values["NewInternalClient"]
            if inside != self.client_address[0]:
                fault = 606
            elif not add(values["NewProtocol"].lower(), external, inside, int(values["NewInternalPort"])):
                fault = 718
        elif action == "DeletePortMapping":
            remove(values["NewProtocol"].lower(), int(values["NewExternalPort"]))
        else:
            fault = 401
        if fault:
            detail = f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{fault}</errorCode><errorDescription>no</errorDescription></UPnPError>'
            inner = f"<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>{detail}</detail></s:Fault>"
        else:
            inner = f'<u:{action}Response xmlns:u="{SERVICE}">{answer}</u:{action}Response>'
        envelope = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        self.reply(500 if fault else 200, f'<?xml version="1.0"?>{envelope}<s:Body>{inner}</s:Body></s:Envelope>')

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


# What somebody else has, so that the port outside is another than the one inside.
TAKEN = {6881}


def main():
    protocols, inside, outside = sys.argv[1].split(","), *sys.argv[2:]
    nft(RULES)
    services = []
    if {"nat-pmp", "pcp"} & set(protocols):
        services.append(threading.Thread(target=serve_datagrams, args=(inside, outside, protocols)))
    if "upnp" in protocols:
        Handler.outside = outside
        server = ThreadingHTTPServer((inside, HTTP_PORT), Handler)
        services.append(threading.Thread(target=serve_search, args=(inside,)))
        services.append(threading.Thread(target=server.serve_forever))
    for service in services:
        service.start()
    say("ready")
    threading.Event().wait()


if __name__ == "__main__":
    main()
