"""A guest without a machine: this process is the template, a fork of it is a clone. Started by `local_machines`."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping

from kernelproof.vm.guest import session
from kernelproof.vm.guest.agent import answer
from kernelproof.vm.guest.port import Port


class CloningPort(Port):
    """Once tests are collected it waits for requests to clone, and forks."""

    def __init__(self, template: socket.socket) -> None:
        super().__init__(template.fileno())
        self._template: socket.socket | None = template
        self._is_ready = False

    def send(self, message: Mapping[str, object]) -> None:
        """As `Port.send`."""
        super().send(message)
        self._is_ready |= message["kind"] == "collected"

    def receive(self) -> dict[str, object]:
        """As `Port.receive`; in the template it returns in forks only."""
        if self._is_ready and self._template is not None:
            self._descriptor = self._fork_clones(self._template)
            self._template = None
            self._owner = os.getpid()
        return super().receive()

    def _fork_clones(self, template: socket.socket) -> int:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            data, descriptors, _, _ = socket.recv_fds(template, 1, 1)
            if not data:
                raise EOFError("the host closed the template")
            if (child := os.fork()) == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                template.close()
                return descriptors[0]
            os.close(descriptors[0])
            template.sendall(child.to_bytes(4, "big"))


def main() -> None:
    """Serve the descriptor that the command line names."""
    vars(session)["vary"] = dict  # its CPUs are the host's: they stay
    with socket.socket(fileno=int(sys.argv[1])) as template:
        port = CloningPort(template)
        try:
            while True:
                answer(port, port.receive())
        except EOFError:
            return


if __name__ == "__main__":
    main()
