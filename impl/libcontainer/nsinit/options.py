"""What a subcommand takes, as a table: options with their kinds, operands, and what was given of them."""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

FLAG, TEXT, NUMBER, SIZE, TEXTS = "flag", "text", "number", "size", "texts"


class UsageError(Exception):
    """The words of a command line are not what the command takes; nothing was touched."""


class Option:
    """One option.

    Attributes:
        names: as they are written, the long one first: "--bundle", "-b".
        kind: FLAG (true, or --opt=false), TEXT, NUMBER (an integer), SIZE (bytes: an integer, perhaps with a unit),
            TEXTS (can be given several times).
        metavar: what stands for the value in help.
        text: what it does.
        choices: the values that are possible, if few are.
        hidden: accepted because others send it, but not advertised.
    """

    __slots__ = ("choices", "hidden", "kind", "metavar", "names", "text")

    def __init__(
        self,
        names: str,
        kind: str,
        text: str,
        metavar: str = "",
        *,
        choices: tuple[str, ...] = (),
        hidden: bool = False,
    ) -> None:
        self.names = tuple(names.split())
        self.kind = kind
        self.text = text
        self.metavar = metavar
        self.choices = choices
        self.hidden = hidden

    @property
    def key(self) -> str:
        """The name by which its value is found."""
        return self.names[0].lstrip("-")


class Command:
    """One subcommand, or the program itself.

    Attributes:
        summary: one line.
        options: what can be given.
        operands: names of what stands without an option; "[X]" may be absent, "[X...]" is any number.
        in_order: whether options end at the first operand, as what follows is another program's command line.
        details: paragraphs for the help, and for the manual page.
        examples: lines for the help.
        failure: the exit status if it fails.
    """

    __slots__ = ("details", "examples", "failure", "in_order", "operands", "options", "run", "summary")

    def __init__(
        self,
        summary: str,
        options: tuple[Option, ...] = (),
        operands: tuple[str, ...] = (),
        *,
        run: Callable[..., int] | None = None,
        in_order: bool = False,
        details: str = "",
        examples: tuple[str, ...] = (),
        failure: int = 1,
    ) -> None:
        self.summary = summary
        self.options = options
        self.operands = operands
        self.run = run
        self.in_order = in_order
        self.details = details
        self.examples = examples
        self.failure = failure


class Given:
    """What stood on the command line: options by their long name, and the operands."""

    __slots__ = ("operands", "values")

    def __init__(self, values: dict[str, object], operands: list[str]) -> None:
        self.values = values
        self.operands = operands

    def has(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.values

    def flag(self, name: str) -> bool:
        """Whether a flag is on."""
        return self.values.get(name) is True

    def text(self, name: str, default: str = "") -> str:
        """The value of an option of kind TEXT."""
        value = self.values.get(name, default)
        assert isinstance(value, str)
        return value

    def number(self, name: str, default: int = 0) -> int:
        """The value of an option of kind NUMBER."""
        value = self.values.get(name, default)
        assert isinstance(value, int)
        return value

    def texts(self, name: str) -> list[str]:
        """The values of an option of kind TEXTS, in order."""
        value = self.values.get(name, [])
        assert isinstance(value, list)
        return value
