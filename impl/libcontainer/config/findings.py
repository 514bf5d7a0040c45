"""Where the checks write down what they found."""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.problems import Problem, shorten

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Container


class Findings:
    """Problems and warnings of one look at a configuration.

    Attributes:
        problems: what is wrong.
        grounds: for each of the problems the places that it was seen by, its own first.
        warnings: what is odd.
    """

    __slots__ = ("grounds", "problems", "warnings")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.grounds: list[tuple[str, ...]] = []
        self.warnings: list[Problem] = []

    def wrong(self, path: str, value: object, rule: str, remedy: str = "", *, given: tuple[str, ...] = ()) -> None:
        """Notes a problem; `given` are other places without whose values it would be none."""
        self.problems.append(Problem(path, shorten(value), rule, remedy))
        self.grounds.append((path, *given))

    def odd(self, path: str, value: object, rule: str, remedy: str = "") -> None:
        """Notes a warning."""
        self.warnings.append(Problem(path, shorten(value), rule, remedy))

    def one_of(self, path: str, value: str, names: Container[str], what: str) -> None:
        """Notes a problem unless the value is one of the names."""
        if value not in names:
            alike = [name for name in names if name.lower() == value.lower()]  # type: ignore[attr-defined]
            self.wrong(path, value, f"no {what} of this name is known", f"Did you mean {alike[0]}?" if alike else "")

    def absolute(self, path: str, value: str) -> None:
        """Notes a problem unless the value is an absolute path."""
        if not value.startswith("/"):
            self.wrong(path, value, "an absolute path is needed", f"Write /{value}" if value else "")
