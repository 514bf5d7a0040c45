"""The directory of states: nobody else can read or write it, links in it lead nowhere, and no name climbs out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import (
    ContainerError,
    InvalidIdError,
    NoSuchContainerError,
    Request,
    StateError,
    lifecycle,
    running,
)
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]


def create(bundle: Any, *, pid_file: str = "") -> lifecycle.Started:
    config = bundle.config("sleep", "1000")
    text = dump(config, own=True).encode()
    request = Request("box", str(bundle.path))
    return lifecycle.create(str(bundle.states), config, request, config_text=text, pid_file=pid_file)


def end(bundle: Any, started: lifecycle.Started) -> None:
    lifecycle.delete(str(bundle.states), "box", force=True)
    os.close(started.pidfd)
    assert running.await_end(started) == 137


def test_nobody_else_reads_it(bundle: Any, cgroup2: Path) -> None:
    """Directories and files of a state are their owner's alone, whatever the umask."""
    before = os.umask(0)
    try:
        started = create(bundle)
    finally:
        os.umask(before)
    for path in (bundle.states, *bundle.states.rglob("*")):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0 or path.is_socket(), path
        assert path.lstat().st_uid == 0
    # The socket of `start` lies where others can't come.
    assert stat.S_IMODE((bundle.states / "box").stat().st_mode) == 0o700
    end(bundle, started)


@pytest.mark.parametrize("how", ["writable", "another's"])
def test_a_directory_that_others_control(bundle: Any, cgroup2: Path, how: str) -> None:
    """Where others could have put a state, nothing is read and nothing made."""
    bundle.states.mkdir(mode=0o700)
    if how == "writable":
        bundle.states.chmod(0o777)
    else:
        os.chown(bundle.states, 1000, 1000)
    with pytest.raises(PermissionError, match="belongs to another user, or others can write"):
        create(bundle)
    with pytest.raises(PermissionError):
        lifecycle.read_state(str(bundle.states), "box")


def test_links_lead_nowhere(bundle: Any, cgroup2: Path) -> None:
    """A link in the place of a state's directory or file is not followed; deleting removes the link, not its target."""
    started = create(bundle)
    states, box = str(bundle.states), bundle.states / "box"
    (bundle.states / "link").symlink_to("box")
    for call in (lifecycle.read_state, lifecycle.delete):
        with pytest.raises(NoSuchContainerError):
            call(states, "link")
    kept = (box / "state.json").read_bytes()
    sentinel = bundle.path / "sentinel"
    sentinel.write_bytes(kept)
    (box / "state.json").unlink()
    (box / "state.json").symlink_to(sentinel)
    for ask in (lifecycle.read_state, lifecycle.start):
        with pytest.raises((ContainerError, OSError)):
            ask(states, "box")
    assert sentinel.read_bytes() == kept
    (box / "state.json").unlink()
    (box / "state.json").write_bytes(kept)
    (box / "config.json").unlink()
    (box / "config.json").symlink_to(sentinel)
    (bundle.states / "link").unlink()
    end(bundle, started)
    assert sentinel.read_bytes() == kept


def test_files_that_stand_in_the_way(bundle: Any, cgroup2: Path) -> None:
    """What a state is written to first is never a link that somebody left there."""
    sentinel = bundle.path / "sentinel"
    sentinel.write_text("untouched")
    bundle.states.mkdir(mode=0o700)
    pid_file = bundle.path / "pid"
    pid_file.symlink_to(sentinel)  # the rename replaces the link itself
    started = create(bundle, pid_file=str(pid_file))
    assert pid_file.read_text() == str(running._pid_of(started))
    assert not pid_file.is_symlink()
    assert sentinel.read_text() == "untouched"
    end(bundle, started)


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../box", "a/b", "a/../box", "", "a\0b", "b" * 300, "ä"],
    ids=["parent", "itself", "beside", "below", "back", "empty", "NUL", "long", "not ASCII"],
)
def test_names_do_not_climb(bundle: Any, cgroup2: Path, name: str) -> None:
    """No operation takes a name that could lead elsewhere."""
    states = str(bundle.states)
    for call in (lifecycle.read_state, lifecycle.start, lifecycle.delete, lifecycle.pause):
        with pytest.raises(InvalidIdError):
            call(states, name)
    with pytest.raises(InvalidIdError):
        lifecycle.create(states, bundle.config("true"), Request(name, str(bundle.path)))


def test_a_damaged_state(bundle: Any, cgroup2: Path) -> None:
    """A state that says something else than its directory is refused, and force removes what is known to be there."""
    started = create(bundle)
    state = bundle.states / "box/state.json"
    kept = state.read_text()
    for wrong in ("", "{}", "[]", kept.replace('"box"', '"other"'), kept[: len(kept) // 2]):
        state.write_text(wrong)
        with pytest.raises(StateError):
            lifecycle.read_state(str(bundle.states), "box")
        with pytest.raises(StateError):
            lifecycle.delete(str(bundle.states), "box")
    state.write_text(kept)
    end(bundle, started)


@pytest.mark.parametrize("damage", ["", "{}", "half", "missing"], ids=["empty", "other", "half", "missing"])
def test_a_damaged_state_hides_no_process(bundle: Any, cgroups: str, damage: str) -> None:
    """`delete --force` ends the container whose state is damaged, and removes what it had."""
    started = create(bundle)
    lifecycle.start(str(bundle.states), "box")
    state = bundle.states / "box/state.json"
    kept = state.read_text()
    state.unlink()
    if damage != "missing":
        state.write_text(kept[: len(kept) // 2] if damage == "half" else damage)
    end(bundle, started)
    assert not (bundle.states / "box").exists()


def test_a_damaged_state_of_one_that_shares_pids(bundle: Any, cgroups: str) -> None:
    """Where the first process does not take the others with it, the cgroup that was kept beside says which they are."""
    config = bundle.config("sh", "-c", "sleep 1000 & sleep 1000", kinds=("mount", "network"))
    text = dump(config, own=True).encode()
    started = lifecycle.run(str(bundle.states), config, Request("box", str(bundle.path), waits=False), config_text=text)
    (bundle.states / "box/state.json").write_text("")
    end(bundle, started)
    assert not (bundle.states / "box").exists()


def test_damage_kills_nobody_else(bundle: Any, cgroup2: Path) -> None:
    """With all that tells its process damaged, nothing is killed; what is in the cgroup of its name is told."""
    started = create(bundle)
    box = bundle.states / "box"
    kept = {name: (box / name).read_bytes() for name in ("state.json", "lock")}
    for name in kept:
        (box / name).write_text("")
    with pytest.raises(StateError, match=rf"damaged; processes {running._pid_of(started)} are in the cgroup box"):
        lifecycle.delete(str(bundle.states), "box", force=True)
    for name, text in kept.items():
        (box / name).write_bytes(text)
    end(bundle, started)
