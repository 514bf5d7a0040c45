"""Masked and read-only paths, sysctls, propagation of the root, personality, descriptors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.hosting import host_shell
from kernelproof.conformance.libcontainer.observing import mounted_at, reason_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


@behaviour("oci.masked-paths.file")
def test_masked_paths_file(box: Box, seen: Seen) -> None:
    """A masked file reads as if it were empty."""
    (box.rootfs / "data/secret").write_text("secret")
    assert seen(box.said("cat", "/data/secret", linux={"maskedPaths": ["/data/secret"]})) == ""


@behaviour("oci.masked-paths.directory")
def test_masked_paths_directory(box: Box, seen: Seen) -> None:
    """A masked directory shows nothing of what it holds."""
    (box.rootfs / "data/secret").write_text("secret")
    assert seen(box.said("ls", "/data", linux={"maskedPaths": ["/data"]})) == ""


@behaviour("oci.masked-paths.of-proc")
def test_masked_paths_of_proc(box: Box, seen: Seen) -> None:
    """A masked file of proc reads as if it were empty."""
    assert seen(box.said("cat", "/proc/timer_list", linux={"maskedPaths": ["/proc/timer_list"]})) == ""


@behaviour("oci.readonly-paths.file")
def test_readonly_paths_file(box: Box, seen: Seen) -> None:
    """A file of readonlyPaths can't be written."""
    (box.rootfs / "data/kept").write_text("kept")
    said = box.script("{ echo x > /data/kept; } 2>&1; cat /data/kept", linux={"readonlyPaths": ["/data/kept"]})
    assert seen((reason_of(said[0]), said[1])) == ("Read-only file system", "kept")


@behaviour("oci.readonly-paths.directory")
def test_readonly_paths_directory(box: Box, seen: Seen) -> None:
    """Nothing can be made in a directory of readonlyPaths."""
    said = box.script("touch /data/new 2>&1; exit 0", linux={"readonlyPaths": ["/data"]})
    assert seen(reason_of(said[0])) == "Read-only file system"


@behaviour("oci.readonly-paths.of-proc")
def test_readonly_paths_of_proc(box: Box, seen: Seen) -> None:
    """A directory of proc in readonlyPaths can't be written."""
    said = box.script("{ echo x > /proc/sys/kernel/hostname; } 2>&1; exit 0", linux={"readonlyPaths": ["/proc/sys"]})
    assert seen(reason_of(said[0])) == "Read-only file system"


@behaviour("oci.readonly-paths.readable")
def test_readonly_paths_readable(box: Box, seen: Seen) -> None:
    """A path of readonlyPaths can be read."""
    (box.rootfs / "data/kept").write_text("kept")
    assert seen(box.said("cat", "/data/kept", linux={"readonlyPaths": ["/data"]})) == "kept"


@pytest.mark.parametrize(
    ("word", "propagation"),
    [
        behaviour_row("oci.rootfs-propagation.shared", "shared", ["shared"]),
        behaviour_row("oci.rootfs-propagation.private", "private", []),
        behaviour_row("oci.rootfs-propagation.unbindable", "unbindable", ["unbindable"]),
    ],
)
def test_rootfs_propagation(box: Box, seen: Seen, word: str, propagation: list[str]) -> None:
    """With this rootfsPropagation the container's root is a mount of that kind."""
    said = box.said("cat", "/proc/self/mountinfo", linux={"rootfsPropagation": word})
    assert seen(mounted_at(said, "/").propagation) == propagation


