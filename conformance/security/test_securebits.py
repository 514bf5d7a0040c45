"""Securebits and no_new_privs: what a thread gives up for its programs."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_bits, status_words
from kernelproof.conformance.security.conftest import KILL, SETPCAP, USER, become_user_with, bit
from kernelproof.impl._syscalls.capabilities import capget, capset, raise_ambient
from kernelproof.impl._syscalls.prctl import (
    PR_GET_KEEPCAPS,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_SECUREBITS,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECUREBITS,
    SECBIT_KEEP_CAPS,
    SECBIT_NO_CAP_AMBIENT_RAISE,
    SECBIT_NO_SETUID_FIXUP,
    SECBIT_NOROOT,
    prctl,
)
from kernelproof.impl.user import set_uids

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild, OutputOf
    from kernelproof.conformance.security.conftest import AfterExec, FileWith, Without
    from kernelproof.conformance.seen import Seen

LOCKED = 1  # how many places a lock is above its bit
PRINT_SECUREBITS = "import ctypes; print(ctypes.CDLL(None).prctl(27, 0, 0, 0, 0))"


@behaviour("capabilities.securebits.keep-caps")
def test_kept_over_a_change_of_user(in_child: InChild, seen: Seen) -> None:
    """With SECBIT_KEEP_CAPS the permitted set stays and the effective one is empty when root is left."""

    def leave() -> list[bool]:
        before = status_bits("CapPrm")
        prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS)
        set_uids(USER, USER, USER)
        return [status_bits("CapPrm") == before != 0, status_bits("CapEff") == 0]

    assert seen(in_child(leave)) == [True, True]


@behaviour("capabilities.securebits.keep-caps-cleared-by-exec")
def test_exec_clears_one_securebit(output_of: OutputOf, seen: Seen) -> None:
    """execve clears SECBIT_KEEP_CAPS and leaves the others, locks included."""
    kept = SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE << LOCKED

    def execute() -> None:
        prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | kept)
        os.execv("/usr/bin/python3", ["python3", "-ISc", PRINT_SECUREBITS])

    assert seen(int(output_of(execute))) == kept


@behaviour("capabilities.securebits.keepcaps-invalid")
def test_keepcaps_takes_two_values(in_child: InChild, seen: Seen) -> None:
    """PR_SET_KEEPCAPS takes 0 and 1; 2 gives EINVAL."""
    answers = in_child(lambda: [seen.errno_of(prctl, PR_SET_KEEPCAPS, each) for each in (0, 1, 2)])
    assert seen(answers) == ["no error", "no error", "EINVAL"]


@behaviour("capabilities.securebits.keepcaps-locked")
def test_locked_keepcaps(in_child: InChild, seen: Seen) -> None:
    """PR_SET_KEEPCAPS gives EPERM while the securebit is locked."""

    def lock() -> list[object]:
        prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS << LOCKED)
        return [seen.errno_of(prctl, PR_SET_KEEPCAPS, 1), prctl(PR_GET_KEEPCAPS)]

    assert seen(in_child(lock)) == ["EPERM", 0]


@behaviour("capabilities.securebits.no-setuid-fixup")
def test_no_change_with_the_user(in_child: InChild, seen: Seen) -> None:
    """With SECBIT_NO_SETUID_FIXUP permitted, effective and ambient sets stay when user IDs change."""

    def change() -> list[bool]:
        capset(*capget()[:2], bit(KILL))
        raise_ambient(KILL)
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        names = ("CapPrm", "CapEff", "CapAmb")
        before = [status_bits(name) for name in names]
        set_uids(USER, USER, USER)
        away = [status_bits(name) for name in names]
        set_uids(0, 0, 0)
        return [away == before, [status_bits(name) for name in names] == before, all(before)]

    assert seen(in_child(change)) == [True, True, True]


@behaviour("capabilities.securebits.noroot")
def test_root_is_nobody_special(after_exec: AfterExec, seen: Seen) -> None:
    """With SECBIT_NOROOT root gains nothing from a plain program."""
    status = after_exec(lambda: prctl(PR_SET_SECUREBITS, SECBIT_NOROOT))
    assert seen([status.words("Uid")[1], status.bits("CapPrm"), status.bits("CapEff")]) == ["0", 0, 0]


@behaviour("capabilities.securebits.locked-flag-is-final")
def test_lock_is_final(in_child: InChild, seen: Seen) -> None:
    """A locked securebit, and its lock, can't be cleared: EPERM."""
    both = SECBIT_NOROOT | SECBIT_NOROOT << LOCKED

    def unlock() -> list[object]:
        prctl(PR_SET_SECUREBITS, both)
        answers = [
            seen.errno_of(prctl, PR_SET_SECUREBITS, each) for each in (SECBIT_NOROOT << LOCKED, SECBIT_NOROOT, 0)
        ]
        return [*answers, prctl(PR_GET_SECUREBITS) == both]

    assert seen(in_child(unlock)) == ["EPERM", "EPERM", "EPERM", True]


