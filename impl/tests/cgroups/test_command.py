"""The command without a kernel: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelproof.impl.cgroups.__main__ import live, main, make_parser
from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import IoLimit, Limits
from kernelproof.impl.cgroups.sampling import Use
from kernelproof.impl.cgroups.showing import (
    flat_lines,
    plain_object,
    printable,
    short_bytes,
    table_lines,
    tree_lines,
    use_rows,
)
from kernelproof.impl.cgroups.wording import parse_limits

COMMANDS = ("tree", "stat", "top", "set", "kill", "freeze", "events")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself, and a wrong use ends with status 2."""
    for command in COMMANDS:
        with pytest.raises(SystemExit) as shown:
            make_parser().parse_args([command, "--help"])
        assert shown.value.code == 0
        assert "--json" in capsys.readouterr().out
    for wrong in ([], ["stat"], ["tree", "--frobnicate"], ["set", "/a"], ["top", "--interval", "-1"]):
        with pytest.raises(SystemExit) as refused:
            main(wrong)
        assert refused.value.code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["memory_max_bytes=64M", "pids_max=max"], Limits(memory_max_bytes=64 << 20, pids_max=-1)),
        (["cpu_idle=yes", "cpuset_cpus=0-2,4"], Limits(cpu_idle=True, cpuset_cpus="0-2,4")),
        (["hugetlb_bytes.2MB=4M", "misc.sev=1"], Limits(hugetlb_bytes={"2MB": 4 << 20}, misc={"sev": 1})),
        (
            ["io.8:0.read_bytes=1M", "io.8:0.write_operations=max"],
            Limits(io=(IoLimit(8, 0, read_bytes=1 << 20, write_operations=-1),)),
        ),
        (["unified.memory.high=max"], Limits(unified={"memory.high": "max"})),
    ],
    ids=["numbers", "words", "maps", "devices", "raw"],
)
def test_limits_in_words(words: list[str], expected: Limits) -> None:
    """Numbers with suffixes, truths, lists, devices and raw files."""
    assert parse_limits(words) == expected


@pytest.mark.parametrize(
    "word",
    [
        "pids_max",
        "nope=1",
        "pids_max=many",
        "cpu_idle=maybe",
        "io.8:0.speed=1",
        "io.x.read_bytes=1",
        "pids_max.a=1",
        "rdma=x",
    ],
)
def test_words_that_are_no_limits(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused with what there is, and the command ends with status 1 and no traceback."""
    with pytest.raises(LimitError):
        parse_limits([word])
    assert main(["set", "/", word]) == 1
    assert capsys.readouterr().err.startswith("python -m kernelproof.impl.cgroups: ")


def test_a_name_that_leads_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`..` is an error before anything is looked at."""
    assert main(["kill", "/a/../b"]) == 1
    assert "components must not be" in capsys.readouterr().err


def test_killing_is_told_to_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A cgroup that was killed is silence at a terminal, and with --json one object that says whether it is gone."""
    done: list[str] = []
    cgroup = SimpleNamespace(kill=lambda _: done.append("killed"), remove=lambda _: done.append("removed"))
    monkeypatch.setattr(Cgroup, "open", lambda name: nullcontext(cgroup))
    assert main(["kill", "/web"]) == 0
    assert (done, capsys.readouterr().out) == (["killed"], "")
    assert main(["kill", "/web", "--remove", "--json"]) == 0
    assert done == ["killed", "killed", "removed"]
    assert json.loads(capsys.readouterr().out) == {"killed": "/web", "removed": True}


def test_trees_are_indented() -> None:
    """What is below is two columns in; what is worth saying stands in parentheses."""
    leaf = {"name": "leaf\n", "type": "threaded", "processes": 0, "frozen": True, "children": []}
    root = {"name": "/", "type": "domain", "processes": 3, "frozen": None, "children": [leaf]}
    assert list(tree_lines(root)) == ["/  (3 processes)", "  leaf\\n  (threaded, frozen)"]


def test_records_are_data() -> None:
    """Records become objects, and objects lines with dotted names; what is None is left out."""
    found = plain_object({"io": (IoLimit(8, 0, read_bytes=1),), "path": Path("/x")})
    assert json.loads(json.dumps(found))["path"] == "/x"
    assert dict(flat_lines(found)) == {"io.0.major": "8", "io.0.minor": "0", "io.0.read_bytes": "1", "path": "/x"}


def test_the_largest_is_first() -> None:
    """Rows are ordered by what is asked for; what is not known is a dash and last."""
    uses = [Use("/a", 0.5, 3 << 20, None, 1, 0.0), Use("/b", None, None, 2048.0, None, None)]
    assert use_rows(uses, "cpus")[0] == ("/a", "50.0", "3.0M", "-", "1", "0.0")
    assert [row[0] for row in use_rows(uses, "io_bytes")] == ["/b", "/a"]
    assert [row[0] for row in use_rows(uses, "name")] == ["/a", "/b"]
    assert list(table_lines([("A", "B"), ("long", "x")])) == ["A    B", "long x"]


def test_sizes_and_names() -> None:
    """Sizes have a suffix, and control characters are shown, not sent."""
    assert [short_bytes(number) for number in (None, 0, 1023, 1024, 5 << 40)] == ["-", "0", "1023", "1.0K", "5.0T"]
    assert printable("a\x1b[2J") == "a\\x1b[2J"


def test_a_live_table(capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal the figures are one table that is drawn again; names are shown, not sent."""
    given = argparse.Namespace(count=1, close=None)
    show = live(given)
    for cpus in (0.1, 0.9):
        show([Use("/a\x1b[2J", cpus, 3 << 20, 0.0, 1, 0.0)], "cpus", 10)
    given.close()
    out = capsys.readouterr().out
    assert "CGROUP" in out
    assert "/a\\x1b[2J" in out
    assert "90.0" in out


def test_reader_that_has_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody reads any more the command ends well, and what is still to be written goes nowhere."""

    def no_reader(given: argparse.Namespace) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    given = argparse.Namespace(act=no_reader, close=None)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda *_: given)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["tree"]) == 0
        out.write("late")
    assert (tmp_path / "out").read_text() == ""
