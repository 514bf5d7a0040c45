"""What execve(2) makes of capabilities, as the new program tells it itself."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_bits
from kernelproof.conformance.security.conftest import KILL, NET_RAW, USER, become_user_with, bit
from kernelproof.impl._syscalls.capabilities import capget, capset, drop_bounding, raise_ambient

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.security.conftest import AfterExec, FileWith
    from kernelproof.conformance.seen import Seen

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def inherit(*numbers: int) -> None:
    """Make some capabilities inheritable."""
    capset(*capget()[:2], bit(*numbers))


@behaviour("capabilities.exec.root-gains-all-in-bounding")
def test_root_gains_the_bounding_set(after_exec: AfterExec, seen: Seen) -> None:
    """Root has inheritable joined with bounding, permitted and effective: one that is in neither is gone."""

    def prepare() -> None:
        inherit(NET_RAW)
        for number in (NET_RAW, KILL):
            drop_bounding(number)
        capset(0, 0, bit(NET_RAW))

    status = after_exec(prepare)
    inheritable, permitted, effective, bounding, _ = map(status.bits, SETS)
    assert seen(permitted == effective == inheritable | bounding)
    assert (permitted & bit(NET_RAW, KILL), bounding & bit(NET_RAW, KILL)) == (bit(NET_RAW), 0)


@behaviour("capabilities.exec.nonroot-loses-all")
def test_user_loses_all(after_exec: AfterExec, seen: Seen) -> None:
    """A user's permitted and effective sets are empty after a plain program was executed."""
    status = after_exec(lambda: become_user_with(bit(KILL, NET_RAW), inheritable=bit(KILL)))
    assert seen([status.bits("CapPrm"), status.bits("CapEff")]) == [0, 0]
    assert status.bits("CapInh") == bit(KILL)


@behaviour("capabilities.exec.inheritable-unchanged")
def test_inheritable_stays(after_exec: AfterExec, seen: Seen) -> None:
    """The inheritable set is what it was, for root and for a user."""
    root = after_exec(lambda: inherit(KILL, NET_RAW))
    user = after_exec(lambda: become_user_with(0, inheritable=bit(KILL)))
    assert seen([root.bits("CapInh"), user.bits("CapInh")]) == [bit(KILL, NET_RAW), bit(KILL)]


@behaviour("capabilities.exec.bounding-unchanged")
def test_bounding_stays(after_exec: AfterExec, seen: Seen) -> None:
    """The bounding set is what it was."""
    expected = status_bits("CapBnd") & ~bit(NET_RAW)
    assert seen(after_exec(lambda: drop_bounding(NET_RAW)).bits("CapBnd") == expected)


@behaviour("capabilities.bounding.inherited-by-fork")
def test_child_has_the_bounding_set(in_child: InChild, seen: Seen) -> None:
    """A child of a process that dropped one has the same bounding set."""

    def drop_and_fork() -> list[bool]:
        drop_bounding(NET_RAW)
        own = status_bits("CapBnd")
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, str(status_bits("CapBnd")).encode())
            os._exit(0)
        os.wait()
        return [int(os.read(reader, 100)) == own, bool(own & bit(NET_RAW))]

    assert seen(in_child(drop_and_fork)) == [True, False]


@behaviour("capabilities.exec.file-permitted-masked-by-bounding")
def test_file_gives_what_is_in_bounding(after_exec: AfterExec, file_with: FileWith, seen: Seen) -> None:
    """Of two permitted capabilities of a file without the effective bit the one in the bounding set is gained."""

    def prepare() -> None:
        drop_bounding(NET_RAW)
        become_user_with(0)

    status = after_exec(prepare, file_with(permitted=bit(KILL, NET_RAW)))
    assert seen([status.bits("CapPrm"), status.bits("CapEff")]) == [bit(KILL), 0]


@behaviour("capabilities.exec.dumb-binary-refused")
def test_program_that_would_not_notice(in_child: InChild, file_with: FileWith, seen: Seen) -> None:
    """A file with the effective bit can't be executed with EPERM where one of its capabilities is masked."""
    program = file_with(permitted=bit(NET_RAW), effective=True)

    def run() -> str:
        drop_bounding(NET_RAW)
        become_user_with(0)
        return seen.errno_of(os.execv, program, ["program", "/dev/null"])

    assert seen(in_child(run)) == "EPERM"


@behaviour("capabilities.exec.file-inheritable-needs-thread-inheritable")
def test_file_and_thread_must_inherit(after_exec: AfterExec, file_with: FileWith, seen: Seen) -> None:
    """A file's inheritable capability is gained by the thread that has it inheritable too, and by no other."""
    program = file_with(inheritable=bit(KILL))
    found = [
        after_exec(partial(become_user_with, 0, inheritable=own), program).bits("CapPrm")
        for own in (0, bit(KILL), bit(NET_RAW))
    ]
    assert seen(found) == [0, bit(KILL), 0]


@behaviour("capabilities.exec.inheritable-not-masked-by-bounding")
def test_inherited_past_the_bounding_set(after_exec: AfterExec, file_with: FileWith, seen: Seen) -> None:
    """What thread and file both inherit is gained although the bounding set does not have it."""

    def prepare() -> None:
        inherit(KILL)
        drop_bounding(KILL)
        become_user_with(0, inheritable=bit(KILL))

    status = after_exec(prepare, file_with(inheritable=bit(KILL)))
    assert seen([status.bits("CapPrm"), status.bits("CapBnd") & bit(KILL)]) == [bit(KILL), 0]


def with_ambient() -> None:
    """Become a user with one ambient capability."""
    become_user_with(bit(KILL), inheritable=bit(KILL))
    raise_ambient(KILL)
    assert status_bits("CapAmb") == bit(KILL)


@behaviour("capabilities.ambient.survives-plain-exec")
def test_ambient_stays(after_exec: AfterExec, seen: Seen) -> None:
    """An ambient capability of a user's is permitted, effective and ambient in a plain program."""
    status = after_exec(with_ambient)
    assert seen([status.bits(name) for name in ("CapPrm", "CapEff", "CapAmb")]) == [bit(KILL)] * 3


@behaviour("capabilities.ambient.cleared-by-file-caps")
def test_ambient_ends_with_a_files_capabilities(after_exec: AfterExec, file_with: FileWith, seen: Seen) -> None:
    """The ambient set is empty in a program with capabilities of its file."""
    status = after_exec(with_ambient, file_with(permitted=bit(NET_RAW)))
    assert seen([status.bits("CapAmb"), status.bits("CapPrm")]) == [0, bit(NET_RAW)]


@behaviour("capabilities.ambient.cleared-by-setuid-exec")
def test_ambient_ends_with_a_change_of_user(after_exec: AfterExec, program: Path, seen: Seen) -> None:
    """The ambient set is empty in a program that runs as another user by its set-user-ID bit."""
    program.chmod(0o4755)
    status = after_exec(with_ambient, program)
    assert seen([status.bits("CapAmb"), *status.words("Uid")[:2]]) == [0, str(USER), "0"]
