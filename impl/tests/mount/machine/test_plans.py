"""Plans of mounts: printed, done, and undone if they fail halfway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount import MountSpec, MountTable, Root, perform_mounts, plan_mounts

pytestmark = pytest.mark.machine

SPECS = [
    MountSpec("/etc/hostname", "etc/name", "none", "bind"),
    MountSpec("deep", "x/y", "tmpfs", "size=64k"),
    MountSpec("upper", "x", "tmpfs", "nosuid"),
    MountSpec("proc", "proc", "proc", "nosuid,noexec,nodev"),
]


def test_plan_is_text_before_it_is_done(place: Path) -> None:
    """A plan says each call in words, a mount that is above another one first; nothing is mounted by it."""
    before = MountTable.read()
    plan = plan_mounts([*SPECS, MountSpec("/srv", "srv", "none", "rbind,rro,rslave")])
    assert [step.describe() for step in plan] == [
        "open_tree '/etc/hostname'",
        "move_mount to 'etc/name', a file",
        "fsopen proc from 'proc', NOSUID|NODEV|NOEXEC",
        "move_mount to 'proc', a directory",
        "open_tree '/srv' and all below it",
        "mount_setattr: set RDONLY, recursive",
        "mount_setattr: make SLAVE, recursive",
        "move_mount to 'srv', a directory",
        "fsopen tmpfs from 'upper', NOSUID",
        "move_mount to 'x', a directory",
        "fsopen tmpfs from 'deep' with size=64k, 0",
        "move_mount to 'x/y', a directory",
    ]
    assert before.diff(MountTable.read()) == ()
    with pytest.raises(mount.OptionError, match="two mounts at"):
        plan_mounts([SPECS[0], SPECS[0]._replace(target="/etc/./name")])


def perform_one_by_one(specs: Sequence[MountSpec], root: Path) -> None:
    """What a loop over mount(8) does."""
    for spec in sorted(specs, key=lambda each: each.target):
        (root / spec.target).mkdir(parents=True, exist_ok=True)
        mount.force_mount(spec.source, root / spec.target, spec.fstype, spec.options)


def perform_planned(specs: Sequence[MountSpec], root: Path) -> None:
    """Ours."""
    with Root(root) as inside:
        perform_mounts(plan_mounts(specs), inside)


@pytest.mark.rule("M+3")
@pytest.mark.parametrize(("do", "left"), [(perform_one_by_one, 2), (perform_planned, 0)], ids=["one by one", "planned"])
def test_failure_leaves_nothing(place: Path, do: Callable[[Sequence[MountSpec], Path], None], left: int) -> None:
    """If the third of three mounts is refused the first two are taken off again; a loop leaves them."""
    specs = [MountSpec("one", "a", "tmpfs"), MountSpec("two", "b", "tmpfs"), MountSpec("three", "c", "tmpfs", "bad=1")]
    with pytest.raises(OSError, match=r".") as refused:
        do(specs, place)
    assert len(MountTable.read().below(place)) == 1 + left
    if not left:
        assert any("step 5 of 6: fsopen tmpfs from 'three' with bad=1" in note for note in refused.value.__notes__)


@pytest.mark.rule("M+3")
def test_plan_is_done(place: Path) -> None:
    """All that was planned is mounted, below the root."""
    with Root(place / "a") as root:
        assert perform_mounts(plan_mounts(SPECS), root) == ("etc/name", "proc", "x", "x/y")
    found = {each.mount_point[len(str(place)) :]: each.fstype for each in MountTable.read().below(place / "a")}
    assert {"/a/proc": "proc", "/a/x": "tmpfs", "/a/x/y": "tmpfs"}.items() <= found.items()
    assert (place / "a/etc/name").read_text() == Path("/etc/hostname").read_text()
