"""The machines that the plugin uses unless it is given others: clones of templates under QEMU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from kernelproof.vm.kernel_select import select_kernels
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import ItemMachine, SessionMachine
from kernelproof.vm.template import SessionTemplate, Template

T = TypeVar("T")


class QemuProvider:
    """Makes machines under QEMU, each kind from a template of its own."""

    def select(self, text: str) -> Sequence[str]:
        """The kernels that a user's words mean.

        Raises:
            ProvisionError: an unknown word; lists what there is.
        """
        return select_kernels(text)

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], T],
        *,
        project: Path,
        progress: Progress,
    ) -> tuple[QemuMachines, Mapping[str, object], T]:
        """Provision, boot or load the base template, and make the session template.

        Raises:
            VmError: something can't be had, or the machine was lost on the way.
        """
        with ExitStack() as stack:
            base = stack.enter_context(
                Template(key.series, profile=key.profile, time=key.time, progress=progress, project=project)
            )
            facts = base.facts
            session, prepared = base.session(lambda machine: prepare(machine, facts))
            stack.callback(session.close)
            return QemuMachines(session, stack.pop_all()), facts, prepared


class QemuMachines:
    """Clones of a session template.

    Args:
        session: What to clone.
        owned: Closes it and what it came from.
    """

    def __init__(self, session: SessionTemplate, owned: ExitStack) -> None:
        self._session = session
        self._owned = owned

    def clone(self) -> ItemMachine:
        """A machine for one item."""
        return self._session.clone()

    def close(self) -> None:
        """Give back the templates' memory."""
        self._owned.close()
