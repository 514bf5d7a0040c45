"""A test that takes the agent's port and lies with it harms its own outcome, and nothing else.

Frames that are none are the channel's business: `machine_side/test_lying_guest.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kernelproof.vm.tests.plugin.conftest import Run

# In the guest: the way from a test to the port that its agent talks to the host by.
TAKEN = """
import inspect, os, time
import pytest
pytestmark = pytest.mark.machine

def taken():
    for frame in inspect.stack():
        session = frame.frame.f_locals.get("self")
        if type(session).__name__ == "GuestSession":
            return session._port

def report(nodeid, when="call", **members):
    data = {"nodeid": nodeid, "outcome": "passed", "when": when, "longrepr": None, "sections": [], "duration_ns": 0,
            "start_ns": 0, "stop_ns": 0, "user_properties": [], "$report_type": "TestReport"}
    return {"kind": "report", "phase": when, "data": {**data, **members}}

def finish(port):
    port.send({"kind": "item-done", "clone": "0" * 32, "guest_ns": 0, "end": "done", "text": "", "warnings": []})
    time.sleep(60)

    while data:
        data = data[os.write(port._descriptor, data):]
"""
AFTER = "\n\ndef test_after():\n    pass\n"


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ('port.send(report("test_lie.py::test_after"))', "a report for another test"),
        ('port.send(report("../../etc/passwd::test"))', "a report for another test"),
        ('port.send(report("test_lie.py::test_lie", "setup", outcome="won"))', "outcome is 'won'"),
        ('port.send({"kind": "collected", "nodeids": []})', "a message of kind 'collected' came"),
        ('port.send({"kind": "compiled", "source": "/etc/passwd"})', "a message of kind 'compiled' came"),
        ('port.send(report("test_lie.py::test_lie", longrepr={"reprcrash": "x"}))', "is a str, not an object"),
        ("finish(port)", "reports of the phases"),
    ],
    ids=["other", "path", "outcome", "kind", "bytecode", "shape", "nothing"],
)
def test_lie_breaks_its_own_test(lie: str, says: str, pytester: pytest.Pytester, run: Run) -> None:
    """What the protocol does not allow is that test's error, told in words; the next test is not touched."""
    body = f"\n\ndef test_lie():\n    port = taken()\n    {lie}\n    time.sleep(60)\n"
    pytester.makepyfile(test_lie=TAKEN + body + AFTER)
    began = time.monotonic()
    result = run("--vm-timeout", "50")
    assert time.monotonic() - began < 50
    result.assert_outcomes(errors=1, passed=1)
    assert says in result.stdout.str()


def test_reports_without_end(pytester: pytest.Pytester, run: Run) -> None:
    """Reports that go on and on are refused when they are more than an item may have."""
    body = (
        '\n\ndef test_lie():\n    port = taken()\n    while True:\n        port.send(report("test_lie.py::test_lie"))\n'
    )
    pytester.makepyfile(test_lie=TAKEN + body + AFTER)
    result = run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*more than 10000 reports*"])


def test_texts_that_steer_a_terminal(pytester: pytest.Pytester, run: Run) -> None:
    """Escapes in a forged report, in output, in a warning and in the log reach no terminal and no file as they are."""
    body = r"""

def test_lie():
    port, evil = taken(), "\x1b]0;title\x07\x1b[2J\x9b31m"
    os.write(2, evil.encode())
    port.send(report("test_lie.py::test_lie", "setup", sections=[["Captured stdout setup", evil]]))
    failed = {"outcome": "failed", "longrepr": evil, "user_properties": [["name", evil]]}
    port.send(report("test_lie.py::test_lie", **failed))
    port.send(report("test_lie.py::test_lie", "teardown"))
    warning = {"when": "runtest", "nodeid": evil, "category": evil, "text": evil, "filename": evil, "lineno": 1}
    done = {"kind": "item-done", "clone": "0" * 32, "guest_ns": 0, "end": "done", "text": evil}
    port.send({**done, "warnings": [warning]})
    time.sleep(60)
"""
    pytester.makepyfile(test_lie=TAKEN + body)
    result = run("--junitxml=out.xml", "-rA", "--color=no", "-p", "no:hypothesispytest")
    result.assert_outcomes(failed=1, warnings=1)
    written = result.stdout.str() + Path("out.xml").read_text("utf-8")
    for steering in ("\x1b", "\x07", "\x9b"):
        assert steering not in written
    assert r"\x1b[2J" in written


def test_names_that_a_host_would_follow(pytester: pytest.Pytester, run: Run) -> None:
    """Paths in a forged report are shown, never opened; classes that it names are never looked up."""
    body = r"""

def test_lie():
    port = taken()
    place = {"path": "/etc/passwd", "lineno": 1, "message": "os.system('touch pwned')"}
    entry = {"type": "ReprEntry", "data": {"lines": ["E   x"], "reprfuncargs": None, "reprlocals": None,
             "reprfileloc": place, "style": "long"}}
    trace = {"reprentries": [entry], "extraline": None, "style": "long"}
    wrong = {"reprcrash": place, "reprtraceback": trace, "sections": [], "chain": None}
    port.send(report("test_lie.py::test_lie", "setup"))
    port.send(report("test_lie.py::test_lie", outcome="failed", longrepr=wrong, __class__="os", _report_type="os",
                     node="gw0", worker_id="gw0", context={"x": 1}))
    port.send(report("test_lie.py::test_lie", "teardown"))
    warning = {"when": "runtest", "nodeid": "", "category": "SystemExit", "text": "0", "filename": "x", "lineno": 1}
    done = {"kind": "item-done", "clone": "0" * 32, "guest_ns": 0, "end": "done", "text": ""}
    port.send({**done, "warnings": [warning]})
    time.sleep(60)
"""
    pytester.makepyfile(test_lie=TAKEN + body + AFTER)
    result = run("--tb=long", "--showlocals", "-rA")
    result.assert_outcomes(failed=1, passed=1, warnings=1)
    assert "root:" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*UserWarning: SystemExit: 0*"])
    assert not Path("pwned").exists()
