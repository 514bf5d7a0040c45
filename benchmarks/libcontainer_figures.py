"""Containers of nsinit, runc and crun, made in turn on one machine; and the library with a warm helper.

    sh: kernelproof run --profile runtimes --kernel 6.12 --writable -- python3 benchmarks/libcontainer_figures.py 15

Wall times of a machine without KVM are long; what counts is the ratio of medians in one run. CPU time is that of the
command and all that it waited for, and its ratio the better one on a busy host. In a machine whose time is virtual a
millisecond is a million instructions. The first round of each is not counted: it fills caches of byte code.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = Path("/tmp/figures")
V1 = ("cpu", "memory", "pids", "freezer", "devices", "blkio")
PREFIX = Path("/tmp/installed")
# The steps of `run` until its process is made, in CPU time, in an interpreter that begins as the command does.
STEPS = """
from time import process_time
begun = process_time()
import gc, sys
gc.disable()
def step(name):
    global begun
    now = process_time()
    print(f"{(now - begun) * 1e3:.2f} {name}")
    begun = process_time()
sys.path.insert(0, sys.argv[1])
import packed
sys.path[0] = sys.argv[2]
run = packed.Packed.run
def run_timed(self):
    step("read the file of modules, and look at their sources")
    run(self)
    step(f"run {len(self._at_once)} modules")
packed.Packed.run = run_timed
step("load what reads modules")
packed.install(sys.argv[1], "run")
import kernelproof.impl.libcontainer.lifecycle
import kernelproof.impl.libcontainer.nsinit.verbs.running
from kernelproof.impl.libcontainer.config.reading import load_config
step("load what is not among them")
config = load_config(sys.argv[3]).config
step("read and check config.json")
host = kernelproof.impl.libcontainer.facts.read_host()
step("read facts of the host")
kernelproof.impl.libcontainer.plan.plan_container(
    config, host, kernelproof.impl.libcontainer.plan.Request("one", sys.argv[3], waits=False)
)
step(f"make the plan ({len(sys.modules)} modules are loaded by now)")
"""


def install() -> str:
    """The command as pip leaves it in an environment of its own; returns its path."""
    packages = PREFIX / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    scripts = ROOT / "impl/libcontainer/nsinit/scripts"
    (PREFIX / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    (packages / "kernelproof").symlink_to(ROOT / "kernelproof")
    for name in ("nsinit", "nsinit-python"):
        text = (scripts / name).read_text().replace("#!python\n", f"#!{sys.executable}\n", 1)
        (PREFIX / "bin" / name).write_text(text)
        (PREFIX / "bin" / name).chmod(0o755)
    return str(PREFIX / "bin/nsinit")


def mount_cgroups(version: str) -> int:
    """Mounts hierarchies, and leaves the cgroups of version 1 that this process is in; how many."""
    top = Path("/sys/fs/cgroup")
    if version == "v2":
        subprocess.run(["mount", "-t", "cgroup2", "none", str(top)], check=True)
        return 1
    subprocess.run(["mount", "-t", "tmpfs", "none", str(top)], check=True)
    own = [line.split(":")[1] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    wanted = dict.fromkeys(
        (*V1, *(name for names in own if names for name in names.split(",")))
    )  # runc: all of its own
    count = 0
    for word in wanted:
        place = top / word.removeprefix("name=")
        place.mkdir()
        option = f"none,{word}" if "=" in word else word
        done = subprocess.run(["mount", "-t", "cgroup", "-o", option, "none", str(place)])
        if done.returncode == 0:
            count += 1
            (place / "cgroup.procs").write_text("0")
    return count


def make_bundle(nsinit: str) -> None:
    """A bundle with busybox, by `nsinit spec`."""
    (BUNDLE / "rootfs/bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in ("true", "sleep"):
        shutil.copy(busybox, BUNDLE / "rootfs/bin" / name)
    subprocess.run([nsinit, "spec"], cwd=BUNDLE, check=True)
    config = json.loads((BUNDLE / "config.json").read_text())
    for folder, args in ((BUNDLE, ["true"]), (BUNDLE / "long", ["sleep", "1000"])):
        folder.mkdir(exist_ok=True)
        config["process"].update(terminal=False, args=args)
        config["root"]["path"] = str(BUNDLE / "rootfs")
        (folder / "config.json").write_text(json.dumps(config))


def life(program: str, found: dict[str, list[tuple[float, float]]]) -> None:
    """A container that sleeps, from its making to its end; figures are appended to each step's."""
    for step, *words in (
        ("create", "--bundle", f"{BUNDLE}/long", "two"),
        ("state", "two"),
        ("start", "two"),
        ("kill", "two", "CONT"),
        ("delete --force", "two"),
    ):
        found[step].append(timed(program, *step.split(), *words))


