"""The cases, by theme. Importing this puts them all on the list."""

from . import pairs  # noqa: F401
from . import swarms  # noqa: F401
from . import crashes  # noqa: F401
from . import hostility  # noqa: F401
from . import limits  # noqa: F401
from . import secured  # noqa: F401
from . import usage  # noqa: F401
from . import bad_trackers  # noqa: F401
from . import faulty_disks  # noqa: F401
from . import remembered  # noqa: F401
from . import encrypted  # noqa: F401
from . import proxy  # noqa: F401
from . import nat  # noqa: F401
from . import v2  # noqa: F401
from . import magnets  # noqa: F401
from . import exchange  # noqa: F401
from . import dht  # noqa: F401
from . import web_seeds  # noqa: F401
from . import utp  # noqa: F401
from . import pinholes  # noqa: F401
