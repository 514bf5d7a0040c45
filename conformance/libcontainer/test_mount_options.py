"""The option words of a mount, each by what mountinfo shows in the container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import DEV, PROC, REFUSED, bind, config, host_shell, mount_at, tmpfs

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def shared_source(box: Box) -> Path:
    """A shared mount of the host with another one below it."""
    source = box.bundle / "source"
    source.mkdir()
    below = f"mkdir {source}/inner && mount -t tmpfs none {source}/inner"
    host_shell(f"mount -t tmpfs none {source} && {below} && mount --make-rshared {source}")
    return source


@behaviour("oci.mount-options.ro")
def test_mount_options_ro(box: Box, seen: Seen) -> None:
    """ro makes a mount read-only."""
    found = mount_at(box, "/data", tmpfs("/data", "ro"))
    assert seen(found.has("ro")) is True


@behaviour("oci.mount-options.rw")
def test_mount_options_rw(box: Box, seen: Seen) -> None:
    """rw makes a mount writable, and takes back an earlier ro."""
    found = mount_at(box, "/data", tmpfs("/data", "ro", "rw"))
    assert seen((found.has("rw"), found.lacks("ro"))) == (True, True)


@behaviour("oci.mount-options.nosuid")
def test_mount_options_nosuid(box: Box, seen: Seen) -> None:
    """nosuid sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "nosuid"))
    assert seen(found.has("nosuid")) is True


@behaviour("oci.mount-options.suid")
def test_mount_options_suid(box: Box, seen: Seen) -> None:
    """suid takes back an earlier nosuid."""
    found = mount_at(box, "/data", tmpfs("/data", "nosuid", "suid"))
    assert seen(found.lacks("nosuid")) is True


@behaviour("oci.mount-options.nodev")
def test_mount_options_nodev(box: Box, seen: Seen) -> None:
    """nodev sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "nodev"))
    assert seen(found.has("nodev")) is True


@behaviour("oci.mount-options.dev")
def test_mount_options_dev(box: Box, seen: Seen) -> None:
    """dev takes back an earlier nodev."""
    found = mount_at(box, "/data", tmpfs("/data", "nodev", "dev"))
    assert seen(found.lacks("nodev")) is True


@behaviour("oci.mount-options.noexec")
def test_mount_options_noexec(box: Box, seen: Seen) -> None:
    """noexec sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "noexec"))
    assert seen(found.has("noexec")) is True


@behaviour("oci.mount-options.exec")
def test_mount_options_exec(box: Box, seen: Seen) -> None:
    """exec takes back an earlier noexec."""
    found = mount_at(box, "/data", tmpfs("/data", "noexec", "exec"))
    assert seen(found.lacks("noexec")) is True


@behaviour("oci.mount-options.sync")
def test_mount_options_sync(box: Box, seen: Seen) -> None:
    """sync sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "sync"))
    assert seen(found.has("sync")) is True


@behaviour("oci.mount-options.async")
def test_mount_options_async(box: Box, seen: Seen) -> None:
    """async takes back an earlier sync."""
    found = mount_at(box, "/data", tmpfs("/data", "sync", "async"))
    assert seen(found.lacks("sync")) is True


@behaviour("oci.mount-options.dirsync")
def test_mount_options_dirsync(box: Box, seen: Seen) -> None:
    """dirsync sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "dirsync"))
    assert seen(found.has("dirsync")) is True


@behaviour("oci.mount-options.noatime")
def test_mount_options_noatime(box: Box, seen: Seen) -> None:
    """noatime keeps times of access as they are."""
    found = mount_at(box, "/data", tmpfs("/data", "noatime"))
    assert seen((found.has("noatime"), found.lacks("relatime"))) == (True, True)


@behaviour("oci.mount-options.atime")
def test_mount_options_atime(box: Box, seen: Seen) -> None:
    """atime takes back an earlier noatime."""
    found = mount_at(box, "/data", tmpfs("/data", "noatime", "atime"))
    assert seen(found.lacks("noatime")) is True


