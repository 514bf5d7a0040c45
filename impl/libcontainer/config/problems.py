"""What is wrong with a configuration: where, what stands there, which rule it breaks, what helps."""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.record import Record

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_SHOWN = 100  # a hostile list of a million wrong entries is not a million sentences


class Problem(Record):
    """One thing that is wrong, or, as a warning, one that is odd.

    `path` is a JSON path such as $.linux.namespaces[2].type; `value` what stands there, as JSON, shortened; empty if
    nothing does.
    """

    path: str
    value: str
    rule: str
    remedy: str = ""

    def __str__(self) -> str:
        value = f" is {self.value}" if self.value else ""
        return f"{self.path}{value}: {self.rule}" + (f". {self.remedy}" if self.remedy else "")

    def as_record(self) -> dict[str, str]:
        """The problem as plain values, for JSON: path, value, rule, remedy."""
        return {"path": self.path, "value": self.value, "rule": self.rule, "remedy": self.remedy}


class ConfigError(ValueError):
    """A configuration can't be taken. Everything that is wrong with it is told at once.

    Attributes:
        source: the file, or what else it came from.
        problems: all that is wrong, in the order of the document.
    """

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        shown = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"and {len(self.problems) - MOST_SHOWN} more")
        only = len(shown) == 1
        super().__init__(
            f"{source}: {shown[0]}" if only else f"{source}: {len(self.problems)} problems\n  " + "\n  ".join(shown)
        )


def shorten(value: object) -> str:
    """A value as JSON-like text of at most 80 characters, without control characters; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "an object" if value else "{}"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}" if value else "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -(10**40) < value < 10**40 else f"an integer of {value.bit_length()} bits"
    text = str(value)
    shown = "".join([character if character.isprintable() else _escaped(character) for character in text[:80]])
    ending = "..." if len(text) > 80 else ""
    return f'"{shown}{ending}"' if type(value) is str else f"{shown}{ending}"


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"
