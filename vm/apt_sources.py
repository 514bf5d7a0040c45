"""Reads the package sources that a machine is configured for, and finds the distribution's mirror among them.

Both formats of sources.list(5) are parsed: one line a source (`*.list`) and paragraphs (`*.sources`).
Not a reader of everything apt can say: a source that says it needs no signature is never taken over, nor a disc.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernelproof.vm.distribution import Distribution

_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # apt ignores files with other names, and so do we
_WORD = re.compile(r"\[[^]]*\]|(?:[^\s\[]|\[[^]]*\])+")  # a word may hold spaces in brackets: cdrom:[Debian 12]/
_YES = ("yes", "true", "with", "on", "enable", "1")
_NO = ("no", "false", "without", "off", "disable", "0")


@dataclass(frozen=True, slots=True)
class Source:
    """One configured source of binary packages.

    Args:
        uris: Where the archive is, each with its method.
        suites: Suites, or a path that ends in `/` for a flat archive.
        components: Empty for a flat archive.
        signed_by: Keyring paths, fingerprints, or a key block; empty where apt's own keyrings hold.
        trusted: What the source says about signatures: True if it needs none, None if it does not say.
        origin: The file and the line that it begins at, for messages.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str
    trusted: bool | None
    origin: str


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where the distribution's archive may be, best guess first; its signature decides.

    Args:
        archive: Of suites such as `trixie` and `trixie-backports`.
        security: Of suites such as `trixie-security`.
    """

    archive: tuple[str, ...]
    security: tuple[str, ...]

    def of(self, suite: str) -> tuple[str, ...]:
        """The mirrors that should carry `suite`."""
        return self.security if suite.endswith("-security") else self.archive


def parse_list(text: str, name: str) -> tuple[Source, ...]:
    """Parse a `sources.list` or `*.list` file; `deb-src` lines give nothing.

    Raises:
        ValueError: a line has no suite, or a bracket that does not close.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.partition("#")[0].strip()
        if line.startswith(("deb ", "deb\t")):
            found.append(_parse_line(line, f"{name}:{number}"))
    return tuple(found)


def _parse_line(line: str, origin: str) -> Source:
    words = _WORD.findall(line)[1:] if line.count("[") == line.count("]") else []
    options: dict[str, str] = {}
    if words and words[0].startswith("["):
        pairs = (option.partition("=") for option in words.pop(0)[1:-1].split())
        options = {key.lower().rstrip("+-"): value for key, _, value in pairs}
    if len(words) < 2 or any(word.startswith("[") for word in words[:1]):
        raise ValueError(f"{origin}: not a source line: {line!r}")
    uri, suite, *components = words
    return Source(
        uris=(uri,),
        suites=(suite,),
        components=tuple(components),
        signed_by=options.get("signed-by", ""),
        trusted=_parse_trust(options.get("trusted"), options.get("allow-insecure")),
        origin=origin,
    )


def parse_sources(text: str, name: str) -> tuple[Source, ...]:
    """Parse a `*.sources` file; paragraphs that are disabled or give no binary packages give nothing.

    Raises:
        ValueError: a paragraph has no URIs or no Suites, or a line is no field.
    """
    found = []
    for number, fields in parse_paragraphs(text, name):
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in _NO:
            continue
        origin = f"{name}:{number}"
        uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
        if not uris or not suites:
            raise ValueError(f"{origin}: a source needs URIs and Suites")
        found.append(
            Source(
                uris=tuple(uris),
                suites=tuple(suites),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", "").strip(),
                trusted=_parse_trust(fields.get("trusted"), fields.get("allow-insecure")),
                origin=origin,
            )
        )
    return tuple(found)


def parse_paragraphs(text: str, name: str) -> list[tuple[int, dict[str, str]]]:
    """Parse deb822 text: the number of each paragraph's first line, and its fields by name in lower case.

    A field that goes on over several lines keeps its line ends.

    Raises:
        ValueError: a line is neither a field, nor goes on with one, nor a comment.
    """
    paragraphs: list[tuple[int, dict[str, str]]] = []
    fields: dict[str, str] = {}
    key = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            continue
        if not line.strip():
            fields, key = {}, ""
        elif line[0] in " \t":
            if not key:
                raise ValueError(f"{name}:{number}: goes on with a field that never began: {line!r}")
            fields[key] += "\n" + line.strip()
        else:
            key, colon, value = line.partition(":")
            key = key.strip().lower()
            if not colon or not key:
                raise ValueError(f"{name}:{number}: not a field: {line!r}")
            if not fields:
                paragraphs.append((number, fields))
            fields[key] = value.strip()
    return paragraphs


def _parse_trust(trusted: str | None, allow_insecure: str | None) -> bool | None:
    if allow_insecure is not None and allow_insecure.lower() in _YES:
        return True
    if trusted is None:
        return None
    return trusted.lower() in _YES


def read_sources(directory: Path = Path("/etc/apt")) -> tuple[Source, ...]:
    """The sources that apt on this machine is configured for, in apt's order.

    Raises:
        OSError: a file can't be read: EACCES, EIO.
        ValueError: a file can't be parsed, or is not UTF-8.
    """
    found: list[Source] = []
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for path in files:
        if path.is_file() and _FILE_NAME.fullmatch(path.name):
            if path.suffix == ".list":
                found += parse_list(path.read_text("utf-8"), str(path))
            elif path.suffix == ".sources":
                found += parse_sources(path.read_text("utf-8"), str(path))
    return tuple(found)


def plan_mirrors(sources: Iterable[Source], distribution: Distribution) -> Mirrors:
    """Choose from the configured sources those that look like the distribution's archive.

    A guess only: what is not the archive fails its signature later, and the next one is tried. Where security has a
    folder of its own and one of the two is not configured, the folder beside the other is tried (`…/debian` and
    `…/debian-security`). Where it has none, every mirror should carry all.
    """
    archive: list[str] = []
    security: list[str] = []
    main = distribution.components[0]
    usable = [source for source in sources if not source.trusted and main in _bare_components(source)]
    for source in sorted(usable, key=partial(_has_foreign_key, distribution=distribution)):
        for suite in source.suites:
            if _base_suite(suite) in distribution.suites:
                is_security = "-security" in suite or suite.endswith("/updates")
                (security if is_security else archive).extend(
                    uri.rstrip("/") for uri in source.uris if not uri.startswith("cdrom:")
                )
    if len(distribution.folders) == 1:
        return Mirrors(archive=_unique([*archive, *security]), security=_unique([*security, *archive]))
    own, other = distribution.folders
    return Mirrors(
        archive=_unique([*archive, *_beside(security, other, own)]),
        security=_unique([*security, *_beside(archive, own, other)]),
    )


def _bare_components(source: Source) -> set[str]:
    return {component.rpartition("/")[2] for component in source.components}


def _has_foreign_key(source: Source, distribution: Distribution) -> bool:
    # Its keyrings are called the same everywhere, with an ending of their own.
    return bool(source.signed_by) and not any(path.stem in source.signed_by for path in distribution.keyrings)


def _base_suite(suite: str) -> str:
    return suite.partition("/")[0].partition("-")[0]


def _beside(uris: Sequence[str], old: str, new: str) -> list[str]:
    found = []
    for uri in uris:
        head, slash, rest = uri.rpartition(f"/{old}")
        if slash and (not rest or rest.startswith("/")) and not uri.startswith("mirror"):
            found.append(f"{head}/{new}{rest}")
    return found


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
