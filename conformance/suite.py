"""The host's half of a run with behaviours: ties items to entries, holds the rules, chooses, hands over.

Rules, each a failed collection with file, line and remedy, all of them at once:
- every entry of the catalogue is well formed and has a source (`catalogue`);
- a test below a catalogue's parent folder bears @behaviour, and its id is in the catalogue;
- a statement has one test, parametrised or not; one more for each peer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernelproof.conformance.catalogue import Catalogue, CatalogueError, Entry, read_catalogue
from kernelproof.conformance.deviations import deviation_on, peer_deviation_on
from kernelproof.conformance.kernel_ranges import parse_series
from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS
from kernelproof.conformance.requirements import profile_for, time_for

BEHAVIOUR_PROPERTY = "kernelproof-behaviour"
FOLDER = "behaviours"

_QUICK_PROFILES = ("plain", "disk")
_SUBJECT = re.compile(r"[a-z0-9][a-z0-9-]*")


class Marked(NamedTuple):
    """What a test's marker says: the statement's id and who acts."""

    behaviour: str
    subject: str


class Bound(NamedTuple):
    """An item of the run: its statement, who acts, on which kernel, and who does the same beside it."""

    entry: Entry
    subject: str
    series: str
    peers: tuple[str, ...] = ()


class Suite:
    """The behaviours of one run, in the process that has the items.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.catalogue = Catalogue({}, "")
        self.folders: tuple[Path, ...] = ()
        self.with_test: set[str] = set()
        self.deselected = False
        self.bound: dict[str, Bound] = {}
        self._config = config
        self._out_of_range: set[str] = set()

    def bind(self, items: list[pytest.Item]) -> None:
        """Tie items to their entries and mark them for their machines; on any broken rule the run ends here."""
        asked = tuple(Path(path) for path in self._config.getini("behaviours_path"))
        marked = {item: item.get_closest_marker("behaviour") for item in items}
        self.folders = asked or _find_folders((item.path for item in items if marked[item]), self._config.rootpath)
        problems = self._load(bool(asked))
        if not problems:
            problems = self._bind_all(items, _strict_parents(self.folders, bool(asked), self._config.rootpath))
        if problems:
            self._refuse(items, problems)
        elif self._config.getoption("--behaviours") == "quick":
            self._keep_quick(items)

    def _load(self, asked: bool) -> list[str]:
        missing = [folder for folder in self.folders if not folder.is_dir()]
        if missing:
            return [f"behaviours_path: {folder} is no folder; correct the ini option" for folder in missing]
        if not self.folders:
            return [f"@behaviour: no folder {FOLDER}/ with *.toml lies above the test; make it or set behaviours_path"]
        try:
            self.catalogue = read_catalogue(self.folders)
        except CatalogueError as error:
            root = f"{self._config.rootpath}/"
            return [problem.replace(root, "") for problem in error.problems]
        return []

    def _bind_all(self, items: list[pytest.Item], strict: Sequence[Path]) -> list[str]:
        problems: list[str] = []
        owners: dict[tuple[str, str], pytest.Item] = {}
        for item in items:
            marker = item.get_closest_marker("behaviour")
            if marker is None:
                if any(item.path.is_relative_to(parent) for parent in strict):
                    problems.append(f"{_place(item)} has no @behaviour; tie it to a statement or move it elsewhere")
                continue
            try:
                self._bind_item(item, owners)
            except ValueError as error:
                problems.append(f"{_place(item)}: {error}")
        return list(dict.fromkeys(problems))  # once for a parametrised test

    def _bind_item(self, item: pytest.Item, owners: dict[tuple[str, str], pytest.Item]) -> None:
        behaviour, subject = read_marker(item)
        entry = self.catalogue.entries.get(behaviour)
        if entry is None:
            folders = ", ".join(map(str, self.folders))
            raise ValueError(f"no statement {behaviour!r} in {folders}; add it with its source, or correct the id")
        slot = (behaviour, "impl" if subject in JUDGED_SUBJECTS else subject)
        owner = owners.setdefault(slot, item)
        if _function_of(owner) != _function_of(item):
            raise ValueError(
                f"{behaviour} has a test at {_place(owner)} already; one statement, one test: split the statement"
            )
        read_peers(item)
        self.with_test.add(behaviour)
        if item.get_closest_marker("machine") is None:
            item.add_marker(_machine_marker(entry))

    def _keep_quick(self, items: list[pytest.Item]) -> None:
        chosen: dict[str, str] = {}
        dropped = []
        for item in items:
            if item.get_closest_marker("behaviour") is None:
                continue
            name = read_marker(item).behaviour
            if not _is_quick(item) or chosen.setdefault(name.rpartition(".")[0], name) != name:
                dropped.append(item)
        if dropped:
            left_out = set(dropped)
            items[:] = [item for item in items if item not in left_out]
            self._config.hook.pytest_deselected(items=dropped)

    def _refuse(self, items: list[pytest.Item], problems: list[str]) -> None:
        items.clear()  # no machine is made for a suite that breaks its rules
        self.with_test.clear()
        report = pytest.CollectReport(nodeid=FOLDER, outcome="failed", longrepr="\n".join(problems), result=[])
        self._config.hook.pytest_collectreport(report=report)

    # --- what the machine's plugin asks ---

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_select(
        self, config: pytest.Config, items: list[pytest.Item], series: str, home: bool
    ) -> None:
        """Take out the statements that are not meant for a kernel; those on user land are tried once, at home."""
        behaviours = [(item, self._entry(item)) for item in items]
        outside = [item for item, entry in behaviours if entry is not None and not _is_meant_for(entry, series, home)]
        for item, entry in behaviours:
            if entry is not None and item not in outside:
                self.bound[item.nodeid] = Bound(entry, read_marker(item).subject, series, read_peers(item))
        if outside:
            items[:] = [item for item in items if item not in outside]
            self._out_of_range.update(item.nodeid for item in outside)
            config.hook.pytest_deselected(items=outside)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_item_data(self, item: pytest.Item, series: str) -> dict[str, Any] | None:
        """Return what the guest must know of an item's entry."""
        entry = self._entry(item)
        if entry is None:
            return None
        deviation = deviation_on(entry.deviations, parse_series(series))
        return {
            "subject": read_marker(item).subject,
            "peers": [] if self._config.getoption("--no-peers") else list(read_peers(item)),
            "needs": [requirement.text for requirement in entry.needs],
            "deviation": deviation
            and {
                "seen": deviation.seen,
                "reason": deviation.reason,
                "witness": deviation.witness.name,
                "source": deviation.source,
            },
        }

    def _entry(self, item: pytest.Item) -> Entry | None:
        if item.get_closest_marker("behaviour") is None:
            return None
        return self.catalogue.entries.get(read_marker(item).behaviour)

    # --- pytest's own hooks ---

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Remember that a behaviour was left out by choice, and not for its kernel."""
        for item in items:
            if item.get_closest_marker("behaviour") is not None and item.nodeid not in self._out_of_range:
                self.deselected = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Keep a behaviour off the host's kernel."""
        if item.get_closest_marker("behaviour") is not None:
            pytest.skip("a behaviour runs in a machine only: choose a kernel with --kernel")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put into a report what the host knows; what the guest said stays beside it."""
        bound = self.bound.get(report.nodeid)
        if bound is None:
            return
        said = next((value for name, value in report.user_properties if name == BEHAVIOUR_PROPERTY), None)
        series = parse_series(bound.series)
        deviation = deviation_on(bound.entry.deviations, series)
        known = {
            "behaviour": bound.entry.id,
            "subject": bound.subject,
            "of": bound.entry.of,
            "node": plain_node(report.nodeid, bound.series),
            "deviates": deviation is not None,
            "peers": {name: peer_deviation_on(bound.entry.peer_deviations, name, series) for name in bound.peers},
            "folders": [str(folder) for folder in self.folders],
            "guest": said,
        }
        others = [(name, value) for name, value in report.user_properties if name != BEHAVIOUR_PROPERTY]
        report.user_properties = [*others, (BEHAVIOUR_PROPERTY, known)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what the items said over to the process that writes results."""
        account = account_of(self)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["kernelproof-suite"] = account


