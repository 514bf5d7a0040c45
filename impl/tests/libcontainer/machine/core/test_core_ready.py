"""Containers that are made before they are asked for: what is taken, what is not taken any more, what is left."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import (
    NOTHING,
    PIPE,
    ContainerExistsError,
    InvalidIdError,
    Mount,
    Root,
    Runtime,
    StartError,
    lifecycle,
)
from kernelproof.impl.libcontainer.state import StateDirectory

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def runtime(bundle: Any, cgroup2: Path) -> Iterator[Runtime]:
    """A runtime that has nothing ready."""
    with Runtime(bundle.states) as made:
        yield made


def waiting(bundle: Any) -> dict[str, int]:
    """Names of ready containers, and the processes that wait in them."""
    names = [path.name for path in bundle.states.iterdir() if path.name.startswith("ready-")]
    return {name: int(str(lifecycle.read_state(str(bundle.states), name)["pid"])) for name in names}


def copy_root(source: Path, copy: Path) -> None:
    """Copy a root without its devices."""
    shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("dev"))


def test_life(bundle: Any, cgroups: str) -> None:
    """One that was there before gets the name, is like any other from then on, and another is made in its place."""
    config = bundle.config("sh", "-c", "echo from $$; exit 3")
    with Runtime(bundle.states) as runtime:
        runtime.prepare(config, bundle=bundle.path, count=2, stdout=PIPE)
        before = waiting(bundle)
        assert len(before) == 2
        with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
            assert container.process is not None
            assert container.process.pid in before.values()
            state = container.state()
            assert (state["id"], state["status"], state["pid"]) == ("box", "created", container.process.pid)
            assert len(before.keys() & waiting(bundle).keys()) == 1
            assert container.verify() == ()
            container.start()
            assert container.process.read_output(10) == b"from 1\n"
            assert container.wait(10) == 3
            assert container.status == "stopped"
        runtime.prepare(config, bundle=bundle.path, count=2, stdout=PIPE)  # waits until there are so many again
        assert len(waiting(bundle)) == 2
        runtime.prepare(config, bundle=bundle.path, count=1, stdout=PIPE)
        assert len(waiting(bundle)) == 1
        runtime.prepare(config, bundle=bundle.path, count=0, stdout=PIPE)
        assert waiting(bundle) == {}


def test_only_what_is_the_same(bundle: Any, runtime: Runtime) -> None:
    """Another configuration, bundle or stream is not served by what is ready; an equal configuration is."""
    config = bundle.config("true")
    runtime.prepare(config, bundle=bundle.path, stdout=NOTHING)
    before = waiting(bundle)

    def is_taken(config: Any, path: Path, stdout: int | None) -> bool:
        with runtime.create("box", config, bundle=path, stdout=stdout) as container:
            assert container.process is not None
            return container.process.pid in before.values()

    other = bundle.path / "other"
    copy_root(bundle.rootfs, other / "rootfs")
    assert not is_taken(bundle.config("false"), bundle.path, NOTHING)
    assert not is_taken(config, other, NOTHING)
    assert not is_taken(config, bundle.path, None)
    assert waiting(bundle) == before
    assert is_taken(bundle.config("true"), bundle.path, NOTHING)


def test_root_that_was_replaced(bundle: Any, runtime: Runtime) -> None:
    """Nobody gets the root that was at the path before, nor what was bound there."""
    source = bundle.path / "source"
    source.mkdir()
    mounts = (Mount("/proc", "proc", "proc"), Mount("/tmp", "bind", str(source), ("bind",)))
    config = bundle.config("sh", "-c", "cat /mark /tmp/mark", mounts=mounts)

    def fill(text: str) -> None:
        (bundle.rootfs / "mark").write_text(f"root {text}\n")
        (source / "mark").write_text(f"bind {text}\n")

    def read() -> bytes:
        with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
            container.start()
            assert container.process is not None
            return container.process.read_output(10)

    fill("one")
    runtime.prepare(config, bundle=bundle.path, stdout=PIPE)
    fill("two")  # the same files
    assert read() == b"root two\nbind two\n"
    for replaced in (bundle.rootfs, source):
        runtime.prepare(config, bundle=bundle.path, stdout=PIPE)
        replaced.rename(bundle.path / "old")
        copy_root(bundle.path / "old", replaced)
        fill("three")
        shutil.rmtree(bundle.path / "old")
        assert read() == b"root three\nbind three\n"


def test_what_was_mounted_below(bundle: Any, runtime: Runtime) -> None:
    """What was mounted in the root, or is mounted there no more, is seen by whoever gets the next container."""
    config = bundle.config("ls", "/a place")
    place = bundle.rootfs / "a place"
    place.mkdir()
    (place / "below").touch()

    def read() -> bytes:
        with runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as container:
            container.start()
            assert container.process is not None
            return container.process.read_output(10)

    runtime.prepare(config, bundle=bundle.path, stdout=PIPE)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    (place / "above").touch()
    assert read() == b"above\n"
    runtime.prepare(config, bundle=bundle.path, stdout=PIPE)
    subprocess.run(["umount", str(place)], check=True)
    assert read() == b"below\n"
    runtime.prepare(config, bundle=bundle.path, stdout=PIPE)
    before = waiting(bundle)
    with Mounted(bundle.path / "elsewhere"), runtime.create("box", config, bundle=bundle.path, stdout=PIPE) as other:
        assert other.process is not None
        assert [other.process.pid] == list(before.values()), "what is mounted elsewhere changes nothing"


class Mounted:
    """A tmpfs somewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", str(self.path)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.path)], check=True)


