"""Names and paths of the graph.

A *name* labels an edge: any text but the empty one, `.`, `..`, and text with a `/` or a NUL in it. It is kept as
given: no Unicode normalisation, no folding of case; order is by code point. A *path* is `/` or `/name/name…`.

There are two readings. The strict one takes a path only as it would be written back. The one of 2014 drops empty
parts (`//a//b/` is `/a/b`) and takes a missing leading slash as given; it refuses `.` and `..` all the same, and
never reads a relative path as the root, as the original did.

This is not for file names: nothing here touches a file system.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernelproof.impl.graphdb.errors import InvalidPath

Names = tuple[str, ...]
"""The names along a path; the root's is empty."""


def check_name(name: str) -> str:
    """Return the name if it can label an edge.

    Raises:
        InvalidPath: It is empty, `.` or `..`, holds a `/` or a NUL, or is no text that UTF-8 can carry.
        TypeError: It is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    if not name:
        raise InvalidPath("an edge needs a name: the empty one cannot be looked up")
    if name in (".", ".."):
        raise InvalidPath(f"{name!r} is no name of an edge: it means a place in file systems")
    if "/" in name or "\0" in name:
        raise InvalidPath(f"{name!r} holds a slash or a NUL, which separate and end paths")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidPath(f"{name!r} cannot be written as UTF-8: {error.reason}") from None
    return name


def parse_path(path: str) -> Names:
    """Split a path in its one strict spelling.

    Raises:
        InvalidPath: It is not absolute, ends in a slash, or holds an empty part, `.`, `..` or a NUL.
        TypeError: It is not a string.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path is a str, not {type(path).__name__}")
    if path == "/":
        return ()
    if not path.startswith("/"):
        raise InvalidPath(f"{path!r} does not begin with a slash: paths start at the root")
    names = tuple(path[1:].split("/"))
    for name in names:
        if not name:
            raise InvalidPath(f"{path!r} holds an empty part")
        check_name(name)
    return names


def parse_path_2014(path: str) -> Names:
    """Split a path as the functions of 2014 did: empty parts do not count.

    Raises:
        InvalidPath: It is empty, or holds `.`, `..` or a NUL.
        TypeError: It is not a string.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path is a str, not {type(path).__name__}")
    if not path:
        raise InvalidPath("an empty path names nothing; the root is '/'")
    return tuple(check_name(part) for part in path.split("/") if part)


def format_path(names: Iterable[str]) -> str:
    """Write names as a path; no names are the root."""
    return "/" + "/".join(names)


def path_depth(path: str) -> int:
    """Count the parts of a path between slashes as the function of 2014 did: `/` and `` give 1, `/a` 2, `/a/` 3."""
    return 1 if path == "/" else path.count("/") + 1


def check_id(entity_id: str) -> str:
    """Return the id if an entity can bear it.

    Raises:
        ValueError: It is empty, holds a NUL, or cannot be written as UTF-8.
        TypeError: It is not a string.
    """
    if not isinstance(entity_id, str):
        raise TypeError(f"an id is a str, not {type(entity_id).__name__}")
    if not entity_id or "\0" in entity_id:
        raise ValueError(f"{entity_id!r} cannot be an id: it is empty or holds a NUL")
    entity_id.encode()
    return entity_id
