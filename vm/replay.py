"""Reports from a guest, read as data: every field checked, bounded, escaped and built anew.

The guest is not trusted: what it sends may be of any shape and size, may speak of another test, and may steer a
terminal. Nothing of it is executed, unpickled or used as a path. What breaks these rules is a `ChannelError`.
"""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Mapping
from typing import NoReturn

import pytest

from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import ChannelError

OWN_PROPERTY = "kernelproof"  # in user_properties: the host's own facts; a guest can't write them

ITEM_TEXT_LIMIT = 40 * 1024 * 1024  # characters in all reports of one item
REPORTS_LIMIT = 10_000  # reports of one item: three and its subtests
DEPTH_LIMIT = 20

_OUTCOMES = ("passed", "failed", "skipped")
_PHASES = ("setup", "call", "teardown")
_STYLES = ("long", "short", "line", "no", "native", "value", "auto")

# What reports of the host's own plugins bear and trust; xdist's are the last four.
_RESERVED = frozenset(dir(pytest.TestReport)) | {"context", "node", "worker_id", "item_index", "testrun_uid"}
TIMES = ("duration", "start", "stop")
_FIELDS = frozenset(
    {
        "nodeid",
        "location",
        "keywords",
        "outcome",
        "longrepr",
        "when",
        "sections",
        *(f"{name}_ns" for name in TIMES),
        "user_properties",
    }
)
_SUBTEST = "_subtest.context"


class ItemReader:
    """Reads what a guest answers to one item, message by message.

    Args:
        guest_nodeid: The item's node id in the guest.
        identity: The fields of every report that the host knows itself: nodeid, location, keywords.
    """

    def __init__(self, guest_nodeid: str, identity: Mapping[str, object]) -> None:
        self.reports: list[dict[str, object]] = []
        self.end: dict[str, object] | None = None
        self._guest_nodeid = guest_nodeid
        self._identity = identity
        self._checker = Checker(guest_nodeid)

    def feed(self, message: Mapping[str, object]) -> None:
        """Take one message.

        Raises:
            ChannelError: it is not what the protocol allows here.
        """
        kind = message.get("kind")
        check = self._checker
        if self.end is not None:
            check.refuse(f"a message after the end: {kind!r}")
        if kind == "report":
            if len(self.reports) >= REPORTS_LIMIT:
                check.refuse(f"more than {REPORTS_LIMIT} reports")
            self.reports.append(self._read_report(check.mapping(message.get("data"), "report")))
        elif kind == "item-done":
            self.end = _read_end(check, message)
        elif kind == "session-over":  # pytest itself failed, in the middle of an item
            self.end = {"end": "error", "text": check.text(message.get("output"), "output")}
        else:
            check.refuse(f"unknown kind of message {kind!r}")

    def finish(self) -> dict[str, object]:
        """The last message, checked; its `end` says how: done, exit (of the whole run is asked), error (of a hook).

        Raises:
            ChannelError: the messages so far are no whole item.
        """
        if self.end is None:
            self._checker.refuse("the answer has no end")
        if self.end["end"] == "done":
            self._check_phases()
        return self.end

    @property
    def failed(self) -> bool:
        """Whether anything failed so far."""
        return any(report["outcome"] == "failed" for report in self.reports)

    def add_section(self, name: str, text: str) -> None:
        """Say something with what failed."""
        for report in self.reports:
            if report["outcome"] == "failed" and isinstance(sections := report["sections"], list):
                sections.append((name, text))

    def _check_phases(self) -> None:
        phases = [report["when"] for report in self.reports if _SUBTEST not in report]
        # A plugin in the guest may turn a call's report into a setup's, to have it counted as an error.
        if phases[:1] != ["setup"] or phases[-1] != "teardown" or len(phases) > 3 or phases[1:-1] not in _MIDDLES:
            self._checker.refuse(f"reports of the phases {phases}")

    def _read_report(self, data: Mapping[str, object]) -> dict[str, object]:
        check = self._checker
        if data.get("nodeid") != self._guest_nodeid:
            check.refuse(f"a report for another test: {escape_text(repr(data.get('nodeid')))[:200]}")
        outcome = check.choice(data.get("outcome"), _OUTCOMES, "outcome")
        report: dict[str, object] = {
            **self._identity,
            "$report_type": "TestReport",
            "outcome": outcome,
            "when": check.choice(data.get("when"), _PHASES, "when"),
            "longrepr": read_longrepr(check, data.get("longrepr")),
            "sections": [(name, text) for name, text in check.pairs(data.get("sections"), "sections")],
            **{name: check.seconds(data.get(f"{name}_ns"), f"{name}_ns") for name in TIMES},
            "user_properties": read_properties(check, data.get("user_properties")),
        }
        report.update(_read_extras(check, data))
        # pytest's summary takes the place and the reason of a plain skip from this tuple.
        if outcome == "skipped" and "wasxfail" not in report and not isinstance(report["longrepr"], tuple):
            check.refuse("a skip without place and reason")
        return report


