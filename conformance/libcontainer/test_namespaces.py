"""Namespaces of a container: new, inherited, joined; user ID maps and clocks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import KINDS, config, namespaces, namespaces_but
from kernelproof.conformance.libcontainer.hosting import new_namespace

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def namespace_of(box: Box, name: str, wanted: list[dict[str, object]]) -> os.stat_result:
    """The namespace of a created container's process, by its name in /proc/PID/ns."""
    box.create(config("true", linux={"namespaces": wanted}))
    try:
        return os.stat(f"/proc/{box.pid()}/ns/{name}")
    finally:
        box.delete(force=True)


@pytest.mark.parametrize(
    "name",
    [
        behaviour_row("oci.namespaces.new-pid", "pid"),
        behaviour_row("oci.namespaces.new-network", "net"),
        behaviour_row("oci.namespaces.new-mount", "mnt"),
        behaviour_row("oci.namespaces.new-ipc", "ipc"),
        behaviour_row("oci.namespaces.new-uts", "uts"),
        behaviour_row("oci.namespaces.new-cgroup", "cgroup"),
    ],
)
def test_new(box: Box, seen: Seen, name: str) -> None:
    """An entry of a type without a path makes a new namespace of that kind for the container."""
    found = namespace_of(box, name, namespaces(*KINDS))
    assert seen(os.path.samestat(found, os.stat(f"/proc/self/ns/{name}"))) is False


@behaviour("oci.namespaces.new-time")
def test_new_time(box: Box, seen: Seen) -> None:
    """An entry of type time without a path makes a new time namespace for the container."""
    own = os.readlink("/proc/self/ns/time")
    said = box.said("readlink", "/proc/self/ns/time", linux={"namespaces": namespaces(*KINDS, "time")})
    assert seen(said.strip() != own) is True


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        behaviour_row("oci.namespaces.inherit-pid", "pid", "pid"),
        behaviour_row("oci.namespaces.inherit-network", "network", "net"),
        behaviour_row("oci.namespaces.inherit-ipc", "ipc", "ipc"),
        behaviour_row("oci.namespaces.inherit-uts", "uts", "uts"),
        behaviour_row("oci.namespaces.inherit-cgroup", "cgroup", "cgroup"),
        behaviour_row("oci.namespaces.inherit-user", "user", "user"),
    ],
)
def test_inherited(box: Box, seen: Seen, kind: str, name: str) -> None:
    """Without an entry of a type the container is in the runtime's namespace of that kind."""
    found = namespace_of(box, name, namespaces_but(kind))
    assert seen(os.path.samestat(found, os.stat(f"/proc/self/ns/{name}"))) is True


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        behaviour_row("oci.namespaces.join-network", "network", "net"),
        behaviour_row("oci.namespaces.join-ipc", "ipc", "ipc"),
        behaviour_row("oci.namespaces.join-uts", "uts", "uts"),
        behaviour_row("oci.namespaces.join-pid", "pid", "pid"),
        behaviour_row("oci.namespaces.join-cgroup", "cgroup", "cgroup"),
    ],
)
def test_joined(box: Box, seen: Seen, kind: str, name: str) -> None:
    """An entry of a type with a path places the container in the namespace of that file."""
    path = new_namespace(name)
    found = namespace_of(box, name, namespaces_but(kind, **{kind: path}))
    assert seen(os.path.samestat(found, os.stat(path))) is True


@behaviour("oci.namespaces.join-stays")
def test_joined_stays(box: Box, seen: Seen) -> None:
    """Deleting a container leaves a namespace alone that it joined."""
    path = new_namespace("uts")
    box.said("true", linux={"namespaces": namespaces_but("uts", uts=path)})
    assert seen(os.path.exists(path)) is True


@pytest.mark.parametrize(
    "path",
    [
        behaviour_row("oci.namespaces.path-of-other-kind", "/proc/self/ns/ipc"),
        behaviour_row("oci.namespaces.path-of-nothing", "/etc/passwd"),
        behaviour_row("oci.namespaces.path-missing", "/proc/self/ns/missing"),
        behaviour_row("oci.namespaces.path-relative", "net"),
    ],
)
def test_path_of_no_such_namespace(box: Box, seen: Seen, path: str) -> None:
    """A network's path that is not an absolute one of a network namespace is refused by create."""
    (box.bundle / "net").symlink_to("/proc/self/ns/net")  # a good one, but for its path
    wanted = namespaces("pid", "ipc", "uts", "mount", network=path)
    assert seen(box.answer(config("true", linux={"namespaces": wanted}))) == REFUSED


@pytest.mark.parametrize(
    "kind",
    [
        behaviour_row("oci.namespaces.duplicate", "uts"),
        behaviour_row("oci.namespaces.unknown", "unheard-of"),
    ],
)
def test_further_type(box: Box, seen: Seen, kind: str) -> None:
    """An entry whose type is there already, or is unknown, is refused by create."""
    assert seen(box.answer(config("true", linux={"namespaces": namespaces(*KINDS, kind)}))) == REFUSED


@behaviour("oci.namespaces.pid-isolated")
def test_pid_is_isolated(box: Box, seen: Seen) -> None:
    """Processes of a container with a PID namespace of its own don't see those of the host."""
    assert seen(box.said("ls", "/proc").split().count("2")) == 0


@behaviour("oci.namespaces.network-isolated")
def test_network_is_isolated(box: Box, seen: Seen) -> None:
    """A container with a network namespace of its own has its own list of links."""
    said = box.said("ip", "-o", "link").splitlines()
    assert seen([line.split(":")[1].strip() for line in said if "lo:" in line]) == ["lo"]
