"""Landlock's rulesets: what is taken, what is refused, and whom they hold."""

from __future__ import annotations

import errno
import os
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.security.conftest import become_user_with
from kernelproof.conformance.security.filters import forbid_new_privileges
from kernelproof.impl._syscalls import landlock as calls
from kernelproof.impl._syscalls import tracing
from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath
from kernelproof.impl.libcontainer.security.landlock import LandlockError, plan_policy, read_abi

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import Companion, InChild
    from kernelproof.conformance.seen import Seen

READ_FILE, READ_DIR = 1 << 2, 1 << 3
_ANY_THREAD = 0x40000000  # __WALL of waitpid(2)


@behaviour("landlock.ruleset.abi-version")
def test_version(seen: Seen) -> None:
    """The version is at least 1, and the typed layer tells the same one."""
    assert seen(calls.abi_version()) >= 1
    assert read_abi() == calls.abi_version()


@behaviour("landlock.ruleset.disabled-at-boot")
def test_switched_off(seen: Seen) -> None:
    """Where Landlock was not enabled at boot, making a ruleset gives EOPNOTSUPP; the typed layer finds version 0."""
    assert (
        seen([seen.errno_of(calls.create_ruleset, READ_FILE), seen.errno_of(calls.abi_version)])
        == [errno.errorcode[errno.EOPNOTSUPP]] * 2
    )
    assert read_abi() == 0


@behaviour("landlock.ruleset.empty")
def test_nothing_handled(seen: Seen) -> None:
    """A ruleset that handles nothing gives ENOMSG."""
    assert seen.errno_of(calls.create_ruleset, 0) == "ENOMSG"


@behaviour("landlock.ruleset.unknown-right")
def test_unknown_right(seen: Seen) -> None:
    """A right that the kernel does not know gives EINVAL; the typed layer takes no name that it does not know."""
    assert seen.errno_of(calls.create_ruleset, READ_FILE | 1 << 40) == "EINVAL"
    with pytest.raises(LandlockError, match="no right of files 'fly'"):
        plan_policy(Landlock(1, handled=("fly",)), 7)


@behaviour("landlock.ruleset.too-small")
def test_short_structure(seen: Seen) -> None:
    """A structure of less than 8 bytes gives EINVAL."""
    sizes = (0, 4, 7)
    answers = [seen.errno_of(calls.create_ruleset, 0, attributes=struct.pack("=Q", READ_FILE)[:size]) for size in sizes]
    assert seen(answers) == ["EINVAL"] * 3


@behaviour("landlock.ruleset.too-big")
def test_long_structure(in_child: InChild, seen: Seen) -> None:
    """Bytes beyond the structure give E2BIG unless they are zero."""

    def ask() -> list[str]:
        known = struct.pack("=Q", READ_FILE)
        tails = (b"\0" * 100 + b"\1", b"\0" * 101)
        return [seen.errno_of(calls.create_ruleset, 0, attributes=known + tail) for tail in tails]

    assert seen(in_child(ask)) == ["E2BIG", "no error"]


@pytest.fixture
def ruleset() -> int:
    """A ruleset that handles reading files and directories; it ends with the test's machine."""
    return calls.create_ruleset(READ_FILE | READ_DIR)


@behaviour("landlock.rule.empty-access")
def test_rule_that_allows_nothing(ruleset: int, tmp_path: Path, seen: Seen) -> None:
    """A rule that allows nothing gives ENOMSG, and the typed layer refuses it."""
    assert seen.errno_of(calls.add_path, ruleset, os.open(tmp_path, os.O_PATH), 0) == "ENOMSG"
    with pytest.raises(LandlockError, match="allows nothing"):
        plan_policy(Landlock(1, paths=(LandlockPath("/", ()),)), 7)


@behaviour("landlock.rule.not-handled")
def test_right_that_is_not_handled(ruleset: int, tmp_path: Path, seen: Seen) -> None:
    """A right that the ruleset does not handle gives EINVAL, and the typed layer refuses it."""
    assert seen.errno_of(calls.add_path, ruleset, os.open(tmp_path, os.O_PATH), READ_FILE | 1) == "EINVAL"
    with pytest.raises(LandlockError, match="does not handle"):
        plan_policy(Landlock(1, handled=("read_file",), paths=(LandlockPath("/", ("execute",)),)), 7)


