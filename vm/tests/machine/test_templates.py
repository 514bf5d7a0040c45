"""Templates on disk: damaged ones are made anew, two runs make one, a boot that fails shows its console."""

from __future__ import annotations

import errno
import json
import os
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernelproof.vm import base
from kernelproof.vm.accelerator import probe
from kernelproof.vm.base import Ingredients, provide_base
from kernelproof.vm.cache import Cache, digest_record
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.memory import copy_sparse
from kernelproof.vm.process import Spawner
from kernelproof.vm.provision import provision
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.qemu import Role, Wiring, qemu_command, template_record
from kernelproof.vm.snapshot import Snapshot
from kernelproof.vm.template import Template, read_machine_type

Boot = Callable[..., tuple[object, dict[str, int]]]


class Told(SilentProgress):
    """Keeps steps as well."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


def provide(template: Template, cache: Cache) -> tuple[Snapshot, Told]:
    told = Told()
    return provide_base(template._ingredients, cache, told, Spawner()), told


def answers(snapshot: Snapshot) -> bool:
    with snapshot.clone() as machine:
        return machine.run(["true"]).returncode == 0


def digest_of(template: Template) -> str:
    return digest_record(template_record(template._ingredients.spec))


def boot_again(template: Template) -> Boot:
    """In place of a boot: the machine that was booted for the shared cache. These tests are about what is kept."""
    template.clone().close()
    entry = Cache().find(base.KIND, digest_of(template))
    assert entry is not None

    def boot(ingredients: Ingredients, memory: int, state: int, spawner: Spawner) -> tuple[object, dict[str, int]]:
        with (entry / "memory").open("rb") as source:
            copy_sparse(source.fileno(), memory)
        os.write(state, (entry / "state").read_bytes())
        return json.loads((entry / "record.json").read_text("utf-8"))["hello"], {}

    return boot


@pytest.fixture
def quick_boot(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_boot", boot_again(template))


@pytest.fixture(scope="module")
def cache(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of this module's own that holds a whole template."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "_boot", boot_again(template))
        snapshot, told = provide(template, cache)
    snapshot.close()
    assert told.steps == ["boot 6.12 plain virtual"]
    return cache


@pytest.fixture
def entry(template: Template, cache: Cache) -> Path:
    return cache.path(base.KIND, digest_of(template))


def test_second_use(template: Template, cache: Cache, entry: Path) -> None:
    """A template that is in the cache is not booted again, and takes no more room than what is in it."""
    snapshot, told = provide(template, cache)
    assert (told.steps, told.notes) == ([], [])
    assert answers(snapshot)
    snapshot.close()
    assert (entry / "memory").stat().st_blocks * 512 < 700 * 1024 * 1024


def truncate_state(entry: Path) -> None:
    os.truncate(entry / "state", 1000)


def empty_memory(entry: Path) -> None:
    # Of the same size and sealed anew: only the ping tells.
    size = (entry / "memory").stat().st_size
    os.truncate(entry / "memory", 0)
    os.truncate(entry / "memory", size)
    (entry / ".manifest").unlink()
    (entry / ".manifest").write_text("{}")
    (entry / ".seen").unlink()


@pytest.mark.usefixtures("quick_boot")
@pytest.mark.parametrize(
    ("damage", "seen"), [(truncate_state, "its files are damaged"), (empty_memory, "")], ids=["state", "memory"]
)
def test_damaged_template(
    template: Template, cache: Cache, entry: Path, monkeypatch: pytest.MonkeyPatch, damage: object, seen: str
) -> None:
    """A damaged template is noticed, made anew once, and that is told."""
    assert callable(damage)
    damage(entry)
    monkeypatch.setattr(base, "PING_SECONDS", 20.0)
    snapshot, told = provide(template, cache)
    monkeypatch.undo()
    assert told.steps == ["boot 6.12 plain virtual"]
    assert len(told.notes) == 1
    assert told.notes[0].startswith("template 6.12 plain virtual is made anew: ")
    assert seen in told.notes[0]
    assert answers(snapshot)
    snapshot.close()


class Teller(SilentProgress):
    """Prints steps."""

    def step(self, text: str) -> None:
        print(text, flush=True)


def other_run() -> None:
    """A run in a process of its own; where it would boot, it waits for a word first."""
    cache, template = Cache(Path(sys.argv[1])), Template(sys.argv[2])
    boot = boot_again(template)

    def boot_when_told(*arguments: Any) -> tuple[object, dict[str, int]]:
        sys.stdin.readline()
        return boot(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "_boot", boot_when_told)
        provide_base(template._ingredients, cache, Teller(), Spawner()).close()
    print("ready", flush=True)


OTHER_RUN = "from kernelproof.vm.tests.machine.test_templates import other_run; other_run()"


def run_at_once(cache: Path, *kernels: str) -> list[list[str]]:
    """Let a process for each kernel provide its base template; who boots goes on when each has said something."""
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", OTHER_RUN, cache, kernel], stdin=pipe, stdout=pipe, text=True)
            )
            for kernel in kernels
        ]
        first = [run.stdout.readline() for run in runs if run.stdout is not None]
        for run in (run for line, run in zip(first, runs, strict=True) if line.startswith("boot")):
            assert run.stdin is not None
            run.stdin.write("go on\n")
            run.stdin.flush()
        told = [line + run.communicate()[0] for line, run in zip(first, runs, strict=True)]
    assert [run.returncode for run in runs] == [0] * len(kernels)
    return [text.splitlines() for text in told]


def test_two_runs_at_once(tmp_path: Path) -> None:
    """Of two runs that need the same template one boots and the other waits for it."""
    assert sorted(run_at_once(tmp_path, "6.12", "6.12")) == [
        ["boot 6.12 plain virtual", "ready"],
        ["wait for another run that makes 6.12 plain virtual", "ready"],
    ]


def test_two_kernels_at_once(tmp_path: Path) -> None:
    """Two runs with different kernels boot side by side in one cache, and each finds its own template there after."""
    booted = [["boot 6.12 plain virtual", "ready"], ["boot 5.10 plain virtual", "ready"]]
    assert run_at_once(tmp_path, "6.12", "oldest") == booted
    assert run_at_once(tmp_path, "6.12", "oldest") == [["ready"], ["ready"]]
    assert len(list(Cache(tmp_path).folder(base.KIND).glob("[0-9a-f]*"))) == 2


def test_boot_that_fails(template: Template, tmp_path: Path) -> None:
    """A machine that does not boot is an error that ends with its console, and nothing is left in the cache."""
    ingredients = template._ingredients
    broken = replace(ingredients, agent=b"", archives=(), spec=replace(ingredients.spec, words=("broken",)))
    with pytest.raises(ProvisionError, match="Kernel panic - not syncing: VFS: Unable to mount root fs"):
        provide_base(broken, Cache(tmp_path), Told(), Spawner())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


def test_initramfs_that_is_cut(template: Template, tmp_path: Path) -> None:
    """A root that was cut short is named as such, with what the kernel said of it."""
    ingredients = template._ingredients
    cut = tmp_path / "cut.cpio"
    content = ingredients.archives[0].read_bytes()
    cut.write_bytes(content[: len(content) // 2] + os.urandom(4096))
    broken = replace(ingredients, archives=(cut,), spec=replace(ingredients.spec, words=("cut",)))
    with pytest.raises(ProvisionError, match="could not unpack the initramfs") as caught:
        provide_base(broken, Cache(tmp_path / "cache"), Told(), Spawner())
    assert "Initramfs unpacking failed" in caught.value.detail
    assert "make that root anew" in caught.value.remedy


def test_kernel_without_its_modules(tmp_path: Path) -> None:
    """A kernel whose modules are not there boots where what it needs is built in, and says which it lacks."""
    ingredients = Template("6.12", time="real")._ingredients
    root, _, *others = ingredients.archives
    bare = replace(ingredients, archives=(root, *others), spec=replace(ingredients.spec, words=("bare",)))
    cache = Cache(tmp_path / "cache")
    snapshot = provide_base(bare, cache, Told(), Spawner())
    try:
        with snapshot.clone() as machine:
            refused = machine.run(["ip", "link", "add", "left", "type", "veth"])
            assert "Unknown device type" in refused.stderr
    finally:
        snapshot.close()
    (record,) = cache.folder(base.KIND).glob("*/record.json")
    missing = json.loads(record.read_text("utf-8"))["hello"]["missing_modules"]
    assert {"bridge", "veth", "overlay"} <= set(missing)


@pytest.mark.usefixtures("quick_boot")
def test_entries_of_other_versions(template: Template, cache: Cache, entry: Path) -> None:
    """What another version left beside a template, whatever its shape, neither disturbs its use nor is touched."""
    others = [entry.with_name(digit * 64) for digit in "0123"]
    for other, record in zip(others, ("{}", "[]", '{"label": 5}', "no JSON"), strict=True):
        other.mkdir()
        (other / "record.json").write_text(record)
    (cache.root / "v0/template").mkdir(parents=True)
    (cache.root / "v0/template/old").write_text("of another layout")
    truncate_state(entry)  # so that it is made anew, and older ones are looked at
    snapshot, told = provide(template, cache)
    assert told.steps == ["boot 6.12 plain virtual"]
    snapshot.close()
    assert all(other.is_dir() for other in others)
    assert (cache.root / "v0/template/old").read_text() == "of another layout"


def test_full_disk(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is too full for a template is told, and nothing is left on it."""

    def refuse(source: int, target: int) -> int:
        os.write(target, b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(base, "_boot", lambda *arguments: ({}, {}))
    monkeypatch.setattr(base, "copy_sparse", refuse)
    with pytest.raises(ProvisionError, match=r"No space left on device\n  remedy: free space"):
        provide(template, Cache(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


def test_guest_with_too_little_memory(template: Template, tmp_path: Path) -> None:
    """A host with too little memory is told so before QEMU starts."""
    ingredients = template._ingredients
    huge = replace(ingredients, spec=replace(ingredients.spec, memory_mib=100_000_000))
    with pytest.raises(ProvisionError, match=r"100000192 MiB are needed, [0-9]+ MiB can be had"):
        provide_base(huge, Cache(tmp_path), Told(), Spawner())


def test_old_road(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors in place of paths, as QEMU before 8.2 needs them, save and load as well, again and again."""
    monkeypatch.setattr("kernelproof.vm.running.migration_road", lambda version: "fd")
    session, made = template.session(lambda machine: machine.run(["touch", "/srv/old"]).returncode)
    assert made == 0
    for _ in range(2):
        with session.clone() as machine:
            assert machine.run(["test", "-e", "/srv/old"]).returncode == 0
    session.close()


def test_qemu_whose_starter_is_gone(template: Template) -> None:
    """A QEMU that finds the starter of its memory gone ends by itself."""
    ingredients = template._ingredients
    memory = "/proc/4194305/fd/3"  # no process has this number: the kernel's limit is one less
    with socket.socket() as qmp, socket.socket() as agent:
        numbers = (qmp.fileno(), agent.fileno())
        wiring = Wiring(ingredients.program.executable, memory, "/dev/null", *numbers)
        command = qemu_command(ingredients.spec, Role.CLONE, wiring)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, pass_fds=numbers)
    assert done.returncode == 1
    assert memory in done.stderr


def test_probe_of_the_accelerator(template: Template) -> None:
    """The probe's kernel gets as far as its init where the accelerator works, and is given up where it does not."""
    made = provision("6.12", (), cache=Cache(), progress=Told(), project=None)
    machine = read_machine_type(made.qemu)
    assert probe(made, machine, "qemu64", Spawner(), "tcg", 300.0)
    assert not probe(made, machine, "qemu64", Spawner(), "tcg", 0.2)


KILLED_RUN = """
from kernelproof.vm.tests.interruptible import listen
listen()
from kernelproof.vm.template import Template
session, _ = Template("6.12").session(lambda machine: None)
machine = session.clone()
print(machine._running.child.pid, flush=True)
machine.run(["sh", "-c", "while :; do :; done"])
"""


@pytest.mark.parametrize("number", [9, 2], ids=["SIGKILL", "SIGINT"])
def test_killed_run(number: int, tmp_path: Path) -> None:
    """A run that is killed or interrupted while a machine works leaves no process and no file."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED_RUN]
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        machine = os.pidfd_open(pid)
        run.send_signal(number)
        assert run.wait(60) != 0
        assert select.select([machine], [], [], 60)[0], shlex.join(command)
        os.close(machine)
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= before
