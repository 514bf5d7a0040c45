"""The text of mountinfo, and what a table answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl import mount
from kernelproof.impl.mount import Mount, MountAttribute, MountTable, Propagation, parse_mountinfo, table
from kernelproof.impl.mount.mountinfo import decode_octal, encode_octal, format_mount
from kernelproof.impl.mount.table import find_in_text

LINE = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"

texts = st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=12)
paths = texts.map(lambda name: "/" + name)
mounts = st.builds(
    Mount,
    id=st.integers(0, 2**31),
    parent_id=st.integers(0, 2**31),
    major=st.integers(0, 4095),
    minor=st.integers(0, 2**20),
    root=paths,
    mount_point=paths,
    attributes=st.sampled_from(
        [MountAttribute(0), MountAttribute.RDONLY | MountAttribute.NOATIME, MountAttribute(0x2F)]
    ),
    propagation=st.just(Propagation.PRIVATE),
    peer_group=st.none(),
    master=st.none(),
    propagate_from=st.none(),
    fstype=st.text(st.characters(blacklist_characters="\0", codec="utf-8"), min_size=1, max_size=8),
    source=texts,
    super_options=st.lists(st.text("abc=,: \t\n\\", min_size=1, max_size=8), min_size=1, max_size=3).map(tuple),
    other_options=st.just(()),
    other_fields=st.just(()),
    unique_id=st.none(),
    namespace_id=st.none(),
)


def test_every_field() -> None:
    """Each field of the manual's example is where the record says it is."""
    (found,), errors = parse_mountinfo(LINE + "\n")
    assert errors == ()
    assert found == Mount(
        id=36, parent_id=35, major=98, minor=0, root="/mnt1", mount_point="/mnt2", attributes=MountAttribute.NOATIME,
        propagation=Propagation.SLAVE, peer_group=None, master=1, propagate_from=None, fstype="ext3",
        source="/dev/root", super_options=("rw", "errors=continue"),
    )  # fmt: skip
    assert (found.parent, found.mountpoint, found.opts, found.optional, found.vfs_opts) == (
        35, "/mnt2", "rw,noatime", "master:1", "rw,errors=continue",
    )  # fmt: skip
    assert format_mount(found) == LINE


@pytest.mark.parametrize(
    ("optional", "propagation", "numbers", "other"),
    [
        ("", Propagation.PRIVATE, (None, None, None), ()),
        ("shared:5", Propagation.SHARED, (5, None, None), ()),
        ("shared:5 master:3 propagate_from:2", Propagation.SHARED | Propagation.SLAVE, (5, 3, 2), ()),
        ("unbindable", Propagation.UNBINDABLE, (None, None, None), ()),
        ("future:7 word", Propagation.PRIVATE, (None, None, None), ("future:7", "word")),
    ],
    ids=["none", "shared", "all", "unbindable", "unknown"],
)
def test_optional_fields(optional: str, propagation: Propagation, numbers: object, other: object) -> None:
    """Types of propagation and peer groups come from the optional fields, and unknown ones are kept."""
    (found,), _ = parse_mountinfo(f"1 0 0:1 / / rw {optional} - tmpfs x rw".replace("  ", " "))
    assert found.propagation == propagation
    assert (found.peer_group, found.master, found.propagate_from) == numbers
    assert found.other_fields == other
    assert found.optional == optional


def split_on_any_blank(text: str) -> tuple[list[str], list[int]]:
    """What the parsers of 2014 did: any run of blanks parts fields, and the first bad line ends it all."""
    sources = []
    for line in text.split("\n"):
        before, after = line.split(" - ")
        fields = before.split()
        _, source, _ = after.split()
        sources.append(f"{fields[4]} {source}")
    return sources, []


def parse_ours(text: str) -> tuple[list[str], list[int]]:
    """Ours, in the same shape."""
    found, errors = parse_mountinfo(text)
    return [f"{each.mount_point} {each.source}" for each in found], [error.line for error in errors]


HARD = "\n".join(
    [
        "21 1 0:20 / /a rw - tmpfs  rw",  # no source
        "22 1 0:20 / /b\\040c rw - tmpfs - rw",  # a hyphen as source
        "bad",
        "23 1 0:20 / /d\\134\\011\\012e rw - cifs //server/a\\040b rw,x=a b c",  # blanks in the super options
        '24 1 0:20 /f//deleted /"g" rw - tmpfs // rw',
        "25 1 0:20 / /h rw - ext4 /dev/x",  # no super options
    ]
)


