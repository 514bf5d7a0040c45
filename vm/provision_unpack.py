"""Unpacks Debian packages without installing them: no root, no chroot, no maintainer script.

What a package holds becomes members of an archive, with the owners its author gave them; on the host's disk only
programs are laid that run there through their own loader.
"""

from __future__ import annotations

import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from kernelproof.vm.cpio import Member, check_path, make_directory, make_link
from kernelproof.vm.errors import ProvisionError

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr since Debian 12; older packages differ
WORKERS = 2  # dpkg-deb decompresses beside us


class Tree:
    """Members of an archive by path, with parents before children and links into /usr followed."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._members

    def __getitem__(self, path: str) -> Member:
        return self._members[path]

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Member) -> None:
        """Put a member in, in place of one of the same path; missing parents are made.

        Raises:
            ValueError: the path leaves the tree, or a parent of it is no directory.
        """
        path = _merge(member.path)
        check_path(path)
        if path in MERGED:
            member = make_link(path, f"usr/{path}")
        parent = path.rpartition("/")[0]
        if parent and parent not in self._members:
            self.add(make_directory(parent))
        if parent and not stat.S_ISDIR(self._members[_merge(parent)].mode):
            raise ValueError(f"{path}: {parent} is no directory")
        self._members[path] = member if member.path == path else replace(member, path=path)

    def add_missing(self, member: Member) -> None:
        """Put a member in unless there is one of that path."""
        if _merge(member.path) not in self._members:
            self.add(member)

    def remove(self, unwanted: Callable[[str], bool]) -> None:
        """Take out every member whose path is unwanted."""
        self._members = {path: member for path, member in self._members.items() if not unwanted(path)}

    def members(self) -> Iterator[Member]:
        """All members, sorted by path, so that equal trees give equal archives."""
        for path in sorted(self._members):
            yield self._members[path]


def _merge(path: str) -> str:
    first, slash, rest = path.partition("/")
    return f"usr/{first}/{rest}" if slash and first in MERGED else path


def read_packages(debs: Sequence[Path], keep: Callable[[str], bool]) -> Tree:
    """Everything that is in the package files `debs` and whose path `keep` wants; later packages win.

    Raises:
        ProvisionError: a file is no package, or holds a path or a kind of file that no package may hold.
    """
    tree = Tree()
    with ThreadPoolExecutor(WORKERS) as pool:
        for deb, members in zip(debs, pool.map(lambda deb: _read_package(deb, keep), debs), strict=True):
            try:
                for member in members:
                    tree.add(member)
            except ValueError as error:
                raise _broken(deb, str(error)) from error
    return tree


def _read_package(deb: Path, keep: Callable[[str], bool]) -> list[Member]:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            output = cast(IO[bytes], process.stdout)
            with tarfile.open(fileobj=output, mode="r|") as archive:
                members = list(_read_members(archive, keep))
            output.read()  # what stands behind the end mark
            errors = cast(IO[bytes], process.stderr).read()
    except FileNotFoundError as error:
        raise ProvisionError("unpack package", deb.name, "dpkg-deb: not found", "use a Debian host") from error
    except (tarfile.TarError, ValueError) as error:
        raise _broken(deb, str(error)) from error
    if process.returncode:
        raise _broken(deb, errors.decode(errors="replace").strip())
    return members


def _read_members(archive: tarfile.TarFile, keep: Callable[[str], bool]) -> Iterator[Member]:
    contents: dict[str, bytes] = {}
    for entry in archive:
        path = entry.name.removeprefix("./").rstrip("/")
        if path in ("", ".") or not keep(_merge(path)):
            continue
        member = Member(path, _file_type(entry) | entry.mode, uid=entry.uid, gid=entry.gid)
        if entry.isreg():
            file = cast(IO[bytes], archive.extractfile(entry))
            contents[entry.name] = file.read()
            member = replace(member, data=contents[entry.name])
        elif entry.issym():
            member = replace(member, data=entry.linkname.encode("utf-8", "surrogateescape"))
        elif entry.islnk():
            member = replace(member, data=contents[entry.linkname])
        yield member


def _file_type(entry: tarfile.TarInfo) -> int:
    if entry.isreg() or entry.islnk():
        return stat.S_IFREG
    if entry.isdir():
        return stat.S_IFDIR
    if entry.issym():
        return stat.S_IFLNK
    raise ValueError(f"{entry.name}: neither file, directory nor link")


def _broken(deb: Path, detail: str) -> ProvisionError:
    return ProvisionError("unpack package", str(deb), detail, "remove that file: it is fetched again")


def lay_down(members: Iterable[Member], folder: Path) -> None:
    """Write members below `folder`, as files of whoever runs this; links last, device nodes never.

    Raises:
        OSError: as for the calls that make files: ENOSPC, EDQUOT, EROFS, EACCES.
    """
    links = []
    for member in members:
        path = folder / member.path
        if stat.S_ISDIR(member.mode):
            path.mkdir(parents=True, exist_ok=True)
        elif stat.S_ISLNK(member.mode):
            links.append((path, member.data))
        elif stat.S_ISREG(member.mode):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
            path.chmod(stat.S_IMODE(member.mode) & 0o755 | 0o600)
    for path, target in links:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target.decode("utf-8", "surrogateescape"))
