"""Reports are read as data: what a guest may not send is refused, what it may is escaped and built anew."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.errors import ChannelError
from kernelproof.vm.replay import ItemReader, rebuild_report, rebuild_warning

NODEID = "test_x.py::test_one"
IDENTITY = {"nodeid": f"{NODEID}@6.12", "location": ("test_x.py", 3, "test_one@6.12"), "keywords": {"test_one": 1}}
PLACE = {"path": "test_x.py", "lineno": 4, "message": "assert 0"}
ENTRY = {
    "type": "ReprEntry",
    "data": {
        "lines": ["    def test_one():", ">       assert 0", "E       assert 0"],
        "reprfuncargs": {"args": [["value", "1"]]},
        "reprlocals": {"lines": ["x = 1"]},
        "reprfileloc": PLACE,
        "style": "long",
    },
}
TRACEBACK = {"reprentries": [ENTRY], "extraline": None, "style": "long"}
DONE = {"kind": "item-done", "end": "done", "text": "", "clone": "0" * 32, "guest_ns": 100_000_000, "warnings": []}


def make_report(when: str, **changes: object) -> dict[str, Any]:
    """A report as a guest sends it."""
    times = {"duration_ns": 500_000_000, "start_ns": 1_000_000_000, "stop_ns": 1_500_000_000}
    empty: dict[str, object] = {"longrepr": None, "sections": [], "user_properties": []}
    return {**empty, **times, "nodeid": NODEID, "outcome": "passed", "when": when, **changes}


def failed_call() -> dict[str, Any]:
    """A report of a failed call."""
    longrepr = {"reprcrash": PLACE, "reprtraceback": TRACEBACK, "sections": [], "chain": [[TRACEBACK, PLACE, None]]}
    return make_report("call", outcome="failed", longrepr=longrepr)


def read(*reports: dict[str, Any], done: dict[str, object] = DONE) -> ItemReader:
    """Feed reports, after a trip through JSON, and the end."""
    reader = ItemReader(NODEID, IDENTITY)
    for report in reports:
        reader.feed({"kind": "report", "data": json.loads(json.dumps(report))})
    reader.feed(json.loads(json.dumps(done)))
    reader.finish()
    return reader


def whole(call: dict[str, Any]) -> list[dict[str, object]]:
    """The three reports of an item with this call."""
    return read(make_report("setup"), call, make_report("teardown")).reports


def test_report_of_a_failure(pytestconfig: pytest.Config) -> None:
    """A traceback is pytest's own again; node id, location and keywords are the host's."""
    report = rebuild_report(pytestconfig, whole(failed_call())[1])
    assert (report.nodeid, report.location, report.keywords) == tuple(IDENTITY.values())
    assert "E       assert 0" in report.longreprtext
    assert "x = 1" in report.longreprtext
    assert (report.when, report.outcome, report.duration) == ("call", "failed", 0.5)


def test_text_is_escaped(pytestconfig: pytest.Config) -> None:
    """What steers a terminal is made visible in every text of a report."""
    evil = "\x1b]0;title\x07 \x9b2J \u202e"
    call = failed_call()
    call["longrepr"]["reprtraceback"]["reprentries"][0]["data"]["lines"] = [f"E   {evil}"]
    call["sections"] = [["Captured stdout call", evil]]
    call["user_properties"] = [["name", {evil: [evil]}]]
    call["extra"] = evil
    report = rebuild_report(pytestconfig, whole(copy.deepcopy(call))[1])
    shown = repr((report.longreprtext, report.sections, report.user_properties, vars(report)["extra"]))
    assert not set("\x1b\x07\x9b\u202e") & set(report.longreprtext + report.sections[0][1])
    assert shown.count(r"\\x1b]0;title\\x07") == 5


def test_own_property_is_the_hosts() -> None:
    """A guest can't write the host's facts."""
    call = make_report("call", user_properties=[["kernelproof", {"kernel": "9.9"}], ["mine", 1]])
    assert whole(call)[1]["user_properties"] == [("mine", 1)]


def test_words_of_a_traceback_in_a_text(pytestconfig: pytest.Config) -> None:
    """A text, or the reason of a skip, that holds pytest's own words for a traceback stays a text."""
    text = "reprcrash and reprtraceback"
    assert rebuild_report(pytestconfig, whole(make_report("call", longrepr=text))[1]).longrepr == text
    skip = make_report("call", outcome="skipped", longrepr=["reprcrash", 1, "reprtraceback"])
    assert rebuild_report(pytestconfig, whole(skip)[1]).longrepr == ("reprcrash", 1, "reprtraceback")


def test_attributes_that_others_trust_are_dropped() -> None:
    """What xdist or pytest itself keeps in a report does not come from a guest."""
    call = make_report(
        "call", node=1, worker_id="gw9", toterminal="x", context={}, __class__="x", wasxfail="known", ok=[1]
    )
    report = whole(call)[1]
    assert {"wasxfail", "ok"} <= report.keys()
    assert not {"node", "worker_id", "toterminal", "context", "__class__"} & report.keys()


