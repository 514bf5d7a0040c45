"""To whom tests give files, and somebody who works against them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

UID, GID = os.geteuid(), os.getegid()
# Root can give files away; others test with their own ids, which shows less.
OTHER = (UID, GID) if UID else (4242, 4343)
as_root = pytest.mark.skipif(UID != 0, reason="only root gives files to others")


def owner_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


class Swapper:
    """A thread that exchanges root/way for a link out of the root and back, all the time."""

    def __init__(self, root: Path, victim: Path) -> None:
        self.way, self.link, self.kept = root / "way", root / "link", root / "kept"
        self.victim = victim
        self.swaps = self.repairs = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Swapper:
        self.link.symlink_to(self.victim)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                self.way.rename(self.kept)
                self.link.rename(self.way)
                self.way.rename(self.link)
                self.kept.rename(self.way)
                self.swaps += 1
            except OSError:  # the other side made a directory in the gap
                with suppress(OSError):
                    self._repair()

    def _repair(self) -> None:
        if self.way.is_symlink():
            self.way.rename(self.link)
        if self.kept.exists() and self.way.exists():
            self.repairs += 1
            self.kept.rename(self.kept.with_name(f"kept{self.repairs}"))
        elif self.kept.exists():
            self.kept.rename(self.way)

    def wait_for(self, swaps: int) -> Iterator[int]:
        """Count up until there were so many swaps, and a thousandth of that counted."""
        number = 0
        deadline = time.monotonic() + 600
        while self.swaps < swaps or number < swaps // 1000 + 100:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            number += 1
            yield number
