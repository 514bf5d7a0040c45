"""A made-up session of pytest, run a few times before the template is made: every clone finds its code warm.

Python rewrites the instructions of a function while it runs the first few times; a clone that finds that done runs
less code, and under TCG each piece of code that runs for the first time has to be translated. Half of what a short
test costs is that. No code of any project runs here, and what the rehearsal changed of the process is put back.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from kernelproof.vm.guest.frames import encode_message
from kernelproof.vm.guest.mounting import BIND, DETACH, NEW_NAMESPACES, PRIVATE, RECURSIVE, mount, unmount, unshare
from kernelproof.vm.guest.port import Port
from kernelproof.vm.guest.session import serve_session

SESSIONS = 2
ITEMS = 4  # a function's instructions settle within three runs of it

_MOST_SECONDS = 30  # of the guest's time, as the next
_SETTLING_SECONDS = 0.2  # the kernel ends namespaces when it finds time, and tells nobody
_COMMANDS = (
    ("true",),
    ("ip", "-json", "link", "show"),
    (sys.executable, "-I", "-S", "-c", "pass"),
)
# A dump of all links: `struct nlmsghdr` (RTM_GETLINK, NLM_F_REQUEST and NLM_F_DUMP), `struct rtgenmsg`.
_ALL_LINKS = struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, 0)

_MODULE = "test_rehearsal"
_TEST = f"""
import pytest

@pytest.mark.parametrize("turn", range({ITEMS}))
def test_nothing(turn: int) -> None:
    print("a word")
    assert turn >= 0
"""


def rehearse(on_wake: Callable[[Mapping[str, object]], None]) -> None:
    """Run the made-up sessions.

    Args:
        on_wake: As `Port` takes it; called with the time that it is.

    Raises:
        RuntimeError: pytest did not run its items as it should.
        OSError: no room for a file of a few lines.
    """
    for _ in range(SESSIONS):
        with _restored(), tempfile.TemporaryDirectory(prefix="kernelproof-rehearsal-") as folder:
            _run_session(folder, on_wake)
    subprocess.run([shutil.which("true") or "/bin/true"], check=True, capture_output=True)


def rehearse_apart(on_wake: Callable[[Mapping[str, object]], None], more: Callable[[], object]) -> None:
    """Run a made-up session, and what many tests do, in a child: nothing stays but that its code was run once.

    What the child leaves to the kernel, to end namespaces for one, is over when this returns.

    Args:
        on_wake: As `Port` takes it.
        more: What the session's plugins have to rehearse; run last.
    """
    child = os.fork()
    if not child:
        try:
            _act(on_wake)
            more()
        finally:
            os._exit(0)
    _wait_for(child)
    time.sleep(_SETTLING_SECONDS)


def _wait_for(child: int) -> None:
    # A thread of some plugin may have held a lock that the child waits for in vain.
    with suppress(OSError):
        descriptor = os.pidfd_open(child)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(_MOST_SECONDS * 1000):
                os.kill(child, signal.SIGKILL)
        finally:
            os.close(descriptor)
    os.waitpid(child, 0)


def _act(on_wake: Callable[[Mapping[str, object]], None]) -> None:
    unshare(NEW_NAMESPACES)
    mount("none", "/", None, RECURSIVE | PRIVATE)
    _cover(tempfile.gettempdir(), [*sys.path, os.getcwd()])
    with tempfile.TemporaryDirectory(prefix="kernelproof-rehearsal-") as folder:
        _run_session(folder, on_wake)
        with suppress(OSError):
            _mount_something(folder)
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.sendall(_ALL_LINKS)
        netlink.recv(1 << 16)
    for command in _COMMANDS:
        with suppress(OSError):
            subprocess.run(command, check=False, capture_output=True)


def _cover(folder: str, needed: Iterable[str]) -> None:
    # A file system over a folder, so that nothing is left in it, however this ends. What is needed stays where it is:
    # a project below it is imported from by the programs that its plugins start.
    folder = os.path.realpath(folder)
    kept: dict[str, int] = {}
    for path in sorted(set(map(os.path.realpath, needed))):
        is_below = path.startswith(f"{folder}/") and not any(path.startswith(f"{above}/") for above in kept)
        if is_below and os.path.isdir(path):
            kept[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
    mount("none", folder, "tmpfs")
    for path, descriptor in kept.items():
        os.makedirs(path)
        mount(f"/proc/self/fd/{descriptor}", path, None, BIND)
        os.close(descriptor)


def _mount_something(folder: str) -> None:
    places = [os.path.join(folder, name) for name in ("here", "there")]
    for place in places:
        os.mkdir(place)
    mount("none", places[0], "tmpfs")
    with open(os.path.join(places[0], "file"), "wb") as file:
        file.write(b"a few words")
    mount(places[0], places[1], None, BIND)
    for place in reversed(places):
        unmount(place, DETACH)


def _run_session(folder: str, on_wake: Callable[[Mapping[str, object]], None]) -> None:
    path = os.path.join(folder, f"{_MODULE}.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(_TEST)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for turn in range(ITEMS):
            theirs.sendall(encode_message(_item(turn)))
        theirs.shutdown(socket.SHUT_WR)
        plugins = ["kernelproof.vm.guest.fixtures"]
        request: dict[str, object] = {
            "directory": folder,
            "arguments": [path],
            "plugins": plugins,
            "options": {"capture": "fd"},
        }
        request |= {"rootdir": folder, "inifile": None, "environment": {}, "first": []}
        serve_session(Port(ours.fileno(), on_wake), request)
        theirs.setblocking(False)
        answers = theirs.recv(1 << 20)
    if answers.count(b'"item-done"') != ITEMS or answers.count(b'"outcome":"passed"') != 3 * ITEMS:
        raise RuntimeError(f"rehearsal of pytest: {answers.decode('utf-8', 'replace')}")


def _item(turn: int) -> dict[str, object]:
    wake = {"clock_ns": time.time_ns(), "entropy": os.urandom(32).hex(), "seed": turn}
    return {"kind": "item", "nodeid": f"{_MODULE}.py::test_nothing[{turn}]", "seed": turn, "data": {}, "wake": wake}


@contextmanager
def _restored() -> Iterator[None]:
    environment, path, modules, directory = dict(os.environ), list(sys.path), set(sys.modules), os.getcwd()
    bytecode, state = sys.dont_write_bytecode, random.getstate()
    try:
        yield
    finally:
        faulthandler.disable()
        gc.unfreeze()
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        random.setstate(state)
        if _MODULE not in modules:
            sys.modules.pop(_MODULE, None)
