"""Words to values by a command's table.

`--opt value` and `--opt=value` are the same, and so is `-opt`: the engines' habits and those of 2014. `--` ends the
options. All words are understood before anything is done: an unknown option, a missing value, an operand too many is an
error without effect.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.options import FLAG, NUMBER, SIZE, TEXTS, Command, Given, Option, UsageError

# 64m, 64MB and 64MiB are the same, as for runc and docker: a unit is 1024 of the one before it.
_SHIFTS = {"": 0, "b": 0, **{f"{unit}{end}": 10 * n for n, unit in enumerate("kmgtp", 1) for end in ("", "b", "ib")}}
_NEEDED = "bytes are needed, such as 67108864 or 64m"
TRUE, FALSE = ("true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")


def parse(command: Command, words: list[str]) -> Given:
    """Understands the words behind a subcommand.

    Raises:
        UsageError: they are not what it takes.
    """
    given = _split(command, words, command.in_order)
    if command.in_order and given.operands[1:2] == ["--"]:
        del given.operands[1]
    _count(command, given.operands)
    return given


def parse_front(command: Command, words: list[str]) -> tuple[Given, list[str]]:
    """Understands the options before the first operand; returns them and the words from that operand on.

    Raises:
        UsageError: they are not what the command takes.
    """
    given = _split(command, words, True)
    return Given(given.values, []), given.operands


def _split(command: Command, words: list[str], in_order: bool) -> Given:
    known = {name.lstrip("-"): option for option in command.options for name in option.names}
    given = Given({}, [])
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            given.operands += words[position:]
            break
        if word != "-" and word.startswith("-"):
            position = _option(words, position, known, given.values)
            continue
        given.operands.append(word)
        if in_order:
            given.operands += words[position:]
            break
    return given


def _option(words: list[str], position: int, known: dict[str, Option], values: dict[str, object]) -> int:
    """Takes the option before a position, and its value; returns the position behind them."""
    word = words[position - 1]
    name, equals, value = word.lstrip("-").partition("=")
    option = known.get(name)
    if option is None or word.startswith("---"):
        raise UsageError(_unknown(word, known))
    if option.kind == FLAG:
        values[option.key] = _truth(word, value) if equals else True
        return position
    if not equals:
        if position == len(words):
            raise UsageError(f"{word} needs a value{f' ({option.metavar})' if option.metavar else ''}")
        value = words[position]
        position += 1
    _set(values, option, f"--{option.key}", value)
    return position


def _set(values: dict[str, object], option: Option, shown: str, value: str) -> None:
    if option.choices and value not in option.choices:
        raise UsageError(f"{shown} {value!r}: one of {', '.join(option.choices)} is needed")
    if option.kind == TEXTS:
        found = values.setdefault(option.key, [])
        assert isinstance(found, list)
        found.append(value)
    elif option.kind == NUMBER:
        values[option.key] = _integer(value, shown, value, "an integer is needed")
    elif option.kind == SIZE:
        values[option.key] = _size(shown, value)
    else:
        values[option.key] = value


def _integer(digits: str, shown: str, value: str, needed: str) -> int:
    plain = digits.removeprefix("-")
    if not (plain.isascii() and plain.isdigit() and len(plain) < 21):
        raise UsageError(f"{shown} {value!r}: {needed}")
    return int(digits)


def _size(shown: str, value: str) -> int:
    digits = value.rstrip("bBiIkKmMgGtTpP")
    shift = _SHIFTS.get(value[len(digits) :].lower())
    return _integer(digits if shift is not None else "", shown, value, _NEEDED) << (shift or 0)


def _truth(word: str, value: str) -> bool:
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise UsageError(f"{word}: true or false is needed")


def _unknown(word: str, known: dict[str, Option]) -> str:
    name = word.lstrip("-").partition("=")[0]
    alike = {f"--{option.key}" for option in known.values() if option.key.startswith(name[:3]) and not option.hidden}
    proposal = f"; did you mean {' or '.join(sorted(alike))}?" if alike and len(name) > 2 else ""
    return f"unknown option {word.partition('=')[0]}{proposal}"


def _count(command: Command, operands: list[str]) -> None:
    needed = [name for name in command.operands if not name.startswith("[")]
    many = any(name.endswith("...]") for name in command.operands)
    if len(operands) < len(needed):
        raise UsageError(f"{needed[len(operands)]} is missing")
    if not many and len(operands) > len(command.operands):
        raise UsageError(f"unexpected word {operands[len(command.operands)]!r}")
