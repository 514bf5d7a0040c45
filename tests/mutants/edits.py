"""A small table of edits that break source code, each one place in one function.

An edit is text for text, so that what is shown is what ran. It has a name that does not change when lines above it do:
file, function, old text, new text, and a number where a function has the same edit at several places.

What is not edited, as nobody promises it: docstrings, annotations, the words of errors, of notes and of help, what is
evaluated when a module is loaded.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_COMPARE = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_BINARY = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "//",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
_WORDS = ("add_note", "add_argument", "error", "print", "warn", "add_parser")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Edit(NamedTuple):
    """One way to break a file.

    Args:
        path: The file, relative to the project's root.
        function: The qualified name of the outermost function that it is in.
        line: Where it begins; for people, and not a part of its name.
        start: Offset in the file's text.
        old: What stands there.
        new: What is put there.
        number: 1 for the first of equal edits in a function, and so on.
    """

    path: str
    function: str
    line: int
    start: int
    old: str
    new: str
    number: int

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.path}::{self.function}: {self.old!r} -> {self.new!r} #{self.number}"

    def apply(self, text: str) -> str:
        """The broken text.

        Raises:
            ValueError: the text is not the one that the edit was made for.
        """
        if text[self.start : self.start + len(self.old)] != self.old:
            raise ValueError(f"{self.path} has changed since the edit was made")
        return text[: self.start] + self.new + text[self.start + len(self.old) :]


def edits_of(path: str, text: str) -> list[Edit]:
    """All edits of a file, in its order."""
    finder = _Finder(text)
    found = sorted(
        (start, old, new, function, line)
        for function, node in _outermost(ast.parse(text).body, "")
        for start, old, new, line in finder.in_function(node)
    )
    counts: Counter[tuple[str, str, str]] = Counter()
    edits = []
    for start, old, new, function, line in found:
        counts[function, old, new] += 1
        edits.append(Edit(path, function, line, start, old, new, counts[function, old, new]))
    return edits


def read_edits(root: Path, folder: str) -> list[Edit]:
    """All edits of the files below a folder, tests left out."""
    paths = sorted(path for path in (root / folder).rglob("*.py") if "tests" not in path.relative_to(root).parts)
    return [edit for path in paths for edit in edits_of(str(path.relative_to(root)), path.read_text("utf-8"))]


def read_observers(root: Path) -> list[Edit]:
    """All edits of what behaviours see with: the modules and fixtures beside their tests."""
    others = ("report", "witnesses", "behaviours")
    paths = sorted(path for path in (root / "conformance").glob("*/*.py") if path.parent.name not in others)
    return [
        edit
        for path in paths
        if not path.name.startswith("test_")
        for edit in edits_of(str(path.relative_to(root)), path.read_text("utf-8"))
    ]


def _outermost(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, _Function]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _outermost(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _outermost([*node.body, *node.orelse], prefix)


_Found = tuple[int, str, str, int]  # offset, old, new, line


class _Finder:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def in_function(self, function: _Function) -> Iterator[_Found]:
        for statement in function.body:
            yield from self._in(statement)

    def _in(self, node: ast.AST) -> Iterator[_Found]:
        yield from self._of(node)
        for child in _children(node):
            # Most texts are words for people; one that is compared or looked up is not.
            is_word = isinstance(child, ast.Constant) and isinstance(child.value, str | bytes)
            if not is_word or isinstance(node, ast.Compare | ast.Subscript):
                yield from self._in(child)

    def _of(self, node: ast.AST) -> Iterator[_Found]:
        if isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, ast.stmt):
            yield from self._statement(node)
        yield from self._operator(node)

    def _operator(self, node: ast.AST) -> Iterator[_Found]:
        match node:
            case ast.Compare(ops=[operator]):
                yield from self._between(node.left, node.comparators[0], _COMPARE.get(type(operator)))
            case ast.BinOp():
                yield from self._between(node.left, node.right, _BINARY.get(type(node.op)))
            case ast.BoolOp():
                word = "or" if isinstance(node.op, ast.And) else "and"
                yield from self._between(node.values[0], node.values[1], word)
            case ast.UnaryOp(op=ast.Not()):
                yield self._whole(node, f"({self._source(node.operand)})")
            case ast.If() | ast.While() | ast.IfExp():
                if not isinstance(node.test, ast.Compare | ast.UnaryOp | ast.Constant):
                    yield self._whole(node.test, f"(not ({self._source(node.test)}))")

    def _statement(self, node: ast.stmt) -> Iterator[_Found]:
        match node:
            case ast.Expr(value=ast.Call() as call) if _called_name(call) in _WORDS:
                return
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise() | ast.Delete():
                yield self._whole(node, "pass")
            case ast.Return(value=value) if value is not None and not _is_none(value):
                yield self._whole(node, "return None")
            case ast.Break():
                yield self._whole(node, "continue")
            case ast.Continue():
                yield self._whole(node, "break")

    def _constant(self, node: ast.Constant) -> Iterator[_Found]:
        match node.value:
            case bool():
                yield self._whole(node, str(not node.value))
            case int():
                yield self._whole(node, f"({self._source(node)} + 1)")
            case str() if node.value and self._source(node).startswith(("'", '"')):
                yield self._whole(node, '""')
            case bytes() if node.value:
                yield self._whole(node, 'b""')

    def _between(self, left: ast.expr, right: ast.expr, new: str | None) -> Iterator[_Found]:
        # The operator stands between the operands, maybe among parentheses and line ends.
        start, end = self._offset(left.end_lineno, left.end_col_offset), self._offset(right.lineno, right.col_offset)
        between = self._text[start:end]
        old = between.strip(" \t\n()")
        if new is not None and old and "#" not in old and "\n" not in old:
            place = start + between.index(old)
            yield place, old, new, bisect_right(self._starts, place)

    def _whole(self, node: ast.expr | ast.stmt, new: str) -> _Found:
        return self._offset(node.lineno, node.col_offset), self._source(node), new, node.lineno

    def _source(self, node: ast.expr | ast.stmt) -> str:
        start = self._offset(node.lineno, node.col_offset)
        return self._text[start : self._offset(node.end_lineno, node.end_col_offset)]

    def _offset(self, line: int | None, column: int | None) -> int:
        # ast counts bytes of UTF-8.
        assert line is not None
        assert column is not None
        text = self._lines[line - 1]
        return self._starts[line - 1] + len(text.encode()[:column].decode())


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What of a node is run and can be seen: no annotations, no words of errors, no parts of f-strings."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.arguments):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Call) and _called_name(node) in _WORDS:
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "pattern", "args") and not isinstance(node, ast.Call):
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield each


def _called_name(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
