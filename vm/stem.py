"""A machine that stands still where a template does, warm, and from which clones are forked.

A clone that QEMU loads runs every piece of its guest's code for the first time, and so does the translation of it: four
fifths of what a short test takes. A stem is a clone that ran a rehearsal first: a made-up test in a child of the
guest's session, of which nothing stays but that its code was run. Then the whole QEMU stands still, and a clone is a
fork of it: its translated code is there.

Only for machines in virtual time without discs: others have descriptors that forks must not share, or a terminal.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from kernelproof.vm.errors import GuestError, MachineLost
from kernelproof.vm.machine import Machine
from kernelproof.vm.process import Spawner
from kernelproof.vm.qemu import MachineSpec
from kernelproof.vm.running import Running
from kernelproof.vm.standing import NotStanding, Standing, find_numbers, identify

REHEARSAL_SECONDS = 60.0  # 0.5 s measured on an idle host
FEW = 3  # clones that are made without: a stem costs about as much


class Stem:
    """Forks machines. Made by `grow`; closed or forgotten, it is gone; what was forked from it goes on.

    Args:
        spec: The machine.
        standing: Its QEMU.
        spawner: Forks it.
    """

    def __init__(self, spec: MachineSpec, standing: Standing, spawner: Spawner) -> None:
        self._spec = spec
        self._standing = standing
        self._spawner = spawner

    @classmethod
    def grow(
        cls, spec: MachineSpec, start: Callable[[int], Running], make: Callable[[Running], Machine], spawner: Spawner
    ) -> Stem:
        """Start a machine, let it rehearse, let it stand still.

        Args:
            spec: The machine.
            start: Starts a QEMU that holds a descriptor besides, and loads the template.
            make: The machine of a QEMU.
            spawner: Starts it.

        Raises:
            NotStanding: this host or this machine does without.
        """
        sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with receiving:
                spare = identify(os.fstat(receiving.fileno()))
                running = start(receiving.fileno())
            with make(running) as machine:
                machine.request({"kind": "rehearse"}, timeout=REHEARSAL_SECONDS)
                running.settle(time.monotonic() + REHEARSAL_SECONDS)
                found = find_numbers(running.child.pid)
                places = [found[each] for each in running.files]
                standing = spawner.stand(running.child, sending, found[spare][0], [*places, [1, 2]])
        except (MachineLost, GuestError, OSError, KeyError) as error:
            sending.close()
            raise NotStanding(str(error)) from error
        except BaseException:
            sending.close()
            raise
        return cls(spec, standing, spawner)

    def fork(self) -> Running:
        """Fork a QEMU; the guest stands still.

        Raises:
            NotStanding: the stem is of no use any more.
            OSError: no descriptors, no processes.
        """
        return Running.fork(self._spec, self._standing, self._spawner)

    def close(self) -> None:
        """End it; a second call changes nothing."""
        self._standing.close()
