"""Makes a machine ready for a project's tests: pushes its files, has the guest collect them, keeps what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from kernelproof.vm.broken import Loss
from kernelproof.vm.bytecode import Bytecode
from kernelproof.vm.cache import Cache
from kernelproof.vm.compiling import compile_ahead, find_tools
from kernelproof.vm.errors import VmError
from kernelproof.vm.forward import package_folder, plan_environment, plan_session, read_settings
from kernelproof.vm.process import Usage
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.push import digest_files, list_chain, list_package_files, pack_project, plan_files, read_files
from kernelproof.vm.replay import Checker, read_warnings
from kernelproof.vm.selection import ASSIGNMENT, MachineKey
from kernelproof.vm.variation import Variation

NO_MACHINE = "none"  # in place of a machine's kind of time, under --vm-none
COLLECT_SECONDS = 600.0  # wall, for the guest to collect: 34 s were seen for 1,782 tests


class ItemMachine(Protocol):
    """A machine for one item."""

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        """Send a message; yield the answers until the last. Raises MachineLost, ChannelError and GuestError."""

    def relay_terminal(self, source: int, sink: int) -> None:
        """Relay between descriptors and its second port until it has something to say. Raises MachineLost."""

    def log(self) -> str:
        """The end of its kernel log, safe to show."""

    def close(self) -> Usage:
        """Drop it."""


class SessionMachine(Protocol):
    """The machine that becomes the template of all items' machines."""

    def push_archive(self, archive: bytes, destination: str) -> None:
        """Unpack a tar archive below a folder."""

    def request(self, message: Mapping[str, object], *, timeout: float) -> Mapping[str, object]:
        """Send a message and return the answer. Raises MachineLost, ChannelError and GuestError."""

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        """Send a message; yield the answers until the last. Raises as `request`."""


class Machines(Protocol):
    """Machines that have collected a project's tests."""

    def clone(self, variation: Variation | None = None) -> ItemMachine:
        """A machine for one item, or for one repetition of it."""

    def close(self) -> None:
        """Give back what they are made from."""


class MachineProvider(Protocol):
    """Makes machines of a kind; the plugin works with any.

    Attributes:
        left_out: Kernels that `select` was asked for and that can't be had, each with the reason.
    """

    @property
    def left_out(self) -> Sequence[tuple[str, str]]:
        """See above."""

    def select(self, text: str) -> Sequence[str]:
        """The kernels that a user's words mean. Raises ProvisionError."""

    def open(
        self,
        key: MachineKey,
        prepare: Callable[[SessionMachine, Mapping[str, object]], Mapping[str, object]],
        *,
        made_of: Callable[[Mapping[str, object]], Mapping[str, object]],
        project: Path,
        progress: Progress,
    ) -> tuple[Machines, Mapping[str, object], Mapping[str, object]]:
        """Start a machine, let `prepare` bring it to where items begin, and make it a template.

        Args:
            key: The kind of machine.
            prepare: Called with the machine and its facts.
            made_of: Called with the facts; all that `prepare` brings into the machine, as a record. Of two sessions
                that are made of the same one may be left out.
            project: The project's root.
            progress: Is told what is done.

        Returns:
            The machines, their facts, and what `prepare` returned.

        Raises:
            VmError: it can't be had, or was lost on the way.
        """


class OpenSession:
    """Machines that wait for items, and what the guest said when it collected.

    Args:
        machines: The machines.
        facts: What they are made of.
        collected: The guest's answer to `session`, read as data.
    """

    def __init__(self, machines: Machines, facts: Mapping[str, object], collected: Collected) -> None:
        self.machines = machines
        self.facts = facts
        self.collected = collected
        self.warnings = collected.warnings
        self.is_virtual = fact(facts, "machine", "time") == "virtual"
        self.is_machine = fact(facts, "machine", "time") != NO_MACHINE
        cpus = fact(facts, "machine", "cpus")
        self.cpus = cpus if isinstance(cpus, int) else 1
        self._nodeids = collected.nodeids
        self._failed = collected.failed

    def explain_missing(self, nodeid: str) -> Loss | None:
        """Why the guest does not have this item; None if it has it."""
        if nodeid in self._nodeids:
            return None
        path = nodeid.partition("::")[0]
        for failed, text in self._failed.items():
            if failed == path or nodeid.startswith(f"{failed}::") or not failed:
                remedy = "remedy: let the file import in the guest too: [tool.kernelproof] guest-requirements"
                return Loss("collect", f"{path} can't be collected in the guest\n  {remedy}\n{text}")
        return Loss(
            "collect",
            f"{nodeid} vanished: the host collected it, the guest did not\n"
            "  remedy: let names and parameters of tests not depend on the machine that collects them",
        )


def fact(facts: Mapping[str, object], part: str, name: str) -> object:
    """One fact, or None: what makes the machines need not know all."""
    found = facts.get(part)
    return found.get(name) if isinstance(found, Mapping) else None


