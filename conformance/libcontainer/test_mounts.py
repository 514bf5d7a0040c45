"""`mounts` of a configuration: order, places, sources, kinds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import DEV, PROC, PTS, bind, config, tmpfs
from kernelproof.conformance.libcontainer.hosting import host_shell
from kernelproof.conformance.libcontainer.observing import mount_at

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
MQUEUE = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}


def nested(box: Box) -> Path:
    """A directory of the host with a mount below it that holds a file."""
    source = box.bundle / "source"
    (source / "inner").mkdir(parents=True)
    host_shell(f"mount -t tmpfs none {source}/inner && echo inner > {source}/inner/file")
    return source


@behaviour("oci.mounts.order")
def test_order(box: Box, seen: Seen) -> None:
    """Mounts are made in the listed order: a later one covers an earlier one below it."""
    mounts = [PROC, DEV, tmpfs("/data"), tmpfs("/data/inner"), tmpfs("/data")]
    said = box.script("test -d /data/inner && echo uncovered; echo end", mounts=mounts)
    assert seen(said) == ["end"]


@behaviour("oci.mounts.order-nested")
def test_order_nested(box: Box, seen: Seen) -> None:
    """A mount below the place of an earlier one is made in that one."""
    (box.bundle / "note").write_text("inner")
    mounts = [PROC, DEV, tmpfs("/data"), bind("note", "/data/note")]
    assert seen(box.said("cat", "/data/note", mounts=mounts)) == "inner"


@pytest.mark.parametrize(
    ("mount", "place", "fstype"),
    [
        behaviour_row("oci.mounts.destination", tmpfs("/data"), "/data", "tmpfs"),
        behaviour_row("oci.mounts.destination-relative", tmpfs("data"), "/data", "tmpfs"),
        behaviour_row("oci.mounts.sysfs", SYSFS, "/sys", "sysfs"),
        behaviour_row("oci.mounts.mqueue", MQUEUE, "/dev/mqueue", "mqueue"),
    ],
)
def test_kind(box: Box, seen: Seen, mount: dict[str, object], place: str, fstype: str) -> None:
    """A mount of this kind stands at its destination, a relative one counted from the container's root."""
    assert seen(mount_at(box, place, mount).fstype) == fstype


@pytest.mark.parametrize(
    "mount",
    [
        behaviour_row("oci.mounts.destination-required", {"type": "tmpfs", "source": "tmpfs"}),
        behaviour_row("oci.mounts.bind-source-missing", bind("missing", "/data")),
        behaviour_row("oci.mounts.type-unknown", {"destination": "/data", "type": "unheard-of", "source": "x"}),
        behaviour_row("oci.mounts.data-unknown", tmpfs("/data", "unheard-of=1")),
    ],
)
def test_refused(box: Box, seen: Seen, mount: dict[str, object]) -> None:
    """A mount without a destination, of what does not exist, or with unknown options is refused by create."""
    assert seen(box.answer(config("true", mounts=[PROC, DEV, mount]))) == REFUSED


@pytest.mark.parametrize(
    ("source", "fstype"),
    [
        behaviour_row("oci.mounts.source-bind", "{bundle}/source", "none"),
        behaviour_row("oci.mounts.source-bind-relative", "source", "none"),
        behaviour_row("oci.mounts.bind-type-is-dummy", "source", "no-such-type"),
    ],
)
def test_bind(box: Box, seen: Seen, source: str, fstype: str) -> None:
    """A bind mount, whatever its type says, shows what its source holds, a relative one counted from the bundle."""
    (box.bundle / "source").mkdir()
    (box.bundle / "source/file").write_text("of the source")
    mount = {**bind(source.format(bundle=box.bundle), "/data"), "type": fstype}
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, mount])) == "of the source"


