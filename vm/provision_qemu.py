"""Finds a QEMU: the system's when it is new enough, else installed by apt when root, else unpacked into the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kernelproof.vm.apt import Apt, bound_to_us
from kernelproof.vm.apt_output import parse_problem
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.provision_context import Provisioning
from kernelproof.vm.provision_tools import LIBRARIES, LOADER, describe_packages
from kernelproof.vm.provision_types import Progress, Qemu
from kernelproof.vm.provision_unpack import lay_down, read_packages

NAME = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
OLDEST = (7, 2, 0)  # Debian 12's: the oldest whose snapshots were tried
RECIPE = 1  # raised when what is made of the same packages changes
_VERSION = re.compile(r"version (\d+)\.(\d+)\.(\d+)")
_WANTED = ("usr/bin/qemu-system-x86_64", "usr/lib/", "usr/share/qemu/", "usr/share/seabios/")


def parse_version(text: str) -> tuple[int, int, int]:
    """The version in what `qemu-system-x86_64 --version` prints.

    Raises:
        ValueError: there is none.
    """
    match = _VERSION.search(text)
    if match is None:
        raise ValueError(f"no version of QEMU: {text[:80]!r}")
    major, minor, micro = match.groups()
    return int(major), int(minor), int(micro)


def plan_qemu(found: tuple[int, int, int] | None, *, is_root: bool, has_apt: bool) -> str:
    """What to do about QEMU: `system`, `install`, `cache` or `give-up`.

    Args:
        found: The version of the system's QEMU, None if there is none.
        is_root: Whether packages can be installed.
        has_apt: Whether this is a host of packages at all.
    """
    if found is not None and found >= OLDEST:
        return "system"
    if not has_apt:
        return "give-up"
    # An older one that the system has installed is the user's choice: it is not replaced.
    return "install" if is_root and found is None else "cache"


def read_version(executable: Path, *before: str, environment: tuple[tuple[str, str], ...] = ()) -> tuple[int, int, int]:
    """Ask a QEMU which version it is.

    Raises:
        ProvisionError: it can't be started, or says no version.
    """
    command = [str(executable), *before, "--version"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **dict(environment)},
        )
        return parse_version(done.stdout + done.stderr)
    except (OSError, ValueError) as error:
        raise ProvisionError("ask QEMU's version", str(executable), str(error), f"install {PACKAGE} anew") from error


def provide_qemu(context: Provisioning) -> Qemu:
    """A QEMU of at least `OLDEST`.

    Raises:
        ProvisionError: there is none and none could be had.
    """
    path = shutil.which(NAME)
    version = read_version(Path(path)) if path else None
    match plan_qemu(version, is_root=os.geteuid() == 0, has_apt=shutil.which("apt-get") is not None):
        case "system" if path and version:
            return Qemu(Path(path), version, (), (), "system")
        case "install":
            return _install(context.progress) or _unpack(context)
        case "cache":
            return _unpack(context)
    seen = f"found {'.'.join(map(str, version))}" if version else "not found"
    oldest = ".".join(map(str, OLDEST))
    raise ProvisionError("find QEMU", NAME, seen, f"install QEMU {oldest} or later for x86-64 guests")


def _install(progress: Progress) -> Qemu | None:
    # None if this machine's own apt can't install it, for what reason ever: then the private road is left.
    progress.note(f"no QEMU here: installing {PACKAGE} with apt-get, as we are root")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = None
    for step, words in (
        ("fetch this machine's package indexes", ["update"]),
        (f"install {PACKAGE}", ["install", "--yes", "--no-install-recommends", PACKAGE]),
    ):
        progress.step(step)
        command = bound_to_us(["apt-get", *words])
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
        )
    path = shutil.which(NAME)
    if path is None:
        said = parse_problem(done.stderr) if done else ""
        progress.note(f"apt-get could not install {PACKAGE} ({said}): unpacking it into the cache")
        return None
    return Qemu(Path(path), read_version(Path(path)), (), (), "installed")


def _unpack(context: Provisioning) -> Qemu:
    def make(apt: Apt) -> str:
        packages = apt.resolve(apt.update(context.suites), [PACKAGE])
        record = {"packages": describe_packages(packages), "recipe": RECIPE}
        return context.build("qemu", record, lambda work: unpack(work, apt.fetch(packages)))

    def unpack(work: Path, debs: Sequence[Path]) -> None:
        context.progress.step("unpack QEMU")
        lay_down(read_packages(debs, lambda path: path.startswith(_WANTED)).members(), work)

    entry = context.provide("qemu", {"packages": PACKAGE, "suites": context.suites, "recipe": RECIPE}, make)
    return describe_unpacked(entry.folder)


def describe_unpacked(folder: Path) -> Qemu:
    """A QEMU below `folder`, started by its own loader, so that the host's libraries don't matter.

    Raises:
        ProvisionError: it does not start.
    """
    libraries = folder / LIBRARIES
    executable = folder / LOADER
    data = (folder / "usr/share/qemu", folder / "usr/share/seabios")
    before = (
        *("--library-path", str(libraries), "--argv0", NAME, str(folder / "usr/bin" / NAME)),
        *(word for place in data if place.is_dir() for word in ("-L", str(place))),
    )
    environment = (("QEMU_MODULE_DIR", str(libraries / "qemu")),)
    version = read_version(executable, *before, environment=environment)
    return Qemu(executable, version, before, environment, "cache")
