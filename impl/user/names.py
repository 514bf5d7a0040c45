"""Which names of users and groups are valid, by the rules of those who make them.

There is no one rule: shadow's useradd, systemd's strict set (sysusers.d) and its relaxed set (records from elsewhere)
differ, and a file may hold a name that none of them would make. So a look-up takes any name, and whoever makes users
asks here first.
"""

from __future__ import annotations

from collections.abc import Callable

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_LETTERS = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")

Problem = str


def name_problems(name: str, rules: str = "common") -> tuple[Problem, ...]:
    """Return what is wrong with a name, nothing if it is valid.

    Args:
        name: of a user or group.
        rules: "common" (valid by every rule set that the systemd document lists), "useradd" (shadow),
            "strict" (sysusers.d) or "relaxed" (what systemd accepts from others).

    Raises:
        LookupError: no such rule set.

    Source: useradd(8), CAVEATS; sysusers.d(5), Name; systemd.io, User/Group Name Syntax.

    >>> name_problems("ada")
    ()
    >>> name_problems("1000", "relaxed")
    ('it is a number',)
    """
    check = _RULES.get(rules)
    if check is None:
        raise LookupError(f"no rules {rules!r}; there are {', '.join(_RULES)}")
    return ("it is empty",) if not name else check(name)


def is_valid_name(name: str, rules: str = "common") -> bool:
    """Return whether a name is valid; as name_problems."""
    return not name_problems(name, rules)


def _others(name: str, allowed: frozenset[str]) -> tuple[Problem, ...]:
    others = dict.fromkeys(character for character in name if character not in allowed)
    return (f"it holds {''.join(others)!r}",) if others else ()


def _common(name: str) -> tuple[Problem, ...]:
    problems = _others(name, _LOWER | _DIGITS | {"-"})
    if name[0] not in _LOWER:
        problems += ("it does not begin with a small letter",)
    return problems + _longer_than(name, 31)


def _strict(name: str) -> tuple[Problem, ...]:
    problems = _others(name, _LETTERS | _DIGITS | {"_", "-"})
    if name[0] not in _LETTERS | {"_"}:
        problems += ("it does not begin with a letter or underscore",)
    return problems + _longer_than(name, 31)


def _useradd(name: str) -> tuple[Problem, ...]:
    problems = _others(name.removesuffix("$"), _LETTERS | _DIGITS | {"_", "-", "."})
    if name[0] == "-":
        problems += ("it begins with a dash",)
    return problems + _special(name) + _longer_than(name, 256)


def _relaxed(name: str) -> tuple[Problem, ...]:
    control = dict.fromkeys(each for each in name if each < " " or "\x7f" <= each <= "\x9f")
    problems: tuple[Problem, ...] = (f"it holds control characters {''.join(control)!r}",) if control else ()
    if ":" in name or "/" in name:
        problems += ("it holds a colon or a slash",)
    if name != name.strip():
        problems += ("it begins or ends with a blank",)
    if any("\udc80" <= each <= "\udcff" for each in name):
        problems += ("it is no UTF-8",)
    if name[0] == "-" and _is_number(name[1:]):
        problems += ("it is a dash and a number",)
    return problems + _special(name)


def _special(name: str) -> tuple[Problem, ...]:
    problems: tuple[Problem, ...] = ("it is a number",) if _is_number(name) else ()
    return (*problems, "it is a directory's own name") if name in (".", "..") else problems


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _longer_than(name: str, limit: int) -> tuple[Problem, ...]:
    return (f"it has {len(name)} characters, over {limit}",) if len(name) > limit else ()


_RULES: dict[str, Callable[[str], tuple[Problem, ...]]] = {
    "common": _common,
    "useradd": _useradd,
    "strict": _strict,
    "relaxed": _relaxed,
}
