"""Makes a kernel's modules ready for a guest: uncompressed, indexed, nothing else beside them.

Uncompressed, because a guest under emulation pays for each byte that it unpacks, in every clone that loads one.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kernelproof.vm.cpio import Member, make_directory, make_file
from kernelproof.vm.provision_tools import Tools
from kernelproof.vm.provision_unpack import WORKERS, Tree, lay_down

MODULES = "usr/lib/modules"
_LEFT_OUT = ("vmlinuz", "vmlinux", "config", "System.map", "build", "source", "symvers.gz", "symvers.xz", "vdso")
_ZSTD = ".ko.zst"
_SIGNED = b"~Module signature appended~\n"
_BATCH = 500  # paths in one command line


def plan_modules(tree: Tree, release: str, tools: Tools, place: Path) -> Tree:
    """The modules of `release`, uncompressed, without the image, the symbols and links into source trees.

    Args:
        tree: With the modules at `usr/lib/modules/RELEASE`.
        release: Of the kernel.
        tools: Uncompress what the standard library can't.
        place: A folder for what lies about meanwhile.

    Raises:
        ValueError: a module can't be uncompressed.
        ProvisionError: a program failed.
    """
    below = f"{MODULES}/{release}/"
    wanted = [
        member
        for member in tree.members()
        if member.path.startswith(below) and member.path[len(below) :].partition("/")[0] not in _LEFT_OUT
    ]
    modules = Tree()
    modules.add(make_directory(f"{MODULES}/{release}"))
    with ThreadPoolExecutor(WORKERS) as pool:  # lzma lets go of the interpreter's lock
        for member in pool.map(_uncompress, [member for member in wanted if not member.path.endswith(_ZSTD)]):
            modules.add(member)
    for member in _uncompress_zstd([member for member in wanted if member.path.endswith(_ZSTD)], tools, place):
        modules.add(member)
    return modules


def _uncompress(member: Member) -> Member:
    try:
        if member.path.endswith(".ko.xz"):
            return replace(member, path=member.path.removesuffix(".xz"), data=lzma.decompress(member.data))
        if member.path.endswith(".ko.gz"):
            return replace(member, path=member.path.removesuffix(".gz"), data=gzip.decompress(member.data))
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
        raise ValueError(f"{member.path}: {error}") from error
    return member


def _uncompress_zstd(members: Sequence[Member], tools: Tools, place: Path) -> Iterator[Member]:
    # All in one go: a process a module would take half a minute.
    if not members:
        return
    with TemporaryDirectory(dir=place) as name:
        scratch = Path(name)
        lay_down(members, scratch)
        words = ["-d", "-q", "-r", "--rm", str(scratch)]
        tools.run("zstd", words, step="uncompress modules", subject=members[0].path)
        for member in members:
            path = member.path.removesuffix(".zst")
            if not (scratch / path).is_file():
                raise ValueError(f"{member.path}: zstd made nothing of it")
            yield replace(member, path=path, data=(scratch / path).read_bytes())


def index_modules(modules: Tree, tools: Tools, release: str, place: Path) -> None:
    """Add `modules.dep` and its kin, which no package has; the guest's own kmod makes them.

    Raises:
        ProvisionError: depmod failed.
        OSError: files can't be written at `place`.
    """
    with TemporaryDirectory(dir=place) as name:
        scratch = Path(name)
        lay_down(modules.members(), scratch)
        (scratch / "lib").symlink_to("usr/lib")
        tools.run("depmod", ["-b", str(scratch), release], step="index modules", subject=release)
        for path in sorted((scratch / MODULES / release).glob("modules.*")):
            modules.add(make_file(str(path.relative_to(scratch)), path.read_bytes()))


def strip_modules(modules: Tree, place: Path) -> None:
    """Take out what debuggers read, as `make INSTALL_MOD_STRIP=1 modules_install` would, if strip(1) is there.

    It would cost a guest hundreds of MB of memory. A signed module stays as it is: its signature covers all of it.

    Raises:
        OSError: files can't be written at `place`.
    """
    program = shutil.which("strip")
    wanted = [member for member in modules.members() if _has_debug_sections(member)]
    if program is None or not wanted:
        return
    with TemporaryDirectory(dir=place) as name:
        scratch = Path(name)
        lay_down(wanted, scratch)
        for start in range(0, len(wanted), _BATCH):
            paths = [str(scratch / member.path) for member in wanted[start : start + _BATCH]]
            subprocess.run([program, "--strip-debug", "--", *paths], check=False, capture_output=True)
        for member in wanted:
            modules.add(replace(member, data=(scratch / member.path).read_bytes()))


def _has_debug_sections(member: Member) -> bool:
    return member.path.endswith(".ko") and b"\0.debug_info\0" in member.data and not member.data.endswith(_SIGNED)
