"""The command without a kernel: what it prints, and how it ends."""

from __future__ import annotations

import pytest

from kernelproof.impl.mount import MountTable
from kernelproof.impl.mount.__main__ import lines_of, main, make_parser, mount_object, printable, tree_objects

TABLE = MountTable.parse(
    "1 0 0:1 / / rw,relatime shared:1 - ext4 /dev/sda ro,errors=x\n"
    "4 1 0:4 /dir /ab rw master:3 - tmpfs  rw,size=1k\n"
    "2 1 0:2 / /a\\040b ro,nosuid unbindable - tmpfs a rw\n"
)


def test_rows_have_the_words_of_findmnt() -> None:
    """A bound directory stands behind its source, options are merged, and an empty source is null."""
    root, bound, other = (mount_object(each) for each in TABLE)
    assert (root["options"], root["propagation"], root["source"]) == ("ro,relatime,errors=x", "shared", "/dev/sda")
    assert (bound["source"], bound["propagation"], bound["options"]) == ("[/dir]", "private,slave", "rw,size=1k")
    assert (other["target"], other["propagation"], other["options"]) == ("/a b", "private,unbindable", "ro,nosuid")


def test_tree_is_in_the_order_of_ids() -> None:
    """What is on a mount stands below it, the older first."""
    (root,) = tree_objects(TABLE)
    assert [child["id"] for child in root["children"]] == [2, 4]
    assert [row[0] for row in lines_of([root])] == ["/", "  /a b", "  /ab"]


def test_names_cannot_write_to_the_terminal() -> None:
    """Control characters in a name are shown, not sent."""
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself, and a wrong use ends with status 2."""
    for command in ("list", "tree", "find", "mount", "bind", "unmount", "watch"):
        with pytest.raises(SystemExit) as shown:
            make_parser().parse_args([command, "--help"])
        assert shown.value.code == 0
        assert "--json" in capsys.readouterr().out
    for wrong in ([], ["find"], ["list", "--frobnicate"]):
        with pytest.raises(SystemExit) as refused:
            main(wrong)
        assert refused.value.code == 2
    assert main(["find", "/nonexistent"]) == 1
    assert "No such file" in capsys.readouterr().err
