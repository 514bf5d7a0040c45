"""Subordinate ids, and the helpers that map them: impl plans the maps, newuidmap takes or refuses them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import (
    ExecUser,
    IdMap,
    IdMapError,
    RunProgram,
    SubordinateRange,
    Writer,
    become,
    find_overlaps,
    parse_nsswitch,
    perform,
    plan_id_maps,
    read_id_map,
    read_subuid,
    subordinate_ranges,
    user_namespace_map,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.users.conftest import AddLines, RunCommand

USER = 4001
WHOLE = SubordinateRange("anyone", 0, 2**32 - 1)


@pytest.fixture
def ada(add_lines: AddLines) -> None:
    """A user with subordinate ids by name and by uid."""
    add_lines(
        passwd=f"ada:x:{USER}:{USER}::/:/bin/sh\n",
        group=f"ada:x:{USER}:\n",
        subuid=f"ada:100000:1000\n{USER}:300000:500\n",
        subgid=f"ada:100000:1000\n{USER}:300000:500\n",
    )


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process of the user, or of the uid that the test gives, in a new user namespace without maps."""
    uid: int = getattr(request, "param", USER)
    said, saying = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(ExecUser(uid, uid))
        unshare(CloneFlag.NEWUSER)
        os.write(saying, b"!")
        while True:
            signal.pause()
    assert os.read(said, 1) == b"!"
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for fd in (said, saying):
        os.close(fd)


