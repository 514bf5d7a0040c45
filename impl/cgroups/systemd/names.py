"""Names of units: slices as paths of cgroups, and any text as a part of a name. Pure.

Source: systemd.unit(5), String Escaping for Inclusion in Unit Names; systemd.slice(5); systemd-escape(1).
"""

from __future__ import annotations

import re

from kernelproof.impl.cgroups.errors import LimitError

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
_MOST_BYTES = 255  # UNIT_NAME_MAX, with its end
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(slice|scope|service)")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def escape(text: str) -> str:
    """Text as a part of a unit's name.

    A slash becomes `-`; what is no letter, digit, `:`, `_` or `.`, and a dot in front, becomes `\\x` with two digits.

    >>> escape("web/2-a")
    'web-2\\\\x2da'
    """
    data = text.encode("utf-8", "surrogateescape")
    out = []
    for index, byte in enumerate(data):
        if byte == ord("/"):
            out.append("-")
        elif byte in _PLAIN and not (index == 0 and byte == ord(".")):
            out.append(chr(byte))
        else:
            out.append(f"\\x{byte:02x}")
    return "".join(out)


def escape_path(path: str) -> str:
    """A path as a part of a unit's name: without slashes at its ends; the root is `-`.

    Raises:
        LimitError: a component is `..`.

    >>> escape_path("/srv//web/")
    'srv-web'
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LimitError("unit name", path, "a path with .. can't be a part of a name")
    return escape("/".join(parts)) if parts else "-"


def unescape(text: str) -> str:
    """The text that was escaped.

    >>> unescape("web-2\\\\x2da")
    'web/2-a'
    """
    data = text.encode("utf-8", "surrogateescape").replace(b"-", b"/")
    whole = _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), data)
    return whole.decode("utf-8", "surrogateescape")


def check_unit(name: str, kind: str) -> str:
    """The name of a unit of a kind, "slice", "scope" or "service", as it is.

    Raises:
        LimitError: not such a name.
    """
    if not _UNIT.fullmatch(name) or not name.endswith(f".{kind}") or len(name.encode()) > _MOST_BYTES:
        reason = f"letters, digits and :_.\\@-, and .{kind} behind; at most {_MOST_BYTES} bytes; see escape"
        raise LimitError("unit name", name, reason)
    return name


def expand_slice(name: str) -> str:
    """The cgroup of a slice: each dash goes one level down.

    Args:
        name: of the slice; "-.slice" is the root.

    Raises:
        LimitError: not the name of a slice: a dash at an end, two of them side by side, a slash.

    Source: systemd.slice(5).

    >>> expand_slice("a-b.slice")
    '/a.slice/a-b.slice'
    """
    check_unit(name, "slice")
    stem = name.removesuffix(".slice")
    if stem == "-":
        return "/"
    parts = stem.split("-")
    if "" in parts:
        raise LimitError("slice", name, "a dash divides two levels: neither may be empty")
    return "".join(f"/{'-'.join(parts[:depth])}.slice" for depth in range(1, len(parts) + 1))


def slice_of(path: str) -> str:
    """The slice of a cgroup that `expand_slice` would give.

    Raises:
        LimitError: not such a path.

    >>> slice_of("/a.slice/a-b.slice")
    'a-b.slice'
    """
    name = path.rstrip("/").rpartition("/")[2] or "-.slice"
    if expand_slice(name) != (path.rstrip("/") or "/"):
        raise LimitError("cgroup", path, f"not where {name} is, which is {expand_slice(name)}")
    return name