def test_full_disk(bundle: Any, cgroup2: Path) -> None:
    """Where a state can't be written, who asks is told, and neither the ready one nor the other is left."""
    with Mounted(bundle.states):
        with Runtime(bundle.states) as runtime:
            config = bundle.config("true")
            runtime.prepare(config, bundle=bundle.path)
            subprocess.run(["mount", "-o", "remount,size=64k", str(bundle.states)], check=True)
            with suppress(OSError), (bundle.states / "filling").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            with pytest.raises((OSError, StartError), match=r"(?i)no space left on device"):
                runtime.create("box", config, bundle=bundle.path)
            (bundle.states / "filling").unlink()
            with runtime.create("box", config, bundle=bundle.path) as container:
                container.start()
                assert container.wait(10) == 0
        assert list(bundle.states.iterdir()) == []


def test_streams_of_this_program(bundle: Any, runtime: Runtime, tmp_path: Path) -> None:
    """Where a descriptor is another file by then, what is written goes to that."""
    config = bundle.config("echo", "said")

    def run(output: int) -> None:
        with runtime.create("box", config, bundle=bundle.path, stdout=output) as container:
            container.start()
            assert container.wait(10) == 0

    files = [tmp_path / name for name in ("one", "two")]
    number = os.open(files[0], os.O_WRONLY | os.O_CREAT)
    runtime.prepare(config, bundle=bundle.path, stdout=number)
    run(number)
    runtime.prepare(config, bundle=bundle.path, stdout=number)
    for path in files:  # the first once more at first, from its beginning
        other = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(other, number)
        os.close(other)
        run(number)
    os.close(number)
    assert [path.read_text() for path in files] == ["said\n", "said\n"]


def test_names(bundle: Any, runtime: Runtime) -> None:
    """A name that is taken, or can't be one, is refused as without anything ready, and what is ready stays."""
    config = bundle.config("true")
    with runtime.create("box", bundle.config("false"), bundle=bundle.path) as other:
        runtime.prepare(config, bundle=bundle.path)
        before = waiting(bundle)
        with pytest.raises(ContainerExistsError, match="'box' exists already"):
            runtime.create("box", config, bundle=bundle.path)
        with pytest.raises(InvalidIdError):
            runtime.create("../box", config, bundle=bundle.path)
        assert waiting(bundle) == before
        assert other.status == "created"
        other.start()
        assert other.wait(10) == 1


