"""Decides what of a cache is not worth its space, and removes it.

Kept is what the kernels of the table and the profiles lead to now, whatever its age, and what was used lately. The rest
can be fetched and made again: that is all a cache promises.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernelproof.vm.base import KIND as TEMPLATE
from kernelproof.vm.cache import FORMAT, SEEN, Cache, digest_record
from kernelproof.vm.distribution import read_distribution
from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.kernel import plan_kernel_request
from kernelproof.vm.kernel_select import read_rows
from kernelproof.vm.profiles import PROFILES, parse_profiles
from kernelproof.vm.provision_tools import plan_tools_request
from kernelproof.vm.root import plan_root_request
from kernelproof.vm.session_store import KIND as SESSION

DAY_SECONDS = 86400.0
BUSY_SECONDS = 2 * 3600.0  # what was used so lately may be in use: twice as long as its use may go unnoted
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Doomed:
    """Something that may go.

    Args:
        kind: Of entry, or `format` for all that another version of kernelproof made, or `package`, or `left over`.
        path: The file or folder.
        size_bytes: What it takes on the disc.
        why: The reason.
    """

    kind: str
    path: Path
    size_bytes: int
    why: str


def measure(path: Path) -> int:
    """Bytes on the disc of a file, or of all below a folder; what vanishes meanwhile is not counted."""
    total = 0
    for inside in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with suppress(FileNotFoundError):
            total += inside.lstat().st_blocks * 512
    return total


def plan_all(root: Path) -> list[Doomed]:
    """Everything that this tool keeps below `root`."""
    return [
        Doomed(kind.name if formats.name == f"v{FORMAT}" else "format", kind, measure(kind), "all is removed")
        for formats in (*sorted(root.glob("v[0-9]*")), *root.glob(".removed.*"))
        for kind in ([formats] if formats.name != f"v{FORMAT}" else sorted(formats.iterdir()))
    ]


def find_current(cache: Cache) -> set[tuple[str, str]]:
    """Kind and digest of the entries that the kernels of the table and the profiles lead to."""
    found: set[tuple[str, str]] = set()
    suites = read_distribution().guest
    tools = cache.recall("tools", digest_record(plan_tools_request(suites)))
    if tools is None:
        return found
    found.add(("tools", tools))
    table = read_rows()
    requests = [("kernel", plan_kernel_request(table, row, tools)) for row in table.rows]
    for profile in parse_profiles(PROFILES.read_text("utf-8")).values():
        requests.append(("root", plan_root_request(profile.packages, suites, tools)))
    for kind, request in requests:
        digest = cache.recall(kind, digest_record(request))
        if digest is not None:
            found.add((kind, digest))
    return found


def plan_pruning(cache: Cache, days: float, now: float | None = None) -> list[Doomed]:
    """What was not used for `days`, and what leads nowhere; nothing that may be in use at this moment.

    Args:
        cache: The cache; one that is not there has nothing.
        days: How long an entry that nothing leads to is kept; of sessions none is.
        now: Seconds since the epoch; the clock's by default.
    """
    now = time.time() if now is None else now
    limit = max(BUSY_SECONDS, days * DAY_SECONDS)
    doomed = list(_find_old_formats(cache.root, now))
    current = find_current(cache)
    folder = cache.root / f"v{FORMAT}"
    for entry in sorted(folder.glob(f"*/{'[0-9a-f]' * _DIGEST_LENGTH}")):
        kind, age = entry.parent.name, now - last_use(entry)
        if kind == SESSION:  # who restores one at this moment has its files open
            doomed.append(Doomed(kind, entry, measure(entry), "of use for an hour; the next run makes it again"))
        elif (kind, entry.name) not in current and age > limit:
            doomed.append(Doomed(kind, entry, measure(entry), f"not used for {age / DAY_SECONDS:.0f} days"))
    gone = {(item.path.parent.name, item.path.name) for item in doomed}
    doomed += _find_orphans(folder / TEMPLATE, gone, now)
    for package in sorted((folder / "apt/debs").glob("*.deb")):
        if now - package.stat().st_mtime > limit:
            doomed.append(Doomed("package", package, measure(package), "fetched long ago; it is unpacked"))
    return doomed


def last_use(entry: Path) -> float:
    """When an entry was last used, seconds since the epoch; to an hour."""
    for path in (entry / SEEN, entry):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime
    return time.time()  # it vanishes at this moment


def _find_old_formats(root: Path, now: float) -> Iterator[Doomed]:
    for formats in sorted(root.glob("v[0-9]*")):
        if formats.name != f"v{FORMAT}":
            yield Doomed("format", formats, measure(formats), "of another version of kernelproof")
    for left in sorted(root.glob(".removed.*")):
        if now - left.stat().st_mtime > BUSY_SECONDS:
            yield Doomed("left over", left, measure(left), "of a clean that did not come to its end")


def _find_orphans(folder: Path, gone: set[tuple[str, str]], now: float) -> Iterator[Doomed]:
    # Templates whose kernel or root is not there any more: nothing leads to them.
    for entry in sorted(folder.glob("[0-9a-f]" * _DIGEST_LENGTH)):
        if (TEMPLATE, entry.name) in gone or now - last_use(entry) <= BUSY_SECONDS:
            continue
        try:
            spec = json.loads((entry / "record.json").read_text("utf-8"))["record"]["spec"]
            kernel, root = spec["kernel_digest"], spec["initrd_digests"][0]
        except (OSError, ValueError, LookupError, TypeError):
            yield Doomed(TEMPLATE, entry, measure(entry), "its record can't be read")
            continue
        for kind, digest in (("kernel", kernel), ("root", root)):
            if (kind, digest) in gone or not (folder.parent / kind / digest).is_dir():
                yield Doomed(TEMPLATE, entry, measure(entry), f"its {kind} is not there any more")
                break


def remove(root: Path, doomed: Iterable[Doomed]) -> None:
    """Remove them: moved aside first, so that no other process sees half of an entry.

    Raises:
        ProvisionError: something could not be moved or removed: EACCES, EROFS, EPERM.
    """
    try:
        aside: Path | None = None
        for number, item in enumerate(doomed):
            aside = aside or Path(tempfile.mkdtemp(prefix=".removed.", dir=root))
            with suppress(FileNotFoundError):
                item.path.rename(aside / str(number))
        if aside is not None:
            shutil.rmtree(aside)
    except OSError as error:
        remedy = "remove it by hand, as the user it belongs to"
        raise ProvisionError(
            "clean cache", str(error.filename or root), error.strerror or str(error), remedy
        ) from error


def forget_lost_choices(cache: Cache) -> None:
    """Remove the notes about requests whose entry is not there any more.

    Raises:
        ProvisionError: the cache can't be written to.
    """
    folder = cache.root / f"v{FORMAT}" / "choices"
    for note in folder.glob("*-*"):
        kind, _, request = note.name.rpartition("-")
        digest = cache.recall(kind, request)
        if digest is None or not cache.path(kind, digest).is_dir():
            with suppress(FileNotFoundError):
                note.unlink()


def summarize(doomed: Iterable[Doomed]) -> list[Mapping[str, object]]:
    """A row a kind: how many there are, and what they take."""
    kinds: dict[str, list[Doomed]] = {}
    for item in doomed:
        kinds.setdefault(item.kind, []).append(item)
    return [
        {"kind": kind, "number": len(items), "megabytes": round(sum(item.size_bytes for item in items) / 1e6, 1)}
        for kind, items in kinds.items()
    ]
