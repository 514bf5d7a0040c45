"""Values that operands and options have: users, signals, times. Each is understood in full, or refused."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # the C half: the enums of `signal` cost 4 ms

from kernelproof.impl.libcontainer.nsinit.options import UsageError

MOST_ID = 0xFFFFFFFE  # 4294967295 is -1 to the system calls
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_user(text: str) -> tuple[int, int | None]:
    """UID or UID:GID, decimal digits only; the group is None if it is not said.

    Raises:
        UsageError: it is anything else: a bad user must never become root.
    """
    uid, colon, gid = text.partition(":")
    return parse_id(uid, "--user"), parse_id(gid, "--user") if colon else None


def parse_id(text: str, what: str) -> int:
    """A user's or group's number.

    Raises:
        UsageError: it is not decimal digits, or above 4294967294.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MOST_ID):
        raise UsageError(f"{what} {text!r}: a number from 0 to {MOST_ID} is needed")
    return int(text)


def parse_signal(text: str) -> int:
    """A signal: 9, KILL, SIGKILL, sigkill, 0, 35, RTMIN+1, SIGRTMAX-2.

    Raises:
        UsageError: there is no such signal.
    """
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) < _signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    for sign in "+-":
        base, found, offset = name.partition(sign)
        if found and base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit() and len(offset) < 3:
            number = int(getattr(_signal, f"SIG{base}")) + int(sign + offset)
            if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
                return number
    known: object = getattr(_signal, f"SIG{name}", None) if name.isalnum() else None
    if isinstance(known, int) and known > 0:
        return known
    raise UsageError(f"signal {text!r} is unknown; {', '.join(near_signals(name))}")


def near_signals(name: str) -> list[str]:
    """Signals whose names begin alike, or the usual ones."""
    names = [known.removeprefix("SIG") for known in dir(_signal) if known.startswith("SIG") and "_" not in known]
    near = [known for known in names if known.startswith(name[:2])]
    return sorted(near) if name and near else ["HUP", "INT", "KILL", "TERM", "USR1"]


def parse_duration(text: str, what: str) -> float:
    """Seconds: 5s, 1m30s, 250ms, or a number of seconds.

    Raises:
        UsageError: it is no duration, or not above zero.
    """
    total, rest = 0.0, text
    while rest:
        length = next((place for place, letter in enumerate(rest) if letter not in "0123456789."), len(rest))
        number, rest = rest[:length], rest[length:]
        unit = next((unit for unit in ("ms", "us", "ns", "s", "m", "h") if rest.startswith(unit)), "")
        if not unit and (rest or total):
            break
        rest = rest[len(unit) :]
        if number.count(".") > 1 or not number.strip("."):
            break
        total += float(number) * _UNITS[unit or "s"]
    else:
        if total > 0:
            return total
    raise UsageError(f"{what} {text!r}: a time such as 5s, 1m30s or 250ms is needed")
