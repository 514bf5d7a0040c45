"""`kernelproof bisect`: the search by its number of runs, and the command with a pytest of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof.cli import kernel_bisect, main
from kernelproof.cli.report_input import read_suite
from kernelproof.conformance.report.bisecting import bisect
from kernelproof.conformance.report.comparison import Answer
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.vm.errors import VmError

if TYPE_CHECKING:
    from conftest import Suite

PASS = Answer(Outcome.PASS, None, None)
OTHER = Answer(Outcome.DEVIATION, "EINVAL", "why")
THIRD = Answer(Outcome.DEVIATION, "EPERM", "why")
BROKEN = Answer(Outcome.BROKEN, None, "lost")


@pytest.mark.parametrize("number", [2, 3, 4, 6, 7, 16, 33])
def test_every_place_is_found_by_the_fewest_runs(number: int) -> None:
    """Wherever the change is, it is found with both ends and the binary logarithm of what lies between."""
    kernels = [f"6.{place}" for place in range(number)]
    for changed in range(1, number):
        answers = {name: PASS if place < changed else OTHER for place, name in enumerate(kernels)}
        found = bisect(kernels, answers.__getitem__, {})
        assert (found.last, found.first) == (kernels[changed - 1], kernels[changed])
        assert len(found.asked) == len(set(found.asked)) <= 2 + math.ceil(math.log2(number - 1))


@pytest.mark.parametrize("silent", [None, BROKEN], ids=["no answer", "broken"])
def test_kernels_without_an_answer_are_stepped_around(silent: Answer | None) -> None:
    """A kernel that tells nothing is passed over, at the ends as well, and those in between are named."""
    kernels = [*"abcdefgh"]
    answers = dict(zip(kernels, [silent, PASS, PASS, silent, silent, OTHER, OTHER, silent], strict=True))
    found = bisect(kernels, answers.__getitem__, {})
    assert (found.last, found.first, found.between(kernels)) == ("c", "f", ["d", "e"])


def test_no_change_and_no_answer() -> None:
    """Alike at both ends takes two runs and is no change; where nothing answers, nothing is said."""
    found = bisect([*"abc"], lambda name: PASS, {})
    assert (found.last, found.first, found.asked) == ("c", None, ("a", "c"))
    found = bisect([*"abc"], lambda name: None, {})
    assert (found.last, found.first, sorted(found.asked)) == (None, None, ["a", "b", "c"])
    found = bisect([*"abc"], lambda name: PASS if name == "b" else None, {})
    assert (found.last, found.first) == ("b", None)


def test_what_is_known_is_not_run() -> None:
    """Known answers cost nothing; of several changes the newest is looked at."""
    kernels = [*"abcdefgh"]
    answers = dict(zip(kernels, [PASS, OTHER, OTHER, OTHER, OTHER, THIRD, THIRD, THIRD], strict=True))
    known = {name: answers[name] for name in "adh"}
    found = bisect(kernels, answers.__getitem__, known)
    assert (found.last, found.first) == ("e", "f")
    assert set(found.asked) <= {"e", "f", "g"}
    assert len(found.asked) == 2
    assert bisect(kernels, answers.__getitem__, answers).asked == ()


def test_command(suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The kernels that the statement is meant for are run until it is known; exit status 0."""
    asked = []

    def ask(read: object, behaviour: str, nodes: list[str], place: kernel_bisect.Place) -> tuple[Answer | None, str]:
        asked.append((place.name, nodes, place.words))
        return (OTHER if place.name in ("7.2", "7.3") else PASS), ""

    monkeypatch.setattr(kernel_bisect, "run_behaviour", ask)
    words = ["bisect", "mount.beneath.new", "--behaviours", "suite/behaviours"]
    assert main.main(words) == 0
    output = capsys.readouterr()
    assert "changed between 6.18 and 7.2: pass -> deviation EINVAL (4 runs of 4 kernels)" in output.out
    assert {name for name, _, _ in asked} == {"6.12", "6.18", "7.2", "7.3"}  # meant for >=6.5
    assert asked[0][1:] == (["suite/test_all.py::test_beneath"], ("--kernel", "6.12"))
    suite.write_all()
    asked.clear()
    assert main.main([*words, "--known", "results", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["last"], said["first"], said["between"]) == ("6.18", "7.2", [])
    assert "6.12" not in said["asked"]
    assert said["answers"]["6.12"]["outcome"] == "pass"
    assert main.main([*words, "--kernel", "6.12,6.18"]) == 1
    assert "pass on 6.12, 6.18: no change" in capsys.readouterr().out


def test_one_answer_is_no_comparison(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one kernel alone answers nothing can be said; why the others did not is told as it happens."""

    def ask(read: object, behaviour: str, nodes: object, place: kernel_bisect.Place) -> tuple[Answer | None, str]:
        return (PASS, "") if place.name == "6.18" else (BROKEN._replace(reason="no \x1b[2J modules"), "")

    monkeypatch.setattr(kernel_bisect, "run_behaviour", ask)
    words = ["bisect", "link.name.up", "--behaviours", "suite/behaviours", "--kernel", "6.12,6.18,7.3"]
    assert main.main(words) == 125
    output = capsys.readouterr()
    assert "6.18 alone gave an answer: pass (3 runs of 3 kernels)" in output.out
    assert "7.3: broken: no \\x1b[2J modules" in output.err


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["link.name"], "did you mean link.name.length, link.name.up?"),
        (["no.such.thing"], "no such statement"),
        (["mount.flags.planned"], "it has no test"),
        (["mount.beneath.new", "--kernel", "5.10,6.1"], "0 kernels to compare"),
        (["mount.beneath.new", "--kernel", "2.6"], "2.6"),
        (["mount.beneath.new", "--kernel-image", "suite"], "suite: no image in it"),
        (["mount.beneath.new", "--kernel-image", "pyproject.toml"], "no kernel that can be booted"),
        (["mount.beneath.new", "--known", "absent.json"], "absent.json: No such file or directory\n  remedy: "),
        (["mount.beneath.new", "--kernel", ""], "'': not known"),
    ],
    ids=["like", "unknown", "planned", "outside", "kernel", "empty", "no image", "absent", "no kernel"],
)
def test_what_can_t_be_asked(suite: Suite, words: list[str], seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes no sense is named, with the status that says that nothing can be said."""
    assert main.main(["bisect", *words, "--behaviours", "suite/behaviours"]) == 125
    assert seen in capsys.readouterr().err


def make_image(path: Path, release: str) -> None:
    """The head of a bzImage, with a release in it."""
    image = bytearray(0x800)
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = (0x020F).to_bytes(2, "little")
    image[0x20E:0x210] = (0x300).to_bytes(2, "little")
    text = f"{release} (me@here) #1 SMP\0".encode()
    image[0x500 : 0x500 + len(text)] = text
    path.write_bytes(image)


def test_folders_of_images(tmp_path: Path) -> None:
    """The images of a folder are kernels, in the order of their releases, each with the modules beside it."""
    for name, release in (("vmlinuz-b", "6.13.0"), ("vmlinuz-a", "6.13.0-rc2"), ("bzImage.old", "6.12.9")):
        make_image(tmp_path / name, release)
    (tmp_path / "lib/modules/6.12.9/kernel").mkdir(parents=True)
    places = kernel_bisect.find_images([tmp_path], None)
    named = {place.name: place.words for place in places}
    assert named["image-6.12.9"] == (
        f"--kernel-image={tmp_path}/bzImage.old",
        f"--modules={tmp_path}/lib/modules/6.12.9",
    )
    assert named["image-6.13.0-rc2"] == (f"--kernel-image={tmp_path}/vmlinuz-a",)
    make_image(tmp_path / "vmlinuz-c", "6.13.0")
    with pytest.raises(VmError, match=r"both 6\.13\.0"):
        kernel_bisect.find_images([tmp_path], None)


def test_a_run_without_an_answer_says_why(suite: Suite) -> None:
    """When pytest comes to no result for a kernel, its last line is the reason."""
    read = read_suite([Path("suite/behaviours")])
    place = kernel_bisect.Place("6.12", ("--no-such-option",))
    answer, why = kernel_bisect.run_behaviour(read, "link.name.up", ["suite/test_all.py::test_up"], place)
    assert answer is None
    assert why
