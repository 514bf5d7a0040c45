"""Limits from words, as people write them at a prompt. Pure.

memory_max_bytes=64M  pids_max=max  cpu_idle=yes  cpuset_cpus=0-2  hugetlb_bytes.2MB=max  io.8:0.read_bytes=1M
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import IoLimit, Limits

_SUFFIXES = {"K": 10, "M": 20, "G": 30, "T": 40}
_TRUTHS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_RATES = IoLimit._fields[2:]


def parse_limits(words: Sequence[str]) -> Limits:
    """Limits from words, each a name and a value.

    Raises:
        LimitError: no such limit, or not a value of it.

    >>> parse_limits(["memory_max_bytes=64M", "pids_max=max"])[0]
    67108864
    """
    plain: dict[str, Any] = {}
    rates: dict[str, dict[str, int]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name, dot, rest = key.partition(".")
        if not equals or name not in Limits._fields:
            raise LimitError("limit", word, f"name=value, with a name of {', '.join(Limits._fields)}")
        if name == "io":
            device, _, rate = rest.rpartition(".")
            if rate not in _RATES:
                raise LimitError("limit", word, f"io.MAJOR:MINOR.RATE=value, with a rate of {', '.join(_RATES)}")
            rates.setdefault(device, {})[rate] = _number(name, text)
        elif dot and name in _MAPPED:
            plain.setdefault(name, {})[rest] = _MAPPED[name](key, text)
        elif not dot and (parse := _PLAIN.get(name)):
            plain[name] = parse(name, text)
        else:
            raise LimitError("limit", word, f"{name} is not written so")
    if rates:
        plain["io"] = tuple(IoLimit(*_device(device), **given) for device, given in rates.items())
    return Limits(**plain)


def _device(text: str) -> tuple[int, int]:
    major, colon, minor = text.partition(":")
    if not (colon and major.isdecimal() and minor.isdecimal()):
        raise LimitError("device", text, "MAJOR:MINOR")
    return int(major), int(minor)


def _number(name: str, text: str) -> int:
    if text == "max":
        return -1
    power = _SUFFIXES.get(text[-1:].upper(), 0)
    digits = text[:-1] if power else text
    if not (digits.removeprefix("-").isascii() and digits.removeprefix("-").isdecimal()):
        raise LimitError(name, text, "a number, with K, M, G or T behind it for powers of 1024, or max")
    return int(digits) << power


def _truth(name: str, text: str) -> bool:
    if text not in _TRUTHS:
        raise LimitError(name, text, "yes or no")
    return _TRUTHS[text]


def _text(name: str, text: str) -> str:
    return text


Parse = Callable[[str, str], Any]
_MAPPED: dict[str, Parse] = {
    "hugetlb_bytes": _number, "misc": _number, "net_priorities": _number, "unified": _text,
}  # fmt: skip
_BY_KIND: dict[str, Parse] = {"str | None": _text, "bool | None": _truth, "int | None": _number}
_PLAIN = {name: _BY_KIND[kind] for name, kind in Limits.__annotations__.items() if kind in _BY_KIND}
