"""Proxies of Debian. Each knows the name of one host that nobody else knows."""

import contextlib
import os
import socket

from clients import Client

PORT = 1080
NAME = "tracker.example"
USER, PASSWORD = "someone", "s3cr3t"


class Proxy(Client):
    """What they have in common."""

    login = False

    def start(self, host, named):
        """Runs it on the host. It knows the other one by its name. Returns once it listens."""
        # Where the DHT begins is nowhere here, and that is known at once.
        boot = "router.bittorrent.com dht.transmissionbt.com router.utorrent.com dht.libtorrent.org"
        (self.dir / "hosts").write_text(f"127.0.0.1 localhost {boot}\n{named.ip} {NAME}\n")
        os.chmod(self.dir / "hosts", 0o644)
        self.host = host
        # The names are those of a mount namespace that ends with the proxy.
        script = f'mount --bind {self.dir}/hosts /etc/hosts && exec "$@"'
        self.launch(host, ["unshare", "--mount", "sh", "-c", script, "sh", *self.command()])
        self.stage.wait(self._listens, 10, self.name)

    def url(self):
        login = f"{USER}:{PASSWORD}@" if self.login else ""
        return f"{self.scheme}://{login}{self.host.address(PORT)}"

    def command(self):
        raise NotImplementedError

    def _listens(self):
        with self.host.inside(), contextlib.suppress(OSError):
            socket.create_connection((self.host.ip, PORT), timeout=1).close()
            return True
        return False


class Dante(Proxy):
    """SOCKS5 with UDP ASSOCIATE."""

    program = "danted"
    package = "dante-server"
    scheme = "socks5"

    def command(self):
        settings = self.dir / "danted.conf"
        settings.write_text(
            f"""
            logoutput: stderr
            internal: eth0 port = {PORT}
            external: eth0
            clientmethod: none
            socksmethod: none
            user.privileged: root
            user.unprivileged: nobody
            client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
            socks pass {{
                from: 0.0.0.0/0 to: 0.0.0.0/0
                command: connect udpassociate bindreply udpreply
                protocol: tcp udp
            }}
            """
        )
        return [self.program, "-f", settings]


class Microsocks(Proxy):
    """SOCKS5 with a login, and without datagrams."""

    program = "microsocks"
    package = "microsocks"
    scheme = "socks5"
    login = True

    def command(self):
        return [self.program, "-i", "0.0.0.0", "-p", PORT, "-u", USER, "-P", PASSWORD]


class Tinyproxy(Proxy):
    """HTTP, with a login."""

    program = "tinyproxy"
    package = "tinyproxy-bin"
    scheme = "http"
    login = True

    def command(self):
        settings = self.dir / "tinyproxy.conf"
        settings.write_text(f"Port {PORT}\nTimeout 600\nMaxClients 100\nBasicAuth {USER} {PASSWORD}\n")
        return [self.program, "-d", "-c", settings]
