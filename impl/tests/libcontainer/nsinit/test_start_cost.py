"""What a call loads: each module of the way to `run` stands in a list, and what is slow is never on it.

A new module on this way costs every start. Whoever adds one adds it to the list, with what it costs in mind.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.config.records import Config

ROOT = Path(__file__).parents[4]

# Ours, on the way to `run`, until the plan is made: without the prefix kernelproof.impl.
HOT = Path(__file__).with_name("hot_modules.txt")

# Never: 3 to 60 ms each. `json` is there as its C half alone.
SLOW = {
    *("argparse", "asyncio", "concurrent", "dataclasses", "datetime", "inspect", "json", "logging", "msgspec"),
    *("pathlib", "random", "rich", "shutil", "socket", "subprocess", "tempfile", "threading", "unittest", "urllib"),
}
# Nor on the way to `run`: a tenth of what it loads, for what a few lines do (see _syscalls: named, unwinding, foreign).
SPARED = {
    "ctypes",
    "contextlib",
    "functools",
    "collections",
    "enum",
    "importlib",
    "keyword",
    "operator",
    "reprlib",
    "typing",
}
# Not for what does not touch a container at all.
LIGHT = {*SLOW, "ctypes", "enum", "re", "signal", "typing", "contextlib"}

FRONT = """
import sys
sys.path.append(sys.argv[1])
from kernelproof.impl.libcontainer.nsinit.scripts.packed import put_os
put_os()
before = set(sys.modules)
from kernelproof.impl.libcontainer.nsinit.main import main
"""
RUN = (
    FRONT
    + """
import kernelproof.impl.libcontainer.nsinit.verbs.running as running
from kernelproof.impl.libcontainer.facts import read_host
from kernelproof.impl.libcontainer.plan import plan_container

class Started:
    pidfd = 0
    refused = ()

def run(root, config, request, **options):
    plan_container(config, read_host(), request)
    return Started

running.run_container = run
running.attend = lambda started, given: 0
running._become_subreaper = lambda: None
assert main(["run", "--keep", "--bundle", sys.argv[2], "web"]) == 0
print("\\n".join(set(sys.modules) - before))
"""
)
OTHER = FRONT + "main(sys.argv[2:])\nprint('\\n'.join(['', *(set(sys.modules) - before)]))\n"


def loaded(code: str, *words: str) -> set[str]:
    """The modules that a new interpreter, started as the command starts it, loads by a piece of code."""
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT), *words]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n"))


def families(modules: set[str]) -> set[str]:
    """Their first words."""
    return {module.partition(".")[0] for module in modules}


@pytest.fixture(scope="module")
def run_modules(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What run loads for a container with the usual namespaces and mounts, in the foreground, without a terminal."""
    bundle = tmp_path_factory.mktemp("bundle")
    (bundle / "config.json").write_text(Config.minimal("rootfs", ["true"]).dump())
    return loaded(RUN, str(bundle))


def test_the_way_to_run_loads_what_is_listed(run_modules: set[str]) -> None:
    """No module of ours is loaded that is not in hot_modules.txt."""
    ours = {name.removeprefix("kernelproof.impl.") for name in run_modules if name.startswith("kernelproof.impl.")}
    listed = set(HOT.read_text().split())
    assert sorted(ours - listed) == [], "new on the way of every start: is it needed there? then list it"


def test_the_way_to_run_loads_nothing_slow(run_modules: set[str]) -> None:
    """No library that costs milliseconds for what a start does not need."""
    assert families(run_modules) & {*SLOW, *SPARED, "_collections_abc"} == set()  # the last: os beyond what is built in


@pytest.mark.parametrize(
    "words", [["state", "box"], ["start", "box"], ["kill", "box"], ["delete", "box"]], ids=" ".join
)
def test_what_looks_at_one_container_loads_no_os(words: list[str], tmp_path: Path) -> None:
    """A sixth of an interpreter's start: what of os is built in is enough, also where the container does not exist."""
    modules = loaded(OTHER, "--root", str(tmp_path), *words)
    assert families(modules) & {*SLOW, *SPARED, "_collections_abc", "posixpath"} == set()


@pytest.mark.parametrize("words", [["--version"], ["kill"], ["nothing"]], ids=" ".join)
def test_what_touches_no_container_is_light(words: list[str]) -> None:
    """The version, and words that are not understood, load the least."""
    modules = loaded(OTHER, *words)
    assert families(modules) & (LIGHT if words != ["kill"] else SLOW) == set()


@pytest.mark.parametrize(
    "words", [["spec", "--bundle", "/nonexistent"], ["features"], ["config", "/nonexistent"]], ids=" ".join
)
def test_what_reads_and_writes_configurations_is_light(words: list[str]) -> None:
    """Configurations need no system call beyond files."""
    assert families(loaded(OTHER, *words)) & SLOW == set()