def test_phases() -> None:
    """Set-up and tear-down, with or without a call between; a call that counts as an error is allowed too."""
    setup, call, teardown = make_report("setup"), make_report("call"), make_report("teardown")
    broken_call = make_report("setup", outcome="failed", longrepr="x")
    for phases in ([setup, teardown], [setup, call, teardown], [setup, broken_call, teardown]):
        assert len(read(*phases).reports) == len(phases)
    for phases in (
        [],
        [setup],
        [call, teardown],
        [setup, call],
        [setup, teardown, teardown],
        [setup, call, call, teardown],
    ):
        with pytest.raises(ChannelError, match="phases"):
            read(*phases)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        target: Any = report
        for name in parents:
            target = target[int(name) if name.isdigit() else name]
        target[last] = value

    change.__name__ = f"{path}={str(value)[:20]}"
    return change


ENTRY_PATH = "longrepr/reprtraceback/reprentries"
REFUSED = [
    _set("nodeid", "test_x.py::test_other"),
    _set("nodeid", None),
    _set("outcome", "splendid"),
    _set("outcome", "skipped"),  # with a traceback and without xfail: pytest's summary would fail on it
    _set("when", "collect"),
    _set("when", ["call"]),
    _set("duration_ns", 0.5),
    _set("duration_ns", 10**400),
    _set("start_ns", "now"),
    _set("stop_ns", True),
    _set("sections", [["name"]]),
    _set("sections", {"name": "text"}),
    _set("sections", [["name", 5]]),
    _set("user_properties", [["name", 1, 2]]),
    _set("user_properties", [[1, 2]]),
    _set("longrepr", 5),
    _set("longrepr", ["path", 1]),
    _set("longrepr", ["path", "one", "reason"]),
    _set("longrepr/reprcrash", "here"),
    _set("longrepr/reprcrash/lineno", 1 << 40),
    _set("longrepr/chain", [[TRACEBACK]]),
    _set("longrepr/sections", [["a", "b"]]),
    _set("longrepr/reprtraceback", None),
    _set("longrepr/reprtraceback/style", "wild"),
    _set(f"{ENTRY_PATH}/0/type", "Exec"),
    _set(f"{ENTRY_PATH}/0/data/lines", "abc"),
    _set(f"{ENTRY_PATH}/0/data/reprfuncargs", {"args": [["only"]]}),
    _set(f"{ENTRY_PATH}/0/data/reprlocals", {"lines": [1]}),
    _set("wasxfail", {}),
    _set("_report_type", "SubTestReport"),
]


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """A field of another shape or range is refused, and so is a report for another test."""
    call = copy.deepcopy(failed_call())
    assert whole(copy.deepcopy(call))
    change(call)
    with pytest.raises(ChannelError, match="remedy"):
        whole(call)


@pytest.mark.parametrize(
    "changes",
    [
        {"clone": "xyz"},
        {"clone": "G" * 32},
        {"guest_ns": None},
        {"end": "later"},
        {"warnings": [{}]},
        {"status": "x", "end": "exit"},
        {"kind": "collected"},
        {"text": None},
    ],
)
def test_refused_end(changes: dict[str, object]) -> None:
    """An end of another shape is refused."""
    with pytest.raises(ChannelError):
        read(make_report("setup"), make_report("teardown"), done={**DONE, **changes})


def test_no_end_and_two_ends() -> None:
    """An answer without an end is refused, and what comes after it too."""
    with pytest.raises(ChannelError, match="no end"):
        ItemReader(NODEID, IDENTITY).finish()
    with pytest.raises(ChannelError, match="after the end"):
        read(make_report("setup"), make_report("teardown")).feed(DONE)


def test_bounds() -> None:
    """Reports without end, text without end and nesting without end are refused."""
    reader = ItemReader(NODEID, IDENTITY)
    report = {"kind": "report", "data": make_report("call")}
    for _ in range(10_000):
        reader.feed(report)
    with pytest.raises(ChannelError, match="more than 10000 reports"):
        reader.feed(report)
    with pytest.raises(ChannelError, match="characters of text"):
        read(*[make_report("setup", sections=[["out", "x" * 1_000_000]]) for _ in range(50)])
    nested: object = 1
    for _ in range(40):
        nested = [nested]
    with pytest.raises(ChannelError, match="nested"):
        read(make_report("setup", extra=nested))


def test_warning_of_a_class_that_is_no_warning() -> None:
    """A category is looked up among Python's own warnings only."""
    raw = {"category": "SystemExit", "text": "careful", "filename": "x.py", "lineno": 3}
    warning = rebuild_warning(raw)
    assert isinstance(warning, warnings.WarningMessage)
    assert warning.category is UserWarning
    assert str(warning.message) == "SystemExit: careful"
    assert rebuild_warning({**raw, "category": "RuntimeWarning"}).category is RuntimeWarning


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(failed_call())), value=PLAIN)
def test_any_value_in_any_field(name: str, value: object) -> None:
    """Whatever stands in a field, the report is read or refused, and what is read can be shown."""
    call = {**copy.deepcopy(failed_call()), name: value}
    reader = ItemReader(NODEID, IDENTITY)
    try:
        reader.feed({"kind": "report", "data": call})
    except ChannelError:
        return
    (report,) = reader.reports
    assert report["outcome"] in ("passed", "failed", "skipped")
    json.dumps(report, allow_nan=False)
