"""Machines that are kept, and entered at a pseudoterminal; repetitions and kernels of one's own in a run of pytest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache
from kernelproof.vm.provision import provision
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.tests.pseudoterminal import sit_at
from kernelproof.vm.variation import draw_variation

SHARED = Cache().root  # before a pytester gives itself a home of its own
ENTER = (sys.executable, "-m", "kernelproof.cli", "enter")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was fetched and made before is there; what is kept is not."""
    root = tmp_path_factory.mktemp("cache")
    (root / "v1").mkdir()
    for kind in (SHARED / "v1").iterdir():
        if kind.name != "kept":
            (root / "v1" / kind.name).symlink_to(kind)
    monkeypatch.setenv("KERNELPROOF_CACHE", str(root))
    return root


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def enter(*words: str) -> str:
    return subprocess.run([*ENTER, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def test_keep_and_enter(pytester: pytest.Pytester) -> None:
    """The machine of a failing test is kept with its fixtures set up; whoever enters it, each time, finds that."""
    pytester.makepyfile(
        test_it="""
        import pytest
        pytestmark = pytest.mark.machine

        @pytest.fixture
        def thing(tmp_path):
            (tmp_path / "thing").write_text("set up\\n")
            yield
            (tmp_path / "thing").write_text("torn down\\n")
        def test_good(): pass
        def test_bad(thing):
            open("/root/mark", "w").write("mark of the test\\n")
            assert False
        """
    )
    result = run(pytester, "--kernel", "6.12", "--vm-keep")
    result.assert_outcomes(passed=1, failed=1)
    found = re.search(r"the machine as it was then: kernelproof enter ([0-9a-f]{10})\n", result.stdout.str())
    assert found is not None
    name = found[1]
    (row,) = json.loads(enter("--json"))
    assert (row["machine"], row["test"]) == (name, "test_it.py::test_bad")
    for _ in range(2):
        with sit_at((*ENTER, name), rows=31, columns=97) as person:
            person.read_until(b"# ")
            thing = b"/tmp/pytest-*/pytest-current/test_bad0/thing"
            person.type(b"cat /root/mark " + thing + b"; stty size; pwd; echo changed > /root/mark; exit 3\r")
            assert person.wait() == 3
            shown = person.seen.decode()
        assert "mark of the test\r\nset up\r\n31 97\r\n" in shown
        assert f"{pytester.path}\r\n" in shown
    with sit_at((*ENTER, "test_bad", "--", "uname", "-r")) as person:
        assert person.wait() == 0
        assert row["kernel"].encode() in person.seen
    enter(name, "--drop")
    assert json.loads(enter("--json")) == []


def test_repetition_that_was_told(pytester: pytest.Pytester) -> None:
    """A seed gives a machine with its number of CPUs, its pace and its delay, each time the same."""
    seed = next(seed for seed in count() if draw_variation(seed, 2)[2::2] == (3, 1))  # 8 ns an instruction, one CPU
    pytester.makepyfile(
        test_it="""
        import os, pytest, random, time

        @pytest.mark.machine
        def test_it():
            assert open("/sys/devices/system/cpu/online").read() == "0\\n"
            began = time.monotonic()
            for _ in range(10_000): pass
            print("told:", random.random(), time.monotonic() - began > 0.004)
        """
    )
    told = []
    for _ in range(2):
        result = run(pytester, "--kernel", "6.12", "--vm-vary", str(seed), "-s")
        result.assert_outcomes(passed=1)
        told += [line for line in result.outlines if "told:" in line]
    assert told[0] == told[1]
    assert told[0].endswith("True")


def test_results_of_an_own_kernel(pytester: pytest.Pytester) -> None:
    """A kernel of the user's own has a results file named after its release, and is in no row of the table."""
    pytester.mkdir("behaviours").joinpath("demo.toml").write_text(
        '[[behaviour]]\nid = "a.b.one"\nstatement = "So."\nsource = "a document, a section"\n'
    )
    pytester.makepyfile(
        """
        import pytest
        from kernelproof import behaviour

        @behaviour("a.b.one")
        @pytest.mark.machine(time="real")  # it boots with half of the work
        def test_one(): pass
        """
    )
    kernel = provision("6.12", (), cache=Cache(SHARED), progress=SilentProgress(), project=None).kernel
    result = run(pytester, f"--kernel-image={kernel.vmlinux}")
    result.assert_outcomes(passed=1)
    (path,) = (pytester.path / "results").glob("*.json")
    data = json.loads(path.read_text())
    assert path.name == f"image-{kernel.release}.json"
    assert data["kernel"]["name"] == f"image-{kernel.release}"
    assert (data["kernel"]["series"], data["kernel"]["release"]) == ("6.12", kernel.release)
    assert data["kernel"]["package"] is None
    assert [row["outcome"] for row in data["results"]] == ["pass"]
