"""What the kernel's filters can return, and which of that it logs.

Source: seccomp(2), "/proc interfaces".
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterable

_SYS = "/proc/sys"


def read_actions(sys: str = _SYS) -> tuple[str, ...]:
    """The actions that filters can return here, the one that goes before all others first; empty without seccomp.

    Args:
        sys: where kernel parameters are.

    Raises:
        OSError: EACCES: kernel parameters are hidden.
    """
    try:
        return _read(f"{sys}/kernel/seccomp/actions_avail")
    except FileNotFoundError:
        return ()


def read_logged(sys: str = _SYS) -> tuple[str, ...]:
    """The actions that are logged where a filter asks for it.

    Raises:
        OSError: ENOENT: this kernel has no filters.
    """
    return _read(f"{sys}/kernel/seccomp/actions_logged")


def write_logged(actions: Iterable[str], sys: str = _SYS) -> None:
    """Sets the actions that are logged where a filter asks for it; those that are not named are logged no more.

    Args:
        actions: names as `read_actions` gives them.
        sys: as there.

    Raises:
        OSError: EINVAL: allow, which is never logged, or what is no action; EPERM without CAP_SYS_ADMIN; ENOENT.
    """
    fd = os.open(f"{sys}/kernel/seccomp/actions_logged", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, (" ".join(actions) or " ").encode())  # nothing at all would be no write
    finally:
        os.close(fd)


def _read(path: str) -> tuple[str, ...]:
    with open(path, encoding="ascii") as file:
        return tuple(file.read().split())
