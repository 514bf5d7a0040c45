"""Descriptors that are kept from one side of a start to the other."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from kernelproof.impl.libcontainer.operations import Site
from kernelproof.impl.libcontainer.rootfs import keeping
from kernelproof.impl.libcontainer.rootfs.keeping import keep


@pytest.fixture
def limit() -> Iterator[int]:
    """A soft limit of 256, below the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield 256
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def keep_many(site: Site, many: int) -> None:
    for number in range(many):
        keep(site, str(number), os.open(os.devnull, os.O_PATH))


def test_more_are_kept_than_the_limit_allows(limit: int) -> None:
    """Three hundred are kept with a limit of 256, close on exec; there is room for others, and the limit stays."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    site = Site()
    keep_many(site, 300)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    assert len(os.listdir("/proc/self/fd")) == opened + 300
    assert not any(map(os.get_inheritable, site.descriptors.values()))
    others = [os.open(os.devnull, os.O_PATH) for _ in range(limit // 4)]
    for fd in others:
        os.close(fd)
    site.close()
    assert len(os.listdir("/proc/self/fd")) == opened


def test_limit_that_may_not_be_raised(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to a higher hard limit the soft one goes up to it; if it is there already, EMFILE is told."""
    soft, hard = limit, 2 * limit
    asked = []

    def prlimit(pid: int, number: int, new: tuple[int, int] | None = None) -> tuple[int, int]:
        if new is not None:
            asked.append(new)
            if new[1] > hard:
                raise PermissionError(errno.EPERM, "")
            resource.setrlimit(resource.RLIMIT_NOFILE, (new[0], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return soft, hard

    monkeypatch.setattr(keeping, "prlimit", prlimit)
    site = Site()
    keep_many(site, 300)
    assert max(site.descriptors.values()) >= limit
    assert asked[1:3] == [(hard, hard), (soft, hard)]
    site.close()
    hard = soft
    with pytest.raises(OSError, match="Too many open files"):
        keep_many(site, 300)
    site.close()
