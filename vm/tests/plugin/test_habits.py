"""What people use with pytest every day means in machines what it means on a host."""

from __future__ import annotations

import pytest

from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin


def test_fixtures_of_pytest_itself(pytester: pytest.Pytester, run: Run) -> None:
    """warns, raises, caplog, capsys, capfd, tmp_path, monkeypatch, recwarn, request and fixture finalizers work."""
    pytester.makepyfile(
        """
        import logging, os, pytest, warnings
        pytestmark = pytest.mark.machine

        def test_warns():
            with pytest.warns(UserWarning, match="careful"):
                warnings.warn("careful")
            with pytest.warns(DeprecationWarning), pytest.raises(ValueError, match="bad"):
                warnings.warn("old", DeprecationWarning)
                raise ValueError("bad")
        def test_caplog(caplog):
            with caplog.at_level(logging.INFO):
                logging.getLogger("some").info("said %s", 1)
            assert caplog.record_tuples == [("some", logging.INFO, "said 1")]
        def test_capture(capsys): print("out"); assert capsys.readouterr().out == "out\\n"
        def test_capture_of_descriptors(capfd): os.write(2, b"err"); assert capfd.readouterr().err == "err"
        def test_tmp_path(tmp_path, tmp_path_factory):
            assert list(tmp_path.iterdir()) == [] and tmp_path_factory.mktemp("x").is_dir()
        def test_monkeypatch(monkeypatch):
            monkeypatch.setenv("SOME", "thing")
            monkeypatch.setattr(os, "getpid", lambda: 7)
            assert (os.environ["SOME"], os.getpid()) == ("thing", 7)
        def test_recwarn(recwarn):
            warnings.warn("heard")
            assert str(recwarn.pop().message) == "heard"
        def test_request(request): assert request.node.name == "test_request" and request.config.rootpath.is_dir()
        @pytest.fixture(params=["a", "b"])
        def letter(request):
            yield request.param
            print("let go of", request.param)
        def test_letter(letter): assert letter in "ab"
        @pytest.mark.usefixtures("letter")
        class TestClass:
            @pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.skip(reason="even"))])
            def test_method(self, number): pass
        """
    )
    run("-s").assert_outcomes(passed=12, skipped=2)


