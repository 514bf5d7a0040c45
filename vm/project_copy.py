"""A project's files in a machine that no test runs in: what git knows or does not ignore, as a copy that is read-only.

They lie in the guest where they lie on the host, so that paths in scripts and in what they print are the same.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.machine import Machine
from kernelproof.vm.push import TOTAL_LIMIT, list_git_files, list_small_files, pack

_BIND, _REMOUNT, _READ_ONLY = 4096, 32, 1
_MOUNT = "kernelproof.vm.guest.mounting:mount"
# Nobody's project, and the guest has its own.
_SYSTEM = frozenset(
    map(Path, ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var"))
)


@dataclass(frozen=True, slots=True)
class ProjectCopy:
    """What goes into machines.

    Args:
        root: The project's root: the work tree's, else the working directory.
        directory: The working directory.
        archive: Its files, to be unpacked at `/`.
        writable: Whether the copy may be written to.
    """

    root: Path
    directory: Path
    archive: bytes
    writable: bool


def find_root(directory: Path) -> Path:
    """The root of the work tree that a directory lies in; the directory itself without git."""
    command = ["git", "-C", str(directory), "rev-parse", "--show-toplevel"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError:
        return directory
    return Path(done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")) if done.returncode == 0 else directory


def read_project_copy(
    directory: Path | None = None, also: Sequence[Path] = (), *, writable: bool = False
) -> ProjectCopy:
    """Read the files of the project that a directory lies in.

    Args:
        directory: The working directory by default.
        also: Further files and folders, also where git ignores them.
        writable: Whether the copy may be written to.

    Raises:
        ProvisionError: more than 64 MiB; or a directory of the system, which the guest has its own of.
        OSError: a file can't be read.
    """
    directory = Path.cwd() if directory is None else directory
    root = find_root(directory)
    if root in _SYSTEM:
        remedy = "run it in a folder of its own, or take none along with --no-files"
        raise ProvisionError("take the project's files along", str(root), "is a directory of the system", remedy)
    listed = list_git_files(root)
    files = {*(list_small_files(root) if listed is None else listed)}
    for path in also:
        files.update(_list_named(directory / path))
    try:
        archive = pack(sorted(files))
    except ProvisionError as error:
        remedy = "ignore them in git, start in a folder with less, or take none along with --no-files"
        raise ProvisionError("take the project's files along", error.subject, error.detail, remedy) from error
    return ProjectCopy(root, directory, archive, writable)


def _list_named(path: Path) -> list[Path]:
    if path.is_dir():
        return [inner for inner in path.rglob("*") if inner.is_symlink() or inner.is_file()]
    if not path.exists():
        raise ProvisionError("take the project's files along", str(path), "not there", "make it, or name another")
    return [path]


def copy_project(machine: Machine, copy: ProjectCopy) -> None:
    """Put the files into a machine.

    Raises:
        GuestError: the guest can't write or mount.
        MachineLost: it is gone.
    """
    machine.push_archive(copy.archive, "/")
    machine.call("os:makedirs", str(copy.directory), exist_ok=True)
    if not copy.writable:
        root = str(copy.root)
        machine.call(_MOUNT, root, root, None, _BIND)
        machine.call(_MOUNT, root, root, None, _BIND | _REMOUNT | _READ_ONLY)


__all__ = ["TOTAL_LIMIT", "ProjectCopy", "copy_project", "find_root", "read_project_copy"]