def lives(rounds: int, programs: dict[str, str]) -> None:
    """Runs whole lives in turn, and prints the medians of each step."""
    steps = ("create", "state", "start", "kill", "delete --force")
    found: dict[str, dict[str, list[tuple[float, float]]]] = {name: {step: [] for step in steps} for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            life(program, found[name])
    for step in steps:
        show(step, {name: found[name][step][1:] for name in programs})


def timed(*command: str) -> tuple[float, float]:
    """Wall and CPU milliseconds of a command and what it waited for."""
    begin = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status, used = os.wait4(os.posix_spawnp(command[0], command, os.environ, file_actions=quiet), 0)
    wall = time.perf_counter() - begin
    assert status == 0, (command, status)
    return wall * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def interleave(rounds: int, subjects: dict[str, Callable[[], tuple[float, float]]], what: str) -> None:
    """Runs subjects in turn, and prints their medians."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            one = subject()
            if number:
                found[name].append(one)
    show(what, found)


def show(what: str, found: dict[str, list[tuple[float, float]]]) -> None:
    """Prints medians, and the first subject's as multiples of the others'."""
    first: tuple[str, float, float] | None = None
    for name, figures in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        least = min(figure[0] for figure in figures)
        ratio = f"  {first[0]} is {first[1] / wall:.2f} x" if first else ""
        ratio += f", of CPU {first[2] / cpu:.2f} x" if first and first[2] and cpu else ""
        first = first or (name, wall, cpu)
        print(f"{what:14} {name:8} wall {wall:8.1f} ms (least {least:8.1f})  CPU {cpu:8.1f} ms{ratio}", flush=True)


def show_steps() -> None:
    """Prints where the time of `run` goes: that of bare starts, and of each step until there is a plan."""
    bare = [timed(sys.executable, "-I", "-S", "-c", "pass")[1] for _ in range(3)]
    print(f"of run, {min(bare):9.2f} ms an interpreter's start and end")
    spread = [timed("unshare", "-m", "true")[1] - timed("true")[1] for _ in range(3)]
    print(f"of run, {min(spread):9.2f} ms a mount namespace to begin in, so that it need not start twice")
    packages = next(PREFIX.glob("lib/*/site-packages"))
    scripts = packages / "kernelproof/impl/libcontainer/nsinit/scripts"
    command = [sys.executable, "-I", "-S", "-c", STEPS, str(scripts), str(packages), str(BUNDLE)]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        milliseconds, _, name = line.partition(" ")
        print(f"of run, {float(milliseconds):9.2f} ms to {name}")


def library(runtime: object, config: object) -> tuple[float, float]:
    """A container's whole life by a warm helper."""
    begin = time.perf_counter()
    container = runtime.create("figure", config, bundle=BUNDLE)  # type: ignore[attr-defined]
    container.start()
    container.wait()
    container.delete()
    return (time.perf_counter() - begin) * 1e3, 0.0


def ready(runtime: object, config: object) -> tuple[float, float]:
    """The same of a container that was kept ready; the next one is there before anything else is measured."""
    found = library(runtime, config)
    runtime.prepare(config, bundle=BUNDLE)  # type: ignore[attr-defined]
    return found


def main() -> None:
    """Prints all figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    version = sys.argv[2] if len(sys.argv) > 2 else "v2"
    print(f"cgroups {version}: {mount_cgroups(version)} hierarchies; kernel {os.uname().release}; rounds {rounds}")
    nsinit = install()
    make_bundle(nsinit)
    os.chdir(BUNDLE)
    programs = {"nsinit": nsinit, "runc": "runc", "crun": "crun"}
    for what, words in (("--version", ("--version",)), ("run", ("run", "one"))):
        subjects: dict[str, Callable[[], tuple[float, float]]] = {
            name: partial(timed, program, *words) for name, program in programs.items()
        }
        interleave(rounds, subjects, what)
    show_steps()
    lives(rounds, programs)
    sys.path.append(str(ROOT))
    from kernelproof.impl.libcontainer import Runtime, load_config  # what is measured, where it was put

    config = load_config(BUNDLE).config
    with Runtime("/tmp/states") as runtime:
        runtime.warm()
        subjects = {"library": partial(library, runtime, config), "crun": partial(timed, "crun", "run", "one")}
        interleave(rounds, subjects, "whole life")
        runtime.prepare(config, bundle=BUNDLE)
        subjects["library"] = partial(ready, runtime, config)
        interleave(rounds, subjects, "kept ready")


if __name__ == "__main__":
    main()
