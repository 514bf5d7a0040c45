"""The manual page, made of the parsers that read the command line.

python -m kernelproof.cli.manual > docs/kernelproof.1
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from kernelproof.cli.commands import COMMANDS, build_command, describe

HEAD = r""".\" Made by python -m kernelproof.cli.manual; a test holds it to the command line.
.TH KERNELPROOF 1 "" kernelproof
.SH NAME
kernelproof \- machines with real kernels, for tests and for people
.SH SYNOPSIS
.B kernelproof
.I COMMAND
.RI [ ARGUMENT " ...]"
.br
.B kernelproof
.BR \-\-help | \-\-version
.SH DESCRIPTION
Documented Linux behaviour is checked on real kernels, in virtual machines without KVM.
This command makes such machines, opens a prompt in them, runs programs in them, and looks after what they are made of.
Tests are run by
.BR pytest (1)
with the option
.BR \-\-kernel .
.SH COMMANDS"""

TAIL = r""".SH EXIT STATUS
0, 1 after a failure, 2 after a usage error, 130 after Ctrl\-C;
.B run
and
.B shell
end as the program did.
.SH ENVIRONMENT
.TP
.B KERNELPROOF_CACHE
The folder of what was fetched and made, in place of
.IR ~/.cache/kernelproof .
.TP
.B KERNELPROOF_ACCELERATOR
.B tcg
or
.BR kvm ,
in place of what a real boot proves.
.SH FILES
.TP
.I results/KERNEL.json
Results of whole runs, a file a kernel.
.SH SEE ALSO
.BR pytest (1),
.BR qemu\-system\-x86_64 (1)"""


def format_manual() -> str:
    """The page as roff."""
    lines = [HEAD]
    for name in COMMANDS:
        lines += _format_command(name)
    return "\n".join([*lines, TAIL]) + "\n"


def _format_command(name: str) -> Iterator[str]:
    parser = build_command(name)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    yield f".SS kernelproof {name}"
    yield _text(describe(name))
    yield ".PP"
    yield f".B {_text(' '.join([parser.prog, *map(_usage, shown)]))}"
    for action in shown:
        if "--help" not in action.option_strings:
            yield ".TP"
            yield f".B {_text(_name(action))}"
            yield _text(_expand(action))
    if parser.epilog:
        yield from (".PP", ".nf", *(_text(line) for line in parser.epilog.splitlines()), ".fi")


def _usage(action: argparse.Action) -> str:
    # Not argparse's own, which differs from one Python to the next.
    name = _name(action)
    if action.option_strings:
        shortest = action.option_strings[0]
        name = f"{shortest} {name.partition(action.option_strings[-1])[2].strip()}".strip()
        return name if action.required else f"[{name}]"
    return f"[{name} ...]" if action.nargs == "*" else f"{name} ..." if action.nargs == "+" else name


def _name(action: argparse.Action) -> str:
    metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    value = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if not action.option_strings:
        return value if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}"
    return f"{', '.join(action.option_strings)} {value if action.nargs != 0 else ''}".strip()


def _expand(action: argparse.Action) -> str:
    return re.sub(r"%%", "%", action.help or "")


def _text(text: str) -> str:
    r"""Text that roff shows as it is: no line is a request, backslashes and dashes are themselves."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) or not escaped else escaped


if __name__ == "__main__":
    print(format_manual(), end="")