_MIDDLES: tuple[list[str], ...] = ([], ["call"], ["setup"])


def _read_extras(check: Checker, data: Mapping[str, object]) -> dict[str, object]:
    extras: dict[str, object] = {}
    if data.get("_report_type") == "SubTestReport":
        context = check.mapping(data.get(_SUBTEST), "subtest")
        arguments = check.mapping(context.get("kwargs"), "subtest arguments")
        extras["_report_type"] = "SubTestReport"
        extras[_SUBTEST] = {
            "msg": check.optional_text(context.get("msg"), "subtest message"),
            "kwargs": {check.text(key, "name"): check.text(value, "argument") for key, value in arguments.items()},
        }
    if data.get("_pdbshown") is True:  # the debugger showed the failure: pytest does not show it again
        extras["_pdbshown"] = True
    if "wasxfail" in data:
        extras["wasxfail"] = check.text(data["wasxfail"], "wasxfail")
    for name, value in data.items():
        if name.isidentifier() and name[0] != "_" and name not in _FIELDS and name not in _RESERVED | extras.keys():
            extras[name] = check.plain(value, f"attribute {name}")
    return extras


def rebuild_report(config: pytest.Config, data: Mapping[str, object]) -> pytest.TestReport:
    """A report as pytest has it, from what `ItemReader` read or the host made up."""
    longrepr = data["longrepr"]
    # pytest takes a text that holds the words "reprcrash" and "reprtraceback" for a traceback.
    is_traceback = isinstance(longrepr, dict)
    plain = {**data, "longrepr": longrepr if is_traceback else None}
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=plain)
    if not is_traceback:
        vars(report)["longrepr"] = longrepr
    return report


def read_properties(check: Checker, value: object) -> list[tuple[str, object]]:
    """The guest's user properties without any that the host alone may write."""
    properties = []
    for entry in check.sequence(value, "user_properties"):
        if not isinstance(entry, list) or len(entry) != 2:
            check.refuse("a user property is no pair")
        name = check.text(entry[0], "property name")
        if name != OWN_PROPERTY:
            properties.append((name, check.plain(entry[1], f"property {name}")))
    return properties


def read_longrepr(check: Checker, value: object) -> object:
    """A traceback, a text, or the place and reason of a skip."""
    if value is None or isinstance(value, str):
        return check.optional_text(value, "longrepr")
    if isinstance(value, list):
        if len(value) != 3:
            check.refuse("a skip has a path, a line and a reason")
        return check.text(value[0], "path"), check.integer(value[1], "line"), check.text(value[2], "reason")
    data = check.mapping(value, "longrepr")
    chain = data.get("chain")
    return {
        "reprcrash": _read_crash(check, data.get("reprcrash")),
        "reprtraceback": _read_traceback(check, data.get("reprtraceback")),
        "sections": [_read_triple(check, entry) for entry in check.sequence(data.get("sections"), "sections")],
        "chain": None if chain is None else _read_chain(check, chain),
    }


