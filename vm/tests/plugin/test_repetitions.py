"""--vm-repeat: the same test again in machines that differ, each told by a number that makes it again."""

from __future__ import annotations

import re

import pytest

from kernelproof.vm.guest.varying import vary
from kernelproof.vm.tests.plugin.conftest import Run
from kernelproof.vm.tests.plugin.local_machines import LocalPlugin
from kernelproof.vm.variation import SHIFTS, SPIN, draw_variation, repetition_seed

TESTS = """
    import pytest, random
    pytestmark = pytest.mark.machine

    @pytest.mark.parametrize("value", ["x"])
    def test_it(value):
        print("drawn:", random.random())
        assert value == "y"
"""


def test_variation() -> None:
    """What differs comes from one number; over some numbers everything that may differ does."""
    assert draw_variation(7, 2) == draw_variation(7, 2)
    drawn = [draw_variation(seed, 4) for seed in range(200)]
    assert {variation.shift for variation in drawn} == set(SHIFTS)
    assert {variation.cpus for variation in drawn} == {1, 2, 3, 4}
    assert len({variation.entropy for variation in drawn}) == 200
    assert max(variation.spin for variation in drawn) < SPIN
    assert len({variation.spin for variation in drawn}) > 150
    assert {draw_variation(seed, 1).cpus for seed in range(20)} == {1}


def test_seeds_of_repetitions() -> None:
    """A repetition's seed depends on the run, the test and the number, and fits into any JSON exactly."""
    seeds = {repetition_seed(run, node, number) for run in (1, 2) for node in ("a", "b\udc80") for number in (1, 2)}
    assert len(seeds) == 8
    assert all(0 <= seed < 1 << 48 for seed in seeds)


def test_cpus(tmp_path_factory: pytest.TempPathFactory) -> None:
    """CPUs beyond the wanted number go, the first never."""
    cpus = tmp_path_factory.mktemp("cpu")
    for number in (1, 2, 10):
        (cpus / f"cpu{number}").mkdir()
        (cpus / f"cpu{number}" / "online").write_text("1")
    vary({"cpus": 2, "spin": 3}, cpus)
    assert [(cpus / f"cpu{number}" / "online").read_text() for number in (1, 2, 10)] == ["1", "0", "0"]


def test_repetitions(pytester: pytest.Pytester, local: LocalPlugin, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each repetition is an item with a number and a seed; with that seed one alone draws the same."""
    monkeypatch.setattr("kernelproof.vm.variation.SPIN", 10)
    pytester.makepyfile(TESTS)
    result = run("--vm-repeat", "3", "-rf", kernel="5.10,6.12")
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(["*_ test_it[[]x[]] on 5.10, repetition 1 _*"])
    assert sorted(re.findall(r"^FAILED .*::(\S+)", result.stdout.str(), re.M)) == sorted(
        f"test_it#{number}@{kernel}[x]" for kernel in ("5.10", "6.12") for number in (1, 2, 3)
    )
    paces = {key.shift for key in local.provider.opened}
    assert paces == {draw_variation(int(seed), 1).shift for seed in re.findall(r"--vm-vary (\d+)", result.stdout.str())}
    drawn = re.findall(r"^drawn: (\S+)", result.stdout.str(), re.M)
    seeds = re.findall(r"to run it again: --vm-vary (\d+)", result.stdout.str())
    assert (seeds[:3], drawn[:3]) == (seeds[3:], drawn[3:]), "what a repetition is does not depend on the kernel"
    assert len(set(seeds)) == len(set(drawn)) == 3
    variations = [variation for machines in local.provider.opened.values() for variation in machines.variations]
    assert [variation.seed for variation in variations if variation is not None] == [int(seed) for seed in seeds]
    again = run("--vm-vary", seeds[1])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"drawn: {drawn[1]}", f"*--vm-vary {seeds[1]}"])


@pytest.mark.parametrize("words", [("--vm-repeat", "0"), ("--vm-repeat", "2", "--vm-vary", "7")], ids=["zero", "both"])
def test_wrong_numbers(words: tuple[str, ...], pytester: pytest.Pytester, run: Run) -> None:
    """No repetition at all, and two ways to say which, are usage errors."""
    pytester.makepyfile(TESTS)
    assert run(*words).ret == pytest.ExitCode.USAGE_ERROR
