"""`mounts` of a configuration: order, places, sources, kinds."""

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


def nested(box: Box) -> Path:
    """A directory of the host with a mount below it that holds a file."""
    source = box.bundle / "source"
    (source / "inner").mkdir(parents=True)
    host_shell(f"mount -t tmpfs none {source}/inner && echo inner > {source}/inner/file")
    return source


@behaviour("oci.mounts.order")
def test_mounts_order(box: Box, seen: Seen) -> None:
    """Mounts are made in the listed order: a later one covers an earlier one below it."""
    mounts = [PROC, DEV, tmpfs("/data"), tmpfs("/data/inner"), tmpfs("/data")]
    said = box.script("test -d /data/inner && echo uncovered; echo end", mounts=mounts)
    assert seen(said) == ["end"]


@behaviour("oci.mounts.order-nested")
def test_mounts_order_nested(box: Box, seen: Seen) -> None:
    """A mount below the place of an earlier one is made in that one."""
    (box.bundle / "note").write_text("inner")
    mounts = [PROC, DEV, tmpfs("/data"), bind("note", "/data/note")]
    assert seen(box.said("cat", "/data/note", mounts=mounts)) == "inner"


@behaviour("oci.mounts.destination")
def test_mounts_destination(box: Box, seen: Seen) -> None:
    """A mount stands at its destination in the container."""
    assert seen(mount_at(box, "/data", tmpfs("/data")).fstype) == "tmpfs"


@behaviour("oci.mounts.destination-relative")
def test_mounts_destination_relative(box: Box, seen: Seen) -> None:
    """A relative destination counts from the container's root."""
    assert seen(mount_at(box, "/data", tmpfs("data")).fstype) == "tmpfs"


@behaviour("oci.mounts.destination-required")
def test_mounts_destination_required(box: Box, seen: Seen) -> None:
    """A mount without destination is refused by create."""
    assert seen(box.answer(config("true", mounts=[PROC, {"type": "tmpfs", "source": "tmpfs"}]))) == REFUSED


@behaviour("oci.mounts.destination-link")
def test_mounts_destination_link(box: Box, seen: Seen) -> None:
    """A symbolic link in a destination is followed inside the container's root, never out of it."""
    outside = box.bundle / "outside"
    outside.mkdir()
    (box.rootfs / str(outside)[1:]).mkdir(parents=True)
    (box.rootfs / "link").symlink_to(outside)
    said = box.script(f"ls {outside} && stat -f -c %T {outside}/in", mounts=[PROC, DEV, tmpfs("/link/in")])
    assert seen(said) == ["in", "tmpfs"]
    assert os.listdir(outside) == []


@behaviour("oci.mounts.not-on-the-host")
def test_mounts_not_on_the_host(box: Box, seen: Seen) -> None:
    """A mount of a container with a mount namespace of its own is not seen by the runtime's."""
    box.create(config("true", mounts=[PROC, DEV, tmpfs("/data", "size=4242k")]))
    with open("/proc/self/mountinfo") as file:
        assert seen("size=4242k" in file.read()) is False
    box.delete(force=True)


@behaviour("oci.mounts.source-bind")
def test_mounts_source_bind(box: Box, seen: Seen) -> None:
    """A bind mount shows what its source holds."""
    (box.bundle / "source").mkdir()
    (box.bundle / "source/file").write_text("of the source")
    assert (
        seen(box.said("cat", "/data/file", mounts=[PROC, DEV, bind(box.bundle / "source", "/data")])) == "of the source"
    )


@behaviour("oci.mounts.source-bind-relative")
def test_mounts_source_bind_relative(box: Box, seen: Seen) -> None:
    """A relative source of a bind mount counts from the bundle."""
    (box.bundle / "source").mkdir()
    (box.bundle / "source/file").write_text("beside the root")
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, bind("source", "/data")])) == "beside the root"


@behaviour("oci.mounts.source-bind-file")
def test_mounts_source_bind_file(box: Box, seen: Seen) -> None:
    """A file can be bound on a file."""
    (box.bundle / "file").write_text("bound")
    (box.rootfs / "data/file").write_text("covered")
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, bind("file", "/data/file")])) == "bound"


@behaviour("oci.mounts.bind-type-is-dummy")
def test_mounts_bind_type_is_dummy(box: Box, seen: Seen) -> None:
    """The type of a bind mount means nothing."""
    (box.bundle / "source").mkdir()
    (box.bundle / "source/file").write_text("bound")
    mount = {**bind("source", "/data"), "type": "no-such-type"}
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, mount])) == "bound"


