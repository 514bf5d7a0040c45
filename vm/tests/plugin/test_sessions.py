"""A guest that can't collect what the host collected: a sentence, a remedy, a status, nothing left behind."""

from __future__ import annotations

import sys
import types

import pytest

from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

IN_GUEST = "import os\nif 'KERNELPROOF_GUEST' in os.environ:\n    import absent_in_guest\n"
TEST = "import pytest\n@pytest.mark.machine\ndef test_one(): pass\n@pytest.mark.machine\ndef test_two(): pass\n"


def test_conftest_that_the_guest_cannot_import(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Every item is an error; the first tells all, the others refer to it."""
    pytester.makeconftest(IN_GUEST)
    pytester.makepyfile(TEST)
    result = run()
    result.assert_outcomes(errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*conftest.py can't be imported in the guest: exit status 4",
            "*remedy: add what it imports to guest-requirements in [[]tool.kernelproof[]]*",
            "*ModuleNotFoundError: No module named 'absent_in_guest'*",
            "*ERROR at setup of test_two*",
            "*can't be imported in the guest* (told in full at the first test that needed this machine)",
        ]
    )
    assert all(machines.closed for machines in local.provider.opened.values())


def test_plugin_that_the_guest_lacks(pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin named by -p that the guest can't import is named, with what to do about it."""
    monkeypatch.setitem(sys.modules, "only_on_host", types.ModuleType("only_on_host"))
    pytester.makepyfile(TEST)
    result = run("-p", "only_on_host")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*the guest lacks the pytest plugin only_on_host*", "*remedy: add its distribution to guest-requirements*"]
    )


def test_plugin_of_the_settings(pytester: pytest.Pytester, run: Run) -> None:
    """The guest loads what guest-plugins names, and that only."""
    pytester.makepyfile(
        guest_side="import pytest\n@pytest.fixture\ndef gift(): return 'from the guest'",
        test_gift="import pytest\n@pytest.mark.machine\ndef test_gift(gift): assert gift == 'from the guest'",
    )
    text = '[tool.kernelproof]\nguest-plugins = ["guest_side"]\n[tool.pytest.ini_options]\npythonpath = "."\n'
    pytester.makepyprojecttoml(text)
    run("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_settings_that_are_wrong(pytester: pytest.Pytester, run: Run) -> None:
    """A setting of the wrong shape is an error with the file's name."""
    pytester.makepyprojecttoml('[tool.kernelproof]\nguest-plugins = "guest_side"\n')
    pytester.makepyfile(TEST)
    result = run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["read [[]tool.kernelproof[]]: *pyproject.toml: guest-plugins is 'guest_side'"])


def test_file_that_the_guest_cannot_import(pytester: pytest.Pytester, run: Run) -> None:
    """The items of that file are errors with the guest's traceback; other files run."""
    pytester.makepyfile(test_bad=IN_GUEST + TEST, test_good=TEST)
    result = run()
    result.assert_outcomes(errors=2, passed=2)
    result.stdout.fnmatch_lines(["test_bad.py can't be collected in the guest", "*remedy*", "*absent_in_guest*"])


def test_vanished_item(pytester: pytest.Pytester, run: Run) -> None:
    """An item that the guest does not have is an error by itself."""
    pytester.makepyfile(
        """
        import os, pytest
        pytestmark = pytest.mark.machine

        @pytest.mark.parametrize("where", ["guest" if "KERNELPROOF_GUEST" in os.environ else "host"])
        def test_where(where): pass
        def test_there(): pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*test_where[[]host[]] vanished: the host collected it, the guest did not", "*remedy*"]
    )


def test_ini_name_that_the_guest_does_not_know(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With strict configuration, a name that only a host's plugin reads is told with the remedy."""
    plugin = types.ModuleType("only_on_host")
    vars(plugin)["pytest_addoption"] = lambda parser: parser.addini("odd_name", "of the host")
    monkeypatch.setitem(sys.modules, "only_on_host", plugin)
    monkeypatch.setenv("PYTEST_PLUGINS", "only_on_host")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nodd_name = "1"\naddopts = "--strict-config"\n')
    pytester.makepyfile(TEST)
    result = run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*the guest's pytest does not know the ini name odd_name*", "*guest-plugins*"])
