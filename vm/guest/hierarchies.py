"""Mounts cgroup hierarchies for tests, and proves that they are what was asked for.

A machine begins without any: version 1 and version 2 can't have the same controller at once, so the test chooses.
"""

from __future__ import annotations

import errno
from pathlib import Path

from kernelproof.vm.guest.mounting import DETACH, mount, unmount

VERSIONS = ("v1", "v2")


class NoSuchHierarchy(LookupError):
    """The kernel does not have it."""


def mount_hierarchy(version: str, controllers: tuple[str, ...], place: Path) -> Path:
    """Mount a hierarchy at `place`, which is made if it is not there.

    Args:
        version: "v1" or "v2".
        controllers: For v1, those that it is mounted with; `name=NAME` alone is a named one without controllers. For
            v2, those that it must offer.
        place: The mount point.

    Raises:
        NoSuchHierarchy: the kernel lacks a controller, or the version; the text is the reason.
        ValueError: another version, or v1 without controllers.
        OSError: as mkdir(2) and mount(2) refuse: EBUSY, a controller is in use in the other version, or one of the
            named controllers is in another hierarchy of version 1.
        RuntimeError: what was mounted is something else.
    """
    if version not in VERSIONS or (version == "v1" and not controllers):
        raise ValueError(f"hierarchy{(version, *controllers)}: a version, v1 or v2, and for v1 its controllers")
    place.mkdir(exist_ok=True)
    try:
        if version == "v2":
            mount("cgroup2", str(place), "cgroup2")
        else:
            mount("cgroup", str(place), "cgroup", 0, _format_data(controllers))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENODEV):
            named = " ".join((version, *controllers))
            raise NoSuchHierarchy(f"the kernel has no cgroup hierarchy {named}: {error.strerror}") from error
        raise
    try:
        _prove(version, controllers, place)
    except BaseException:
        unmount(str(place), DETACH)
        raise
    return place


def _format_data(controllers: tuple[str, ...]) -> str:
    named = [name for name in controllers if name.startswith("name=")]
    return ",".join(controllers if len(named) < len(controllers) else ("none", *controllers))


def _prove(version: str, controllers: tuple[str, ...], place: Path) -> None:
    types = [line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines() if f" {place} " in line]
    if types != ["cgroup2" if version == "v2" else "cgroup"]:
        raise RuntimeError(f"{place} is of type {types} after a hierarchy {version} was mounted")
    if version == "v2":
        offered = (place / "cgroup.controllers").read_text().split()
    else:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        offered = [name for line in lines if not line.startswith("0::") for name in line.split(":")[1].split(",")]
    if missing := [name for name in controllers if name not in offered]:
        raise NoSuchHierarchy(f"the hierarchy {version} does not offer {', '.join(missing)}")


def unmount_hierarchy(place: Path) -> None:
    """Unmount it; its cgroups stay while something is in them, and with them its controllers.

    Raises:
        OSError: as umount2(2) refuses.
    """
    unmount(str(place), DETACH)
