"""The terminal of a container: a pair from its own devpts, bound on /dev/console by descriptor."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl.libcontainer.config.records import ConsoleSize, Mount, Process, User

pytestmark = pytest.mark.machine

MOUNTS = (
    Mount("/proc", "proc", "proc", ()),
    Mount("/dev", "tmpfs", "tmpfs", ("mode=755", "ro")),
    Mount("/dev/pts", "devpts", "devpts", ("ptmxmode=0666", "mode=0620", "gid=5")),
)


def test_terminal_is_the_container_s_own(container: Any) -> None:
    """/dev/console is pseudoterminal 0 of the container's devpts, of the process's user and of the size asked."""
    config = container.config(MOUNTS, terminal=True)
    size = ConsoleSize(height=33, width=111)
    config = config.replace(process=Process("/", ("sh",), user=User(7, 8), terminal=True, console_size=size))

    def look() -> list[object]:
        console, pts = os.stat("/dev/console"), os.stat("/dev/pts/0")
        fd = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
        same = (console.st_dev, console.st_ino) == (pts.st_dev, pts.st_ino)
        return [same, console.st_rdev == os.makedev(136, 0), pts.st_uid, pts.st_gid, rows, columns]

    assert container.run(config, look) == [True, True, 7, 5, 33, 111]


def test_without_devpts_there_is_none(container: Any) -> None:
    """A terminal without a devpts is refused, with what is missing; one on a wrong filesystem too."""
    refused = container.run(container.config(MOUNTS[:2], terminal=True))
    assert (refused.operation, refused.errno) == ("OpenTerminal", errno.ENOENT)
    assert "devpts" in refused.text
    (container.image / "dev/pts").mkdir()
    os.mknod(container.image / "dev/pts/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    refused = container.run(container.config(terminal=True))
    assert (refused.operation, refused.kind) == ("OpenTerminal", "NotPseudoterminalError")


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_console_that_is_no_file(container: Any, kind: str) -> None:
    """A link to the host, or a directory, in the place of the console is refused; the host's file stays."""
    place = container.image / "dev/console"
    if kind == "link":
        place.symlink_to(str(container.sentinel))
    else:
        place.mkdir()
    (container.image / "dev/pts").mkdir()
    refused = container.run(container.config([MOUNTS[0], MOUNTS[2]], terminal=True))
    assert refused.operation == "BindConsole", refused
    assert refused.kind == "UnsafePathError"


def test_console_file_is_kept(container: Any) -> None:
    """An empty file that an image has there is mounted on, and untouched below."""
    (container.image / "dev/console").write_text("")
    seen = container.run(
        container.config([MOUNTS[0], MOUNTS[2]], terminal=True), lambda: stat.S_ISCHR(os.stat("/dev/console").st_mode)
    )
    assert seen is True
    assert (container.image / "dev/console").read_text() == ""
    assert not mount.mounted(container.image / "dev/console")
