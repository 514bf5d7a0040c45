"""Recorded tables of three kernels, beside what findmnt read from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.mount import MountTable, Propagation
from kernelproof.impl.mount.__main__ import tree_objects
from kernelproof.impl.mount.mountinfo import format_mount
from kernelproof.impl.mount.table import find_in_text

FOLDER = Path(__file__).parents[3] / "fixtures/mountinfo"
KERNELS = ("5.10", "6.12", "7.3")


def recorded(kernel: str) -> tuple[bytes, list[dict[str, Any]]]:
    """The text of a table, and findmnt's tree of it."""
    shown = json.loads((FOLDER / f"linux-{kernel}.findmnt.json").read_text(encoding="utf-8"))
    return (FOLDER / f"linux-{kernel}.mountinfo").read_bytes(), shown["filesystems"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_line_is_read_and_written(kernel: str) -> None:
    """No line is an error, and each record is written as its line."""
    text, _ = recorded(kernel)
    table = MountTable.parse(text)
    assert table.errors == ()
    assert [format_mount(each) for each in table] == text.decode().splitlines()


def only(rows: list[dict[str, Any]], keys: set[str]) -> list[Any]:
    """Rows with these keys, and their children likewise."""
    return [{key: row.get(key) for key in keys} | {"children": only(row.get("children", []), keys)} for row in rows]


@pytest.mark.parametrize("kernel", KERNELS)
def test_tree_is_findmnt_s(kernel: str) -> None:
    """The tree has the keys and values that findmnt gave."""
    text, theirs = recorded(kernel)
    keys = set(theirs[0]) - {"children"}
    assert keys >= {"target", "source", "fstype", "options"}
    assert only(tree_objects(MountTable.parse(text)), keys) == only(theirs, keys)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_told_of_mounts(kernel: str) -> None:
    """Peers, a slave, an unbindable mount, a removed root and a read-only bind are told as what they are."""
    text, _ = recorded(kernel)
    table = MountTable.parse(text)
    peer, bound, slave = (table.find(f"/tmp/m/{name}") for name in ("a b", "bound", "slave"))
    assert (peer.source, peer.peer_group) == ("the source", bound.peer_group)
    assert (slave.master, slave.propagation) == (peer.peer_group, Propagation.SLAVE)
    assert (bound.is_read_only, peer.is_read_only) == (True, False)
    assert table.find("/tmp/m/un").propagation == Propagation.UNBINDABLE
    assert table.find("/tmp/m/gone").is_root_deleted
    assert find_in_text(text, "/tmp/m/a b/c") == peer
    assert table.root.fstype == "rootfs"