def test_last_failed_and_failed_first(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """--lf runs what failed, --ff begins with it, and --lf after a success runs all."""
    pytester.makepyprojecttoml("")
    pytester.makepyfile(
        """
        import os, pytest
        pytestmark = pytest.mark.machine
        def test_one(): pass
        def test_two(): assert os.path.exists("mended")
        def test_three(): pass
        """
    )
    run().assert_outcomes(passed=2, failed=1)
    first = run("--ff", "-v")
    first.assert_outcomes(passed=2, failed=1)
    first.stdout.fnmatch_lines(["*::test_two FAILED*", "*::test_one PASSED*"])
    run("--lf").assert_outcomes(failed=1)
    pytester.path.joinpath("mended").touch()
    run("--lf").assert_outcomes(passed=1)
    run("--lf").assert_outcomes(passed=3)


def test_stepwise(pytester: pytest.Pytester, run: Run) -> None:
    """--stepwise stops at a failure and goes on from there."""
    pytester.makepyprojecttoml("")
    pytester.makepyfile(
        "import os, pytest\npytestmark = pytest.mark.machine\n"
        "def test_one(): pass\ndef test_two(): assert os.path.exists('mended')\ndef test_three(): pass\n"
    )
    run("--stepwise").assert_outcomes(passed=1, failed=1)
    pytester.path.joinpath("mended").touch()
    run("--stepwise").assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize(
    ("words", "lines", "absent"),
    [
        (("--tb=line",), ["*test_words_of_the_report.py:5: AssertionError: no*"], "local = 3"),
        (("--tb=no",), ["*1 failed, 1 passed*"], "local > 3"),
        (("--tb=native",), ["Traceback (most recent call last):", "AssertionError: no"], "local = 3\n>"),
        (
            ("--tb=short",),
            ["test_words_of_the_report.py:5: in test_fails", "    assert local > 3, 'no'"],
            "local = 3\n",
        ),
        (("-q",), ["F.*", "1 failed, 1 passed in *"], "collected"),
        (("-v",), ["*::test_passes PASSED *", "*::test_fails FAILED *"], "no such text"),
        (("-rA",), ["PASSED *::test_passes", "FAILED *::test_fails - AssertionError: no*"], "no such text"),
        (("--show-capture=no",), ["*AssertionError: no*"], "was printed"),
        (("--durations=0", "-vv"), ["*s call *::test_passes"], "no such text"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_words_of_the_report(
    words: tuple[str, ...], lines: list[str], absent: str, pytester: pytest.Pytester, run: Run
) -> None:
    """--tb, -q, -v, -r, --show-capture and --durations shape what is shown as ever."""
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.machine
        def test_fails():
            local = 3; print("was", "printed")
            assert local > 3, 'no'
        def test_passes(): pass
        """
    )
    result = run(*words)
    result.assert_outcomes(passed=1, failed=1)
    for line in lines:
        result.stdout.fnmatch_lines([line])
    assert absent not in result.stdout.str()


def test_doctests(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Examples in docstrings and texts run in machines where a conftest marks them; a wrong one is shown."""
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.machine)
        """
    )
    pytester.makepyfile(
        thing='''
        def good():
            """
            >>> import os; "KERNELPROOF_GUEST" in os.environ
            True
            """
        def bad():
            """
            >>> 1 + 1
            3
            """
        '''
    )
    pytester.maketxtfile(test_text=">>> import os; 'KERNELPROOF_GUEST' in os.environ\nTrue\n")
    result = run("--doctest-modules", "--import-mode=importlib")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["Expected:", "    3", "Got:", "    2"])
    assert sum(machines.clones for machines in local.provider.opened.values()) == 3


def test_unittest(pytester: pytest.Pytester, run: Run) -> None:
    """Classes of the standard library's unittest run too, with what they set up."""
    pytester.makepyfile(
        """
        import pytest, unittest

        @pytest.mark.machine
        class TestOld(unittest.TestCase):
            @classmethod
            def setUpClass(cls): cls.shared = 1
            def setUp(self): self.own = 2
            def test_both(self): self.assertEqual((self.shared, self.own), (1, 2))
            @unittest.expectedFailure
            def test_expected(self): self.fail()
            @unittest.skip("not now")
            def test_skipped(self): pass
        """
    )
    run().assert_outcomes(passed=1, xfailed=1, skipped=1)


def test_plugin_that_runs_coroutines(pytester: pytest.Pytester, run: Run) -> None:
    """A foreign plugin that the guest is told to load takes over how its tests are called."""
    pytester.makepyfile(
        own_asyncio="""
        import asyncio, inspect, pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                wanted = pyfuncitem._fixtureinfo.argnames
                asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
                return True
        """,
        test_coroutine="""
        import asyncio, pytest
        pytestmark = pytest.mark.machine

        async def test_sleeps(tmp_path):
            await asyncio.sleep(0)
            assert tmp_path.is_dir()
        async def test_fails(): assert await asyncio.sleep(0, 3) == 4
        """,
    )
    text = '[tool.kernelproof]\nguest-plugins = ["own_asyncio"]\n[tool.pytest.ini_options]\npythonpath = "."\n'
    pytester.makepyprojecttoml(text)
    result = run("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*assert 3 == 4*"])


def test_hypothesis(pytester: pytest.Pytester, run: Run) -> None:
    """Properties are tested in the guest; the example that breaks one is told."""
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given, settings, strategies as st
        pytestmark = pytest.mark.machine

        @settings(database=None, deadline=None)
        @given(st.integers())
        def test_holds(number): assert number == number
        @settings(database=None, deadline=None)
        @given(st.integers())
        def test_breaks(number): assert number < 100
        """
    )
    plugins = 'guest-plugins = ["_hypothesis_pytestplugin"]'
    pytester.makepyprojecttoml(
        f'[tool.kernelproof]\n{plugins}\n[tool.pytest.ini_options]\naddopts = "-p no:cacheprovider"\n'
    )
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*number=100,*"])


def test_snapshot_fixture(pytester: pytest.Pytester, run: Run) -> None:
    """A fixture for the snapshot is set up once for all machines, in the guest; what follows its yield runs in each."""
    pytester.makepyfile(
        """
        import kernelproof, os, pytest
        pytestmark = pytest.mark.machine
        made = []

        @kernelproof.snapshot_fixture
        def costly(tmp_path_factory):
            made.append(os.getpid())
            folder = tmp_path_factory.mktemp("costly")
            (folder / "content").write_text("made")
            yield folder
            print("let go in", os.getpid())
        @kernelproof.snapshot_fixture
        def unused(): made.append("unused")
        @kernelproof.snapshot_fixture
        def broken(): raise OSError("no luck")

        def test_first(costly):
            assert made != [os.getpid()] and len(made) == 1
            assert (costly / "content").read_text() == "made"
            made.append("first")
        @pytest.mark.parametrize("number", [1, 2])
        def test_second(number, costly, tmp_path): assert len(made) == 1 and tmp_path.is_dir()
        def test_without(): pass
        def test_broken(broken): pass
        """
    )
    result = run("-s")
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*OSError: no luck"])
    places = [line.split()[-1] for line in result.outlines if "let go in" in line]
    assert len(places) == len(set(places)) == 5


def test_snapshot_fixture_on_a_host(pytester: pytest.Pytester) -> None:
    """Where there are no machines it is a fixture of the session."""
    pytester.makepyfile(
        """
        import kernelproof
        made = []
        @kernelproof.snapshot_fixture
        def costly(): made.append(1); return made
        def test_first(costly): assert costly == [1]
        def test_second(costly): assert costly == [1]
        """
    )
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=2)
