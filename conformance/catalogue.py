"""The catalogue: documented statements, each with its source, read from a folder of TOML files.

    [[behaviour]]
    id = "bridge.limit.name-length"              topic.part.short-name, stable once a test bears it
    statement = "A name of 16 bytes is refused."  the assertion is this sentence and nothing less
    source = "netdevice(7), DESCRIPTION"
    kernels = ">=6.1"                            where it is meant to hold; absent: everywhere
    since = "4.20"                               for people; nothing is decided by it
    needs = ["CONFIG_BRIDGE"]                    see `requirements`
    of = "kernel"                                "kernel" (the default), "userland" or "runtime"
    note = "…"                                   for people
    suspected = "6.1: EINVAL"                    a deviation seen somewhere, not yet one by value and witness

    [[behaviour.deviations]]                     what a range of kernels does instead
    kernels = ">=6.12"
    seen = "EINVAL"                              the exact value: an errno's name, a number, a text, a truth, or a list
    witness = "witnesses/name_length.py"         below the catalogue's parent folder; prints that value
    reason = "The check came with …"

    [[behaviour.peers]]                          what a peer, asked beside the test's subject, does instead
    subject = "runc"
    kernels = ">=6.12"                           absent: everywhere
    seen = "accepted"
    reason = "…"

A file is a subsystem. What it is not for: knowing tests (`suite`) or asking a kernel (`needs`).

CatalogueError      every problem found, one a line with file, line and remedy (a ValueError)
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.deviations import Deviation, PeerDeviation, parse_deviations, parse_peer_deviations
from kernelproof.conformance.kernel_ranges import KernelRange, parse_range
from kernelproof.conformance.requirements import Requirement, parse_requirement

_ID = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*){2}")
_KINDS = ("kernel", "userland", "runtime")
_TEXT_KEYS = ("id", "statement", "source", "kernels", "since", "of", "note", "suspected")
_REQUIRED_KEYS = ("id", "statement", "source")
_KEYS = (*_TEXT_KEYS, "needs", "deviations", "peers")
_OLD_KEYS = {
    "deviation": "put the exact value into [[behaviour.deviations]] with a witness, or the remark into suspected",
}
_TABLE = re.compile(r"^\[\[\s*behaviour\s*\]\]", re.MULTILINE)


class CatalogueError(ValueError):
    """Entries that can't be used.

    Args:
        problems: One line each: place, what is wrong, what to do.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Entry(NamedTuple):
    """One documented statement.

    Args:
        id: Its stable name.
        statement: What the document promises.
        source: Document and section.
        subsystem: The catalogue file's name without ".toml".
        kernels: Where it is meant to hold; None: everywhere.
        needs: What must be there.
        of: "kernel", "userland" or "runtime".
        deviations: What known kernels do instead.
        since, note, suspected: For people; empty where there is none.
        peer_deviations: What known peers do instead.
    """

    id: str
    statement: str
    source: str
    subsystem: str
    kernels: KernelRange | None
    needs: tuple[Requirement, ...]
    of: str
    deviations: tuple[Deviation, ...]
    since: str = ""
    note: str = ""
    suspected: str = ""
    peer_deviations: tuple[PeerDeviation, ...] = ()


class Catalogue(NamedTuple):
    """All statements of a project.

    Args:
        entries: By id.
        digest: SHA-256 over names and contents of the files, as hex digits.
    """

    entries: Mapping[str, Entry]
    digest: str


def read_catalogue(folders: Iterable[Path]) -> Catalogue:
    """Read every `*.toml` of the folders.

    Raises:
        CatalogueError: Any entry is malformed, or an id occurs twice.
        OSError: A file can't be read.
    """
    return parse_catalogue((path, path.read_bytes()) for folder in folders for path in sorted(folder.glob("*.toml")))


def parse_catalogue(files: Iterable[tuple[Path, bytes]]) -> Catalogue:
    """Parse catalogue files, given as path and content.

    Raises:
        CatalogueError: Any entry is malformed, or an id occurs twice.
    """
    entries: dict[str, Entry] = {}
    places: dict[str, str] = {}
    problems: list[str] = []
    digest = hashlib.sha256()
    for path, content in files:
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
        for place, entry in _FileReader(path, problems).read(content):
            if entry.id in entries:
                problems.append(f"{place}: {entry.id} is already at {places[entry.id]}; give one of them another id")
            entries[entry.id], places[entry.id] = entry, place
    if problems:
        raise CatalogueError(problems)
    return Catalogue(entries, digest.hexdigest())


