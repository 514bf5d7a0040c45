"""Namespaces of a test: processes that are in new ones, user namespaces with their maps, and callers with less."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from kernelproof.impl._syscalls.capabilities import capget, capset
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kernelproof.conformance.conftest import Companion, InChild, Talk


class Member(Protocol):
    def __call__(self, flags: int, function: Callable[[], Any] | None = None) -> Talk: ...


class InUserNamespace(Protocol):
    def __call__(
        self, function: Callable[[], Any], *, uids: str = ..., gids: str = ..., flags: int = ..., uid: int = ...
    ) -> Any: ...


class Without(Protocol):
    def __call__(self, capability: int, function: Callable[[], Any]) -> Any: ...


@pytest.fixture
def member(companion: Companion) -> Member:
    """Start a process in new namespaces; it waits there, and runs a function whenever it is asked."""

    def start(flags: int, function: Callable[[], Any] | None = None) -> Talk:
        def live(talk: Talk) -> None:
            unshare(flags)
            talk.say()
            while True:
                talk.hear()
                talk.say(function() if function else None)

        talk = companion(live)
        talk.hear()
        return talk

    return start


@pytest.fixture
def in_user_namespace(companion: Companion) -> InUserNamespace:
    """Run a function in a process of a new user namespace with ID maps, and return its value.

    The maps are written from outside, with all capabilities there: each ID below 65536 is mapped to itself. Further
    namespaces may be made with it, and the process may be another user's before.
    """

    def run(
        function: Callable[[], Any],
        *,
        uids: str = "0 0 65536",
        gids: str = "0 0 65536",
        flags: int = 0,
        uid: int = 0,
    ) -> Any:
        def enter(talk: Talk) -> None:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            unshare(CloneFlag.NEWUSER | flags)
            talk.ask()
            talk.say(function())

        talk = companion(enter)
        talk.hear()
        write_maps(talk.pid, uids, gids)
        return talk.ask()

    return run


def live(talk: Talk) -> None:
    """Answer whatever is said with one's pid, for ever."""
    while True:
        talk.hear()
        talk.say(os.getpid())


def write_maps(pid: int | str, uids: str, gids: str) -> None:
    """Give the user namespace of a process its maps."""
    for name, text in (("uid_map", uids), ("gid_map", gids)):
        perform(WriteFile(f"/proc/{pid}/{name}", f"{text}\n"))


@pytest.fixture
def without(in_child: InChild) -> Without:
    """Run a function in a child of root's that lacks one capability, and return its value."""

    def run(capability: int, function: Callable[[], Any]) -> Any:
        def drop_and_call() -> Any:
            effective, permitted, inheritable = (bits & ~(1 << capability) for bits in capget())
            capset(effective, permitted, inheritable)
            return function()

        return in_child(drop_and_call)

    return run


class SecondThread:
    """A thread beside the calling one that only waits, while the block runs."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._go.wait, args=(30,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join()
        task = f"/proc/self/task/{self._thread.native_id}"
        while os.path.exists(task):  # Python's thread is gone before the kernel's
            pass


@pytest.fixture
def second_thread() -> Callable[[], AbstractContextManager[None]]:
    """Give the process a second thread while a block runs."""
    return SecondThread
