"""The command with a machine that is none: the guest's agent in a process of this host. Run as a program.

With KERNELPROOF_LOSE=1 the machine is lost as soon as a program wrote something.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernelproof.cli import machines, main
from kernelproof.vm.errors import MachineLost
from kernelproof.vm.messages import CONVERSATIONS
from kernelproof.vm.tests.interruptible import listen
from kernelproof.vm.tests.machine_side.local_machine import LocalMachine, open_machine


@contextmanager
def open_local(*_: object) -> Iterator[LocalMachine]:
    """In place of a machine under QEMU."""
    with open_machine() as machine:
        yield machine


@contextmanager
def open_lost(*_: object) -> Iterator[LocalMachine]:
    """One whose kernel panics."""
    with open_machine() as machine:
        attending = machine.attending

        @contextmanager
        def losing(message: Any) -> Iterator[Any]:
            with attending(message) as channel:
                take = channel.take

                def take_until_output() -> tuple[bytes, bytes] | None:
                    frame = take()
                    if frame is not None and frame[0] == b"B":
                        raise MachineLost("panic", "clone", "it panicked", "read the log", "Oops: 0000\n\\x1b[31m\n")
                    return frame

                channel.take = take_until_output  # type: ignore[method-assign]
                yield channel

        machine.attending = losing  # type: ignore[method-assign]
        yield machine


if __name__ == "__main__":
    assert "attend" in CONVERSATIONS
    listen()
    machines.open_machine = open_lost if os.environ.get("KERNELPROOF_LOSE") else open_local  # type: ignore[assignment]
    sys.exit(main.main())
