"""Packages become members of an archive, and nothing of them is run."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from kernelproof.vm.cpio import make_character_device, make_directory, make_file, make_link
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_unpack import Tree, lay_down, read_packages


def everything(path: str) -> bool:
    """Wants every path."""
    return True


def make_deb(folder: Path, *entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], name: str = "a") -> Path:
    """A package file whose data holds exactly `entries`, written as ar(5) and deb(5) say."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("./control"), io.BytesIO())
    path = folder / f"{name}.deb"
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for member, content in (
            ("debian-binary", b"2.0\n"),
            ("control.tar", control.getvalue()),
            ("data.tar", data.getvalue()),
        ):
            file.write(f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "", **fields: int
) -> tarfile.TarInfo:
    """A header."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.fixture(autouse=True)
def _needs_dpkg() -> None:
    try:
        subprocess.run(["dpkg-deb", "--version"], check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("dpkg-deb is not on this host")


def test_owners_modes_and_kinds_are_the_package_s(tmp_path: Path) -> None:
    """A set-user-ID file of root's and a directory of another group come through, whoever unpacks."""
    deb = make_deb(
        tmp_path,
        entry("./", tarfile.DIRTYPE, 0o755),
        entry("./usr/", tarfile.DIRTYPE, 0o755),
        (entry("./usr/su", mode=0o4755), b"su"),
        (entry("./usr/chage", mode=0o2755, gid=42), b"chage"),
        entry("./usr/link", tarfile.SYMTYPE, 0o777, "su"),
        entry("./usr/hard", tarfile.LNKTYPE, 0o4755, "./usr/su"),
    )
    tree = read_packages([deb], everything)
    assert tree["usr/su"].mode == stat.S_IFREG | 0o4755
    assert (tree["usr/chage"].gid, tree["usr/chage"].uid) == (42, 0)
    assert tree["usr/link"].data == b"su"
    assert tree["usr/hard"].data == b"su"
    assert [member.path for member in tree.members()] == ["usr", "usr/chage", "usr/hard", "usr/link", "usr/su"]


def test_unwanted_paths_are_left_out_by_their_merged_name(tmp_path: Path) -> None:
    """A path in /lib is asked for as one in /usr/lib, and lies there."""
    deb = make_deb(tmp_path, (entry("./lib/a"), b"a"), (entry("./usr/share/doc/b"), b"b"), (entry("./bin/c"), b"c"))
    asked: list[str] = []

    def keep(path: str) -> bool:
        asked.append(path)
        return "doc" not in path

    tree = read_packages([deb], keep)
    assert asked == ["usr/lib/a", "usr/share/doc/b", "usr/bin/c"]
    assert [member.path for member in tree.members()] == ["usr", "usr/bin", "usr/bin/c", "usr/lib", "usr/lib/a"]


def test_later_package_wins(tmp_path: Path) -> None:
    """Of two packages with the same path the later in order wins, however they were read."""
    first = make_deb(tmp_path, (entry("./x"), b"1"), name="first")
    second = make_deb(tmp_path, (entry("./x"), b"2"), name="second")
    assert read_packages([first, second], everything)["x"].data == b"2"
    assert read_packages([second, first], everything)["x"].data == b"1"


@pytest.mark.parametrize(
    "bad",
    [
        entry("./../etc/passwd"),
        entry("/etc/passwd"),
        entry("./a/../../b"),
        entry("./tty", tarfile.CHRTYPE, devmajor=5),
        entry("./pipe", tarfile.FIFOTYPE),
    ],
)
def test_path_or_kind_that_no_package_may_hold_is_refused(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    """A path that leaves the root, a device or a pipe is an error that names the package."""
    with pytest.raises(ProvisionError, match=r"unpack package: .*a\.deb"):
        read_packages([make_deb(tmp_path, bad)], everything)


def test_path_below_a_link_is_refused(tmp_path: Path) -> None:
    """A file can't be put through a link of the package's, which may lead out of it."""
    deb = make_deb(tmp_path, entry("./out", tarfile.SYMTYPE, 0o777, "/etc"), (entry("./out/passwd"), b""))
    with pytest.raises(ProvisionError, match="out is no directory"):
        read_packages([deb], everything)


@pytest.mark.parametrize("content", [b"", b"not a package", b"!<arch>\n"])
def test_file_that_is_no_package_is_told(tmp_path: Path, content: bytes) -> None:
    """Whatever dpkg-deb says of it, it is a ProvisionError with a remedy."""
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(ProvisionError, match="unpack package") as caught:
        read_packages([path], everything)
    assert "fetched again" in caught.value.remedy


def test_cut_package_is_told(tmp_path: Path) -> None:
    """A package that ends early is an error, not a smaller package."""
    path = make_deb(tmp_path, (entry("./a"), bytes(50_000)), (entry("./b"), bytes(50_000)))
    os.truncate(path, 60_000)
    with pytest.raises(ProvisionError, match="unpack package"):
        read_packages([path], everything)


def test_directories_of_debian_11_become_links() -> None:
    """A directory /lib gives way to the link into /usr."""
    tree = Tree()
    tree.add(make_directory("lib"))
    tree.add(make_file("lib/x", b""))
    assert tree["lib"].data == b"usr/lib"
    assert "usr/lib/x" in tree
    assert "lib/x" not in tree


def test_missing_members_do_not_replace() -> None:
    """What is there stays."""
    tree = Tree()
    tree.add(make_file("bin/sh", b"there"))
    tree.add_missing(make_file("usr/bin/sh", b"new"))
    assert tree["usr/bin/sh"].data == b"there"


def test_laid_down_files_are_ours_and_links_come_last(tmp_path: Path) -> None:
    """Files are made with no owner, no set-user-ID, no device; a link does not redirect what is written."""
    target = tmp_path / "target"
    target.mkdir()
    members = [
        make_link("a", "/nonexistent"),
        make_file("usr/su", b"su", 0o4755),
        make_file("usr/secret", b"s", 0o400),
        make_character_device("null", 1, 3),
    ]
    lay_down(members, target)
    assert sorted(os.listdir(target)) == ["a", "usr"]
    assert stat.S_IMODE((target / "usr/su").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "usr/secret").stat().st_mode) == 0o600
    assert os.readlink(target / "a") == "/nonexistent"
