"""A snapshot of a machine, from which clones are made: its memory and its device state, as open files.

The session's snapshot lives in files without names; workers of the same user open them through the /proc of the
process that holds them. Nothing is left behind when that process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self, TypeVar

from kernelproof.vm.disc_files import DiscFiles
from kernelproof.vm.discs import Disc
from kernelproof.vm.errors import VmError
from kernelproof.vm.machine import Machine
from kernelproof.vm.memory import (
    HOST_SHARE_MIB,
    MIB,
    check_memory,
    copy_sparse,
    create_memory,
    read_available,
    seal_memory,
)
from kernelproof.vm.memory_changes import apply_changes, write_changes
from kernelproof.vm.messages import Plain
from kernelproof.vm.process import Spawner
from kernelproof.vm.qemu import MachineSpec, Role
from kernelproof.vm.running import Program, Running
from kernelproof.vm.standing import NotStanding
from kernelproof.vm.stem import FEW, Stem
from kernelproof.vm.variation import Variation

T = TypeVar("T")


class Snapshot:
    """Memory and state of a machine that stands still.

    Args:
        spec: The machine.
        program: The QEMU that made it.
        memory: Descriptor of the memory file; owned from here on, and never written to.
        state: Descriptor of the device state; likewise.
        facts: What the machine is, for headers.
        spawner: Forks its clones.
        contents: Descriptors of what its discs hold, by name; likewise.
        shift: The pace of its virtual time, and of its clones': as in `Wiring`.
    """

    def __init__(
        self,
        spec: MachineSpec,
        program: Program,
        memory: int,
        state: int,
        facts: Mapping[str, Plain],
        spawner: Spawner,
        contents: Mapping[str, int] | None = None,
        shift: int = 0,
    ) -> None:
        self.spec = spec
        self.shift = shift
        self.facts = facts
        self._program = program
        self._memory, self._state = memory, state
        self._spawner = spawner
        self._contents = dict(contents or {})
        self._close = weakref.finalize(self, _close_files, (memory, state, *self._contents.values()))

    def clone(self, variation: Variation | None = None) -> Machine:
        """A new machine that goes on from the snapshot at its first request. Close it, or use it in a `with`.

        Args:
            variation: What is its own: `random` and entropy. (Its pace is that of the template: at another one its
                clock would leap.)

        Raises:
            MachineLost: kinds "qemu" and "load".
            ProvisionError: the host has too little memory.
            OSError: EMFILE, EAGAIN, ENOMEM: no descriptors or processes left.
        """
        check_memory(HOST_SHARE_MIB * MIB, read_available())
        machine = self._fork() or self._start(Role.CLONE, self._memory, self._contents, self.shift)
        if variation is not None:
            machine.wake_with(variation.seed, variation.entropy)
        return machine

    def _fork(self) -> Machine | None:
        """A clone of another road, if there is one."""
        return None

    def derive(self, prepare: Callable[[Machine], T], shift: int = 0) -> tuple[SessionTemplate, T]:
        """Let `prepare` change a copy of the machine, and take a snapshot of what came of it.

        Args:
            prepare: Is given the machine; what it returns is returned.
            shift: Its pace; at another one than this snapshot's its clock leaps once, before `prepare`.

        Raises:
            As `clone`, and whatever `prepare` raises.
        """
        check_memory(os.fstat(self._memory).st_blocks * 512 + HOST_SHARE_MIB * MIB, read_available())
        memory = create_memory("session", 0)
        state = os.memfd_create("kernelproof-state", os.MFD_CLOEXEC)
        contents: dict[str, int] = {}
        try:
            copy_sparse(self._memory, memory)
            with self._start(Role.SESSION, memory, self._contents, shift) as machine:
                made = prepare(machine)
                contents |= machine.save(state)
            seal_memory(memory)
        except BaseException:
            _close_files((memory, state, *contents.values()))
            raise
        session = SessionTemplate(self.spec, self._program, memory, state, self.facts, self._spawner, contents, shift)
        return session, made

    def write_changes(self, session: SessionTemplate, pages: int, index: int, state: int) -> None:
        """Write down what makes a session that was derived from this; `restore` has it again.

        Args:
            session: It.
            pages: Descriptor of an empty file, for what changed of the memory: see `memory_changes`.
            index: Descriptor of an empty file, for which pages these are.
            state: Descriptor of an empty file, for its device state.

        Raises:
            OSError: ENOSPC, EDQUOT and the like.
        """
        write_changes(self._memory, session._memory, pages, index)
        copy_sparse(session._state, state)

    def restore(self, pages: int, index: int, state: int, shift: int = 0) -> SessionTemplate:
        """The session that `write_changes` wrote down.

        Args:
            pages: As there.
            index: Likewise.
            state: Likewise.
            shift: The session's pace.

        Raises:
            ValueError: the files do not fit each other.
            ProvisionError: the host has too little memory.
            OSError: ENOMEM, EMFILE and the like.
        """
        check_memory(self.size_bytes + HOST_SHARE_MIB * MIB, read_available())
        memory = create_memory("session", 0)
        own_state = os.memfd_create("kernelproof-state", os.MFD_CLOEXEC)
        try:
            copy_sparse(self._memory, memory)
            apply_changes(memory, pages, index)
            copy_sparse(state, own_state)
            seal_memory(memory)
        except BaseException:
            _close_files((memory, own_state))
            raise
        return SessionTemplate(self.spec, self._program, memory, own_state, self.facts, self._spawner, shift=shift)

    def share(self) -> Snapshot:
        """The same once more, to be closed by itself.

        Raises:
            OSError: EMFILE.
        """
        files: list[int] = []
        try:
            for descriptor in (self._memory, self._state, *self._contents.values()):
                files.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0))
        except OSError:
            _close_files(tuple(files))
            raise
        contents = dict(zip(self._contents, files[2:], strict=True))
        return Snapshot(self.spec, self._program, files[0], files[1], self.facts, self._spawner, contents, self.shift)

    def _start(self, role: Role, memory: int, contents: Mapping[str, int], shift: int) -> Machine:
        return self._make(self._run(role, memory, contents, shift))

    def _run(
        self, role: Role, memory: int, contents: Mapping[str, int], shift: int, spare: tuple[int, ...] = ()
    ) -> Running:
        discs = DiscFiles(self.spec.discs, contents)
        running = Running.start(
            self.spec, role, self._program, memory, self._spawner, discs=discs, shift=shift, spare=spare
        )
        running.load(self._state)
        return running

    def _make(self, running: Running) -> Machine:
        virtual = self.spec.time == "virtual"
        return Machine(running, self.facts, paused=True, virtual=virtual, restart=self._restart)

    def _restart(self, survivors: Mapping[str, int]) -> Machine:
        return self._start(Role.CLONE, self._memory, {**self._contents, **survivors}, self.shift)

    @property
    def size_bytes(self) -> int:
        """What it holds of the host's memory."""
        return os.fstat(self._memory).st_blocks * 512

    def close(self) -> None:
        """Give the memory back; clones that run go on. A second call changes nothing."""
        self._close()


