"""Names of keys: "ctrl-p,ctrl-q" to the bytes that a terminal sends for them."""

from __future__ import annotations

from kernelproof.impl.term.errors import UnknownKeyError

_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is 0, ctrl-a 1, ctrl-_ 31


def parse_keys(names: str) -> bytes:
    """Return the bytes of keys that are named with commas between.

    Args:
        names: each a single ASCII character, ctrl- and one of @, a to z, [, \\, ], ^ and _, or DEL. "" is no key.

    Raises:
        UnknownKeyError: a key has no such name; a comma cannot be one.

    >>> parse_keys("ctrl-p,ctrl-q")
    b'\\x10\\x11'
    >>> parse_keys("DEL,+")
    b'\\x7f+'
    """
    return bytes(_code(name) for name in names.split(",")) if names else b""


def _code(name: str) -> int:
    if len(name) == 1 and name.isascii() and name.isprintable():
        return ord(name)
    if name == "DEL":
        return 127
    prefix, _, key = name.partition("-")
    if prefix == "ctrl" and len(key) == 1 and key in _CONTROL:
        return _CONTROL.index(key)
    raise UnknownKeyError(name)


to_bytes = parse_keys  # the name of 2014
