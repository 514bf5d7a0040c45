"""Names of users: what impl's rules say, and what the commands that make users do with the same names."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.user import (
    NoMatchingEntryError,
    UserDatabaseError,
    is_valid_name,
    lookup_group,
    lookup_user,
    name_problems,
    read_passwd,
)

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, RunCommand


def useradd(name: str) -> int:
    """Let useradd make a user, and return its exit status."""
    argv = [b"useradd", b"-M", b"-N", b"--", name.encode("utf-8", "surrogateescape")]
    return subprocess.run(argv, stderr=subprocess.DEVNULL, check=False, timeout=60).returncode


@behaviour("user.names.useradd-charset")
def test_characters_of_a_name(seen: Seen) -> None:
    """useradd takes letters, digits, _, - and . with a $ at the end, and refuses blank, colon and others with 19."""
    good, bad = ["ada", "Ada_L-1.x", "machine$"], ["a b", "a:b", "\u00fcmit", "a$b"]
    statuses = [useradd(name) for name in (*good, *bad)]
    assert seen(statuses) == [0, 0, 0, 19, 19, 19, 19]
    assert [is_valid_name(name, "useradd") for name in (*good, *bad)] == [status == 0 for status in statuses]
    assert [lookup_user(name).name for name in good] == good


@behaviour("user.names.useradd-reserved")
def test_names_that_mean_something_else(seen: Seen) -> None:
    """useradd refuses a leading dash, a name of digits only, and the names . and .."""
    names = ["-ada", "1000", ".", "..", "0ada"]
    statuses = [useradd(name) for name in names]
    assert seen([status == 0 for status in statuses]) == [False, False, False, False, True]
    assert [is_valid_name(name, "useradd") for name in names] == [status == 0 for status in statuses]
    for name in names[:-1]:
        with pytest.raises((NoMatchingEntryError, UserDatabaseError)):
            lookup_user(name)


@behaviour("user.names.useradd-256")
def test_longest_name(seen: Seen) -> None:
    """useradd takes a name of 256 characters."""
    assert [is_valid_name("u" * size, "useradd") for size in (256, 257)] == [True, False]
    assert useradd("u" * 255) == 0
    assert lookup_user("u" * 255).name == "u" * 255
    assert seen(useradd("u" * 256)) == 0


@behaviour("user.names.useradd-exit-status")
def test_user_that_is_there(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """useradd ends with 9 for a name in use, 4 for a uid in use and 6 for a group that does not exist."""
    add_lines(passwd="ada:x:4001:100::/:\n")
    statuses = [
        run("useradd", "-M", "-N", *words).status
        for words in (["ada"], ["-u", "4001", "bob"], ["-g", "nosuchgroup", "bob"], ["bob"])
    ]
    assert seen(statuses) == [9, 4, 6, 0]
    assert [user.name for user in read_passwd() if user.name in ("ada", "bob")] == ["ada", "bob"]
    with pytest.raises(NoMatchingEntryError):
        lookup_group("nosuchgroup")


@behaviour("user.names.systemd-common-core")
def test_name_that_all_take(run: RunCommand, seen: Seen) -> None:
    """A name of ^[a-z][a-z0-9-]{0,30}$ is valid by every rule set, and useradd takes it."""
    names = ["a", "z9-", "a" * 31]
    rules = ("common", "useradd", "strict", "relaxed")
    assert [name_problems(name, each) for name in names for each in rules] == [()] * 12
    assert not is_valid_name("a" * 32)
    assert not is_valid_name("A")
    assert seen([run("useradd", "-M", "-N", name).status for name in names]) == [0, 0, 0]
    assert [lookup_user(name).name for name in names] == names


@behaviour("user.login.userdel-missing")
def test_user_that_is_not_there(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """userdel ends with 6 for a user that does not exist, and takes one that does out of passwd."""
    add_lines(passwd="ada:x:4001:100::/:\n")
    with pytest.raises(NoMatchingEntryError):
        lookup_user("bob")
    assert lookup_user("ada").uid == 4001
    assert seen([run("userdel", name).status for name in ("bob", "ada")]) == [6, 0]
    with pytest.raises(NoMatchingEntryError):
        lookup_user("ada")


@behaviour("user.login.nologin-status")
def test_nologin(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """nologin ends with 1, and prints /etc/nologin.txt if that is there; a user with it as shell is found so."""
    add_lines(passwd="ada:x:4001:100::/:/usr/sbin/nologin\n")
    shell = lookup_user("ada").shell
    before = run(shell)
    add_lines(**{"nologin.txt": "closed for the day\n"})
    after = run(shell)
    assert seen([before.status, after.status, after.out]) == [1, 1, "closed for the day\n"]
    assert "closed" not in before.out