@behaviour("oci.mount-options.nodiratime")
def test_mount_options_nodiratime(box: Box, seen: Seen) -> None:
    """nodiratime sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "nodiratime"))
    assert seen(found.has("nodiratime")) is True


@behaviour("oci.mount-options.diratime")
def test_mount_options_diratime(box: Box, seen: Seen) -> None:
    """diratime takes back an earlier nodiratime."""
    found = mount_at(box, "/data", tmpfs("/data", "nodiratime", "diratime"))
    assert seen(found.lacks("nodiratime")) is True


@behaviour("oci.mount-options.relatime")
def test_mount_options_relatime(box: Box, seen: Seen) -> None:
    """relatime updates times of access relative to the others."""
    found = mount_at(box, "/data", tmpfs("/data", "relatime"))
    assert seen((found.has("relatime"), found.lacks("noatime"))) == (True, True)


@behaviour("oci.mount-options.strictatime")
def test_mount_options_strictatime(box: Box, seen: Seen) -> None:
    """strictatime updates times of access always."""
    found = mount_at(box, "/data", tmpfs("/data", "strictatime"))
    assert seen(found.lacks("relatime", "noatime")) is True


@behaviour("oci.mount-options.lazytime")
def test_mount_options_lazytime(box: Box, seen: Seen) -> None:
    """lazytime sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "lazytime"))
    assert seen(found.has("lazytime")) is True


@behaviour("oci.mount-options.nolazytime")
def test_mount_options_nolazytime(box: Box, seen: Seen) -> None:
    """nolazytime takes back an earlier lazytime."""
    found = mount_at(box, "/data", tmpfs("/data", "lazytime", "nolazytime"))
    assert seen(found.lacks("lazytime")) is True


@behaviour("oci.mount-options.nosymfollow")
def test_mount_options_nosymfollow(box: Box, seen: Seen) -> None:
    """nosymfollow sets the flag of that name."""
    found = mount_at(box, "/data", tmpfs("/data", "nosymfollow"))
    assert seen(found.has("nosymfollow")) is True


@behaviour("oci.mount-options.symfollow")
def test_mount_options_symfollow(box: Box, seen: Seen) -> None:
    """symfollow takes back an earlier nosymfollow."""
    found = mount_at(box, "/data", tmpfs("/data", "nosymfollow", "symfollow"))
    assert seen(found.lacks("nosymfollow")) is True


@behaviour("oci.mount-options.defaults")
def test_mount_options_defaults(box: Box, seen: Seen) -> None:
    """defaults sets no flag."""
    found = mount_at(box, "/data", tmpfs("/data", "defaults"))
    assert seen((found.has("rw"), found.lacks("nosuid", "nodev", "noexec"))) == (True, True)


@behaviour("oci.mount-options.silent")
def test_mount_options_silent(box: Box, seen: Seen) -> None:
    """silent and loud are no words of the file system's."""
    found = mount_at(box, "/data", tmpfs("/data", "silent", "loud"))
    assert seen(found.has("rw")) is True


@behaviour("oci.mount-options.iversion")
def test_mount_options_iversion(box: Box, seen: Seen) -> None:
    """iversion and noiversion are no words of the file system's."""
    found = mount_at(box, "/data", tmpfs("/data", "iversion", "noiversion"))
    assert seen(found.has("rw")) is True


@behaviour("oci.mount-options.norelatime")
def test_mount_options_norelatime(box: Box, seen: Seen) -> None:
    """norelatime and nostrictatime are no words of the file system's."""
    found = mount_at(box, "/data", tmpfs("/data", "relatime", "norelatime", "nostrictatime"))
    assert seen(found.has("rw")) is True


@behaviour("oci.mount-options.bind-ro")
def test_mount_options_bind_ro(box: Box, seen: Seen) -> None:
    """ro beside bind makes the bind mount read-only, and not its source."""
    (box.bundle / "source").mkdir()
    said = box.script("touch /data/x 2>&1; exit 0", mounts=[PROC, DEV, bind("source", "/data", "bind", "ro")])
    (box.bundle / "source/y").touch()
    assert seen(said[0].rpartition(": ")[2]) == "Read-only file system"


