"""The base template: a machine booted once, kept in the cache, never booted again while nothing of it changes.

Its key is the digest of one record, the `template_record` of its spec. An entry holds `memory` (sparse), `state`, and
`record.json` with the record and the agent's hello.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.boot_failures import explain_boot
from kernelproof.vm.cache import Cache, digest_record
from kernelproof.vm.disc_files import DiscFiles, open_contents, save_contents
from kernelproof.vm.errors import MachineLost, ProvisionError
from kernelproof.vm.machine import Machine
from kernelproof.vm.memory import HOST_SHARE_MIB, MIB, check_memory, copy_sparse, create_memory, read_available
from kernelproof.vm.messages import Plain
from kernelproof.vm.process import Spawner
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.qemu import BOOT_SHIFT, SYMBOLIC, MachineSpec, Role, template_record
from kernelproof.vm.running import BootFiles, Program, Running
from kernelproof.vm.snapshot import Snapshot
from kernelproof.vm.virtual_clock import keep_clock

KIND = "template"
BOOT_SECONDS = 240.0  # 20 s of CPU on the host that was measured
PING_SECONDS = 30.0  # 0.07 s measured
KEPT = 3  # entries of one label: each is some hundred MB, and every change of the agent makes a new one
_TAIL_LINES = 60


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a base template is made of.

    Args:
        spec: The machine; it holds the digests of all below.
        program: The QEMU.
        kernel: The kernel: an uncompressed image, or a bzImage.
        archives: The cpio archives, in their order.
        agent: The archive behind them.
        label: What it is for people: "6.12 plain virtual".
        facts: For headers.
    """

    spec: MachineSpec
    program: Program
    kernel: Path
    archives: tuple[Path, ...]
    agent: bytes
    label: str
    facts: Mapping[str, Plain]


def provide_base(
    ingredients: Ingredients, cache: Cache, progress: Progress, spawner: Spawner, *, check: bool = True
) -> Snapshot:
    """The base template, from the cache or booted. One that is damaged or does not answer is made anew, once.

    Args:
        ingredients: What it is made of.
        cache: Where it is kept.
        progress: Is told what is done.
        spawner: Forks its machines.
        check: Whether one from the cache has to answer first: half of what a machine costs that does little.

    Raises:
        ProvisionError: it does not boot (the error ends with its console), or the cache can't hold it.
        MachineLost: it boots, but a clone of it does not answer.
    """
    record = template_record(ingredients.spec)
    digest = digest_record(record)
    with cache.locked(KIND, digest, lambda: progress.step(f"wait for another run that makes {ingredients.label}")):
        was_there = cache.path(KIND, digest).is_dir()
        reason = "its files are damaged"
        if (folder := cache.find(KIND, digest)) is not None:
            try:
                return _open_checked(ingredients, folder, spawner) if check else _open(ingredients, folder, spawner)
            except (MachineLost, OSError) as error:
                reason = error.detail if isinstance(error, MachineLost) else str(error)
                cache.drop(KIND, digest)
        if was_there:
            progress.note(f"template {ingredients.label} is made anew: {reason}")
        progress.step(f"boot {ingredients.label}")
        with cache.building(KIND, digest) as work:
            _build(ingredients, record, work, spawner)
        _drop_older(cache, digest, ingredients.label)
        return _open_checked(ingredients, cache.path(KIND, digest), spawner)


def _open(ingredients: Ingredients, folder: Path, spawner: Spawner) -> Snapshot:
    memory = os.open(folder / "memory", os.O_RDONLY | os.O_CLOEXEC)
    state = os.open(folder / "state", os.O_RDONLY | os.O_CLOEXEC)
    contents = open_contents(ingredients.spec.discs, folder)
    return Snapshot(ingredients.spec, ingredients.program, memory, state, ingredients.facts, spawner, contents)


def _open_checked(ingredients: Ingredients, folder: Path, spawner: Spawner) -> Snapshot:
    snapshot = _open(ingredients, folder, spawner)
    try:
        with snapshot.clone() as machine:
            machine.request({"kind": "ping"}, timeout=PING_SECONDS)
    except BaseException:
        snapshot.close()
        raise
    return snapshot