@behaviour("capabilities.securebits.needs-setpcap")
def test_securebits_need_a_capability(without: Without, seen: Seen) -> None:
    """Without CAP_SETPCAP securebits can't be set: EPERM."""
    answers = without(
        SETPCAP, lambda: [seen.errno_of(prctl, PR_SET_SECUREBITS, SECBIT_NOROOT), prctl(PR_GET_SECUREBITS)]
    )
    assert seen(answers) == ["EPERM", 0]


@behaviour("capabilities.securebits.invalid-value")
def test_bit_that_is_no_securebit(in_child: InChild, seen: Seen) -> None:
    """A bit that names no securebit gives EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(prctl, PR_SET_SECUREBITS, 1 << 20))) == "EINVAL"


@behaviour("nnp.prctl.set-only-one")
def test_no_new_privs_is_one(in_child: InChild, seen: Seen) -> None:
    """PR_SET_NO_NEW_PRIVS takes 1 alone: 2 and 0 give EINVAL, also once it is set."""

    def set_all() -> list[object]:
        answers = [seen.errno_of(prctl, PR_SET_NO_NEW_PRIVS, each) for each in (2, 0, 1, 0)]
        return [*answers, prctl(PR_GET_NO_NEW_PRIVS)]

    assert seen(in_child(set_all)) == ["EINVAL", "EINVAL", "no error", "EINVAL", 1]


@behaviour("nnp.prctl.inherited")
def test_no_new_privs_goes_on(in_child: InChild, after_exec: AfterExec, seen: Seen) -> None:
    """no_new_privs is set in a child and after execve, as /proc tells."""

    def fork() -> list[str]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, f"{prctl(PR_GET_NO_NEW_PRIVS)}{status_words('NoNewPrivs')[0]}".encode())
            os._exit(0)
        os.wait()
        return list(os.read(reader, 10).decode())

    executed = after_exec(lambda: prctl(PR_SET_NO_NEW_PRIVS, 1)).words("NoNewPrivs")
    assert seen([*in_child(fork), *executed]) == ["1", "1", "1"]


@behaviour("nnp.exec.setuid-bit-ignored")
def test_set_user_id_bit_does_nothing(after_exec: AfterExec, program: Path, seen: Seen) -> None:
    """With no_new_privs a set-user-ID-root program runs, as the user who started it; without as root."""
    program.chmod(0o4755)

    def prepare(nnp: bool) -> None:
        if nnp:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        become_user_with(0)

    users = [after_exec(partial(prepare, nnp), program).words("Uid")[1] for nnp in (True, False)]
    assert seen(users) == [str(USER), "0"]


@behaviour("nnp.exec.file-caps-ignored")
def test_capabilities_of_a_file_do_nothing(after_exec: AfterExec, file_with: FileWith, seen: Seen) -> None:
    """With no_new_privs a file's permitted capabilities are not gained; without they are."""
    program = file_with(permitted=bit(KILL))

    def prepare(nnp: bool) -> None:
        if nnp:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        become_user_with(0)

    assert seen([after_exec(partial(prepare, nnp), program).bits("CapPrm") for nnp in (True, False)]) == [
        0,
        bit(KILL),
    ]


@behaviour("nnp.exec.setuid-call-still-works")
def test_user_can_still_change(in_child: InChild, seen: Seen) -> None:
    """no_new_privs does not keep root from becoming a user."""

    def become() -> list[str]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        set_uids(USER, USER, USER)
        return [*status_words("NoNewPrivs"), *status_words("Uid")]

    assert seen(in_child(become)) == ["1", *[str(USER)] * 4]
