"""Version 2, the memory controller: acted on by its files."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.seen import Seen


@behaviour("cgroup-v2.memory.unaligned-rounds-up", subject="stand-in")
def test_limit_between_two_pages(unified: Path, seen: Seen) -> None:
    """A memory.max of one byte more than a page reads back as two pages."""
    page = resource.getpagesize()
    (unified / "cgroup.subtree_control").write_text("+memory")
    (unified / "limited").mkdir()

    (unified / "limited/memory.max").write_text(str(page + 1))

    assert seen(int((unified / "limited/memory.max").read_text())) == 2 * page
