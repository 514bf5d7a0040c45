"""Installing filters: who may, which programs are taken, whom they hold."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_words
from kernelproof.conformance.security import filters
from kernelproof.conformance.security.conftest import become_user_with
from kernelproof.conformance.security.filters import RETURN_ALLOW, errno_action, install, long_program, probe
from kernelproof.impl._syscalls import seccomp as calls
from kernelproof.impl._syscalls.prctl import PR_GET_SECCOMP, prctl
from kernelproof.impl.libcontainer.config.records import Seccomp
from kernelproof.impl.libcontainer.security.seccomp import compile_seccomp

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.security.conftest import AfterExec, Ending
    from kernelproof.conformance.seen import Seen


@behaviour("seccomp.strict.other-call-kills")
def test_strict_mode_kills(ending: Ending, seen: Seen) -> None:
    """Under strict mode write and exit work, and any other call ends the process by SIGKILL."""

    def leave_at_once() -> None:
        calls.seccomp(calls.SET_MODE_STRICT)
        os.getppid()
        os._exit(3)

    assert seen(ending(leave_at_once)) == -signal.SIGKILL


@behaviour("seccomp.strict.flags-and-args")
def test_strict_mode_takes_nothing(in_child: InChild, seen: Seen) -> None:
    """Strict mode with flags or with an argument gives EINVAL."""

    def ask() -> list[str]:
        return [
            seen.errno_of(calls.seccomp, calls.SET_MODE_STRICT, 1),
            seen.errno_of(calls.seccomp, calls.SET_MODE_STRICT, 0, bytes(16)),
            *status_words("Seccomp"),
        ]

    assert seen(in_child(ask)) == ["EINVAL", "EINVAL", "0"]


@behaviour("seccomp.strict.after-filter")
def test_strict_mode_after_a_filter(in_child: InChild, seen: Seen) -> None:
    """Strict mode is refused with EINVAL once a filter is there."""

    def ask() -> list[str]:
        calls.set_filter(RETURN_ALLOW)
        return [seen.errno_of(calls.seccomp, calls.SET_MODE_STRICT), *status_words("Seccomp")]

    assert seen(in_child(ask)) == ["EINVAL", "2"]


@behaviour("seccomp.filter.needs-privilege-or-nnp")
def test_filter_needs_a_right(in_child: InChild, seen: Seen) -> None:
    """A user without CAP_SYS_ADMIN gets EACCES, and with no_new_privs the filter."""

    def ask() -> list[str]:
        become_user_with(0)
        first = seen.errno_of(calls.set_filter, RETURN_ALLOW)
        filters.forbid_new_privileges()
        return [first, seen.errno_of(calls.set_filter, RETURN_ALLOW), *status_words("Seccomp")]

    assert seen(in_child(ask)) == ["EACCES", "no error", "2"]


@behaviour("seccomp.filter.unknown-operation")
def test_unknown_operation(seen: Seen) -> None:
    """An operation that is none gives EINVAL."""
    assert seen([seen.errno_of(calls.seccomp, each, 0) for each in (99, 2**31)]) == ["EINVAL", "EINVAL"]


@behaviour("seccomp.filter.unknown-flag")
def test_unknown_flag(in_child: InChild, seen: Seen) -> None:
    """A flag that is none gives EINVAL, and the typed layer does not know its name."""
    answer = in_child(lambda: [seen.errno_of(calls.set_filter, RETURN_ALLOW, 1 << 20), *status_words("Seccomp")])
    assert seen(answer) == ["EINVAL", "0"]
    with pytest.raises(ValueError, match="there is no flag"):
        compile_seccomp(Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_NONE",)))


@behaviour("seccomp.filter.empty-program")
def test_empty_program(in_child: InChild, seen: Seen) -> None:
    """A program without instructions gives EINVAL."""
    assert seen(in_child(lambda: [seen.errno_of(calls.set_filter, b""), *status_words("Seccomp")])) == ["EINVAL", "0"]


@behaviour("seccomp.filter.program-length-limit")
def test_longest_program(in_child: InChild, seen: Seen) -> None:
    """4096 instructions are taken, 4097 give EINVAL."""

    def ask() -> list[str]:
        lengths = (4097, 4096)
        return [*(seen.errno_of(calls.set_filter, long_program(each)) for each in lengths), *status_words("Seccomp")]

    assert seen(in_child(ask)) == ["EINVAL", "no error", "2"]


@behaviour("seccomp.filter.total-length-limit")
def test_longest_programs_together(in_child: InChild, seen: Seen) -> None:
    """Seven filters of 4096 instructions fit, the eighth gives ENOMEM, and a short one fits into the rest."""

    def ask() -> list[str]:
        whole = long_program(4096)
        answers = [seen.errno_of(calls.set_filter, whole) for _ in range(8)]
        return [*answers, seen.errno_of(calls.set_filter, RETURN_ALLOW)]

    assert seen(in_child(ask)) == ["no error"] * 7 + ["ENOMEM", "no error"]


@behaviour("seccomp.filter.unaligned-offset")
def test_place_that_is_no_word(in_child: InChild, seen: Seen) -> None:
    """A load from an offset that is no multiple of four, or from beyond the data, gives EINVAL."""

    def load(offset: int) -> bytes:
        return b"\x20\0\0\0" + offset.to_bytes(4, "little") + RETURN_ALLOW

    offsets = (2, 61, 64, 2**31, 60)
    answers = in_child(lambda: [seen.errno_of(calls.set_filter, load(each)) for each in offsets])
    assert seen(answers) == ["EINVAL"] * 4 + ["no error"]


@behaviour("seccomp.filter.bad-address")
def test_null_program(seen: Seen) -> None:
    """A null pointer for the program gives EFAULT."""
    assert seen.errno_of(calls.seccomp, calls.SET_MODE_FILTER, 0) == "EFAULT"
    assert status_words("Seccomp") == ["0"]


@behaviour("seccomp.filter.inherited-by-fork-and-exec")
def test_filter_goes_on(in_child: InChild, after_exec: AfterExec, seen: Seen) -> None:
    """A filter holds a child, and a program that is executed, which says so itself."""

    def fork() -> list[str]:
        install(errno_action(errno.EXDEV))
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, probe(seen).encode())
            os._exit(0)
        os.wait()
        return [os.read(reader, 20).decode()]

    executed = after_exec(lambda: install(errno_action(errno.EXDEV))).words("Seccomp")
    assert seen([*in_child(fork), *executed]) == ["EXDEV", "2"]


@behaviour("seccomp.query.action-available")
def test_known_actions(seen: Seen) -> None:
    """SECCOMP_GET_ACTION_AVAIL tells a known action from another, which gives EOPNOTSUPP."""

    def ask(action: int) -> str:
        data = action.to_bytes(4, "little")
        return seen.errno_of(calls.seccomp, calls.GET_ACTION_AVAIL, 0, data)

    answers = [ask(each) for each in (0x80000000, 0, 0x00030000, 0x00050000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000)]
    assert seen([*answers, ask(0x12340000)]) == ["no error"] * 7 + [errno.errorcode[errno.EOPNOTSUPP]]
    assert [calls.action_available(each) for each in (0x7FFF0000, 0x12340000)] == [True, False]


@behaviour("seccomp.query.get-mode-in-filter-mode")
def test_mode_is_told(in_child: InChild, seen: Seen) -> None:
    """PR_GET_SECCOMP is 2 under a filter that allows prctl, and 0 without."""

    def ask() -> list[int]:
        before = prctl(PR_GET_SECCOMP)
        install(errno_action(1))
        return [before, prctl(PR_GET_SECCOMP), int(status_words("Seccomp")[0])]

    assert seen(in_child(ask)) == [0, 2, 2]


@behaviour("seccomp.query.get-mode-refused-kills")
def test_mode_is_refused(ending: Ending, seen: Seen) -> None:
    """PR_GET_SECCOMP under a filter that does not allow prctl ends the process by SIGKILL."""

    def ask() -> None:
        install(errno_action(errno.EXDEV), "prctl")
        try:
            prctl(PR_GET_SECCOMP)
        except OSError:
            os._exit(7)

    assert seen(ending(ask)) == -signal.SIGKILL


class Waiting:
    """A thread that makes the probed call when it is told to."""

    def __init__(self, seen: Seen, own_filter: bool = False) -> None:
        self.ready, self.go = threading.Event(), threading.Event()
        self.answer = ""
        self.id = 0
        self._seen, self._own_filter = seen, own_filter
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.ready.wait(30)

    def _run(self) -> None:
        self.id = threading.get_native_id()
        if self._own_filter:
            calls.set_filter(RETURN_ALLOW)
        self.ready.set()
        self.go.wait(30)
        self.answer = probe(self._seen)

    def finish(self) -> str:
        """Let it call, and return what it got."""
        self.go.set()
        self.thread.join()
        return self.answer


@behaviour("seccomp.tsync.applies-to-all-threads")
def test_filter_for_all_threads(in_child: InChild, seen: Seen) -> None:
    """With TSYNC a thread that is there already is under the filter; without it is not."""

    def ask() -> list[str]:
        one = Waiting(seen)
        install(errno_action(errno.EXDEV))
        first = one.finish()
        two = Waiting(seen)  # made by a filtered thread: under the first filter anyway
        install(errno_action(errno.EDOM), flags=calls.FLAG_TSYNC)
        return [first, two.finish()]

    assert seen(in_child(ask)) == ["no error", "EDOM"]


@behaviour("seccomp.tsync.diverged-thread")
def test_thread_with_a_filter_of_its_own(in_child: InChild, seen: Seen) -> None:
    """Where a thread has another filter TSYNC attaches nothing and returns that thread's ID."""

    def ask() -> list[object]:
        other = Waiting(seen, own_filter=True)
        returned = install(errno_action(errno.EXDEV), flags=calls.FLAG_TSYNC)
        return [returned == other.id, probe(seen), other.finish(), status_words("Seccomp")]

    assert seen(in_child(ask)) == [True, "no error", "no error", ["0"]]
