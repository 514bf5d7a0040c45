"""Archives are written byte by byte as the kernel's document says."""

from __future__ import annotations

import io
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.cpio import (
    ALIGNMENT,
    Member,
    make_character_device,
    make_directory,
    make_file,
    make_link,
    write_newc,
)
from kernelproof.vm.cpio import read_newc as read_members


def read_newc(data: bytes) -> list[dict[str, object]]:
    """Read members back, over every archive in `data`, by the fields of the document alone."""
    names = (
        *("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize"),
        *("devmajor", "devminor", "rdevmajor", "rdevminor", "namesize", "check"),
    )
    found: list[dict[str, object]] = []
    at = 0
    while at < len(data):
        if data[at : at + 1] == b"\0":
            at += 4
            continue
        assert data[at : at + 6] == b"070701"
        fields = dict(zip(names, (int(data[i : i + 8], 16) for i in range(at + 6, at + 110, 8)), strict=True))
        end = at + 110 + fields["namesize"]
        name = data[at + 110 : end - 1].decode("utf-8", "surrogateescape")
        assert data[end - 1 : end] == b"\0"
        start = end + -end % 4
        stop = start + fields["filesize"]
        found.append({**fields, "name": name, "data": data[start:stop]})
        at = stop + -stop % 4
    return found


def write(*members: Member) -> bytes:
    """One archive as bytes."""
    file = io.BytesIO()
    size = write_newc(file, members)
    assert size == len(file.getvalue())
    return file.getvalue()


def test_header_byte_by_byte() -> None:
    """A small file is 110 bytes of header, its name and data padded to four bytes each."""
    data = write(Member("ab", stat.S_IFREG | 0o4755, b"xyz", uid=1, gid=258))
    assert data[:120] == (
        b"070701"
        b"00000001"
        b"000089ED"
        b"00000001"
        b"00000102"
        b"00000001"
        b"00000000"
        b"00000003"
        b"00000000"
        b"00000000"
        b"00000000"
        b"00000000"
        b"00000003"
        b"00000000"
        b"ab\0"
        b"\0\0\0"
        b"xyz\0"
    )


@pytest.mark.parametrize("length", range(9))
def test_names_and_data_of_every_length_come_back(length: int) -> None:
    """Padding is right for every length, and empty members too."""
    data = write(make_file("n" * (length + 1), b"d" * length), make_file("z", b"end"))
    first, second, trailer = read_newc(data)
    assert (first["name"], first["data"]) == ("n" * (length + 1), b"d" * length)
    assert (second["name"], second["data"], trailer["name"]) == ("z", b"end", "TRAILER!!!")


def test_kinds_of_members() -> None:
    """Directories, links and devices carry their type; a link's data is its target."""
    data = write(make_directory("d", 0o1777), make_link("l", "d/ü"), make_character_device("c", 5, 1))
    directory, link, device, _ = read_newc(data)
    assert (directory["mode"], directory["nlink"]) == (stat.S_IFDIR | 0o1777, 2)
    assert (link["mode"], link["data"]) == (stat.S_IFLNK | 0o777, "d/ü".encode())
    assert (device["mode"], device["rdevmajor"], device["rdevminor"]) == (stat.S_IFCHR | 0o600, 5, 1)


def test_archives_can_stand_one_after_the_other() -> None:
    """Each is padded, so that what follows begins on a boundary; equal members make equal bytes."""
    one, two = write(make_file("a", b"1")), write(make_file("a", b"22"))
    assert len(one) % ALIGNMENT == len(two) % ALIGNMENT == 0
    assert [member["data"] for member in read_newc(one + two)] == [b"1", b"", b"22", b""]
    assert write(make_file("a", b"1")) == one


def test_every_member_has_an_inode_of_its_own() -> None:
    """Two members of equal data are two files: nothing is a hard link."""
    members = read_newc(write(make_file("a", b"1"), make_file("b", b"1")))
    assert len({member["ino"] for member in members}) == 3
    assert members[0]["nlink"] == members[1]["nlink"] == 1


def test_name_that_is_not_utf8_comes_back() -> None:
    """A name of any bytes is kept."""
    assert read_newc(write(make_file("a\udcff", b"")))[0]["name"] == "a\udcff"


@pytest.mark.parametrize("path", ["", "/etc", "a//b", "a/", "a/../b", "..", "./a", "a\0b", "TRAILER!!!"])
def test_path_that_leaves_the_archive_is_refused(path: str) -> None:
    """No member can stand outside the root, nor end the archive early."""
    with pytest.raises(ValueError, match=r"path|trailer"):
        write(make_file(path, b""))


def test_root_itself_has_a_mode() -> None:
    """The one path with a dot is the root."""
    assert read_newc(write(make_directory(".", 0o755)))[0]["name"] == "."


def test_member_too_large_for_the_format_is_refused() -> None:
    """A size that does not fit in eight digits is an error, not another size."""

    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(ValueError, match="don't fit"):
        write(Member("a", stat.S_IFREG, Huge()))


members = st.builds(
    Member,
    path=st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True),
    mode=st.sampled_from([stat.S_IFREG | 0o4711, stat.S_IFLNK | 0o777, stat.S_IFREG]),
    data=st.binary(max_size=20),
    uid=st.integers(0, 0xFFFFFFFF),
    gid=st.integers(0, 0xFFFFFFFF),
)


@given(st.lists(members, max_size=5), st.lists(members, max_size=3))
def test_what_was_written_is_read(first: list[Member], second: list[Member]) -> None:
    """Whatever is written comes back, over several archives one behind the other."""
    assert list(read_members(write(*first) + write(*second))) == [*first, *second]


def test_hard_links_share_content() -> None:
    """Of files with one inode number the last bears the content; all get it."""
    data = write(make_file("a", b""), make_file("b", b"both"))
    linked = data.replace(b"00000002000081A4", b"00000001000081A4").replace(b"0000000100000000", b"0000000200000000")
    assert [member.data for member in read_members(linked)] == [b"both", b"both"]


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"no archive", "no cpio archive of the format newc at byte 0"),
        (write(make_file("a", b"content"))[:115], "torn cpio archive: it ends at byte 115"),
        (write(make_file("a", b"content"))[:50], "torn cpio archive: no header at byte 0"),
        (write(make_file("aaaa", b"x")).replace(b"aaaa", b"../a"), "not a path"),
    ],
)
def test_what_is_no_archive(data: bytes, seen: str) -> None:
    """What is torn, is none, or leaves the root is told, with the place."""
    with pytest.raises(ValueError, match=seen):
        list(read_members(data))
