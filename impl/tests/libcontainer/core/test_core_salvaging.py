"""What tells of a container whose state is damaged, and what is refused where nothing does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer import salvaging
from kernelproof.impl.libcontainer.config.jsontext import format_value
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.process.identity import Identity
from kernelproof.impl.libcontainer.state import State, StateDirectory, StateError, make_directory


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """The directory of a container `box`."""
    return make_directory(str(tmp_path / "states"), "box")


def file(directory: StateDirectory, name: str) -> Path:
    """A file of it."""
    return Path(f"/proc/self/fd/{directory.fd}/{name}")


def note(directory: StateDirectory, *states: State) -> None:
    """Writes states into the lock's file, one over the other."""
    with StateLock(directory.fd) as lock:
        for state in states:
            lock.note(format_value(state.to_json()).encode())


def test_the_lock_tells_the_state(directory: StateDirectory) -> None:
    """The last state that was noted is found, though it is shorter than the one before."""
    with directory:
        long, last = State("box", "/" + "b" * 500, "/r", {}), State("box", "/b", "/r", {})
        last.process, last.cgroup = Identity(7, 8, 9), "box"
        note(directory, long, last)
        found = salvaging.salvage(directory)
        assert found is not None
        assert found.to_json() == last.to_json()


def test_only_the_directory_was_made(directory: StateDirectory) -> None:
    """Without any file, or with an empty lock and no state, there is nothing to end."""
    with directory:
        assert salvaging.salvage(directory) is None
        file(directory, "lock").touch()
        assert salvaging.salvage(directory) is None


@pytest.mark.parametrize(
    "line",
    [b"", b'{"id": "bo', b"{}\n", b'{"id": "other"}\n', b"\xff\n"],
    ids=["empty", "cut", "nothing", "other", "bytes"],
)
@pytest.mark.parametrize(
    "config",
    ["", "[]", '{"linux": 1}', '{"linux": {"cgroupsPath": "system.slice:a:b"}}'],
    ids=["lost", "list", "number", "scope"],
)
def test_what_nothing_tells_is_refused(directory: StateDirectory, line: bytes, config: str) -> None:
    """Where state and lock are damaged and no cgroup is named, nothing is removed, and the error says what to do."""
    with directory:
        file(directory, "lock").write_bytes(line)
        file(directory, "state.json").write_text("{")
        file(directory, "config.json").write_text(config)
        with pytest.raises(StateError, match=r"box/state\.json and box/lock are damaged.*: end its processes, then"):
            salvaging.salvage(directory)


def test_the_cgroup_says_who_lives(directory: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in the cgroup of the configuration are told and not killed; a cgroup without any is no hindrance."""

    class Found:
        pids: tuple[int, ...] = ()

        def __enter__(self) -> Found:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def processes(self) -> tuple[int, ...]:
            return self.pids

    asked = []

    def find(name: str) -> Found | None:
        asked.append(name)
        return Found() if name == "a/box" else None

    monkeypatch.setattr(salvaging, "find_cgroup", find)
    with directory:
        file(directory, "state.json").write_text("")
        for config in ({"linux": {"cgroupsPath": "/a/box"}}, {}):
            file(directory, "config.json").write_text(json.dumps(config))
            assert salvaging.salvage(directory) is None
        assert asked == ["a/box", "box"]
        Found.pids = (os.getpid(), 1)
        file(directory, "config.json").write_text('{"linux": {"cgroupsPath": "/a/box"}}')
        with pytest.raises(StateError, match=rf"processes {os.getpid()}, 1 are in the cgroup a/box, perhaps its own"):
            salvaging.salvage(directory)
