"""Maps of user namespaces as the kernel and newuidmap take them, one namespace within another."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.namespaces import CloneFlag, setns
from kernelproof.impl.user import (
    IdMap,
    IdMapError,
    SubordinateRange,
    Writer,
    perform,
    plan_id_maps,
    read_id_map,
    read_subgid,
    read_subuid,
    subordinate_ranges,
    user_namespace_map,
    without,
)

pytestmark = pytest.mark.machine

USER = 4001
ROOT = Writer(0, 0, is_capable=True)


def start_in_namespace(uid: int | None = None) -> int:
    """Start a program in a new user namespace and return its pid.

    It is executed: a process that has merely changed its uid has files in /proc that belong to root.
    """
    ready, saying = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            os.dup2(saying, 1)
            os.execv("/usr/bin/unshare", ["unshare", "--user", "sh", "-c", "echo; exec sleep 600"])
        finally:
            os._exit(1)
    os.close(saying)
    assert os.read(ready, 1) == b"\n"
    os.close(ready)
    return pid


@contextmanager
def new_namespace(uid: int = 0) -> Iterator[tuple[int, Callable[[Callable[[], Any]], Any]]]:
    """A process in a new user namespace, and a way to run a function in it once."""
    pid = start_in_namespace(uid)

    def run(function: Callable[[], Any]) -> Any:
        said, saying = os.pipe()
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        child = os.fork()
        if child == 0:
            try:
                setns(namespace, CloneFlag.NEWUSER)
                os.write(saying, json.dumps(function()).encode())
            finally:
                if sys.exc_info()[0]:
                    traceback.print_exc()
                os._exit(0)
        os.close(saying)
        os.waitpid(child, 0)
        answer = os.read(said, 65536)
        for fd in (said, namespace):
            os.close(fd)
        return json.loads(answer)

    try:
        yield pid, run
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def apply(pid: int, uid_map: IdMap, gid_map: IdMap, writer: Writer, **parents: IdMap) -> None:
    for step in plan_id_maps(pid, uid_map, gid_map, writer, **parents):  # type: ignore[arg-type]
        perform(step)


def test_plan_is_what_the_kernel_takes() -> None:
    """A map of several extents is written in one go, read back equal, and cannot be written again."""
    uid_map, gid_map = IdMap([(0, 100000, 1000), (1000, 4001, 1), (2000, 200000, 5)]), IdMap([(0, 300000, 10)])
    with new_namespace() as (pid, run):
        apply(pid, uid_map, gid_map, ROOT)
        assert read_id_map(pid) == uid_map
        assert read_id_map(pid, "gid") == gid_map
        with pytest.raises(PermissionError) as refused:
            apply(pid, uid_map, gid_map, ROOT)
        assert refused.value.__notes__[0].startswith("write '0 100000 1000\\n1000 4001 1")

        def become_root() -> list[int]:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            return [os.getuid(), os.getgid()]

        assert run(become_root) == [0, 0]


def test_overlap_is_named_where_the_kernel_says_einval() -> None:
    """The kernel answers an overlap with EINVAL and no more; the map says which extents it is."""
    with new_namespace() as (pid, _):
        with pytest.raises(OSError, match="Invalid argument"):
            Path(f"/proc/{pid}/uid_map").write_text("0 100000 10\n5 200000 10\n")
        with pytest.raises(IdMapError, match="5"):
            IdMap([(0, 100000, 10), (5, 200000, 10)])


def test_namespace_in_a_namespace() -> None:
    """In a nested namespace an extent over two of the parent's is EPERM; the plan splits it, and ids translate."""
    outer = IdMap([(0, 100000, 10), (10, 200000, 10)])
    wish = IdMap([(0, 0, 20)])
    with new_namespace() as (pid, run):
        apply(pid, outer, outer, ROOT)

        def nest() -> dict[str, Any]:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            child = start_in_namespace()
            try:
                try:
                    Path(f"/proc/{child}/uid_map").write_text("0 0 20\n")
                    plain = "taken"
                except PermissionError:
                    plain = "EPERM"
                apply(child, wish, wish, ROOT, parent_uid_map=read_id_map(), parent_gid_map=read_id_map(kind="gid"))
                return {"plain": plain, "inner": list(map(list, read_id_map(child)))}
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

        answer = run(nest)
    assert answer["plain"] == "EPERM"
    inner = IdMap([tuple(extent) for extent in answer["inner"]])
    assert inner == IdMap([(0, 0, 10), (10, 10, 10)])
    both = inner.compose(outer)
    assert [both.outside_id(each) for each in (0, 9, 10, 19, 20)] == [100000, 100009, 200000, 200009, None]
    assert both.inside_id(200003) == 13


def test_user_alone_maps_itself() -> None:
    """A user without privilege and subordinate ids maps itself alone, after setgroups is denied."""
    with new_namespace(USER) as (pid, _):
        own = IdMap([(0, USER, 1)])
        steps = plan_id_maps(pid, own, own, Writer(USER, USER, is_capable=False))
        assert [step.describe().split()[-1].rpartition("/")[2] for step in steps] == ["setgroups", "uid_map", "gid_map"]
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                for step in steps:
                    perform(step)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert read_id_map(pid) == read_id_map(pid, "gid") == own
        assert Path(f"/proc/{pid}/setgroups").read_text() == "deny\n"


@pytest.mark.machine(profile="runtimes")
def test_helpers_with_real_ranges() -> None:
    """A user's rootless map, its own id and all its subordinate ones, is given by newuidmap and newgidmap."""
    for path, line in (
        ("passwd", f"ada:x:{USER}:{USER}::/:/bin/sh\n"),
        ("group", f"ada:x:{USER}:\n"),
        ("subuid", f"ada:100000:65536\n{USER}:300000:10\n"),
        ("subgid", "ada:400000:65536\nada:4000:3\n"),
    ):
        with Path("/etc", path).open("a") as file:
            file.write(line)
    subuids = subordinate_ranges(read_subuid(), "ada", USER)
    subgids = without(subordinate_ranges(read_subgid(), "ada", None), USER)  # the own gid lies in a range
    writer = Writer(USER, USER, False, subuids, (*subgids, SubordinateRange("ada", USER, 1)))
    uid_map, gid_map = user_namespace_map(USER, subuids), user_namespace_map(USER, subgids)
    with new_namespace(USER) as (pid, _):
        steps = plan_id_maps(pid, uid_map, gid_map, writer)
        assert [step.describe().split()[1] for step in steps] == ["newuidmap", "newgidmap"]
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                for step in steps:
                    perform(step)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert read_id_map(pid) == uid_map
        assert read_id_map(pid, "gid") == gid_map
        assert gid_map.outside_id(0) == USER
