"""Containers made by a program with threads, through helpers, seen from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import (
    PIPE,
    ContainerExistsError,
    Request,
    Runtime,
    StartError,
    WrongStatusError,
    lifecycle,
)
from kernelproof.impl.libcontainer.config.records import Cpu, Memory, Mount, Resources, Root, User
from kernelproof.impl.tests.libcontainer.machine.core.conftest import PROC, rehearse

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def runtime(bundle: Any, cgroup2: Path) -> Iterator[Runtime]:
    """A runtime with a warm helper."""
    with Runtime(bundle.states) as made:
        made.warm()
        yield made


def test_rehearsal() -> None:
    """What is done before machines are forked works, without cgroups; nobody would be told of its error."""
    assert rehearse() == 0


def test_one_interpreter(bundle: Any) -> None:
    """Helpers of all runtimes run from one copy, here the one that the machine's template has."""
    names = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    [held] = [name for name in names if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:interpreter")]
    exes = []
    with Runtime(bundle.states) as one, Runtime(bundle.states) as other:
        for runtime in (one, other):
            runtime.warm()
            helper = Path("/proc/thread-self/children").read_text().split()[-1]
            exes.append(os.stat(f"/proc/{helper}/exe").st_ino)
    assert exes == [os.fstat(int(held)).st_ino] * 2


def test_life_in_a_program(bundle: Any, runtime: Runtime) -> None:
    """Made, started, read from, waited for, deleted; what else runs in it ends with it; errors are the same objects."""
    config = bundle.config("sh", "-c", "echo from $$; exit 3")
    with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
        assert container.status == "created"
        container.start()
        assert container.process is not None
        assert container.process.read_output(10) == b"from 1\n"
        assert container.wait(10) == 3
        assert container.status == "stopped"
    with runtime.create("box", bundle.config("sleep", "1000"), bundle=bundle.path) as container:
        container.start()
        with pytest.raises(ContainerExistsError):
            runtime.create("box", config, bundle=bundle.path)
        with container.exec(["sh", "-c", "exit 5"]) as process:
            assert process.wait(10) == 5
        with pytest.raises(StartError, match="executable file not found") as failed:
            container.exec(["missing"])
        assert (failed.value.stage, failed.value.call) == ("root", "FindProgram")
        container.pause()
        with pytest.raises(WrongStatusError):
            container.exec(["true"])
        container.resume()
        with pytest.raises(TimeoutError):
            container.wait(0.01)
        assert container.verify() == ()
        container.exec(["sleep", "1000"])
        assert container.process is not None
        exe = os.stat(f"/proc/{container.process.pid}/exe")
        assert exe.st_size == (bundle.rootfs / "bin/busybox").stat().st_size
    with pytest.raises(StartError, match="nowhere"):
        runtime.create("box", config.replace(root=Root("nowhere")), bundle=bundle.path)


def test_what_is_found_amiss_and_what_is_not(bundle: Any, runtime: Runtime) -> None:
    """Destinations in any spelling and a limit of half a page are as asked; a mount from outside over one is not."""
    (bundle.rootfs / "mnt/deep").mkdir(parents=True)
    (bundle.rootfs / "link").symlink_to("mnt/deep")
    names = ("/a b", "/t1/", "t9", "/mnt/../t8", "/link/../t7", "/link")
    mounts = [PROC, *(Mount(name, "tmpfs", "tmpfs") for name in names)]
    resources = Resources(memory=Memory(limit=50_000_001), cpu=Cpu(quota=50_000))
    config = bundle.config("sleep", "1000", mounts=mounts, masked_paths=("/proc/keys", "/etc"), resources=resources)
    user = User(0, 0, additional_gids=(5, 7))
    config = config.replace(process=config.process.replace(user=user))
    with runtime.create("box", config, bundle=bundle.path) as container:
        container.start()
        assert container.verify() == ()
        assert container.process is not None
        inside = ["nsenter", "--mount", "--target", str(container.process.pid), "/bin/busybox"]
        subprocess.run([*inside, "mount", "-t", "ramfs", "ramfs", "/mnt/t7"], check=True)
        subprocess.run([*inside, "umount", "/etc"], check=True)
        subprocess.run([*inside, "umount", "/t8"], check=True)
        assert [str(one) for one in container.verify()] == [
            "$.mounts[4].destination: /mnt/../t8 was asked, no mount point is",
            "$.mounts[5].type: tmpfs was asked, ramfs is",
            "$.linux.maskedPaths[1]: /etc was asked, not masked is",
        ]


def test_a_container_without_a_process(bundle: Any, runtime: Runtime) -> None:
    """It is created, can be entered, is not started, and stays created."""
    with runtime.create("box", bundle.config("true").replace(process=None), bundle=bundle.path) as container:
        for _ in range(2):
            with pytest.raises(StartError, match=r"the configuration has no process.*create one with"):
                container.start()
            assert container.status == "created"
        with container.exec(["sh", "-c", "echo inside"], stdout=PIPE) as process:
            assert process.read_output(10) == b"inside\n"
            assert process.wait(10) == 0
    config = bundle.config("true").replace(process=None)
    with pytest.raises(ValueError, match="process: there is nothing to run"):
        lifecycle.run(str(bundle.states), config, Request("box", str(bundle.path), waits=False))


def test_deleting_ends_what_nothing_else_holds(bundle: Any) -> None:
    """What was made in a container without PID namespace and cgroup ends with it when it is deleted by force."""
    with Runtime(bundle.states) as runtime:
        config = bundle.config("sleep", "1000", kinds=("mount",))
        with runtime.create("box", config, bundle=bundle.path) as container:
            container.start()
            process = container.exec(["sleep", "1000"])
            container.delete(force=True)
        assert process.exit_status == 128 + signal.SIGKILL


@pytest.mark.rule("K+2")
def test_threads(bundle: Any, runtime: Runtime, full_number: Callable[[int], int]) -> None:
    """While threads allocate and others make containers, nothing hangs, warns, or is left; no fork handler runs."""
    forks: list[int] = []
    os.register_at_fork(before=lambda: forks.append(1))
    is_over = threading.Event()

    def allocate() -> None:
        kept: list[bytes] = []
        while not is_over.is_set():
            kept = [*kept[-50:], bytes(10_000)]
            is_over.wait(0.001)

    def make(number: int) -> int:
        with runtime.create(f"box{number}", bundle.config("true"), bundle=bundle.path) as container:
            container.start()
            return container.wait(60)

    with warnings.catch_warnings(), ThreadPoolExecutor(10) as pool:
        warnings.simplefilter("error")
        busy = [pool.submit(allocate) for _ in range(8)]
        count = full_number(200)
        try:
            assert list(pool.map(make, range(count), timeout=600)) == [0] * count
        finally:
            is_over.set()
        assert [one.result(10) for one in busy] == [None] * 8
    assert forks == []


def test_asyncio(bundle: Any, runtime: Runtime) -> None:
    """Two containers are made and waited for at one time by one event loop."""

    async def life(name: str, status: int) -> int:
        config = bundle.config("sh", "-c", f"exit {status}")
        container = await runtime.create_async(name, config, bundle=bundle.path)
        await asyncio.to_thread(container.start)
        found = await container.wait_async()
        await asyncio.to_thread(container.delete)
        return found

    async def both() -> list[int]:
        return list(await asyncio.gather(life("one", 1), life("two", 2)))

    assert asyncio.run(both()) == [1, 2]


@pytest.mark.rule("K+5")
def test_sealed_interpreter(bundle: Any, runtime: Runtime) -> None:
    """A program /proc/self/exe runs a copy of the interpreter that can't be written; the host's file is untouched."""
    helper = Path("/proc/thread-self/children").read_text().split()[-1]
    assert os.readlink(f"/proc/{helper}/exe").startswith("/memfd:interpreter")
    with runtime.create("box", bundle.config("true"), bundle=bundle.path) as container:
        assert container.process is not None
        exe = f"/proc/{container.process.pid}/exe"
        assert os.readlink(exe).startswith("/memfd:interpreter")
        with pytest.raises(OSError, match="Text file busy"):
            os.truncate(exe, 0)
        copy = os.open(exe, os.O_RDONLY)  # as a container keeps it until nobody runs it any more
        os.kill(container.process.pid, signal.SIGKILL)
        container.wait(10)
    runtime.close()
    try:
        with pytest.raises(PermissionError), open(f"/proc/self/fd/{copy}", "r+b", buffering=0) as file:
            file.write(b"x")
    finally:
        os.close(copy)


@pytest.mark.long
def test_cycles(bundle: Any, runtime: Runtime, full_number: Callable[[int], int]) -> None:
    """A thousand lives one after the other leave no process, mount, cgroup, link, file or descriptor."""
    for _ in range(full_number(1000)):
        container = runtime.create("box", bundle.config("true"), bundle=bundle.path)
        container.start()
        assert container.wait(60) == 0
        container.delete()


@pytest.mark.long
def test_many_at_once(bundle: Any, runtime: Runtime, full_number: Callable[[int], int]) -> None:
    """Two hundred containers run at one time, each with processes of its own, and end without a trace."""
    config = bundle.config("sleep", "100000")
    made = [runtime.create(f"box{number}", config, bundle=bundle.path) for number in range(full_number(200))]
    for container in made:
        container.start()
    assert {container.status for container in made} == {"running"}
    assert len({os.readlink(f"/proc/{one.state()['pid']}/ns/pid") for one in made}) == len(made)
    for container in made:
        container.delete(force=True)
    assert list(runtime.list()) == []
