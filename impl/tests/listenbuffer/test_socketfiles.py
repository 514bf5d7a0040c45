"""Files of unix sockets: whose they are, who replaces them, and who removes them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import GatedListener, listen, listening
from kernelproof.impl.listenbuffer.listening import Choices, who_listens_at


def serve_plainly(path: str) -> socket.socket:
    """Remove what is there, then bind: what start-up code does."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(path)
    bound.listen()
    return bound


def serve_ours(path: str) -> socket.socket:
    """Ours."""
    return listen(f"unix:{path}")


@pytest.mark.rule("L4", ours=serve_ours, wrong=serve_plainly, raises=pytest.fail.Exception)
def test_a_live_socket_is_not_taken_away(tmp_path: Path, subject: Callable[[str], socket.socket]) -> None:
    """A second server on the path of a live one is refused, and the first one is still reached there."""
    path = str(tmp_path / "x.sock")
    with closing(serve_ours(path)) as first:
        with pytest.raises(OSError, match="in use"):
            subject(path).close()
        assert who_listens_at(path, socket.SOCK_STREAM) is not None
        assert isinstance(first, GatedListener)


class ClosesAndRemoves:
    """Remove the path at close, whoever's it is now."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bound = serve_plainly(path)

    def close(self) -> None:
        """Close and remove."""
        self.bound.close()
        os.unlink(self.path)


@pytest.mark.rule("L4", ours=serve_ours, wrong=ClosesAndRemoves, raises=FileNotFoundError)
def test_only_the_own_file_is_removed(tmp_path: Path, subject: Callable[[str], socket.socket]) -> None:
    """A listener that ends after another one took its path leaves the other one's file."""
    path = str(tmp_path / "x.sock")
    old = subject(path)
    os.unlink(path)
    with closing(serve_ours(path)):
        old.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    assert not os.path.lexists(path)


@pytest.mark.rule("L4")
def test_a_stale_file_is_replaced_by_renaming(tmp_path: Path) -> None:
    """A path at which nobody listens is taken over with its mode, at no moment missing; unless told not to."""
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(OSError, match="in use") as caught:
        listen(f"unix:{path}", unlink_stale=False)
    assert "unlink_stale=True" in caught.value.__notes__[0]
    before = os.stat(path).st_ino
    with listen(f"unix:{path}", mode=0o640) as listener:
        assert os.stat(path).st_ino != before
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        assert listener.address.path == path
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.rule("L4")
def test_a_stale_file_of_the_longest_name_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that has no room for a longer one beside it is replaced in the same way."""
    monkeypatch.chdir(tmp_path)
    path = "x" * 107
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with listen(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.rule("L4")
def test_of_many_starters_one_replaces_a_stale_file(tmp_path: Path) -> None:
    """Of eight that start at once on a stale path exactly one listens there, and it is the one that is reached."""
    path = str(tmp_path / "x.sock")
    for _ in range(5):
        with suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        barrier = threading.Barrier(8)
        won: list[GatedListener] = []

        def start(barrier: threading.Barrier = barrier, won: list[GatedListener] = won) -> None:
            barrier.wait()
            with suppress(OSError):
                won.append(listen(f"unix:{path}"))

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            assert (won[0].pending() or 0) >= 1  # those who looked whether it lives are in the queue too
        won[0].close()


@pytest.mark.rule("L4")
def test_who_does_not_listen_yet_is_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who comes between another's bind(2) and listen(2) waits, and is told then that the path is in use."""
    set_file, found = listening._set_file, list[object]()

    def come() -> None:
        try:
            found.append(listen(f"unix:{tmp_path}/x.sock"))
        except OSError as error:
            found.append(error.__notes__)

    def between(path: str, choices: Choices) -> None:
        if thread.ident is None:
            thread.start()
            while thread.is_alive() and not waits_for_a_lock(tmp_path):
                time.thread_time()
        set_file(path, choices)

    thread = threading.Thread(target=come)
    monkeypatch.setattr(listening, "_set_file", between)
    with listen(f"unix:{tmp_path}/x.sock") as first:
        thread.join()
        (notes,) = found
        assert isinstance(notes, list)
        assert f"in use by pid {os.getpid()}" in notes[0]
        assert first.pending() == 1  # the look whether it lives


def waits_for_a_lock(directory: Path) -> bool:
    """Whether somebody waits for the lock on a directory."""
    inode = f":{directory.stat().st_ino} "
    return any("-> FLOCK" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.rule("L4")
def test_a_relative_path_is_removed_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a relative path is removed though the working directory is another one by then."""
    monkeypatch.chdir(tmp_path)
    with listen("unix:x.sock") as listener:
        assert str(listener.address) == "unix:x.sock"
        monkeypatch.chdir("/")
    assert os.listdir(tmp_path) == []


IN_DIRECTORIES = """
import encodings.idna, os, socket, sys
from kernelproof.impl.listenbuffer import listen
os.setgroups([]); os.setgid(65534); os.setuid(65534)
directory, unreadable = sys.argv[1:]
for stale in False, True:
    if stale:
        socket.socket(socket.AF_UNIX).bind(f"{directory}/x.sock")
    try:
        listen(f"unix:{directory}/x.sock", group=0)
    except PermissionError as error:
        print(error.errno, os.listdir(directory))
listen(f"unix:{unreadable}/x.sock").close()
socket.socket(socket.AF_UNIX).bind(f"{unreadable}/x.sock")
try:
    listen(f"unix:{unreadable}/x.sock")
except OSError as error:
    print(error.errno, error.__notes__[0].partition(": ")[2])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_what_a_user_may_not() -> None:
    """A group that may not be given leaves no file; where a directory may not be read, a new path is listened at."""
    with tempfile.TemporaryDirectory() as made:  # not pytest's, which other users may not reach
        os.chmod(made, 0o755)
        for name, mode in (("d", 0o777), ("u", 0o733)):
            os.mkdir(f"{made}/{name}")
            os.chmod(f"{made}/{name}", mode)
        command = [sys.executable, "-W", "ignore", "-c", IN_DIRECTORIES, f"{made}/d", f"{made}/u"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    remedy = "nobody listens there any more, but its directory may not be locked: remove it"
    assert done.stdout.splitlines() == ["1 []", "1 ['x.sock']", f"98 {remedy}"]


def test_mode_and_owner(tmp_path: Path) -> None:
    """The file has the mode that was asked for, whatever the umask, and the owner; without one the umask decides."""
    path = tmp_path / "x.sock"
    old = os.umask(0o077)
    try:
        with listen(f"unix:{path}", mode=0o666, owner=os.geteuid(), group=os.getegid()):
            status = path.stat()
            assert stat.S_IMODE(status.st_mode) == 0o666
            assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        with listen(f"unix:{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
    finally:
        os.umask(old)


WITHOUT_PRIVILEGES = """
import encodings.idna, os, sys
from kernelproof.impl.listenbuffer import listen
listener = listen(f"unix:{sys.argv[1]}/x.sock", mode=0o666)
os.setgid(65534); os.setuid(65534)
for _ in range(2):
    try:
        listener.close()
        print("closed")
    except PermissionError as error:
        print(error.errno, listener.real_fileno())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_file_that_may_not_be_removed(tmp_path: Path) -> None:
    """A listener whose file stays, as privileges were given up since, is closed all the same, and says so once."""
    command = [sys.executable, "-c", WITHOUT_PRIVILEGES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["13 -1", "closed"]