@behaviour("oci.rootfs-propagation.slave")
def test_rootfs_propagation_slave(box: Box, seen: Seen) -> None:
    """With rootfsPropagation slave a mount of the host below a shared root's source appears in the container."""
    host_shell(f"mount --bind {box.rootfs} {box.rootfs} && mount --make-shared {box.rootfs}")
    box.begin(config("sleep", "1000", linux={"rootfsPropagation": "slave"}))
    host_shell(f"mount -t tmpfs none {box.rootfs}/data && echo told > {box.rootfs}/data/news")
    said = box.execute(["cat", "/data/news"]).output
    box.delete(force=True)
    assert seen(said) == "told\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        behaviour_row("oci.sysctl.net-ipv4-ip-forward", "net.ipv4.ip_forward", "1"),
        behaviour_row("oci.sysctl.net-core-somaxconn", "net.core.somaxconn", "77"),
        behaviour_row("oci.sysctl.kernel-shmmax", "kernel.shmmax", "123456789"),
        behaviour_row("oci.sysctl.kernel-msgmax", "kernel.msgmax", "4242"),
        behaviour_row("oci.sysctl.kernel-sem", "kernel.sem", "250 32000 32 100"),
        behaviour_row("oci.sysctl.fs-mqueue-msg-max", "fs.mqueue.msg_max", "9"),
        behaviour_row("oci.sysctl.kernel-shm-rmid-forced", "kernel.shm_rmid_forced", "1"),
    ],
)
def test_sysctl(box: Box, seen: Seen, name: str, value: str) -> None:
    """sysctl sets a parameter of the container's namespace, and not of the host's."""
    path = Path("/proc/sys", *name.split("."))
    before = path.read_text()
    said = box.said("cat", str(path), linux={"sysctl": {name: value}})
    assert seen((" ".join(said.split()), path.read_text() == before)) == (value, True)


@pytest.mark.parametrize(
    ("domain", "machine"),
    [
        behaviour_row("oci.personality.linux32", "LINUX32", "i686\n"),
        behaviour_row("oci.personality.linux", "LINUX", "x86_64\n"),
    ],
)
def test_personality(box: Box, seen: Seen, domain: str, machine: str) -> None:
    """With this domain uname tells that machine."""
    assert seen(box.said("uname", "-m", linux={"personality": {"domain": domain}})) == machine


@pytest.mark.parametrize(
    "linux",
    [
        behaviour_row("oci.masked-paths.missing", {"maskedPaths": ["/nowhere/at/all"]}),
        behaviour_row("oci.readonly-paths.missing", {"readonlyPaths": ["/nowhere/at/all"]}),
    ],
)
def test_path_that_is_missing(box: Box, seen: Seen, linux: dict[str, object]) -> None:
    """A path that does not exist is no error."""
    assert seen(box.said("echo", "ran", linux=linux)) == "ran\n"


@pytest.mark.parametrize(
    "linux",
    [
        behaviour_row("oci.masked-paths.relative", {"maskedPaths": ["proc/kcore"]}),
        behaviour_row("oci.readonly-paths.relative", {"readonlyPaths": ["proc/sys"]}),
        behaviour_row("oci.rootfs-propagation.unknown", {"rootfsPropagation": "unheard-of"}),
        behaviour_row("oci.sysctl.unknown", {"sysctl": {"net.ipv4.unheard_of": "1"}}),
        behaviour_row("oci.personality.unknown", {"personality": {"domain": "SOLARIS"}}),
        # None of them is supported.
        behaviour_row("oci.personality.flags", {"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}}),
        # No resctrl file system is mounted.
        behaviour_row("oci.intel-rdt.without-resctrl", {"intelRdt": {"closID": "box", "l3CacheSchema": "L3:0=f"}}),
    ],
)
def test_refused(box: Box, seen: Seen, linux: dict[str, object]) -> None:
    """What has a wrong form, is unknown, or is not there on this host, is refused by create."""
    assert seen(box.answer(config("true", linux=linux))) == REFUSED


@behaviour("oci.linux.descriptors")
def test_linux_descriptors(box: Box, seen: Seen) -> None:
    """The program has the three standard streams and no other open descriptor."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    assert seen(box.script("ls /proc/$$/fd; exit 0")) == ["0", "1", "2"]
