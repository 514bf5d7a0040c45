"""One item's turn in a machine: what is said to the guest, what it answers, what becomes of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from kernelproof.vm.broken import Loss, shorten_log
from kernelproof.vm.cache import Cache
from kernelproof.vm.debugging import DebuggerWanted, HostTerminal
from kernelproof.vm.errors import ChannelError, GuestError, MachineLost, ProvisionError, VmError
from kernelproof.vm.item_machines import ItemMachines
from kernelproof.vm.kept import LIMIT, keep_machine
from kernelproof.vm.machine import Machine
from kernelproof.vm.measured import add_measured
from kernelproof.vm.replay import ItemReader
from kernelproof.vm.run_options import RunOptions
from kernelproof.vm.selection import ASSIGNMENT
from kernelproof.vm.sessions import ItemMachine, OpenSession
from kernelproof.vm.snapshot import SessionTemplate
from kernelproof.vm.variation import Variation

_KEEP_SECONDS = 60.0  # for a machine to be written down: 4 s were seen
_NO_DEADLINE = 1e6  # seconds: a person at the debugger is not hurried


@dataclass(slots=True)
class Turn:
    """What is known of it.

    Args:
        item: The item, as the host collected it.
        opened: The session whose machines it runs in.
        reader: Reads what the guest answers.
        properties: What is told of the item with its reports; the turn adds to it.
        variation: Of a repetition.
        following: The next item, if it runs in the same machine.
        debugs: Whether the user's terminal may be the debugger's.
        stays: Whether the machine is there for the next item.
    """

    item: pytest.Item
    opened: OpenSession
    reader: ItemReader
    properties: dict[str, object]
    variation: Variation | None = None
    following: pytest.Item | None = None
    debugs: bool = False
    stays: bool = False


class Turns:
    """Takes items' turns, one at a time.

    Args:
        config: pytest's configuration.
        options: Those of the run.
        machines: Where machines come from.
    """

    def __init__(self, config: pytest.Config, options: RunOptions, machines: ItemMachines) -> None:
        self._config = config
        self._options = options
        self._machines = machines
        self._terminal = HostTerminal(config)
        self._kept = 0

    def take(self, turn: Turn) -> Loss | None:
        """Run the item; returns why it has no result, if so.

        Raises:
            DebuggerWanted: it asks for the debugger, and its machine has no terminal.
        """
        if (missing := turn.opened.explain_missing(turn.item.stash[ASSIGNMENT].origin.nodeid)) is not None:
            return missing
        try:
            end = self._exchange(turn)
            return Loss("hook", str(end["text"])) if end["end"] == "error" else None
        except VmError as error:
            return Loss.from_error(_kind_of(error), error)
        finally:
            turn.properties["log"] = shorten_log(self._machines.log())
            if not turn.stays and (usage := self._machines.drop()) is not None:
                turn.properties["cpu_seconds"] = round(usage.cpu_seconds, 6)

    def _exchange(self, turn: Turn) -> dict[str, object]:
        message = self._message(turn)
        machine = self._machines.take(turn.item.stash[ASSIGNMENT].key, turn.opened, turn.variation)
        timeout = _NO_DEADLINE if turn.debugs else self._options.timeout + _KEEP_SECONDS * self._options.keep
        kept: list[str] = []
        for answer in machine.stream(message, timeout=timeout):
            if answer["kind"] == "debugger":
                self._debug(machine, turn)
            elif answer["kind"] == "failed" and self._options.keep:  # else nothing asked for that
                kept.append(self._keep(machine, turn))
            else:
                turn.reader.feed(answer)
            if answer["kind"] == "item-done" and turn.following is None:
                break  # it is dropped at once: what its guest would do until then is work too
        end = turn.reader.finish()
        add_measured(end.get("coverage"), self._config.rootpath)
        for text in kept[:1]:
            turn.reader.add_section("kernelproof: kept", text)
        turn.stays = turn.following is not None and end["end"] == "done"
        return end

    def _message(self, turn: Turn) -> dict[str, object]:
        assignment = turn.item.stash[ASSIGNMENT]
        data: dict[str, object] = {}
        for part in self._config.hook.pytest_kernelproof_item_data(item=turn.item, series=assignment.key.series):
            data.update(part)
        seed = turn.properties["seed"]
        message: dict[str, object] = {"kind": "item", "nodeid": assignment.origin.nodeid, "seed": seed, "data": data}
        if turn.following is not None:
            message["next"] = turn.following.stash[ASSIGNMENT].origin.nodeid
        if turn.variation is not None:
            message["vary"] = turn.variation.describe() | ({} if turn.opened.is_machine else {"cpus": 0})
        if self._options.keep and isinstance(turn.opened.machines, SessionTemplate):
            message["hold"] = True
        if turn.debugs:
            message["terminal"] = self._terminal.describe()
        elif not turn.opened.is_virtual:  # in virtual time a watchdog in the guest barks as soon as the guest idles
            message["deadline_seconds"] = self._options.timeout
        return message

    def _debug(self, machine: ItemMachine, turn: Turn) -> None:
        if turn.debugs:
            self._terminal.lend(machine)
        elif hasattr(self._config, "workerinput"):
            remedy = "run this test without workers: -n 0"
            raise ChannelError("debug test", "breakpoint()", "a worker has no terminal", remedy)
        else:
            raise DebuggerWanted

    def _keep(self, machine: ItemMachine, turn: Turn) -> str:
        # What it says about that. The first failure of an item counts: a second one finds a machine that is torn down.
        template = turn.opened.machines
        if not isinstance(machine, Machine) or not isinstance(template, SessionTemplate):
            return "machines of this kind can't be kept"
        try:
            if "kept" not in turn.properties and self._kept < LIMIT:
                folder = str(self._config.invocation_params.dir)
                turn.properties["kept"] = keep_machine(machine, template, turn.item.nodeid, folder, Cache())
                self._kept += 1
        except (ProvisionError, OSError) as error:
            turn.properties["kept"] = None
            machine.say({"kind": "go-on"})
            return f"the machine could not be kept: {error}"
        machine.say({"kind": "go-on"})
        name = turn.properties.get("kept")
        return f"the machine as it was then: kernelproof enter {name}" if name else f"not kept: {LIMIT} of this run are"


def _kind_of(error: VmError) -> str:
    if isinstance(error, MachineLost):
        return error.kind
    if isinstance(error, ChannelError):
        return "protocol"
    return "agent" if isinstance(error, GuestError) else "session"


def first_properties(
    item: pytest.Item, seed: int, facts: Mapping[str, object] | None, variation: Variation | None
) -> dict[str, object]:
    """What is known of an item before its turn."""
    assignment = item.stash[ASSIGNMENT]
    return {
        **({} if facts is None else {"facts": dict(facts)}),
        "node": assignment.origin.nodeid,
        "kernel": assignment.key.series,
        "profile": assignment.key.profile,
        "time": assignment.key.time,
        "seed": seed,
        **({} if variation is None else {"variation": variation.describe()}),
        "clone": None,
        "guest_seconds": None,
        "wall_seconds": None,
        "cpu_seconds": None,
        "lost": None,
        "log": "",
    }
