"""Hooks: in which namespaces and by which path each kind runs, and what it is given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.hooking import hooked, lines_of, log_for, sh, sh_of_state, state_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@pytest.mark.parametrize(
    "kind",
    [
        behaviour_row("oci.hooks.prestart-runtime-namespace", "prestart"),
        behaviour_row("oci.hooks.createruntime-runtime-namespace", "createRuntime"),
        behaviour_row("oci.hooks.poststart-runtime-namespace", "poststart"),
        behaviour_row("oci.hooks.poststop-runtime-namespace", "poststop"),
    ],
)
def test_namespaces_of_the_runtime(box: Box, seen: Seen, kind: str) -> None:
    """Hooks of this kind run in the runtime's namespaces."""
    script = f"readlink /proc/self/ns/mnt /proc/self/ns/uts >> {log_for(box)}"
    box.run(hooked("true", **{kind: [sh(script)]}))
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert seen(lines_of(box) == own) is True


@behaviour("oci.hooks.createcontainer-container-namespace")
def test_createcontainer_namespaces(box: Box, seen: Seen) -> None:
    """createContainer hooks run in the container's namespaces."""
    text = "readlink /proc/self/ns/mnt >>"
    box.run(hooked("sh", "-c", f"{text} /data/log", createContainer=[sh(f"{text} {log_for(box)}")]))
    said = lines_of(box)
    assert seen((len(said), len(set(said)), os.readlink("/proc/self/ns/mnt") in said)) == (2, 1, False)


@behaviour("oci.hooks.createcontainer-path")
def test_createcontainer_path(box: Box, seen: Seen) -> None:
    """The path of a createContainer hook is one of the runtime's namespace."""
    script = box.bundle / "hook-of-the-host"
    script.write_text(f"#!/bin/sh\necho called >> {log_for(box)}\n")
    script.chmod(0o755)
    box.run(hooked("true", createContainer=[{"path": str(script)}]))
    assert seen(lines_of(box)) == ["called"]


@behaviour("oci.hooks.createcontainer-before-pivot")
def test_createcontainer_before_pivot(box: Box, seen: Seen) -> None:
    """createContainer hooks are called before the container's root is its own."""
    box.run(hooked("true", createContainer=[sh(f"test -d {box.rootfs} && echo the host >> {log_for(box)}")]))
    assert seen(lines_of(box)) == ["the host"]


@behaviour("oci.hooks.startcontainer-path")
def test_startcontainer_path(box: Box, seen: Seen) -> None:
    """The path of a startContainer hook is one of the container's namespace."""
    script = box.rootfs / "hook-of-the-box"
    script.write_text("#!/bin/sh\necho called >> /data/log\n")
    script.chmod(0o755)
    box.run(hooked("true", startContainer=[{"path": "/hook-of-the-box"}]))
    assert seen(lines_of(box)) == ["called"]


@behaviour("oci.hooks.startcontainer-namespace")
def test_startcontainer_namespaces(box: Box, seen: Seen) -> None:
    """startContainer hooks run in the container's namespaces."""
    text = "for kind in mnt uts pid; do readlink /proc/self/ns/$kind; done >> /data/log"
    box.run(hooked("sh", "-c", text, startContainer=[sh(text)]))
    said = lines_of(box)
    assert seen((len(said), said[:3] == said[3:])) == (6, True)


@behaviour("oci.hooks.args")
def test_args(box: Box, seen: Seen) -> None:
    """args of a hook is its whole argument vector, its name included."""
    log = log_for(box)
    text = f'echo "$0 $1" >> {log}; cat /proc/$$/cmdline | tr "\\0" "\\n" | head -n 1 >> {log}'
    hook = {"path": "/bin/sh", "args": ["called-so", "-c", text, "zero", "one"]}
    box.run(hooked("true", createRuntime=[hook]))
    assert seen(lines_of(box)) == ["zero one", "called-so"]


@behaviour("oci.hooks.env")
def test_env(box: Box, seen: Seen) -> None:
    """env of a hook is its environment."""
    hook = sh(f"cat /proc/$$/environ | tr '\\0' '\\n' >> {log_for(box)}", env=["A=1", "PATH=/usr/bin:/bin"])
    box.run(hooked("true", createRuntime=[hook]))
    assert seen(sorted(lines_of(box))) == ["A=1", "PATH=/usr/bin:/bin"]


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        behaviour_row("oci.hooks.prestart-state", "prestart", "id", "box"),
        behaviour_row("oci.hooks.createruntime-state", "createRuntime", "id", "box"),
        behaviour_row("oci.hooks.createcontainer-state", "createContainer", "id", "box"),
        behaviour_row("oci.hooks.startcontainer-state", "startContainer", "id", "box"),
        behaviour_row("oci.hooks.poststart-state", "poststart", "id", "box"),
        behaviour_row("oci.hooks.poststop-state", "poststop", "id", "box"),
        behaviour_row("oci.hooks.state-status", "startContainer", "status", "created"),
        behaviour_row("oci.hooks.state-status-running", "poststart", "status", "running"),
        behaviour_row("oci.hooks.state-status-stopped", "poststop", "status", "stopped"),
        behaviour_row("oci.hooks.state-annotations", "createRuntime", "annotations", {"com.example.a": "b"}),
    ],
)
def test_state(box: Box, seen: Seen, kind: str, member: str, value: object) -> None:
    """A hook of this kind gets the container's state on its standard input, with this in it."""
    assert seen(state_of(box, kind)[member]) == value


@behaviour("oci.hooks.state-bundle")
def test_bundle_in_state(box: Box, seen: Seen) -> None:
    """The bundle in a hook's state is the container's."""
    assert seen(state_of(box, "createRuntime")["bundle"] == str(box.bundle)) is True


@behaviour("oci.hooks.state-pid")
def test_pid_in_state(box: Box, seen: Seen) -> None:
    """A createRuntime hook finds the container's namespaces by the pid of its state."""
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net >> {log_for(box)}"
    hook = sh_of_state(script)
    box.run(hooked("sh", "-c", "readlink /proc/self/ns/net >> /data/log", createRuntime=[hook]))
    said = lines_of(box)
    assert seen((len(said), len(set(said)))) == (2, 1)