@behaviour("oci.mount-options.bind-flags")
def test_mount_options_bind_flags(box: Box, seen: Seen) -> None:
    """Flags beside bind are those of the bind mount."""
    (box.bundle / "source").mkdir()
    found = mount_at(box, "/data", bind("source", "/data", "bind", "nosuid", "nodev", "noexec"))
    assert seen(found.has("nosuid", "nodev", "noexec")) is True


@behaviour("oci.mount-options.remount")
def test_mount_options_remount(box: Box, seen: Seen) -> None:
    """remount changes the options of what is mounted at the place."""
    again = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro"]}
    found = mount_at(box, "/data", tmpfs("/data", "size=64k"), again)
    assert seen(found.has("ro", "size=64k")) is True


@behaviour("oci.mount-options.private")
def test_mount_options_private(box: Box, seen: Seen) -> None:
    """private makes a mount that shares no events."""
    source = shared_source(box)
    found = mount_at(box, "/data", bind(source, "/data", "rbind", "private"))
    assert seen(found.propagation) == []


@behaviour("oci.mount-options.rprivate")
def test_mount_options_rprivate(box: Box, seen: Seen) -> None:
    """rprivate makes a mount that shares no events, and all below it too."""
    source = shared_source(box)
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rprivate"))
    assert seen(found.propagation) == []


@behaviour("oci.mount-options.shared")
def test_mount_options_shared(box: Box, seen: Seen) -> None:
    """shared makes a mount a member of a peer group."""
    source = shared_source(box)
    found = mount_at(box, "/data", bind(source, "/data", "rbind", "shared"))
    assert seen("shared" in found.propagation) is True


@behaviour("oci.mount-options.rshared")
def test_mount_options_rshared(box: Box, seen: Seen) -> None:
    """rshared makes a mount a member of a peer group, and all below it too."""
    source = shared_source(box)
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rshared"))
    assert seen("shared" in found.propagation) is True


@behaviour("oci.mount-options.slave")
def test_mount_options_slave(box: Box, seen: Seen) -> None:
    """slave makes a mount that gets events and gives none."""
    source = shared_source(box)
    found = mount_at(box, "/data", bind(source, "/data", "rbind", "slave"))
    assert seen(found.propagation) == ["master"]


@behaviour("oci.mount-options.rslave")
def test_mount_options_rslave(box: Box, seen: Seen) -> None:
    """rslave makes a mount that gets events and gives none, and all below it too."""
    source = shared_source(box)
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rslave"))
    assert seen(found.propagation) == ["master"]


@behaviour("oci.mount-options.unbindable")
def test_mount_options_unbindable(box: Box, seen: Seen) -> None:
    """unbindable makes a mount that can't be bound."""
    source = shared_source(box)
    found = mount_at(box, "/data", bind(source, "/data", "rbind", "unbindable"))
    assert seen(found.propagation) == ["unbindable"]


@behaviour("oci.mount-options.runbindable")
def test_mount_options_runbindable(box: Box, seen: Seen) -> None:
    """runbindable makes a mount that can't be bound, and all below it too."""
    source = shared_source(box)
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "runbindable"))
    assert seen(found.propagation) == ["unbindable"]


@behaviour("oci.mount-options.rro")
def test_mount_options_rro(box: Box, seen: Seen) -> None:
    """rro sets ro on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rro"))
    assert seen(found.has("ro")) is True


@behaviour("oci.mount-options.rnosuid")
def test_mount_options_rnosuid(box: Box, seen: Seen) -> None:
    """rnosuid sets nosuid on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnosuid"))
    assert seen(found.has("nosuid")) is True


@behaviour("oci.mount-options.rnodev")
def test_mount_options_rnodev(box: Box, seen: Seen) -> None:
    """rnodev sets nodev on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnodev"))
    assert seen(found.has("nodev")) is True


@behaviour("oci.mount-options.rnoexec")
def test_mount_options_rnoexec(box: Box, seen: Seen) -> None:
    """rnoexec sets noexec on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnoexec"))
    assert seen(found.has("noexec")) is True


