"""Whether a container is paused, by the one file of its cgroup that says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.frozen import freezers, is_frozen

FRONT = "25 30 0:23 / {} rw,nosuid shared:4 - {} {} rw{}"


def table(tmp_path: Path, *mounts: tuple[str, str, str]) -> str:
    """A procfs with a mount table: of each mount its point, its filesystem and its options."""
    (tmp_path / "proc/self").mkdir(parents=True)
    lines = [FRONT.format(tmp_path / point, kind, kind, options) for point, kind, options in mounts]
    (tmp_path / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in lines))
    return str(tmp_path / "proc")


def cgroup(tmp_path: Path, path: str, file: str, content: str) -> None:
    """A cgroup's directory with a file."""
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / file).write_text(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("populated 1\nfrozen 1\n", True), ("populated 1\nfrozen 0\n", False), ("frozen 10\n", False), ("", False)],
    ids=["frozen", "thawed", "another number", "nothing"],
)
def test_version_2(content: str, expected: bool, tmp_path: Path) -> None:
    """There cgroup.events says it, in a line of its own."""
    proc = table(tmp_path, ("", "tmpfs", ""), ("unified", "cgroup2", ""))
    cgroup(tmp_path, "unified/a/b", "cgroup.events", content)
    assert is_frozen("a/b", proc=proc) is expected


@pytest.mark.parametrize(("content", "expected"), [("FROZEN\n", True), ("THAWED\n", False), ("FREEZING\n", False)])
def test_version_1(content: str, expected: bool, tmp_path: Path) -> None:
    """There the freezer's hierarchy says it, also where one of version 2 is mounted beside it that lacks the cgroup."""
    proc = table(tmp_path, ("unified", "cgroup2", ""), ("cpu", "cgroup", ",cpu"), ("f", "cgroup", ",freezer,net_cls"))
    cgroup(tmp_path, "f/a", "freezer.state", content)
    assert is_frozen("a", proc=proc) is expected


def test_what_is_not_there_is_not_frozen(tmp_path: Path) -> None:
    """Without the cgroup, without a freezer, and without any hierarchy there is nothing that could be frozen."""
    proc = table(tmp_path, ("unified", "cgroup2", ""), ("cpu", "cgroup", ",cpu"))
    assert not is_frozen("a", proc=proc)


def test_a_mount_point_is_written_in_escapes() -> None:
    """Blanks, tabs, line ends and backslashes of a mount point stand in octal numbers."""
    line = FRONT.format(r"/a\040b\134c\011d\012e", "cgroup2", "cgroup2", "")
    assert list(freezers(f"{line}\n")) == [("/a b\\c\td\ne", True)]
