"""Lets a process that stands still make another, and hands descriptors to that one."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping, Sequence
from signal import SIGCHLD, SIGKILL

from kernelproof.vm.first_steps import CLONE, CLONE_PARENT
from kernelproof.vm.tracee import Tracee, TraceeEnded

FORK = {"rax": CLONE, "rdi": CLONE_PARENT | SIGCHLD, "rsi": 0, "rdx": 0, "r10": 0, "r8": 0}


class NotTaken(Exception):
    """The new process ended, or never was, without taking what was sent: the next one would get that.

    Args:
        pid: Of the process, if there is one; not yet waited for.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid


def fork(tracee: Tracee, registers: Mapping[str, int], sending: socket.socket, descriptors: Sequence[int]) -> int:
    """Let it run `first_steps.CODE`.

    Args:
        tracee: It stands still.
        registers: What it begins with.
        sending: Descriptors are sent through it.
        descriptors: These.

    Returns:
        The PID of a child of ours, not yet waited for.

    Raises:
        OSError: as fork(2) refuses: EAGAIN, ENOMEM; then as with `NotTaken` nothing may be forked any more.
        NotTaken: see there.
        TraceeEnded: it is gone.
    """
    try:
        socket.send_fds(sending, [b"."], descriptors)
    except ConnectionError as error:
        raise TraceeEnded(tracee.pid) from error
    try:
        pid = tracee.run({**FORK, **registers})
    except OSError as error:  # it can't be reached
        raise TraceeEnded(tracee.pid) from error
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    try:
        taken = _was_taken(sending, pid)
    except BaseException:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
        raise
    if not taken:
        raise NotTaken(pid)
    return pid


def _was_taken(sending: socket.socket, pid: int) -> bool:
    """Wait until the child has its descriptors: the next one must not take them."""
    ended = os.pidfd_open(pid)
    try:
        waiting = select.poll()
        for descriptor in (sending.fileno(), ended):
            waiting.register(descriptor, select.POLLIN)
        ready = dict(waiting.poll())
    finally:
        os.close(ended)
    return sending.fileno() in ready and sending.recv(1) == b"."
