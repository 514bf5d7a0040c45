"""fstab(5) and options by name, as findmnt(8) and mount(8) of util-linux take them, beside what the library takes."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl.mount import format_fstab, parse_fstab

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import LineAt
    from kernelproof.conformance.seen import Seen

COLUMNS = "SOURCE,TARGET,FSTYPE,OPTIONS,FREQ,PASSNO"


def findmnt(path: Path, text: str) -> list[list[str]]:
    """What findmnt reads from an fstab with this text."""
    path.write_text(text)
    command = ["findmnt", "--json", "--output", COLUMNS, "--tab-file", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["filesystems"] if done.stdout else []
    return [[str(row[column]) for column in COLUMNS.lower().split(",")] for row in rows]


def read_both(tmp_path: Path, text: str, seen: Seen) -> list[list[str]]:
    """What the library reads, which must be what findmnt, recorded, reads of what the library writes."""
    table = parse_fstab(text)
    assert table.errors == ()
    theirs = seen(findmnt(tmp_path / "fstab", format_fstab(table)))
    assert [[str(field) for field in entry] for entry in table.entries] == theirs
    return theirs


@behaviour("mount.fstab.escape-in-fields", subject="impl")
def test_escapes(tmp_path: Path, seen: Seen) -> None:
    """Blanks and tabs in fields are written by their numbers."""
    text = 'LABEL="a\\040b" /mnt/c\\040d\\011e auto noauto 0 0\n'
    ((source, target, *_),) = findmnt(tmp_path / "fstab", text)
    (entry,) = parse_fstab(text).entries
    assert entry.mount_point == target
    assert seen([source, target]) == ['LABEL="a b"', "/mnt/c d\te"] or [source, target] == ["LABEL=a b", "/mnt/c d\te"]


@behaviour("mount.fstab.freq-passno-default-zero", subject="impl")
def test_last_fields_may_be_missing(tmp_path: Path, seen: Seen) -> None:
    """A missing fifth or sixth field is 0."""
    rows = read_both(tmp_path, "/dev/a /a ext4 ro\n/dev/b /b ext4 ro 1\n/dev/c /c ext4 ro 1 2\n", seen)
    assert [row[4:] for row in rows] == [["0", "0"], ["1", "0"], ["1", "2"]]


@behaviour("mount.fstab.comment-and-blank", subject="impl")
def test_comments(tmp_path: Path, seen: Seen) -> None:
    """Comments and blank lines are no entries."""
    rows = read_both(tmp_path, "# one\n\n   \n  # two\n/dev/a /a ext4 ro 0 0\n#/dev/b /b ext4 ro 0 0\n", seen)
    assert [row[1] for row in rows] == ["/a"]


def mount_by_command(tree: Path, options: str) -> None:
    """Mount a tmpfs by mount(8)."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "x", str(tree)], check=True)


@behaviour("mount.fstab.last-option-wins", subject="impl")
def test_last_option_wins(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Of two options that contradict each other the later one holds, to the command and to the library."""
    words = []
    for options in ("ro,rw", "rw,ro", "nosuid,suid", "exec,noexec"):
        mount_by_command(tree / "a", options)
        mount.mount("x", tree / "b", "tmpfs", options)
        shown = [line_at(tree / name) for name in ("a", "b")]
        assert shown[0].options == shown[1].options
        words.append(sorted(shown[0].options & {"ro", "rw", "nosuid", "noexec"}))
        for name in ("a", "b"):
            mount.unmount(tree / name)
    assert seen(words) == [["rw"], ["ro"], ["rw"], ["noexec", "rw"]]


@behaviour("mount.fstab.options-to-flags", subject="impl")
def test_options_are_attributes(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """Each option's name is the attribute's."""
    shown = []
    names = ("nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow")
    for name in names:
        mount_by_command(tree / "a", name)
        mount.mount("x", tree / "b", "tmpfs", name)
        assert line_at(tree / "a").options == line_at(tree / "b").options
        shown.append(sorted(line_at(tree / "a").options - {"rw", "relatime"} | {name} & line_at(tree / "a").options))
        for place in ("a", "b"):
            mount.unmount(tree / place)
    assert seen(shown) == [[name] for name in names]


@behaviour("mount.fstab.remount-bind-ro", subject="impl")
def test_remount_bind_ro(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """ "remount,bind,ro" is of the mount."""
    for name, change in (("a", lambda path: subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)),
                         ("b", lambda path: mount.mount(None, path, None, "remount,bind,ro"))):  # fmt: skip
        mount.mount("x", tree / name, "tmpfs", "")
        change(tree / name)
    states = [["ro" in line_at(tree / name).options, "ro" in line_at(tree / name).super_options] for name in ("a", "b")]
    assert seen(states) == [[True, False], [True, False]]


@behaviour("mount.fstab.remount-ro", subject="impl")
def test_remount_ro(tree: Path, line_at: LineAt, seen: Seen) -> None:
    """ "remount,ro" is of the mount and of its filesystem."""
    for name, change in (("a", lambda path: subprocess.run(["mount", "-o", "remount,ro", path], check=True)),
                         ("b", lambda path: mount.mount(None, path, None, "remount,ro"))):  # fmt: skip
        mount.mount("x", tree / name, "tmpfs", "")
        change(tree / name)
    states = [["ro" in line_at(tree / name).options, "ro" in line_at(tree / name).super_options] for name in ("a", "b")]
    assert seen(states) == [[True, True], [True, True]]