@behaviour("landlock.rule.bad-fd")
def test_descriptor_that_is_not_open(ruleset: int, seen: Seen) -> None:
    """A number that is no open descriptor gives EBADF."""
    assert seen([seen.errno_of(calls.add_path, ruleset, each, READ_FILE) for each in (-1, 900)]) == ["EBADF", "EBADF"]


@behaviour("landlock.rule.fd-of-wrong-type")
def test_descriptor_of_a_pipe(ruleset: int, seen: Seen) -> None:
    """The descriptor of a pipe gives EBADFD."""
    reader, _ = os.pipe()
    assert seen.errno_of(calls.add_path, ruleset, reader, READ_FILE) == "EBADFD"


@behaviour("landlock.rule.port-range")
def test_port_beyond_the_last(seen: Seen) -> None:
    """A port above 65535 gives EINVAL; 65535 is taken."""
    ports = calls.create_ruleset(0, 1)
    assert seen([seen.errno_of(calls.add_port, ports, port, 1) for port in (65536, 65535)]) == ["EINVAL", "no error"]


@behaviour("landlock.enforce.needs-nnp")
def test_needs_a_right(in_child: InChild, ruleset: int, seen: Seen) -> None:
    """A user without CAP_SYS_ADMIN gets EPERM, and with no_new_privs the restriction."""

    def ask() -> list[str]:
        become_user_with(0)
        first = seen.errno_of(calls.restrict_self, ruleset)
        forbid_new_privileges()
        return [first, seen.errno_of(calls.restrict_self, ruleset)]

    assert seen(in_child(ask)) == ["EPERM", "no error"]


@behaviour("landlock.enforce.not-a-ruleset")
def test_descriptor_of_no_ruleset(in_child: InChild, seen: Seen) -> None:
    """An open descriptor that is no ruleset gives EBADFD."""
    assert seen(in_child(lambda: seen.errno_of(calls.restrict_self, os.open("/dev/null", os.O_RDONLY)))) == "EBADFD"


@behaviour("landlock.enforce.bad-fd")
def test_restriction_by_no_descriptor(in_child: InChild, seen: Seen) -> None:
    """A number that is no open descriptor gives EBADF."""
    assert seen(in_child(lambda: [seen.errno_of(calls.restrict_self, each) for each in (-1, 900)])) == [
        "EBADF",
        "EBADF",
    ]


@behaviour("landlock.enforce.layer-limit")
def test_sixteen_layers(in_child: InChild, ruleset: int, seen: Seen) -> None:
    """Sixteen rulesets stack, the next one gives E2BIG."""
    answers = in_child(lambda: [seen.errno_of(calls.restrict_self, ruleset) for _ in range(17)])
    assert seen(answers) == ["no error"] * 16 + ["E2BIG"]


@behaviour("landlock.enforce.inherited")
def test_children_are_held(in_child: InChild, ruleset: int, tmp_path: Path, seen: Seen) -> None:
    """A child of a restricted thread is restricted; a thread that was there before is not."""
    file = tmp_path / "file"
    file.write_text("words")

    def attempt() -> str:
        return seen.errno_of(os.open, file, os.O_RDONLY)

    def ask() -> list[str]:
        go = threading.Event()
        answers: list[str] = []

        def wait() -> None:
            go.wait(30)
            answers.append(attempt())

        thread = threading.Thread(target=wait)
        thread.start()
        calls.restrict_self(ruleset)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, attempt().encode())
            os._exit(0)
        os.wait()
        go.set()
        thread.join()
        return [os.read(reader, 20).decode(), attempt(), *answers]

    assert seen(in_child(ask)) == ["EACCES", "EACCES", "no error"]


@behaviour("landlock.ptrace.outside-domain")
def test_no_tracing_outside(companion: Companion, in_child: InChild, ruleset: int, seen: Seen) -> None:
    """A restricted process can't attach to one outside its domain: EPERM; one inside can be looked into."""
    outside = companion(lambda talk: talk.hear())

    def attach(pid: int) -> str:
        answer = seen.errno_of(tracing.attach, pid)
        if answer == "no error":
            os.waitpid(pid, _ANY_THREAD)
        return answer

    def ask() -> list[str]:
        before = attach(outside.pid)
        tracing.detach(outside.pid)
        calls.restrict_self(ruleset)
        inside = os.fork()
        if inside == 0:
            threading.Event().wait(30)
            os._exit(0)
        return [before, attach(outside.pid), attach(inside)]

    assert seen(in_child(ask)) == ["no error", "EPERM", "no error"]
