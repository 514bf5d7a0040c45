"""Files that come back from a machine: whole under their own name, or not at all.

The guest is not trusted: see `kernelproof.vm.pulled` for what may be written. Nothing that is there is touched.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kernelproof.vm.errors import VmError
from kernelproof.vm.machine import Machine


def plan_pulls(paths: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """The guest's paths, and what each is called in the folder.

    Raises:
        VmError: a path has no name of its own, two have the same, or one is there already.
    """
    planned: dict[str, str] = {}
    for path in paths:
        name = posixpath.basename(posixpath.normpath(path))
        if name in ("", ".", "..", "/"):
            raise VmError("pull", path, "has no name of its own", "name a file or a folder in it")
        if name in planned:
            raise VmError("pull", path, f"is called {name}, as {planned[name]} is", "pull them one at a time")
        planned[name] = path
        if os.path.lexists(folder / name):
            raise _exists(folder / name)
    return [(path, name) for name, path in planned.items()]


def pull(machine: Machine, paths: Sequence[str], folder: Path, directory: str) -> None:
    """Copy files and folders out of a machine.

    Args:
        machine: The machine.
        paths: In the guest, absolute or relative to the directory.
        folder: Where they go; made if it is not there.
        directory: The working directory of what made them.

    Raises:
        VmError: as `plan_pulls`; the guest can't read one of them, or broke the rules.
        OSError: the host can't write them.
    """
    planned = plan_pulls(paths, folder)
    if not planned:
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, name in planned:
            _pull_one(machine, posixpath.join(directory, path), descriptor, folder, name)
    finally:
        os.close(descriptor)


def _pull_one(machine: Machine, path: str, descriptor: int, folder: Path, name: str) -> None:
    temporary = f".kernelproof-{secrets.token_hex(8)}"
    try:
        if machine.pull(path, descriptor, temporary) == 0:
            raise VmError("pull", path, "holds no regular file", "links, devices and empty folders are not pulled")
        if os.path.lexists(folder / name):
            raise _exists(folder / name)
        os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except BaseException:
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(temporary, dir_fd=descriptor)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=descriptor)
        raise


def _exists(path: Path) -> VmError:
    return VmError("pull", str(path), "is there already", "move it away, or name another folder with --pull-to")
