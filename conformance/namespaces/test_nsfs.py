"""The links in /proc/PID/ns, and what keeps a namespace alive."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.namespaces.conftest import write_maps
from kernelproof.conformance.process.procfs import identity, namespace, namespaces, open_namespace
from kernelproof.impl import mount
from kernelproof.impl._syscalls.identity import sethostname
from kernelproof.impl._syscalls.message_queues import mq_open
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare
from kernelproof.impl._syscalls.nsfs import namespace_kind, owning_user_namespace, parent_namespace
from kernelproof.impl._syscalls.signals import kill

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk, Unprivileged
    from kernelproof.conformance.namespaces.conftest import Member
    from kernelproof.conformance.seen import Seen

LINKS = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"]
KINDS = ["NEWCGROUP", "NEWIPC", "NEWNS", "NEWNET", "NEWPID", "NEWPID", "NEWTIME", "NEWTIME", "NEWUSER", "NEWUTS"]


def end(talk: Talk) -> None:
    """Kill a companion and wait for it."""
    kill(talk.pid, signal.SIGKILL)
    os.waitpid(talk.pid, 0)


@behaviour("namespaces.nsfs.one-link-per-type")
def test_links_of_a_process(seen: Seen) -> None:
    """There is one link for each kind, and two more for what children get."""
    found = namespaces()
    kinds = [namespace_kind(open_namespace(name)).name for name in found]
    assert kinds == KINDS
    assert seen(list(found)) == LINKS


@behaviour("namespaces.nsfs.same-namespace-same-inode")
def test_identity_is_device_and_inode(member: Member, seen: Seen) -> None:
    """Processes that share a UTS namespace have one identity of it, others have another."""
    sharing, apart = member(0), member(CloneFlag.NEWUTS)
    own, same, other = (identity(f"/proc/{pid}/ns/uts") for pid in ("self", sharing.pid, apart.pid))
    assert seen([own == same, own == other]) == [True, False]


@behaviour("namespaces.nsfs.link-text-names-type-and-inode")
def test_text_of_a_link(member: Member, seen: Seen) -> None:
    """The link's text is the kind and the inode."""
    links = [f"/proc/{pid}/ns/uts" for pid in ("self", member(CloneFlag.NEWUTS).pid)]
    texts = [os.readlink(link) for link in links]
    assert texts[0] != texts[1]
    assert seen([text == f"uts:[{identity(link)[1]}]" for text, link in zip(texts, links, strict=True)]) == [True] * 2


@behaviour("namespaces.nsfs.for-children-empty-before-first-child")
def test_link_for_children_before_the_first(in_child: InChild, seen: Seen) -> None:
    """Between unshare and the first fork the link pid_for_children is empty."""

    def look() -> str:
        unshare(CloneFlag.NEWPID)
        try:
            text = namespace("pid_for_children")
        except FileNotFoundError:
            return "ENOENT"
        return text and ("the old namespace" if text == namespace("pid") else "a new namespace")

    assert seen(in_child(look)) == ""


