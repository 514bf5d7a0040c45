"""How the helper that makes containers is made, each rule with the wrong way first."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from kernelproof.impl.libcontainer.operations import StartError
from kernelproof.impl.libcontainer.process import helper as helping
from kernelproof.impl.libcontainer.process.channel import open_channel
from kernelproof.impl.libcontainer.process.helper import Helper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux's")


class ForkedHelper(Helper):
    """Made by a fork of this program."""

    def __init__(self) -> None:
        ours, theirs = open_channel()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            theirs.receive()
            os._exit(0)
        theirs.close()
        self._channel = ours


@pytest.mark.rule("K9", ours=Helper, wrong=ForkedHelper)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_is_forked(subject: Callable[[], Helper]) -> None:
    """Making a helper runs no fork handler of this program."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    made = subject()
    made.close()
    assert forks == []


class DiesWithThread(Helper):
    """Made to die with its parent, as PR_SET_PDEATHSIG has it: with the thread."""

    def __init__(self) -> None:
        program = "import ctypes; ctypes.CDLL(None).prctl(1, 9); " + helping._PROGRAM
        kept, helping._PROGRAM = helping._PROGRAM, program
        try:
            super().__init__()
        finally:
            helping._PROGRAM = kept


@pytest.fixture
def from_thread() -> Iterator[Callable[[Callable[[], Helper]], Helper]]:
    """Makes a helper in a thread that is gone afterwards."""
    made: list[Helper] = []

    def make(how: Callable[[], Helper]) -> Helper:
        def begin() -> None:
            made.append(how())
            made[0].await_ready()

        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        while os.path.exists(f"/proc/self/task/{thread.native_id}"):  # Python's thread is gone before the kernel's
            os.sched_yield()
        return made[0]

    yield make
    for one in made:
        one.close()


@pytest.mark.rule("K8", ours=Helper, wrong=DiesWithThread, raises=StartError)
def test_a_helper_outlives_its_thread_not_its_maker(
    subject: Callable[[], Helper], from_thread: Callable[[Callable[[], Helper]], Helper]
) -> None:
    """It serves after the thread that made it has ended, and ends when its channel does."""
    helper = from_thread(subject)
    answer = helper.ask("execute", {"root": "/nowhere", "id": "box"}, [os.open("/dev/null", os.O_RDONLY)])
    assert answer.kind == "failed"
    pidfd = os.pidfd_open(helper.pid)
    helper._channel.close()
    assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED) is not None
    os.close(pidfd)
    helper.pid = -1
