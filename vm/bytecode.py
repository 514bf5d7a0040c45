"""Keeps the bytecode that guests made of a project's files, by the content of the sources.

It comes from a guest and goes to guests: the host keeps it as data and never runs it. Each project and each guest root
has its own, so that what one project's code does to it in a guest reaches no other's. Where the host's Python is of the
guest's version, what the host's own collection left beside the sources serves as well: the first run is like others.

    ROOT/v1/bytecode/DIGEST/KEY      what Python and pytest made of one source, as a bundle

DIGEST names root and project, KEY the path and the content of the source.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kernelproof.vm.cache import SEEN, Cache, digest_record
from kernelproof.vm.errors import ChannelError, VmError
from kernelproof.vm.guest.bundle import MAGIC, pack_member, read_members
from kernelproof.vm.guest.bytecode import CACHE_FOLDER

KIND = "bytecode"
SECONDS = 120.0  # wall, for a guest to hand it out
MOST_FILES = 20_000  # of one project; beyond it all are made anew
MOST_PROJECTS = 64  # those that nobody used for longest make room
LEFT_SECONDS = 3600.0  # a file that a run was killed over while it wrote is removed when it is so old
MOST_BYTES = 4 * 1024 * 1024  # of what is made of one source

_NAME = re.compile(r"[\w-]+\.[\w.-]+\.pyc", re.ASCII)
_UNFINISHED = ".new-"
_HEADER = 16  # bytes: magic number, flags, then time of change and size of the source, or a digest of it
_TIMED, _HASHED = bytes(4), b"\x03\0\0\0"  # flags; PEP 552: checked by time and size, checked by digest


class Talker(Protocol):
    """A machine that answers `bytecode`."""

    def stream(self, message: Mapping[str, object], *, timeout: float) -> Iterator[Mapping[str, object]]:
        """Send a message; yield the answers until the last."""


class Bytecode:
    """The bytecode of one project for one guest root.

    Args:
        cache: Where it is kept.
        guest: What the root is: its digest and its Python's version.
        project: The project's root.
    """

    def __init__(self, cache: Cache, guest: object, project: Path) -> None:
        self._cache = cache
        self._digest = digest_record({"format": 1, "guest": guest, "project": str(project)})
        self._folder = cache.path(KIND, self._digest)
        self._tag = _shared_tag(guest)
        self._absent: dict[str, str] = {}  # keys of the sources without, by their paths

    def find(self, path: Path, content: bytes, changed: int) -> list[tuple[str, bytes]]:
        """What is pushed beside a source: name below its folder, and bytes that bear its time and length.

        Sources for which there is nothing are noted, for `learn`.
        """
        key, stamp = _key(path, content), _stamp(changed, len(content))
        try:
            kept = (self._folder / key).read_bytes()
            members = list(read_members(kept))
        except (OSError, ValueError):
            members = self._find_of_host(path, stamp)
        if not members:
            self._absent[str(path)] = key
        return [
            (f"{CACHE_FOLDER}/{os.fsdecode(name)}", data[:8] + stamp + data[_HEADER:] if data[4:8] == _TIMED else data)
            for name, data in members
            if _is_sound(path, os.fsdecode(name), data)
        ]

    def _find_of_host(self, path: Path, stamp: bytes) -> list[tuple[bytes, bytes]]:
        # What is checked by a digest of its source the guest checks; a time is compared here.
        if self._tag is None:
            return []
        found = (path.parent / CACHE_FOLDER).glob(f"{glob.escape(path.stem)}.{self._tag}*.pyc")
        made = [(os.fsencode(file.name), file.read_bytes()) for file in found]
        return [(name, data) for name, data in made if data[4:8] == _HASHED or data[8:_HEADER] == stamp]

    def learn(self, machine: Talker) -> None:
        """Keep what the guest made of the sources that `find` knew nothing of.

        A cache that can't be written to stays as it is.

        Raises:
            VmError: the guest broke the protocol, or was lost.
        """
        made: dict[str, list[tuple[str, bytes]]] = {}
        for answer in machine.stream({"kind": "bytecode"}, timeout=SECONDS):
            if answer["kind"] == "compiled" and (source := str(answer.get("source"))) in self._absent:
                made.setdefault(source, []).append(_read_compiled(answer, Path(source)))
        if made:
            self.keep({Path(path): files for path, files in made.items()})

    def lacking(self, paths: Iterable[Path]) -> list[Path]:
        """Those of some sources for which there is nothing; they are noted, for `keep`."""
        found = []
        for path in paths:
            with suppress(OSError):
                key = _key(path, path.read_bytes())
                if not (self._folder / key).exists():
                    self._absent[str(path)] = key
                    found.append(path)
        return found

    def keep(self, made: Mapping[Path, Sequence[tuple[str, bytes]]]) -> None:
        """Keep what was made of sources that are noted. A cache that can't be written to stays as it is."""
        with suppress(OSError, VmError):
            self._keep({str(path): files for path, files in made.items()})

    def _keep(self, made: Mapping[str, Sequence[tuple[str, bytes]]]) -> None:
        projects = self._cache.folder(KIND)
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            used = sorted(projects.iterdir(), key=_last_use)
            for old in used[: max(0, len(used) - MOST_PROJECTS)]:
                shutil.rmtree(old, ignore_errors=True)
        (self._folder / SEEN).touch()
        kept = list(self._folder.iterdir())
        for old in kept:
            is_left = old.name.startswith(_UNFINISHED) and time.time() - old.stat().st_mtime > LEFT_SECONDS
            if is_left or len(kept) > MOST_FILES:
                old.unlink(missing_ok=True)
        for path, files in made.items():
            members = [pack_member(os.fsencode(name), data, 0o644, 0) for name, data in files]
            descriptor, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._folder)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"".join((MAGIC, *members)))
            os.rename(temporary, self._folder / self._absent[path])


def _last_use(project: Path) -> float:
    try:
        return (project / SEEN).stat().st_mtime
    except OSError:
        return time.time()  # one that is being made


def _shared_tag(guest: object) -> str | None:
    # Of the names of bytecode files, if guest and host have one.
    python = guest.get("python") if isinstance(guest, Mapping) else None
    tag = f"cpython-{str(python).replace('.', '')}"
    return tag if tag == sys.implementation.cache_tag else None


def _key(path: Path, content: bytes) -> str:
    # With the path: it is in the bytecode, and tracebacks show it.
    return hashlib.blake2b(os.fsencode(path) + b"\0" + content, digest_size=32).hexdigest()


def _stamp(changed: int, length: int) -> bytes:
    return b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in (changed, length))


def _is_sound(path: Path, name: str, data: bytes) -> bool:
    # Of a file that nothing checks against its source there is none.
    named = bool(_NAME.fullmatch(name)) and name.startswith(f"{path.stem}.")
    return named and len(data) > _HEADER and data[4:8] in (_TIMED, _HASHED)


def _read_compiled(answer: Mapping[str, object], source: Path) -> tuple[str, bytes]:
    name, text = str(answer.get("name")), str(answer.get("data"))
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise _broken(f"bytecode that is no base64: {error}") from error
    if not _is_sound(source, name, data) or len(data) > MOST_BYTES:
        raise _broken(f"{name[:80]!r} is no bytecode of {source}")
    return name, data


def _broken(detail: str) -> ChannelError:
    remedy = "a project that writes into __pycache__ by itself, or a fault of kernelproof: report it with this text"
    return ChannelError("read the guest's bytecode", "channel", detail, remedy)
