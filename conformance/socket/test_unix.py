"""Unix sockets: their files and the descriptors that they carry."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen


@behaviour("socket.unix.umask-mode", subject="stand-in")
def test_socket_file_has_what_the_umask_leaves(tmp_path: Path, in_child: InChild, seen: Seen) -> None:
    """The file of a socket that is bound under umask 0027 has mode 0750, 0777 less the umask."""
    path = tmp_path / "socket"

    def bind_under_umask() -> None:
        os.umask(0o027)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))

    in_child(bind_under_umask)
    mode = path.stat().st_mode
    assert seen(stat.filemode(mode)) == "srwxr-x---"


@behaviour("socket.unix.stale-path", subject="stand-in")
def test_path_outlives_its_socket(tmp_path: Path, seen: Seen) -> None:
    """The path of a listening socket remains when it is closed, and connecting to it is refused: ECONNREFUSED."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            assert seen.errno_of(client.connect, str(path)) == "no error"

    assert stat.S_ISSOCK(path.stat().st_mode)
    with socket.socket(socket.AF_UNIX) as client:
        assert seen.errno_of(client.connect, str(path)) == "ECONNREFUSED"


@behaviour("socket.rights.same-description", subject="stand-in")
def test_passed_descriptor_is_the_same_description(tmp_path: Path) -> None:
    """A descriptor received by SCM_RIGHTS shares its offset and its status flags with the one that was sent."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    sent = os.open(path, os.O_RDWR)
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"x"], [sent])
        _, (received,), _, _ = socket.recv_fds(right, 1, 1)
    assert received != sent
    assert position_and_flags(received) == (0, os.O_RDWR)

    os.lseek(sent, 42, os.SEEK_SET)
    os.set_blocking(sent, False)
    assert position_and_flags(received) == (42, os.O_RDWR | os.O_NONBLOCK)
    for fd in (sent, received):
        os.close(fd)


def position_and_flags(fd: int) -> tuple[int, int]:
    """Return offset and status flags of a descriptor (proc_pid_fdinfo(5)), close-on-exec and large file left out."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines())
    return int(lines["pos"]), int(lines["flags"], 8) & ~(os.O_CLOEXEC | 0o100000)