def _build(ingredients: Ingredients, record: Mapping[str, object], work: Path, spawner: Spawner) -> None:
    size = ingredients.spec.memory_mib * MIB
    check_memory(size + HOST_SHARE_MIB * MIB, read_available())
    memory = create_memory("base", size)
    try:
        place = work / "state"
        with place.open("wb") as state:
            hello, contents = _boot(ingredients, memory, state.fileno(), spawner)
        try:
            save_contents(contents, work)
        finally:
            for descriptor in contents.values():
                os.close(descriptor)
        with (work / "memory").open("wb") as target:
            copy_sparse(memory, target.fileno())
            os.fsync(target.fileno())
    finally:
        os.close(memory)
    if ingredients.spec.time == "virtual":
        _keep_clock(place, ingredients.label)
    text = json.dumps({"label": ingredients.label, "hello": hello, "record": record}, indent=1)
    (work / "record.json").write_text(text + "\n", "utf-8")


def _keep_clock(state: Path, label: str) -> None:
    try:
        state.write_bytes(keep_clock(state.read_bytes(), BOOT_SHIFT, SYMBOLIC.shift))
    except ValueError as error:
        remedy = "install the QEMU of a Debian release: this one saves its clock in another way"
        raise ProvisionError("save machine", label, str(error), remedy) from error


def _boot(
    ingredients: Ingredients, memory: int, state: int, spawner: Spawner
) -> tuple[dict[str, Plain], dict[str, int]]:
    # The agent's hello, and descriptors of what the discs hold.
    with _boot_files(ingredients.kernel, ingredients.archives, ingredients.agent) as files:
        try:
            discs = DiscFiles(ingredients.spec.discs)
            running = Running.start(ingredients.spec, Role.BOOT, ingredients.program, memory, spawner, files, discs)
            with Machine(running, ingredients.facts, paused=False, virtual=False, woken=True) as machine:
                hello = machine.wait_for_hello(scale_to_load(BOOT_SECONDS, os.getloadavg()[0], os.cpu_count()))
                contents = machine.save(state)
        except MachineLost as error:
            raise _boot_error(ingredients.label, error) from error
    return hello, contents


def scale_to_load(seconds: float, load: float, cpus: int | None) -> float:
    """As many times longer, up to five, as more processes want to run than there are CPUs. Pure."""
    return seconds * min(max(load / (cpus or 1), 1.0), 5.0)


def _boot_error(label: str, error: MachineLost) -> ProvisionError:
    meaning, remedy = explain_boot(error.log)
    console = "\n".join(error.log.splitlines()[-_TAIL_LINES:]) or "(nothing)"
    detail = f"{meaning or error.detail}; the end of its console:\n{console}"
    return ProvisionError("boot machine", label, detail, remedy)


@contextmanager
def _boot_files(kernel: Path, archives: Sequence[Path], agent: bytes) -> Iterator[BootFiles]:
    descriptors = [os.open(kernel, os.O_RDONLY | os.O_CLOEXEC), os.memfd_create("kernelproof-initrd", os.MFD_CLOEXEC)]
    try:
        with os.fdopen(descriptors[1], "wb", closefd=False) as initrd:
            for archive in archives:
                with archive.open("rb") as source:
                    shutil.copyfileobj(source, initrd, 1 << 20)
            initrd.write(agent)
        yield BootFiles(*descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _drop_older(cache: Cache, digest: str, label: str) -> None:
    entries = []
    for folder in cache.folder(KIND).iterdir():
        # One that is being made or dropped at this moment, or was made by another version.
        with suppress(OSError, ValueError, LookupError, TypeError):
            if len(folder.name) == 64 and json.loads((folder / "record.json").read_text("utf-8"))["label"] == label:
                entries.append((folder.stat().st_mtime_ns, folder.name))
    for _, name in sorted(entries)[:-KEPT]:
        if name != digest:
            cache.drop(KIND, name)
