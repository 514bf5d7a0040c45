"""Machines that were kept as they were when a test failed; `kernelproof enter` goes on with a copy of one.

A kept machine is data in the cache: its memory and device state, its discs, what it needs to run again. It can be
entered as often as one likes, and each time it is as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.cache import Cache
from kernelproof.vm.disc_files import open_contents, save_contents
from kernelproof.vm.errors import ProvisionError, VmError
from kernelproof.vm.machine import Machine
from kernelproof.vm.memory import MIB, create_memory
from kernelproof.vm.process import Spawner
from kernelproof.vm.running import Program
from kernelproof.vm.snapshot import SessionTemplate, Snapshot, read_spec

KIND = "kept"
LIMIT = 8  # machines that one run keeps: each takes some hundred MB of the disc
_NAME_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept machine.

    Args:
        name: What it is entered by.
        node: The test that failed in it.
        kernel: The kernel's release.
        directory: Where pytest was started.
        kept_at: Seconds since the epoch.
        folder: Where it lies.
    """

    name: str
    node: str
    kernel: str
    directory: str
    kept_at: float
    folder: Path


def keep_machine(machine: Machine, template: SessionTemplate, node: str, directory: str, cache: Cache) -> str:
    """Write down a machine that waits for its host; it goes on after. Returns its name.

    Args:
        machine: In real time.
        template: What it is a clone of.
        node: The test's node id.
        directory: Where pytest was started.
        cache: Where it is written to.

    Raises:
        ProvisionError: the cache can't be written to, or is full.
        MachineLost: kind "load".
    """
    now = time.time()
    digest = hashlib.sha256(f"{node} {now} {os.getpid()}".encode("utf-8", "surrogatepass")).hexdigest()
    exported = template.export()
    _check_space(cache, template.spec.memory_mib * MIB)
    record = {name: exported[name] for name in ("spec", "executable", "environment", "facts")}
    with cache.locked(KIND, digest), cache.building(KIND, digest, digests=False) as folder:
        with (folder / "state").open("wb") as state, machine.standing_still(state.fileno()) as contents:
            save_contents(contents, folder)
        text = json.dumps({"node": node, "directory": directory, "kept_at": now, **record}, indent=1)
        (folder / "record.json").write_text(text + "\n", "utf-8")
    return digest[:_NAME_LENGTH]


def _check_space(cache: Cache, needed: int) -> None:
    free = shutil.disk_usage(cache.folder(KIND)).free
    if free < needed:
        remedy = "free space, or forget one: kernelproof enter MACHINE --drop"
        detail = f"{needed // MIB} MiB may be needed, {free // MIB} MiB are free"
        raise ProvisionError("keep machine", str(cache.root), detail, remedy)


def list_kept(cache: Cache) -> list[Kept]:
    """All kept machines, the latest first."""
    return sorted(_read_all(cache), key=lambda kept: kept.kept_at, reverse=True)


def _read_all(cache: Cache) -> Iterator[Kept]:
    for path in cache.path(KIND, "").glob("*/record.json"):
        try:
            record = json.loads(path.read_text("utf-8"))
            release = str(record["facts"]["kernel"]["release"])
            words = str(record["node"]), release, str(record["directory"]), float(record["kept_at"])
        except (OSError, ValueError, LookupError, TypeError):  # it vanishes at this moment, or another version wrote it
            continue
        yield Kept(path.parent.name[:_NAME_LENGTH], *words, path.parent)


def find_kept(cache: Cache, name: str) -> Kept:
    """The kept machine of that name, or the latest whose test's node id holds it.

    Raises:
        VmError: there is none.
    """
    all_kept = list_kept(cache)
    for kept in all_kept:
        if kept.name == name or (name and name in kept.node):
            return kept
    known = ", ".join(kept.name for kept in all_kept) or "none: run pytest with --vm-keep"
    raise VmError("enter machine", repr(name), "no such machine was kept", f"name one of those that are: {known}")


def open_kept(cache: Cache, kept: Kept) -> Machine:
    """A copy of a kept machine; it stands still until its first request.

    Raises:
        VmError: its files are damaged, or its QEMU is gone.
        MachineLost: kinds "qemu" and "load".
        OSError: no descriptors or processes left.
    """
    folder = cache.find(KIND, kept.folder.name)
    if folder is None:
        raise VmError("enter machine", kept.name, "its files are damaged", "run its test again with --vm-keep")
    record: Mapping[str, object] = json.loads((folder / "record.json").read_text("utf-8"))
    spec, executable, environment, facts = (record[name] for name in ("spec", "executable", "environment", "facts"))
    assert isinstance(environment, list)
    assert isinstance(facts, dict)
    program = Program(str(executable), tuple((str(name), str(value)) for name, value in environment))
    if not Path(program.executable).is_file():
        raise VmError("enter machine", kept.name, f"{executable} is gone", "run its test again with --vm-keep")
    machine_spec = read_spec(spec)
    # All of its memory is in its state: what it is loaded into is empty.
    memory = create_memory("kept", machine_spec.memory_mib * MIB)
    state = os.open(folder / "state", os.O_RDONLY | os.O_CLOEXEC)
    contents = open_contents(machine_spec.discs, folder)
    snapshot = Snapshot(machine_spec, program, memory, state, facts, Spawner(), contents)
    try:
        return snapshot.clone()
    finally:
        snapshot.close()
