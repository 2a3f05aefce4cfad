"""A router of IPv6 that lets nobody in unless it is asked to: a firewall by nftables, and PCP or UPnP to ask it by.

As a module it lays out a network behind such a router. As a program it is what answers there: PROTOCOL INSIDE, "pcp" or "upnp" and the
router's own address. Each lets somebody in to himself only: who asks must come from the address that is to be reached.
"""

import itertools
import re
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTTP_PORT = 5000
SERVICE = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"
PREFIX = "2001:db8:77:1"
ROUTER, SEED = f"{PREFIX}::1", f"{PREFIX}::2"
NEAR = "fe80::1"
PROTOCOLS = {6: "tcp", 17: "udp"}
RULES = """
table ip6 wall {
    set tcp_ways { type ipv6_addr . inet_service; }
    set udp_ways { type ipv6_addr . inet_service; }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "eth1" accept
        ip6 daddr . tcp dport @tcp_ways accept
        ip6 daddr . udp dport @udp_ways accept
    }
}
"""
ROOT = f"""<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType><friendlyName>wall</friendlyName><serviceList><service>
<serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPv6Firewall1</serviceId><controlURL>/control</controlURL>
<eventSubURL>/events</eventSubURL><SCPDURL>/service.xml</SCPDURL></service></serviceList></device></root>"""
_numbers = itertools.count(1)
_ways = {}  # number: (protocol, address, port)


def run(namespace, *commands):
    for command in commands:
        subprocess.run(["ip", "-n", namespace, *command.split()], check=True)


def lay_out(network, router, gateway):
    """A host behind the router, which is its gateway by that address. Hosts outside need a way there: `lead`."""
    host = network.host("seed", ipv4=False, ipv6=True)
    run(router.namespace, f"addr add {ROUTER}/64 dev eth1 nodad", f"addr add {NEAR}/64 dev eth1 nodad")
    # Or those outside would seem to be on its own link.
    run(host.namespace, f"addr del {host.ipv6}/64 dev eth0")
    run(host.namespace, f"addr add {SEED}/64 dev eth0 nodad", f"-6 route replace default via {gateway} dev eth0")
    with router.inside():
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    return host


def lead(host, router):
    run(host.namespace, f"-6 route add {PREFIX}::/64 via {router.ipv6} dev eth0")


def say(*words):
    print(*words, flush=True)


def nft(text):
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def open_way(protocol, address, port):
    nft(f"add element ip6 wall {protocol}_ways {{ {address} . {port} }}")
    number = next(_numbers)
    _ways[number] = (protocol, address, port)
    say("opened", protocol, address, port)
    return number


def close_way(number):
    protocol, address, port = _ways.pop(number)
    nft(f"delete element ip6 wall {protocol}_ways {{ {address} . {port} }}")
    say("closed", protocol, address, port)


def serve_pcp(inside):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind((inside, 5351))
        while True:
            data, where = server.recvfrom(2048)
            if len(data) < 60 or data[:2] != b"\x02\x01":
                continue
            lifetime, client = struct.unpack("!I", data[4:8])[0], socket.inet_ntop(socket.AF_INET6, data[8:24])
            protocol, port = PROTOCOLS[data[36]], struct.unpack("!H", data[40:42])[0]
            way = (protocol, client, port)
            fault = 12 if client != where[0] else 0
            known = [number for number, other in _ways.items() if other == way]
            if not fault and lifetime and not known:
                open_way(*way)
            elif not fault and not lifetime:
                for number in known:
                    close_way(number)
            head = struct.pack("!BBBBII12x", 2, 0x81, 0, fault, lifetime, 1)
            body = data[24:36] + struct.pack("!B3xHH", data[36], port, port) + data[8:24]
            server.sendto(head + body, where)


def serve_search(inside):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::", 1900))
        link = socket.if_nametoindex("eth1")
        group = socket.inet_pton(socket.AF_INET6, "ff02::c") + struct.pack("@I", link)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        while True:
            data, where = server.recvfrom(2048)
            if data.startswith(b"M-SEARCH") and SERVICE.encode() in data:
                text = f"HTTP/1.1 200 OK\r\nLOCATION: http://[{inside}]:{HTTP_PORT}/root.xml\r\nST: {SERVICE}\r\nUSN: uuid:wall\r\n\r\n"
                server.sendto(text.encode(), where)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, ROOT)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        action = self.headers.get("SOAPAction", "").strip('"').rpartition("#")[2]
        values = dict(re.findall(r"<(\w+)>([^<]*)</", body))
        number = int(values.get("UniqueID", 0))
        answer, fault = "", None
        if action == "AddPinhole":
            if values["InternalClient"] != self.client_address[0]:
                fault = 606
            else:
                way = open_way(PROTOCOLS[int(values["Protocol"])], values["InternalClient"], int(values["InternalPort"]))
                answer = f"<UniqueID>{way}</UniqueID>"
        elif number not in _ways:
            fault = 704
        elif action == "DeletePinhole":
            close_way(number)
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


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def main():
    protocol, inside = sys.argv[1:]
    nft(RULES)
    if protocol == "pcp":
        services = [threading.Thread(target=serve_pcp, args=(inside,))]
    else:
        server = Server((inside, HTTP_PORT), Handler)
        services = [threading.Thread(target=serve_search, args=(inside,)), threading.Thread(target=server.serve_forever)]
    for service in services:
        service.start()
    say("ready")
    threading.Event().wait()


if __name__ == "__main__":
    main()