class Collected:
    """The guest's answer to `session`.

    Args:
        answer: The message, not trusted.

    Raises:
        ChannelError: it is not what the protocol allows.
    """

    def __init__(self, answer: Mapping[str, object]) -> None:
        check = Checker("the collection")
        self.answer = answer
        self.nodeids = frozenset(
            text for text in check.sequence(answer.get("nodeids"), "nodeids") if isinstance(text, str)
        )
        self.failed = {
            check.text(failed.get("nodeid"), "nodeid"): check.text(failed.get("text"), "text")
            for failed in (check.mapping(raw, "report") for raw in check.sequence(answer.get("reports"), "reports"))
        }
        self.warnings = read_warnings(check, answer.get("warnings"))


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What a session is made of.

    Args:
        key: The kind of machine.
        files: The test files that it collects, absolute.
        message: The `session` message; what only the machine can tell is added to it.
    """

    key: MachineKey
    files: tuple[Path, ...]
    message: Mapping[str, object]


def plan_for(
    config: pytest.Config, key: MachineKey, items: Iterable[pytest.Item], *, debugs: bool = False
) -> SessionPlan:
    """The session that has collected the files of these items.

    Raises:
        ProvisionError: the project's settings are wrong.
        OSError: they can't be read.
    """
    files = tuple(dict.fromkeys(item.stash[ASSIGNMENT].origin.path for item in items))
    return SessionPlan(key, files, plan_session(config, files, debugs=debugs))


def open_session(
    provider: MachineProvider, config: pytest.Config, plan: SessionPlan, progress: Progress
) -> OpenSession:
    """Machines of one kind that have collected a session's files.

    Raises:
        VmError: no machine, or no session in it; says what to do.
        OSError: a file of the project can't be read.
    """
    read = cache(partial(read_files, project_files(config, plan.files)))  # by who is first, of the two below

    def plan_message(facts: Mapping[str, object]) -> Mapping[str, object]:
        release, kind_of_time = (str(fact(facts, *names)) for names in (("kernel", "release"), ("machine", "time")))
        return {**plan.message, "environment": plan_environment(plan.key._replace(time=kind_of_time), release)}

    def prepare(machine: SessionMachine, facts: Mapping[str, object]) -> Mapping[str, object]:
        progress.step("push the project and collect its tests")
        bytecode = Bytecode(Cache(), facts.get("guest"), config.rootpath)
        if fact(facts, "machine", "time") != NO_MACHINE:
            conftests = (path for path in list_chain(plan.files, config.rootpath) if path.name == "conftest.py")
            compile_ahead(config, bytecode, [*plan.files, *conftests], find_tools(Cache(), facts.get("guest")))
        machine.push_archive(pack_project(read(), bytecode, plan.files), "/")
        answer = machine.request(plan_message(facts), timeout=COLLECT_SECONDS)
        if answer.get("kind") != "collected":
            _refuse_session(answer)
        if answer.get("compiled"):
            bytecode.learn(machine)
        return answer

    def made_of(facts: Mapping[str, object]) -> Mapping[str, object]:
        return {"files": digest_files(read()), "message": plan_message(facts)}

    machines, facts, answer = provider.open(
        plan.key, prepare, made_of=made_of, project=config.rootpath, progress=progress
    )
    return OpenSession(machines, facts, Collected(answer))


def project_files(config: pytest.Config, tests: Sequence[Path]) -> list[Path]:
    """All files that the guest needs.

    Raises:
        ProvisionError: the project's settings are wrong.
    """
    also = [] if config.inipath is None else [config.inipath]
    files = plan_files(config.rootpath, tests, also, read_settings(config.rootpath).guest_files)
    package = package_folder()
    return files if package / "__init__.py" in files else sorted({*files, *list_package_files(package)})


# What pytest says, and what helps: the first that matches is shown.
_REMEDIES = (
    (
        re.compile(r'Error importing plugin "([^"]+)"|Error while loading plugin "([^"]+)"'),
        "the guest lacks the pytest plugin {}",
        "add its distribution to guest-requirements in [tool.kernelproof] of pyproject.toml, or run without -p {}",
    ),
    (
        re.compile(r"ImportError while loading conftest '([^']+)'"),
        "{} can't be imported in the guest",
        "add what it imports to guest-requirements in [tool.kernelproof] of pyproject.toml, "
        "or import it in the tests that need it",
    ),
    (
        re.compile(r"Unknown config option: (\S+)"),
        "the guest's pytest does not know the ini name {}",
        "name the plugin that reads it in guest-plugins of [tool.kernelproof] in pyproject.toml",
    ),
)
_REFUSED = (
    "pytest ended in the guest before any test",
    "read what it said; the guest's pytest has no plugins but those named by -p and guest-plugins",
)


def _refuse_session(answer: Mapping[str, object]) -> NoReturn:
    check = Checker("the session")
    output = check.text(answer.get("output"), "output").strip()
    status = check.integer(answer.get("exit"), "exit")
    detail, remedy = explain_output(output)
    raise VmError("collect tests in the guest", detail, f"exit status {status}", f"{remedy}\n{output}")


def explain_output(output: str) -> tuple[str, str]:
    """What went wrong and what helps, from what the guest's pytest printed."""
    for pattern, detail, remedy in _REMEDIES:
        if (found := pattern.search(output)) is not None:
            name = next(group for group in found.groups() if group is not None)
            return detail.format(name), remedy.format(name)
    return _REFUSED
