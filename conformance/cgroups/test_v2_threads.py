"""Version 2: threaded cgroups; acted on by impl.cgroups, seen in cgroup.type and /proc."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.cgroups.threads import domain_of, make_threaded

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


NOT_SUPPORTED = "ENOTSUP"  # Python's first name for EOPNOTSUPP, which is the same number on Linux (errno(3))


def types(unified: Path, *names: str) -> list[str]:
    return [(unified / name / "cgroup.type").read_text().strip() for name in names]


@behaviour("cgroup-v2.threads.default-domain", subject="impl")
def test_a_new_cgroup_is_a_domain(unified: Path, make: Make) -> None:
    """cgroup.type says domain."""
    make("child")
    assert types(unified, "child") == ["domain"]


@behaviour("cgroup-v2.threads.parent-becomes-threaded-domain", subject="impl")
def test_the_parent_becomes_the_root_of_threads(unified: Path, make: Make) -> None:
    """A threaded child makes its parent a threaded domain."""
    child, parent = make("parent/child"), make("parent")
    make_threaded(child, parent)
    assert domain_of((child, parent)) is parent
    assert types(unified, "parent", "parent/child") == ["domain threaded", "threaded"]


@behaviour("cgroup-v2.threads.siblings-become-invalid", subject="impl")
def test_siblings_become_invalid(unified: Path, make: Make) -> None:
    """What is beside a threaded cgroup is no valid domain any more."""
    make("parent/sibling")
    make("parent/child").write("cgroup.type", "threaded")
    assert types(unified, "parent/sibling") == ["domain invalid"]


@behaviour("cgroup-v2.threads.root-child", subject="impl")
def test_siblings_below_the_root_stay(unified: Path, make: Make) -> None:
    """A threaded child of the root changes nothing for its siblings."""
    make("sibling")
    make("child").write("cgroup.type", "threaded")
    assert types(unified, "child", "sibling") == ["threaded", "domain"]


@behaviour("cgroup-v2.threads.invalid-spelling", subject="impl")
def test_how_an_invalid_domain_is_called(unified: Path, make: Make, seen: Seen) -> None:
    """With a word in parentheses."""
    make("parent/sibling")
    make("parent/child").write("cgroup.type", "threaded")
    (found,) = types(unified, "parent/sibling")
    assert seen(found) == "domain (invalid)"


@behaviour("cgroup-v2.threads.one-way", subject="impl")
def test_there_is_no_way_back(make: Make, seen: Seen) -> None:
    """domain can't be written."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    assert seen.errno_of(child.write, "cgroup.type", "domain") == "EINVAL"


@behaviour("cgroup-v2.threads.threaded-twice-noop", subject="impl")
def test_threaded_again(unified: Path, make: Make) -> None:
    """Writing it again changes nothing."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    child.write("cgroup.type", "threaded")
    assert types(unified, "parent", "parent/child") == ["domain threaded", "threaded"]


@behaviour("cgroup-v2.threads.under-invalid-refused", subject="impl")
def test_below_an_invalid_domain(make: Make, seen: Seen) -> None:
    """No cgroup becomes threaded there."""
    below = make("parent/sibling/below")
    make("parent/child").write("cgroup.type", "threaded")
    assert seen.errno_of(below.write, "cgroup.type", "threaded") == NOT_SUPPORTED


@behaviour("cgroup-v2.threads.populated-domain-child-refused", subject="impl")
def test_a_populated_sibling_is_in_the_way(make: Make, bystander: Bystander, seen: Seen) -> None:
    """While a domain beside it has a process, a cgroup does not become threaded."""
    make("parent/busy").write("cgroup.procs", str(bystander()))
    child, parent = make("parent/child"), make("parent")
    assert seen.errno_of(child.write, "cgroup.type", "threaded") == NOT_SUPPORTED
    with pytest.raises(OSError, match="not supported") as refused:
        make_threaded(child, parent)
    assert any("is a domain with processes" in note for note in refused.value.__notes__)


@behaviour("cgroup-v2.threads.domain-controller-refused", subject="impl")
def test_a_domain_controller_is_in_the_way(top: Directory, make: Make, seen: Seen) -> None:
    """While the parent gives memory on, a cgroup does not become threaded."""
    top.write("cgroup.subtree_control", "+memory")
    make("parent").write("cgroup.subtree_control", "+memory")
    child, parent = make("parent/child"), make("parent")
    assert seen.errno_of(child.write, "cgroup.type", "threaded") == NOT_SUPPORTED
    with pytest.raises(OSError, match="not supported") as refused:
        make_threaded(child, parent)
    assert any("gives memory" in note for note in refused.value.__notes__)


@behaviour("cgroup-v2.threads.procs-read-eopnotsupp", subject="impl")
def test_processes_of_a_threaded_cgroup(make: Make, seen: Seen) -> None:
    """cgroup.procs can't be read there."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    assert seen.errno_of(child.processes) == NOT_SUPPORTED


