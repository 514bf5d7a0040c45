"""The watcher of a guarded terminal: a process of its own that puts the terminal back when the program has died.

It is run by path, with nothing but the standard library: descriptor 0 is a pipe from the program, descriptor 1 the
terminal, the argument a JSON object. The program ends it when it has put the terminal back itself. Until then it waits
for the end of the pipe or of the program, without using the processor.

It is in a session of its own, so no key and no hang-up reaches it, and changing the terminal does not stop it.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
from contextlib import suppress


def wait_until_gone(pid: int) -> None:
    """Return when the program has ended, was replaced by another one, or closed its end of the pipe."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    try:
        poll.register(os.pidfd_open(pid), select.POLLIN)
    except AttributeError:
        pass  # no such thing here: the pipe will tell
    except OSError:
        return  # the program has ended already
    if os.getppid() == pid:
        poll.poll()


def put_back(wish: dict[str, object]) -> None:
    """Set attributes and blocking, and write what leaves the modes of full-screen programs."""
    attributes, leave = wish["attributes"], wish["leave"]
    assert isinstance(attributes, list)
    assert isinstance(leave, str)
    *flags, characters = attributes
    termios.tcsetattr(1, termios.TCSANOW, [*flags, [bytes([each]) for each in characters]])
    if leave:
        os.set_blocking(1, False)  # a terminal that nobody reads must not hold us
        with suppress(BlockingIOError):
            os.write(1, bytes.fromhex(leave))
    os.set_blocking(1, bool(wish["blocking"]))


def main(argument: str) -> int:
    """Wait, put back, and end."""
    wish = json.loads(argument)
    wait_until_gone(int(wish["pid"]))
    try:
        put_back(wish)
    except (OSError, termios.error):
        return 1  # the terminal is gone too
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