class _FileReader:
    # Reads one file and adds what is wrong with it to `problems`.
    def __init__(self, path: Path, problems: list[str]) -> None:
        self._path = path
        self._problems = problems

    def read(self, content: bytes) -> Iterator[tuple[str, Entry]]:
        try:
            text = content.decode()
            document = tomllib.loads(text)
        except ValueError as error:  # of UTF-8 and of TOML
            self._problems.append(f"{self._path}: not TOML: {error}; correct it there")
            return
        self._refuse_unknown("the file", str(self._path), document, ("behaviour",))
        lines = _table_lines(text)
        for number, table in enumerate(document.get("behaviour", ())):
            place = f"{self._path}:{lines[number]}" if number < len(lines) else str(self._path)
            before = len(self._problems)
            entry = self._entry(place, table)
            if len(self._problems) == before:
                yield place, entry

    def _entry(self, place: str, table: dict[str, Any]) -> Entry:
        name = str(table.get("id", "an entry without id"))
        self._refuse_unknown(name, place, table, _KEYS)
        self._check_texts(name, place, table)
        texts = {key: value for key in _TEXT_KEYS if isinstance(value := table.get(key), str)}
        if "id" in texts and not _ID.fullmatch(texts["id"]):
            self._complain(place, name, "the id is not topic.part.short-name in small letters, digits and hyphens")
        if texts.get("of", "kernel") not in _KINDS:
            self._complain(place, name, f"of = {texts['of']!r} is unknown; known are {', '.join(_KINDS)}")
        return Entry(
            id=name,
            statement=texts.get("statement", ""),
            source=texts.get("source", ""),
            subsystem=self._path.stem,
            kernels=self._kernels(name, place, texts.get("kernels")),
            needs=self._needs(name, place, table.get("needs", [])),
            of=texts.get("of", "kernel"),
            deviations=self._deviations(name, place, table.get("deviations", [])),
            since=texts.get("since", ""),
            note=texts.get("note", ""),
            suspected=texts.get("suspected", ""),
            peer_deviations=self._peer_deviations(name, place, table.get("peers", [])),
        )

    def _check_texts(self, name: str, place: str, table: dict[str, Any]) -> None:
        for key in _TEXT_KEYS:
            value = table.get(key)
            if value is None:
                if key in _REQUIRED_KEYS:
                    self._complain(place, name, f"has no {key}; without it it is no documented statement, so add it")
            elif not isinstance(value, str) or not value.strip():
                self._complain(place, name, f"{key} must be a text that is not empty")

    def _kernels(self, name: str, place: str, text: str | None) -> KernelRange | None:
        if text is None:
            return None
        try:
            return parse_range(text)
        except ValueError as error:
            self._complain(place, name, str(error))
            return None

    def _needs(self, name: str, place: str, words: object) -> tuple[Requirement, ...]:
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            self._complain(place, name, "needs must be a list of texts")
            return ()
        if len(set(words)) != len(words):
            self._complain(place, name, "needs names something twice; once is enough")
        requirements = []
        for word in words:
            try:
                requirements.append(parse_requirement(word))
            except ValueError as error:
                self._complain(place, name, str(error))
        return tuple(requirements)

    def _deviations(self, name: str, place: str, tables: object) -> tuple[Deviation, ...]:
        deviations, problems = parse_deviations(tables, folder=self._path.parent.parent)
        for problem in problems:
            self._complain(place, name, problem)
        return deviations

    def _peer_deviations(self, name: str, place: str, tables: object) -> tuple[PeerDeviation, ...]:
        deviations, problems = parse_peer_deviations(tables)
        for problem in problems:
            self._complain(place, name, problem)
        return deviations

    def _refuse_unknown(self, name: str, place: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key in _OLD_KEYS:
                self._complain(place, name, f"the key {key!r} is no more: {_OLD_KEYS[key]}")
            elif key not in known:
                self._complain(place, name, f"unknown key {key!r}; known are {', '.join(known)}")

    def _complain(self, place: str, name: str, problem: str) -> None:
        self._problems.append(f"{place}: {name}: {problem}")


def _table_lines(text: str) -> list[int]:
    # tomllib tells no lines: the n-th table begins at the n-th header.
    lines = []
    line, position = 1, 0
    for match in _TABLE.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        lines.append(line)
    return lines