def as_user(step: RunProgram, uid: int = USER) -> str:
    """Take a step as a user in a process of its own; "" or what the helper said."""
    said, saying = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(ExecUser(uid, uid))
            perform(step)
        except IdMapError as error:
            os.write(saying, str(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(saying)
    os.waitpid(pid, 0)
    text = os.read(said, 4096).decode()
    os.close(said)
    return text


def newuidmap(pid: int, id_map: IdMap) -> RunProgram:
    """The step that gives a map by newuidmap, whatever the ranges: it is the helper that is to judge."""
    step, _ = plan_id_maps(pid, id_map, IdMap([(0, 0, 5)]), Writer(USER, USER, False, (WHOLE,), (WHOLE,)))
    assert isinstance(step, RunProgram)
    return step


def writer() -> Writer:
    """The user with the ranges that the file gives it."""
    return Writer(USER, USER, False, subordinate_ranges(read_subuid(), "ada", USER), (WHOLE,))


@behaviour("user.subid.three-fields")
@pytest.mark.machine(profile="runtimes")
@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("start", [100000, 300000], ids=["by-name", "by-uid"])
def test_owner_by_name_and_by_uid(namespace: int, start: int, seen: Seen) -> None:
    """A line is owner, first id and count, and newuidmap takes ids whose line names the owner by name or by uid."""
    entries = [(each.owner, each.start, each.length) for each in read_subuid()]
    assert entries == [("ada", 100000, 1000), (str(USER), 300000, 500)]
    id_map = IdMap([(0, start, 10)])
    step = plan_id_maps(namespace, id_map, IdMap([(0, 0, 5)]), writer())[0]
    assert isinstance(step, RunProgram)
    assert as_user(step) == ""
    assert seen(Path(f"/proc/{namespace}/uid_map").read_text().split()) == ["0", str(start), "10"]


@behaviour("user.subid.several-ranges")
@pytest.mark.machine(profile="runtimes")
@pytest.mark.usefixtures("ada")
def test_all_lines_of_an_owner_count(namespace: int, seen: Seen) -> None:
    """All lines of an owner together are what it may map."""
    id_map = user_namespace_map(USER, subordinate_ranges(read_subuid(), "ada", USER))
    step = plan_id_maps(namespace, id_map, IdMap([(0, 0, 5)]), writer())[0]
    assert isinstance(step, RunProgram)
    assert as_user(step) == ""
    lines = [line.split() for line in Path(f"/proc/{namespace}/uid_map").read_text().splitlines()]
    assert seen(lines) == [["0", str(USER), "1"], ["1", "100000", "1000"], ["1001", "300000", "500"]]
    assert read_id_map(namespace) == id_map


@behaviour("user.subid.nsswitch-single-source")
@pytest.mark.machine(profile="runtimes")
@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("line", ["", "subid: files\n", "subid: nosuchsource\n"], ids=["missing", "files", "unknown"])
def test_source_of_subordinate_ids(add_lines: AddLines, namespace: int, line: str, seen: Seen) -> None:
    """Where nsswitch.conf names no source of subid, or an unknown one, the files count."""
    add_lines(**{"nsswitch.conf": line})
    service = parse_nsswitch(Path("/etc/nsswitch.conf").read_text()).subid_service()
    assert as_user(newuidmap(namespace, IdMap([(0, 100000, 10)]))) == ""
    assert seen([service, Path(f"/proc/{namespace}/uid_map").read_text().split()]) == ["files", ["0", "100000", "10"]]


@behaviour("user.subid.newuidmap-checks")
@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("extent", [(0, 100000, 1001), (0, 99999, 10), (0, 0, 1)], ids=["too-long", "before", "root"])
def test_range_of_others_is_refused(namespace: int, extent: tuple[int, int, int], seen: Seen) -> None:
    """newuidmap refuses ids outside the caller's lines and leaves the map unwritten; the plan refuses them before."""
    id_map = IdMap([extent])
    with pytest.raises(IdMapError, match="not all subordinate"):
        plan_id_maps(namespace, id_map, IdMap([(0, 0, 5)]), writer())
    refusal = as_user(newuidmap(namespace, id_map))
    assert "exit status 1" in refusal
    assert seen(Path(f"/proc/{namespace}/uid_map").read_text()) == ""


@behaviour("user.userns.newuidmap-once")
@pytest.mark.usefixtures("ada")
def test_map_is_given_once(namespace: int, seen: Seen) -> None:
    """newuidmap works once for a process: a second time is refused, and the map stays."""
    first = as_user(newuidmap(namespace, IdMap([(0, 100000, 10)])))
    second = as_user(newuidmap(namespace, IdMap([(0, 100000, 20)])))
    assert first == ""
    assert "Operation not permitted" in second
    assert seen(read_id_map(namespace)) == IdMap([(0, 100000, 10)])


@behaviour("user.userns.newuidmap-root-not-exempt")
@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("namespace", [0], indirect=True, ids=["of root"])
def test_root_needs_a_line_too(add_lines: AddLines, namespace: int, seen: Seen) -> None:
    """newuidmap run by root refuses ids for which root has no line, and takes them once it has one."""
    step = newuidmap(namespace, IdMap([(0, 500000, 10)]))
    refusal = as_user(step, 0)
    before = Path(f"/proc/{namespace}/uid_map").read_text()
    add_lines(subuid="root:500000:10\n")
    assert "not allowed" in refusal
    assert as_user(step, 0) == ""
    assert seen([before, read_id_map(namespace)]) == ["", IdMap([(0, 500000, 10)])]


@behaviour("user.subid.useradd-allocates")
def test_useradd_gives_a_range(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """useradd gives a new user 65536 ids at or above 100000 that overlap no other range."""
    add_lines(subuid="someone:100000:65536\nother:200000:10\n", subgid="")
    assert run("useradd", "-M", "-N", "ada").status == 0
    entries = read_subuid()
    (new,) = (each for each in entries if each.owner == "ada")
    assert seen([new.length, new.start >= 100000, find_overlaps(entries)]) == [65536, True, ()]
    line = next(line for line in Path("/etc/subuid").read_text().splitlines() if line.startswith("ada:"))
    assert line == f"ada:{new.start}:65536"


@behaviour("user.subid.useradd-system-none")
def test_system_user_gets_no_range(add_lines: AddLines, run: RunCommand, seen: Seen) -> None:
    """useradd -r gives the new system user no range; without -r there is one."""
    add_lines(subuid="", subgid="")
    statuses = [run("useradd", "-r", "-M", "-N", "service").status, run("useradd", "-M", "-N", "ada").status]
    assert statuses == [0, 0]
    assert seen([each.owner for each in read_subuid()]) == ["ada"]
