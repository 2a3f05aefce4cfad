"""The list of cases. A case is a function that takes a Stage and raises Failed; @case puts it on the list."""

from dataclasses import dataclass, field
from typing import Callable

CASES = {}
SLOWER = 4  # times as long as on a machine at rest may everything take on one that is busy
LEAST = 60  # seconds that anything may take


def guard(seconds):
    """How long to wait for what takes so many seconds on a machine at rest, at most: a guard against hanging, not a measure of speed."""
    return max(LEAST, SLOWER * seconds)


@dataclass
class Case:
    """A case by its name, the adapters whose programs must be installed, and how many seconds it takes at most on a machine at rest."""

    name: str
    run: Callable
    needs: list = field(default_factory=list)
    limit: int = 60
    hidden: bool = False


def case(name, needs=(), limit=60, hidden=False):
    """Registers the function as a case. Hidden ones test the harness itself, and run with --self-test."""

    def register(function):
        CASES[name] = Case(name, function, list(needs), limit, hidden)
        return function

    return register


def missing(case):
    """What to install before the case can run."""
    return [words for adapter in case.needs if (words := adapter.missing())]