def account_of(suite: Suite) -> dict[str, Any]:
    """Return what a worker tells about its collection, as plain data."""
    return {
        "with_test": sorted(suite.with_test),
        "deselected": suite.deselected,
        "nodes": sorted(suite.bound),
    }


def read_marker(item: pytest.Item) -> Marked:
    """Return what an item's @behaviour says.

    Raises:
        ValueError: Its arguments are wrong, or two of its markers name different statements.
    """
    markers = [marker for marker in item.iter_markers("behaviour")]
    for marker in markers:
        if len(marker.args) != 1 or not isinstance(marker.args[0], str) or marker.kwargs.keys() - {"subject"}:
            raise ValueError("@behaviour takes one id and subject=…")
    names = {marker.args[0] for marker in markers}
    if len(names) != 1:
        raise ValueError(f"@behaviour names {' and '.join(sorted(names))}; one test proves one statement")
    subject = markers[0].kwargs.get("subject", "impl")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise ValueError(f"subject={subject!r} is neither impl nor stand-in nor a peer's name in small letters")
    return Marked(names.pop(), subject)


def read_peers(item: pytest.Item) -> tuple[str, ...]:
    """Return who does the work of an item's test beside its subject.

    Raises:
        ValueError: A name is none.
    """
    marker = item.get_closest_marker("peers")
    names = () if marker is None else marker.args
    for name in names:
        if not isinstance(name, str) or not _SUBJECT.fullmatch(name) or name in JUDGED_SUBJECTS:
            raise ValueError(f"peers: {name!r} is no peer's name in small letters")
    return tuple(names)