@pytest.mark.rule("M1", ours=parse_ours, wrong=split_on_any_blank, raises=ValueError)
def test_hard_lines(subject: Callable[[str], tuple[list[str], list[int]]]) -> None:
    """An empty source, a hyphen, escapes and blanks lose no entry, and a bad line costs itself only."""
    assert subject(HARD) == (
        ["/a ", "/b c -", "/d\\\t\ne //server/a b", '/"g" //'],
        [3, 6],
    )


@given(st.lists(mounts, max_size=5))
def test_round_trip(given_mounts: list[Mount]) -> None:
    """What is written as the kernel writes it is read back as it was."""
    text = "".join(format_mount(each) + "\n" for each in given_mounts)
    found, errors = parse_mountinfo(text)
    assert errors == ()
    assert list(found) == given_mounts


@given(st.lists(st.text(max_size=40), max_size=6))
def test_every_line_is_a_mount_or_an_error(lines: list[str]) -> None:
    """Whatever the text is, each line that is not empty is either."""
    text = "\n".join(lines)
    found, errors = parse_mountinfo(text)
    assert len(found) + len(errors) == len([line for line in text.split("\n") if line])


@given(st.binary(max_size=200))
def test_any_bytes_are_read(content: bytes) -> None:
    """Bytes that are no UTF-8 are no reason to fail: each line that is not empty is a mount or an error."""
    found, errors = parse_mountinfo(content)
    assert len(found) + len(errors) == len([line for line in content.split(b"\n") if line])


def test_bytes_of_a_name_survive() -> None:
    """A name that is no UTF-8 comes back as os.fsdecode has it, escaped or not."""
    for name in (b"/caf\xe9", b"/caf\\351"):
        (found,), _ = parse_mountinfo(b"1 0 0:1 / " + name + b" rw - tmpfs x rw\n")
        assert os.fsencode(found.mount_point) == b"/caf\xe9"
    assert decode_octal("\\303\\251") == "é"
    assert decode_octal("\\304\\200") == "Ā"  # 0x80 is no character of its own


def test_carriage_return_is_part_of_a_name() -> None:
    """Lines end at a newline and nowhere else."""
    (found,), errors = parse_mountinfo("1 0 0:1 / /a\rb\x0bc\x85d rw - tmpfs x rw\n")
    assert (found.mount_point, errors) == ("/a\rb\x0bc\x85d", ())


def test_indented_lines_are_read() -> None:
    """A table that was copied with an indent is read, and its bad lines have their numbers."""
    found, errors = parse_mountinfo("    " + LINE + "\n    bad\n")
    assert [each.id for each in found] == [36]
    assert [error.line for error in errors] == [2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x", "no hyphen"),
        ("1 2 0:1 / /a - t s o", "5 fields before"),
        ("1 2 0:1 / /a rw - t s", "2 fields after"),
        ("a 2 0:1 / /a rw - t s o", "field 1 is no number"),
        ("1 2 01 / /a rw - t s o", "not major:minor"),
        ("1 2 0:1 / /a rw shared:x - t s o", "optional field"),
    ],
)
def test_errors_say_what_is_wrong(line: str, reason: str) -> None:
    """An error names the line's number, the reason and the line."""
    _, (error,) = parse_mountinfo(LINE + "\n" + line)
    assert error.line == 2
    assert reason in str(error)
    assert repr(line) in str(error)


def test_unknown_options_are_kept() -> None:
    """A per-mount option of a later kernel is not lost."""
    (found,), _ = parse_mountinfo("1 0 0:1 / / ro,nosuid,relatime,future,idmapped - tmpfs x rw")
    assert found.other_options == ("future",)
    assert found.mount_options == ("ro", "nosuid", "relatime", "idmapped", "future")


@given(texts)
def test_octal_round_trip(text: str) -> None:
    """Escapes are undone exactly once."""
    assert decode_octal(encode_octal(text)) == text


TABLE = MountTable.parse(
    "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
    "2 1 0:2 / /a rw - tmpfs a rw\n"
    "3 2 0:3 / /a/b rw - tmpfs b rw\n"
    "4 1 0:4 / /ab rw - tmpfs ab rw\n"
    "5 2 0:5 / /a rw - tmpfs over rw\n"
    "6 5 0:6 / /a/c rw - proc c rw\n"
)


