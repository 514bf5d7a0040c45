"""A test that takes its machine with it is broken: a pytest error with words, and the next test runs."""

from __future__ import annotations

import pytest

from kernelproof.vm.guest.clipping import OUTPUT_LIMIT
from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalMachines, LocalPlugin

AFTER = "\n@pytest.mark.machine\ndef test_after(): pass\n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os._exit(3)", "machine lost (agent)"),
        ("os.kill(os.getpid(), 11)", "machine lost (agent)"),
        ("select.select([], [], [])", "machine lost (hang)"),
    ],
    ids=["exit", "signal", "hang"],
)
def test_lost_machine(body: str, says: str, pytester: pytest.Pytester, run: Run) -> None:
    """An agent that exits, a signal that kills it and a wait for ever each end as an error of the setup phase."""
    pytester.makepyfile(f"import os, pytest, select\n@pytest.mark.machine\ndef test_lost():\n    {body}\n{AFTER}")
    result = run("--vm-timeout", "6" if "hang" in says else "60")  # the next test's too
    result.assert_outcomes(errors=1, passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*ERROR at setup of test_lost*", f"{says}*", "*remedy: *"])
    result.stdout.fnmatch_lines([f"ERROR test_lost_machine.py::test_lost - {says}*"])


def test_crash_shows_the_python_stack(pytester: pytest.Pytester, run: Run) -> None:
    """What the interpreter wrote to the console while it died is in the report."""
    pytester.makepyfile("import os, pytest\n@pytest.mark.machine\ndef test_crash(): os.kill(os.getpid(), 11)")
    run().stdout.fnmatch_lines(["*Kernel log*", "Fatal Python error: Segmentation fault", "*in test_crash*"])


def test_hang_shows_the_python_stack(pytester: pytest.Pytester, run: Run) -> None:
    """In real time the guest writes its stack to the console shortly before the deadline."""
    body = "def test_loop():\n    select.select([], [], [])"
    pytester.makepyfile(f"import pytest, select\n@pytest.mark.machine(time='real')\n{body}")
    run("--vm-timeout", "6").stdout.fnmatch_lines(["*Kernel log*", "*in test_loop*"])


def test_forked_child_that_returns(pytester: pytest.Pytester, run: Run) -> None:
    """A child that a test lets run on into pytest ends with status 70 and tears nothing down."""
    pytester.makepyfile(
        """
        import os, pytest

        @pytest.fixture
        def mark(tmp_path):
            yield tmp_path
            (tmp_path / str(os.getpid())).touch()

        @pytest.mark.machine
        def test_fork(mark):
            if (child := os.fork()) == 0:
                raise OSError("in the child")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70
            assert list(mark.iterdir()) == []
        """
    )
    run().assert_outcomes(passed=1)


def test_much_output(pytester: pytest.Pytester, run: Run) -> None:
    """Of 100 MB of output the beginning and the end are kept, and how much is missing is told."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.machine
        def test_much():
            for _ in range(100):
                print("x" * 1_000_000)
            print("the end")
            assert False
        """
    )
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*kernelproof cut * here: at most * of a stream are kept*", "the end"])
    assert len(result.stdout.str()) < OUTPUT_LIMIT + 65536


def test_much_log(pytester: pytest.Pytester, run: Run) -> None:
    """What pytest itself captures beside the streams is bounded as well, even where a message would hold it."""
    text = 'logging.getLogger("x").warning("y" * 9_000_000)'
    pytester.makepyfile(f"import logging, pytest\n@pytest.mark.machine\ndef test_log():\n    {text}\n    assert False")
    run().stdout.fnmatch_lines(["*Captured log call*", "*kernelproof cut * characters here*"])


@pytest.mark.parametrize(
    "statement",
    [
        r'print("\0" * 12_000_000)',
        r'print("\U0001f600" * 2_000_000)',
        r'raise ValueError("\0" * 3_000_000)',
        r'os.write(1, b"\xff\xfe\0" * 3_000_000)',
    ],
)
def test_what_grows_on_the_way(statement: str, pytester: pytest.Pytester, run: Run) -> None:
    """Characters that take many bytes in a message do not break its bounds, in output or in a failure's text."""
    pytester.makepyfile(f"import os, pytest\n@pytest.mark.machine\ndef test_much():\n    {statement}\n    assert False")
    result = run("--tb=line", "--show-capture=no")
    result.assert_outcomes(failed=1)


def test_what_is_no_plain_data(pytester: pytest.Pytester, run: Run) -> None:
    """A property or an attribute of a report that can't travel arrives as its text."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            report.extra_path, report.node = item, "nonsense"
            return report

        def pytest_runtest_logreport(report):
            if report.when == "call":
                print("arrived:", report.extra_path, getattr(report, "node", "no node"))
        """
    )
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.machine
        def test_odd(record_property):
            record_property("inf", float("inf"))
            record_property("object", {1: (object, {2})})
        """
    )
    result = run("-s", "--junitxml=out.xml")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*arrived: <Function test_odd> no node"])


def test_exit_of_the_run(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """pytest.exit in a test ends the whole run with its status, and gives the machines back."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.machine\ndef test_exit(): pytest.exit('enough', 9)\n{AFTER}")
    result = run()
    assert result.ret == 9
    result.stdout.fnmatch_lines(["*Exit: enough*"])
    assert all(machines.closed for machines in local.provider.opened.values())


def test_interrupt(pytester: pytest.Pytester, local: LocalPlugin, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a machine runs ends the run with status 2 and gives the machines back."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.machine\ndef test_first(): pass\n{AFTER}")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalMachines, "clone", interrupted)
    result = run(no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert all(machines.closed for machines in local.provider.opened.values())


def test_hook_that_fails_in_the_guest(pytester: pytest.Pytester, run: Run) -> None:
    """A conftest's hook that raises in the guest breaks its item, with its traceback."""
    pytester.makeconftest("import os\ndef pytest_runtest_makereport(item):\n    raise RuntimeError('bad hook')")
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_it(): pass")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: bad hook*"])


@pytest.mark.parametrize("kind", ["failed", "collected", "item-done"])
def test_message_that_is_not_due(kind: str, pytester: pytest.Pytester, run: Run) -> None:
    """A guest that asks for what nothing offered, to be kept say, breaks the protocol and gets nothing."""
    pytester.makepyfile(
        f"""
        import pytest
        pytestmark = pytest.mark.machine

        def test_lies(pytestconfig):
            plugins = pytestconfig.pluginmanager.get_plugins()
            (session,) = (plugin for plugin in plugins if type(plugin).__name__ == "GuestSession")
            session._port.send({{"kind": {kind!r}}})
        def test_after(): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_lies*"])
