"""Options about what machines are made of, for every sub-command that makes some; pytest has the same ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from kernelproof.cli import own_kernel
from kernelproof.vm.wishes import Wishes, read_wishes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--kernel-image`, `--modules`, `--kernel-tree`, `--guest-root`, `--append` and `--package`."""
    own_kernel.add_arguments(parser)
    parser.add_argument(
        "--guest-root", type=Path, metavar="PATH", help="a root in place of Debian's: folder, tar, cpio"
    )
    text = "words for the kernel's command line; more than once adds more"
    parser.add_argument("--append", metavar="WORDS", action="append", default=[], help=text)
    text = "a Debian package beside those of the profile; more than once adds more"
    parser.add_argument("--package", metavar="NAME", action="append", default=[], help=text)


def read(arguments: argparse.Namespace) -> Wishes:
    """What the options say.

    Raises:
        ProvisionError: options that do not go together, or a kernel that is none.
    """
    return read_wishes(
        image=arguments.kernel_image,
        modules=arguments.modules,
        tree=arguments.kernel_tree,
        guest_root=arguments.guest_root,
        append=arguments.append,
        packages=arguments.package,
    )