@behaviour("oci.mounts.destination-link")
def test_destination_link(box: Box, seen: Seen) -> None:
    """A symbolic link in a destination is followed inside the container's root, never out of it."""
    outside = box.bundle / "outside"
    outside.mkdir()
    (box.rootfs / str(outside)[1:]).mkdir(parents=True)
    (box.rootfs / "link").symlink_to(outside)
    said = box.script(f"ls {outside} && stat -f -c %T {outside}/in", mounts=[PROC, DEV, tmpfs("/link/in")])
    assert seen(said) == ["in", "tmpfs"]
    assert os.listdir(outside) == []


@behaviour("oci.mounts.not-on-the-host")
def test_not_on_the_host(box: Box, seen: Seen) -> None:
    """A mount of a container with a mount namespace of its own is not seen by the runtime's."""
    box.create(config("true", mounts=[PROC, DEV, tmpfs("/data", "size=4244k")]))
    inside, outside = (Path(f"/proc/{pid}/mountinfo").read_text() for pid in (box.pid(), "self"))
    box.delete(force=True)
    assert "size=4244k" in inside
    assert seen("size=4244k" in outside) is False


@behaviour("oci.mounts.source-bind-file")
def test_source_bind_file(box: Box, seen: Seen) -> None:
    """A file can be bound on a file."""
    (box.bundle / "file").write_text("bound")
    (box.rootfs / "data/file").write_text("covered")
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, bind("file", "/data/file")])) == "bound"


@behaviour("oci.mounts.proc-of-namespace")
def test_proc_of_namespace(box: Box, seen: Seen) -> None:
    """A proc file system shows the processes of the container's PID namespace alone."""
    assert seen([name for name in box.said("ls", "/proc").split() if name.isdigit()]) == ["1"]


@behaviour("oci.mounts.devpts")
def test_devpts(box: Box, seen: Seen) -> None:
    """A devpts is an instance of its own."""
    assert seen(box.said("ls", "/dev/pts", mounts=[PROC, DEV, PTS])) == "ptmx\n"


@behaviour("oci.mounts.shm")
def test_shm(box: Box, seen: Seen) -> None:
    """A tmpfs at /dev/shm is the container's own."""
    said = box.script("echo x > /dev/shm/in-the-box; ls /dev/shm", mounts=[PROC, DEV, tmpfs("/dev/shm", "mode=1777")])
    assert seen((said, os.path.exists("/dev/shm/in-the-box"))) == (["in-the-box"], False)


@behaviour("oci.mounts.cgroup")
def test_cgroup(box: Box, seen: Seen) -> None:
    """A mount of type cgroup shows the container's cgroup."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    system = {"destination": "/sys", "type": "sysfs", "source": "sysfs"}
    said = box.script("cat /sys/fs/cgroup/cgroup.procs | head -n 1", mounts=[PROC, DEV, system, mount])
    assert seen(said) == ["1"]


@behaviour("oci.mounts.data")
def test_data(box: Box, seen: Seen) -> None:
    """An option that is none of the generic ones goes to the file system."""
    found = mount_at(box, "/data", tmpfs("/data", "size=64k", "nr_inodes=77"))
    assert seen(found.has("size=64k", "nr_inodes=77")) is True


@behaviour("oci.mounts.rbind")
def test_rbind(box: Box, seen: Seen) -> None:
    """rbind binds what is mounted below the source too."""
    mounts = [PROC, DEV, tmpfs("/tmp"), bind(nested(box), "/data", "rbind")]
    assert seen(box.script("cat /data/inner/file", mounts=mounts)) == ["inner"]


@behaviour("oci.mounts.bind-alone")
def test_bind_alone(box: Box, seen: Seen) -> None:
    """bind does not bind what is mounted below the source."""
    assert seen(box.script("ls /data/inner", mounts=[PROC, DEV, bind(nested(box), "/data")])) == []


@behaviour("oci.mounts.tmpcopyup")
def test_tmpcopyup(box: Box, seen: Seen) -> None:
    """tmpcopyup shows in a tmpfs what lay at its place."""
    (box.rootfs / "data/file").write_text("from below")
    assert seen(box.said("cat", "/data/file", mounts=[PROC, DEV, tmpfs("/data", "tmpcopyup")])) == "from below"
