"""Namespaces of a container: new, inherited, joined; user ID maps and clocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import KINDS, REFUSED, config, namespaces, new_namespace

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def links_of(box: Box, kind: str, wanted: list[dict[str, object]], **linux: object) -> tuple[str, str]:
    """The namespace of a created container's process, and that of this one."""
    box.create(config("true", linux={"namespaces": wanted, **linux}))
    try:
        return os.readlink(f"/proc/{box.pid()}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}")
    finally:
        box.delete(force=True)


@behaviour("oci.namespaces.new-pid")
def test_namespaces_new_pid(box: Box, seen: Seen) -> None:
    """An entry of type pid without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "pid", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-network")
def test_namespaces_new_network(box: Box, seen: Seen) -> None:
    """An entry of type network without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "net", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-mount")
def test_namespaces_new_mount(box: Box, seen: Seen) -> None:
    """An entry of type mount without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "mnt", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-ipc")
def test_namespaces_new_ipc(box: Box, seen: Seen) -> None:
    """An entry of type ipc without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "ipc", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-uts")
def test_namespaces_new_uts(box: Box, seen: Seen) -> None:
    """An entry of type uts without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "uts", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-cgroup")
def test_namespaces_new_cgroup(box: Box, seen: Seen) -> None:
    """An entry of type cgroup without a path makes a new namespace of that kind for the container."""
    container, host = links_of(box, "cgroup", namespaces(*KINDS))
    assert seen(container != host) is True


@behaviour("oci.namespaces.new-time")
def test_namespaces_new_time(box: Box, seen: Seen) -> None:
    """An entry of type time without a path makes a new time namespace for the container."""
    own = os.readlink("/proc/self/ns/time")
    said = box.said("readlink", "/proc/self/ns/time", linux={"namespaces": namespaces(*KINDS, "time")})
    assert seen(said.strip() != own) is True


@behaviour("oci.namespaces.inherit-pid")
def test_namespaces_inherit_pid(box: Box, seen: Seen) -> None:
    """Without an entry of type pid the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "pid", namespaces(*(kind for kind in KINDS if kind != "pid")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.inherit-network")
def test_namespaces_inherit_network(box: Box, seen: Seen) -> None:
    """Without an entry of type network the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "net", namespaces(*(kind for kind in KINDS if kind != "network")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.inherit-ipc")
def test_namespaces_inherit_ipc(box: Box, seen: Seen) -> None:
    """Without an entry of type ipc the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "ipc", namespaces(*(kind for kind in KINDS if kind != "ipc")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.inherit-uts")
def test_namespaces_inherit_uts(box: Box, seen: Seen) -> None:
    """Without an entry of type uts the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "uts", namespaces(*(kind for kind in KINDS if kind != "uts")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.inherit-cgroup")
def test_namespaces_inherit_cgroup(box: Box, seen: Seen) -> None:
    """Without an entry of type cgroup the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "cgroup", namespaces(*(kind for kind in KINDS if kind != "cgroup")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.inherit-user")
def test_namespaces_inherit_user(box: Box, seen: Seen) -> None:
    """Without an entry of type user the container is in the runtime's namespace of that kind."""
    container, host = links_of(box, "user", namespaces(*(kind for kind in KINDS if kind != "user")))
    assert seen(container == host) is True


@behaviour("oci.namespaces.join-network")
def test_namespaces_join_network(box: Box, seen: Seen) -> None:
    """An entry of type network with a path places the container in the namespace of that file."""
    path = new_namespace("net")
    kinds = [kind for kind in KINDS if kind != "network"]
    box.create(config("true", linux={"namespaces": namespaces(*kinds, network=path)}))
    same = os.stat(f"/proc/{box.pid()}/ns/net").st_ino == os.stat(path).st_ino
    box.delete(force=True)
    assert seen(same) is True


@behaviour("oci.namespaces.join-ipc")
def test_namespaces_join_ipc(box: Box, seen: Seen) -> None:
    """An entry of type ipc with a path places the container in the namespace of that file."""
    path = new_namespace("ipc")
    kinds = [kind for kind in KINDS if kind != "ipc"]
    box.create(config("true", linux={"namespaces": namespaces(*kinds, ipc=path)}))
    same = os.stat(f"/proc/{box.pid()}/ns/ipc").st_ino == os.stat(path).st_ino
    box.delete(force=True)
    assert seen(same) is True


@behaviour("oci.namespaces.join-uts")
def test_namespaces_join_uts(box: Box, seen: Seen) -> None:
    """An entry of type uts with a path places the container in the namespace of that file."""
    path = new_namespace("uts")
    kinds = [kind for kind in KINDS if kind != "uts"]
    box.create(config("true", linux={"namespaces": namespaces(*kinds, uts=path)}))
    same = os.stat(f"/proc/{box.pid()}/ns/uts").st_ino == os.stat(path).st_ino
    box.delete(force=True)
    assert seen(same) is True


@behaviour("oci.namespaces.join-pid")
def test_namespaces_join_pid(box: Box, seen: Seen) -> None:
    """An entry of type pid with a path places the container in the namespace of that file."""
    path = new_namespace("pid")
    kinds = [kind for kind in KINDS if kind != "pid"]
    box.create(config("true", linux={"namespaces": namespaces(*kinds, pid=path)}))
    same = os.stat(f"/proc/{box.pid()}/ns/pid").st_ino == os.stat(path).st_ino
    box.delete(force=True)
    assert seen(same) is True


@behaviour("oci.namespaces.join-cgroup")
def test_namespaces_join_cgroup(box: Box, seen: Seen) -> None:
    """An entry of type cgroup with a path places the container in the namespace of that file."""
    path = new_namespace("cgroup")
    kinds = [kind for kind in KINDS if kind != "cgroup"]
    box.create(config("true", linux={"namespaces": namespaces(*kinds, cgroup=path)}))
    same = os.stat(f"/proc/{box.pid()}/ns/cgroup").st_ino == os.stat(path).st_ino
    box.delete(force=True)
    assert seen(same) is True


@behaviour("oci.namespaces.join-stays")
def test_namespaces_join_stays(box: Box, seen: Seen) -> None:
    """Deleting a container leaves a namespace alone that it joined."""
    path = new_namespace("uts")
    box.said("true", linux={"namespaces": namespaces(*(kind for kind in KINDS if kind != "uts"), uts=path)})
    assert seen(os.path.exists(path)) is True


@behaviour("oci.namespaces.path-of-other-kind")
def test_namespaces_path_of_other_kind(box: Box, seen: Seen) -> None:
    """A path to a namespace of another kind is refused by create."""
    wanted = namespaces("pid", "ipc", "uts", "mount", network="/proc/self/ns/ipc")
    assert seen(box.answer(config("true", linux={"namespaces": wanted}))) == REFUSED


@behaviour("oci.namespaces.path-of-nothing")
def test_namespaces_path_of_nothing(box: Box, seen: Seen) -> None:
    """A path to no namespace is refused by create."""
    wanted = namespaces("pid", "ipc", "uts", "mount", network="/etc/passwd")
    assert seen(box.answer(config("true", linux={"namespaces": wanted}))) == REFUSED


@behaviour("oci.namespaces.path-missing")
def test_namespaces_path_missing(box: Box, seen: Seen) -> None:
    """A path that does not exist is refused by create."""
    wanted = namespaces("pid", "ipc", "uts", "mount", network="/proc/self/ns/missing")
    assert seen(box.answer(config("true", linux={"namespaces": wanted}))) == REFUSED


@behaviour("oci.namespaces.path-relative")
def test_namespaces_path_relative(box: Box, seen: Seen) -> None:
    """A path that is not absolute is refused by create."""
    (box.bundle / "net").symlink_to("/proc/self/ns/net")
    wanted = namespaces("pid", "ipc", "uts", "mount", network="net")
    assert seen(box.answer(config("true", linux={"namespaces": wanted}))) == REFUSED


@behaviour("oci.namespaces.duplicate")
def test_namespaces_duplicate(box: Box, seen: Seen) -> None:
    """Two entries of one type are refused by create."""
    assert seen(box.answer(config("true", linux={"namespaces": namespaces(*KINDS, "uts")}))) == REFUSED


@behaviour("oci.namespaces.unknown")
def test_namespaces_unknown(box: Box, seen: Seen) -> None:
    """An entry of an unknown type is refused by create."""
    assert seen(box.answer(config("true", linux={"namespaces": namespaces(*KINDS, "unheard-of")}))) == REFUSED


@behaviour("oci.namespaces.pid-isolated")
def test_namespaces_pid_isolated(box: Box, seen: Seen) -> None:
    """Processes of a container with a PID namespace of its own don't see those of the host."""
    assert seen(box.said("ls", "/proc").split().count("2")) == 0


@behaviour("oci.namespaces.network-isolated")
def test_namespaces_network_isolated(box: Box, seen: Seen) -> None:
    """A container with a network namespace of its own has its own list of links."""
    assert seen(
        [line.split(":")[1].strip() for line in box.said("ip", "-o", "link").splitlines() if "lo:" in line]
    ) == ["lo"]
