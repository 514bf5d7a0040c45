"""What a user wants of machines beside a kernel of the table, a profile and a kind of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.own_kernel import OwnKernel, find_own_kernel


@dataclass(frozen=True, slots=True)
class Wishes:
    """Nothing, if nothing is said.

    Args:
        kernel: A kernel of the user's own; machines are made with it where its name is asked for.
        guest_root: A root of the user's own, in place of Debian's.
        packages: Debian packages of the guest beside those of its profile.
        words: Kernel command line words behind those of the profile.
    """

    kernel: OwnKernel | None = None
    guest_root: Path | None = None
    packages: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.guest_root is not None and self.packages:
            named = ", ".join(self.packages)
            remedy = "install them into that root"
            raise ProvisionError("choose guest root", f"--package {named}", "is for Debian's own root", remedy)


NO_WISHES = Wishes()


def read_wishes(
    *,
    image: Path | None = None,
    modules: Path | None = None,
    tree: Path | None = None,
    guest_root: Path | None = None,
    append: Sequence[str] = (),
    packages: Sequence[str] = (),
) -> Wishes:
    """The wishes that options express.

    Args:
        image: `--kernel-image`.
        modules: `--modules`.
        tree: `--kernel-tree`.
        guest_root: `--guest-root`.
        append: Each `--append`, words with spaces between them.
        packages: Each `--package`.

    Raises:
        ProvisionError: options that do not go together, or a kernel that is none.
    """
    own = None if image is None and tree is None else find_own_kernel(image, modules, tree)
    if own is None and modules is not None:
        remedy = "name their kernel with --kernel-image or --kernel-tree"
        raise ProvisionError("choose kernel", f"--modules {modules}", "modules without their kernel", remedy)
    if guest_root is not None and not guest_root.exists():
        remedy = "name a folder, a tar archive or a cpio archive"
        raise ProvisionError("choose guest root", str(guest_root), "not there", remedy)
    words = tuple(word for text in append for word in text.split())
    return Wishes(own, None if guest_root is None else guest_root.absolute(), tuple(packages), words)
