"""A guest without a machine: this process is the template, a fork of it in fresh namespaces is a clone.

For hosts without QEMU, and for debugging. It is no machine: the kernel is the host's, and so are its files, its modules
and its settings that are not of a namespace. Started by `kernelproof.vm.namespaces`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from kernelproof.vm.guest.agent import answer
from kernelproof.vm.guest.mounting import mount
from kernelproof.vm.guest.port import Port

HOST_NAME = "kernelproof"

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_FRESH = _NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE = 2, 4, 8, 16384, 1 << 18
_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sH14x")
_PID = struct.Struct("!i")

_libc = ctypes.CDLL(None, use_errno=True)


class CloningPort(Port):
    """Once tests are collected it waits for requests to clone, and forks.

    Args:
        template: What the host sends requests on: each a byte and the descriptor of the clone's own stream. The answer
            is the number of the clone's process, or minus an errno.
        isolate: Called in the fork; returns in the process that goes on, and gives its number to what it is given.
    """

    def __init__(self, template: socket.socket, isolate: Callable[[Callable[[int], None]], None]) -> None:
        super().__init__(template.fileno())
        self._template: socket.socket | None = template
        self._isolate = isolate
        self._is_ready = False

    def send(self, message: Mapping[str, object]) -> None:
        """As `Port.send`."""
        super().send(message)
        self._is_ready |= message["kind"] == "collected"

    def receive(self) -> dict[str, object]:
        """As `Port.receive`; once tests are collected it returns in forks only, and messages of the host are rare."""
        if self._is_ready and self._template is not None:
            self._fork_clones(self._template)
            self._template = None
            self._owner = os.getpid()
        return super().receive()

    def _fork_clones(self, template: socket.socket) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            data, descriptors, _, _ = socket.recv_fds(template, 1, 1)
            if not data:
                raise EOFError("the host closed the template")
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._begin(template)
                os.dup2(descriptors[0], self._descriptor, inheritable=False)  # whoever knows the number knows this one
                os.close(descriptors[0])
                return
            os.close(descriptors[0])

    def _begin(self, template: socket.socket) -> None:
        try:
            self._isolate(lambda pid: template.sendall(_PID.pack(pid)))
        except OSError as error:
            traceback.print_exception(error)
            with suppress(OSError):
                template.sendall(_PID.pack(-(error.errno or 1)))
            os._exit(1)


def stay(tell: Callable[[int], None]) -> None:
    """Isolate nothing."""
    tell(os.getpid())


def enter_fresh_namespaces(tell: Callable[[int], None]) -> None:
    """Go on as the second process of new namespaces, of which the first only waits; tells the number of that one.

    Raises:
        OSError: as unshare(2) and mount(2) refuse: EPERM, a host without user namespaces; ENOSPC, their limit.
    """
    _die_with_parent()
    _unshare_all()
    if (init := os.fork()) != 0:
        tell(init)
        _end_like(init)
    _die_with_parent()
    _furnish()
    if (child := os.fork()) != 0:
        while os.wait()[0] != child:
            pass
        os._exit(0)
    os.setsid()


def _unshare_all() -> None:
    # Of the user namespace only where nothing else will do: in one, much that a test may want is refused.
    if _libc.unshare(_FRESH) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_FRESH | _NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _furnish() -> None:
    mount("none", "/", None, _REC | _PRIVATE)
    mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    with suppress(OSError):  # a host that covers parts of its own sysfs lets nobody see a fresh one
        mount("sysfs", "/sys", "sysfs", _NOSUID | _NODEV | _NOEXEC)
    socket.sethostname(HOST_NAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        flags = _IFREQ.unpack(request)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))


def _die_with_parent() -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _end_like(child: int) -> NoReturn:
    os.waitpid(child, 0)
    os._exit(0)


def main() -> None:
    """Serve the descriptor that the command line names."""
    with socket.socket(fileno=int(sys.argv[1])) as template:
        port = CloningPort(template, enter_fresh_namespaces)
        try:
            while True:
                answer(port, port.receive())
        except EOFError:
            return


if __name__ == "__main__":
    main()
