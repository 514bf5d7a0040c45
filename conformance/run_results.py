"""Gathers a run's rows in the process that owns the terminal, writes results files and prints the table.

With xdist that process has no items: what it must know of them comes with each report, and from each worker at its end.
Reports carry data from guests, which are not trusted: a row is built from the host's own knowledge, and of what the
guest said only a checked value, a text of bounded length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kernelproof.conformance.catalogue import Catalogue, CatalogueError, read_catalogue
from kernelproof.conformance.project import read_project
from kernelproof.conformance.report.files import write_results
from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS, Outcome, worst
from kernelproof.conformance.report.records import Results, Row
from kernelproof.conformance.report.summary import format_table
from kernelproof.conformance.suite import BEHAVIOUR_PROPERTY, account_of

MACHINE_PROPERTY = "kernelproof"
TEXT_LIMIT = 64 * 1024  # characters of a reason or a log in a row

USERLAND = "userland"  # statements on packages, not on the kernel: they have a file, and a column, of their own

_KERNEL_FACTS = ("name", "series", "release", "package", "build", "config_digest")
_GUEST_FACTS = ("root_digest", "python", "observers")
_MACHINE_FACTS = ("qemu", "accelerator", "time", "cpus")


class ItemRecord:
    """What the reports of one item on one machine said, phase by phase."""

    def __init__(self, known: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
        self.kernel = str(machine["kernel"])
        self.file = USERLAND if known["of"] == USERLAND else self.kernel
        self._known = known
        self._machine = machine
        self._outcomes: list[Outcome] = []
        self._reason: str | None = None
        self._guest: dict[str, Any] = {}

    def add(self, report: pytest.TestReport, guest: object) -> None:
        """Take one phase's report and what the guest said with it."""
        if isinstance(guest, dict):
            self._guest = guest
        outcome = self._outcome(report)
        if outcome is None:
            return
        if outcome not in (Outcome.PASS, *self._outcomes[-1:]) and self._is_worse(outcome):
            self._reason = self._reason_of(report, outcome)
        self._outcomes.append(outcome)

    def _is_worse(self, outcome: Outcome) -> bool:
        return worst([outcome, *self._outcomes]) is outcome

    def _outcome(self, report: pytest.TestReport) -> Outcome | None:
        said = self._guest.get("outcome")
        if report.when != "call":
            if report.failed:
                return Outcome.BROKEN
            if report.skipped:
                return Outcome.NOT_APPLICABLE if said == Outcome.NOT_APPLICABLE else Outcome.BROKEN
            return None
        if not report.passed:
            return Outcome.FAIL if report.failed else Outcome.BROKEN
        if said == Outcome.DEVIATION and self._known["deviates"]:
            return Outcome.DEVIATION
        if said == Outcome.FAIL and self._known["subject"] not in JUDGED_SUBJECTS:
            return Outcome.FAIL
        return Outcome.PASS

    def _reason_of(self, report: pytest.TestReport, outcome: Outcome) -> str:
        said = self._guest.get("reason")
        crash = getattr(report.longrepr, "reprcrash", None)
        texts = [said, getattr(crash, "message", None), report.longreprtext]
        if outcome is Outcome.BROKEN:
            texts = texts[1:]
        return next((_clipped(text.strip()) for text in texts if isinstance(text, str) and text.strip()), "no reason")

    def row(self) -> Row | None:
        """Return the item's row; None when it never came to a result."""
        if not self._outcomes:
            return None
        outcome = worst(self._outcomes)
        return Row(
            behaviour=self._known["behaviour"],
            node=self._known["node"],
            profile=str(self._machine.get("profile", "plain")),
            subject=self._known["subject"],
            outcome=outcome,
            clone=self._machine.get("clone"),
            wall_seconds=self._machine.get("wall_seconds"),
            guest_seconds=self._machine.get("guest_seconds"),
            reason=None if outcome is Outcome.PASS else self._reason,
            seen=_bounded(self._guest.get("seen")),
            log=self._log(outcome),
        )

    def peer_rows(self) -> Iterator[Row]:
        """Return a row for each peer that the test asked beside its subject; the item's own row has the time of all."""
        own, answers = self.row(), self._guest.get("peers")
        if own is None or not isinstance(answers, dict):
            return
        for name, listed in self._known["peers"].items():
            if isinstance(answer := answers.get(name), dict):
                outcome, reason = _judge_peer(answer, listed)
                seen = _bounded(answer.get("seen"))
                row = own._replace(subject=name, outcome=outcome, reason=reason, seen=seen, log=None)
                yield row._replace(wall_seconds=None, guest_seconds=None)

    def _log(self, outcome: Outcome) -> str | None:
        log = self._guest.get("log") or (self._machine.get("log") if self._machine.get("lost") else None)
        return _clipped(log) if isinstance(log, str) and log and outcome is not Outcome.PASS else None


