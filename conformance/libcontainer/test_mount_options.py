"""The option words of a mount, each by what mountinfo shows in the container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import DEV, PROC, bind, config, tmpfs
from kernelproof.conformance.libcontainer.observing import mount_at, reason_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

MAPS = [{"containerID": 0, "hostID": 7000, "size": 10}]


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        behaviour_row("oci.mount-options.ro", ["ro"], "ro"),
        behaviour_row("oci.mount-options.nosuid", ["nosuid"], "nosuid"),
        behaviour_row("oci.mount-options.nodev", ["nodev"], "nodev"),
        behaviour_row("oci.mount-options.noexec", ["noexec"], "noexec"),
        behaviour_row("oci.mount-options.sync", ["sync"], "sync"),
        behaviour_row("oci.mount-options.dirsync", ["dirsync"], "dirsync"),
        behaviour_row("oci.mount-options.nodiratime", ["nodiratime"], "nodiratime"),
        behaviour_row("oci.mount-options.lazytime", ["lazytime"], "lazytime"),
        behaviour_row("oci.mount-options.nosymfollow", ["nosymfollow"], "nosymfollow"),
        # Words of the table that tmpfs would refuse, had they been handed on to it.
        behaviour_row("oci.mount-options.silent", ["silent", "loud"], "rw"),
        behaviour_row("oci.mount-options.iversion", ["iversion", "noiversion"], "rw"),
        behaviour_row("oci.mount-options.norelatime", ["relatime", "norelatime", "nostrictatime"], "rw"),
    ],
)
def test_option_sets_flag(box: Box, seen: Seen, options: list[str], flag: str) -> None:
    """A mount with these options has the flag."""
    assert seen(mount_at(box, "/data", tmpfs("/data", *options)).has(flag)) is True


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        behaviour_row("oci.mount-options.suid", ["nosuid", "suid"], ["nosuid"]),
        behaviour_row("oci.mount-options.dev", ["nodev", "dev"], ["nodev"]),
        behaviour_row("oci.mount-options.exec", ["noexec", "exec"], ["noexec"]),
        behaviour_row("oci.mount-options.async", ["sync", "async"], ["sync"]),
        behaviour_row("oci.mount-options.atime", ["noatime", "atime"], ["noatime"]),
        behaviour_row("oci.mount-options.diratime", ["nodiratime", "diratime"], ["nodiratime"]),
        behaviour_row("oci.mount-options.strictatime", ["strictatime"], ["relatime", "noatime"]),
        behaviour_row("oci.mount-options.nolazytime", ["lazytime", "nolazytime"], ["lazytime"]),
        behaviour_row("oci.mount-options.symfollow", ["nosymfollow", "symfollow"], ["nosymfollow"]),
    ],
)
def test_option_takes_flag_back(box: Box, seen: Seen, options: list[str], flags: list[str]) -> None:
    """A mount with these options, the last of which counts, has none of the flags."""
    assert seen(mount_at(box, "/data", tmpfs("/data", *options)).lacks(*flags)) is True


@pytest.mark.parametrize(
    ("options", "flag", "others"),
    [
        behaviour_row("oci.mount-options.rw", ["ro", "rw"], "rw", ["ro"]),
        behaviour_row("oci.mount-options.noatime", ["noatime"], "noatime", ["relatime"]),
        behaviour_row("oci.mount-options.relatime", ["relatime"], "relatime", ["noatime"]),
        behaviour_row("oci.mount-options.defaults", ["defaults"], "rw", ["nosuid", "nodev", "noexec"]),
    ],
)
def test_option_sets_flag_and_no_other(box: Box, seen: Seen, options: list[str], flag: str, others: list[str]) -> None:
    """A mount with these options has the flag, and none of the others."""
    found = mount_at(box, "/data", tmpfs("/data", *options))
    assert seen((found.has(flag), found.lacks(*others))) == (True, True)


@behaviour("oci.mount-options.bind-ro")
def test_bind_ro(box: Box, seen: Seen) -> None:
    """ro beside bind makes the bind mount read-only, and not its source."""
    (box.bundle / "source").mkdir()
    said = box.script("touch /data/x 2>&1; exit 0", mounts=[PROC, DEV, bind("source", "/data", "bind", "ro")])
    (box.bundle / "source/y").touch()
    assert seen(reason_of(said[0])) == "Read-only file system"


@behaviour("oci.mount-options.bind-flags")
def test_bind_flags(box: Box, seen: Seen) -> None:
    """Flags beside bind are those of the bind mount."""
    (box.bundle / "source").mkdir()
    found = mount_at(box, "/data", bind("source", "/data", "bind", "nosuid", "nodev", "noexec"))
    assert seen(found.has("nosuid", "nodev", "noexec")) is True


@behaviour("oci.mount-options.remount")
def test_remount(box: Box, seen: Seen) -> None:
    """remount changes the options of what is mounted at the place."""
    found = mount_at(box, "/data", tmpfs("/data", "size=64k"), tmpfs("/data", "remount", "ro"))
    assert seen(found.has("ro", "size=64k")) is True


@behaviour("oci.mount-options.idmap")
def test_idmap(box: Box, seen: Seen) -> None:
    """idmap with mappings of the mount's own shows its files with the IDs of the container's side."""
    source = box.bundle / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 0, 0)
    mount = {**bind("source", "/data", "bind", "idmap"), "uidMappings": MAPS, "gidMappings": MAPS}
    assert seen(box.said("stat", "-c", "%u:%g", "/data/file", mounts=[PROC, DEV, mount])) == "7000:7000\n"


@pytest.mark.parametrize(
    "maps",
    [
        behaviour_row("oci.mount-options.idmap-without-maps", {}),
        behaviour_row("oci.mount-options.idmap-one-map", {"uidMappings": MAPS}),
    ],
)
def test_idmap_that_is_not_whole(box: Box, seen: Seen, maps: dict[str, object]) -> None:
    """idmap without both mappings, in a container without a user namespace, is refused by create."""
    (box.bundle / "source").mkdir()
    mount = {**bind("source", "/data", "bind", "idmap"), **maps}
    assert seen(box.answer(config("true", mounts=[PROC, DEV, mount]))) == REFUSED