@behaviour("oci.mount-options.rnoatime")
def test_mount_options_rnoatime(box: Box, seen: Seen) -> None:
    """rnoatime sets noatime on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnoatime"))
    assert seen(found.has("noatime")) is True


@behaviour("oci.mount-options.rnodiratime")
def test_mount_options_rnodiratime(box: Box, seen: Seen) -> None:
    """rnodiratime sets nodiratime on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnodiratime"))
    assert seen(found.has("nodiratime")) is True


@behaviour("oci.mount-options.rnosymfollow")
def test_mount_options_rnosymfollow(box: Box, seen: Seen) -> None:
    """rnosymfollow sets nosymfollow on a bind mount and on all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rnosymfollow"))
    assert seen(found.has("nosymfollow")) is True


@behaviour("oci.mount-options.rrw")
def test_mount_options_rrw(box: Box, seen: Seen) -> None:
    """rrw clears ro on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,ro {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rrw"))
    assert seen(found.lacks("ro")) is True


@behaviour("oci.mount-options.rsuid")
def test_mount_options_rsuid(box: Box, seen: Seen) -> None:
    """rsuid clears nosuid on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,nosuid {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rsuid"))
    assert seen(found.lacks("nosuid")) is True


@behaviour("oci.mount-options.rdev")
def test_mount_options_rdev(box: Box, seen: Seen) -> None:
    """rdev clears nodev on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,nodev {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rdev"))
    assert seen(found.lacks("nodev")) is True


@behaviour("oci.mount-options.rexec")
def test_mount_options_rexec(box: Box, seen: Seen) -> None:
    """rexec clears noexec on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,noexec {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rexec"))
    assert seen(found.lacks("noexec")) is True


@behaviour("oci.mount-options.rsymfollow")
def test_mount_options_rsymfollow(box: Box, seen: Seen) -> None:
    """rsymfollow clears nosymfollow on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,nosymfollow {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rsymfollow"))
    assert seen(found.lacks("nosymfollow")) is True


@behaviour("oci.mount-options.rrelatime")
def test_mount_options_rrelatime(box: Box, seen: Seen) -> None:
    """rrelatime sets relatime on a bind mount and on all that is mounted below it."""
    source = shared_source(box)
    host_shell(f"mount -o remount,bind,noatime {source}/inner")
    found = mount_at(box, "/data/inner", bind(source, "/data", "rbind", "rrelatime"))
    assert seen((found.has("relatime"), found.lacks("noatime"))) == (True, True)


@behaviour("oci.mount-options.rstrictatime")
def test_mount_options_rstrictatime(box: Box, seen: Seen) -> None:
    """rstrictatime takes relatime from a bind mount and from all that is mounted below it."""
    found = mount_at(box, "/data/inner", bind(shared_source(box), "/data", "rbind", "rstrictatime"))
    assert seen(found.lacks("relatime", "noatime")) is True


@behaviour("oci.mount-options.idmap")
def test_mount_options_idmap(box: Box, seen: Seen) -> None:
    """idmap with mappings of the mount's own shows its files with the IDs of the container's side."""
    source = box.bundle / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 0, 0)
    maps = [{"containerID": 0, "hostID": 7000, "size": 10}]
    mount = {**bind("source", "/data", "bind", "idmap"), "uidMappings": maps, "gidMappings": maps}
    assert seen(box.said("stat", "-c", "%u:%g", "/data/file", mounts=[PROC, DEV, mount])) == "7000:7000\n"


@behaviour("oci.mount-options.idmap-without-maps")
def test_mount_options_idmap_without_maps(box: Box, seen: Seen) -> None:
    """idmap without mappings, in a container without a user namespace, is refused by create."""
    (box.bundle / "source").mkdir()
    assert seen(box.answer(config("true", mounts=[PROC, DEV, bind("source", "/data", "bind", "idmap")]))) == REFUSED


@behaviour("oci.mount-options.idmap-one-map")
def test_mount_options_idmap_one_map(box: Box, seen: Seen) -> None:
    """A mount with uidMappings and without gidMappings is refused by create."""
    (box.bundle / "source").mkdir()
    mount = {
        **bind("source", "/data", "bind", "idmap"),
        "uidMappings": [{"containerID": 0, "hostID": 7000, "size": 10}],
    }
    assert seen(box.answer(config("true", mounts=[PROC, DEV, mount]))) == REFUSED
