"""Runs one case, as a process of its own: NAME NUMBER DIRECTORY FLOTILLA PREFIX. The last line printed is the reason of a failure."""

import signal
import sys
import traceback

import cases  # noqa: F401  (fills the list)
from casebook import CASES
from stage import Failed, Stage


def main():
    name, number, directory, flotilla, prefix = sys.argv[1:]

    def give_up(*_):
        raise Failed("ended from outside")

    signal.signal(signal.SIGTERM, give_up)
    try:
        with Stage(int(number), directory, flotilla, prefix) as stage:
            CASES[name].run(stage)
            stage.finish()
    except Failed as reason:
        print(reason)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


sys.exit(main())