def test_what_can_not_be_made(bundle: Any, runtime: Runtime) -> None:
    """It fails where it is prepared, as where it is created, and nothing is ready."""
    config = bundle.config("true").replace(root=Root("nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        runtime.prepare(config, bundle=bundle.path)
    config = bundle.config("missing")
    with pytest.raises(StartError, match="executable file not found"):
        runtime.prepare(config, bundle=bundle.path, count=3)
    assert waiting(bundle) == {}


def kill_process(bundle: Any, runtime: Runtime) -> None:
    (pid,) = waiting(bundle).values()
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


def kill_helper(bundle: Any, runtime: Runtime) -> None:
    (pid,) = waiting(bundle).values()
    (helper,) = {int(child) for child in Path("/proc/thread-self/children").read_text().split()} - {pid}
    os.kill(helper, signal.SIGKILL)


def delete_it(bundle: Any, runtime: Runtime) -> None:
    (name,) = waiting(bundle)
    lifecycle.delete(str(bundle.states), name, force=True)


def spoil_state(bundle: Any, runtime: Runtime) -> None:
    (name,) = waiting(bundle)
    (bundle.states / name / "state.json").write_text("{")


@pytest.mark.parametrize("harm", [kill_process, kill_helper, delete_it, spoil_state])
def test_harm(bundle: Any, runtime: Runtime, harm: Callable[[Any, Runtime], None]) -> None:
    """Whatever becomes of what is ready, who asks for a container gets one, again and again, and nothing stays."""
    config = bundle.config("true")
    runtime.prepare(config, bundle=bundle.path)
    harm(bundle, runtime)
    for _ in range(3):
        with runtime.create("box", config, bundle=bundle.path) as container:
            container.start()
            assert container.wait(10) == 0


def test_killed_while_it_takes(bundle: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose directory was renamed and whose state was not written has its new name, and can be deleted."""
    config = bundle.config("true")
    runtime.prepare(config, bundle=bundle.path)
    (pid,) = waiting(bundle).values()

    class Killed(BaseException):
        """In place of the program's end."""

    def end(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(StateDirectory, "write", end)
        with pytest.raises(Killed):
            runtime.create("box", config, bundle=bundle.path)
    assert lifecycle.read_state(str(bundle.states), "box")["pid"] == pid
    (bundle.states / "box/state.json").unlink()  # what the lock's file says is as good
    lifecycle.delete(str(bundle.states), "box", force=True)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    runtime.close()


def test_program_that_is_killed(bundle: Any, cgroup2: Path) -> None:
    """What was ready ends with the program; what was taken does not."""
    program = """if True:
        import sys
        from kernelproof.impl.libcontainer import Runtime, load_config
        states, bundle = sys.argv[1:]
        config = load_config(bundle).config
        runtime = Runtime(states)
        runtime.prepare(config, bundle=bundle, count=2)
        runtime.create("box", config, bundle=bundle)
        print("made", flush=True)
        sys.stdin.read()
    """
    bundle.write(bundle.config("true"))
    command = [sys.executable, "-c", program, str(bundle.states), str(bundle.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"made\n"
        children = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        taken = lifecycle.read_state(str(bundle.states), "box")["pid"]
        others = [os.pidfd_open(pid) for pid in children if pid != taken]  # the helper, and what is ready
        running.kill()
    for pidfd in others:
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)
    assert [path.name for path in bundle.states.iterdir()] == ["box"]
    assert lifecycle.read_state(str(bundle.states), "box")["status"] == "created"
    lifecycle.delete(str(bundle.states), "box", force=True)


@pytest.mark.long
def test_threads(bundle: Any, runtime: Runtime, full_number: Callable[[int], int]) -> None:
    """Threads that ask at one time get a container each; none gets another's."""
    config = bundle.config("sh", "-c", "cat", mounts=())
    runtime.prepare(config, bundle=bundle.path, count=3, stdin=PIPE, stdout=PIPE)

    def make(number: int) -> bytes:
        with runtime.create(f"box{number}", config, bundle=bundle.path, stdin=PIPE, stdout=PIPE) as container:
            assert container.process is not None
            container.start()
            os.write(container.process.stdin, f"{number}".encode())
            os.close(container.process.stdin)
            container.process.stdin = -1
            return container.process.read_output(60)

    with ThreadPoolExecutor(4) as pool:
        numbers = range(full_number(1200))
        assert list(pool.map(make, numbers, timeout=600)) == [f"{number}".encode() for number in numbers]
