"""Reads what apt's programs print: addresses of packages, what went wrong with a suite, how far a download is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_STATUS = re.compile(r"dlstatus:\d+:(?P<percent>[0-9.]+):")
_VERSION_PART = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package as the archive's signed index names it.

    Args:
        name: Its name.
        version: Its Debian version.
        uri: Where it is, on the mirror that was asked.
        size: Bytes.
        sha256: Digest of the file, 64 hexadecimal digits.
    """

    name: str
    version: str
    uri: str
    size: int
    sha256: str


def parse_uris(text: str) -> tuple[Package, ...]:
    """Parse what `--print-uris` printed; other lines are passed over.

    Raises:
        ValueError: a file that is not named `NAME_VERSION_ARCHITECTURE.deb`, or a line without SHA-256.
    """
    found = []
    for line in text.splitlines():
        if not line.startswith("'"):
            continue
        match = _URI.match(line)
        if match is None:
            raise ValueError(f"no address with a SHA-256 digest: {line!r}")
        parts = unquote(match["file"]).removesuffix(".deb").split("_")
        if len(parts) != 3:
            raise ValueError(f"not the name of a package file: {match['file']!r}")
        found.append(Package(parts[0], parts[1], match["uri"], int(match["size"]), match["sha256"]))
    return tuple(found)


def parse_percent(line: str) -> float | None:
    """How much is downloaded, from a line of apt's status descriptor; None from any other line."""
    match = _STATUS.match(line)
    return float(match["percent"]) if match else None


def parse_problem(text: str) -> str:
    """The one line of apt's messages that says best what went wrong."""
    for line in text.splitlines():
        if any(word in line for word in TROUBLES[0].words):
            return " ".join(line.removeprefix("E:").split())
    errors = [line[2:].strip() for line in text.splitlines() if line.startswith(("E:", "W:"))]
    dull = (
        "Some index files failed",
        "Failed to fetch some",
        "Download Failed",
        "Unable to fetch some",
        "See apt-secure",
    )
    telling = [error for error in errors if not error.startswith(dull)]
    for line in [*telling, *errors, *text.splitlines()[-1:]]:
        return " ".join(line.split())
    return "it said nothing"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A kind of failure, told by words of apt's, and what a user can do about it."""

    name: str
    words: tuple[str, ...]
    remedy: str


TROUBLES = (
    # First: apt goes on without space, and what it says last is then beside the point.
    Trouble("space", ("No space left", "Disk quota"), "free space, or set KERNELPROOF_CACHE to another folder"),
    Trouble(
        "expired",
        ("is expired", "is not valid yet"),
        "set the clock, take a mirror that is kept up to date, or accept old indexes with KERNELPROOF_EXPIRED=accept",
    ),
    Trouble(
        "unsigned",
        (
            *("is not signed", "signatures couldn't be verified", "signature verification", "NO_PUBKEY", "BADSIG"),
            *("invalid signature", "signatures were invalid", "Clearsigned file", "Missing key", "OpenPGP", "sqv"),
        ),
        "use a mirror of the Debian archive that is signed by the Debian keyring (package debian-archive-keyring)",
    ),
    Trouble(
        "vanished", ("does not have a Release file", "404  Not Found", "File not found"), "use a mirror that carries it"
    ),
    Trouble(
        "network",
        (
            "Temporary failure resolving",
            "Could not resolve",
            "Could not connect",
            "Connection",
            "timed out",
            "Cannot ini",
        ),
        "connect to the network, or set the proxy in apt's configuration (Acquire::http::Proxy)",
    ),
    Trouble(
        "digest", ("Hash Sum mismatch", "Size mismatch"), "try again later: the mirror is being changed, or is broken"
    ),
)
UNKNOWN_TROUBLE = Trouble("unknown", (), "run `apt-get update` by hand and mend what it complains of")


def classify(text: str) -> Trouble:
    """The kind of failure that apt's messages tell of, the first of `TROUBLES` that fits."""
    for trouble in TROUBLES:
        if any(word in text for word in trouble.words):
            return trouble
    return UNKNOWN_TROUBLE


def version_key(version: str) -> tuple[int, ...]:
    """A key that sorts the versions of one kernel series as dpkg would: their numbers, in order."""
    return tuple(int(part) for part in _VERSION_PART.findall(version))


def parse_expiry(release: str) -> datetime | None:
    """When an index is to be renewed by, from the text of its `Release` or `InRelease`; None if it does not say."""
    for line in release.splitlines():
        if line.startswith("Valid-Until:"):
            try:
                return parsedate_to_datetime(line.partition(":")[2].strip().removesuffix("UTC") + "+0000")
            except ValueError:
                return None
    return None
