"""What kind of filesystem an open file is on."""

from __future__ import annotations

import os

import pytest

from kernelproof.impl._syscalls.filesystem import PROC_SUPER_MAGIC, filesystem_type


def test_type_of_proc() -> None:
    """procfs says that it is procfs."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert filesystem_type(fd) == PROC_SUPER_MAGIC
    finally:
        os.close(fd)


@pytest.mark.parametrize("fd", [-1, 2**31 - 1])
def test_no_descriptor(fd: int) -> None:
    """A number that is no open descriptor is refused, and the note names the call with its number."""
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        filesystem_type(fd)
    assert f"fstatfs(fd={fd}" in caught.value.__notes__[0]


def test_number_that_is_no_descriptor() -> None:
    """A number that no int holds is refused, and not cut to one that is some file's."""
    with pytest.raises(OverflowError, match="4294967296"):
        filesystem_type(2**32)