def plain_node(nodeid: str, series: str) -> str:
    """Return a node id without the kernel that a run on several kernels puts behind the test's name."""
    name, bracket, parameters = nodeid.partition("[")
    return name.removesuffix(f"@{series}") + bracket + parameters


def _is_quick(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("machine")
    return marker is not None and marker.kwargs.get("profile", "plain") in _QUICK_PROFILES


def _machine_marker(entry: Entry) -> pytest.MarkDecorator:
    try:
        profile = profile_for(entry.needs)
    except ValueError as error:
        raise ValueError(f"{entry.id}: {error}; name one with @pytest.mark.machine(profile=…)") from error
    return pytest.mark.machine(profile=profile, time=time_for(profile))


def _is_meant_for(entry: Entry, series: str, home: bool) -> bool:
    if entry.of == "userland" and not home:
        return False
    return entry.kernels is None or entry.kernels.holds(parse_series(series))


def _function_of(item: pytest.Item) -> str:
    # The same for all parameters of a test.
    return item.nodeid.partition("[")[0]


def _place(item: pytest.Item) -> str:
    path, line, _ = item.location
    return f"{path}:{(line or 0) + 1}: {_function_of(item).rpartition('::')[2]}"


def _find_folders(paths: Iterable[Path], root: Path) -> tuple[Path, ...]:
    found: dict[Path, Path | None] = {}
    for path in paths:
        if path.parent not in found:
            found[path.parent] = _nearest_folder(path.parent, root)
    return tuple(sorted({folder for folder in found.values() if folder is not None}))


def _nearest_folder(start: Path, root: Path) -> Path | None:
    for parent in (start, *start.parents):
        folder = parent / FOLDER
        if any(folder.glob("*.toml")):
            return folder
        if parent == root:
            return None
    return None


def _strict_parents(folders: Iterable[Path], asked: bool, root: Path) -> list[Path]:
    # A catalogue that was only found, in the root directory, says nothing about all the other tests of the project.
    return [folder.parent for folder in folders if asked or folder.parent != root]
