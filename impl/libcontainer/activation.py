"""Descriptors that come with a call: counted, checked, and told to the program as sd_listen_fds(3) has it.

Source: sd_listen_fds(3); opencontainers/runc, runc-run(8), "--preserve-fds".
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernelproof.impl.libcontainer.config.records import Config

FIRST = 3
_COUNT, _PID, _NAMES = "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"


def count_listening(environ: Mapping[str, str], pid: int) -> int:
    """How many sockets this process was given to listen on; none if they are meant for another one.

    >>> count_listening({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, 7), count_listening({"LISTEN_FDS": "2"}, 7)
    (2, 0)
    """
    count, owner = environ.get(_COUNT, ""), environ.get(_PID, "")
    if not (count.isascii() and count.isdigit() and owner == str(pid)):
        return 0
    return int(count)


def check_given(count: int) -> None:
    """Makes sure that so many descriptors, from 3 on, came with the call.

    Raises:
        ValueError: one is not open, or is one of this process's own.
    """
    for fd in range(FIRST, FIRST + count):
        try:
            # What came through an exec can't be close-on-exec; what Python opened is.
            given = os.get_inheritable(fd)
        except OSError:
            given = False
        if not given:
            raise ValueError(f"descriptor {fd} of {count} that the program is to get did not come with this call")


def with_listening(config: Config, count: int, environ: Mapping[str, str]) -> Config:
    """The configuration with the variables by which its program finds its sockets; its own of these names are gone.

    LISTEN_PID is left empty: who becomes the program puts its own pid there.
    """
    process = config.process
    if process is None or not count:
        return config
    kept = (entry for entry in process.env if entry.partition("=")[0] not in (_COUNT, _PID, _NAMES))
    names = (f"{_NAMES}={environ[_NAMES]}",) if environ.get(_NAMES) else ()
    return config.replace(process=process.replace(env=(*kept, f"{_COUNT}={count}", f"{_PID}=", *names)))
