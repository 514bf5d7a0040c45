"""exec and update: what becomes of their options, before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.config.problems import ConfigError
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Cpu,
    Memory,
    Pids,
    Process,
    Resources,
    User,
)
from kernelproof.impl.libcontainer.nsinit.commands import load
from kernelproof.impl.libcontainer.nsinit.options import Given, UsageError
from kernelproof.impl.libcontainer.nsinit.parsing import parse
from kernelproof.impl.libcontainer.nsinit.verbs import (
    executing,
    updating,
)


def asked(*words: str) -> Given:
    """What exec was given."""
    return parse(load("exec"), [*words, "web", "ps"])


OWN = Process(
    "/srv",
    ("httpd",),
    ("PATH=/bin", "A=1"),
    User(33, 44, 0o27, (5,)),
    terminal=True,
    capabilities=Capabilities(bounding=("CAP_KILL",), permitted=("CAP_KILL",), inheritable=("CAP_KILL",)),
)


def test_exec_takes_from_the_container_what_is_not_said() -> None:
    """Environment, user, directory and capabilities are the container's; program and terminal are not."""
    assert executing.plan_process(OWN, asked(), ("ps",)) == OWN.replace(args=("ps",), terminal=False)


def test_exec_changes_what_is_said() -> None:
    """Each option has its place; a user without a group keeps the group."""
    words = [
        "-u",
        "7",
        "-g",
        "6",
        "-e",
        "A=2",
        "--cwd",
        "/",
        "-t",
        "--no-new-privs",
        "--apparmor",
        "p",
        "--process-label",
        "l",
    ]
    found = executing.plan_process(OWN, asked(*words), ("ps",))
    assert found.user == User(7, 44, 0o27, (5, 6))
    assert found.env == ("PATH=/bin", "A=1", "A=2")
    assert (found.cwd, found.terminal, found.no_new_privileges) == ("/", True, True)
    assert (found.apparmor_profile, found.selinux_label) == ("p", "l")
    assert executing.plan_process(OWN, asked("-u", "7:8"), ("ps",)).user.gid == 8


def test_exec_adds_capabilities_but_never_inheritable_ones() -> None:
    """--cap goes to bounding, effective and permitted; what can be inherited stays as the configuration has it."""
    found = executing.plan_process(OWN, asked("-c", "CAP_CHOWN"), ("ps",)).capabilities
    assert found == Capabilities(
        bounding=("CAP_KILL", "CAP_CHOWN"),
        effective=("CAP_CHOWN",),
        permitted=("CAP_KILL", "CAP_CHOWN"),
        inheritable=("CAP_KILL",),
    )


@pytest.mark.parametrize(("text", "name"), [("", ""), ("a/b", "a/b"), ("memory:a", "a"), ("/a/", "a")])
def test_a_cgroup_of_exec_is_below_the_containers(text: str, name: str) -> None:
    """A controller before the colon is dropped; .. never climbs."""
    assert executing.parse_cgroup(text) == name
    with pytest.raises(UsageError):
        executing.parse_cgroup(f"{text}/../../x")


def limits(*words: str) -> Given:
    """What update was given."""
    return parse(load("update"), [*words, "web"])


def test_update_asks_for_what_is_named() -> None:
    """Each option sets its field, and no other; swap alone is possible."""
    words = ["--memory", "-1", "--cpu-quota=50000", "--cpuset-cpus", "0-1", "--pids-limit", "9"]
    assert updating.plan_resources(limits(*words)) == Resources(
        memory=Memory(limit=-1), cpu=Cpu(quota=50000, cpus="0-1"), pids=Pids(9)
    )
    assert updating.plan_resources(limits("--memory-swap", "5")) == Resources(memory=Memory(swap=5))


def test_update_refuses_what_cannot_hold() -> None:
    """The same checks as in a configuration, before the container is looked at."""
    with pytest.raises(ConfigError, match=r"\$\.cpu\.period"):
        updating.plan_resources(limits("--cpu-period", "5"))
    with pytest.raises(ConfigError, match=r"\$\.memory\.swap"):
        updating.plan_resources(limits("--memory", "5", "--memory-swap", "4"))


def test_update_keeps_what_is_not_named() -> None:
    """Fields merge at each level; lists are replaced."""
    old = Resources(memory=Memory(limit=1, swap=2), cpu=Cpu(shares=3))
    new = Resources(memory=Memory(limit=9), pids=Pids(5))
    assert updating.merge(old, new) == Resources(memory=Memory(limit=9, swap=2), cpu=Cpu(shares=3), pids=Pids(5))


LIMITED = Resources(memory=Memory(limit=100, swap=150))


@pytest.mark.parametrize(
    ("words", "kept", "written"),
    [
        (("--memory-swap", "200"), Memory(limit=100, swap=200), Memory(limit=100, swap=200)),
        (("--memory-swap", "-1"), Memory(limit=100, swap=-1), Memory(limit=100, swap=-1)),
        (("--memory-swap", "0"), Memory(limit=100, swap=150), Memory(swap=0)),
        (("--memory", "50"), Memory(limit=50, swap=150), Memory(limit=50, swap=150)),
        (("--memory", "-1"), Memory(limit=-1, swap=-1), Memory(limit=-1, swap=-1)),
        (("--memory-reservation", "9"), Memory(limit=100, swap=150, reservation=9), Memory(reservation=9)),
    ],
)
def test_update_takes_memory_and_swap_as_one_sum(words: tuple[str, ...], kept: Memory, written: Memory) -> None:
    """What is written of one comes from what holds of both; without a limit of memory there is none of the sum."""
    asked = updating.plan_resources(limits(*words))
    merged = updating.plan_merged(LIMITED, asked)
    assert merged == Resources(memory=kept)
    assert updating.plan_change(merged, asked) == Resources(memory=written)


@pytest.mark.parametrize("words", [("--memory-swap", "50"), ("--memory", "151"), ("--memory=-1", "--memory-swap=5")])
def test_update_refuses_what_cannot_hold_with_the_rest(words: tuple[str, ...]) -> None:
    """A sum below its part, whichever of the two was there before."""
    with pytest.raises(ConfigError, match="memory and swap together"):
        updating.plan_merged(LIMITED, updating.plan_resources(limits(*words)))


def test_update_refuses_swap_without_memory() -> None:
    """Of a container without limits the sum alone can't be limited."""
    with pytest.raises(ConfigError, match="Set limit too"):
        updating.plan_merged(Resources(), updating.plan_resources(limits("--memory-swap", "50")))


def test_update_reads_a_file_or_standard_input(tmp_path: Path) -> None:
    """A file with linux.resources is read and checked; swap alone is possible."""
    (tmp_path / "limits.json").write_text('{"memory": {"swap": 7}}')
    assert updating.read_resources(str(tmp_path / "limits.json")) == Resources(memory=Memory(swap=7))
    (tmp_path / "limits.json").write_text('{"pids": {"limit": 7}}')
    assert updating.read_resources(str(tmp_path / "limits.json")) == Resources(pids=Pids(7))
    (tmp_path / "limits.json").write_text('{"pids": {"limit": -7}}')
    with pytest.raises(ConfigError, match=r"limits.json: \$\.pids\.limit"):
        updating.read_resources(str(tmp_path / "limits.json"))
