"""What is mounted where: sources, destinations, copies, other owners, changes of mounts, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl import mount
from kernelproof.impl.libcontainer.config.records import IdMapping, Mount, Namespace, Root

pytestmark = pytest.mark.machine

PROC = Mount("/proc", "proc", "proc", ())


def table_of(text: object) -> mount.MountTable:
    assert isinstance(text, str), text
    return mount.MountTable(mount.parse_mountinfo(text).mounts)


def read_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def test_destinations_are_made(container: Any) -> None:
    """A missing destination becomes a directory, or an empty file where a file is bound; links lead inside the root."""
    (container.image / "link").symlink_to("/etc")
    (container.image / "up").symlink_to("../../../../../etc")
    sentinel = str(container.sentinel)
    config = container.config(
        [
            PROC,
            Mount("/a/b/c", "tmpfs", "x"),
            Mount("relative//./d", "tmpfs", "x"),
            Mount("/link/hosts", None, sentinel, ("bind", "ro")),
            Mount("/up/resolv.conf", None, sentinel, ("bind", "ro")),
            Mount("/deep/er/file", None, sentinel, ("bind", "ro")),
            Mount("/a/../e", "tmpfs", "x"),
        ]
    )
    seen = container.run(config, read_mountinfo)
    points = [each.mount_point for each in table_of(seen)]
    assert points[2:] == ["/a/b/c", "/relative/d", "/etc/hosts", "/etc/resolv.conf", "/deep/er/file", "/e"]
    assert (container.image / "deep/er/file").read_bytes() == b""
    assert stat.S_IMODE((container.image / "a/b/c").stat().st_mode) == 0o755


def test_destination_may_be_a_link_that_leads_nowhere_yet(container: Any) -> None:
    """What an image's link names is made inside the root, a file or a directory, and mounted on; the host stays."""
    for name, target in (
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ("var/lock", "/run/lock"),
        ("out", f"/../../..{container.host}/made"),
    ):
        (container.image / name).parent.mkdir(exist_ok=True)
        (container.image / name).unlink(missing_ok=True)
        (container.image / name).symlink_to(target)
    sentinel = str(container.sentinel)
    config = container.config(
        [
            PROC,
            Mount("/etc/resolv.conf", None, sentinel, ("bind", "ro")),
            Mount("/var/lock", "tmpfs", "x"),
            Mount("/out/file", None, sentinel, ("bind", "ro")),
        ]
    )
    points = [each.mount_point for each in table_of(container.run(config, read_mountinfo))][2:]
    assert points == ["/run/systemd/resolve/stub-resolv.conf", "/run/lock", f"{container.host}/made/file"]
    assert (container.image / "run/systemd/resolve/stub-resolv.conf").read_bytes() == b""
    assert os.listdir(container.host) == ["sentinel"]


def test_mounts_are_in_the_listed_order(container: Any) -> None:
    """A later mount at the same place, or above it, is on top of the earlier one."""
    mounts = [PROC, Mount("/a/b", "tmpfs", "one"), Mount("/a", "tmpfs", "two"), Mount("/a/b", "tmpfs", "three")]
    table = table_of(container.run(container.config(mounts), read_mountinfo))
    assert [each.source for each in table][2:] == ["one", "two", "three"]
    assert table.find("/a/b").source == "three"


def test_bind_source_counts_from_the_bundle(container: Any) -> None:
    """A relative source of a bind begins at the bundle, and one that does not exist is named."""
    (container.image / "data").write_text("of the bundle")
    config = container.config([Mount("/a", None, "data", ("bind",))])
    seen = container.run(config, lambda: os.stat("/a").st_size, bundle=str(container.image))
    assert seen == len("of the bundle")
    refused = container.run(container.config([Mount("/a", None, "/nowhere", ("bind",))]))
    assert (refused.operation, refused.errno) == ("Bind", errno.ENOENT)
    assert "/nowhere" in refused.text


def test_tmpfs_takes_mode_and_owner_of_the_directory(container: Any) -> None:
    """A tmpfs has mode and owner of the directory below, unless words say otherwise; a copy keeps what was there.

    Where there was no directory all may write.
    """
    below = container.image / "below"
    below.mkdir()
    os.chown(below, 5, 6)
    below.chmod(0o2710)
    filled = container.image / "filled"
    (filled / "sub").mkdir(parents=True)
    (filled / "sub/file").write_text("x" * 100)
    os.chown(filled / "sub/file", 3, 4)
    (filled / "sub/file").chmod(0o4750)
    (filled / "link").symlink_to("sub/file")
    os.setxattr(filled / "sub", "trusted.mark", b"1")
    filled.chmod(0o751)
    mounts = [
        Mount("/below", "tmpfs", "x"),
        Mount("/new", "tmpfs", "x"),
        Mount("/said", "tmpfs", "x", ("mode=1777", "uid=9")),
        Mount("/filled", "tmpfs", "x", ("tmpcopyup", "ro", "nosuid")),
        Mount("/empty/copy", "tmpfs", "x", ("tmpcopyup",)),
    ]

    def look() -> list[object]:
        found = [os.stat(path) for path in ("/below", "/new", "/said", "/filled", "/filled/sub/file", "/empty/copy")]
        dressed = [[stat.S_IMODE(each.st_mode), each.st_uid, each.st_gid] for each in found]
        mark = os.getxattr("/filled/sub", "trusted.mark").decode()
        writable = os.access("/filled/sub/file", os.W_OK)
        return [dressed, os.readlink("/filled/link"), mark, writable]

    assert container.run(container.config(mounts), look) == [
        [[0o2710, 5, 6], [0o1777, 0, 0], [0o1777, 9, 0], [0o751, 0, 0], [0o4750, 3, 4], [0o1777, 0, 0]],
        "sub/file", "1", False,
    ]  # fmt: skip


