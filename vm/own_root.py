"""Takes a root of the user's own for the guest: a folder, a tar archive or a cpio archive.

What a machine needs of it: Python 3.11 or later, a shell, modprobe and ip. Everything else is the user's business.
Device nodes, sockets and named pipes are left out: the guest's /dev is made by its kernel.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from kernelproof.vm.cache import digest_file
from kernelproof.vm.cpio import Member, make_directory, make_file, read_newc, write_newc
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_types import Root
from kernelproof.vm.provision_unpack import Tree
from kernelproof.vm.root import complete

RECIPE = 1  # raised when what is made of the same files changes
OLDEST_PYTHON = (3, 11)
PACKAGES_PLACE = "usr/lib/python3/dist-packages"  # where the site archive fills in
_PYTHON = re.compile(r"python(3\.[0-9]+)")
_PROGRAM_FOLDERS = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
_CPIO, _GZIP = (b"070701", b"070702"), b"\x1f\x8b"


def provide_own_root(context: Provisioning, source: Path) -> Root:
    """The root, from the cache or made.

    Raises:
        ProvisionError: it can't be read, or lacks what a machine needs.
    """
    try:
        record = {"own": digest_source(source), "recipe": RECIPE}
    except OSError as error:
        raise _unreadable(source, error.strerror or str(error)) from error

    def build(work: Path) -> None:
        context.progress.step(f"read guest root {source.name}")
        tree = read_own_root(source)
        python = check_own_root(tree, source)
        complete(tree)
        _link_packages(tree, python)
        with (work / "root.cpio").open("wb") as file:
            write_newc(file, tree.members())
        (work / "facts.json").write_text(json.dumps({"python": python, "packages": []}), "utf-8")

    digest = context.build("root", record, build)
    folder = context.cache.path("root", digest)
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    return Root(folder / "root.cpio", digest, facts["python"], ())


def digest_source(source: Path) -> str:
    """What tells one root from another: the content of an archive; of a folder, its paths, sizes, times and modes.

    Raises:
        OSError: it can't be read.
    """
    if not source.is_dir():
        return digest_file(source)
    lines = sha256()
    for path in _walk(source):
        status = path.lstat()
        seen = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_uid, status.st_gid)
        lines.update(f"{path.relative_to(source)} {seen}\n".encode("utf-8", "surrogateescape"))
    return lines.hexdigest()


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        yield from (Path(place, name) for name in sorted((*folders, *names)))


def _raise(error: OSError) -> None:
    raise error


def _unreadable(source: Path, detail: str) -> ProvisionError:
    remedy = "name a folder, a tar archive or a cpio archive (newc) that can be read and is whole"
    return ProvisionError("read guest root", str(source), detail, remedy)


def read_own_root(source: Path) -> Tree:
    """Everything that is in it, as an archive's members.

    Raises:
        ProvisionError: it can't be read, is no archive that is known, is torn, or a path in it leaves it.
    """
    tree = Tree()
    try:
        for member in _read_members(source):
            if member.path != ".":
                tree.add(member)
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise _unreadable(source, str(error)) from error
    return tree


def _read_members(source: Path) -> Iterator[Member]:
    if source.is_dir():
        return _read_folder(source)
    with source.open("rb") as file:
        head = file.read(6)
        if head in _CPIO:
            return _keep_cpio(source.read_bytes())
        if head.startswith(_GZIP):
            with gzip.open(source) as unpacked:
                if unpacked.read(6) in _CPIO:
                    unpacked.seek(0)
                    return _keep_cpio(unpacked.read())
    return _read_tar(source)


def _read_folder(folder: Path) -> Iterator[Member]:
    own = os.geteuid()
    for path in _walk(folder):
        status = path.lstat()
        data = b""
        if stat.S_ISREG(status.st_mode):
            data = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            data = os.fsencode(os.readlink(path))
        elif not stat.S_ISDIR(status.st_mode):
            continue
        # What an ordinary user unpacked is the user's here, and root's in the guest.
        owner = (0, 0) if status.st_uid == own else (status.st_uid, status.st_gid)
        yield Member(path.relative_to(folder).as_posix(), status.st_mode, data, *owner)


def _keep_cpio(data: bytes) -> Iterator[Member]:
    for member in read_newc(data):
        if stat.S_ISREG(member.mode) or stat.S_ISDIR(member.mode) or stat.S_ISLNK(member.mode):
            yield member


def _read_tar(source: Path) -> Iterator[Member]:
    with tarfile.open(source) as archive:
        contents: dict[str, bytes] = {}
        for entry in archive:
            path = entry.name.removeprefix("./").strip("/")
            if path in ("", "."):
                continue
            if entry.isreg():
                file = archive.extractfile(entry)
                assert file is not None  # it is a regular file
                contents[entry.name] = file.read()
                yield Member(path, stat.S_IFREG | entry.mode, contents[entry.name], entry.uid, entry.gid)
            elif entry.islnk():
                data = contents.get(entry.linkname)
                if data is None:
                    raise ValueError(f"{path} is a hard link to {entry.linkname}, which is not before it")
                yield Member(path, stat.S_IFREG | entry.mode, data, entry.uid, entry.gid)
            elif entry.issym():
                target = entry.linkname.encode("utf-8", "surrogateescape")
                yield Member(path, stat.S_IFLNK | 0o777, target, entry.uid, entry.gid)
            elif entry.isdir():
                yield Member(path, stat.S_IFDIR | entry.mode, b"", entry.uid, entry.gid)


def check_own_root(tree: Tree, source: Path) -> str:
    """Look whether a machine can run on it; returns its Python: `3.13`.

    Raises:
        ProvisionError: names everything that is missing.
    """
    programs = {name for name in ("python3", "sh", "modprobe", "ip") if _find_program(tree, name) is not None}
    missing = [name for name in ("sh", "modprobe", "ip") if name not in programs]
    python = _find_python(tree)
    if "python3" not in programs or python is None or tuple(map(int, python.split("."))) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        missing.insert(0, f"python3 of {oldest} or later ({'found ' + python if python else 'none'})")
    if python is None or missing:
        remedy = "install what is missing into it, for x86-64 (kmod has modprobe, iproute2 has ip)"
        raise ProvisionError("use guest root", str(source), f"no {', no '.join(missing)} in it", remedy)
    return python


def _find_program(tree: Tree, name: str) -> Member | None:
    return next((tree[f"{folder}/{name}"] for folder in _PROGRAM_FOLDERS if f"{folder}/{name}" in tree), None)


def _find_python(tree: Tree) -> str | None:
    program = _find_program(tree, "python3")
    if program is not None and stat.S_ISLNK(program.mode):
        named = _PYTHON.search(program.data.decode("utf-8", "replace"))
        if named is not None:
            return named[1]
    found = {named[1] for member in tree.members() if (named := _LIBRARY.fullmatch(member.path))}
    return found.pop() if len(found) == 1 else None


_LIBRARY = re.compile(r"usr(?:/local)?/lib(?:64)?/python(3\.[0-9]+)/os\.py")


def _link_packages(tree: Tree, python: str) -> None:
    # Other distributions' Pythons don't look where Debian's does.
    if PACKAGES_PLACE in tree:
        return
    tree.add(make_directory(PACKAGES_PLACE))
    for member in list(tree.members()):
        if _LIBRARY.fullmatch(member.path) and f"/python{python}/" in member.path:
            site = f"{member.path.removesuffix('/os.py')}/site-packages"
            tree.add(make_file(f"{site}/kernelproof.pth", f"/{PACKAGES_PLACE}\n".encode()))
