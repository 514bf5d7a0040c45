"""One QEMU from its start to its reaping: loads and saves state, goes on and pauses, and knows how it was lost.

Every error of the levels below becomes a `MachineLost` here, with the console's end; the machine is gone by then.
What is said between host and guest is not known here: that is `kernelproof.vm.machine`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kernelproof.vm.channel import Channel, DeadlineMissed, Ended
from kernelproof.vm.console import Console, escape_text
from kernelproof.vm.disc_files import DiscFiles
from kernelproof.vm.errors import ChannelError, MachineLost
from kernelproof.vm.fittings import Fittings
from kernelproof.vm.guest.frames import AGENT_DIED
from kernelproof.vm.lost import judge_end, lost
from kernelproof.vm.migrating import migrate
from kernelproof.vm.phase import MOSTLY, TRIES, parse_tick_ahead
from kernelproof.vm.process import Child, Spawner, Usage
from kernelproof.vm.qemu import MachineSpec, Role, Wiring, has_terminal, migration_road, qemu_command
from kernelproof.vm.qmp import QmpError
from kernelproof.vm.standing import File, Standing, identify

START_SECONDS = 30.0  # for QEMU to greet
LOAD_SECONDS = 30.0  # to load or save state: 0.04 s measured on an idle host
ANSWER_SECONDS = 3.0  # for QEMU to take the NMI of a missed deadline
STACKS_SECONDS = 1.0  # for a test's Python to write its stacks: 0.05 s measured on an idle host
NMI_SECONDS = 10.0  # for the guest to panic on it: 0.1 s measured on an idle host
END_SECONDS = 10.0  # for QEMU to end after the guest did

# QEMU's heap in huge pages: half of the page faults of its start, a twentieth of what a short test costs.
ENVIRONMENT = {"LC_ALL": "C", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@dataclass(frozen=True, slots=True)
class Program:
    """The QEMU to start.

    Args:
        executable: Absolute path.
        environment: What it needs in its environment.
    """

    executable: str
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BootFiles:
    """Descriptors of what a machine boots from; owned by the caller."""

    kernel: int
    initrd: int


class Running:
    """A started QEMU that greeted. Made by `start`; closed by whoever started it.

    Args:
        name: What it is called in errors.
        child: The process.
        channel: Its streams.
        console: Its serial line.
        errors: What QEMU itself prints.
        road: As `migration_road` says.
        discs: The files of its discs; closed with it.
        virtual: Its time is virtual.

    Attributes:
        files: What it holds for us alone: the monitor's socket, the agent's, the console.
    """

    def __init__(
        self,
        name: str,
        child: Child,
        channel: Channel,
        console: Console,
        errors: Console,
        road: str,
        discs: DiscFiles,
        *,
        virtual: bool = False,
    ) -> None:
        self.name = name
        self.child = child
        self.channel = channel
        self.console = console
        self._errors = errors
        self._road = road
        self.discs = discs
        self.files: tuple[File, ...] = ()
        self._virtual = virtual
        self._frozen = False
        self._usage: Usage | None = None
        self._log = ""
        self._stderr = b""

    @classmethod
    def start(
        cls,
        spec: MachineSpec,
        role: Role,
        program: Program,
        memory: int,
        spawner: Spawner,
        boot: BootFiles | None = None,
        discs: DiscFiles | None = None,
        shift: int = 0,
        spare: tuple[int, ...] = (),
    ) -> Running:
        """Start QEMU and wait for its greeting. The guest stands still, unless it boots.

        Args:
            spec: The machine.
            role: What it is started for.
            program: The QEMU.
            memory: Descriptor of the memory file; owned by the caller, who keeps it open.
            spawner: Forks the process.
            boot: For the role BOOT.
            discs: The files of its discs; owned from here on.
            shift: As in `Wiring`.
            spare: Descriptors that it holds open besides.

        Raises:
            MachineLost: kind "qemu", it ended or did not greet.
            OSError: no descriptors, no processes, no memory.
            ProvisionError: setpriv(1) is absent.
        """
        discs = DiscFiles() if discs is None else discs
        fittings = Fittings(terminal=has_terminal(spec))
        try:
            control_end, agent_end, *terminal_ends = ends = fittings.ends
            paths = ("", "") if boot is None else (_path(boot.kernel), _path(boot.initrd))
            places = (program.executable, _path(memory), fittings.console.path)
            wiring = Wiring(*places, control_end, agent_end, *paths, discs.paths(), shift, *terminal_ends)
            files = tuple(identify(os.fstat(each)) for each in (*ends[:2], fittings.console.descriptor))
            child = spawner.spawn(
                qemu_command(spec, role, wiring),
                descriptors=(*ends, *spare),
                errors=fittings.errors.descriptor,
                environment={**ENVIRONMENT, **dict(program.environment)},
            )
        except BaseException:
            fittings.close()
            discs.close()
            raise
        finally:
            fittings.leave()
        channel = fittings.connect(child)
        road, virtual = migration_road(spec.qemu_version), spec.time == "virtual"
        streams = (channel, fittings.console, fittings.errors)
        running = cls(role.value, child, *streams, road, discs, virtual=virtual)
        running.files = files
        with running.losing("qemu"):
            deadline = time.monotonic() + START_SECONDS
            channel.wait_for_greeting(deadline)
            channel.command("qmp_capabilities", deadline=deadline)
        return running

    @classmethod
    def fork(cls, spec: MachineSpec, standing: Standing, spawner: Spawner) -> Running:
        """Fork a QEMU from one that stands still, with streams and a console of its own. Its guest stands still.

        Args:
            spec: The machine: in virtual time, without discs.
            standing: The QEMU; its places are those of `files`, and then its stdout and stderr.
            spawner: Forks the process.

        Raises:
            NotStanding: nothing can be forked from it any more.
            OSError: no descriptors, no processes.
        """
        fittings, appending = Fittings(terminal=False), -1
        try:
            appending = os.open(fittings.console.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            child = spawner.fork(standing, (*fittings.ends, appending, fittings.errors.descriptor))
        except BaseException:
            fittings.close()
            raise
        finally:
            fittings.leave()
            if appending >= 0:
                os.close(appending)
        streams = (fittings.connect(child), fittings.console, fittings.errors)
        return cls(Role.CLONE.value, child, *streams, migration_road(spec.qemu_version), DiscFiles(), virtual=True)

    def load(self, state: int) -> None:
        """Load a snapshot; the guest stands still after.

        Args:
            state: Descriptor of the state file; owned by the caller.

        Raises:
            MachineLost: kind "load".
        """
        with self.losing("load"):
            self._migrate("migrate-incoming", state)

    def save(self, state: int) -> None:
        """Stop the guest and save its device state; its memory is in the memory file.

        Args:
            state: Descriptor of an empty file; owned by the caller.

        Raises:
            MachineLost: kind "load".
        """
        with self.losing("load"):
            if self._frozen:
                self._thaw()
            self._stop_after_tick(time.monotonic() + LOAD_SECONDS)
            self._migrate("migrate", state)

    def settle(self, deadline: float) -> None:
        """Stop the guest where a clone of it does best: right after a tick of its timer.

        Raises:
            MachineLost: kind "load".
        """
        with self.losing("load"):
            self._stop_after_tick(deadline)

    def _stop_after_tick(self, deadline: float) -> None:
        for _ in range(TRIES if self._virtual else 1):
            self.channel.command("stop", deadline=deadline)
            ahead = parse_tick_ahead(str(self._monitor("info lapic 0", deadline)))
            if ahead is None or ahead >= MOSTLY:
                return
            self.channel.command("cont", deadline=deadline)
        self.channel.command("stop", deadline=deadline)

    def _monitor(self, line: str, deadline: float) -> object:
        return self.channel.command("human-monitor-command", {"command-line": line}, deadline=deadline)

    def wait_until_saved(self) -> None:
        """Wait until a guest that was saved could go on: QEMU tells of the end of saving a moment before.

        Raises:
            MachineLost: kind "load".
        """
        deadline = time.monotonic() + LOAD_SECONDS
        with self.losing("load"):
            while _status_of(self.channel.command("query-status", deadline=deadline)) == "finish-migrate":
                pass  # each answer is waited for

    def _migrate(self, command: str, state: int) -> None:
        migrate(self.channel, command, self._road, state, time.monotonic() + LOAD_SECONDS)

    def go_on(self, deadline: float) -> None:
        """Let the guest run.

        Raises:
            QmpError, DeadlineMissed, Ended, ChannelError: inside `losing` they are a `MachineLost`.
        """
        if self._frozen:
            self._thaw()
        else:
            self.channel.command("cont", deadline=deadline)

    def pause(self, deadline: float) -> None:
        """Stop the guest and its clock; errors as for `go_on`.

        The monitor's `stop` flushes all discs, which a guest could not tell from a disc that keeps everything. Where
        that matters the process is stopped instead.
        """
        if self.discs.lose:
            signal.pidfd_send_signal(self.child.pidfd, signal.SIGSTOP)
            self._frozen = True
        else:
            self.channel.command("stop", deadline=deadline)

    def _thaw(self) -> None:
        self._frozen = False
        signal.pidfd_send_signal(self.child.pidfd, signal.SIGCONT)

    def cut_power(self) -> dict[str, int]:
        """Kill the machine; returns what is on the discs that lose what was not flushed, for the caller to close.

        Raises:
            MachineLost: kind "qemu": it does not stop, or a disc was written to more often than its log holds.
        """
        with self.losing("qemu"):
            extents = self.discs.extents()  # this is the moment; what is under way comes to its end after it
            if self._frozen:
                self._thaw()
            self.channel.command("stop", deadline=time.monotonic() + LOAD_SECONDS)
            try:
                survivors = self.discs.survivors(extents)
            except ValueError as error:
                raise QmpError(str(error)) from error
        self.close()
        return survivors

    @contextmanager
    def losing(self, kind: str = "hang") -> Iterator[None]:
        """Turn what goes wrong inside into a `MachineLost`; the machine is closed then, and on any other exception too.

        Args:
            kind: What a missed deadline or a refused command means here.
        """
        try:
            yield
        except DeadlineMissed:
            raise self._lose_by_deadline(kind) from None
        except Ended:
            raise self._lose_by_end(kind) from None
        except ChannelError as error:
            self.close()
            raise lost("protocol", self.name, error.detail, self.log()) from error
        except QmpError as error:
            self.close()
            raise lost("load" if kind == "load" else "qemu", self.name, f"{error}{self._said()}", self.log()) from error
        except BaseException:
            self.close()
            raise

    def _lose_by_deadline(self, kind: str) -> MachineLost:
        if self._is_ending():
            return self._lose_by_end(kind)  # it did not come to its end in time
        if kind == "hang":
            self._show_stacks()
        self.close()
        detail = "the deadline passed without an answer" if kind == "hang" else "no answer"
        return lost(kind, self.name, detail + self._said(), self.log())

    def _is_ending(self) -> bool:
        if {event.get("event") for event in self.channel.events} & {"GUEST_PANICKED", "SHUTDOWN"}:
            return True
        if AGENT_DIED not in self.console.text():  # a test may write that too: so it is given time, not believed
            return False
        self.channel.count_anew()
        with suppress(QmpError, ChannelError):
            return self.channel.wait_until_ended(time.monotonic() + END_SECONDS)
        return False

    def _show_stacks(self) -> None:
        # Any byte makes a test's Python write its stacks: see guest.stacks. Then the guest panics on an unknown NMI,
        # and its log shows the stacks of all tasks. One that does neither is killed.
        self.channel.count_anew()
        with suppress(QmpError, DeadlineMissed, Ended, ChannelError):
            self.channel.send(b"?", time.monotonic() + ANSWER_SECONDS)
            self.channel.wait_until_ended(time.monotonic() + STACKS_SECONDS)
            self.channel.command("inject-nmi", deadline=time.monotonic() + ANSWER_SECONDS)
            self.channel.wait_until_ended(time.monotonic() + NMI_SECONDS)

    def _lose_by_end(self, kind: str) -> MachineLost:
        self.channel.count_anew()
        with suppress(QmpError, ChannelError):
            self.channel.wait_until_ended(time.monotonic() + END_SECONDS)
        usage = self.close()
        found, detail = judge_end(self.channel.events, self.log(), usage.status)
        if found == "qemu" and kind == "load":
            found = "load"
        return lost(found, self.name, detail + self._said(), self.log())

    def _said(self) -> str:
        text = escape_text(self._stderr).strip()
        return f"; it said: {text[-2000:]}" if text else ""

    @property
    def closed(self) -> bool:
        """Whether QEMU was reaped."""
        return self._usage is not None

    def log(self) -> str:
        """The end of the console, safe to show; also after the machine is closed."""
        return self._log if self._usage is not None else self.console.text()

    def close(self) -> Usage:
        """Kill and reap QEMU, keep the end of its console; a second call changes nothing."""
        if self._usage is None:
            usage = self.child.close()
            self._log = self.console.text()
            self._stderr = self._errors.read()
            self._usage = usage
            for closing in (self.channel, self.console, self._errors, self.discs):
                closing.close()
        return self._usage


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _status_of(answer: object) -> object:
    return answer.get("status") if isinstance(answer, dict) else None