@behaviour("oci.mounts.bind-source-missing")
def test_mounts_bind_source_missing(box: Box, seen: Seen) -> None:
    """A bind mount of a source that does not exist is refused by create."""
    assert seen(box.answer(config("true", mounts=[PROC, DEV, bind("missing", "/data")]))) == REFUSED


@behaviour("oci.mounts.type-unknown")
def test_mounts_type_unknown(box: Box, seen: Seen) -> None:
    """A file system that the kernel does not know is refused by create."""
    assert (
        seen(
            box.answer(
                config("true", mounts=[PROC, DEV, {"destination": "/data", "type": "unheard-of", "source": "x"}])
            )
        )
        == REFUSED
    )


@behaviour("oci.mounts.proc-of-namespace")
def test_mounts_proc_of_namespace(box: Box, seen: Seen) -> None:
    """A proc file system shows the processes of the container's PID namespace alone."""
    assert seen([name for name in box.said("ls", "/proc").split() if name.isdigit()]) == ["1"]


@behaviour("oci.mounts.sysfs")
def test_mounts_sysfs(box: Box, seen: Seen) -> None:
    """A sysfs is mounted where a configuration asks for one."""
    assert (
        seen(
            mount_at(box, "/sys", {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}).fstype
        )
        == "sysfs"
    )


@behaviour("oci.mounts.devpts")
def test_mounts_devpts(box: Box, seen: Seen) -> None:
    """A devpts is an instance of its own."""
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    assert seen(box.said("ls", "/dev/pts", mounts=[PROC, DEV, pts])) == "ptmx\n"


@behaviour("oci.mounts.shm")
def test_mounts_shm(box: Box, seen: Seen) -> None:
    """A tmpfs at /dev/shm is the container's own."""
    said = box.script("echo x > /dev/shm/in-the-box; ls /dev/shm", mounts=[PROC, DEV, tmpfs("/dev/shm", "mode=1777")])
    assert seen((said, os.path.exists("/dev/shm/in-the-box"))) == (["in-the-box"], False)


@behaviour("oci.mounts.mqueue")
def test_mounts_mqueue(box: Box, seen: Seen) -> None:
    """A mqueue file system belongs to the container's IPC namespace."""
    assert (
        seen(
            mount_at(
                box, "/dev/mqueue", DEV, {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}
            ).fstype
        )
        == "mqueue"
    )


@behaviour("oci.mounts.cgroup")
def test_mounts_cgroup(box: Box, seen: Seen) -> None:
    """A mount of type cgroup shows the container's cgroup."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    system = {"destination": "/sys", "type": "sysfs", "source": "sysfs"}
    said = box.script("cat /sys/fs/cgroup/cgroup.procs | head -n 1", mounts=[PROC, DEV, system, mount])
    assert seen(said) == ["1"]


@behaviour("oci.mounts.data")
def test_mounts_data(box: Box, seen: Seen) -> None:
    """An option that is none of the generic ones goes to the file system."""
    assert (
        seen(mount_at(box, "/data", tmpfs("/data", "size=64k", "nr_inodes=77")).has("size=64k", "nr_inodes=77")) is True
    )


@behaviour("oci.mounts.data-unknown")
def test_mounts_data_unknown(box: Box, seen: Seen) -> None:
    """An option that neither the table nor the file system knows is refused by create."""
    assert seen(box.answer(config("true", mounts=[PROC, DEV, tmpfs("/data", "unheard-of=1")]))) == REFUSED


@behaviour("oci.mounts.rbind")
def test_mounts_rbind(box: Box, seen: Seen) -> None:
    """rbind binds what is mounted below the source too."""
    assert seen(
        box.script("cat /data/inner/file", mounts=[PROC, DEV, tmpfs("/tmp"), bind(nested(box), "/data", "rbind")])
    ) == ["inner"]


@behaviour("oci.mounts.bind-alone")
def test_mounts_bind_alone(box: Box, seen: Seen) -> None:
    """bind does not bind what is mounted below the source."""
    assert seen(box.script("ls /data/inner", mounts=[PROC, DEV, bind(nested(box), "/data")])) == []


@behaviour("oci.mounts.tmpcopyup")
def test_mounts_tmpcopyup(box: Box, seen: Seen) -> None:
    """tmpcopyup shows in a tmpfs what lay at its place."""
    (box.rootfs / "data/file").write_text("from below")
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, tmpfs("/data", "tmpcopyup")])) == "from below"
