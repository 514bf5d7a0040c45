"""As whom a process runs: read from a status, and what is refused before the kernel is asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import credentials as calls
from kernelproof.impl.user import (
    ExecUser,
    IdRangeError,
    acting_as,
    become,
    parse_credentials,
    read_credentials,
    set_gids,
    set_groups,
    set_uids,
)

STATUS = "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\nGid:\t4294967294\t5\t6\t7\nGroups:\t10 20 \n"


def test_status_is_read() -> None:
    """All ids of a status come out, those above 2^31 and no groups too."""
    found = parse_credentials(STATUS)
    assert (found.uids.real, found.uids.effective, found.uids.saved, found.uids.filesystem) == (1000, 1001, 1002, 1003)
    assert found.gids.real == 4294967294
    assert found.groups == (10, 20)
    assert parse_credentials(STATUS.replace("10 20 ", "")).groups == ()


@pytest.mark.parametrize("text", ["", "Uid:\t0\n", STATUS.replace("1003", "x"), STATUS.replace("\t1003", "")])
def test_other_text_is_refused(text: str) -> None:
    """A text without all of it is an error, never uid 0."""
    with pytest.raises(ValueError, match="no status of a process"):
        parse_credentials(text)


def test_own_status() -> None:
    """What is read of this process is what os says."""
    found = read_credentials()
    assert (*found.uids[:3], *found.gids[:3]) == (*os.getresuid(), *os.getresgid())
    assert set(found.groups) == set(os.getgroups())


def test_status_of_nobody(tmp_path: Path) -> None:
    """A process that is not there is FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        read_credentials(1, proc=str(tmp_path))


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32])
def test_no_id_reaches_the_kernel(number: int) -> None:
    """What is no id, -1 and 4294967295 among it, is refused, and the process is as before."""
    before = read_credentials()
    calls: tuple[Callable[[], object], ...] = (
        lambda: set_uids(number),
        lambda: set_gids(number),
        lambda: set_groups([0, number]),
        lambda: become(ExecUser(number, 0)),
        lambda: become(ExecUser(0, number)),
    )
    for refused in calls:
        with pytest.raises(IdRangeError):
            refused()
    with pytest.raises(IdRangeError), acting_as(number):
        pytest.fail("the block was entered")
    assert read_credentials() == before


def test_nothing_is_left_of_a_block_of_own_ids() -> None:
    """A block as oneself changes nothing, and an error in it comes out."""
    before = read_credentials()
    with pytest.raises(RuntimeError, match="inside"), acting_as(os.geteuid(), os.getegid()):
        raise RuntimeError("inside")
    assert read_credentials() == before


def test_both_ids_are_put_back_after_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effective uid and gid are those of before, the uid first: without it nobody may set the gid."""
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(calls, "setresuid", lambda *ids: asked.append(("uid", *ids)))
    monkeypatch.setattr(calls, "setresgid", lambda *ids: asked.append(("gid", *ids)))
    kept = 2**32 - 1
    with acting_as(4242, 4343):
        assert asked == [("gid", kept, 4343, kept), ("uid", kept, 4242, kept)]
    assert asked[2:] == [("uid", kept, os.geteuid(), kept), ("gid", kept, os.getegid(), kept)]
