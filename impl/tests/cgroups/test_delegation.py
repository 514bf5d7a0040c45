"""Who withholds a controller, why a process can't move, what a user is given; folders stand for cgroups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernelproof.impl.cgroups.delegation import (
    Withheld,
    delegate,
    explain_migration,
    read_delegated_files,
    report_withheld,
)
from kernelproof.impl.cgroups.directory import Directory

Make = Callable[..., Directory]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a folder, with files of names in which `_` stands for the dot."""
    with ExitStack() as stack:

        def made(name: str, **files: str) -> Directory:
            path = tmp_path / name
            path.mkdir()
            for file, text in files.items():
                (path / file.replace("_", ".", 1)).write_text(text)
            return stack.enter_context(Directory(os.open(path, os.O_RDONLY), f"/{name}", 2))

        yield made


def give(has: str, gives: str, **others: str) -> dict[str, str]:
    """Files of a cgroup that has and gives controllers."""
    return {"cgroup_controllers": has, "cgroup_subtree_control": gives, "cgroup_procs": ""} | others


def test_who_withholds_a_controller(make: Make) -> None:
    """It is the nearest cgroup above that has a controller and does not give it on; what is there is not told."""
    chain = (
        make("leaf", **give("cpu", "")),
        make("mid", **give("cpu memory", "cpu", cgroup_type="domain\n")),
        make("top", **give("cpu memory pids", "cpu")),
        make("root", **give("cpu memory pids io", "cpu memory pids")),
    )
    assert [(one.controller, one.by) for one in report_withheld(chain)] == [
        ("memory", "/mid"), ("pids", "/top"), ("io", "/root"),
    ]  # fmt: skip
    assert report_withheld(chain[:1]) == ()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"cgroup_type": "domain\n"}, "nobody enabled it: write +memory to its cgroup.subtree_control"),
        ({}, "nobody enabled it: write +memory to its cgroup.subtree_control"),
        ({"cgroup_procs": "7\n8\n"}, "nobody enabled it: write +memory to its cgroup.subtree_control"),  # the root
        (
            {"cgroup_type": "domain\n", "cgroup_procs": "7\n8\n"},
            "it holds 2 processes, so it can give nothing on: move them into a cgroup below it",
        ),
        ({"cgroup_type": "domain threaded\n"}, "it is of type domain threaded, where memory does not work"),
        ({"cgroup_type": "threaded\n"}, "it is of type threaded, where memory does not work"),
    ],
    ids=["domain", "no type", "root with processes", "processes", "domain threaded", "threaded"],
)
def test_why_it_is_withheld(make: Make, files: dict[str, str], why: str) -> None:
    """The reason is the first that would have to go, with what to do about it."""
    leaf, above = make("leaf", **give("", "")), make("above", **give("memory", "") | files)
    assert report_withheld((leaf, above)) == (Withheld("memory", "/above", why),)


def test_threaded_controllers_of_a_threaded_cgroup(make: Make) -> None:
    """A threaded cgroup can give on what works with threads, whatever it holds."""
    leaf, above = make("leaf", **give("", "")), make("above", **give("pids", "", cgroup_type="threaded\n"))
    ((controller, _, why),) = report_withheld((leaf, above))
    assert (controller, why.partition(":")[0]) == ("pids", "nobody enabled it")


@pytest.mark.parametrize(
    ("kind", "gives", "threads", "why"),
    [
        ("domain\n", "", False, None),
        (None, "cpu", False, None),  # the root may hold processes and give
        ("domain invalid\n", "", False, "/target is an invalid domain: write threaded to its cgroup.type first"),
        ("threaded\n", "", False, "/target is threaded: it takes threads of its domain's processes, by cgroup.threads"),
        ("threaded\n", "cpu", True, None),
        ("domain\n", "cpu io", False, "/target gives cpu, io to those below it, so it may hold no processes"),
        ("domain threaded\n", "cpu pids", False, None),
        ("domain threaded\n", "cpu io", False, "/target gives io to those below it, so it may hold no processes"),
    ],
    ids=["free", "root", "invalid", "threaded", "thread", "gives", "threads inside", "gives more"],
)
def test_why_nobody_can_move_there(make: Make, kind: str | None, gives: str, threads: bool, why: str | None) -> None:
    """What the files of the target tell, before the kernel is asked."""
    files = {} if kind is None else {"cgroup_type": kind}
    target = make("target", **give("", gives), cgroup_threads="", **files)
    above = make("above", cgroup_procs="", cgroup_threads="")
    assert explain_migration(above, target, above, threads=threads) == why


@pytest.mark.parametrize("threads", [False, True], ids=["process", "thread"])
@pytest.mark.parametrize("missing", ["target", "above"])
def test_who_may_not_move(make: Make, missing: str, threads: bool) -> None:
    """The file that would be written must be the user's in the target and in the common ancestor; it is named."""
    file = "cgroup.threads" if threads else "cgroup.procs"
    named = {
        name: make(name, **{} if name == missing else {file.replace(".", "_"): ""}) for name in ("target", "above")
    }
    what = {"target": "the target", "above": "the common ancestor"}[missing]
    assert explain_migration(named["above"], named["target"], named["above"], threads=threads) == (
        f"{file} of {what} /{missing} is not this user's to write: both must be"
    )


def test_what_a_user_is_given(make: Make, tmp_path: Path) -> None:
    """The files that the kernel lists and the cgroup has, and no others; negative IDs are refused before anything."""
    (tmp_path / "delegate").write_text("cgroup.procs\ncgroup.threads\nmemory.oom.group\n")
    cgroup = make("box", cgroup_procs="", cgroup_threads="", memory_max="max")
    owner = os.getuid(), os.getgid()
    assert delegate(cgroup, *owner, list_file=tmp_path / "delegate") == ("cgroup.procs", "cgroup.threads")
    assert read_delegated_files(tmp_path / "none") == ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
    for wrong in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="IDs are not negative"):
            delegate(cgroup, *wrong)
