"""Machines that are processes, for tests of the plugin: a session in one, a fork of it for every item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.host import Host
from kernelproof.vm.namespaces import NamespaceMachine, NamespaceMachines
from kernelproof.vm.plugin import HOST
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import SessionMachine
from kernelproof.vm.variation import Variation

KERNELS = ("5.10", "6.12")


class LocalMachines(NamespaceMachines):
    """Forks of one session."""

    def __init__(self, events: list[str]) -> None:
        super().__init__("kernelproof.vm.tests.plugin.local_agent")
        self.clones = 0
        self.variations: list[Variation | None] = []
        self.closed = False
        self._events = events

    def clone(self, variation: Variation | None = None) -> NamespaceMachine:
        """A fork."""
        self.variations.append(variation)
        self.clones += 1
        self._events.append("clone")
        return super().clone(variation)

    def close(self) -> None:
        """End the session."""
        self.closed = True
        self._events.append("close")
        super().close()


class LocalProvider:
    """Makes `LocalMachines`; remembers them for the test to look at."""

    def __init__(self) -> None:
        self.opened: dict[MachineKey, LocalMachines] = {}
        self.left_out: list[tuple[str, str]] = []
        self.events: list[str] = []

    def select(self, text: str) -> Sequence[str]:
        """The words that are known."""
        if text == "all":
            self.left_out = [("5.10", "its suite is gone")]
            return ["6.12"]
        words = text.split(",")
        for word in words:
            if word not in KERNELS:
                raise ProvisionError("choose kernel", word, "unknown", f"one of {', '.join(KERNELS)}")
        return words

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], Mapping[str, object]],
        *,
        made_of: Callable[[Mapping[str, object]], Mapping[str, object]],
        project: Path,
        progress: Progress,
    ) -> tuple[LocalMachines, Mapping[str, object], Mapping[str, object]]:
        """Start a session."""
        machines = LocalMachines(self.events)
        self.opened[key] = machines
        facts = {
            "kernel": {"name": key.series, "series": key.series, "release": f"{key.series}.0-local"},
            "guest": {"python": "3"},
            "machine": {"accelerator": "none", "time": key.time, "cpus": 1, "qemu": "none"},
        }
        try:
            return machines, facts, prepare(machines.session, facts)
        except BaseException:
            machines.close()
            raise


class LocalPlugin:
    """Registers the host plugin with local machines before the plugin itself would with real ones."""

    def __init__(self) -> None:
        self.provider = LocalProvider()
        self.facts: list[Mapping[str, object]] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """Be first."""
        config.pluginmanager.register(Host(config, self.provider), HOST)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_machine(self, facts: Mapping[str, object]) -> None:
        """Keep what the header is told."""
        self.facts.append(facts)
