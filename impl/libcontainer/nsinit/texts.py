"""Help, made of the tables that read the command line."""

from __future__ import annotations

from kernelproof.impl.libcontainer.nsinit.commands import GLOBAL, HELP, PROGRAM, VERBS, load
from kernelproof.impl.libcontainer.nsinit.options import FLAG, Command, Option

WIDTH = 100


def program_help() -> str:
    """The help of the program: global options and all subcommands."""
    width = max(len(name) for name in VERBS) + 2
    verbs = [f"  {name.ljust(width)}{load(name).summary}" for name in VERBS]
    return "\n".join(
        [
            f"usage: {PROGRAM} [OPTION...] COMMAND [ARGUMENT...]",
            "",
            GLOBAL.summary,
            "",
            "commands:",
            *verbs,
            "",
            "options, before the command:",
            *_options(GLOBAL.options),
            "",
            f"{PROGRAM} COMMAND --help says more of a command.",
            "",
        ]
    )


def command_help(name: str, command: Command) -> str:
    """The help of a subcommand."""
    operands = "".join([f" {operand}" for operand in command.operands])
    lines = [f"usage: {PROGRAM} {name} [OPTION...]{operands}", "", command.summary]
    if command.details:
        lines += ["", *wrap(command.details, WIDTH)]
    lines += ["", "options:", *_options((*command.options, HELP))]
    if command.examples:
        lines += ["", "examples:", *[f"  {example}" for example in command.examples]]
    return "\n".join(lines) + "\n"


def _options(options: tuple[Option, ...]) -> list[str]:
    shown = [(spell(option), option) for option in options if not option.hidden]
    width = min(max(len(text) for text, _ in shown), 34) + 2
    lines = []
    for text, option in shown:
        about = wrap(option.text, WIDTH - width - 2)
        if len(text) > width - 2:
            lines.append(f"  {text}")
            text = ""
        lines.append(f"  {text.ljust(width)}{about[0]}")
        lines += [" " * (width + 2) + line for line in about[1:]]
    return lines


def spell(option: Option) -> str:
    """An option as one writes it: -b, --bundle DIR."""
    names = ", ".join(sorted(option.names, key=len))
    if option.kind == FLAG:
        return names
    value = "|".join(option.choices) if option.choices else option.metavar or "VALUE"
    return f"{names} {value}"


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most so many characters, words unbroken."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]
