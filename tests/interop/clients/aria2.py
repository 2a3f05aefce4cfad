"""aria2, driven over its JSON-RPC. It learns of peers from trackers only."""

from .base import PORT, Client

RPC = "http://127.0.0.1:6800/jsonrpc"


class Aria2(Client):
    program = "aria2c"
    package = "aria2"
    speaks_ipv6 = True

    def seed(self, host, torrent, data_dir):
        self.fetch(host, torrent, data_dir, check=True)
        self.serve()

    def fetch(self, host, torrent, directory, peers=(), check=False):
        options = {
            "enable-rpc": "true",
            "rpc-listen-port": 6800,
            "dir": directory,
            "listen-port": PORT,
            "check-integrity": "true" if check else "false",
            "seed-ratio": "0.0",
            "file-allocation": "none",
            "disk-cache": 0,
            "enable-dht": "true",  # else it does not speak UDP to trackers either; it is given no way into the DHT
            "dht-file-path": self.dir / "dht.dat",
            "dht-listen-port": PORT,
            "enable-dht6": "false",
            "enable-peer-exchange": "true" if self.exchange else "false",
            "bt-enable-lpd": "true" if self.lsd else "false",
            "bt-lpd-interface": host.ip,
            "bt-require-crypto": "false" if self.encryption in ("off", "allowed") else "true",
            "bt-min-crypto-level": "arc4" if self.encryption == "required" else "plain",
            "disable-ipv6": "false" if host.ipv6 else "true",
            "summary-interval": 0,
            "console-log-level": "notice",
            "log-level": "info",
            "log": self.dir / "detailed log",
        }
        if self.dht:
            options["dht-entry-point"] = self.dht
        self.launch(host, [self.program, "--no-conf", *(f"--{name}={value}" for name, value in options.items()), torrent.link or torrent.path])

    def is_done(self):
        keys = ["completedLength", "totalLength", "seeder", "verifiedLength", "verifyIntegrityPending"]
        answer = self.request_json(RPC, {"jsonrpc": "2.0", "id": "1", "method": "aria2.tellActive", "params": [keys]})
        return bool(answer) and len(answer["result"]) == 1 and self._is_whole(answer["result"][0])

    @staticmethod
    def _is_whole(download):
        checking = "verifiedLength" in download or "verifyIntegrityPending" in download
        return not checking and download["seeder"] == "true" and download["completedLength"] == download["totalLength"]
