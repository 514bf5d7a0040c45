"""Calls that ask or start something, and need no privilege: what they answer is held against another source."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.ancestry import (
    is_child_subreaper,
    parent_death_signal,
    set_child_subreaper,
    set_parent_death_signal,
)
from kernelproof.impl._syscalls.capabilities import preferred_version
from kernelproof.impl._syscalls.credentials import setresgid
from kernelproof.impl._syscalls.nss import getpwnam
from kernelproof.impl._syscalls.spawn import Close, Duplicate, Open, spawn


@pytest.fixture
def restored() -> Iterator[None]:
    """What the process has is put back."""
    before = is_child_subreaper(), parent_death_signal()
    yield
    set_child_subreaper(before[0])
    set_parent_death_signal(before[1])


def test_saved_group_is_set_or_refused() -> None:
    """Whoever may have any group has another saved one then; everybody else is told EPERM."""
    before = os.getresgid()
    unchanged = 2**32 - 1
    if os.geteuid():
        with pytest.raises(PermissionError):
            setresgid(unchanged, unchanged, max(before) + 1)
        return
    try:
        setresgid(unchanged, unchanged, max(before) + 1)
        assert os.getresgid() == (*before[:2], max(before) + 1)
    finally:
        os.setresgid(*before)


@pytest.mark.usefixtures("restored")
def test_what_was_set_is_read() -> None:
    """Whether orphans come here, and the signal at a parent's end, are what was set last."""
    for wanted in (True, False):
        set_child_subreaper(wanted)
        assert is_child_subreaper() is wanted
    for number in (signal.SIGWINCH, 0):
        set_parent_death_signal(number)
        assert parent_death_signal() == number


def test_version_of_capabilities() -> None:
    """Asked with a version that there is not, the kernel names its own: the third, of 64 bits (linux/capability.h)."""
    assert preferred_version(0) == 0x20080522


# Users.


def test_user_by_name() -> None:
    """Each field of an entry is where the standard library has it."""
    expected = pwd.getpwall()[0]
    found = getpwnam(expected.pw_name)
    assert found is not None
    assert tuple(found) == tuple(pwd.getpwnam(expected.pw_name))


def test_user_that_is_not_there() -> None:
    """A name that no service has is no error; a buffer that is too small is one, with the call."""
    assert getpwnam("no-such-user-at-all") is None
    with pytest.raises(OSError, match=os.strerror(errno.ERANGE)) as error:
        getpwnam(pwd.getpwall()[0].pw_name, size=1)
    assert error.value.errno == errno.ERANGE
    assert error.value.__notes__[0].startswith("getpwnam_r(")


# Programs.


def to_file(folder: Path) -> tuple[Open | Duplicate | Close, ...]:
    """The standard output into a file, errors nowhere."""
    (folder / "out").touch()
    return Open(1, str(folder / "out"), os.O_WRONLY), Open(2, os.devnull, os.O_WRONLY)


def test_place_and_environment_of_a_program(tmp_path: Path) -> None:
    """It begins in its directory, with its environment and no more, in a session of its own."""
    program = "import os; print(os.getcwd(), sorted(os.environ.items()), os.getsid(0) == os.getpid())"
    pid = spawn(
        sys.executable,
        [sys.executable, "-I", "-S", "-c", program],
        {"A": "1", "LC_ALL": "C", "EMPTY": ""},
        cwd=str(tmp_path),
        file_actions=to_file(tmp_path),
        default_signals=(),
    )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    environment = [("A", "1"), ("EMPTY", ""), ("LC_ALL", "C")]
    assert (tmp_path / "out").read_text() == f"{tmp_path.resolve()} {environment} True\n"


def test_signals_of_a_program(tmp_path: Path) -> None:
    """No signal is blocked in it, and those that were asked for have their default action, whatever is so here."""
    handler = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        pid = spawn(
            "/bin/sh",  # a Python ignores SIGPIPE by itself
            ["sh", "-c", "while read -r name value; do case $name in Sig[BI]*) echo $name$value; esac; done"],
            {},
            cwd=str(tmp_path),
            file_actions=[Open(0, "/proc/self/status", os.O_RDONLY), *to_file(tmp_path)],
            default_signals=[signal.SIGPIPE],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGPIPE, handler)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    masks = dict(line.split(":") for line in (tmp_path / "out").read_text().splitlines())
    assert int(masks["SigBlk"], 16) == 0
    assert not int(masks["SigIgn"], 16) & 1 << signal.SIGPIPE - 1


def test_descriptors_of_a_program(tmp_path: Path) -> None:
    """They are opened, copied and closed in the order of the list."""
    pid = spawn(
        "/bin/sh",
        ["sh", "-c", "echo one; echo two >&7; echo three >&8"],
        {},
        cwd=str(tmp_path),
        file_actions=[*to_file(tmp_path), Duplicate(1, 7), Duplicate(7, 8), Close(8)],
        default_signals=(),
    )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0  # there is no descriptor 8
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"path": "/nonexistent/program"}, errno.ENOENT),
        ({"path": "/etc/passwd"}, errno.EACCES),
        ({"cwd": "/nonexistent"}, errno.ENOENT),
        ({"file_actions": [Close(1), Open(1, "/nonexistent", 0)]}, errno.ENOENT),
    ],
    ids=["program", "no program", "directory", "file"],
)
def test_programs_that_do_not_start(changed: dict[str, object], number: int) -> None:
    """What refuses the start is the caller's error, with the path and the call; no process is left."""
    given = {"path": sys.executable, "cwd": "/", "file_actions": ()} | changed
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        spawn(argv=["x"], env={}, default_signals=(), **given)  # type: ignore[arg-type]
    assert (error.value.errno, error.value.filename) == (number, given["path"])
    assert error.value.__notes__[0].startswith("posix_spawn(")


@pytest.mark.parametrize("place", ["path", "argv", "env", "cwd", "file"])
def test_words_that_end_early(place: str) -> None:
    """A NUL byte would cut a word, so it is refused anywhere."""
    odd = {name: "a\0b" if name == place else "/" for name in ("path", "argv", "env", "cwd", "file")}
    with pytest.raises(ValueError, match="holds a NUL byte"):
        spawn(
            odd["path"],
            [odd["argv"]],
            {"A": odd["env"]},
            cwd=odd["cwd"],
            file_actions=[Open(1, odd["file"], 0)],
            default_signals=(),
        )
