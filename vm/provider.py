"""The machines that the plugin uses unless it is given others: clones of templates under QEMU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from kernelproof.vm.available import find_available
from kernelproof.vm.cache import Cache
from kernelproof.vm.kernel_select import select_kernels
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import SessionMachine
from kernelproof.vm.template import SessionTemplate, Template
from kernelproof.vm.wishes import NO_WISHES, Wishes


def _silently() -> AbstractContextManager[Progress]:
    return nullcontext(SilentProgress())


class QemuProvider:
    """Makes machines under QEMU, each kind from a template of its own.

    Args:
        read_wishes: Says what the user wants beside; asked once, when the kernels are chosen.
        open_progress: Makes what is told what is done while they are chosen.

    Attributes:
        left_out: Kernels of `all` that can't be had, each with the reason.
    """

    def __init__(
        self,
        read_wishes: Callable[[], Wishes] = Wishes,
        open_progress: Callable[[], AbstractContextManager[Progress]] = _silently,
    ) -> None:
        self.left_out: tuple[tuple[str, str], ...] = ()
        self._read_wishes = read_wishes
        self._open_progress = open_progress
        self._wishes = NO_WISHES
        self._template: Template | None = None

    def select(self, text: str) -> Sequence[str]:
        """The kernels that a user's words mean; the wishes' own kernel comes last.

        Who says `all` means all that there are: those that have vanished from their suites are left out.

        Raises:
            ProvisionError: an unknown word; lists what there is. Or wishes that can't be, or no kernel that can be had.
        """
        self._wishes = self._read_wishes()
        own = self._wishes.kernel
        chosen = () if own is not None and not text.strip() else select_kernels(text)
        if "all" in (word.strip() for word in text.split(",")):
            with self._open_progress() as progress:
                chosen, self.left_out = find_available(chosen, Cache(), progress)
        return chosen if own is None else (*chosen, own.name)

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], Mapping[str, object]],
        *,
        made_of: Callable[[Mapping[str, object]], Mapping[str, object]],
        project: Path,
        progress: Progress,
    ) -> tuple[SessionTemplate, Mapping[str, object], Mapping[str, object]]:
        """Provision, boot or load the base template, and make the session template.

        Raises:
            VmError: something can't be had, or the machine was lost on the way.
        """
        with Template(
            key.series,
            profile=key.profile,
            time=key.time,
            progress=progress,
            project=project,
            wishes=self._wishes,
        ) as self._template:
            base = self._template
            facts = base.facts
            session, answer = base.kept_session(made_of(facts), lambda machine: prepare(machine, facts), key.shift)
        return session, facts, answer

    def cancel(self) -> None:
        """From another thread: let an `open` that is under way fail."""
        if self._template is not None:
            self._template.kill()