@behaviour("cgroup-v2.threads.root-lists-all", subject="impl")
def test_the_root_of_threads_lists_processes(unified: Path, make: Make, bystander: Bystander) -> None:
    """Its cgroup.procs has the processes of the whole subtree."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    pids = [bystander(), bystander()]
    make("parent").write("cgroup.procs", str(pids[0]))
    make("parent").write("cgroup.procs", str(pids[1]))
    child.write("cgroup.threads", str(pids[1]))
    assert sorted(map(int, (unified / "parent/cgroup.procs").read_text().split())) == sorted(pids)


@behaviour("cgroup-v2.threads.move-one-thread", subject="impl")
def test_one_thread_moves_alone(make: Make, top: Directory, in_child: InChild) -> None:
    """Writing a TID to cgroup.threads moves that thread and no other."""
    parent, child = make("parent"), make("parent/child")
    child.write("cgroup.type", "threaded")

    def move() -> list[str]:
        parent.write("cgroup.procs", "0")
        done = threading.Event()
        other = threading.Thread(target=done.wait)
        other.start()
        child.write("cgroup.threads", str(other.native_id))
        lines = [Path(f"/proc/self/task/{tid}/cgroup").read_text() for tid in (os.getpid(), other.native_id)]
        done.set()
        other.join()
        return lines

    assert in_child(move) == ["0::/parent\n", "0::/parent/child\n"]


@behaviour("cgroup-v2.threads.procs-write-allowed", subject="impl")
def test_a_process_moves_with_its_threads(make: Make, in_child: InChild) -> None:
    """cgroup.procs of a threaded cgroup takes a PID, and all threads move."""
    parent, child = make("parent"), make("parent/child")
    child.write("cgroup.type", "threaded")

    def move() -> list[str]:
        parent.write("cgroup.procs", "0")
        done = threading.Event()
        other = threading.Thread(target=done.wait)
        other.start()
        child.write("cgroup.procs", "0")
        lines = [Path(f"/proc/self/task/{tid}/cgroup").read_text() for tid in (os.getpid(), other.native_id)]
        done.set()
        other.join()
        return lines

    assert in_child(move) == ["0::/parent/child\n", "0::/parent/child\n"]


@behaviour("cgroup-v2.threads.move-outside-eopnotsupp", subject="impl")
def test_a_thread_stays_in_its_domain(make: Make, bystander: Bystander, seen: Seen) -> None:
    """A TID is refused by cgroup.threads of a cgroup in another domain."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    assert seen.errno_of(child.write, "cgroup.threads", str(bystander())) == NOT_SUPPORTED


@behaviour("cgroup-v2.threads.invalid-refuses-process", subject="impl")
def test_an_invalid_domain_takes_nobody(make: Make, bystander: Bystander, seen: Seen) -> None:
    """Moving a process into one is refused."""
    sibling = make("parent/sibling")
    make("parent/child").write("cgroup.type", "threaded")
    assert seen.errno_of(sibling.write, "cgroup.procs", str(bystander())) == NOT_SUPPORTED


@behaviour("cgroup-v2.threads.revert", subject="impl")
def test_without_threaded_children_all_is_as_before(unified: Path, make: Make) -> None:
    """When the last one is removed, the parent and what was beside it are domains again."""
    make("parent/sibling")
    make("parent/child").write("cgroup.type", "threaded")
    assert types(unified, "parent", "parent/sibling") == ["domain threaded", "domain invalid"]
    make("parent").remove_child("child")
    assert types(unified, "parent", "parent/sibling") == ["domain", "domain"]


@behaviour("cgroup-v2.threads.threaded-controllers-only", subject="impl")
def test_only_some_controllers_are_for_threads(
    unified: Path, top: Directory, make: Make, bystander: Bystander, seen: Seen
) -> None:
    """pids can be given on in a threaded cgroup that has threads, memory cannot."""
    top.write("cgroup.subtree_control", "+pids +memory")
    make("parent").write("cgroup.subtree_control", "+pids")
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    make("parent").write("cgroup.procs", str(pid := bystander()))
    child.write("cgroup.threads", str(pid))
    child.write("cgroup.subtree_control", "+pids")
    assert (unified / "parent/child/cgroup.subtree_control").read_text() == "pids\n"
    assert seen.errno_of(child.write, "cgroup.subtree_control", "+memory") != "no error"
    assert (unified / "parent/child/cgroup.subtree_control").read_text() == "pids\n"


@behaviour("cgroup-v2.threads.kill-eopnotsupp", subject="impl")
def test_threads_are_not_killed(make: Make, bystander: Bystander, seen: Seen) -> None:
    """cgroup.kill of a threaded cgroup is refused, and its process lives."""
    child = make("parent/child")
    child.write("cgroup.type", "threaded")
    make("parent").write("cgroup.procs", str(pid := bystander()))
    child.write("cgroup.threads", str(pid))
    assert seen.errno_of(child.write, "cgroup.kill", "1") == NOT_SUPPORTED
    os.kill(pid, signal.SIGCONT)
