"""Which items run in machines, and on which kernels."""

from __future__ import annotations

import pytest

from kernelproof.vm.telling import home_of
from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

TEST = """
    import os, pytest

    @pytest.mark.machine
    def test_there(): assert "KERNELPROOF_GUEST" in os.environ
    def test_here(): assert "KERNELPROOF_GUEST" not in os.environ
"""


def test_no_kernel(pytester: pytest.Pytester) -> None:
    """Without a kernel a marked item is skipped with that reason and never runs on the host."""
    pytester.makepyfile(TEST)
    result = pytester.runpytest("-rs", "--runxfail")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["SKIPPED * no kernel is chosen: --kernel 6.12 *"])


def test_kernel_of_the_ini_file(pytester: pytest.Pytester, local: LocalPlugin) -> None:
    """The ini name chooses where the option does not; an empty option chooses none."""
    pytester.makeini("[pytest]\nkernelproof_kernel = 6.12\n")
    pytester.makepyfile(TEST)
    pytester.runpytest(plugins=[local]).assert_outcomes(passed=2)
    pytester.runpytest("--kernel", "", plugins=[local]).assert_outcomes(passed=1, skipped=1)


def test_unknown_kernel(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """An unknown kernel is a usage error that lists what there is; no machine is made."""
    pytester.makepyfile(TEST)
    result = run(kernel="9.99")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: choose kernel: 9.99: unknown", "*one of 5.10, 6.12*"])
    assert local.provider.opened == {}


def test_unknown_kernel_without_machine_items(pytester: pytest.Pytester, run: Run) -> None:
    """Where nothing needs a machine, nothing is asked of the kernel."""
    pytester.makepyfile("def test_here(): pass")
    run(kernel="9.99").assert_outcomes(passed=1)


def test_kernel_that_has_vanished(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Of `all`, what can't be had any more is left out, and that is said; the run is as good as any."""
    pytester.makepyfile(TEST)
    result = run(kernel="all")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["kernelproof: kernel 5.10 is left out: its suite is gone"])
    assert [key.series for key in local.provider.opened] == ["6.12"]
    assert result.ret == pytest.ExitCode.OK


def test_several_kernels(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Each item runs once a kernel, kernel after kernel, with the kernel in its node id; --lf finds it again."""
    pytester.makepyprojecttoml("")
    pytester.makepyfile(
        """
        import json, os, pytest

        @pytest.mark.machine
        def test_plain(): pass
        @pytest.mark.machine
        @pytest.mark.parametrize("number", [1, 2])
        def test_old(number):
            assert number == 1 or json.loads(os.environ["KERNELPROOF_GUEST"])["series"] == "5.10"
        def test_here(): pass
        """
    )
    result = run("-v", "--junitxml=out.xml", kernel="5.10,6.12")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*_ test_old[[]2[]] on 6.12 _*"])
    assert 'name="test_old@6.12[2]"' in pytester.path.joinpath("out.xml").read_text()
    names = [
        "test_plain@5.10 PASSED*",
        "test_old@5.10[[]1[]] PASSED*",
        "test_old@5.10[[]2[]] PASSED*",
        "test_here PASSED*",
    ]
    names += ["test_old@6.12[[]1[]] PASSED*", "test_old@6.12[[]2[]] FAILED*"]
    result.stdout.fnmatch_lines([f"*::{name}" for name in names])
    assert [key.series for key in local.provider.opened] == ["5.10", "6.12"]
    again = run("--lf", "-v", kernel="5.10,6.12")
    again.assert_outcomes(failed=1, deselected=6)
    again.stdout.fnmatch_lines(["*::test_old@6.12[[]2[]] FAILED*"])


def test_profiles_have_machines_of_their_own(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """Items of different profiles and kinds of time use different templates, each given back after its last item."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.machine(profile="disk")
        def test_disk(): pass
        @pytest.mark.machine(time="real")
        def test_real(): pass
        @pytest.mark.machine(profile="disk")
        def test_disk_again(): pass
        """
    )
    run().assert_outcomes(passed=3)
    kinds = {(key.profile, key.time): machines.clones for key, machines in local.provider.opened.items()}
    assert kinds == {("disk", "virtual"): 2, ("plain", "real"): 1}
    assert local.provider.events == ["clone", "clone", "close", "clone", "close"]


def test_order(pytester: pytest.Pytester, run: Run) -> None:
    """Kernel after kernel, of each one kind of machine after the other; the host's items keep their places."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.machine(profile="disk")
        def test_disk(): pass
        @pytest.mark.machine
        def test_plain(): pass
        def test_here(): pass
        @pytest.mark.machine(profile="disk")
        def test_disk_again(): pass
        """
    )
    result = run("-v", kernel="5.10,6.12")
    result.assert_outcomes(passed=7)
    order = [line.partition("::")[2].split()[0] for line in result.outlines if " PASSED" in line]
    first = ["test_disk@5.10", "test_disk_again@5.10", "test_here", "test_plain@5.10"]
    assert order == [*first, "test_disk@6.12", "test_disk_again@6.12", "test_plain@6.12"]


@pytest.mark.parametrize("more", [("--kernel", "5.10"), ("--kernel=6.12,5.10",)], ids=["other", "both"])
def test_several_options_add_up(more: tuple[str, ...], pytester: pytest.Pytester, run: Run) -> None:
    """Kernels that are named by several options are all taken, each once."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_it(): pass")
    result = run("-v", *more, kernel="6.12")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*test_it@5.10 PASSED*", "*test_it@6.12 PASSED*"])


@pytest.mark.parametrize("arguments", ["'disk'", "profil='disk'", "time='unreal'", "profile=3"])
def test_wrong_marker(arguments: str, pytester: pytest.Pytester, run: Run) -> None:
    """A marker with anything but a profile and a known kind of time is a usage error that names the item."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.machine({arguments})\ndef test_odd(): pass")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_wrong_marker.py::test_odd: @pytest.mark.machine*"])


@pytest.mark.parametrize("option", ["--pdb", "--trace"])
def test_debugger_with_workers(option: str, pytester: pytest.Pytester) -> None:
    """A debugger needs the terminal, which workers do not have: said before anything runs."""
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("--kernel", "6.12", "-n", "1", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: * -n*0*"])


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_wrong_timeout(seconds: str, pytester: pytest.Pytester, run: Run) -> None:
    """A timeout that is no time is a usage error."""
    pytester.makepyfile(TEST)
    assert run(f"--vm-timeout={seconds}").ret == pytest.ExitCode.USAGE_ERROR


def test_path_that_misleads_pytest(
    pytester: pytest.Pytester, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A path behind an option, without `=`, would make pytest look for the project there: it is refused."""
    image = tmp_path_factory.mktemp("elsewhere") / "bzImage"
    image.touch()
    pytester.makepyfile("def test_here(): pass")
    result = run("--kernel-image", str(image))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: write --kernel-image={image}: *"])
    run(f"--kernel-image={image}").assert_outcomes(passed=1)
    run("--kernel-image", "bzImage").assert_outcomes(passed=1)


def test_collecting_only(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """--collect-only makes no machine."""
    pytester.makepyfile(TEST)
    run("--collect-only").stdout.fnmatch_lines(["*<Function test_there>*"])
    assert local.provider.opened == {}


def test_hooks(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """A plugin takes items out for a kernel, and hands data to its other half in the guest."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(optionalhook=True)
        def pytest_kernelproof_select(config, items, series):
            if series == "5.10":
                config.hook.pytest_deselected(items=list(items))
                del items[:]

        @pytest.hookimpl(optionalhook=True)
        def pytest_kernelproof_item_data(item, series):
            return {"greeting": f"hello {item.name} on {series}"}

        @pytest.hookimpl(optionalhook=True)
        def pytest_kernelproof_item(item, data):
            item.config.greeting = data["greeting"]
        """
    )
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.machine
        def test_greeted(pytestconfig): assert pytestconfig.greeting == "hello test_greeted@6.12 on 6.12"
        """
    )
    run(kernel="5.10,6.12").assert_outcomes(passed=1, deselected=1)
    assert [key.series for key in local.provider.opened] == ["6.12"]


@pytest.mark.parametrize(
    ("kernels", "home"),
    [(("5.10", "6.12"), "6.12"), (("5.10", "6.1"), "5.10"), (("image-6.13.1",), "image-6.13.1"), ((), None)],
    ids=["default", "first", "own", "none"],
)
def test_home(kernels: tuple[str, ...], home: str | None) -> None:
    """What does not depend on the kernel is tried on the default one if it is among the chosen, else on the first."""
    assert home_of(kernels) == home


def test_home_is_told(pytester: pytest.Pytester, run: Run) -> None:
    """Plugins learn which of the chosen kernels is the one where such things are tried."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(optionalhook=True)
        def pytest_kernelproof_select(config, items, series, home):
            print(series, "is home:", home)
        """
    )
    pytester.makepyfile(TEST)
    run("-s", "--collect-only", kernel="5.10,6.12").stdout.fnmatch_lines(["5.10 is home: False", "6.12 is home: True"])


def test_marked_late(pytester: pytest.Pytester, run: Run) -> None:
    """An item that a plugin marks when the collection is over runs in a machine all the same."""
    pytester.makeconftest(
        """
        import pytest
        def pytest_collection_finish(session):
            for item in session.items:
                item.add_marker(pytest.mark.machine)
        """
    )
    pytester.makepyfile("import os\ndef test_late(): assert 'KERNELPROOF_GUEST' in os.environ")
    run(kernel="6.12,5.10").assert_outcomes(passed=1)


def test_started_elsewhere(pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest may be started outside the project."""
    path = pytester.makepyfile(TEST)
    monkeypatch.chdir(pytester.mkdir("elsewhere"))
    run("--rootdir", str(pytester.path), str(path)).assert_outcomes(passed=2)


def test_facts_of_a_worker(pytester: pytest.Pytester, local: LocalPlugin, run: Run) -> None:
    """A worker of xdist hands its facts on twice: with its first item, and when it ends."""
    pytester.makeconftest(
        """
        import pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(config):
            config.workeroutput = {}
        def pytest_runtest_logreport(report):
            told = dict(report.user_properties)["kernelproof"].get("facts")
            print(report.when, report.nodeid, told and told["kernel"]["release"])
        def pytest_unconfigure(config):
            print("at the end", [facts["kernel"]["release"] for facts in config.workeroutput["kernelproof_facts"]])
        """
    )
    pytester.makepyfile(
        "import pytest\n@pytest.mark.machine\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(n): pass"
    )
    result = run("-s")
    result.stdout.fnmatch_lines(
        ["*call *test_it[[]1[]] 6.12.0-local", "*call *test_it[[]2[]] None", "at the end *6.12.0-local*"]
    )
    assert local.facts == []


def test_xdist(pytester: pytest.Pytester) -> None:
    """In a worker of xdist an item without a kernel is skipped as everywhere."""
    pytester.makepyfile(TEST)
    # In a process of its own: execnet leaves the worker's pipes to the garbage collector.
    pytester.runpytest_subprocess("-n", "1").assert_outcomes(passed=1, skipped=1)
