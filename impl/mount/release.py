"""Whether the calls of Linux 5.2 may be used: the one place where a release is looked at, and not the call itself."""

from __future__ import annotations

import os


def is_new_api_trusted(release: str | None = None) -> bool:
    """Return whether fsopen(2) and its like may be called at all.

    Elsewhere a call is made and its errno read. But there are distributions' kernels of an older release to which these
    calls were ported back so that they are there, slow and wrong.

    Args:
        release: as `uname -r` prints it; default is this kernel's.

    >>> is_new_api_trusted("4.18.0-553.el8.x86_64"), is_new_api_trusted("5.10.0-32-amd64")
    (False, True)
    """
    numbers = []
    for part in (os.uname().release if release is None else release).split(".")[:2]:
        digits = part[: next((place for place, each in enumerate(part) if not each.isdigit()), len(part))]
        numbers.append(int(digits or 0))
    return tuple(numbers) >= (5, 2)
