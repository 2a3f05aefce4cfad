"""The cases, by theme. Importing this puts them all on the list."""

from . import pairs, swarms, crashes, hostility, limits, secured, usage, bad_trackers, faulty_disks, remembered  # noqa: F401