def _read_chain(check: Checker, value: object) -> list[tuple[object, ...]] | None:
    links: list[tuple[object, ...]] = []
    for entry in check.sequence(value, "chain"):
        if not isinstance(entry, list) or len(entry) != 3:
            check.refuse("a link of a chain of exceptions has three parts")
        crash, description = _read_crash(check, entry[1]), check.optional_text(entry[2], "description")
        links.append((_read_traceback(check, entry[0]), crash, description))
    return links or None


def _read_triple(check: Checker, value: object) -> tuple[str, ...]:
    texts = tuple(check.text(text, "section") for text in check.sequence(value, "section"))
    if len(texts) != 3 or len(texts[2]) != 1:
        check.refuse("a section has a name, a content and a separator")
    return texts


def _read_crash(check: Checker, value: object) -> dict[str, object] | None:
    if value is None:
        return None
    data = check.mapping(value, "place")
    return {
        "path": check.text(data.get("path"), "path"),
        "lineno": check.integer(data.get("lineno"), "line"),
        "message": check.text(data.get("message"), "message"),
    }


def _read_traceback(check: Checker, value: object) -> dict[str, object]:
    data = check.mapping(value, "traceback")
    return {
        "reprentries": [_read_entry(check, entry) for entry in check.sequence(data.get("reprentries"), "entries")],
        "extraline": check.optional_text(data.get("extraline"), "extraline"),
        "style": check.choice(data.get("style"), _STYLES, "style"),
    }


def _read_entry(check: Checker, value: object) -> dict[str, object]:
    entry = check.mapping(value, "entry")
    data = check.mapping(entry.get("data"), "entry")
    kind = check.choice(entry.get("type"), ("ReprEntry", "ReprEntryNative"), "type of entry")
    lines = check.texts(data.get("lines"), "lines")
    if kind == "ReprEntryNative":
        return {"type": kind, "data": {"lines": lines}}
    arguments, variables = data.get("reprfuncargs"), data.get("reprlocals")
    return {
        "type": kind,
        "data": {
            "lines": lines,
            "reprfuncargs": None if arguments is None else _read_arguments(check, arguments),
            "reprlocals": None if variables is None else _read_locals(check, variables),
            "reprfileloc": _read_crash(check, data.get("reprfileloc")),
            "style": check.choice(data.get("style"), _STYLES, "style"),
        },
    }


def _read_arguments(check: Checker, value: object) -> dict[str, object]:
    return {"args": check.pairs(check.mapping(value, "arguments").get("args"), "arguments")}


def _read_locals(check: Checker, value: object) -> dict[str, object]:
    return {"lines": check.texts(check.mapping(value, "locals").get("lines"), "locals")}


def _read_end(check: Checker, message: Mapping[str, object]) -> dict[str, object]:
    clone = check.text(message.get("clone"), "clone")
    if len(clone) != 32 or not set(clone) <= set("0123456789abcdef"):
        check.refuse("the clone's mark is not 16 bytes in hexadecimal")
    status = message.get("status")
    return {
        "end": check.choice(message.get("end"), ("done", "exit", "error"), "end"),
        "text": check.text(message.get("text"), "text"),
        "status": None if status is None else check.integer(status, "status") & 0xFF,
        "guest_seconds": check.seconds(message.get("guest_ns"), "guest_ns"),
        "clone": clone,
        "warnings": read_warnings(check, message.get("warnings")),
        "coverage": message.get("coverage"),  # judged by who takes it
    }


def read_warnings(check: Checker, value: object) -> list[dict[str, object]]:
    """Warnings that were recorded in the guest."""
    return [
        {
            "when": check.choice(entry.get("when"), ("config", "collect", "runtest"), "when"),
            "category": check.text(entry.get("category"), "category"),
            "text": check.text(entry.get("text"), "text"),
            "filename": check.text(entry.get("filename"), "filename"),
            "lineno": check.integer(entry.get("lineno"), "line"),
        }
        for entry in (check.mapping(raw, "warning") for raw in check.sequence(value, "warnings"))
    ]


