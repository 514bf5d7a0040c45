"""`kernelproof completion`: what shells need to complete this command's words, and the words themselves.

A shell asks with `completion words -- WORD …`, the last word being the one that is typed; what the answer is comes
from the same parsers that read the command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from kernelproof.cli import commands

SCRIPTS = {
    "bash": """\
_kernelproof() {
    local IFS=$'\\n'
    COMPREPLY=($(kernelproof completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _kernelproof kernelproof
""",
    "zsh": """\
#compdef kernelproof
_kernelproof() {
    local -a found
    found=("${(@f)$(kernelproof completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -a found || _files
}
compdef _kernelproof kernelproof
""",
    "fish": """\
function __kernelproof_words
    set -l found (kernelproof completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c kernelproof -f -a '(__kernelproof_words)'
""",
}

EPILOG = """examples:
  eval "$(kernelproof completion bash)"                           in ~/.bashrc
  eval "$(kernelproof completion zsh)"                            in ~/.zshrc, behind compinit
  kernelproof completion fish > ~/.config/fish/completions/kernelproof.fish"""

Values = Mapping[str, Callable[[], Sequence[str]]]  # what may stand for an argument, by its name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument("shell", choices=(*SCRIPTS, "words"), help="print this shell's script; or complete words")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def complete(words: Sequence[str], values: Values) -> list[str]:
    """What the last word may be.

    Args:
        words: Behind `kernelproof`; the last is what is typed so far.
        values: For arguments that are not among the parser's own choices.
    """
    *before, typed = words or [""]
    if "--" in before:
        return []  # the program's own
    name = next((word for word in before if not word.startswith("-")), None)
    if name is None:
        return _matching(typed, [*commands.COMMANDS, "--help", "--version"])
    if name not in commands.COMMANDS:
        return []
    actions = commands.build_command(name)._actions
    options = {option: action for action in actions for option in action.option_strings}
    asked = options.get(before[-1]) if before else None
    if asked is not None and asked.nargs != 0:
        return _values_of(asked, typed, values)
    if typed.startswith("-"):
        return _matching(typed, [option for option, action in options.items() if action.help != argparse.SUPPRESS])
    return [word for action in actions if not action.option_strings for word in _values_of(action, typed, values)]


def _values_of(action: argparse.Action, typed: str, values: Values) -> list[str]:
    if action.choices is not None:
        return _matching(typed, [str(choice) for choice in action.choices])
    if action.dest not in values:
        return []
    first, comma, last = typed.rpartition(",")  # kernels stand between commas
    return [f"{first}{comma}{word}" for word in _matching(last, values[action.dest]())]


def _matching(typed: str, words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith(typed)]


def run(arguments: argparse.Namespace) -> int:
    """Print the script, or the words."""
    if arguments.shell != "words":
        print(SCRIPTS[arguments.shell], end="")
        return 0
    values = {"kernel": commands.list_kernels, "profile": commands.list_profiles}
    for word in complete(arguments.words, values):
        print(word)
    return 0
