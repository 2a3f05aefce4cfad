"""One adapter for each client."""

from .aria2 import Aria2
from .base import PORT, Client
from .ctorrent import Ctorrent
from .flotilla import Flotilla
from .libtorrent import Libtorrent
from .qbittorrent import Qbittorrent
from .rtorrent import Rtorrent
from .stranger import Stranger
from .transmission import Transmission

OTHERS = [Transmission, Aria2, Libtorrent, Qbittorrent, Rtorrent, Ctorrent]