def test_read_only_mounts_are_filled_first(container: Any) -> None:
    """A read-only tmpfs on which something is mounted or made later becomes read-only after that."""
    mounts = [
        PROC,
        Mount("/dev", "tmpfs", "tmpfs", ("ro", "nosuid", "mode=755")),
        Mount("/run", "tmpfs", "tmpfs", ("ro",)),
        Mount("/run/secrets/one", None, str(container.sentinel), ("bind", "ro")),
    ]

    def look() -> list[object]:
        table = read_mountinfo()
        return [table, os.path.exists("/dev/null"), os.access("/dev", os.W_OK), os.access("/run", os.W_OK)]

    seen = container.run(container.config(mounts), look)
    assert seen[1:] == [True, False, False]
    table = table_of(seen[0])
    assert (table.find("/dev").opts, table.find("/run").opts) == ("ro,nosuid,relatime", "ro,relatime")


def test_remounts(container: Any) -> None:
    """`remount` changes what is mounted: with bind the mount alone, else its filesystem's options."""
    mounts = [
        PROC,
        Mount("/a", "tmpfs", "x", ("nosuid", "size=1m")),
        Mount("/a", None, None, ("bind", "remount", "ro")),
        Mount("/b", "tmpfs", "x", ("size=1m",)),
        Mount("/b", "tmpfs", "x", ("remount", "size=2m", "noexec")),
    ]
    table = table_of(container.run(container.config(mounts), read_mountinfo))
    assert table.find("/a").opts == "ro,nosuid,relatime"
    assert table.find("/b").opts == "rw,noexec,relatime"
    assert "size=2048k" in table.find("/b").super_options
    refused = container.run(container.config([Mount("/etc", "tmpfs", "x", ("remount",))]))
    assert (refused.operation, refused.errno) == ("Remount", errno.EINVAL)


def test_whatever_fsconfig_can_t_be_told_is_told_to_mount(container: Any) -> None:
    """A value over 255 bytes, as the layers of an overlay have, and iversion take the call that can carry them."""
    long = container.host / ("x" * 200)
    (long / ("y" * 100)).mkdir(parents=True)
    try:
        lower = f"lowerdir={long / ('y' * 100)}:{container.image / 'etc'}"
        table = table_of(container.run(container.config([PROC, Mount("/o", "overlay", "o", (lower,))]), read_mountinfo))
        assert table.find("/o").fstype == "overlay"
        assert table.find("/o").super_options[1].startswith("lowerdir=") or len(table.find("/o").super_options) > 1
    finally:
        (long / ("y" * 100)).rmdir()
        long.rmdir()


def test_overlay_of_many_layers(container: Any) -> None:
    """Options of an overlay that are longer than a page are mounted, in a user namespace too, and read-only later."""
    layers = [container.image / "layers" / f"{number:04}-{'x' * 55}" for number in range(90)]
    for each in layers:
        each.mkdir(parents=True)
    lower = "lowerdir=" + ":".join(map(str, layers))
    assert len(lower) > 4095
    mounts = [PROC, Mount("/o", "overlay", "o", (lower, "ro", "nosuid"))]
    for kinds in (("mount", "pid"), ("mount", "pid", "user")):
        seen = container.run(container.config(mounts, kinds=kinds), read_mountinfo)
        if not isinstance(seen, str) and seen.kind == "OptionError":
            assert "each layer (Linux 6.8)" in seen.text
            return
        found = table_of(seen).find("/o")
        assert (found.fstype, found.opts) == ("overlay", "ro,nosuid,relatime")
        assert found.super_options[0] == "ro"


MAPS = {"uid_mappings": (IdMapping(0, 7000, 10),), "gid_mappings": (IdMapping(0, 8000, 10),)}


def find_refusal() -> int:
    """With which errno this kernel refuses to map the owners of a tmpfs; 0 if it does not.

    Source: mount_setattr(2), HISTORY and "ID-mapped mounts": Linux 5.12, tmpfs since Linux 6.3.
    """
    major, minor = os.uname().release.split(".")[:2]
    release = (int(major), int(minor))
    if release < (5, 12):
        return errno.ENOSYS
    return errno.EINVAL if release < (6, 3) else 0


