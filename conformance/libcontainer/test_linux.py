"""Masked and read-only paths, sysctls, propagation of the root, personality, descriptors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import REFUSED, config, host_shell, mounted_at

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
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


@behaviour("oci.masked-paths.missing")
def test_masked_paths_missing(box: Box, seen: Seen) -> None:
    """A masked path that does not exist is no error."""
    assert seen(box.said("echo", "ran", linux={"maskedPaths": ["/nowhere/at/all"]})) == "ran\n"


@behaviour("oci.masked-paths.relative")
def test_masked_paths_relative(box: Box, seen: Seen) -> None:
    """A masked path that is not absolute is refused by create."""
    assert seen(box.answer(config("true", linux={"maskedPaths": ["proc/kcore"]}))) == REFUSED


@behaviour("oci.readonly-paths.file")
def test_readonly_paths_file(box: Box, seen: Seen) -> None:
    """A file of readonlyPaths can't be written."""
    (box.rootfs / "data/kept").write_text("kept")
    said = box.script("{ echo x > /data/kept; } 2>&1; cat /data/kept", linux={"readonlyPaths": ["/data/kept"]})
    assert seen((said[0].rpartition(": ")[2], said[1])) == ("Read-only file system", "kept")


@behaviour("oci.readonly-paths.directory")
def test_readonly_paths_directory(box: Box, seen: Seen) -> None:
    """Nothing can be made in a directory of readonlyPaths."""
    said = box.script("touch /data/new 2>&1; exit 0", linux={"readonlyPaths": ["/data"]})
    assert seen(said[0].rpartition(": ")[2]) == "Read-only file system"


@behaviour("oci.readonly-paths.of-proc")
def test_readonly_paths_of_proc(box: Box, seen: Seen) -> None:
    """A directory of proc in readonlyPaths can't be written."""
    said = box.script("{ echo x > /proc/sys/kernel/hostname; } 2>&1; exit 0", linux={"readonlyPaths": ["/proc/sys"]})
    assert seen(said[0].rpartition(": ")[2]) == "Read-only file system"


@behaviour("oci.readonly-paths.readable")
def test_readonly_paths_readable(box: Box, seen: Seen) -> None:
    """A path of readonlyPaths can be read."""
    (box.rootfs / "data/kept").write_text("kept")
    assert seen(box.said("cat", "/data/kept", linux={"readonlyPaths": ["/data"]})) == "kept"


@behaviour("oci.readonly-paths.missing")
def test_readonly_paths_missing(box: Box, seen: Seen) -> None:
    """A path of readonlyPaths that does not exist is no error."""
    assert seen(box.said("echo", "ran", linux={"readonlyPaths": ["/nowhere/at/all"]})) == "ran\n"


@behaviour("oci.readonly-paths.relative")
def test_readonly_paths_relative(box: Box, seen: Seen) -> None:
    """A path of readonlyPaths that is not absolute is refused by create."""
    assert seen(box.answer(config("true", linux={"readonlyPaths": ["proc/sys"]}))) == REFUSED


@behaviour("oci.rootfs-propagation.shared")
def test_rootfs_propagation_shared(box: Box, seen: Seen) -> None:
    """With rootfsPropagation shared the container's root is a mount of that kind."""
    said = box.said("cat", "/proc/self/mountinfo", linux={"rootfsPropagation": "shared"})
    assert seen(mounted_at(said, "/").propagation) == ["shared"]


@behaviour("oci.rootfs-propagation.private")
def test_rootfs_propagation_private(box: Box, seen: Seen) -> None:
    """With rootfsPropagation private the container's root is a mount of that kind."""
    said = box.said("cat", "/proc/self/mountinfo", linux={"rootfsPropagation": "private"})
    assert seen(mounted_at(said, "/").propagation) == []


@behaviour("oci.rootfs-propagation.unbindable")
def test_rootfs_propagation_unbindable(box: Box, seen: Seen) -> None:
    """With rootfsPropagation unbindable the container's root is a mount of that kind."""
    said = box.said("cat", "/proc/self/mountinfo", linux={"rootfsPropagation": "unbindable"})
    assert seen(mounted_at(said, "/").propagation) == ["unbindable"]


@behaviour("oci.rootfs-propagation.slave")
def test_rootfs_propagation_slave(box: Box, seen: Seen) -> None:
    """With rootfsPropagation slave a mount of the host below a shared root's source appears in the container."""
    host_shell(f"mount --bind {box.rootfs} {box.rootfs} && mount --make-shared {box.rootfs}")
    box.begin(config("sleep", "1000", linux={"rootfsPropagation": "slave"}))
    host_shell(f"mount -t tmpfs none {box.rootfs}/data && echo told > {box.rootfs}/data/news")
    said = box.execute(["cat", "/data/news"]).output
    box.delete(force=True)
    assert seen(said) == "told\n"


