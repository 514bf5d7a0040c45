"""What a newborn process keeps open."""

from __future__ import annotations

import errno
import os

import pytest

from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.process import cloning


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.EPERM], ids=["close_range", "no such call", "filter"])
def test_newborn_keeps_what_is_its_own(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The first three, what is handed on and what stands in the site stay open, by the call or one by one."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(cloning, "close_range", refuse)
    ready, told = os.pipe()
    kept = os.open(os.devnull, os.O_RDONLY)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    child = os.fork()
    if child == 0:
        try:
            site = Site(kept=os.dup2(kept, 300), told=os.dup2(told, 200))
            for handed in (3, 4):
                os.dup2(300, handed)
            site.found["preserved"] = 2
            cloning.keep_only(site)
            found = [each for each in range(400) if os.path.lexists(f"/proc/self/fd/{each}")]
            os.write(200, repr(found[3:]).encode())
        finally:
            os._exit(0)
    for fd in (told, kept, *others):
        os.close(fd)
    with os.fdopen(ready, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    assert text == b"[3, 4, 200, 300]"
