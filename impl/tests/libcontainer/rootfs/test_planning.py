"""What is planned for a configuration, compared by value: no root, no kernel."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from kernelproof.impl.cgroups.layout import Hierarchy
from kernelproof.impl.libcontainer.config.records import (
    Config,
    Device,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
)
from kernelproof.impl.libcontainer.operations import STAGES
from kernelproof.impl.libcontainer.rootfs.binding import Bind, Remount
from kernelproof.impl.libcontainer.rootfs.cgroups import MountCgroup2, MountCgroups1
from kernelproof.impl.libcontainer.rootfs.console import BindConsole, OpenTerminal
from kernelproof.impl.libcontainer.rootfs.devices import DEFAULT_DEVICES, BindDevice, MakeDevice, MakeLink
from kernelproof.impl.libcontainer.rootfs.entering import (
    EnterChroot,
    MakeDirectory,
    PivotRoot,
    RootPropagation,
    WriteSysctl,
)
from kernelproof.impl.libcontainer.rootfs.hiding import MaskPaths, ReadOnlyMount, ReadOnlyPaths, ReadOnlyRoot
from kernelproof.impl.libcontainer.rootfs.mapped import AttachMapped, MapOwners
from kernelproof.impl.libcontainer.rootfs.mounting import MountKernel, MountNew, MountTmpfs
from kernelproof.impl.libcontainer.rootfs.opening import BindRoot, IsolateMounts, OpenProcfs, OpenRoot, PrivateParent
from kernelproof.impl.libcontainer.rootfs.planning import plan_rootfs
from kernelproof.impl.libcontainer.rootfs.sources import CopySource
from kernelproof.impl.mount.errors import OptionError


class Host(NamedTuple):
    """Facts of the host."""

    hierarchies: tuple[Hierarchy, ...] = ()
    is_rootless: bool = False


def config_of(
    *mounts: Mount, kinds: str = "mount pid", linux: dict[str, object] | None = None, **more: object
) -> Config:
    """A configuration with these mounts."""
    namespaces = tuple(Namespace(kind) for kind in kinds.split())
    return Config(
        "1.2.0",
        root=Root("rootfs"),
        mounts=mounts,
        linux=Linux(**{"namespaces": namespaces, **(linux or {})}),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def nodes(config: Config) -> list[object]:
    """The planned operations without those on devices of the default list."""
    paths = {path for path, _, _ in DEFAULT_DEVICES}
    return [each for each in plan_rootfs(config, Host(), "/bundle") if getattr(each, "path", "") not in paths]


def test_smallest_plan() -> None:
    """Without mounts: isolation, the root, a procfs, default devices, and into it; stages are in their order."""
    plan = plan_rootfs(config_of(), Host(), "/bundle")
    assert plan == (
        IsolateMounts("rslave"),
        OpenRoot("/bundle/rootfs"),
        BindRoot("/bundle/rootfs"),
        OpenProcfs(),
        *(MakeDevice(path, "c", major, minor, 0o666, 0, 0) for path, major, minor in DEFAULT_DEVICES),
        PivotRoot("auto"),
    )
    assert [each.stage for each in plan] == sorted([each.stage for each in plan], key=STAGES.index)
    assert all(each.describe() for each in plan)


def test_mounts_by_kind() -> None:
    """Each mount becomes the operation of its kind, in the listed order, with sources from the bundle."""
    mounts = (
        Mount("proc", "proc", None, ("nosuid",)),
        Mount("/dev/", "tmpfs", "tmpfs", ("ro", "mode=755")),
        Mount("/dev/pts", "devpts", "devpts", ("gid=5",)),
        Mount("/run", "tmpfs", "tmpfs", ("ro", "tmpcopyup")),
        Mount("/sys", "sysfs", "sysfs", ("ro",)),
        Mount("/data", "none", "data", ("rbind", "rro")),
        Mount("/old", "bind", "/old", ("ro",)),
        Mount("/data", None, None, ("bind", "remount", "ro")),
        Mount("/o", "overlay", "o", ("lowerdir=a:b",)),
    )
    assert nodes(config_of(*mounts))[4:-4] == [
        MountKernel("/proc", "proc", "proc", ("nosuid",), ""),
        MountTmpfs("/dev", "tmpfs", ("ro", "mode=755"), True),
        MountNew("/dev/pts", "devpts", "devpts", ("gid=5", "newinstance"), False),
        MountTmpfs("/run", "tmpfs", ("ro", "tmpcopyup"), False),
        MountKernel("/sys", "sysfs", "sysfs", ("ro",), ""),
        Bind("/data", "/bundle/data", ("rbind", "rro")),
        Bind("/old", "/old", ("bind", "ro")),
        Remount("/data", ("bind", "remount", "ro")),
        MountNew("/o", "overlay", "o", ("lowerdir=a:b",), False),
        MakeLink("/dev/fd", "/proc/self/fd", False),
        MakeLink("/dev/stdin", "/proc/self/fd/0", False),
        MakeLink("/dev/stdout", "/proc/self/fd/1", False),
    ]
    assert nodes(config_of(*mounts))[-3:] == [
        MakeLink("/dev/ptmx", "pts/ptmx", True),
        ReadOnlyMount("/dev"),
        PivotRoot("auto"),
    ]


def test_last_steps_are_in_order() -> None:
    """Parameters before read-only paths, these before masks, the root read-only after all, its propagation inside."""
    linux: dict[str, object] = {
        "sysctl": (("kernel.sem", "1"),),
        "masked_paths": ("/proc/kcore",),
        "readonly_paths": ("/proc/sys",),
        "rootfs_propagation": "rslave",
    }
    config = config_of(linux=linux, process=Process("/srv", ("x",))).replace(root=Root("/r", True), no_pivot_root=True)
    assert nodes(config)[4:] == [
        MakeDirectory("/srv"),
        WriteSysctl("kernel.sem", "1"),
        ReadOnlyPaths(("/proc/sys",)),
        MaskPaths(("/proc/kcore",)),
        ReadOnlyRoot(),
        PivotRoot("move"),
        RootPropagation("rslave"),
    ]


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("private", IsolateMounts("rprivate")),
        ("rslave", IsolateMounts("rslave")),
        ("unbindable", IsolateMounts("rprivate")),
        ("shared", OpenRoot("/bundle/rootfs")),
    ],
    ids=["private", "rslave", "unbindable", "shared"],
)
def test_propagation(word: str, first: object) -> None:
    """Nothing leaks out: mounts are private or slaves, or else the mount that the root is on is private."""
    plan = nodes(config_of(linux={"rootfs_propagation": word}))
    assert plan[0] == first
    assert (PrivateParent("/bundle/rootfs") in plan) == (word == "shared")
    assert plan[-1] == RootPropagation(word)


def test_user_namespace() -> None:
    """In a user namespace devices are the host's, FIFOs are made; /sys has a substitute without an own network."""
    linux: dict[str, object] = {"devices": (Device("p", "/fifo"), Device("c", "/dev/fuse", 10, 229))}
    for kinds, substitute in (("mount user", "/sys"), ("mount user network", "")):
        config = config_of(Mount("/sys", "sysfs"), kinds=kinds)
        config = config.replace(linux=config.linux.replace(**linux))
        plan = plan_rootfs(config, Host())
        assert MountKernel("/sys", "sysfs", "sysfs", (), substitute) in plan
        assert BindDevice("/dev/null", "c", 1, 3) in plan
        assert BindDevice("/dev/fuse", "c", 10, 229) in plan
        assert MakeDevice("/fifo", "p", 0, 0, 0o666, 0, 0) in plan


