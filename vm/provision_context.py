"""One provisioning: a cache, someone to tell, and apt, which is only started when something is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kernelproof.vm.apt import Apt, AptSettings
from kernelproof.vm.apt_settings import read_apt_settings
from kernelproof.vm.cache import Cache, digest_record
from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.provision_types import Progress


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished entry of the cache."""

    folder: Path
    digest: str


class Provisioning:
    """A context manager; whoever misses something in it holds the lock of apt's folder until its end.

    Args:
        cache: Where things are kept.
        progress: Is told what is done.
        read_settings: Says what this machine is configured for, when it is first asked.
        suites: Of the archive: what guests and tools are made of; by default those of this host's distribution.
    """

    def __init__(
        self,
        cache: Cache,
        progress: Progress,
        read_settings: Callable[[], AptSettings] = read_apt_settings,
        suites: tuple[str, ...] = (),
    ) -> None:
        self.cache = cache
        self.progress = progress
        self.suites = suites or read_distribution().guest
        self._read_settings = read_settings
        self._stack = ExitStack()
        self._apt: Apt | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apt = None
        self._stack.close()

    def apt(self) -> Apt:
        """apt, under a lock that is held from now on.

        Raises:
            ProvisionError: this machine's settings can't be read, or the cache can't be written to.
        """
        if self._apt is None:
            folder = self.cache.folder("apt")
            self._stack.enter_context(self.cache.locked("apt", "apt", self._tell_waiting))
            self._apt = Apt(folder, self._read_settings(), self.progress)
        return self._apt

    def _tell_waiting(self) -> None:
        self.progress.step("wait for another run that fetches packages")

    def provide(self, kind: str, request: Mapping[str, object], make: Callable[[Apt], str]) -> Entry:
        """The entry that `request` led to before, or the one that `make` makes and whose digest it returns.

        Raises:
            ProvisionError: it could not be made.
        """
        key = digest_record(request)
        entry = self._recall(kind, key)
        if entry is not None:
            return entry
        apt = self.apt()
        entry = self._recall(kind, key)  # another run may have made it while we waited
        if entry is None:
            digest = make(apt)
            self.cache.remember(kind, key, digest)
            entry = Entry(self.cache.path(kind, digest), digest)
        return entry

    def _recall(self, kind: str, key: str) -> Entry | None:
        digest = self.cache.recall(kind, key)
        folder = None if digest is None else self.cache.find(kind, digest)
        return None if digest is None or folder is None else Entry(folder, digest)

    def build(self, kind: str, record: Mapping[str, object], write: Callable[[Path], None]) -> str:
        """Make the entry that `record` describes, unless it is there, and return its digest.

        Args:
            kind: The kind of entry.
            record: Everything that the entry depends on.
            write: Fills an empty folder with it.

        Raises:
            ProvisionError: the cache can't be written to.
        """
        digest = digest_record(record)
        with self.cache.locked(kind, digest):
            if self.cache.find(kind, digest) is None:
                with self.cache.building(kind, digest) as work:
                    write(work)
        return digest
