"""Which password of a group counts: that of gshadow, where both files have one."""

from __future__ import annotations

import os
import pty
import select
import time
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.conftest import become_plain
from kernelproof.impl.user import read_group, read_gshadow

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines

# Of "fromshadow" and "fromgroup", by `openssl passwd -6`.
OF_SHADOW = "$6$saltsalt$QWcdW.8i3r6FS1cKcmjwTgYBR8VTfHWLh6ibRVr9pK6VZbSsSBfCsCRatNQsCLRx3H0dhhFNC0lHClw/t7WOO."
OF_GROUP = "$6$saltsalt$m3l.O9tt785KNi2Uap7poAQE7OdNeu0xKbr3Uk6tzhm3iKJmj5mzwPYzhXUmHhGl2/yrWGwBjs96v3TkNotgG/"
SECONDS = 30


def said_by_newgrp(password: str) -> str:
    """Run `id -g` in the group crew by sg(1) as user 4001, who is no member and types a password; what it says."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            become_plain(4001)
            os.execv("/usr/bin/sg", ["sg", "crew", "-c", "id -g"])
        finally:
            os._exit(127)
    said, typed = b"", False
    readable, deadline = select.poll(), time.monotonic() + SECONDS
    readable.register(terminal, select.POLLIN)
    while readable.poll(max(0, deadline - time.monotonic()) * 1000):
        try:
            said += os.read(terminal, 1000)
        except OSError:  # EIO: the other side has ended
            break
        if b"assword:" in said and not typed:
            typed = True
            os.write(terminal, f"{password}\n".encode())
    os.waitpid(pid, 0)
    return said.decode()


@pytest.mark.machine(profile="runtimes")
@behaviour("user.group.gshadow-supersedes")
@pytest.mark.parametrize(
    ("password", "is_taken"),
    [pytest.param("fromshadow", True, id="gshadow"), pytest.param("fromgroup", False, id="group")],
)
def test_password_of_gshadow(add_lines: AddLines, password: str, is_taken: bool, seen: Seen) -> None:
    """Who types the password of gshadow gets into the group, and who types that of group does not."""
    add_lines(
        passwd="ada:x:4001:4001::/:/bin/sh\n",
        group=f"ada:x:4001:\ncrew:{OF_GROUP}:4100:\n",
        gshadow=f"crew:{OF_SHADOW}::\n",
    )
    assert [entry.password for entry in read_group() if entry.name == "crew"] == [OF_GROUP]
    assert [entry.password for entry in read_gshadow() if entry.name == "crew"] == [OF_SHADOW]
    assert seen("4100" in said_by_newgrp(password).split()) == is_taken
