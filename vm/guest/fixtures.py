"""Fixtures for tests in machines: cgroup hierarchies, the scratch disc, power cuts.

pytest loads this module on the host too, so that `--fixtures` lists them: it imports nothing that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_REMEDY = "ask for the profile that has it: @pytest.mark.machine(profile='disk')"


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a cgroup hierarchy: `hierarchy("v1", "memory")`, `hierarchy("v1", "name=x")`, `hierarchy("v2")`.

    Returns its mount point, a new folder or what `at=` names. A kernel that lacks it skips the test with that reason.
    """
    # Imported here: a pytest that asks for no machine must not pay for ctypes.
    from kernelproof.vm.guest.hierarchies import NoSuchHierarchy, mount_hierarchy, unmount_hierarchy

    mounted: list[Path] = []

    def mount_one(version: str, *controllers: str, at: Path | None = None) -> Path:
        try:
            place = mount_hierarchy(version, controllers, at or tmp_path / f"hierarchy-{len(mounted)}")
        except NoSuchHierarchy as reason:
            pytest.skip(f"not applicable: {reason}")
        mounted.append(place)
        return place

    yield mount_one
    for place in reversed(mounted):
        unmount_hierarchy(place)


@pytest.fixture
def scratch_disc() -> Path:
    """Return the block device of the machine's scratch disc, empty; profile `disk`."""
    disc = Path("/dev/disc/scratch")
    if not disc.is_block_device():
        raise LookupError(f"{disc}: this machine has no scratch disc; {_REMEDY}")
    return disc


@pytest.fixture
def power_cut(scratch_disc: Path) -> Callable[[], Path]:
    """Cut the power of the scratch disc: `power_cut()` returns a second disc that holds what the first had flushed.

    Mount that one (not the first again) and look. Good once in a test; profile `disk`.
    """
    # Imported here for the same reason as above.
    from kernelproof.vm.guest.power import cut

    done: list[Path] = []

    def cut_once() -> Path:
        if done:
            raise RuntimeError("the power of a machine's disc can be cut once: use one test a cut")
        after, _ = cut(scratch_disc.name)
        done.append(after)
        return after

    return cut_once
