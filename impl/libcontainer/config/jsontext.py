"""JSON text to values and back, with what a configuration needs: floats and doubled keys are seen, size is bounded.

    >>> parse(b'{"a": [1, 1.5], "a": true}')
    Members({'a': True}, doubled=('a',))

This is the interpreter's own scanner without its Python half: `import json` compiles regular expressions, which costs
4 ms at every start. A number with a fraction or an exponent is a `Fraction` (its text), never rounded; whoever reads
the value decides. Where the interpreter has no such scanner, the standard library's slow one is taken.

Source: RFC 8259.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 16 << 20  # the largest configuration known from the field, thousands of seccomp rules, has half a megabyte
_BLANK = " \t\n\r"


class Members(dict[str, object]):
    """A JSON object in which names stood more than once; the last value of each is kept, as most readers do."""

    __slots__ = ("doubled",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        counts: dict[str, int] = {}
        for name, _ in pairs:
            counts[name] = counts.get(name, 0) + 1
        self.doubled = tuple([name for name, count in counts.items() if count > 1])

    def __repr__(self) -> str:
        return f"Members({dict.__repr__(self)}, doubled={self.doubled})"


class Fraction(str):
    """A number that is no integer, as its text: 1.5, 1e3, NaN."""

    __slots__ = ()


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Members(pairs)


class _Settings:
    """What the interpreter's scanner asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_members)
    array_hook = None
    parse_float = Fraction
    parse_int = int
    parse_constant = Fraction
    memo: dict[str, str] = {}  # noqa: RUF012 - of the scanner that is written in Python


def _scanner() -> Callable[[str, int], tuple[object, int]]:
    try:
        from _json import make_scanner  # private: some interpreters don't have it
    except ImportError:
        from json.scanner import make_scanner  # costs 4 ms
    return make_scanner(_Settings)  # type: ignore[arg-type]


def parse(data: bytes | str, most_bytes: int = MOST_BYTES) -> object:
    """Reads one JSON document.

    Returns:
        dict, list, str, int, bool, None; `Fraction` for other numbers, `Members` for objects with doubled names.

    Raises:
        ValueError: it is too large, cut off, no UTF-8, no JSON; the text says where.
    """
    if len(data) > most_bytes:
        raise ValueError(f"{len(data)} bytes of JSON: more than {most_bytes} are not read")
    text = data if isinstance(data, str) else _decode(data)
    start = len(text) - len(text.lstrip(_BLANK))
    if start == len(text):
        raise ValueError("nothing is there")
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(_where(text, stop.value, "a value is missing")) from None
    except RecursionError:
        raise ValueError("arrays or objects within each other: too many levels") from None
    except ValueError as error:
        raise ValueError(_said(text, error)) from None
    rest = text[end:].lstrip(_BLANK)
    if rest:
        raise ValueError(_where(text, len(text) - len(rest), "text after the end of the document"))
    return value


def _scan(text: str, start: int) -> tuple[object, int]:
    try:
        return _scanner()(text, start)
    except SystemError:  # it knows its error only when this module is there
        from json.decoder import JSONDecodeError  # noqa: F401 - costs 4 ms

        return _scanner()(text, start)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is no UTF-8") from None


def _said(text: str, error: ValueError) -> str:
    position = getattr(error, "pos", None)
    if position is None:
        return "an integer of thousands of digits" if "digit" in str(error) else str(error)
    message: str = getattr(error, "msg", "no JSON")
    return _where(text, position, message[:1].lower() + message[1:])


def _where(text: str, position: int, what: str) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    cut = "; the text is cut off there" if not text[position:].strip(_BLANK) and position else ""
    return f"line {line}, column {column}: {what}{cut}"


def format_value(value: object, indent: int | None = None) -> str:
    """JSON text of a value: on one line, or indented by so many blanks a level (None: on one line, shortest).

    Raises:
        ValueError: something in it is no JSON value.
    """
    from _json import encode_basestring_ascii as quote  # measured: not every command writes JSON

    return "".join(_parts(value, quote, indent, "" if indent is None else "\n"))


def _parts(value: object, quote: Callable[[str], str], indent: int | None, line: str) -> list[str]:
    if not isinstance(value, dict | list | tuple):
        return [_scalar(value, quote)]
    inner = line if indent is None else line + " " * indent
    parts: list[str] = []
    if isinstance(value, dict):
        for name, member in value.items():
            parts += ",", inner, quote(name), ":" if indent is None else ": ", *_parts(member, quote, indent, inner)
    else:
        for member in value:
            parts += ",", inner, *_parts(member, quote, indent, inner)
    start, end = "{}" if isinstance(value, dict) else "[]"
    return [start, *parts[1:], line, end] if parts else [start, end]


def _scalar(value: object, quote: Callable[[str], str]) -> str:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf")):
        return repr(value)
    raise ValueError(f"{type(value).__name__} is no JSON value: {value!r}")