def test_sources_that_other_users_may_not_reach() -> None:
    """With a user namespace each bind's mount is copied before, once, by a runtime that may; without rights none is."""
    mounts = (Mount("/a", None, "/x", ("rbind",)), Mount("/b", None, "/y", ("bind", "ro")), Mount("/c", "tmpfs"))
    linux: dict[str, object] = {"uid_mappings": (IdMapping(0, 1, 9),), "gid_mappings": (IdMapping(0, 1, 9),)}
    config = config_of(*mounts, mounts[0], kinds="mount user", linux=linux)

    def copied(host: Host) -> list[object]:
        return [each for each in plan_rootfs(config, host) if isinstance(each, CopySource)]

    assert copied(Host()) == [CopySource("/a", True, "/x"), CopySource("/b", False, "/y")]
    assert copied(Host(is_rootless=True)) == []
    assert not any(isinstance(each, CopySource) for each in plan_rootfs(config_of(*mounts), Host()))


def test_bound_dev_is_left_alone() -> None:
    """With the host's /dev bound no node, link or ptmx is made in it; devices elsewhere are."""
    devices = (Device("c", "/dev/fuse", 10, 229), Device("c", "/x", 1, 3))
    plan = plan_rootfs(config_of(Mount("/dev", None, "/dev", ("rbind",)), linux={"devices": devices}), Host())
    made = [each.values()[0] for each in plan if isinstance(each, MakeDevice | MakeLink)]
    assert made == ["/x"]


def test_configured_device_replaces_the_default_one() -> None:
    """A device that is configured under a default one's path is made in its stead; ptmx is no device."""
    devices = (Device("u", "/dev/null", 1, 3, 0o100600, 1, 2), Device("c", "/dev/ptmx", 5, 2))
    made = [each for each in plan_rootfs(config_of(linux={"devices": devices}), Host()) if isinstance(each, MakeDevice)]
    assert made[0] == MakeDevice("/dev/null", "c", 1, 3, 0o600, 1, 2)
    assert len(made) == len(DEFAULT_DEVICES)