@behaviour("namespaces.nsfs.pid-link-never-changes")
def test_link_of_the_caller_stays(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The caller's own link stays, and the one for children names the child's namespace."""

    def look() -> list[bool]:
        before = namespace("pid")
        unshare(CloneFlag.NEWPID)
        child = companion(lambda talk: talk.hear())
        inside = namespace("pid", child.pid)
        return [namespace("pid") == before, namespace("pid_for_children") == inside, inside == before]

    assert seen(in_child(look)) == [True, True, False]


@behaviour("namespaces.nsfs.read-needs-ptrace-access")
def test_links_of_another_user(member: Member, unprivileged: Unprivileged, seen: Seen) -> None:
    """Another user without CAP_SYS_PTRACE reads no link: EACCES."""
    pid = member(0).pid
    assert namespace("net", pid) == namespace("net")
    assert seen(unprivileged(lambda: seen.errno_of(namespace, "net", pid))) == "EACCES"


@behaviour("namespaces.lifetime.open-fd-keeps-namespace")
def test_descriptor_keeps_a_namespace(member: Member, in_child: InChild, seen: Seen) -> None:
    """A network namespace without processes can be joined by an open descriptor."""
    inside = member(CloneFlag.NEWNET)
    fd, text = open_namespace("net", inside.pid), namespace("net", inside.pid)
    end(inside)

    def join() -> str:
        setns(fd, CloneFlag.NEWNET)
        return namespace("net")

    assert seen(in_child(join) == text != namespace("net"))


def host_name_of(path: Path) -> str:
    """Join a UTS namespace and return its host name."""
    with path.open("rb") as file:
        setns(file.fileno(), CloneFlag.NEWUTS)
    return os.uname().nodename


@behaviour("namespaces.lifetime.bind-mount-keeps-namespace")
def test_bind_mount_keeps_a_namespace(member: Member, in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """A UTS namespace without processes can be joined by the file its link is mounted on."""
    place = tmp_path / "uts"
    place.touch()
    inside = member(CloneFlag.NEWUTS, lambda: sethostname("kept"))
    inside.ask()
    mount.bind(f"/proc/{inside.pid}/ns/uts", place)
    end(inside)
    assert seen(in_child(lambda: host_name_of(place))) == "kept"
    assert os.uname().nodename != "kept"


@behaviour("namespaces.lifetime.bind-mounted-file-can-be-opened")
def test_bind_mounted_link_is_the_namespace(member: Member, tmp_path: Path, seen: Seen) -> None:
    """The file that a link is mounted on has the link's device and inode."""
    place = tmp_path / "uts"
    place.touch()
    link = f"/proc/{member(CloneFlag.NEWUTS).pid}/ns/uts"
    before = identity(str(place))
    mount.bind(link, place)
    with place.open("rb") as file:
        opened = identity(file.fileno())
    assert seen([opened == identity(link), opened == before]) == [True, False]


@behaviour("namespaces.lifetime.child-namespace-pins-parent-userns")
def test_child_keeps_its_parent(companion: Companion, seen: Seen) -> None:
    """A user namespace that only has a child namespace is still what NS_GET_PARENT of the child gives."""

    def go_deeper(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        talk.ask(identity("/proc/self/ns/user"))
        unshare(CloneFlag.NEWUSER)  # its only member leaves the one before
        talk.ask()

    inside = companion(go_deeper)
    left = inside.hear()
    write_maps(inside.pid, "0 0 1", "0 0 1")
    inside.ask()
    child = open_namespace("user", inside.pid)
    parent = parent_namespace(child)
    assert seen([list(identity(parent)) == left, identity(child) == identity(parent)]) == [True, False]


@behaviour("namespaces.lifetime.userns-pinned-by-owned-namespace")
def test_owned_namespace_keeps_its_owner(member: Member, seen: Seen) -> None:
    """A user namespace without processes is what NS_GET_USERNS of a UTS namespace that it owns gives."""
    inside = member(CloneFlag.NEWUSER | CloneFlag.NEWUTS)
    owner, uts = identity(f"/proc/{inside.pid}/ns/user"), open_namespace("uts", inside.pid)
    end(inside)
    assert seen(identity(owning_user_namespace(uts)) == owner != identity("/proc/self/ns/user"))


@behaviour("namespaces.lifetime.mqueue-mount-pins-ipc")
def test_mqueue_mount_keeps_queues(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """Message queues of an IPC namespace without processes are on the file system that was mounted there."""

    def make() -> Any:
        unshare(CloneFlag.NEWIPC)
        mount.mount("mqueue", tmp_path, "mqueue", "")
        os.close(mq_open("kept", os.O_CREAT | os.O_RDWR))

    in_child(make)
    assert seen(os.listdir(tmp_path)) == ["kept"]
    assert (tmp_path / "kept").read_text().startswith("QSIZE:0")