def rebuild_warning(warning: Mapping[str, object]) -> warnings.WarningMessage:
    """A warning as Python has it. Its class is one of Python's own by name; of any other only the name is told."""
    category, text = str(warning["category"]), str(warning["text"])
    found = vars(builtins).get(category)
    if not (isinstance(found, type) and issubclass(found, Warning)):
        found, text = UserWarning, f"{category}: {text}"
    return warnings.WarningMessage(found(text), found, str(warning["filename"]), int(str(warning["lineno"])))


class Checker:
    """Checks values from a guest against a budget of text.

    Args:
        subject: What is read, for error messages.
        limit: How many characters all texts together may have.
    """

    def __init__(self, subject: str, limit: int = ITEM_TEXT_LIMIT) -> None:
        self._subject = subject
        self._limit = limit
        self._left = limit

    def refuse(self, detail: str) -> NoReturn:
        """Raises: ChannelError: always."""
        remedy = "a test or plugin that writes to the agent's port, or a fault of kernelproof: report it with this text"
        raise ChannelError("read the guest's answer", self._subject, detail, remedy)

    def text(self, value: object, name: str) -> str:
        """A string, escaped."""
        if not isinstance(value, str):
            self.refuse(f"{name} is a {type(value).__name__}, not a text")
        self._left -= len(value)
        if self._left < 0:
            self.refuse(f"more than {self._limit} characters of text")
        return escape_text(value)

    def optional_text(self, value: object, name: str) -> str | None:
        """A string, escaped, or None."""
        return None if value is None else self.text(value, name)

    def texts(self, value: object, name: str) -> list[str]:
        """A list of strings, escaped."""
        return [self.text(text, name) for text in self.sequence(value, name)]

    def pairs(self, value: object, name: str) -> list[tuple[str, str]]:
        """A list of pairs of strings, escaped."""
        pairs = []
        for entry in self.sequence(value, name):
            if not isinstance(entry, list) or len(entry) != 2:
                self.refuse(f"{name} holds what is no pair")
            pairs.append((self.text(entry[0], name), self.text(entry[1], name)))
        return pairs

    def choice(self, value: object, allowed: tuple[str, ...], name: str) -> str:
        """One of the allowed words."""
        if not isinstance(value, str) or value not in allowed:
            self.refuse(f"{name} is {escape_text(repr(value))[:80]}, not one of {', '.join(allowed)}")
        return value

    def integer(self, value: object, name: str) -> int:
        """An integer of at most 32 bits."""
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 31:
            self.refuse(f"{name} is no integer of 32 bits")
        return value

    def seconds(self, value: object, name: str) -> float:
        """Nanoseconds as seconds, not negative. A test may set the guest's clock back: that counts as 0."""
        if not isinstance(value, int) or isinstance(value, bool) or not abs(value) < 10**21:
            self.refuse(f"{name} is no number of nanoseconds")
        return max(value / 1e9, 0.0)

    def mapping(self, value: object, name: str) -> dict[str, object]:
        """A JSON object."""
        if not isinstance(value, dict):
            self.refuse(f"{name} is a {type(value).__name__}, not an object")
        return value

    def sequence(self, value: object, name: str) -> list[object]:
        """A JSON array."""
        if not isinstance(value, list):
            self.refuse(f"{name} is a {type(value).__name__}, not an array")
        self._left -= len(value)  # also empty texts cost memory
        if self._left < 0:
            self.refuse(f"more than {self._limit} entries")
        return value

    def plain(self, value: object, name: str, depth: int = 0) -> object:
        """Any JSON value, its texts escaped."""
        if depth > DEPTH_LIMIT:
            self.refuse(f"{name} is nested deeper than {DEPTH_LIMIT}")
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, list):
            return [self.plain(inner, name, depth + 1) for inner in self.sequence(value, name)]
        if isinstance(value, dict):
            return {self.text(key, name): self.plain(inner, name, depth + 1) for key, inner in value.items()}
        return self.text(value, name)
