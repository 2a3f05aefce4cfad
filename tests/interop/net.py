"""A network of its own for each case: one bridge, and one network namespace per host.

The bridge lives in a namespace too, so nothing here touches the machine's own network or meets its firewall, and deleting the namespaces is
all the cleaning there is. Host N of case C has the addresses 10.77.C.N and fd77:C::N. Needs root and iproute2.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

NAMESPACES = Path("/run/netns")
FAMILY = "flotilla-"
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _ip(namespace, *commands):
    """Runs a batch of `ip` commands, in the namespace."""
    subprocess.run(
        ["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True, stdout=subprocess.DEVNULL
    )


class Network:
    """The bridge of one case, and the hosts on it."""

    def __init__(self, prefix, number, base=77):
        self.prefix = prefix
        self.number = number
        self.base = base
        self.gateway = f"10.{base}.{number}.254"
        self.hosts = []
        self._wire = f"{prefix}-wire"
        subprocess.run(["ip", "netns", "add", self._wire], check=True)
        _ip(self._wire, "link add br0 type bridge mcast_snooping 0", "link set br0 up")

    def host(self, name, ipv4=True, ipv6=False):
        """Plugs in another host."""
        number = len(self.hosts) + 1
        host = Host(f"{self.prefix}-{name}", name)
        subprocess.run(["ip", "netns", "add", host.namespace], check=True)
        self.hosts.append(host)
        with host.inside():
            for which in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6").write_text("0" if ipv6 else "1")
        port = f"port{number}"
        _ip(self._wire, f"link add {port} type veth peer name eth0 netns {host.namespace}", f"link set {port} master br0 up")
        commands = ["link set lo up", "link set eth0 up"]
        if ipv4:
            host.ipv4 = f"10.{self.base}.{self.number}.{number}"
            commands += [f"addr add {host.ipv4}/24 dev eth0", f"route add default via {self.gateway} dev eth0"]
        else:
            # Leads nowhere, but without it glibc resolves not even "0.0.0.0" (AI_ADDRCONFIG), and remote controls get no socket.
            commands.append(f"addr add 192.0.2.{number}/32 dev lo")
        if ipv6:
            host.ipv6 = f"fd77:{self.number:x}::{number:x}"
            commands += [f"addr add {host.ipv6}/64 dev eth0 nodad", "route add ::/0 dev eth0"]
        _ip(host.namespace, *commands)
        return host

    def close(self):
        """Ends every process on the hosts, and the hosts."""
        destroy(self.prefix)


def private_network(network, router, number):
    """A network of its own behind a host of another one, which is its gateway. The number tells it from others there."""
    inner = Network(f"{network.prefix}-lan{number}", network.number, network.base + number)
    _ip(inner._wire, f"link add uplink type veth peer name eth1 netns {router.namespace}", "link set uplink master br0 up")
    _ip(router.namespace, "link set eth1 up", f"addr add {inner.gateway}/24 dev eth1")
    with router.inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    return inner


class Host:
    """A network namespace with an address or two."""

    def __init__(self, namespace, name):
        self.namespace = namespace
        self.name = name
        self.ipv4 = None
        self.ipv6 = None

    def address(self, port):
        """HOST:PORT for the command line and for URLs."""
        return f"{self.ipv4}:{port}" if self.ipv4 else f"[{self.ipv6}]:{port}"

    @property
    def ip(self):
        return self.ipv4 or self.ipv6

    def command(self, args):
        """The command that runs `args` here; it dies with the case, however that ends."""
        return ["ip", "netns", "exec", self.namespace, "setpriv", "--pdeathsig", "KILL", "--", *map(str, args)]

    def limit(self, mebibytes):
        """Lets only so many MiB a second out of this host from now on."""
        rate = f"{int(mebibytes * 8 * 1024 * 1024)}bit"
        command = ["tc", "-n", self.namespace, "qdisc", "replace", "dev", "eth0", "root"]
        subprocess.run([*command, "tbf", "rate", rate, "burst", "128kb", "latency", "200ms"], check=True)

    def unlimit(self):
        """Lets everything out of this host again."""
        subprocess.run(["tc", "-n", self.namespace, "qdisc", "del", "dev", "eth0", "root"], check=True)

    def lose(self, percent):
        """Loses so many of a hundred datagrams that come to this host from now on."""
        rules = f"""table inet loss {{
          chain datagrams {{
            type filter hook input priority 0; policy accept;
            meta l4proto udp numgen random mod 100 < {percent} drop
          }}
        }}"""
        subprocess.run(["ip", "netns", "exec", self.namespace, "nft", "-f", "-"], input=rules, text=True, check=True)

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread opens meanwhile are this host's."""
        with open("/proc/thread-self/ns/net") as home, open(NAMESPACES / self.namespace) as here:
            _enter(here)
            try:
                yield
            finally:
                _enter(home)

    def listens(self, port, is_tcp=True):
        """Whether something here listens on the port, without going there to see."""
        kind = "tcp" if is_tcp else "udp"
        with self.inside():
            # A socket of IPv6 may serve both families.
            tables = [Path(f"/proc/thread-self/net/{kind}{version}") for version in (["", "6"] if self.ipv4 else ["6"])]
            rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
        return any(int(row[1].rpartition(":")[2], 16) == port and (row[3] == "0A" or not is_tcp) for row in rows)

    def received(self):
        """Bytes that came in over the wire so far."""
        return self._counters()[0]

    def sent(self):
        """Bytes that went out over the wire so far."""
        return self._counters()[8]

    def _counters(self):
        with self.inside():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        (line,) = [line for line in lines if line.strip().startswith("eth0:")]
        return [int(number) for number in line.split(":")[1].split()]


def _enter(file):
    if _libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def destroy(prefix):
    """Kills what runs in the namespaces whose names begin so, and deletes them."""
    names = sorted(path.name for path in NAMESPACES.glob(f"{prefix}-*")) if NAMESPACES.exists() else []
    for name in names:
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
        for pid in map(int, pids):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    for name in names:
        for _ in range(20):
            if subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)


def destroy_orphans():
    """Deletes what runs of the harness left that were killed before they could clean up: their process is in the name."""
    for path in NAMESPACES.glob(f"{FAMILY}*") if NAMESPACES.exists() else []:
        owner = path.name[len(FAMILY) :].split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            destroy(FAMILY + owner)
