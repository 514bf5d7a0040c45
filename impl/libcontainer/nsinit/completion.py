"""What a shell may put for the word that is typed, from the same tables that read the command line."""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL, HELP, VERBS, load
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Option
from kernelproof.impl.libcontainer.state import default_root, list_ids

SCRIPTS = {
    "bash": """\
_nsinit() {
    local IFS=$'\\n'
    COMPREPLY=($(nsinit completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _nsinit nsinit
""",
    "zsh": """\
#compdef nsinit
_nsinit() {
    local -a found
    found=("${(@f)$(nsinit completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -a found || _files
}
compdef _nsinit nsinit
""",
    "fish": """\
complete -c nsinit -a '(nsinit completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def complete(words: list[str]) -> list[str]:
    """What the last word may be.

    Args:
        words: those behind `nsinit`; the last is what is typed so far. In bash a `=` is a word of its own.
    """
    *before, typed = _joined(words) or [""]
    values, rest, pending = _read(GLOBAL, before)
    if not rest:
        return _candidates(GLOBAL, typed, pending, list(VERBS), values)
    try:
        command = load(rest[0])
    except LookupError:
        return []
    _, operands, pending = _read(command, rest[1:])
    if command.in_order and operands:
        return []
    return _candidates(command, typed, pending, _operands(rest[0], len(operands), values), values)


def _joined(words: list[str]) -> list[str]:
    """Puts together what bash splits: --opt = value."""
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and (word == "=" or found[-1].endswith("=")) and found[-1] != "--":
            found[-1] += word
        else:
            found.append(word)
    return found


def _read(command: Command, words: list[str]) -> tuple[dict[str, str], list[str], Option | None]:
    """Values and operands so far, and the option whose value is being typed; mistakes are passed over."""
    known = {name: option for option in (*command.options, HELP) for name in option.names}
    values: dict[str, str] = {}
    position = 0
    operands: list[str] = []
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            return values, operands + words[position:], None
        if not word.startswith("-") or word == "-":
            if command.in_order:
                return values, words[position - 1 :], None
            operands.append(word)
            continue
        name, equals, value = word.partition("=")
        option = known.get(name)
        if option is None or option.kind == FLAG:
            continue
        if not equals:
            if position == len(words):
                return values, operands, option
            value = words[position]
            position += 1
        values[option.key] = value
    return values, operands, None


def _candidates(
    command: Command, typed: str, pending: Option | None, operands: list[str], values: dict[str, str]
) -> list[str]:
    if pending is not None:
        return [choice for choice in pending.choices if choice.startswith(typed)]
    if typed.startswith("-"):
        name, equals, value = typed.partition("=")
        if equals:
            choices = [choice for option in command.options if name in option.names for choice in option.choices]
            return [choice for choice in choices if choice.startswith(value)]
        names = [option.names[0] for option in (*command.options, HELP) if not option.hidden]
        return [found for found in dict.fromkeys(names) if found.startswith(typed)]
    return [found for found in operands if found.startswith(typed)]


def _operands(name: str, count: int, values: dict[str, str]) -> list[str]:
    if name == "completion":
        return list(SCRIPTS) if not count else []
    if name == "kill" and count == 1:
        return ["HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"]
    if name in ("create", "run") or "ID" not in "".join(load(name).operands):
        return []
    try:
        return list(list_ids(values.get("root") or default_root())) if not count or name == "stats" else []
    except OSError:
        return []