class SessionTemplate(Snapshot):
    """The snapshot that the clones of a session are made from. Made by `Template.session`.

    Attributes:
        last_act: Done once, when it is closed: what can wait until nobody waits for results.
    """

    last_act: Callable[[], None] | None = None
    _clones = 0
    _stem: Stem | None = None

    def _fork(self) -> Machine | None:
        self._clones += 1
        if self._clones <= FEW or self.spec.time != "virtual" or self.spec.discs:
            return None
        try:
            if self._clones == FEW + 1:
                self._stem = Stem.grow(self.spec, self._run_with, self._make, self._spawner)
            return None if self._stem is None else self._make(self._stem.fork())
        except (NotStanding, OSError) as error:
            logging.getLogger(__name__).info("each clone loads its template: %s", error)
            self._cut()
            return None

    def _run_with(self, spare: int) -> Running:
        return self._run(Role.CLONE, self._memory, self._contents, self.shift, (spare,))

    def _cut(self) -> None:
        stem, self._stem = self._stem, None
        if stem is not None:
            stem.close()

    def close(self) -> None:
        """Give the memory back, after the last act; clones that run go on. A second call changes nothing."""
        last_act, self.last_act = self.last_act, None
        try:
            if last_act is not None:
                last_act()
        finally:
            self._cut()
            super().close()

    def export(self) -> dict[str, Plain]:
        """What another process of the same user needs to `attach`, as plain values, while this one holds it."""
        return {
            "owner": os.getpid(),
            "memory": self._memory,
            "state": self._state,
            "contents": dict(self._contents),
            "spec": asdict(self.spec),
            "executable": self._program.executable,
            "environment": [list(pair) for pair in self._program.environment],
            "facts": dict(self.facts),
            "shift": self.shift,
        }

    @classmethod
    def attach(cls, exported: Mapping[str, object]) -> Self:
        """The session template that another process exported. Its files are held from here on.

        Raises:
            VmError: that process is gone, or is another user's.
            KeyError, TypeError, ValueError: not what `export` gives.
        """
        owner = int(str(exported["owner"]))
        contents = exported["contents"]
        if not isinstance(contents, dict):
            raise TypeError("the contents of the exported template's discs are no record")
        files = []
        try:
            for number in (exported["memory"], exported["state"], *contents.values()):
                path = f"/proc/{owner}/fd/{int(str(number))}"
                files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            _close_files(tuple(files))
            raise VmError(
                "open session template", path, error.strerror or str(error), "keep the process that made it running"
            ) from error
        facts, environment = exported["facts"], exported["environment"]
        if not isinstance(facts, dict) or not isinstance(environment, list):
            raise TypeError("facts or environment of the exported template are not plain")
        program = Program(str(exported["executable"]), tuple((str(name), str(value)) for name, value in environment))
        discs = dict(zip(map(str, contents), files[2:], strict=True))
        shift = int(str(exported.get("shift", 0)))
        return cls(read_spec(exported["spec"]), program, files[0], files[1], facts, Spawner(), discs, shift)


def read_spec(exported: object) -> MachineSpec:
    """The spec that `dataclasses.asdict` and JSON made of one.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    if not isinstance(exported, dict):
        raise TypeError("the exported spec is no record")
    members: dict[str, Any] = {
        str(name): tuple(value) if isinstance(value, list) else value for name, value in exported.items()
    }
    members["discs"] = tuple(Disc(**disc) for disc in members["discs"])
    return MachineSpec(**members)


def _close_files(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
