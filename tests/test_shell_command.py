"""`kernelproof shell` at a pseudoterminal, with the guest's agent in a process of this host."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.cli import shell
from kernelproof.cli.shell import Escape, Escaped, plan_program
from kernelproof.impl.term import LEAVE
from kernelproof.vm.tests.pseudoterminal import SECONDS, Person, sit_at

LOCAL = [sys.executable, str(Path(__file__).with_name("local_command.py")), "shell", "-q"]
# Tells its terminal's size whenever that changes, and what line ends it.
SIZES = """
import os, select, signal, sys
reading, writing = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writing)  # so that a signal that comes right before a wait ends it
def tell(*_):
    size = os.get_terminal_size()
    os.write(1, b"%d %d\\n" % (size.lines, size.columns))  # print can't be entered again by a signal
signal.signal(signal.SIGWINCH, tell)
tell()
while 0 not in select.select([0, reading], [], [])[0]:
    os.read(reading, 100)
if sys.stdin.readline() == "end\\n":
    sys.exit(7)
"""
READY = ("sh", "-c", "echo ready; exec cat")


def has_terminals() -> bool:
    """Whether this host gives pseudoterminals; a minimal root may not."""
    try:
        for descriptor in os.openpty():
            os.close(descriptor)
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_terminals(), reason="not applicable: no pseudoterminals here")


def test_program_at_a_terminal() -> None:
    """The program has a terminal of the user's size, follows its changes, and its status is the command's."""
    with sit_at([*LOCAL, "--", sys.executable, "-c", SIZES], rows=33, columns=101) as person:
        before = person.attributes()
        person.read_until(b"33 101\r\n")
        assert person.is_raw()
        person.resize(40, 132)
        person.read_until(b"40 132\r\n")
        person.type(b"end\n")
        assert person.wait() == 7
        assert person.attributes() == before


def test_keys_belong_to_the_program() -> None:
    """Ctrl-C and Ctrl-D reach the program's terminal, not ours."""
    with sit_at([*LOCAL, "--", *READY]) as person:
        person.read_until(b"ready")
        person.type(b"\x04")
        assert person.wait() == 0
    with sit_at([*LOCAL, "--", *READY]) as person:
        person.read_until(b"ready")
        person.type(b"\x03")
        assert person.wait() == 128 + signal.SIGINT


def end_by(number: int) -> Callable[[Person], None]:
    return lambda person: person.process.send_signal(number)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (end_by(signal.SIGTERM), 128 + signal.SIGTERM),
        (end_by(signal.SIGHUP), 128 + signal.SIGHUP),
        (end_by(signal.SIGQUIT), 128 + signal.SIGQUIT),
        (end_by(signal.SIGKILL), -signal.SIGKILL),
        (lambda person: person.type(b"\x1d\x1d\x1d"), 125),
    ],
    ids=["term", "hup", "quit", "kill", "escape"],
)
def test_terminal_is_restored(end: Callable[[Person], None], status: int) -> None:
    """However it ends, the terminal is as it was."""
    with sit_at([*LOCAL, "--", *READY]) as person:
        before = person.attributes()
        person.read_until(b"ready")
        assert person.is_raw()
        end(person)
        assert person.wait() == status
        deadline = time.monotonic() + SECONDS
        while person.attributes() != before:  # after SIGKILL another process does it
            assert time.monotonic() < deadline
            select.select([], [], [], 0.01)  # nothing tells that attributes have changed


def test_lost_machine() -> None:
    """A machine that is lost leaves the terminal as it was, says what full-screen programs can't, and why: 125."""
    with sit_at([*LOCAL, "--", *READY], KERNELPROOF_LOSE="1") as person:
        before = person.attributes()
        assert person.wait() == 125
        assert person.attributes() == before
        shown = person.seen
        assert LEAVE in shown
        assert shown.index(LEAVE) < shown.index(b"Oops: 0000") < shown.index(b"machine lost (panic)")


def test_stop_and_go_on() -> None:
    """Stopped from outside it gives the terminal back, and takes it again with the size that it has then."""
    # A shell with job control above it: what has no such parent can't be stopped.
    inner = ["sh", "-c", 'echo pid $$; exec "$@"', "sh", *LOCAL, "--", sys.executable, "-c", SIZES]
    outer = ["sh", "-mc", '"$@"; echo stopped; read -r go; fg >/dev/null; echo status $?', "sh", *inner]
    with sit_at(outer) as person:
        person.read_until(b"pid ")
        pid = int(person.read_until(b"\r\n"))
        person.read_until(b"24 80")
        os.kill(pid, signal.SIGTSTP)
        person.read_until(b"stopped")
        assert not person.is_raw()
        person.resize(50, 150)
        person.type(b"\n")
        person.read_until(b"50 150")
        assert person.is_raw()
        person.type(b"end\n")
        person.read_until(b"status 7")


def test_absent_program() -> None:
    """A program that is not there is told: 127."""
    with sit_at([*LOCAL, "--", "kernelproof-absent"]) as person:
        assert person.wait() == 127
        assert b"No such file or directory: 'kernelproof-absent': name a program of the guest" in person.seen


def test_no_terminal() -> None:
    """Without a terminal it says what to use instead: 2."""
    done = subprocess.run(LOCAL, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "kernelproof run" in done.stderr


def test_one_kernel() -> None:
    """A word that means several kernels is refused."""
    with sit_at([*LOCAL, "--kernel", "all"]) as person:
        assert person.wait() == 1
        assert b"name one" in person.seen


# --- pure


@pytest.mark.parametrize(
    ("typed", "escapes"),
    [
        ([b"\x1d\x1d\x1d"], True),
        ([b"a\x1d", b"\x1d", b"\x1db"], True),
        ([b"\x1d\x1da\x1d"], False),
        ([b"\x1d\x1d"], False),
    ],
    ids=["at-once", "apart", "between", "two"],
)
def test_escape(typed: list[bytes], escapes: bool) -> None:
    """The way out is the same key three times, with nothing in between."""
    escape = Escape()

    def type_all() -> None:
        for data in typed:
            escape.see(data)

    if escapes:
        with pytest.raises(Escaped):
            type_all()
    else:
        type_all()


def test_escape_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are far apart are no way out: of these five the last three are, within a second."""
    escape = Escape()
    clock = iter([10.0, 10.9, 11.1, 11.2, 11.3])
    monkeypatch.setattr("kernelproof.cli.shell.time.monotonic", lambda: next(clock))
    for _ in range(4):
        escape.see(b"\x1d")
    with pytest.raises(Escaped):
        escape.see(b"\x1d")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest learns the kind of terminal, if it has a plain name, and shows its kernel in the prompt."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "$(reboot)")
    program = plan_program([], "6.12.118+deb13-cloud-amd64", (24, 80), "~")
    assert program.environment == {"TERM": "xterm-256color", "PS1": r"6.12.118:\w\$ "}
    assert program.programs == shell.SHELLS
    assert plan_program(["a", "b"], "x", (24, 80), None).programs == (("a", "b"),)
