"""Roots of the user's own: taken from a folder or an archive, and looked at before anything boots on them."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.vm.cache import Cache
from kernelproof.vm.cpio import Member, make_character_device, make_directory, make_file, make_link, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.own_root import provide_own_root
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_progress import SilentProgress
from kernelproof.vm.provision_types import Root
from kernelproof.vm.tests.provision.test_cpio import read_newc

MEMBERS = (
    make_directory("bin"),
    make_file("bin/sh", b"shell", 0o755),
    make_link("bin/ash", "sh"),
    make_directory("sbin"),
    make_file("sbin/modprobe", b"modprobe", 0o755),
    make_directory("usr"),
    make_directory("usr/bin"),
    make_file("usr/bin/ip", b"ip", 0o4755),
    make_link("usr/bin/python3", "python3.12"),
    make_file("usr/bin/python3.12", b"python", 0o755),
    make_directory("usr/lib"),
    make_directory("usr/lib/python3.12"),
    make_file("usr/lib/python3.12/os.py", b"os"),
)
DEVICE = make_character_device("null", 1, 3)


def as_folder(place: Path, members: tuple[Member, ...]) -> Path:
    folder = place / "root"
    for member in members:
        path = folder / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(member.mode):
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(member.mode):
            path.symlink_to(member.data.decode())
        else:
            path.write_bytes(member.data)
            path.chmod(stat.S_IMODE(member.mode))
    os.mkfifo(folder / "pipe")
    return folder


def as_cpio(place: Path, members: tuple[Member, ...]) -> Path:
    with (place / "root.cpio").open("wb") as file:
        write_newc(file, [*members, DEVICE])
    return place / "root.cpio"


def as_packed_cpio(place: Path, members: tuple[Member, ...]) -> Path:
    plain = as_cpio(place, members).read_bytes()
    (place / "root.img").write_bytes(gzip.compress(plain))
    return place / "root.img"


def as_tar(place: Path, members: tuple[Member, ...]) -> Path:
    with tarfile.open(place / "root.tar.xz", "w:xz") as archive:
        for member in (*members, DEVICE):
            entry = tarfile.TarInfo(f"./{member.path}")
            entry.mode = stat.S_IMODE(member.mode)
            if stat.S_ISDIR(member.mode):
                entry.type = tarfile.DIRTYPE
            elif stat.S_ISLNK(member.mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, member.data.decode()
            elif stat.S_ISCHR(member.mode):
                entry.type = tarfile.CHRTYPE
            entry.size = len(member.data) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(member.data) if entry.isreg() else None)
    return place / "root.tar.xz"


FORMS = (as_folder, as_cpio, as_packed_cpio, as_tar)
Form = Callable[[Path, tuple[Member, ...]], Path]


def get_root(source: Path, tmp_path: Path) -> Root:
    with Provisioning(Cache(tmp_path / "cache"), SilentProgress()) as context:
        return provide_own_root(context, source)


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: Form, tmp_path: Path) -> None:
    """A root from each form is the same: its files as they are, what every guest has beside them, no device nodes."""
    root = get_root(form(tmp_path, MEMBERS), tmp_path)
    assert (root.python, root.packages) == ("3.12", ())
    members = {str(item["name"]): item for item in read_newc(root.cpio.read_bytes())}
    assert members["usr/bin/sh"]["data"] == b"shell"
    assert members["usr/bin/ash"]["data"] == b"sh"
    assert int(str(members["usr/bin/ip"]["mode"])) == stat.S_IFREG | 0o4755
    assert (members["usr/bin/ip"]["uid"], members["bin"]["data"]) == (0, b"usr/bin")
    assert {"dev/console", "proc", "tmp", "etc/hosts"} <= set(members)
    assert {"null", "pipe"}.isdisjoint(members)
    site = "usr/lib/python3.12/site-packages/kernelproof.pth"
    assert members[site]["data"] == b"/usr/lib/python3/dist-packages\n"


@pytest.mark.parametrize("form", FORMS)
def test_the_same_is_not_made_again(form: Form, tmp_path: Path) -> None:
    """A root that did not change is taken from the cache; one that did is another."""
    source = form(tmp_path, MEMBERS)
    first = get_root(source, tmp_path)
    assert get_root(source, tmp_path) == first
    (tmp_path / "more").mkdir()
    assert get_root(form(tmp_path / "more", (*MEMBERS, make_file("new", b"n"))), tmp_path).digest != first.digest


def without(*names: str) -> tuple[Member, ...]:
    return tuple(member for member in MEMBERS if member.path.rpartition("/")[2] not in names)


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        (without("sh"), "no sh in it"),
        (without("modprobe", "ip"), "no modprobe, no ip in it"),
        (without("python3", "os.py"), r"no python3 of 3\.11 or later \(none\) in it"),
        ((*without("python3"), make_link("usr/bin/python3", "python3.9")), r"\(found 3\.9\) in it"),
    ],
)
def test_what_is_missing(members: tuple[Member, ...], seen: str, tmp_path: Path) -> None:
    """A root on which no machine can run is refused with all that it lacks."""
    with pytest.raises(ProvisionError, match=rf"{seen}\n  remedy: install what is missing"):
        get_root(as_cpio(tmp_path, members), tmp_path)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"no archive at all", "file could not be opened"),
        (gzip.compress(b"still none"), "file could not be opened"),
        (b"070701 and nothing", "torn cpio archive"),
    ],
    ids=["text", "gzip", "torn"],
)
def test_what_is_no_root(data: bytes, seen: str, tmp_path: Path) -> None:
    """A file that is no archive, or a torn one, is told."""
    (tmp_path / "root").write_bytes(data)
    with pytest.raises(ProvisionError, match=rf"read guest root: .*{seen}"):
        get_root(tmp_path / "root", tmp_path)


@pytest.mark.parametrize("form", [as_cpio, as_packed_cpio, as_tar])
def test_torn_archive(form: Form, tmp_path: Path) -> None:
    """An archive that ends too early is told, whatever its form."""
    source = form(tmp_path, MEMBERS)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 3])
    with pytest.raises(ProvisionError, match="read guest root"):
        get_root(source, tmp_path)


def test_folder_that_can_not_be_read(tmp_path: Path) -> None:
    """A root that is not there is told."""
    with pytest.raises(ProvisionError, match="No such file or directory"):
        get_root(tmp_path / "gone", tmp_path)
