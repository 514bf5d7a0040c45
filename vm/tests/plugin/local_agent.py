"""A guest without a machine and without namespaces of its own. Started by `local_machines`."""

from __future__ import annotations

import socket
import sys

from kernelproof.vm.guest import session
from kernelproof.vm.guest.agent import answer
from kernelproof.vm.guest.forking import CloningPort, stay


def main() -> None:
    """Serve the descriptor that the command line names."""
    vars(session)["vary"] = dict  # its CPUs are the host's: they stay
    with socket.socket(fileno=int(sys.argv[1])) as template:
        port = CloningPort(template, stay)
        try:
            while True:
                answer(port, port.receive())
        except EOFError:
            return


if __name__ == "__main__":
    main()
