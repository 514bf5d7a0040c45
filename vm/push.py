"""Which files of a project go into a machine, and their archive.

They lie in the guest at the host's absolute paths. Files that git tracks or does not ignore; without git all small
ones; in any case the files that hold tests, what pytest reads on the way to them, and the kernelproof package.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from kernelproof.vm.bytecode import Bytecode
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.guest.bundle import FILE, LINK, MAGIC, pack_member

TOTAL_LIMIT = 64 * 1024 * 1024  # bytes of all files together
SMALL_FILE = 1024 * 1024  # bytes: without git, larger files are taken for data or build products

_CHAIN = ("conftest.py", "__init__.py")  # what pytest and import read above a test file
_TEST_NAME = re.compile(r"test_.*\.py|.*_test\.py")  # as pytest has it unless it is told otherwise
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist"})


def list_git_files(root: Path) -> list[Path] | None:
    """What git tracks below `root` and what it does not ignore there; None without git or outside a work tree."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    return sorted({root / os.fsdecode(name) for name in done.stdout.split(b"\0") if name and not _is_made(name)})


def _is_made(name: bytes) -> bool:
    # Bytecode of the host's Python, in a project that does not ignore it. The guest's is kept elsewhere.
    return name.endswith(b".pyc") and b"__pycache__" in name


def list_small_files(root: Path) -> list[Path]:
    """All files below `root` of at most `SMALL_FILE` bytes, hidden and generated folders left out."""
    return sorted(_walk(root, SMALL_FILE))


def _walk(root: Path, limit_bytes: int) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS and not name.startswith(".") and not _is_environment(folder, name)
        ]
        for name in (*names, *links):
            path = Path(folder, name)
            if not name.endswith(".pyc") and path.lstat().st_size <= limit_bytes:
                yield path


def _is_environment(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def list_package_files(package: Path) -> list[Path]:
    """The files of an installed kernelproof, its links followed: the package is whole wherever its parts lie."""
    files = []
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in ("tests", "__pycache__"))
        files += [Path(folder, name) for name in names if not name.endswith(".pyc")]
    return sorted(files)


def list_chain(files: Iterable[Path], root: Path) -> set[Path]:
    """The conftests and package files that pytest reads on the way to these test files.

    Args:
        files: Test files, absolute.
        root: Where the chain of a file below it ends; of others it ends at `/`.
    """
    folders = {
        folder for file in files for folder in file.parents if folder.is_relative_to(root) or root not in file.parents
    }
    return {path for folder in folders for name in _CHAIN if (path := folder / name).is_file()}


def plan_files(root: Path, tests: Sequence[Path], also: Iterable[Path], patterns: Sequence[str]) -> list[Path]:
    """All files that a machine gets, absolute.

    Args:
        root: The project's root.
        tests: The files that hold the selected tests.
        also: Other files that must be there.
        patterns: If any, of the project's files only those that they choose, as `is_chosen` says.
    """
    listed = list_git_files(root)
    project = list_small_files(root) if listed is None else listed
    if patterns:
        project = [path for path in project if is_chosen(str(path.relative_to(root)), patterns)]
    return sorted({*project, *tests, *list_chain(tests, root), *also})


def is_chosen(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path matches one of the patterns, and none of those that begin with `!`; these alone leave all else."""
    wanted = [text for text in patterns if not text.startswith("!")]
    unwanted = (text[1:] for text in patterns if text.startswith("!"))
    return (not wanted or any(fnmatch(path, text) for text in wanted)) and not any(
        fnmatch(path, text) for text in unwanted
    )


def pack(files: Iterable[Path]) -> bytes:
    """An uncompressed tar archive of these files, to be unpacked at `/`, everything owned by root.

    Files that vanished, and what is neither a regular file nor a symbolic link, are left out.

    Raises:
        ProvisionError: more than `TOTAL_LIMIT` bytes.
        OSError: a file can't be read.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in read_files(files):
            member = tarfile.TarInfo(str(file.path).lstrip("/"))
            member.mode, member.mtime = stat.S_IMODE(file.mode), file.changed
            if stat.S_ISLNK(file.mode):
                member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(file.content)
                archive.addfile(member)
            else:
                member.size = len(file.content)
                archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """A file as it was read once: what is packed and what the digest is of are the same, whatever is saved meanwhile.

    Args:
        path: Where it lies, absolute.
        mode: Its `st_mode`: a regular file, or a symbolic link.
        changed: When it was changed, in whole seconds.
        content: Its bytes; of a link where it leads.
    """

    path: Path
    mode: int
    changed: int
    content: bytes


def read_files(paths: Iterable[Path]) -> list[ProjectFile]:
    """Read files. What vanished, and what is neither a regular file nor a symbolic link, is left out.

    Raises:
        ProvisionError: more than `TOTAL_LIMIT` bytes.
        OSError: a file can't be read.
    """
    found: list[ProjectFile] = []
    sizes: dict[Path, int] = {}
    total = 0
    for path in paths:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # git lists what is tracked, also when it was deleted
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(status.st_mode):
            sizes[path] = status.st_size
            if (total := total + status.st_size) > TOTAL_LIMIT:
                _refuse(sizes)
            content = path.read_bytes()
        else:
            continue
        found.append(ProjectFile(path, status.st_mode, int(status.st_mtime), content))
    return found


def pack_project(files: Iterable[ProjectFile], bytecode: Bytecode, tests: Collection[Path]) -> bytes:
    """A bundle of these files and of the bytecode that is known for them, to be unpacked at `/`.

    The bytecode of test files other than `tests` is left out: nothing will import them, and it is most there is.
    """
    members = [MAGIC]
    for file in files:
        name = os.fsencode(file.path).lstrip(b"/")
        if stat.S_ISLNK(file.mode):
            members.append(pack_member(name, file.content, 0o777, file.changed, LINK))
            continue
        members.append(pack_member(name, file.content, stat.S_IMODE(file.mode), file.changed, FILE))
        if file.path.suffix == ".py" and (file.path in tests or not _TEST_NAME.fullmatch(file.path.name)):
            folder = name.rpartition(b"/")[0]
            for made, code in bytecode.find(file.path, file.content, file.changed):
                members.append(pack_member(folder + b"/" + os.fsencode(made), code, 0o644, file.changed))
    return b"".join(members)


def digest_files(files: Iterable[ProjectFile]) -> str:
    """One digest of names, modes, times and contents, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        name = os.fsencode(file.path)
        digest.update(f"{len(name)} {file.mode} {file.changed} {len(file.content)} ".encode("ascii"))
        digest.update(name)
        digest.update(file.content)
    return digest.hexdigest()


def _refuse(sizes: dict[Path, int]) -> None:
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    raise ProvisionError(
        "push the project into the machine",
        ", ".join(f"{path} ({sizes[path]} bytes)" for path in largest),
        f"the project's files have more than {TOTAL_LIMIT} bytes, the largest of them these",
        'ignore them in git, or name what tests need: [tool.kernelproof] guest-files = ["src/*", "tests/*"]',
    )