def _judge_peer(answer: Mapping[str, Any], listed: Mapping[str, Any] | None) -> tuple[Outcome, str | None]:
    # As for a subject of the project's own, but by value alone.
    said = answer.get("reason")
    reason = _clipped(said) if isinstance(said, str) and said else "no reason"
    if answer.get("outcome") == Outcome.PASS:
        if listed is None:
            return Outcome.PASS, None
        return Outcome.FAIL, f"it does as documented, not {listed['seen']!r} as listed: remove the peer's deviation"
    if listed is None:
        return Outcome.FAIL, reason
    if json.dumps(answer.get("seen")) != json.dumps(listed["seen"]):
        return Outcome.FAIL, f"{listed['seen']!r} is listed, {answer.get('seen')!r} was seen: {reason}"
    return Outcome.DEVIATION, listed["reason"]


def _clipped(text: str) -> str:
    # The end says most: the last lines of a log, the last line of a traceback.
    return text if len(text) <= TEXT_LIMIT else "…" + text[-TEXT_LIMIT:]


def _bounded(value: object) -> Any:
    return value if len(json.dumps(value)) <= TEXT_LIMIT else "a value too long to keep"


class RunResults:
    """The plugin of the process that owns the terminal.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._facts: dict[str, dict[str, Any]] = {}
        self._items: dict[tuple[str, str, str | None], ItemRecord] = {}
        self._seen_nodes: set[str] = set()
        self._folders: set[Path] = set()
        self._accounts: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._unwritten = False

    def note_machine(self, facts: Mapping[str, Any]) -> None:
        """Keep the facts of a template. Of several of a kernel one stands in the header, whoever made it first."""
        name = facts["kernel"]["name"]
        self._facts[name] = min(dict(facts), self._facts.get(name, dict(facts)), key=_rank)

    def note_report(self, report: pytest.TestReport) -> None:
        """Take a report of a behaviour that had a machine."""
        properties: dict[str, Any] = dict(report.user_properties)
        known, machine = properties[BEHAVIOUR_PROPERTY], properties.get(MACHINE_PROPERTY)
        if not isinstance(machine, dict):
            return  # skipped on the host: nobody chose a kernel
        if isinstance(facts := machine.get("facts"), Mapping):
            self.note_machine(facts)  # a worker that ends in Ctrl-C tells nothing afterwards
        self._folders.update(map(Path, known["folders"]))
        key = (str(machine["kernel"]), known["node"], machine.get("clone"))
        record = self._items.setdefault(key, ItemRecord(known, machine))
        record.add(report, known["guest"])
        self._seen_nodes.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Keep what an xdist worker says about its collection."""
        account = getattr(node, "workeroutput", {}).get("kernelproof-suite")
        if account is not None:
            self._accounts.append(account)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write a file a kernel."""
        suite = self._config.pluginmanager.get_plugin("kernelproof-conformance-suite")
        if suite is not None:
            self._accounts.append(account_of(suite))
        rows: dict[tuple[str, str], list[Row]] = {}
        for record in self._items.values():
            if (row := record.row()) is not None:
                rows.setdefault((record.file, record.kernel), []).extend((row, *record.peer_rows()))
        if rows:
            self._write(rows, self._is_complete(exitstatus))
        if self._unwritten and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _is_complete(self, exitstatus: int) -> bool:
        # Whatever stopped the run, -x or a lost worker: what counts is that every selected item has spoken.
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        expected = {node for account in self._accounts for node in account["nodes"]}
        return ended and bool(expected) and expected <= self._seen_nodes

    def _write(self, rows: dict[tuple[str, str], list[Row]], complete: bool) -> None:
        catalogue = self._read_catalogue()
        deselected = any(account["deselected"] for account in self._accounts)
        selection = find_selection(self._config, {folder.parent for folder in self._folders}, deselected=deselected)
        project = read_project(self._config.rootpath)
        given = self._config.getoption("--results-dir")
        folder = self._config.invocation_params.dir / given if given else self._config.rootpath / "results"
        subsystems = {entry.id: entry.subsystem for entry in catalogue.entries.values()}
        for name, kernel in sorted(rows):
            facts = self._facts.get(kernel, {})
            results = Results(
                project=project,
                catalogue_digest=catalogue.digest,
                kernel={**_only(facts, "kernel", _KERNEL_FACTS), "name": name},
                guest=_only(facts, "guest", _GUEST_FACTS),
                machine=_only(facts, "machine", _MACHINE_FACTS),
                selection=selection,
                complete=complete,
                rows=tuple(rows[name, kernel]),
            )
            title = f"user land, on kernel {kernel}" if name == USERLAND else f"kernel {kernel}"
            self._lines += [title, *format_table(results.rows, subsystems), self._save(folder, results)]
        self._lines += self._counts(catalogue, whole=not selection and complete)

    def _read_catalogue(self) -> Catalogue:
        suite = self._config.pluginmanager.get_plugin("kernelproof-conformance-suite")
        if suite is not None:
            return cast("Catalogue", suite.catalogue)
        try:
            return read_catalogue(sorted(self._folders))
        except (CatalogueError, OSError):  # it was whole when the run began
            return Catalogue({}, "0" * 64)

    def _save(self, folder: Path, results: Results) -> str:
        try:
            path = write_results(folder, results)
        except (OSError, ValueError) as error:
            self._unwritten = True
            return f"RESULTS NOT WRITTEN: {error}; name another folder with --results-dir"
        why = (
            ""
            if results.is_whole
            else f" (a part: {'; '.join(results.selection) or 'the run did not come to its end'})"
        )
        return f"written to {path}{why}"

    def _counts(self, catalogue: Catalogue, *, whole: bool) -> Iterator[str]:
        entries = catalogue.entries.values()
        deviations = sum(len(entry.deviations) for entry in entries)
        narrowed = sum(entry.kernels is not None for entry in entries)
        with_test = {behaviour for account in self._accounts for behaviour in account["with_test"]}
        planned = f"{len(catalogue.entries.keys() - with_test)} planned, " if whole else ""
        noun = "deviation" if deviations == 1 else "deviations"
        listed = f"{deviations} {noun} listed, {narrowed} narrowed to some kernels"
        yield f"{len(entries)} statements: {planned}{listed}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if self._lines:
            terminalreporter.section("behaviours")
            for line in self._lines:
                terminalreporter.write_line(line)


def _rank(facts: Mapping[str, Any]) -> tuple[bool, str]:
    # Virtual time, where there is any, then what is always the same in a run.
    return facts.get("machine", {}).get("time") != "virtual", str(facts.get("guest", {}).get("root_digest"))


def _only(facts: Mapping[str, Any], part: str, keys: Iterable[str]) -> dict[str, Any]:
    given = facts.get(part, {})
    return {key: given.get(key) for key in keys}


def find_selection(config: pytest.Config, suites: Iterable[Path], *, deselected: bool) -> tuple[str, ...]:
    """Return what narrowed a run, as on the command line; empty for a whole run.

    Args:
        config: pytest's.
        suites: The folders that hold a catalogue's tests.
        deselected: Whether any behaviour was left out, by whomever.
    """
    option = config.option
    found = [f"{name} {value}" for name, value in (("-k", option.keyword), ("-m", option.markexpr)) if value]
    for name in ("deselect", "ignore", "ignore_glob"):
        found += [f"--{name.replace('_', '-')} {value}" for value in getattr(option, name, None) or ()]
    if option.behaviours != "all":
        found.append(f"--behaviours {option.behaviours}")
    if option.no_peers:
        found.append("--no-peers")
    for name in ("lf", "stepwise"):
        if getattr(option, name, False):
            found.append(f"--{name}")
    found += _narrow_arguments(config, suites)
    if not found and deselected:
        found.append("deselected by a plugin")
    return tuple(found)


def _narrow_arguments(config: pytest.Config, suites: Iterable[Path]) -> list[str]:
    # Whole means that every suite lies below some argument, or that the project's own testpaths say what there is.
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return []
    base = config.invocation_params.dir
    roots = [(base / argument).resolve() for argument in config.args if "::" not in argument]
    if all(any(suite.resolve().is_relative_to(root) for root in roots) for suite in suites):
        return []
    return [str(argument) for argument in config.args]