def test_owners_are_mapped(container: Any) -> None:
    """idmap shows a bind's files with other owners, ridmap those below it too; owners outside are nobody's."""
    tree = container.host / "tree"
    (tree / "below").mkdir(parents=True)
    mount.mount("below", tree / "below", "tmpfs", "")
    for number, path in enumerate(("zero", "below/zero")):
        (tree / path).write_text("")
        os.chown(tree / path, number, number)
    os.chown(tree, 99, 99)
    mounts = [
        Mount("/one", None, str(tree), ("bind", "idmap", "ro"), **MAPS),
        Mount("/all", None, str(tree), ("rbind", "ridmap"), **MAPS),
        Mount("/silent", None, str(tree), ("bind",), **MAPS),
    ]  # fmt: skip

    def look() -> list[object]:
        names = ("/one/zero", "/all/zero", "/all/below/zero", "/silent/zero", "/one")
        found = [os.stat(name) for name in names]
        return [[each.st_uid, each.st_gid] for each in found]

    try:
        seen = container.run(container.config(mounts), look)
        if find_refusal():
            assert (seen.operation, seen.errno) == ("MapOwners", find_refusal())
            return
        assert seen == [[7000, 8000], [7000, 8000], [7001, 8001], [7000, 8000], [65534, 65534]]
    finally:
        mount.unmount_recursive(tree / "below")
        shutil.rmtree(tree)


def test_maps_of_the_container_s_user_namespace(container: Any) -> None:
    """idmap without maps takes those of the container: root's files on the filesystem are its root's."""
    volume = container.host / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    os.chown(container.image, 100_000, 100_000)
    maps = (IdMapping(0, 100_000, 65536),)
    config = container.config(
        [Mount("/data", None, str(volume), ("bind", "idmap")), Mount("/as-is", None, str(volume), ("bind",))],
        kinds=("user", "mount", "pid", "ipc", "uts", "network"),
        linux={"uid_mappings": maps, "gid_mappings": maps, "namespaces": spaces("user mount pid ipc uts network")},
    )
    for name in ("dev", "etc"):
        os.chown(container.image / name, 100_000, 100_000)
    try:
        seen = container.run(config, lambda: [os.stat(f"/{name}/file").st_uid for name in ("data", "as-is")])
        if find_refusal():
            assert (seen.operation, seen.errno) == ("MapOwners", find_refusal())
            return
        assert seen == [0, 65534]
    finally:
        shutil.rmtree(volume)


def spaces(kinds: str) -> tuple[Any, ...]:
    return tuple(Namespace(kind) for kind in kinds.split())


@pytest.mark.parametrize(
    ("path", "number"),
    [("/", errno.EPERM), ("/nowhere", errno.ENOENT), ("{area}/file", errno.ENOTDIR), ("{area}/link", errno.ELOOP)],
    ids=["host-root", "missing", "file", "link"],
)
def test_roots_that_are_none(container: Any, path: str, number: int) -> None:
    """The host's root, what is missing, a file, and a path with a link on it are refused, and say what helps."""
    area = container.image.parent
    (area / "file").write_text("")
    (area / "link").symlink_to("image")
    config = container.config([PROC]).replace(root=Root(path.format(area=area)))
    refused = container.run(config)
    assert (refused.operation, refused.errno) == ("OpenRoot", number)


def test_nothing_is_seen_on_the_host(container: Any) -> None:
    """Where the host's mounts are shared, none of the container's is seen there, while it runs and after."""
    mount.make_rshared("/")
    try:
        outer: list[int] = []
        before = len(mount.MountTable.read())
        config = container.config([PROC, Mount("/a", "tmpfs", "x", ("shared",))])
        container.run(config, outside=lambda pid: outer.append(len(mount.MountTable.read())))
        assert outer == [before]
    finally:
        mount.make_rprivate("/")


def test_files_that_procfs_shows_may_be_replaced(container: Any) -> None:
    """A few files of /proc may be replaced by a bind; nothing else may be mounted there."""
    fake = str(container.sentinel)
    seen = container.run(
        container.config([PROC, Mount("/proc/meminfo", None, fake, ("bind", "ro"))]),
        lambda: open("/proc/meminfo", encoding="utf-8").readline(),  # noqa: SIM115
    )
    assert seen == "of the host"
    for bad in (
        Mount("/proc/self", None, str(container.host), ("bind",)),
        Mount("/proc/sys", "tmpfs", "x"),
        Mount("/proc/version", None, fake, ("bind",)),
        Mount("/proc", "tmpfs", "x"),
    ):
        refused = container.run(container.config([PROC, bad]))
        assert refused.kind == "UnsafePathError", bad
        assert Path(bad.destination).name in refused.text


def test_root_itself_is_no_destination(container: Any) -> None:
    """A mount that would hide the root is refused, by whatever name it is asked for."""
    (container.image / "link").symlink_to("/")
    for destination in ("/", "/etc/..", "/link", "/../..", "//./"):
        refused = container.run(container.config([PROC, Mount(destination, "tmpfs", "x")]))
        assert (refused.operation, refused.kind, refused.errno) == ("MountTmpfs", "UnsafePathError", errno.EPERM)
