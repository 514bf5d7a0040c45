"""What provisioning hands over, and what it reports to. Records only; `kernelproof.vm.provision` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """What provisioning and templates report to."""

    def step(self, text: str) -> None:
        """A new step begins; the one before is over."""

    def advance(self, done: float, total: float) -> None:
        """The step is so far, in any unit."""

    def note(self, text: str) -> None:
        """Something the user should know although it stops nothing."""


class SilentProgress:
    """Tells nothing but notes, which it keeps."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, text: str) -> None:
        """Told to nobody."""

    def advance(self, done: float, total: float) -> None:
        """Told to nobody."""

    def note(self, text: str) -> None:
        """Kept in `notes`."""
        self.notes.append(text)


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that can be started.

    Args:
        executable: The program.
        version: As it says itself.
        arguments: Come first on its command line (`-L FOLDER` for one that is not installed).
        environment: To be added to its environment (`LD_LIBRARY_PATH` likewise).
        origin: `system`, `installed` (by us, just now) or `cache`.
    """

    executable: Path
    version: tuple[int, int, int]
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    origin: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, ready to be booted.

    Args:
        series: The row of `kernels.toml`, or the first two numbers of the release: `6.12`.
        release: What `uname -r` says.
        package: The package that its image came from; empty for one of the user's own.
        build: That package's Debian version; what `uname -v` says for one of the user's own.
        vmlinux: The uncompressed ELF image with a PVH entry, or a bzImage.
        config: The configuration it was built with, None if that is not known.
        modules_cpio: Its modules, uncompressed, with `modules.dep`, and `/boot/config-RELEASE`; an archive to be
            put behind the root's.
        digest: Of the packages and of the recipe that made this.
        config_digest: SHA-256 of `config`, empty if that is not known.
        name: What results are filed under, where that is not the series: `image-RELEASE`.
    """

    series: str
    release: str
    package: str
    build: str
    vmlinux: Path
    config: Path | None
    modules_cpio: Path
    digest: str
    config_digest: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Root:
    """The guest's user land.

    Args:
        cpio: An uncompressed archive, without kernel modules, `/init` and agent.
        digest: Of the packages and of the recipe that made it.
        python: The guest's Python: `3.13`.
        packages: The packages in it, as `NAME=VERSION`.
    """

    cpio: Path
    digest: str
    python: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """The guest's Python packages.

    Args:
        cpio: An uncompressed archive that fills `/usr/lib/python3/dist-packages`.
        digest: Of the files and of the recipe that made it.
        packages: What is in it, as `NAME==VERSION`.
    """

    cpio: Path
    digest: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """All that a machine is made of."""

    qemu: Qemu
    kernel: Kernel
    root: Root
    site: Site