def test_terminal() -> None:
    """A terminal is opened when devpts is mounted, before devices, and bound on the console after them."""
    plan = nodes(config_of(Mount("/dev/pts", "devpts"), process=Process("/", ("x",), terminal=True)))
    assert plan[5] == OpenTerminal(0, 0, 0)
    assert plan[-2:] == [BindConsole("/dev/console"), PivotRoot("auto")]


def test_mapped_owners() -> None:
    """Copies with other owners are made on the host's side, by the mount's maps or the container's."""
    maps = (IdMapping(0, 7, 10),)
    own = Mount("/a", None, "/x", ("bind", "idmap"), uid_mappings=maps, gid_mappings=maps)
    plan = plan_rootfs(config_of(own), Host())
    assert plan[0] == MapOwners("/a", "/x", False, ((0, 7, 10),), ((0, 7, 10),), "")
    assert AttachMapped("/a", ("bind", "idmap")) in plan
    theirs = Mount("/a", None, "/x", ("bind", "ridmap"))
    linux: dict[str, object] = {"uid_mappings": maps, "gid_mappings": maps}
    plan = plan_rootfs(config_of(theirs, linux=linux), Host())
    assert plan[0] == MapOwners("/a", "/x", True, ((0, 7, 10),), ((0, 7, 10),), "")
    with pytest.raises(OptionError, match="owners are mapped by both"):
        plan_rootfs(config_of(theirs), Host())


def test_cgroups() -> None:
    """A cgroup mount is that of version 2 where the host has nothing else, and the tree of version 1 else."""
    mount = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro",))
    new = Hierarchy(2, (), "", "/sys/fs/cgroup", "/", False)
    old = Hierarchy(1, ("cpu", "cpuacct"), "", "/cg/cpu", "/", False)
    again = old._replace(mount_point="/elsewhere")
    for kinds, is_rootless, how in (
        ("mount cgroup", False, "fresh"),
        ("mount", False, "whole"),
        ("mount user", False, "own"),
        ("mount user", True, "masked"),
        ("mount user cgroup", True, "fresh"),
    ):
        plan = plan_rootfs(config_of(mount, kinds=kinds), Host((new,), is_rootless))
        assert MountCgroup2("/sys/fs/cgroup", ("ro",), "/sys/fs/cgroup", "/", how) in plan
    tree = (("", ("cpu", "cpuacct"), "/cg/cpu", "/"),)
    for kinds, namespaced in (("mount", False), ("mount cgroup", True)):
        plan = plan_rootfs(config_of(mount, kinds=kinds), Host((new, old, again)))
        assert MountCgroups1("/sys/fs/cgroup", ("ro",), tree, namespaced) in plan


def test_without_a_mount_namespace() -> None:
    """Without a mount namespace the root is entered by chroot; joined by a path, its mounts are there already."""
    assert plan_rootfs(config_of(kinds="pid"), Host()) == (OpenRoot("/rootfs"), EnterChroot())
    joined = config_of().replace(linux=Linux(namespaces=(Namespace("mount", "/proc/1/ns/mnt"),)))
    assert plan_rootfs(joined, Host()) == ()
    with pytest.raises(OptionError, match=r"mounts, linux\.maskedPaths would change the host"):
        plan_rootfs(config_of(Mount("/a", "tmpfs"), kinds="pid", linux={"masked_paths": ("/x",)}), Host())


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (Mount("/a", None, "/x", ("bind", "size=1")), "no filesystem of its own"),
        (Mount("/a", "tmpfs", "x", ("idmap",)), "bind or rbind is not among"),
        (Mount("/a", None, "/x", ("bind", "tmpcopyup")), "fills a new tmpfs"),
        (Mount("/a", "overlay", "x", ("tmpcopyup",)), "is for a tmpfs"),
        (Mount("/a", None, None, ("bind",)), "needs a source"),
        (Mount("/a", None, "/x"), "needs a type"),
    ],
    ids=["data", "idmap", "copyup-bind", "copyup-type", "source", "type"],
)
def test_mounts_that_can_t_be_meant(mount: Mount, said: str) -> None:
    """What can't be meant is refused by the plan, with the mount's place in the list."""
    with pytest.raises(OptionError, match=said) as refused:
        plan_rootfs(config_of(Mount("/b", "tmpfs"), mount), Host())
    assert refused.value.__notes__ == ["mounts[1], /a"]


def test_label_of_mounts() -> None:
    """The label goes to filesystems that take one."""
    mounts = (Mount("/a", "tmpfs"), Mount("/proc", "proc"), Mount("/b", None, "/b", ("bind",)))
    plan = plan_rootfs(config_of(*mounts, linux={"mount_label": "system_u:x:s0:c1,c2"}), Host())
    assert [each.words for each in plan if isinstance(each, MountTmpfs | MountKernel | Bind)] == [
        ('context="system_u:x:s0:c1,c2"',), (), ("bind",),
    ]  # fmt: skip