@behaviour("oci.rootfs-propagation.unknown")
def test_rootfs_propagation_unknown(box: Box, seen: Seen) -> None:
    """An unknown rootfsPropagation is refused by create."""
    assert seen(box.answer(config("true", linux={"rootfsPropagation": "unheard-of"}))) == REFUSED


@behaviour("oci.sysctl.net-ipv4-ip-forward")
def test_sysctl_net_ipv4_ip_forward(box: Box, seen: Seen) -> None:
    """sysctl sets net.ipv4.ip_forward of the container's namespace, and not of the host's."""
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"net.ipv4.ip_forward": "1"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("1", True)


@behaviour("oci.sysctl.net-core-somaxconn")
def test_sysctl_net_core_somaxconn(box: Box, seen: Seen) -> None:
    """sysctl sets net.core.somaxconn of the container's namespace, and not of the host's."""
    path = "/proc/sys/net/core/somaxconn"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"net.core.somaxconn": "77"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("77", True)


@behaviour("oci.sysctl.kernel-shmmax")
def test_sysctl_kernel_shmmax(box: Box, seen: Seen) -> None:
    """sysctl sets kernel.shmmax of the container's namespace, and not of the host's."""
    path = "/proc/sys/kernel/shmmax"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"kernel.shmmax": "123456789"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("123456789", True)


@behaviour("oci.sysctl.kernel-msgmax")
def test_sysctl_kernel_msgmax(box: Box, seen: Seen) -> None:
    """sysctl sets kernel.msgmax of the container's namespace, and not of the host's."""
    path = "/proc/sys/kernel/msgmax"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"kernel.msgmax": "4242"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("4242", True)


@behaviour("oci.sysctl.kernel-sem")
def test_sysctl_kernel_sem(box: Box, seen: Seen) -> None:
    """sysctl sets kernel.sem of the container's namespace, and not of the host's."""
    path = "/proc/sys/kernel/sem"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"kernel.sem": "250 32000 32 100"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("250 32000 32 100", True)


@behaviour("oci.sysctl.fs-mqueue-msg-max")
def test_sysctl_fs_mqueue_msg_max(box: Box, seen: Seen) -> None:
    """sysctl sets fs.mqueue.msg_max of the container's namespace, and not of the host's."""
    path = "/proc/sys/fs/mqueue/msg_max"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"fs.mqueue.msg_max": "9"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("9", True)


@behaviour("oci.sysctl.kernel-shm-rmid-forced")
def test_sysctl_kernel_shm_rmid_forced(box: Box, seen: Seen) -> None:
    """sysctl sets kernel.shm_rmid_forced of the container's namespace, and not of the host's."""
    path = "/proc/sys/kernel/shm_rmid_forced"
    with open(path) as file:
        before = file.read()
    said = box.said("cat", path, linux={"sysctl": {"kernel.shm_rmid_forced": "1"}})
    with open(path) as file:
        assert seen((" ".join(said.split()), file.read() == before)) == ("1", True)


@behaviour("oci.sysctl.unknown")
def test_sysctl_unknown(box: Box, seen: Seen) -> None:
    """A sysctl that does not exist is refused by create."""
    assert seen(box.answer(config("true", linux={"sysctl": {"net.ipv4.unheard_of": "1"}}))) == REFUSED


@behaviour("oci.personality.linux32")
def test_personality_linux32(box: Box, seen: Seen) -> None:
    """With the domain LINUX32 uname tells a 32 bit machine."""
    assert seen(box.said("uname", "-m", linux={"personality": {"domain": "LINUX32"}})) == "i686\n"


@behaviour("oci.personality.linux")
def test_personality_linux(box: Box, seen: Seen) -> None:
    """With the domain LINUX uname tells the machine that it is."""
    assert seen(box.said("uname", "-m", linux={"personality": {"domain": "LINUX"}})) == "x86_64\n"


@behaviour("oci.personality.unknown")
def test_personality_unknown(box: Box, seen: Seen) -> None:
    """A domain that the specification does not list is refused by create."""
    assert seen(box.answer(config("true", linux={"personality": {"domain": "SOLARIS"}}))) == REFUSED


@behaviour("oci.personality.flags")
def test_personality_flags(box: Box, seen: Seen) -> None:
    """A flag of a personality is refused by create: none is supported."""
    assert (
        seen(box.answer(config("true", linux={"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}})))
        == REFUSED
    )


@behaviour("oci.intel-rdt.without-resctrl")
def test_intel_rdt_without_resctrl(box: Box, seen: Seen) -> None:
    """intelRdt where no resctrl file system is mounted is refused by create."""
    assert seen(box.answer(config("true", linux={"intelRdt": {"closID": "box", "l3CacheSchema": "L3:0=f"}}))) == REFUSED


@behaviour("oci.linux.descriptors")
def test_linux_descriptors(box: Box, seen: Seen) -> None:
    """The program has the three standard streams and no other open descriptor."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    assert seen(box.script("ls /proc/$$/fd; exit 0")) == ["0", "1", "2"]
