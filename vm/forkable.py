"""Tries whether this host lets machines be forked: with a QEMU that has no machine, and greets in 0.1 s."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.linked import Linked, NotLinked
from kernelproof.vm.process import Spawner
from kernelproof.vm.standing import NotStanding, find_numbers, identify

GREETING_SECONDS = 30.0
_WORDS = ("-nodefaults", "-no-user-config", "-nographic", "-machine", "none", "-accel", "tcg")


def why_not(executable: str) -> str:
    """Why machines of this QEMU can't be forked here; empty if they can.

    Args:
        executable: Absolute path of it; of any other program it is only tried whether that can be linked once.
    """
    try:
        Linked.start(executable, {}).close()
        if os.path.basename(executable).startswith("qemu-system-"):
            _fork_once(executable)
    except (NotLinked, NotStanding, ProvisionError, OSError) as error:
        return str(error)
    return ""


def _fork_once(executable: str) -> None:
    spawner = Spawner()
    with ExitStack() as made:
        ours, theirs = map(made.enter_context, socket.socketpair())
        sending, receiving = map(made.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        nothing = made.enter_context(open(os.devnull, "wb")).fileno()
        numbers = (theirs.fileno(), receiving.fileno())
        files = [identify(os.fstat(number)) for number in numbers]
        monitor = ("-chardev", f"socket,id=qmp,fd={numbers[0]}", "-mon", "chardev=qmp,mode=control")
        child = spawner.spawn(
            (executable, *_WORDS, *monitor), descriptors=numbers, errors=nothing, environment={"LC_ALL": "C"}
        )
        made.callback(child.close)
        theirs.close()
        ours.settimeout(GREETING_SECONDS)
        if not ours.recv(1 << 16):
            raise NotStanding(f"{executable} ended before it greeted")
        found = find_numbers(child.pid)
        standing = spawner.stand(child, sending, found[files[1]][0], [found[files[0]], [1, 2]])
        made.callback(standing.close)
        spawner.fork(standing, (ours.fileno(), nothing)).close()