@pytest.mark.parametrize(
    ("path", "source"),
    [("/", "/dev/sda"), ("/x", "/dev/sda"), ("/ab/x", "ab"), ("/abc", "/dev/sda"), ("/a", "over"), ("/a/b/x", "over"),
     ("/a/c/../c/./x", "c"), ("/a/c/..", "over"), ("//ab//", "ab")],
)  # fmt: skip
def test_find(path: str, source: str) -> None:
    """A path is on the mount that the kernel would walk to: not on one that is hidden, nor one with a like name."""
    text = "".join(format_mount(each) + "\n" for each in TABLE).encode()
    assert TABLE.find(path).source == source
    assert find_in_text(text, path) == TABLE.find(path)


def test_find_fails_clearly() -> None:
    """A relative path, and a table in which nothing is above the path, are errors."""
    with pytest.raises(mount.NoSuchMountError, match="relative"):
        TABLE.find("a/b")
    with pytest.raises(LookupError, match="no mount of the table"):
        MountTable([]).find("/a")


def test_stacks_and_subtrees() -> None:
    """All mounts at a path, lowest first; those below it; those above it; those of a type."""
    assert [each.source for each in TABLE.at("/a")] == ["a", "over"]
    assert [each.source for each in TABLE.below("/a")] == ["a", "b", "over", "c"]
    assert [each.source for each in TABLE.parents("/a/b")] == ["/dev/sda", "a", "b", "over"]
    assert [each.source for each in TABLE.by_fstype("proc", "ext4")] == ["/dev/sda", "c"]
    assert TABLE.root.id == 1
    assert [each.id for each in TABLE.select(mount.prefix_filter("/a"), mount.fstype_filter("proc"))] == [6]


def test_tree_shows_what_is_hidden() -> None:
    """Each mount stands below the one that it is on, and what no path leads to is marked."""
    (root,) = TABLE.tree()
    seen: dict[str, bool] = {}
    branches = [root]
    while branches:
        branch = branches.pop()
        seen[branch.mount.source] = branch.is_hidden
        branches += branch.children
    assert seen == {"/dev/sda": False, "a": True, "b": True, "ab": False, "over": False, "c": False}


def test_unmounts_are_planned_in_an_order_that_works() -> None:
    """What is on a mount comes before it, and what hides before what it hides."""
    assert [each.source for each in mount.plan_unmounts(TABLE, "/a")] == ["c", "over", "b", "a"]


def test_diff() -> None:
    """Added, removed, moved and changed mounts; an ID that is used again is another mount."""
    new = MountTable.parse(
        "1 0 0:1 / / ro - ext4 /dev/sda rw\n"
        "2 1 0:2 / /moved rw - tmpfs a rw\n"
        "3 2 0:9 / /a/b rw - tmpfs other rw\n"
        "7 1 0:7 / /new rw - tmpfs new rw\n"
    )
    changes = [(each.what, (each.new or each.old).source) for each in TABLE.diff(new)]  # type: ignore[union-attr]
    assert sorted(changes) == sorted(
        [("changed", "/dev/sda"), ("moved", "a"), ("removed", "b"), ("added", "other"), ("removed", "ab"),
         ("removed", "over"), ("removed", "c"), ("added", "new")]
    )  # fmt: skip
    assert TABLE.diff(TABLE) == ()


def test_read_takes_a_file_of_another_root(tmp_path: Path) -> None:
    """procfs is looked for where the caller says."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_text(LINE + "\n")
    assert [each.id for each in MountTable.read(7, proc=tmp_path)] == [36]
    assert mount.find_mount("/mnt2/x", 7, proc=tmp_path).id == 36
    with pytest.raises(FileNotFoundError):
        MountTable.read(8, proc=tmp_path)


def test_one_mount_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line with the whole ID is found, however the text comes in pieces; another that begins alike is not."""
    (tmp_path / "7").mkdir()
    lines = [f"{number} 1 0:{number} / /m{number} rw - tmpfs m{number} rw" for number in (361, 36, 1, 6)]
    (tmp_path / "7/mountinfo").write_text("\n".join(lines))  # the last one ends with the file
    for size in (1, 7, 1000):
        monkeypatch.setattr(table, "_CHUNK_BYTES", size)
        for number in (36, 361, 6, 1):
            assert mount.mount_by_id(number, pid=7, proc=tmp_path).mount_point == f"/m{number}"
        with pytest.raises(mount.NoSuchMountError):
            mount.mount_by_id(3, pid=7, proc=tmp_path)
